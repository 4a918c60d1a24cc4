# Shared memory is given back: slots of fragments that are gone, and what a server
# keeps for databases that are dropped.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => 'fragaffinity.max_fragments = 64');

sub distribute
{
	my ($table, $n) = @_;
	$c->sql(1, "SELECT fragaffinity.distribute_table('$table', 'id', fragments => $n)");
	return;
}

sub undistribute { $c->sql(1, "SELECT fragaffinity.undistribute_table('$_[0]')"); return; }

# Accesses of a node's clients to all fragments of a table: least, most, sum.
sub calls
{
	my ($i, $table) = @_;
	$c->sql($i, 'SELECT fragaffinity.flush_stats()');
	return $c->sql($i, "SELECT min(coalesce(s.calls, 0)), max(coalesce(s.calls, 0)), sum(coalesce(s.calls, 0))
		FROM fragaffinity.fragments f LEFT JOIN fragaffinity.access_stats s
		ON s.fragment = f.fragment AND s.node = 'n$i' WHERE f.table_name = '$table'::regclass");
}

# Reads all fragments until the accesses to each of them are counted.
sub counted
{
	my ($i, $table, $what) = @_;
	my $least = 0;
	for (1 .. 600)
	{
		$c->sql($i, "SELECT count(*) FROM $table");
		($least) = split /\|/, calls($i, $table);
		last if $least > 0;
	}
	ok($least > 0, $what);
	return;
}

sub worker_of
{
	return "SELECT count(*) FROM pg_stat_activity
		WHERE datname = '$_[0]' AND backend_type = 'fragaffinity worker'";
}

$c->sql(1, 'CREATE TABLE stay (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)');
distribute('stay', 4);
$c->sql(1, 'INSERT INTO stay SELECT generate_series(1, 100); INSERT INTO t SELECT generate_series(1, 200)');
my $long = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$long->query_safe('SELECT count(*) FROM stay');
$c->sql(1, 'SELECT fragaffinity.flush_stats()');
my ($stay) = (split /\|/, calls(1, 'stay'))[2];
my $total = $c->sql(1, 'SELECT calls + remote_calls FROM fragaffinity.statement_times() AS s(calls, ms, remote_calls, remote_ms)');

for (1 .. 10)
{
	distribute('t', 8);
	$c->sql($_, 'SELECT count(*) FROM t') for 1, 2;
	undistribute('t');
}
distribute('t', 60);
counted($_, 't', "node $_ counts accesses to new fragments after many came and went") for 1, 2;
my $before = (split /\|/, calls(1, 't'))[2];
$c->sql(1, 'SELECT count(*) FROM t');
is((split /\|/, calls(1, 't'))[2], $before + 60, 'each once');
$long->query_safe('SELECT count(*) FROM stay');
is((split /\|/, calls(1, 'stay'))[2], $stay + 4, 'a session that was there before counts for the same fragments');
cmp_ok($c->sql(1, 'SELECT calls + remote_calls FROM fragaffinity.statement_times() AS s(calls, ms, remote_calls, remote_ms)'),
	'>', $total + 140, "the server's counts only grow");

undistribute('t');
$long->quit;

# Databases.
$c->sql(1, 'CREATE DATABASE d');
my $other = $c->node(1);
$other->safe_psql('d', "CREATE EXTENSION fragaffinity CASCADE;
	SELECT fragaffinity.add_node('a', '127.0.0.1', " . $other->port . ", 'd')");
$other->safe_psql('d', "CREATE TABLE v (id int PRIMARY KEY);
	INSERT INTO v SELECT generate_series(1, 200);
	SELECT fragaffinity.distribute_table('v', 'id', fragments => 60)");
$other->safe_psql('d', 'SELECT count(*) FROM v');
$c->sql(1, 'DROP DATABASE d');
distribute('t', 60);
counted(1, 't', "a dropped database's fragments leave room");

$c->sql(1, 'CREATE DATABASE e');
my $launcher = $c->sql(1, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'fragaffinity launcher'");
kill 'STOP', $launcher;
$c->sql(1, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
	WHERE datname = 'postgres' AND backend_type = 'fragaffinity worker'");
my $drop = IPC::Run::start([ 'psql', '-XAtq', '-c', 'DROP DATABASE e', $c->conninfo(1) ],
	'>', \my $out, '2>&1');
ok($c->poll(1, "SELECT wait_event FROM pg_stat_activity WHERE query ~ '^DROP DATABASE'", 'ProcSignalBarrier'),
	'a database is dropped while a worker is about to be started again');
kill 'CONT', $launcher;
ok($drop->finish, 'it is') or diag($out);
ok($c->poll(1, worker_of('postgres'), '1'), 'and so is the worker');

# more than workers have entries
$c->sql(1, "CREATE DATABASE e") , $c->sql(1, 'DROP DATABASE e') for 1 .. 65;
$c->sql(1, 'CREATE DATABASE e');
$other->safe_psql('e', 'CREATE EXTENSION fragaffinity CASCADE');
ok($c->poll(1, worker_of('e'), '1'), 'a new database gets a worker after many were dropped');
done_testing();
