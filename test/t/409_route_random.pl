# Random statements on distributed tables answer as on plain ones, from every
# node, alone and in blocks, and under policies.  FA_SEEDS gives other seeds, FA_STATEMENTS a number.
use strict;
use warnings;
use FragAffinity;
use RandomSql;
use SameAnswers;
use Test::More;

my @seeds = split ' ', $ENV{FA_SEEDS} // '1 2';
my $n = $ENV{FA_STATEMENTS} // 60;
my $c = FragAffinity->new(nodes => 3);
$c->sql($_, RandomSql::types()) for 1 .. 3;
$c->sql(1, join '', RandomSql::tables('d_'), RandomSql::tables('p_'));
my ($first, @others) = RandomSql::names('d_');
$c->sql(1, "SELECT fragaffinity.distribute_table('$_', 'k', fragments => 6)") for $first, @others;

my %twin = map { $_ => s/^d_/p_/r } $first, @others;
my $oracle = SameAnswers->new($c, \%twin, join('', RandomSql::rows('d_')) . "SET timezone = 'UTC';\n");
my $count = join "\n", map { "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $_ x;" } $first, @others;
# What has been found.
my @found = split /\n/, <<'SQL';
SELECT x.k FROM d_pair x WHERE (SELECT max(y.v COLLATE "C") FROM d_num y WHERE y.k = x.m) IN ('v3', 'v5')
SELECT count(*) FROM d_ts x JOIN d_ts y ON x.k = y.k WHERE (x.n NOT IN (SELECT z.n FROM d_num z WHERE z.k = x.m AND x.n IS NOT NULL)) IS NOT TRUE
UPDATE d_pair x SET v = (SELECT max(y.v COLLATE "C") FROM d_int y WHERE y.k = x.k2) WHERE x.k2 BETWEEN 20 AND 29 RETURNING k2, v
SELECT count(*), max(x.m) FROM d_ts x WHERE NOT EXISTS (SELECT 1 FROM d_int y WHERE y.v LIKE '%5%') AND x.k = '2024-01-02 02:00+00'
SELECT x.k, x.n FROM d_int x WHERE x.n > (SELECT n FROM d_txt y WHERE y.v = 'v4' ORDER BY y.k COLLATE "C" LIMIT 1) AND x.v = (SELECT v FROM d_num y WHERE n = 3 ORDER BY k LIMIT 1)
INSERT INTO d_pair SELECT k + 1000, k2, v, n, m, t, j, r FROM d_pair WHERE k2 = ANY (r) OR k2 > 20 RETURNING k, k2
INSERT INTO d_int SELECT x.k + 500, y.v FROM d_int x JOIN d_int y ON x.n = y.k WHERE y.n < 9
UPDATE d_int x SET n = (SELECT count(*) FROM d_int y WHERE y.n = x.n) RETURNING k, n
DELETE FROM d_int x WHERE n < (SELECT avg(y.n) FROM d_int y WHERE y.v = x.v) RETURNING k
DELETE FROM d_num x WHERE (x.j || '{"b": 1}') @> '{"a": 3}' AND x.n > 8 RETURNING x.n, (SELECT max(y.v COLLATE "C") FROM d_num y WHERE y.k = x.m)
WITH w AS (INSERT INTO d_txt SELECT k || '+', v, n FROM d_txt RETURNING n) SELECT count(*), sum(n) FROM w
WITH w AS NOT MATERIALIZED (SELECT count(*) AS c1, sum((SELECT min(z.n) FROM d_int z WHERE z.k = y.n)) AS c2 FROM d_int x LEFT JOIN d_int y ON x.k = y.k WHERE x.n < 0 AND x.k = 19) SELECT * FROM w CROSS JOIN (SELECT count(*) FROM w) q
MERGE INTO d_dom USING (SELECT 'v3' AS v, 16 AS n) s ON d_dom.k = 18 WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (k, v, n) VALUES (18, s.v, s.n)
MERGE INTO d_dom USING (SELECT 'v3' AS v, 16 AS n) s ON d_dom.k = 77 WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (k, v, n) VALUES (77, s.v, s.n)
SQL
for my $i (1 .. 3)
{
	$oracle->same($i, 'found', sub { "$_[0];\n" }, @found, $count);
	$oracle->same($i, 'found, in blocks', sub { "BEGIN; SAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nCOMMIT;\n" }, @found, $count);
}

for my $seed (@seeds)
{
	my $random = RandomSql->new($seed);
	my @statements = map { $random->statement } 1 .. $n;
	my $i = 1 + $seed % 3;

	$oracle->same($i, "seed $seed, alone", sub { "$_[0];\n" }, @statements, $count);
	$i = 1 + $i % 3;
	$oracle->same($i, "seed $seed, in blocks", sub { "BEGIN; SAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nCOMMIT;\n" },
		(grep { !/CURSOR|^PREPARE|^CREATE/ } @statements), $count);
	$i = 1 + $i % 3;
	$oracle->same($i, "seed $seed, repeatable read", sub { "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$_[0];\nCOMMIT;\n" }, @statements, $count);
}

# As other clients have set up their sessions.
my $head = $oracle->{head};
for my $seed (@seeds)
{
	my $random = RandomSql->new($seed + 2000000);
	my $settings = $random->settings;
	my @statements = map { $random->statement } 1 .. $n;

	$oracle->{head} = $head . $settings;
	$oracle->same(1 + $seed % 3, "seed $seed with " . $settings =~ s/\n/ /gr, sub { "$_[0];\n" }, @statements, $count);
}
$oracle->{head} = $head;

# Under policies, of one that may neither see nor make all rows.
$c->sql($_, 'CREATE ROLE app LOGIN') for 1 .. 3;
ok($c->poll($_, q{SELECT count(*) FROM pg_user_mappings WHERE usename = 'app'}, '2'), "node $_ knows it at the others") for 1 .. 3;
for my $table (map { ($_, $twin{$_}) } $first, @others)
{
	$c->sql(1, $_) for "GRANT ALL ON $table TO app", "ALTER TABLE $table ENABLE ROW LEVEL SECURITY",
	  "CREATE POLICY visible ON $table USING (coalesce(n, 4) % 7 <> current_setting('app.hidden')::int)",
	  "CREATE POLICY changed ON $table AS RESTRICTIVE FOR UPDATE USING (coalesce(m, 2) < 4.5) WITH CHECK (coalesce(n, 0) < 45)";
}
$oracle->{head} .= "SET ROLE app; SET app.hidden = '5';\n";
for my $seed (@seeds)
{
	my $random = RandomSql->new($seed + 1000000);
	# of several rows one may be refused by a policy, and another otherwise; or of two
	# changes of a row the one that is not made
	my @statements = grep { (() = /\b(?:UPDATE d_|DELETE FROM|INSERT INTO)/g) < 2 && !(/INSERT INTO \w+ VALUES .*?\), \(/ && (!/ON CONFLICT/ || /'no\.such'\)/)) } map { $random->statement } 1 .. $n;
	my $i = 1 + $seed % 3;

	$oracle->same($i, "seed $seed under policies", sub { "$_[0];\n" }, @statements, $count);
}
done_testing();
