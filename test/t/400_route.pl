# PostgreSQL as the oracle: statements on distributed tables, through each
# node, give the rows, counts, command tags and SQLSTATEs that they give on
# plain tables; in autocommit, in transaction blocks with savepoints, and
# prepared.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

my $tables = q{
	CREATE TABLE %s (gone1 int, k int, id int, gone2 text DEFAULT 'gone', v text DEFAULT 'none', n int NOT NULL DEFAULT 0 CHECK (n >= 0),
		amount numeric(10, 2), at timestamptz, took interval, ratio float8, tags text[], doc jsonb,
		double_n int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (k, id));
	CREATE TABLE %s (k int PRIMARY KEY, w text)};

# Distributed d and e; the oracle's p and q on node 1, without the extension's help.
$c->sql(1, sprintf($tables, 'd', 'e') . q{;
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 6);
	SELECT fragaffinity.distribute_table('e', 'k', fragments => 6, colocate_with => 'd');
	ALTER TABLE d DROP COLUMN gone1, DROP COLUMN gone2});
$c->sql(1, sprintf($tables, 'p', 'q') . '; ALTER TABLE p DROP COLUMN gone1, DROP COLUMN gone2');
# Fragments that have moved lack the dropped columns; the others have them.
$c->move($c->fragment('d', 0), 'n2');
$c->move($c->fragment('e', 0), 'n2');
$c->move($c->fragment($_, 1), 'n1') for qw(d e);

my $fill = q{
	TRUNCATE d, e;
	INSERT INTO d SELECT i % 20, i, 'v' || i, i % 7, i * 1.25, '2024-03-01 12:00+00'::timestamptz + i * interval '1 hour',
		i * interval '-90 min', i / 7.0, ARRAY['a' || i, 'b c', NULL], jsonb_build_object('i', i) FROM generate_series(1, 100) i;
	INSERT INTO e SELECT i, 'w' || i FROM generate_series(0, 19) i;
};

# {k}: a key that exists, {x}: one that does not, {i}: an id of {k}, {n}: a small number.
my @templates = split /\n/, <<'SQL';
SELECT * FROM d WHERE k = {k} ORDER BY id
SELECT id, v, at, took, ratio, tags, doc FROM d WHERE k = {k} AND id = {i}
SELECT count(*), sum(n), avg(amount), max(at), min(took), array_agg(id ORDER BY id) FROM d WHERE k = {k}
SELECT n, count(*) FROM d WHERE k = {k} GROUP BY n ORDER BY n
SELECT n + 1 AS m, count(*) FROM d WHERE k = {k} GROUP BY n + 1 HAVING count(*) > 0 ORDER BY n + 1
SELECT DISTINCT n % 3 FROM d WHERE k = {k} ORDER BY 1
SELECT id, row_number() OVER (ORDER BY id DESC), sum(n) OVER (ORDER BY id ROWS 1 PRECEDING) FROM d WHERE k = {k} ORDER BY id
SELECT id FROM d WHERE k = {k} ORDER BY id DESC LIMIT {n} OFFSET 1
SELECT id FROM d WHERE k IN ({k}) AND v LIKE 'v%' ORDER BY id
SELECT id FROM d WHERE k = ANY (ARRAY[{k}, {k}]) ORDER BY id
SELECT k, id FROM d WHERE k IN ({k}, {x}) ORDER BY k, id
SELECT k, id FROM d WHERE k = {k} OR id = {i} ORDER BY k, id
SELECT count(*) FROM d WHERE k = {x}
SELECT count(*) FROM d WHERE k = NULL
SELECT count(*) FROM d WHERE k = {k} AND k = {k} + 1
SELECT count(*) FROM d WHERE k = '{k}'
SELECT count(*) FROM d WHERE k = {k}::bigint
SELECT count(*) FROM d WHERE k = {k}.0
SELECT d.id, e.w FROM d JOIN e ON d.k = e.k WHERE d.k = {k} ORDER BY d.id
SELECT d.id, e.w FROM d JOIN e USING (k) WHERE k = {k} ORDER BY d.id
SELECT d.id, e.w FROM e LEFT JOIN d ON d.k = e.k AND d.id > 50 WHERE e.k = {k} ORDER BY d.id
SELECT e.k, d.id FROM e LEFT JOIN d ON d.k = {k} AND d.k = e.k ORDER BY e.k, d.id
SELECT e.k, d.id FROM e LEFT JOIN d ON e.k = {k} AND d.k = e.k ORDER BY e.k, d.id
SELECT e.k, d.id FROM d RIGHT JOIN e ON d.k = e.k AND d.k = {k} ORDER BY e.k, d.id
SELECT e.k, d.k FROM e FULL JOIN d ON d.k = e.k AND e.k = {k} WHERE d.id IS NULL OR d.id < 30 ORDER BY 1, 2
SELECT x.id FROM d x, d y WHERE x.k = y.k AND y.k = {k} AND x.id < y.id ORDER BY x.id, y.id
SELECT id FROM d WHERE k = {k} AND EXISTS (SELECT FROM e WHERE e.k = d.k AND w <> 'x') ORDER BY id
SELECT id FROM d WHERE k = {k} AND NOT EXISTS (SELECT FROM e WHERE e.k = d.k) ORDER BY id
SELECT id, (SELECT w FROM e WHERE e.k = d.k) FROM d WHERE k = {k} ORDER BY id
SELECT id FROM d WHERE k = (SELECT {k}) ORDER BY id
SELECT id FROM (SELECT * FROM d WHERE n < 100) s WHERE k = {k} ORDER BY id
SELECT * FROM (SELECT k, count(*) FROM d GROUP BY k) s WHERE k = {k}
SELECT * FROM (SELECT k, id, row_number() OVER (ORDER BY k, id) FROM d) s WHERE k = {k} ORDER BY 3
SELECT * FROM (SELECT k, id FROM d ORDER BY k, id LIMIT 10) s WHERE k = {k} ORDER BY id
WITH c AS (SELECT id FROM d WHERE k = {k}) SELECT count(*) FROM c
WITH c AS MATERIALIZED (SELECT * FROM d) SELECT count(*) FROM c WHERE k = {k}
SELECT id FROM d WHERE k = {k} UNION ALL SELECT k FROM e WHERE k = {k} ORDER BY 1
SELECT id FROM d WHERE k = {k} EXCEPT SELECT 100 ORDER BY 1
SELECT id, now() > at, current_user, to_char(at, 'YYYY-MM-DD HH24 TZ'), at::text, at::date, took::text FROM d WHERE k = {k} ORDER BY id
SELECT count(*) FROM d WHERE k = {k} AND at < now() AND at > '2024-03-02'::date
SELECT count(*) FROM d WHERE k = {k} AND at::date = '2024-03-02'
SELECT count(*) FROM d WHERE k = {k} AND random() < 2
SELECT id, v::varchar(2), v::char(3), amount::numeric(10, 1), 'x'::text, ratio::float4, k::text || v FROM d WHERE k = {k} ORDER BY id
SELECT id, CASE WHEN n > 3 THEN 'many' ELSE lower('FEW') END, coalesce(doc ->> 'i', '-'), doc @> '{"i": 3}' FROM d WHERE k = {k} ORDER BY id
SELECT id, unnest(tags) FROM d WHERE k = {k} ORDER BY 1, 2
SELECT id, g FROM d, generate_series(1, 2) g WHERE k = {k} ORDER BY 1, 2
SELECT d.id, l.w FROM d, LATERAL (SELECT w FROM e WHERE e.k = d.k LIMIT 1) l WHERE d.k = {k} ORDER BY 1
SELECT (d).v FROM d WHERE k = {k} ORDER BY id
SELECT d AS r FROM d WHERE k = {k} AND id = {i}
SELECT row(k, id) FROM d WHERE k = {k} ORDER BY id
SELECT id FROM d WHERE (k, id) = ({k}, {i})
SELECT id FROM d WHERE k = {k} ORDER BY id FOR UPDATE
SELECT id FROM d WHERE k = {k} ORDER BY id FOR SHARE SKIP LOCKED
SELECT 1 / (n - n) FROM d WHERE k = {k}
SELECT v::int FROM d WHERE k = {k}
SELECT id FROM d WHERE k = {k} ORDER BY id COLLATE "C"
SELECT v COLLATE "C" < 'v5' FROM d WHERE k = {k} ORDER BY id
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM d WHERE k = {k}
SELECT string_agg(v, ',' ORDER BY id) FILTER (WHERE n > 1) FROM d WHERE k = {k}
SELECT n, n % 2, count(*) FROM d WHERE k = {k} GROUP BY GROUPING SETS ((n), (n % 2)) ORDER BY 1, 2
INSERT INTO d (k, id) VALUES ({k}, {new}) RETURNING *
INSERT INTO d (k, id, v, n, at) VALUES ({k}, {new}, 'new', {n}, '2024-05-05 05:05') RETURNING id, at, double_n
INSERT INTO d (k, id, v) VALUES ({k}, {new}, current_user || (now() > '2024-01-01')::text) RETURNING v
INSERT INTO d (k, id) VALUES ({k}, {i}) ON CONFLICT DO NOTHING
INSERT INTO d (k, id) VALUES ({k}, {i})
INSERT INTO d (k, id, n) VALUES ({k}, {new}, -1)
INSERT INTO d (k, id, n) VALUES ({k}, {new}, NULL)
INSERT INTO d (k, id) VALUES (NULL, {new})
INSERT INTO d (k, id, took) VALUES ({k}, {new}, '1 day ago')
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v, n = d.n + 1 RETURNING k, id, v, n
INSERT INTO d AS x (k, id, v) VALUES ({k}, {new}, 'up') ON CONFLICT (k, id) DO UPDATE SET v = x.v || excluded.v WHERE x.n < 5 RETURNING *
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up') ON CONFLICT (k, id) DO UPDATE SET k = excluded.k, id = excluded.id, v = excluded.v RETURNING id, v
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'a'), ({k}, {new}, 'b') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v RETURNING id, v
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'a'), ({k}, {i}, 'b') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'a'), ({x}, {new}, 'b'), ({k}, {new}, 'c'), (0, {new}, 'xd'), (1, {new}, 'xe') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v || d.v RETURNING k, id, v
INSERT INTO d (k, id, v) VALUES (0, {i}, 'a'), (1, {new}, 'b'), (2, {new}, 'c'), (3, 23, 'xd'), (1, {new}, 'xe') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v
INSERT INTO d (k, id, n) VALUES (0, {new}, 1), (1, {new}, 1), (2, {new}, -1) ON CONFLICT (k, id) DO UPDATE SET n = excluded.n
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up') ON CONFLICT (k, id) DO UPDATE SET at = date_trunc('century', now()), v = coalesce(d.v, current_setting('timezone')) || current_user RETURNING v, at > '2024-06-01', current_setting('datestyle')
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up') ON CONFLICT (k, id) DO UPDATE SET v = CASE WHEN d.n > 2 THEN current_setting('timezone') ELSE to_char(date '2024-03-04', 'Day') END WHERE d.n < 4 OR d.v = current_setting('timezone') RETURNING v
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up') ON CONFLICT (k, id) DO UPDATE SET v = CASE WHEN d.n > 2 THEN current_setting('no.such') ELSE 'x' END RETURNING v
INSERT INTO d (k, id, v) VALUES ({k}, {new}, 'up') ON CONFLICT (k, id) DO UPDATE SET v = current_setting('no.such') WHERE current_setting('no.such') = d.v RETURNING v
INSERT INTO d (k, id, v) VALUES ({k}, {i}, 'up'), ({x}, {new}, 'b'), (2, {new}, 'c') ON CONFLICT (k, id) DO UPDATE SET v = excluded.v || coalesce(current_setting('no.such', true), '-', current_setting('no.such')), at = date_trunc('century', now()) RETURNING k, v
INSERT INTO d (k, id) VALUES ({k}, {i}) ON CONFLICT DO NOTHING RETURNING current_setting('no.such')
SELECT id FROM d WHERE k = {x} AND v = current_setting('no.such')
SELECT id FROM d WHERE k = {k} AND id = {i} AND v = current_setting('no.such')
SELECT id, coalesce(v, current_setting('no.such')) FROM d WHERE k = {k} AND v <> current_setting('timezone')
UPDATE d SET v = coalesce(v, current_setting('no.such')) || current_setting('timezone') WHERE k = {k} AND id = {i} RETURNING v
INSERT INTO d (k, id) SELECT {k}, {new}
INSERT INTO d (k, id) SELECT k, id + 1000 FROM d WHERE k = {k} AND id < 30
INSERT INTO d (k, id) VALUES ({k}, {new}), ({x}, {new}) RETURNING k, id
INSERT INTO d (k, id, v) VALUES (0, {new}, 'a'), (1, {new}, DEFAULT), (2, {new}, 'c'), (3, {new}, 'd'), ({k}, {i}, 'e') ON CONFLICT DO NOTHING RETURNING k, v, double_n
INSERT INTO d (k, id, n) VALUES ({k}, {new}, 3), (7, {new}, -1), (13, {new}, 1)
INSERT INTO d (k, id, n) VALUES ({x}, {new}, 3), (NULL, {new}, 1), (13, {new}, 1)
INSERT INTO d (k, id) VALUES ({k}, {i}), (13, {new}), (14, {new}), (15, {new})
INSERT INTO d (k, id, v, at) VALUES (7, {new}, current_user, date_trunc('century', now())), (10, {new}, to_char(2, '99'), '2024-03-04') RETURNING id, v, at > '2024-01-01'
SELECT k, id FROM d WHERE k IN (3, 7, 10, {k}) AND n < {n} ORDER BY k, id
SELECT k, count(*), max(v) FROM d WHERE k IN (1, 5, 9, 12) GROUP BY k ORDER BY k
SELECT count(*), sum(n) FROM d WHERE k IN (0, 5, {k}) AND id IN (SELECT id FROM d WHERE k IN (0, 5, 9))
UPDATE d SET v = v || 'in' WHERE k IN (3, 7, 13, 14) AND n = {n} RETURNING k, id, v
UPDATE d SET n = n - 5 WHERE k IN (0, 1, {k})
DELETE FROM d WHERE k IN (1, 5, {k}) AND n = {n} RETURNING id
DELETE FROM d WHERE k = ANY ('{0, 5, 9, 11}') AND id > 60
UPDATE d SET k = {k}, v = 'same' WHERE k IN ({k}) AND n > 2 RETURNING k, v
UPDATE d SET k = k, v = upper(v) WHERE k = {k} AND id = {i} RETURNING k, v
UPDATE d SET n = n + 1 WHERE k = {k} AND id = {i} RETURNING id, n
UPDATE d SET n = n + 1, v = v || '!' WHERE k = {k}
UPDATE d SET n = -1 WHERE k = {k}
UPDATE d SET v = to_char(now(), '"x"'), at = '2024-01-01 00:00' WHERE k = {k} AND id = {i} RETURNING v, at
UPDATE d SET (v, n) = (SELECT w, 5 FROM e WHERE e.k = d.k) WHERE k = {k} AND id = {i} RETURNING v, n
UPDATE d SET v = e.w FROM e WHERE d.k = e.k AND e.k = {k} RETURNING d.id, e.w
UPDATE d SET n = 1 WHERE k = {x}
UPDATE d SET id = {new} WHERE k = {k} AND id = {i}
UPDATE d SET k = {k}, n = 4 WHERE k = {k} AND id = {i} RETURNING k, n
UPDATE d SET tags[1] = 'z', doc = doc || '{"j": 1}' WHERE k = {k} AND id = {i} RETURNING tags, doc
DELETE FROM d WHERE k = {k} AND id = {i} RETURNING *
DELETE FROM d USING e WHERE d.k = e.k AND d.k = {k} AND d.id > 90
DELETE FROM d WHERE k = {k} AND n > 100
DELETE FROM d WHERE k = {k} AND random() < 2 AND id > 95
MERGE INTO e USING (VALUES ({k}, 'm')) s (k, w) ON e.k = s.k WHEN MATCHED THEN UPDATE SET w = s.w WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.w)
MERGE INTO e USING (VALUES ({x}, 'm')) s (k, w) ON e.k = s.k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (k, w) VALUES (s.k, s.w || (now() > '2024-01-01')::text)
MERGE INTO e USING (SELECT * FROM d WHERE k = {k}) s ON e.k = s.k AND e.k = {k} WHEN MATCHED AND s.id < 0 THEN DELETE
TABLE e ORDER BY k
SELECT count(*), sum(n), sum(hashtext(d::text)) FROM d
SQL

srand(20240301);

sub instance
{
	my ($template, $serial) = @_;
	my $k = int(rand(20));
	my %value = (k => $k, x => 20 + int(rand(30)), i => $k + 20 * (1 + int(rand(4))),
		n => 1 + int(rand(4)), new => 10000 + $serial);
	(my $sql = $template) =~ s/\{(k|x|i|n|new)\}/$value{$1}/g;
	return $sql;
}

my @statements;
for my $round (1 .. 4)
{
	push @statements, map { instance($_, @statements + 100 * $round) } grep { /\S/ } @templates;
}
chomp @statements;

my $oracle = SameAnswers->new($c, { d => 'p', e => 'q' },
	"SET datestyle = 'German, DMY'; SET timezone = 'Asia/Kolkata'; SET intervalstyle = 'sql_standard';\n"
	  . "SET extra_float_digits = 0;\n$fill");

sub same
{
	my ($i, $name, @rest) = @_;
	my $errors = $oracle->same($i, $name, @rest);

	cmp_ok($errors, '>', 5, "$name: errors are among them");
	return;
}

for my $i (1 .. 3)
{
	same($i, 'alone', sub { "$_[0];\n" }, @statements);
	same($i, 'in blocks', sub {
		"BEGIN; SAVEPOINT a; $_[0];\nROLLBACK TO a; UPDATE d SET n = n + 1 WHERE k = 3 AND id = 23;\n"
		  . "$_[0];\nSELECT n FROM d WHERE k = 3 AND id = 23; COMMIT;\n" }, @statements);
}

# Prepared: the same statement for several keys, more often than the plan
# cache needs to settle for one plan.
my @prepared = map { s/\{k\}/\$1/gr =~ s/\{i\}/\$2/gr =~ s/\{n\}/2/gr =~ s/\{x\}/30/gr =~ s/\{new\}/\$3/gr }
  grep { !/'\{k\}'|'\{i\}'|\{k\}\.0|MERGE|SELECT \{k\}, \{new\}|\(SELECT \{k\}\)/ && /\{k\}/ } @templates;
for my $i (1 .. 3)
{
	same($i, 'prepared', sub {
		my ($sql, $n) = @_;
		my $new = 20000 + 10 * $n;
		return "PREPARE s (int, int, int) AS $sql;\n"
		  . join('', map { "EXECUTE s($_, " . ($_ + 40) . ', ' . ($new + $_) . ");\n" } 1 .. 8)
		  # rows of several fragments are routed by PostgreSQL, which calls NULL misplaced
		  . ($sql =~ /\), \(/ ? '' : "EXECUTE s(NULL, 1, 1);\n") . "DEALLOCATE s;\n" }, @prepared);
}

done_testing();
