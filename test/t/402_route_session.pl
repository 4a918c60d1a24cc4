# Routed statements as a client meets them: rights, what belongs to a
# transaction and what does not, cancels, lost connections, EXPLAIN.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, 'CREATE ROLE app LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE columns LOGIN; GRANT app TO columns') for 1, 2;
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
	INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) i;
	GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app;
	GRANT SELECT (k, n), UPDATE (n) ON t TO columns;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2)});
my ($far) = split /\n/, $c->sql(1, q{SELECT k FROM t WHERE fragaffinity.bucket_of('t', k) =
	(SELECT substring(bucket::text, '\d+$')::int FROM fragaffinity.fragments WHERE owner = 'n2' AND table_name = 't'::regclass)
	ORDER BY k});
my ($near) = split /\n/, $c->sql(1, q{SELECT k FROM t WHERE fragaffinity.bucket_of('t', k) =
	(SELECT substring(bucket::text, '\d+$')::int FROM fragaffinity.fragments WHERE owner = 'n1' AND table_name = 't'::regclass)
	ORDER BY k});
my $upsert = "INSERT INTO t (k, v) VALUES ($far, 'up') ON CONFLICT (k) DO UPDATE SET v = excluded.v, n = t.n + 1";

# EXPLAIN
like($c->sql(1, "EXPLAIN (COSTS OFF) SELECT * FROM t WHERE k = $far"),
	qr/Custom Scan \(Fragment\)\n\s*Fragment: t \d+ on n2, version 1; routed whole/, 'EXPLAIN says where to');
like($c->sql(1, "EXPLAIN (VERBOSE, COSTS OFF) $upsert"), qr/Remote SQL:\s+INSERT INTO public\.t_b\d/, 'and VERBOSE with what');
like($c->sql(1, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM t WHERE k = $far"),
	qr/actual rows=1(?:\.00)? .*Connection: transaction's/s, 'ANALYZE runs it');
like($c->sql(1, "EXPLAIN (COSTS OFF) SELECT * FROM t WHERE k = $near"), qr/Scan.* on t_b\d_h t\n/, 'a local one is on the leaf');
like($c->sql(1, "EXPLAIN (FORMAT JSON) SELECT * FROM t WHERE k = $far"), qr/"Fragment": "t \d+ on n2/, 'in JSON, too');
is(($c->fails(1, "SET fragaffinity.routing = off; $upsert"))[0], '42P10', 'without routing PostgreSQL refuses');
my $within = "WITH w AS (INSERT INTO t VALUES ($far, 'x') ON CONFLICT (k) DO NOTHING RETURNING k) SELECT count(*) FROM w";
is($c->sql(1, $within), '0', 'an upsert in WITH, of a remote row');
is($c->sql(2, $within), '0', 'of a local one');

# Rights: those of the table, at both ends.
sub as
{
	my ($role, $i, $sql) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=sqlstate', '-c', $sql, $c->conninfo($i, $role) ],
		'>', \$out, '2>', \$err);
	chomp $out;
	return $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : $out;
}
for my $i (1, 2)
{
	for my $k ($near, $far)
	{
		is(as('nobody', $i, "SELECT v FROM t WHERE k = $k"), '42501', "no right to read, node $i, key $k");
		is(as('nobody', $i, "DELETE FROM t WHERE k = $k"), '42501', 'nor to delete');
		is(as('app', $i, "SELECT v FROM t WHERE k = $k"), "v$k", 'a right to read');
		is(as('app', $i, "INSERT INTO t VALUES ($k, 'x') ON CONFLICT (k) DO UPDATE SET n = t.n RETURNING k"), $k, 'and to write');
		is(as('app', $i, "TRUNCATE t"), '42501', 'but no other');
	}
}
$c->sql($_, 'REVOKE app FROM columns') for 1, 2;
is(as('columns', 1, "SELECT n FROM t WHERE k = $far"), '0', 'rights on columns');
is(as('columns', 1, "SELECT v FROM t WHERE k = $far"), '42501', 'and none on others');
is(as('columns', 1, "UPDATE t SET n = 0 WHERE k = $far RETURNING n"), '0', 'to write one');
is(as('columns', 1, "UPDATE t SET v = 'no' WHERE k = $far"), '42501', 'and not another');
# Defaults of columns that one may not write are no less those of the table.
$c->sql(1, "CREATE TABLE kinds (k int PRIMARY KEY, v text, a numeric(6,2) NOT NULL DEFAULT 1, b bigint DEFAULT 7, c varchar(9) DEFAULT upper('x'));
	SELECT fragaffinity.distribute_table('kinds', 'k', fragments => 2);
	GRANT SELECT, INSERT (k, v), UPDATE (v) ON kinds TO columns");
for my $i (1, 2)
{
	my $k = 100 * $i;
	my $both = sub { join ', ', map { "($_, 'v')" } @_ };
	is(as('columns', $i, "INSERT INTO kinds (k, v) VALUES " . $both->($_) . ' RETURNING a, b, c'), '1.00|7|X', "node $i: a row with defaults") for $k .. $k + 5;
	is(as('columns', $i, 'INSERT INTO kinds (k, v) VALUES ' . $both->($k + 10 .. $k + 15) . ' RETURNING a, b, c'), join("\n", ('1.00|7|X') x 6), 'rows of both nodes');
	is(as('columns', $i, "BEGIN; INSERT INTO kinds (k, v) VALUES " . $both->($k + 20 .. $k + 25) . ' RETURNING a, b, c; COMMIT'), join("\n", ('1.00|7|X') x 6), 'in a block');
	is(as('columns', $i, 'INSERT INTO kinds (k, v) VALUES ' . $both->($_) . ' ON CONFLICT (k) DO UPDATE SET v = excluded.v RETURNING a, v'), '1.00|v', 'an upsert') for $k + 5 .. $k + 10;
	is(as('columns', $i, 'INSERT INTO kinds (k, b) VALUES ' . "($_, 8)"), '42501', 'no right on another column') for $k + 30 .. $k + 35;
}
$c->sql(1, "CREATE FUNCTION peek(int) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public AS 'SELECT v FROM t WHERE k = \$1';
	CREATE VIEW w WITH (security_barrier) AS SELECT * FROM t WHERE n >= 0; GRANT SELECT ON w TO nobody");
is(as('nobody', 1, "SELECT peek($far)"), "v$far", 'a security definer function reads as its owner');
is(as('nobody', 1, "SELECT v FROM w WHERE k = $far"), "v$far", 'and so does a view');
is(as('nobody', 1, "SELECT v FROM t WHERE k = $far"), '42501', 'but its caller cannot');
$c->sql(1, 'DROP FUNCTION peek; DROP VIEW w');

# What a pin must not be taken from.
is($c->sql(1, "DELETE FROM ONLY t WHERE k IN ($near) RETURNING k"), '', 'ONLY a partitioned table has no rows');
$c->sql(1, "CREATE TABLE plain (a int PRIMARY KEY, x int); INSERT INTO plain VALUES (1, $near)");
is($c->sql(1, "UPDATE plain SET x = $far WHERE x = $near RETURNING (SELECT t.k FROM t WHERE t.k = plain.x)"),
	$far, 'RETURNING sees what was written');
is($c->sql(1, "INSERT INTO plain VALUES (1, $near) ON CONFLICT (a) DO UPDATE SET a = (SELECT t.k FROM t WHERE t.k = plain.x) RETURNING a"),
	$far, 'ON CONFLICT sees the row in conflict');
$c->sql(1, q{DROP TABLE plain; CREATE TABLE words (k text PRIMARY KEY); INSERT INTO words SELECT chr(96 + i) FROM generate_series(1, 26) i;
	SELECT fragaffinity.distribute_table('words', 'k', fragments => 2);
	CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)});
is($c->sql(1, join ';', map { "SELECT k FROM words WHERE k = '" . uc($_) . "' COLLATE loose" } 'a' .. 'f'),
	join("\n", 'a' .. 'f'), 'equal under a collation that is not the partitions\'');

# A transaction's work stays in it.
sub n { return $c->sql(2, "SELECT n FROM t WHERE k = $far"); }
$c->sql(1, "UPDATE t SET n = 0");
as('postgres', 1, "UPDATE t SET n = 1 WHERE k = $far; SELECT 1 / 0");
is(n(), '0', 'several statements in one message are one transaction');
$c->sql(1, "BEGIN; UPDATE t SET n = 1 WHERE k = $far; ROLLBACK");
is(n(), '0', 'a block that is rolled back');
$c->sql(1, "DO \$\$ BEGIN UPDATE t SET n = n + 1 WHERE k = $far; BEGIN UPDATE t SET n = n + 10 WHERE k = $far;
	RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END \$\$");
is(n(), '1', 'a subtransaction that fails');
is($c->sql(1, "BEGIN; UPDATE t SET n = 5 WHERE k = $far; SAVEPOINT s; $upsert; ROLLBACK TO s;
	SELECT n FROM t WHERE k = $far; COMMIT"), '5', 'sees what it wrote, up to the savepoint');
$c->sql(1, "CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql AS \$\$ BEGIN
	UPDATE t SET n = 7 WHERE k = \$1; RETURN 1 / (\$1 - \$1); END \$\$");
is(($c->fails(1, "SELECT f($far)"))[0], '22012', 'a function fails');
is(n(), '5', 'and with it what it wrote');
$c->sql(1, 'DROP FUNCTION f');

my $script = "$PostgreSQL::Test::Utils::tmp_check/pipeline.sql";
append_to_file($script, "\\startpipeline\nUPDATE t SET n = 9 WHERE k = $far;\nSELECT 1 / 0;\n\\endpipeline\n");
IPC::Run::run([ 'pgbench', '-n', '-M', 'extended', '-t', 1, '-f', $script, '-h', '127.0.0.1', '-p', $c->node(1)->port,
	'-U', 'postgres', 'postgres' ], '>', \my $o, '2>', \my $e);
like($e, qr/division by zero/, 'a pipeline whose second statement fails');
is(n(), '5', 'has not done the first');

# Cursors over many rows, and what comes in between.
is($c->sql(1, "BEGIN; DECLARE c CURSOR FOR SELECT v FROM t WHERE k = $far; FETCH 1 FROM c;
	UPDATE t SET n = 6 WHERE k = $far; FETCH 1 FROM c; CLOSE c; SELECT n FROM t WHERE k = $far; COMMIT"),
	"v$far\n6", 'a cursor and an update beside it');

# Cancels reach the owner, and the session can be used afterwards.
my $holder = $c->node(2)->background_psql('postgres', on_error_stop => 1);
$holder->query_safe("BEGIN; SELECT FROM t WHERE k = $far FOR UPDATE");
is(($c->fails(1, "SET statement_timeout = '200ms'; UPDATE t SET n = 8 WHERE k = $far"))[0], '57014', 'statement_timeout');
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
my $pid = $client->query('SELECT pg_backend_pid()');
$client->query("SELECT n FROM t WHERE k = $far");
$client->{stdin} .= "UPDATE t SET n = 8 WHERE k = $far;\n\\echo done\n";
$client->{run}->pump_nb;
ok($c->poll(2, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE public.t%'", '1'),
	'an update waits at the owner');
$c->sql(1, "SELECT pg_cancel_backend($pid)");
ok($c->poll(2, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE public.t%'", '0'),
	'until it is cancelled here');
$client->{run}->pump until $client->{stdout} =~ /done/;
like($client->{stderr}, qr/canceling statement due to user request/, 'with the message of a cancel');
$client->{stderr} = $client->{stdout} = '';
$holder->query_safe('ROLLBACK');
is($client->query("SELECT n FROM t WHERE k = $far"), '6', 'and the client goes on');

# What was prepared there does not outlive the types of its columns.
$client->query("SELECT n FROM t WHERE k = $far") for 1 .. 3;
$c->sql(1, 'ALTER TABLE t ALTER n TYPE bigint');
is($client->query("SELECT n FROM t WHERE k = $far"), '6', 'a column has another type');
$c->sql(1, 'ALTER TABLE t ALTER n TYPE int');
is($client->query("SELECT n FROM t WHERE k = $far"), '6', 'and its old one again');

# A statement that also writes here is not alone.
my $commits = 'SELECT commits FROM fragaffinity.transaction_stats';
my $before = $c->sql(1, $commits);
$c->sql(1, "UPDATE t SET v = 'large ' || lo_from_bytea(0, 'x')::text WHERE k = $far");
is($c->sql(1, $commits), $before + 1, 'a large object made by a routed statement is committed with it');

# The owner restarts: the next statement connects anew.
$holder->quit;
$c->restart(2);
is($client->query("SELECT n FROM t WHERE k = $far"), '6', 'after a restart of the owner');
is($client->query("UPDATE t SET n = 10 WHERE k = $far RETURNING n"), '10', 'writes, too');
$c->stop(2);
$client->{stderr} = '';
$client->query("SELECT n FROM t WHERE k = $far");
like($client->{stderr}, qr/could not connect|connection to node/, 'while it is down, a clear error');
$c->node(2)->start;
ok($c->poll(1, "SELECT n FROM t WHERE k = $far", '10'), 'and back');
$client->quit;
done_testing();
