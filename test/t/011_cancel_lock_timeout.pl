# cancel_move at the moment at which the mover's lock_timeout passes: the server
# takes both for the latter, and the move ends nevertheless.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $wait_ms = 900;

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, i FROM generate_series(1, 10) i;
	SELECT fragaffinity.configure('cutover_lock_timeout', '${wait_ms}ms');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n2')");
my $f = $c->fragment('t');
my $writer = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$writer->query_safe("BEGIN; INSERT INTO t VALUES (11, 11)");
my $move = $c->sql(2, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");

# Stopped while it waits for the lock, until the time for that is over.
my $waiting = "FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'fragaffinity mover' AND NOT l.granted";
my $mover;
for (1 .. 100)
{
	ok($c->poll(1, "SELECT count(*) $waiting", '1'), 'the mover waits for a lock');
	$mover = $c->sql(1, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'fragaffinity mover'");
	kill 'STOP', $mover;
	last if $c->sql(1, "SELECT count(*) $waiting") eq '1';
	kill 'CONT', $mover;
}
ok($c->poll(1, "SELECT min(l.waitstart) < clock_timestamp() - interval '" . 2 * $wait_ms . " ms'
	$waiting", 't'), 'for longer than it may');
$c->sql(1, "SELECT fragaffinity.cancel_move($move)");
kill 'CONT', $mover;
ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'cancelled'), 'it is cancelled');
is($c->owner($f, $_), 'n2', "node $_ knows that the fragment stayed") for 1, 2;
$writer->query_safe('COMMIT');
$writer->quit;
$c->move($f, 'n1');
is($c->sql(1, 'SELECT count(*) FROM t'), '11', 'every row is there');

# What a heap is waited for is taken off the wait for its bucket.
$c->sql(1, "SELECT fragaffinity.configure('cutover_lock_timeout', '50ms')");
my $bucket = $c->sql(1, "SELECT bucket FROM fragaffinity.fragments WHERE fragment = $f");
$writer = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$writer->query_safe('BEGIN; INSERT INTO t VALUES (12, 12)');
my $waiter = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$waiter->query_safe("BEGIN; SET LOCAL lock_timeout = '60s'");
$waiter->query_until(qr//, "SELECT fragaffinity.heap_wait('$bucket'::regclass, false);\n");
ok($c->poll(1, q{SELECT max(waitstart) < clock_timestamp() - interval '200 ms'
	FROM pg_locks WHERE NOT granted}, 't'), 'the heap is waited for');
$writer->query_safe('COMMIT');
my $left = $waiter->query_safe("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'");
cmp_ok($1, '<=', 59800, 'the time is taken off') if ok($left =~ /(\d+)\s*$/, 'what is left');
cmp_ok($1, '>', 0, 'but there is some');
$waiter->query_safe('COMMIT');
$_->quit for $writer, $waiter;
$c->check_consistent('at the end');
done_testing();
