# Servers whose defaults are not PostgreSQL's: workers and movers do not follow
# them.  And a mover that is terminated leaves no gate closed.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $write = 'SET default_transaction_read_only = off; SET search_path = public;';

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, 50) i;
	SELECT fragaffinity.configure('cutover_wait', '60s');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2, placement => 'n2');
	CREATE TABLE q (id int PRIMARY KEY, a text[]);
	SELECT fragaffinity.distribute_table('q', 'id', fragments => 1, placement => 'n2')");
my $f = $c->fragment('t');
for my $i (1, 2)
{
	$c->node($i)->append_conf('postgresql.conf', "
default_transaction_isolation = 'repeatable read'
default_transaction_read_only = on
statement_timeout = '20s'
lock_timeout = '15s'
search_path = 'nowhere'
datestyle = 'SQL, DMY'
intervalstyle = 'sql_standard'
quote_all_identifiers = on
array_nulls = off
transform_null_equals = on
standard_conforming_strings = off");
	$c->restart($i);
	is($c->sql($i, 'SHOW default_transaction_isolation'), 'repeatable read', "node $i has unusual defaults");
}
for my $to (qw(n1 n2))
{
	$c->sql(1, "$write SELECT fragaffinity.move_fragment($f, '$to')");
	is($c->owner($f, $_), $to, "moved to $to, says node $_") for 1, 2;
}

# What a client sends to a peer means there what it means here.
$c->sql(1, "$write SET array_nulls = on; INSERT INTO q VALUES (1, ARRAY[NULL, 'b'])");
is($c->sql($_, 'SET array_nulls = on; SELECT a[1] IS NULL, a[2] FROM public.q'), 't|b', "a null in an array is one on node $_") for 1, 2;

# A part that stayed prepared is committed by a resolver that sees the decision,
# however old the snapshot that its transaction began with would be.
$c->hold(1, 'cluster_before_decision');
$c->sql(1, "$write SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
ok($c->wait_held(1, 'cluster_before_decision'), 'a move is prepared');
$c->kill9(2);
$c->release(1);
ok($c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n1'), 'and decided');
$c->restart(2);
ok($c->poll(2, 'SELECT count(*) FROM pg_prepared_xacts', '0'), 'what was prepared is finished');
ok($c->poll(2, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n1'), 'as it was decided');

# Terminated inside the fence, on either side.
for my $to (2, 1)
{
	my $from = 3 - $to;

	$c->hold($to, 'move_fenced');
	my $move = $c->sql($to, "$write SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
	ok($c->wait_held($to, 'move_fenced', qr/\] LOG: /), "a move to node $to is fenced");
	is($c->sql($to, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE backend_type = 'fragaffinity mover'"), '1', 'its mover is terminated');
	# waits for cutover_wait where a gate stays closed, longer than it may
	$c->sql($_, "$write SET statement_timeout = '20s'; UPDATE public.t SET n = n + 1") for $to, $from;
	$c->release($to);
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'failed'), 'the move has failed');
	is($c->owner($f), "n$from", 'the fragment has stayed');
	$c->sql(1, "$write SELECT fragaffinity.move_fragment($f, 'n$to')");
	is($c->owner($f), "n$to", 'and moves at the next try');
}
is($c->sql(1, 'SELECT sum(n) FROM public.t'), 50 * 51 / 2 + 4 * 50, 'every update is there');
done_testing();
