# Where routing could differ from one server unnoticed: keys by functions,
# snapshots that a move outdates, row locks, missing and changed keys, and what
# a session over a bad link does with time limits and cancels.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $c = FragAffinity->new(nodes => 2, proxy => 1);
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
	INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 4)});

# Keys of the fragment with this offset (nodes in turn: 0 and 2 on n1, 1 and 3 on n2).
sub keys_of
{
	my ($offset) = @_;
	return split /\n/, $c->sql(1, "SELECT k FROM generate_series(1, 100) k
		WHERE fragaffinity.bucket_of('t', k) = $offset ORDER BY k");
}
my ($near, $near2) = keys_of(0);
my ($far, $far2) = keys_of(1);
my ($far_other) = keys_of(3);

sub misplaced
{
	my $wrong = '';
	for my $i (1, 2)
	{
		my $rows = $c->sql($i, q{SELECT string_agg(format('SELECT %L, count(*) FROM %s WHERE fragaffinity.bucket_of(''t'', k) <> %s',
				f.leaf::regclass, f.leaf::regclass, substring(f.bucket::text, '\d+$')), ' UNION ALL ')
			FROM fragaffinity.fragments f WHERE f.owner = 'n} . $i . q{' AND f.table_name = 't'::regclass});
		$wrong .= $c->sql($i, "SELECT * FROM ($rows) x (leaf, n) WHERE n > 0");
	}
	return $wrong;
}

# A function that is not what it says: never a row in a leaf that is not its own.
$c->sql(1, q{
	CREATE SEQUENCE turn;
	CREATE FUNCTION liar() RETURNS int LANGUAGE sql STABLE AS $$ SELECT 1000 + nextval('turn')::int % 8 $$;
	CREATE FUNCTION worse(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN liar() + $1; END $$});
for my $insert ('VALUES (liar(), $$x$$)', 'VALUES (worse(100), $$x$$)', 'VALUES (worse(200), $$x$$) ON CONFLICT (k) DO NOTHING')
{
	$c->node(1)->psql('postgres', join(';', ("INSERT INTO t $insert") x 12), on_error_stop => 0);
	$c->node(1)->psql('postgres', "PREPARE p AS INSERT INTO t $insert;" . 'EXECUTE p;' x 12, on_error_stop => 0);
}
is(misplaced(), '', 'a function that lies about itself misplaces no row');
cmp_ok($c->sql(1, 'SELECT count(*) FROM t WHERE k >= 1000'), '>', 0, 'and some are inserted');
$c->sql(1, 'DELETE FROM t WHERE k >= 1000; DROP FUNCTION worse; DROP FUNCTION liar; DROP SEQUENCE turn');

# Neither a function that is not volatile nor a read-only transaction locks rows.
$c->sql(1, q{
	CREATE FUNCTION locks_sql(int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT v FROM t WHERE k = $1 FOR UPDATE $$;
	CREATE FUNCTION locks_pl(i int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT w.v FROM (SELECT v FROM t WHERE k = i FOR UPDATE) w); END $$;
	CREATE FUNCTION locks_cursor(i int) RETURNS text LANGUAGE plpgsql STABLE AS
		$$ DECLARE r text; c CURSOR FOR SELECT v FROM t WHERE k = i FOR UPDATE; BEGIN OPEN c; FETCH c INTO r; RETURN r; END $$});
for my $mode ('auto', 'force_generic_plan')
{
	for my $key ($near, $far)
	{
		my $refused = qr/SELECT FOR UPDATE is not allowed in a non-volatile function/;
		my @refused = map { ($c->node(1)->psql('postgres', "SET plan_cache_mode = $mode; SELECT $_($key)"))[2] } qw(locks_sql locks_pl locks_cursor);
		like($_, $refused, "a row that is locked by a function that is stable: $mode, $key") for @refused;
		like(($c->node(1)->psql('postgres', "BEGIN READ ONLY; SET plan_cache_mode = $mode; PREPARE s AS SELECT v FROM t WHERE k = \$1 FOR UPDATE; EXECUTE s($key)"))[2],
			qr/cannot execute SELECT FOR UPDATE in a read-only transaction/, "or by a transaction that is read only: $mode, $key");
	}
}
$c->sql(1, 'ALTER FUNCTION locks_sql VOLATILE; ALTER FUNCTION locks_pl VOLATILE; ALTER FUNCTION locks_cursor VOLATILE');
is($c->sql(1, "SELECT locks_sql($_), locks_pl($_), locks_cursor($_)"), "v$_|v$_|v$_", "by a volatile one: $_") for $near, $far;
$c->sql(1, 'DROP FUNCTION locks_sql; DROP FUNCTION locks_pl; DROP FUNCTION locks_cursor');

# A function that is parallel safe reads what its transaction has written, wherever that
# is, and all of it in REPEATABLE READ.
$c->sql(1, q{
	CREATE TABLE one AS SELECT 1 AS i;
	CREATE FUNCTION reads(i int) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN RETURN (SELECT v FROM t WHERE k = i); END $$});
my $parallel = $c->sql(1, q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') ORDER BY 1 LIMIT 1});
my $reads = "SELECT reads(i * $far), reads(i * $near) FROM one";
$parallel = "SET $parallel = on; SET plan_cache_mode = force_generic_plan; PREPARE p AS $reads";
like($c->sql(1, "$parallel; EXPLAIN ANALYZE $reads"), qr/Workers Launched: 1/, 'in a parallel worker');
is($c->sql(1, "$parallel; BEGIN; UPDATE t SET v = 'own' WHERE k IN ($near, $far); $reads; EXECUTE p; ROLLBACK; EXECUTE p"),
	"own|own\nown|own\nv$far|v$near", 'a parallel safe function reads what its transaction wrote');
my $reader = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$reader->query_safe("$parallel; BEGIN ISOLATION LEVEL REPEATABLE READ");
is($reader->query_safe('EXECUTE p'), "v$far|v$near", 'it reads in REPEATABLE READ');
$c->sql(1, "UPDATE t SET v = 'other' WHERE k = $far");
is($reader->query_safe('EXECUTE p'), "v$far|v$near", 'and again');
$reader->query_safe('COMMIT');
is($reader->query_safe('EXECUTE p'), "other|v$near", 'and what is new after it');
$reader->quit;
$c->sql(1, "UPDATE t SET v = 'v' || k WHERE k = $far; DROP FUNCTION reads; DROP TABLE one");

# A move between the evaluation of a key and the statement's snapshot.
$c->sql(1, qq{CREATE TABLE choice (k int); INSERT INTO choice VALUES ($near);
	CREATE FUNCTION chosen() RETURNS int LANGUAGE plpgsql STABLE AS \$\$ DECLARE r int;
	BEGIN SELECT k INTO r FROM choice; PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); RETURN r; END \$\$});
for my $case (
	[ 'SELECT v FROM t WHERE k = chosen()', "v$near2" ],
	[ 'SELECT v FROM t WHERE k = chosen()', "v$far" ],
	[ "UPDATE t SET n = 77 WHERE k = chosen() RETURNING v", "v$far2" ])
{
	my ($sql, $expected) = @$case;
	my ($becomes) = $expected =~ /(\d+)/;
	my $holder = $c->node(1)->background_psql('postgres');
	my $client = $c->node(1)->background_psql('postgres');
	$c->sql(1, "UPDATE choice SET k = $near");
	$holder->query_safe('SELECT pg_advisory_lock(7)');
	$client->{stdin} .= "$sql;\n\\echo done\n";
	$client->{run}->pump_nb;
	ok($c->poll(1, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", '1'), 'key is evaluated');
	$c->sql(1, "UPDATE choice SET k = $becomes");
	my $f = $c->fragment('t', 0);
	$c->move($f, $c->owner($f) eq 'n1' ? 'n2' : 'n1');
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	$client->{run}->pump until $client->{stdout} =~ /done/;
	like($client->{stdout}, qr/^$expected$/m, "$sql: rows of the snapshot's key");
	$client->quit;
	$holder->quit;
}
is(misplaced(), '', 'no row is misplaced');
my $moved = $c->fragment('t', 0);
$c->move($moved, 'n1') if $c->owner($moved) ne 'n1';
$c->sql(1, 'DROP FUNCTION chosen; DROP TABLE choice; UPDATE t SET n = 0');

# FOR UPDATE in a subquery locks what it locks on one server: the rows shown.
$c->sql(1, 'CREATE TABLE p (k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0); INSERT INTO p SELECT * FROM t');
for my $table (qw(p t))
{
	for my $k ($near, $far)
	{
		for my $sql ("SELECT k FROM (SELECT * FROM $table FOR UPDATE) s WHERE k = $k",
			"WITH s AS MATERIALIZED (SELECT * FROM $table WHERE k IN ($k, $near2) FOR UPDATE) SELECT k FROM s WHERE k = $k")
		{
			my $locker = $c->node(1)->background_psql('postgres');
			is($locker->query_safe("BEGIN; $sql"), $k, "$sql");
			my $others = $sql =~ /^WITH/ ? '55P03' : '';
			is(($c->fails(2, "SELECT FROM $table WHERE k = $k FOR UPDATE NOWAIT"))[0], '55P03', 'locks its row') if $table eq 't';
			is(($c->fails(1, "SELECT FROM $table WHERE k = $near2 FOR UPDATE NOWAIT"))[0], $others, 'others as on one server');
			is(($c->fails(1, "SELECT FROM $table WHERE k = $far_other FOR UPDATE NOWAIT"))[0], '', 'and not all');
			$locker->query_safe('ROLLBACK');
			$locker->quit;
		}
	}
}
$c->sql(1, 'DROP TABLE p');

# Keys that are missing, and keys that change.
sub refused
{
	my ($sql, $state, $message, $name) = @_;
	my ($code, $text) = $c->fails(1, $sql);
	is($code, $state, $name // $sql);
	like($text, $message, 'and says why');
	return;
}
my $null = qr/null value in column "k" of relation "t/;
refused($_, '23502', $null) for 'INSERT INTO t VALUES (NULL)', "INSERT INTO t VALUES ($near + 1000), (NULL)",
  'INSERT INTO t SELECT NULL', 'INSERT INTO t SELECT NULL FROM t', "UPDATE t SET k = NULL WHERE k = $near";
my $merge = qr/cannot execute MERGE on rows of several fragments of "t".*HINT:  Add a condition/s;
my $by_merge = qr/cannot change the key of a row of "t" by MERGE.*HINT:  Use UPDATE/s;
my $by_upsert = qr/cannot change the key of a row of "t" by ON CONFLICT DO UPDATE.*HINT:  Use UPDATE/s;
refused("MERGE INTO t USING (VALUES ($far, $near)) s (k, x) ON t.k = s.k WHEN MATCHED THEN UPDATE SET k = s.x", '0A000', $by_merge);
is($c->sql(1, "BEGIN; MERGE INTO t USING (VALUES ($near, $far_other + 1000)) s (k, x) ON t.k = s.k AND t.k = $near WHEN MATCHED THEN UPDATE SET n = 1, k = s.x;
	SELECT v FROM t WHERE k = $far_other + 1000; ROLLBACK"), "v$near", 'a row of this node goes elsewhere by MERGE, too');
refused("BEGIN; MERGE INTO t USING (SELECT 1) s ON t.k = $far WHEN MATCHED THEN UPDATE SET k = $near", '0A000', $by_merge);
for my $at ($near, $far)
{
	for my $set ($near, $far, 'excluded.k + 1', 't.k + 0', 'NULL', '(SELECT 1)')
	{
		refused("INSERT INTO t VALUES ($at) ON CONFLICT (k) DO UPDATE SET n = 1, k = $set", '0A000', $by_upsert);
		refused("PREPARE u AS INSERT INTO t VALUES (\$1) ON CONFLICT (k) DO UPDATE SET (k, n) = ROW ($set, 1); EXECUTE u ($at)", '0A000', $by_upsert);
	}
	refused("INSERT INTO t VALUES ($at), ($near2), ($far2) ON CONFLICT (k) DO UPDATE SET k = -excluded.k", '0A000', $by_upsert);
	is($c->sql(1, "BEGIN; INSERT INTO t VALUES ($at) ON CONFLICT (k) DO UPDATE SET k = t.k, n = 5 RETURNING k, n; ROLLBACK"), "$at|5", 'as it is is no change');
}
refused("MERGE INTO t USING t s ON t.k = s.k WHEN MATCHED AND t.tableoid > 0 THEN DELETE", '0A000', $merge);
refused("INSERT INTO t VALUES ($far) ON CONFLICT (k) DO NOTHING RETURNING tableoid", '42P10', qr/HINT:  What is computed from its rows/);
refused("INSERT INTO t SELECT k FROM t ON CONFLICT (k) DO UPDATE SET n = t.tableoid::int", '42P10', qr/HINT:  Rows of several fragments of "t" can be upserted/);
refused("INSERT INTO t VALUES ($far)", '23505', qr/TABLE NAME:  t_b1_h\nCONSTRAINT NAME:  t_b1_h_pkey/);
is($c->sql(1, 'SELECT count(*), sum(k), sum(n) FROM t'), '100|5050|0', 'nothing of it has happened');
my ($same) = grep { !$c->sql(1, "SELECT count(*) FROM t WHERE k = $_") }
  split /\n/, $c->sql(1, "SELECT k FROM generate_series(101, 200) k WHERE fragaffinity.bucket_of('t', k) = 1");
like($c->sql(1, "EXPLAIN (COSTS OFF) UPDATE t SET k = $same WHERE k = $far"), qr/routed whole/, 'within a fragment it is routed');
is($c->sql(1, "BEGIN; UPDATE t SET k = $same, n = 3 WHERE k = $far RETURNING k, v; SELECT n FROM t WHERE k = $same;
	PREPARE u AS UPDATE t SET k = \$1 WHERE k = \$2 RETURNING k, v; EXECUTE u ($far, $same); ROLLBACK"),
	"$same|v$far\n3\n$far|v$far", 'and done');
is($c->sql(1, "BEGIN; UPDATE t SET k = $far_other + 1000 WHERE k = $near RETURNING v; SELECT v FROM t WHERE k = $far_other + 1000; ROLLBACK"),
	"v$near\nv$near", 'a row of a heap moves as PostgreSQL does it');

# lock_timeout holds at the owner: alone, and in a block.
my $holder = $c->node(2)->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM t WHERE k IN ($far, $far_other) FOR UPDATE");
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->set_query_timer_restart();
sub waits
{
	my ($sql, $error, $name) = @_;
	$client->{stderr} = '';
	$client->query($sql);
	like($client->{stderr}, $error, $name);
	return;
}
$client->query("SELECT n FROM t WHERE k = $far2");
my $timeout = qr/canceling statement due to lock timeout/;
$client->query("SET lock_timeout = '300ms'");
waits("UPDATE t SET n = 1 WHERE k = $far", $timeout, "lock_timeout, round $_") for 1 .. 3;
is($client->query("SELECT n FROM t WHERE k = $far2"), '0', 'the session goes on');
waits("BEGIN; SAVEPOINT s; UPDATE t SET n = 1 WHERE k = $far", $timeout, 'in a block');
waits("ROLLBACK TO s; UPDATE t SET n = 1 WHERE v = 'v$far'", $timeout, 'again, after its savepoint, by a plan of PostgreSQL\'s');
$client->query('ROLLBACK');
waits("SET lock_timeout = 0; SET statement_timeout = '1s'; UPDATE t SET n = 1 WHERE k = $far",
	qr/canceling statement due to statement timeout/, 'and none when it is taken back');
$client->query('RESET statement_timeout');
$holder->query_safe('ROLLBACK');
is($client->query("UPDATE t SET n = 1 WHERE k = $far RETURNING n"), '1', 'without other locks it is done');

# The planner knows how far a peer is.
$c->link(0, 'delay', 20);
ok($c->poll(1, q{SELECT bool_or(o.option_value::float > 1500) FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
	WHERE s.srvname = 'fragaffinity_2' AND o.option_name = 'fdw_startup_cost'}), 'a scan costs what its round trips take');
$c->link(0, 'delay', 0);
# And how fast rows come, which a server measures when it has started.
sub row_cost
{
	my ($condition) = @_;
	return $c->poll(1, "SELECT bool_or(o.option_value::float $condition) FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
		WHERE s.srvname = 'fragaffinity_2' AND o.option_name = 'fdw_tuple_cost'");
}
ok(row_cost('< 2'), 'a row over a fast link costs little');
$client->quit;
$c->link(0, 'rate', 500);
$c->node(1)->restart;
ok(row_cost('> 10'), 'over a slow one, what it takes');
$c->link(0, 'rate', 0);
$client = $c->node(1)->background_psql('postgres', on_error_stop => 0);

# A cancel over a link that is stalled ends in bounded time.
$c->link(2, 'stall');
my $start = time();
waits("SET statement_timeout = '300ms'; SELECT n FROM t WHERE k = $far2", qr/canceling statement due to statement timeout/,
	'a read over a stalled link is cancelled');
cmp_ok(time() - $start, '<', 20, 'in bounded time');
$c->link(2, 'heal');
$client->query('RESET statement_timeout');
is($client->query("SELECT n FROM t WHERE k = $far2"), '0', 'and the client goes on when it is healed');

# Rows come one by one, also when they are prepared in the same round trip.
$c->sql(1, "CREATE TABLE big (k int, id int, v text, PRIMARY KEY (k, id)); ALTER TABLE big ALTER v SET STORAGE PLAIN;
	SELECT fragaffinity.distribute_table('big', 'k', fragments => 1, placement => 'n2')");
$c->sql(2, "INSERT INTO big SELECT 1, i, repeat('x', 4000) FROM generate_series(1, 15000) i");
my $pid = $client->query('SELECT pg_backend_pid()');
sub peak { return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die }
my $before = peak();
$client->query("\\o /dev/null\nSELECT v FROM big WHERE k = 1") for 1 .. 3;
cmp_ok(peak() - $before, '<', 30_000, '60 MB of rows need no 30 MB of memory, ' . (peak() - $before) . ' kB');
$client->quit;
$holder->quit;
done_testing();
