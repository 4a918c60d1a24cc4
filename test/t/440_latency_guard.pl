# The latency guard: a copy slows down while statements of clients take longer
# than they did, at the source or at the destination, and recovers afterwards.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

$c->sql(1, q{
	CREATE TABLE big (id bigint PRIMARY KEY, pad text);
	ALTER TABLE big ALTER pad SET STORAGE EXTERNAL;
	INSERT INTO big SELECT i, repeat('x', 1500) FROM generate_series(1, 40000) i;
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('big', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1');
	-- so that a copy lasts, and is still of some speed
	SELECT fragaffinity.configure('move_rate_limit', '6MB')});
my $big = $c->fragment('big');

my ($code, $message) = $c->fails(1, "SELECT fragaffinity.configure('latency_guard', '-1')");
is($code, '22023', 'less than nothing is refused');

# Quick statements at both nodes, from which the guard learns what is usual.
my $load = $c->start_load(table => 't', anchors => 100, pause => 3000,
	modes => { 1 => ['reader'], 2 => ['reader'] });
for my $i (1, 2)
{
	ok($c->poll($i, "SELECT count(*) >= 5 FROM fragaffinity.metric m JOIN fragaffinity.local_node l ON l.node = m.node
		WHERE m.local_calls + m.remote_calls > 20"), "node $i has watched its clients");
}

# Slow statements of a client; they count as any.
my $slow_file = "$PostgreSQL::Test::Utils::tmp_check/slow.sql";
append_to_file($slow_file, "SELECT pg_sleep(0.3) FROM t WHERE id = 1;\n" x 2000);

sub start_slow
{
	my ($i) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-f', $slow_file, '-o', '/dev/null', $c->conninfo($i) ], '<', '/dev/null');
}

my $progress = "FROM fragaffinity.stat_progress_move WHERE phase = 'copying'";

sub copies
{
	my ($path, $slow_at, $column) = @_;
	my ($source, $to) = $c->owner($big) eq 'n1' ? (1, 2) : (2, 1);
	my $at = $slow_at eq 'source' ? $source : $to;
	my $name = "$path, slow at the $slow_at";

	$c->sql(1, "SELECT fragaffinity.configure('move_path', '$path')");
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($big, 'n$to', wait => false)");
	ok($c->poll($to, "SELECT bytes_done > 1000000 AND allowed_rate IS NULL $progress"), "$name: a copy is under way, at any rate");
	my @slow = map { start_slow($at) } 1 .. 3;
	ok($c->poll($to, "SELECT $column > 2 AND allowed_rate < 4e6 $progress"), "$name: it is slowed down while clients suffer");
	$_->kill_kill for @slow;
	ok($c->poll($to, "SELECT coalesce(max(allowed_rate), 1e12) > 4e6 FROM fragaffinity.stat_progress_move"),
		"$name: and recovers when they do not");
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), "$name: it ends")
	  or diag($c->sql($to, "SELECT state, error FROM fragaffinity.moves WHERE move = $move"));
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $big", "n$to");
	return;
}
copies('page', 'source', 'source_slower');
copies('page', 'destination', 'destination_slower');
copies('logical', 'source', 'source_slower');

# Off: nothing is measured, nothing slows it down.
{
	my ($source, $to) = $c->owner($big) eq 'n1' ? (1, 2) : (2, 1);
	$c->sql(1, "SELECT fragaffinity.configure('move_path', 'page'); SELECT fragaffinity.configure('latency_guard', '0')");
	my @slow = map { start_slow($source) } 1 .. 3;
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($big, 'n$to', wait => false)");
	ok($c->poll($to, "SELECT bytes_done > 15000000 $progress"), 'a copy without a guard');
	is($c->sql($to, "SELECT allowed_rate IS NULL AND source_slower IS NULL $progress"), 't', 'is not slowed down');
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'it ends');
	$_->kill_kill for @slow;
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $big", "n$to");
}
$c->check_load($load, 't', 'meanwhile');
$c->check_consistent('nothing is left over');

done_testing();
