# A transaction block that changes a table's definition, and uses its rows on other nodes:
# before, after, as several roles, undone and kept.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
plan skip_all => 'postgres_fdw keeps its sessions to itself' if $c->sql(1, 'SHOW server_version_num') >= 160000;
$c->sql($_, 'CREATE ROLE a LOGIN; CREATE ROLE b LOGIN; CREATE SCHEMA f; CREATE SCHEMA o; GRANT ALL ON SCHEMA f, o TO a, b; GRANT ALL ON SCHEMA public TO a, b; GRANT b TO a') for 1 .. 3;
for my $schema ('f', 'o')
{
	$c->sql(1, "SET search_path = $schema, public; SET ROLE a; " . q{CREATE TABLE t (k int PRIMARY KEY, v int); INSERT INTO t SELECT i, nullif(i % 5, 0) FROM generate_series(1, 200) i});
	$c->sql(1, q{SELECT fragaffinity.distribute_table('f.t', 'k', 6)}) if $schema eq 'f';
	$c->sql(1, "SET search_path = $schema, public; SET ROLE a; " . q{GRANT ALL ON t TO b});
}
$c->sql($_, "SET search_path = f, public; SET ROLE a; CREATE FUNCTION f.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT sum(v) FROM t'") for 1 .. 3;
$c->sql(1, "SET search_path = o, public; SET ROLE a; CREATE FUNCTION o.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT sum(v) FROM t'");
is($c->sql(1, 'SELECT count(DISTINCT owner) FROM fragaffinity.fragments'), '3', 'on three nodes');

sub run_on
{
	my ($node, $schema, $sql) = @_;
	my ($out, $err) = ('', '');

	$node = 1 if $schema eq 'o';
	$c->node($node)->psql('postgres', "\\set VERBOSITY verbose\nSET search_path = $schema, public; SET SESSION AUTHORIZATION a; BEGIN; $sql", stdout => \$out, stderr => \$err, on_error_stop => 1);
	return $out . ($err =~ /ERROR:\s+(\w{5}):/ ? "\n$1" : '');
}

my $columns = "SELECT string_agg(attname || ' ' || attnotnull, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped";
my $rows = 'SELECT count(*), sum(v), sum(k) FROM t';
my $node = 0;
for my $block (
	'UPDATE t SET v = 0 WHERE v IS NULL; ALTER TABLE t ALTER v SET NOT NULL',
	"ALTER TABLE t ADD x int; UPDATE t SET x = k * 2; ALTER TABLE t ALTER x SET NOT NULL; SELECT sum(x) FROM t; UPDATE t SET x = x + 1 WHERE k = 7 RETURNING x; $columns",
	"ALTER TABLE t ADD x int; INSERT INTO t VALUES (300, 1, 2), (301, 1, 2), (302, 1, 2), (303, 1, 2); ALTER TABLE t ADD CHECK (x > 1); INSERT INTO t VALUES (304, 1, 1)",
	'SELECT count(*) FROM t; ALTER TABLE t ADD x int DEFAULT 3; SELECT sum(x) FROM t; ALTER TABLE t DROP x; SELECT sum(v) FROM t',
	'ALTER TABLE t ADD UNIQUE (k, v); INSERT INTO t VALUES (1, 1)', 'DELETE FROM t WHERE k > 150; CREATE INDEX ON t (v); SELECT count(*) FROM t WHERE v = 3; TRUNCATE t; SELECT count(*) FROM t',
	'UPDATE t SET v = 9 WHERE k = 1; ALTER TABLE t RENAME v TO w; SELECT sum(w) FROM t; ALTER TABLE t RENAME w TO v; UPDATE t SET v = 8 WHERE k = 1 RETURNING v',
	'UPDATE t SET v = 9 WHERE k = 1; SET LOCAL ROLE b; SELECT total(); UPDATE t SET v = 8 WHERE k = 1; SET LOCAL ROLE a; ALTER TABLE t ALTER v TYPE bigint; SELECT total(); SET LOCAL ROLE b; SELECT sum(v) FROM t; SET LOCAL ROLE a; ALTER TABLE t DROP v',
	'ALTER TABLE t ADD x int; SAVEPOINT s; UPDATE t SET x = 1; ROLLBACK TO s; RELEASE s; UPDATE t SET x = 2 WHERE k < 10; SAVEPOINT s; SELECT sum(x) FROM t; RELEASE s; ALTER TABLE t DROP x; SELECT sum(v) FROM t',
	'SAVEPOINT s; UPDATE t SET v = 1; ROLLBACK TO s; RELEASE s; ALTER TABLE t ADD x int; SELECT count(x), sum(v) FROM t', 'UPDATE t SET v = 1/0 WHERE k = 3; ALTER TABLE t ADD x int', 'ALTER TABLE t ADD x int; UPDATE t SET v = 1/(v - 3); ALTER TABLE t DROP x',
	'UPDATE t SET v = 7; GRANT SELECT ON t TO PUBLIC; COMMENT ON TABLE t IS $$x$$; REVOKE SELECT ON t FROM PUBLIC; SELECT sum(v) FROM t', 'COPY (SELECT * FROM t WHERE k < 5 ORDER BY k) TO STDOUT; ALTER TABLE t ADD x int; COPY (SELECT * FROM t WHERE k < 5 ORDER BY k) TO STDOUT',
	'DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 2 FROM c; CLOSE c; ALTER TABLE t ADD x int; UPDATE t SET x = 1; SELECT sum(x) FROM t', 'DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 1 FROM c; ALTER TABLE t ADD x int',
	'SELECT count(*) FROM t; UPDATE t SET v = 1; DROP TABLE t', 'DO $$ BEGIN UPDATE t SET v = 0 WHERE v IS NULL; ALTER TABLE t ALTER v SET NOT NULL; UPDATE t SET v = v + 1; END $$; SELECT sum(v) FROM t',
	'UPDATE t SET k = k + 1000; ALTER TABLE t ADD CHECK (k > 1000); SELECT min(k) FROM t', 'UPDATE t SET v = NULL WHERE k = 9; ALTER TABLE t ALTER v SET NOT NULL')
{
	my $through = 1 + $node++ % 3;
	my ($got, $plain) = map { run_on($through, $_, "$block; ROLLBACK") } 'f', 'o';

	$got =~ s/^DEC.*//m;
	is($got, $plain, "node $through: $block");
}
is($c->sql($_, "SELECT count(*), sum(v), sum(k) FROM f.t"), '200|400|20100', "nothing of it is left, node $_") for 1 .. 3;
for my $block ('UPDATE t SET v = 0 WHERE v IS NULL; ALTER TABLE t ALTER v SET NOT NULL; COMMIT',
	'ALTER TABLE t ADD x int; UPDATE t SET x = k * 2; ALTER TABLE t ALTER x SET NOT NULL; SET LOCAL ROLE b; UPDATE t SET x = x + 1 WHERE k = 7; COMMIT',
	'INSERT INTO t SELECT i, i, i FROM generate_series(201, 240) i; ALTER TABLE t ADD CHECK (x > 0), ADD y text DEFAULT $$y$$; UPDATE t SET y = x WHERE k < 100; COMMIT')
{
	my ($got, $plain) = map { run_on(2, $_, $block) } 'f', 'o';

	is($got, $plain, "kept: $block");
}
my $all = 'SELECT md5(string_agg(t::text, $$,$$ ORDER BY k)) FROM t';
my $plain = $c->sql(1, "SET search_path = o; $all");
for (1 .. 3)
{
	is($c->sql($_, "SET search_path = f; $all"), $plain, "node $_ has the rows");
	is($c->sql($_, "SET search_path = f; $columns"), $c->sql(1, "SET search_path = o; $columns"), 'and the columns');
	is($c->sql($_, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left');
}
$c->sql(3, q{SET SESSION AUTHORIZATION a; SET search_path = f; DO $$ BEGIN ALTER TABLE t ADD d int; UPDATE t SET d = k; ALTER TABLE t ALTER d SET NOT NULL; END $$});
is($c->sql(1, 'SELECT count(*) FROM f.t WHERE d = k'), '240', 'in one statement of a procedural language');
like(($c->fails(1, "SET SESSION AUTHORIZATION b; BEGIN; UPDATE f.t SET v = 1 WHERE k = 1; ALTER TABLE f.t ADD z int"))[0], qr/^42501$/, 'who does not own it');

# The sessions are the client's again, and nobody's else.
is($c->sql(1, 'SET search_path = f; SET SESSION AUTHORIZATION a; BEGIN; ALTER TABLE t ADD z int; COMMIT; BEGIN; SELECT count(*) FROM t; UPDATE t SET z = 1 WHERE k = 1; COMMIT; SELECT sum(z) FROM t'), "240\n1", 'in the next transaction');
is(($c->fails(1, 'SET search_path = f; SET SESSION AUTHORIZATION a; BEGIN; ALTER TABLE t DROP z; UPDATE t SET v = 1; SELECT count(*) FROM fragaffinity.node'))[0], '42501', 'with no rights of ours');
is(($c->fails(1, 'SET search_path = f; BEGIN; UPDATE t SET v = 3; ALTER TABLE t ADD y2 int; PREPARE TRANSACTION $$p$$'))[0], '0A000', 'PREPARE TRANSACTION');
ok($c->check_consistent('at the end'), 'consistent');
done_testing();
