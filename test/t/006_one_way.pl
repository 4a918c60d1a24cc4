# A transaction that has locked a row through the old owner keeps to that way
# when the node hears of the move: by the new one it would wait for itself.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n2')");
my $f = $c->fragment('t');

# Node 1 hears of a move within a second even while the mover is held, so its
# transaction begins before the decision, and locks the row right after it.
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 1);
my $tries = 0;
my $owner = '';
while ($owner ne 'n2' && $tries++ < 10)
{
	$c->move($f, 'n2') if $c->owner($f) ne 'n2';
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n2');
	$client->query_safe("BEGIN; SET LOCAL statement_timeout = '60s'");
	$c->hold(3, 'move_decided');
	$c->sql(3, "SELECT fragaffinity.move_fragment($f, 'n3', wait => false)");
	$c->wait_held(3, 'move_decided', qr/\] LOG: /);
	$client->query_safe('SELECT n FROM t WHERE id = 7 FOR UPDATE');
	$owner = $c->owner($f, 1);
	last if $owner eq 'n2';
	$client->query_safe('ROLLBACK');
	$c->release(3);
}
is($owner, 'n2', 'a transaction took the old way after the decision');
$c->release(3);
ok($c->poll(3, "SELECT bool_and(announced) FROM fragaffinity.move WHERE state = 'done'", 't'),
	'the mover has told all nodes');
$client->query_safe('UPDATE t SET n = n + 1 WHERE id = 7');
is($client->query_safe('SELECT n FROM t WHERE id = 7'), '1', 'it sees what it wrote');
is($c->owner($f, 1), 'n2', 'and keeps to the old way');
$client->query_safe('COMMIT');
ok($c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n3'),
	'takes the new way afterwards');
is($c->sql(1, 'SELECT n FROM t WHERE id = 7'), '1', 'by which the row is there');
$client->quit;
$c->check_consistent('nothing is left over');
done_testing();
