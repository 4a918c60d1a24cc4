# A client that has locked a table here, and goes on to change all of it, waits for no
# move that waits for him.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, 'old' FROM generate_series(1, 2000) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2, placement => 'n2');
	SELECT fragaffinity.configure('move_path', 'logical')});
my $fragment = $c->fragment('t', 0);

$c->hold(1, 'move_slot_created');
my $move = $c->sql(1, "SELECT fragaffinity.move_fragment($fragment, 'n1', wait => false)");
ok($c->wait_held(1, 'move_slot_created'), 'a move is about to copy rows');
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->query_safe("SET statement_timeout = '20s'; BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
$c->release(1, 'move_slot_created');
ok($c->poll(1, q{SELECT wait_event_type FROM pg_stat_activity WHERE backend_type = 'fragaffinity mover'}, 'Lock'), 'it waits for a client that has locked the table');
$client->query_safe("TRUNCATE t; INSERT INTO t SELECT i, 'new' FROM generate_series(1, 100) i; COMMIT");
ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'who goes on, and then the move does');
is($c->owner($fragment, $_), 'n1', "it has moved, says node $_") for 1, 2;
is($c->sql($_, 'SELECT count(*), min(v), max(v) FROM t'), '100|new|new', "with the rows of then, says node $_") for 1, 2;

# Nor one that begins: it locks the table before the bucket, as he does.
my $other = $c->fragment('t', 1);
$client->query_safe('BEGIN; LOCK TABLE ONLY t IN ACCESS EXCLUSIVE MODE');
$move = $c->sql(1, "SELECT fragaffinity.move_fragment($other, 'n1', wait => false)");
ok($c->poll(1, q{SELECT wait_event_type FROM pg_stat_activity WHERE backend_type = 'fragaffinity mover'}, 'Lock'), 'a move that begins waits for him, too');
$client->query_safe("TRUNCATE t; INSERT INTO t SELECT i, 'newer' FROM generate_series(1, 100) i; COMMIT");
ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'and then is done');
is($c->sql($_, 'SELECT count(*), min(v), max(v) FROM t'), '100|newer|newer', "with the rows of then, says node $_") for 1, 2;
$client->quit;
$c->check_consistent('and is whole');
done_testing();
