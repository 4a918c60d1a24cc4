# Upserts of rows anywhere in WITH, and beside parts of WITH that change rows, answer as
# on a plain table.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql($_, q{
	CREATE ROLE app LOGIN;
	CREATE TABLE names (i int PRIMARY KEY, name text);
	GRANT ALL ON names TO app}) for 1 .. 3;
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table (k int, id int DEFAULT 1, gone int, n int NOT NULL DEFAULT 7 CHECK (n < 1000), v text DEFAULT current_setting('app.v', true),
			twice int GENERATED ALWAYS AS (n * 2) STORED, code text, PRIMARY KEY (k, id), UNIQUE (k, code));
		ALTER TABLE $table DROP COLUMN gone;
		GRANT ALL ON $table TO app");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'k', fragments => 6)});
my $head = q{DELETE FROM d; INSERT INTO d (k, id, n, v) SELECT i, 1, i, 'old' FROM generate_series(1, 20) i;
	DELETE FROM names; INSERT INTO names SELECT i, 'name ' || i FROM generate_series(1, 40) i; SET app.v = 'client'; SET ROLE app;} . "\n";
my $oracle = SameAnswers->new($c, { d => 'p' }, $head);

my $some = 'INSERT INTO d (k, n) SELECT i, i * 3 FROM generate_series(15, 25) i ON CONFLICT (k, id)';
my @statements = (
	# what RETURNING gives, and what is done whoever reads it
	"WITH u AS ($some DO UPDATE SET n = d.n + excluded.n RETURNING *) SELECT * FROM u",
	"WITH u AS ($some DO UPDATE SET v = excluded.v, n = DEFAULT WHERE d.n % 2 = 0 RETURNING k, n + 1 AS n, twice, (SELECT count(*) FROM d)) SELECT *, (SELECT sum(n) FROM d) FROM u WHERE n > 3",
	"WITH u AS ($some DO NOTHING RETURNING k, v) SELECT count(*), max(v) FROM u",
	"WITH u AS ($some DO UPDATE SET (n, v) = (SELECT excluded.n + d.n, name FROM names WHERE i = d.k)) SELECT 1",
	"WITH u AS ($some DO NOTHING RETURNING k) SELECT 2",
	"WITH u AS ($some DO UPDATE SET n = 1 RETURNING k) SELECT k FROM u LIMIT 2",
	"WITH u AS ($some DO UPDATE SET n = 1 RETURNING k) SELECT a.k, b.k FROM u a JOIN u b ON a.k = b.k + 1",
	"WITH u AS (INSERT INTO d (k) VALUES (4), (5), (31), (32) ON CONFLICT (k, id) DO UPDATE SET v = 'values' RETURNING k, v) SELECT * FROM u",
	"WITH u AS (INSERT INTO d (k) VALUES (3) ON CONFLICT (k, id) DO UPDATE SET v = 'one' RETURNING k, v) SELECT * FROM u",
	"WITH u AS (INSERT INTO d (k, code) SELECT k, 'c' FROM d UNION ALL SELECT 8, 'd' ON CONFLICT (k, code) DO UPDATE SET v = 'code' RETURNING k, code) SELECT * FROM u",
	# several, of other rows
	"WITH a AS ($some DO NOTHING RETURNING k), b AS (INSERT INTO d (k, n) VALUES (1, 5), (41, 6) ON CONFLICT (k, id) DO UPDATE SET n = excluded.n RETURNING k, n), c AS (UPDATE d SET v = 'c' WHERE k = 7 RETURNING k)
		SELECT (SELECT count(*) FROM a), (SELECT sum(n) FROM b), (SELECT count(*) FROM c), (SELECT count(*) FROM d)",
	"WITH a AS (DELETE FROM d WHERE k < 5 RETURNING k, n), b AS (INSERT INTO d (k, n) SELECT k + 50, n FROM a ON CONFLICT (k, id) DO NOTHING RETURNING k, n), c AS (INSERT INTO d (k, n) SELECT k + 50, n FROM b ON CONFLICT (k, id) DO UPDATE SET n = 0 RETURNING k, n)
		SELECT * FROM c",
	"WITH a AS (DELETE FROM d WHERE k < 5 RETURNING k, n) INSERT INTO d (k, n) SELECT k + 10, n FROM a ON CONFLICT (k, id) DO UPDATE SET n = d.n * 10 + excluded.n RETURNING k, n",
	"WITH a AS ($some DO UPDATE SET n = d.n) INSERT INTO d (k, n) VALUES (1, 1), (2, 2), (60, 3) ON CONFLICT (k, id) DO UPDATE SET v = 'main'",
	"WITH a AS ($some DO UPDATE SET n = 2 RETURNING k, n) UPDATE names SET name = a.n FROM a WHERE i = a.k RETURNING i, name",
	"WITH a AS ($some DO UPDATE SET n = 2 RETURNING k, n) INSERT INTO d (k, n) SELECT k + 100, n FROM a RETURNING k",
	"WITH a AS (UPDATE names SET name = 'new' WHERE i < 4 RETURNING i, name), b AS (INSERT INTO d (k, v) SELECT i, name FROM a ON CONFLICT (k, id) DO UPDATE SET v = (SELECT name FROM names WHERE i = excluded.k) || excluded.v RETURNING k, v) SELECT * FROM b",
	# of rows that another part changes, or this one has
	"WITH a AS (DELETE FROM d WHERE k BETWEEN 5 AND 8 RETURNING k, n) INSERT INTO d (k, n) SELECT k, n + 100 FROM a ON CONFLICT (k, id) DO UPDATE SET v = 'conflict' RETURNING k, n, v",
	"WITH a AS (UPDATE d SET n = 0 WHERE k BETWEEN 9 AND 12 RETURNING k), u AS (INSERT INTO d (k, n) SELECT k, 9 FROM a ON CONFLICT (k, id) DO UPDATE SET v = 'conflict' RETURNING k) SELECT * FROM u",
	"WITH a AS (UPDATE d SET n = 0 WHERE k BETWEEN 9 AND 12 RETURNING k), u AS (INSERT INTO d (k, n) SELECT k, 9 FROM a ON CONFLICT (k, id) DO NOTHING RETURNING k) SELECT * FROM u",
	"WITH a AS (INSERT INTO d (k) SELECT i FROM generate_series(130, 133) i RETURNING k, n), u AS (INSERT INTO d (k, n) SELECT k, n + 100 FROM a ON CONFLICT (k, id) DO UPDATE SET v = 'conflict' RETURNING k) SELECT * FROM u",
	"WITH a AS ($some DO UPDATE SET n = 77 RETURNING k), u AS (INSERT INTO d (k) SELECT k FROM a ON CONFLICT (k, id) DO UPDATE SET n = 78 RETURNING k) SELECT count(*) FROM u",
	"WITH a AS ($some DO UPDATE SET n = 77 RETURNING k) UPDATE d SET v = 'main' FROM a WHERE a.k = d.k RETURNING d.k",
	"WITH a AS ($some DO UPDATE SET n = 77 RETURNING k) DELETE FROM d WHERE k < 30 RETURNING k, n, v",
	"WITH a AS ($some DO UPDATE SET n = 77 RETURNING k) DELETE FROM d USING a WHERE a.k = d.k RETURNING d.k",
	"WITH u AS (INSERT INTO d (k) SELECT 50 FROM generate_series(1, 2) ON CONFLICT (k, id) DO UPDATE SET n = 1 RETURNING k) SELECT * FROM u",
	"WITH u AS (INSERT INTO d (k) SELECT 50 FROM generate_series(1, 2) ON CONFLICT (k, id) DO NOTHING RETURNING k) SELECT * FROM u",
	# errors, and rows that are none
	"WITH u AS (INSERT INTO d (k, n) SELECT i, 999 FROM generate_series(1, 2) i ON CONFLICT (k, id) DO UPDATE SET n = d.n + excluded.n) SELECT 1",
	"WITH u AS (INSERT INTO d (k, n) VALUES (NULL, 1) ON CONFLICT (k, id) DO NOTHING) SELECT 1",
	"WITH u AS (INSERT INTO d (k) SELECT i FROM names WHERE i < 0 ON CONFLICT (k, id) DO NOTHING RETURNING k) SELECT count(*) FROM u",
	"WITH RECURSIVE r AS (SELECT 12 AS i UNION ALL SELECT i + 3 FROM r WHERE i < 24), u AS (INSERT INTO d (k) SELECT i FROM r ON CONFLICT (k, id) DO UPDATE SET v = 'r' RETURNING k, v) SELECT * FROM u");
my %forms = (
	alone => sub { "$_[0];\n" },
	'in a block' => sub { "BEGIN; SAVEPOINT a; $_[0]; TABLE d; ROLLBACK TO a; $_[0]; COMMIT;\n" },
	'repeatable read, undone' => sub { "BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE d; $_[0]; TABLE d; ROLLBACK;\n" },
	'in PL/pgSQL' => sub {
		my ($sql, $n) = @_;
		"CREATE FUNCTION pg_temp.f$n() RETURNS SETOF text LANGUAGE plpgsql AS \$f\$ #variable_conflict use_column\nDECLARE r record; c bigint; BEGIN "
		  . ($sql =~ /RETURNING \w+[^()]*$|\) SELECT|\)\s+SELECT/ ? "FOR r IN $sql LOOP RETURN NEXT r::text; END LOOP;" : "$sql; GET DIAGNOSTICS c = ROW_COUNT; RETURN NEXT c::text;") . " END \$f\$; SELECT * FROM pg_temp.f$n(); SELECT * FROM pg_temp.f$n();\n"
	},
	'prepared for all values' => sub { "SET plan_cache_mode = force_generic_plan; PREPARE s$_[1] AS $_[0]; EXECUTE s$_[1]; EXECUTE s$_[1];\n" });
for my $form (sort keys %forms)
{
	$oracle->same($_, $form, $forms{$form}, map { ($_, 'TABLE d') } @statements) for $form =~ /^alone|block/ ? (1, 2) : 2;
}

# with parameters, of one fragment or several
$oracle->same(2, 'with parameters', sub { "PREPARE s$_[1](int, text) AS $_[0];\n" . join('', map { "EXECUTE s$_[1]($_, 'p$_');\n" } 1 .. 7, 19 .. 25) . "TABLE d;\n" },
	'WITH u AS (INSERT INTO d (k, v) VALUES ($1, $2) ON CONFLICT (k, id) DO UPDATE SET v = d.v || $2 RETURNING k, v) SELECT *, $2 FROM u',
	'WITH a AS (DELETE FROM d WHERE k = $1 RETURNING k, n) INSERT INTO d (k, v) SELECT k + 1, $2 FROM a ON CONFLICT (k, id) DO UPDATE SET v = $2, n = $1 RETURNING k, v',
	'WITH u AS (INSERT INTO d (k, v) SELECT $1 + i, $2 FROM generate_series(1, 3) i ON CONFLICT (k, id) DO UPDATE SET n = d.n + $1 RETURNING k, v, n) UPDATE names SET name = $2 FROM u WHERE i = k');

# under policies
for my $table ('d', 'p')
{
	$c->sql(1, $_) for "ALTER TABLE $table ENABLE ROW LEVEL SECURITY", "CREATE POLICY seen ON $table USING (n <> 5) WITH CHECK (n <> 6 AND EXISTS (SELECT FROM names WHERE i = k))",
	  "CREATE POLICY changed ON $table AS RESTRICTIVE FOR UPDATE USING (n <> 3) WITH CHECK (n <> 4)";
}
my $upsert = sub { "WITH u AS (INSERT INTO d (k, n) VALUES $_[0] ON CONFLICT (k, id) DO UPDATE SET n = excluded.n % 50 RETURNING k, n) SELECT * FROM u" };
$oracle->same($_, 'under policies', $forms{alone}, map { ($_, 'TABLE d') } (map { $upsert->($_) } '(1, 9), (35, 9)', '(5, 9)', '(3, 9)', '(2, 54)', '(36, 6)', '(2, 6)', '(99, 9)', '(2, 53), (37, 1)'), @statements[ 0, 10, 11, 23 ])
  for 1, 2;

# plans
my $plan = $c->sql(2, 'EXPLAIN (VERBOSE, COSTS OFF) WITH a AS (DELETE FROM d WHERE k < 3 RETURNING k), u AS (INSERT INTO d (k) SELECT k + 1 FROM a ON CONFLICT (k, id) DO UPDATE SET n = 0 RETURNING k, n) SELECT * FROM u');
like($plan, qr/CTE u\n\s+->  Custom Scan \(Row by Row\)\n\s+Output: k, n\n\s+Insert on: public.d\n\s+Conflict Resolution: UPDATE\n\s+Conflict Arbiter Columns: k, id\n\s+->  CTE Scan on a/, 'EXPLAIN shows what is upserted, and of what');
$plan = $c->sql(2, 'BEGIN; EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) WITH u AS (INSERT INTO d (k) SELECT generate_series(90, 94) ON CONFLICT (k, id) DO NOTHING) SELECT 1; ROLLBACK');
like($plan, qr/Row by Row\) \(actual rows=0\.?0* loops=1\)\n\s+Insert on: d\n\s+Conflict Resolution: NOTHING\n.*\n\s+->  .*\(actual rows=5/, 'and EXPLAIN ANALYZE what was done');
unlike($c->sql(1, 'EXPLAIN (COSTS OFF) WITH u AS (INSERT INTO d (k) VALUES (' . $c->sql(1, q{SELECT min(i) FROM generate_series(1, 50) i WHERE (SELECT owner FROM fragaffinity.fragments WHERE bucket = ('d_b' || fragaffinity.bucket_of('d', i))::regclass) = 'n1'})
	  . ') ON CONFLICT (k, id) DO NOTHING) SELECT 1'), qr/Row by Row/, 'what is here goes straight to its heap');

# what cannot be had says so
my ($state, $message) = $c->fails(2, "WITH a AS (SELECT 1 AS x), u AS ($some DO UPDATE SET n = (SELECT x FROM a)) SELECT 1");
is($state, '42P10', 'what other parts of WITH give is not read for a row');
like($message, qr/HINT:  In WITH, what is set and returned by an upsert/, 'and it says so');
is(($c->fails(2, "WITH a AS (SELECT 1 AS x) $some DO UPDATE SET n = (SELECT x FROM a)"))[0], '42P10', 'nor by an upsert with WITH');
is(($c->fails(2, "WITH u AS ($some DO UPDATE SET k = 1) SELECT 1"))[0], '42P10', 'a key is not changed');
$c->check_consistent('all is consistent');
done_testing();
