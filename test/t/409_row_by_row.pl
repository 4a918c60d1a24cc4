# Upserts and MERGE of several fragments, and what owners cannot evaluate, without row
# security: row by row, they answer as on a plain table.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql($_, q{
	CREATE ROLE app LOGIN;
	CREATE TABLE names (i int PRIMARY KEY, name text);
	GRANT ALL ON names TO app;
	CREATE FUNCTION name_of(int) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT name FROM public.names WHERE i = $1); END'}) for 1 .. 3;
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table (k int, id int, n int NOT NULL DEFAULT 7 CHECK (n < 1000), v text DEFAULT current_setting('app.v', true),
			twice int GENERATED ALWAYS AS (n * 2) STORED, code text, PRIMARY KEY (k, id), UNIQUE (k, code));
		GRANT ALL ON $table TO app");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'k', fragments => 6)});
# only the client's node has names
my $head = q{DELETE FROM d; INSERT INTO d SELECT i, 1, i, 'old' FROM generate_series(1, 20) i;
	DELETE FROM names; INSERT INTO names SELECT i, 'name ' || i FROM generate_series(1, 40) i; SET app.v = 'client'; SET ROLE app;} . "\n";
my $oracle = SameAnswers->new($c, { d => 'p' }, $head);
my $source = '(SELECT i, i % 7 AS x, name FROM names WHERE i % 2 = 0)';
my @merges = (
	"MERGE INTO d USING $source s ON d.k = s.i WHEN MATCHED THEN UPDATE SET v = s.name, n = d.n + s.x WHEN NOT MATCHED THEN INSERT (k, id, v) VALUES (s.i, 2, s.name)",
	"MERGE INTO d USING $source s ON d.k = s.i AND d.id = 1 WHEN MATCHED AND s.x > 3 THEN DELETE WHEN MATCHED AND d.n % 3 = 0 THEN DO NOTHING WHEN MATCHED THEN UPDATE SET n = (SELECT count(*) FROM d y WHERE y.k < d.k)",
	"MERGE INTO d USING (SELECT * FROM d WHERE n > 8) s ON d.k = s.k AND d.id = s.id WHEN MATCHED THEN DELETE",
	"MERGE INTO d USING (SELECT k + 1 AS k, id FROM d) s ON d.k = s.k AND d.id = s.id WHEN MATCHED THEN UPDATE SET v = name_of(d.k) WHEN NOT MATCHED THEN INSERT (k, id, n) VALUES (s.k, s.id, DEFAULT)",
	"MERGE INTO d USING (VALUES (1, 1), (1, 2), (30, 3)) s (k, x) ON d.k = s.k WHEN MATCHED THEN UPDATE SET n = s.x",
	"MERGE INTO d USING (VALUES (31, 1), (31, 2)) s (k, x) ON d.k = s.k WHEN NOT MATCHED THEN INSERT (k, id, n) VALUES (s.k, 1, s.x)",
	"MERGE INTO d USING (VALUES (2, 999), (3, 1)) s (k, x) ON d.k = s.k WHEN MATCHED THEN UPDATE SET n = d.n + s.x",
	"MERGE INTO d USING (VALUES (NULL::int, 1), (3, 1)) s (k, x) ON d.k = s.k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (k, id) VALUES (s.k, 1)",
	"WITH w AS (SELECT i FROM names WHERE i < 6) MERGE INTO d USING w ON d.k = w.i WHEN MATCHED AND EXISTS (SELECT FROM names n WHERE n.i = d.n) THEN UPDATE SET code = current_user || d.twice",
	"INSERT INTO d (k, id, n) SELECT k, 2, n FROM d",
	"MERGE INTO d USING (SELECT DISTINCT k FROM d) s ON d.k = s.k WHEN MATCHED THEN UPDATE SET n = (SELECT sum(y.n) + d.id FROM d y WHERE y.k = d.k)",
	"INSERT INTO d (k, id) SELECT k, id FROM d UNION SELECT k, 3 FROM d ON CONFLICT (k, id) DO UPDATE SET n = (SELECT count(*) FROM d y WHERE y.k = excluded.k AND y.n < 30)",
	"MERGE INTO d USING (SELECT DISTINCT k FROM d) s ON d.k = s.k WHEN MATCHED THEN DELETE",
	"MERGE INTO d USING names s ON d.k = s.i WHEN NOT MATCHED AND s.i > 15 THEN INSERT VALUES (s.i, 1, s.i, upper(s.name))");
my @upserts = (
	(map { ("INSERT INTO d (k, id, n) $_ ON CONFLICT (k, id) DO UPDATE SET n = d.n + excluded.n, v = name_of(excluded.k) RETURNING k, id, n, v, twice",
			"INSERT INTO d (k, id, n) $_ ON CONFLICT (k, id) DO UPDATE SET v = (SELECT name FROM names WHERE i = d.n) WHERE d.n % 2 = excluded.n % 2 RETURNING *",
			"INSERT INTO d (k, id, n) $_ ON CONFLICT DO NOTHING RETURNING k, (SELECT count(*) FROM d x WHERE x.k <= d.k)",
			"INSERT INTO d (k, id, n) $_ ON CONFLICT (k, id) DO NOTHING RETURNING k, json_build_object(1, k, 2, v), (SELECT count(*) FROM d x WHERE x.k <= d.k)") }
		'SELECT i, 1, i FROM generate_series(15, 25) i', 'VALUES (1, 1, 5), (21, 1, 6), (2, 1, 7)', 'VALUES (3, 1, 9)', 'VALUES (22, 1, 9)'),
	"INSERT INTO d SELECT * FROM (SELECT k, id, n + 1, 'again' FROM d) x ON CONFLICT (k, id) DO UPDATE SET (n, v) = (SELECT excluded.n, max(name) FROM names)",
	"INSERT INTO d (k, id) SELECT i / 2, 1 FROM generate_series(2, 10) i ON CONFLICT (k, id) DO UPDATE SET n = 1",
	"INSERT INTO d (k, id) SELECT i / 2, 5 FROM generate_series(2, 10) i ON CONFLICT (k, id) DO UPDATE SET n = 1",
	"INSERT INTO d (k, id) SELECT i, 1 FROM generate_series(1, 10) i ON CONFLICT (k, id) DO UPDATE SET n = 999 + d.k",
	"INSERT INTO d (k, id, n) SELECT i, 1, 999 FROM generate_series(1, 10) i ON CONFLICT (k, id) DO UPDATE SET n = d.n + excluded.n",
	"WITH w AS (SELECT i FROM names WHERE i > 18) INSERT INTO d (k, id, code) SELECT i, 1, 'c' FROM w ON CONFLICT (k, code) DO UPDATE SET v = 'code' RETURNING k, code, v",
	"INSERT INTO d (k, id, code) SELECT i, 2, 'c' FROM generate_series(18, 30) i ON CONFLICT (k, code) DO UPDATE SET v = 'code' RETURNING k, id, code, v");
my %forms = (
	alone => sub { "$_[0];\n" },
	'in a block' => sub { "BEGIN; SAVEPOINT a; $_[0]; TABLE d; ROLLBACK TO a; $_[0]; COMMIT;\n" },
	'undone' => sub { "BEGIN; $_[0]; TABLE d; ROLLBACK;\n" });
for my $form (sort keys %forms)
{
	for my $i (1, 2)
	{
		$oracle->same($i, "$form, node $i: MERGE", $forms{$form}, map { ($_, 'TABLE d') } @merges[ 0 .. 4 ]);
		$oracle->same($i, "$form, node $i: MERGE, 2", $forms{$form}, map { ($_, 'TABLE d') } @merges[ 5 .. $#merges ]);
		$oracle->same($i, "$form, node $i: upserts", $forms{$form}, map { ($_, 'TABLE d') } @upserts);
	}
}
# Rows that have no partition, or whose key is missing.
for my $table ('parted', 'plain_parted')
{
	$c->sql(1, "
		CREATE TABLE $table (k int, day int, v text, PRIMARY KEY (k, day)) PARTITION BY RANGE (day);
		CREATE TABLE ${table}_1 PARTITION OF $table FOR VALUES FROM (0) TO (10);
		CREATE TABLE ${table}_2 PARTITION OF $table FOR VALUES FROM (20) TO (30) PARTITION BY LIST (k);
		CREATE TABLE ${table}_2a PARTITION OF ${table}_2 FOR VALUES IN (1, 2, 3);
		CREATE TABLE ${table}_2b PARTITION OF ${table}_2 DEFAULT;
		GRANT ALL ON $table TO app");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('parted', 'k', fragments => 3)});
my $nowhere = SameAnswers->new($c, { parted => 'plain_parted' }, "TRUNCATE parted; SET ROLE app;\n");
my @nowhere = map { my $rows = $_; map { ("INSERT INTO parted AS x $rows ON CONFLICT $_ RETURNING x.v", 'TABLE parted') } '(k, day) DO NOTHING', 'DO NOTHING', "(k, day) DO UPDATE SET v = x.v || excluded.v WHERE x.day > 0" }
	"VALUES (1, 15, 'a')", "VALUES (2, 5, 'b'), (3, 15, 'c')", "VALUES (1, NULL, 'd')", "VALUES (NULL, 5, 'e')", "VALUES (NULL, 25, 'f')", "VALUES (4, 25, 'g')",
	"SELECT i, 5 * i, 'h' FROM generate_series(1, 3) i", "SELECT NULL::int, 25, 'i' FROM generate_series(1, 2)", "SELECT 5, 15, 'j' WHERE false";
my $prepared = join(";\n", 'PREPARE u (int, int) AS INSERT INTO parted VALUES ($1, $2) ON CONFLICT (k, day) DO NOTHING', (map { "EXECUTE u ($_)" } '1, 5', '1, 15', 'NULL, 5', '1, NULL', '2, 25', '1, 15', '1, 15', 'NULL, 25', '3, 5'), 'DEALLOCATE u');
for my $form ('alone', 'undone')
{
	$nowhere->same($_, "$form, node $_: rows without a partition", $forms{$form}, @nowhere, $form eq 'alone' ? $prepared : ()) for 1 .. 3;
}
# By a view, a row that its condition hides is not changed, where PostgreSQL says so.
for my $table ('d', 'p')
{
	$c->sql($_, "CREATE VIEW v_$table WITH (security_invoker) AS SELECT k, id, n FROM $table WHERE n > 5;
		CREATE VIEW all_$table WITH (security_invoker) AS SELECT k, id, n FROM $table") for $table eq 'd' ? 1 .. 3 : 1;
}
$c->sql(1, 'TRUNCATE d, p; INSERT INTO p SELECT i, 1, 2 FROM generate_series(1, 6) i; INSERT INTO d SELECT i, 1, 2 FROM generate_series(1, 6) i');
for my $rows ((map { "VALUES ($_, 1, 9)" } 1 .. 6), 'VALUES (1, 1, 9), (2, 1, 9), (3, 1, 9), (4, 1, 9)', 'SELECT i, 1, 9 FROM generate_series(1, 6) i')
{
	my ($plain) = $c->fails(1, "INSERT INTO v_p $rows ON CONFLICT (k, id) DO UPDATE SET n = 7");
	for my $i (1 .. 3)
	{
		my ($code, $err) = $c->fails($i, "INSERT INTO v_d $rows ON CONFLICT (k, id) DO UPDATE SET n = 7");
		ok($code eq $plain || ($code eq '42P10' && $err =~ /HINT:.*by a view/), "node $i, by a view: $rows") or diag($err);
		is($c->sql($i, "BEGIN; INSERT INTO all_d $rows ON CONFLICT (k, id) DO UPDATE SET n = 7 RETURNING n; ROLLBACK"),
			$c->sql(1, "BEGIN; INSERT INTO all_p $rows ON CONFLICT (k, id) DO UPDATE SET n = 7 RETURNING n; ROLLBACK"), 'by one that hides none');
	}
}
my $text = $c->sql(1, "EXPLAIN (COSTS OFF) $merges[0]");
like($text, qr/Row by Row/, 'MERGE goes so');
like($c->sql(1, "EXPLAIN (COSTS OFF) $upserts[0]"), qr/Row by Row/, 'and INSERT ... SELECT');
unlike($c->sql(1, "EXPLAIN (COSTS OFF) INSERT INTO d (k, id) VALUES (1, 1), (2, 1), (3, 1) ON CONFLICT (k, id) DO UPDATE SET n = excluded.n"),
	qr/Row by Row/, 'not what owners can do');

# rights are those that a plain table asks for
$c->sql($_, 'CREATE ROLE cleaner LOGIN; GRANT SELECT ON names TO cleaner') for 1 .. 3;
$c->sql(1, 'GRANT SELECT, DELETE ON d, p TO cleaner');
for my $i (1, 2)
{
	ok($c->poll($i, q{SELECT count(*) FROM pg_user_mappings WHERE usename = 'cleaner'}, '2'), "node $i knows the role at the others");
	$oracle->{head} = $head =~ s/SET ROLE app/SET ROLE cleaner/r;
	$oracle->same($i, 'who may delete only', $forms{alone}, map { ($_, 'TABLE d') }
		"MERGE INTO d USING $source s ON d.k = s.i WHEN MATCHED AND s.x > 2 THEN DELETE WHEN MATCHED THEN DO NOTHING",
		"MERGE INTO d USING $source s ON d.k = s.i WHEN MATCHED AND s.x > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET n = 1",
		"MERGE INTO d USING $source s ON d.k = s.i WHEN NOT MATCHED THEN INSERT (k, id) VALUES (s.i, 9)",
		"SELECT * FROM d WHERE k < 9 FOR UPDATE", "DELETE FROM d WHERE k = 5");
}
$c->check_consistent('all is consistent');
done_testing();
