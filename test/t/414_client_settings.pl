# What a client sets in its session means the same for rows of other nodes as for
# its own: how text is read and written, and what statements mean.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $columns = "k int PRIMARY KEY, a text[], m int[], x xml, v text, d timestamptz, i interval, f float8, b bytea";
$c->sql(1, "CREATE TABLE d_t ($columns); CREATE TABLE p_t ($columns);
	SELECT fragaffinity.distribute_table('d_t', 'k', fragments => 4)");

# Of a null in an array and the word, XML that is no document, backslashes.
my $rows = q{SET standard_conforming_strings = on; TRUNCATE d_t;
	INSERT INTO d_t SELECT i, ARRAY[NULL, 'NULL', '"', E'\\\\', i::text], ARRAY[i, NULL], xmlparse(content 'a<b/>'), E'a\\\\' || i,
	timestamptz '2024-02-03 04:05:06.7+00' + i * interval '1 day', make_interval(months => -i, days => i, secs => 1.5 - i), i / 3.0::float8, decode('00ff5c' || lpad(i::text, 2, '0'), 'hex')
	FROM generate_series(1, 12) i;
	SET timezone = 'UTC';} . "\n";
my @statements = split /\n/, <<'SQL';
SELECT * FROM d_t
SELECT * FROM d_t WHERE k = 1
SELECT * FROM d_t WHERE k IN (1, 2, 3, 4, 5)
SELECT k, a || NULL, '{NULL,a}'::text[], x FROM d_t WHERE k < 4 OR k > 9
SELECT count(*) FROM d_t WHERE a[1] IS NULL AND m[2] IS NULL AND a[2] = 'NULL'
SELECT k FROM d_t WHERE (a[4] || ',{NULL}')::text <> v AND ('{' || a[2] || '}')::text[] = '{NULL}'
SELECT x.k, y.a FROM d_t x JOIN d_t y ON y.k = x.m[1] WHERE y.a[1] IS NULL
UPDATE d_t SET v = v || '\\n' WHERE k = 3 RETURNING *
UPDATE d_t SET a = '{NULL,b}', m = ARRAY[NULL, 1] WHERE k IN (1, 2, 3) RETURNING a, m, x
UPDATE d_t x SET v = y.v FROM (SELECT k + 1 AS k, v FROM d_t) y WHERE x.k = y.k RETURNING x.a, x.v
UPDATE d_t SET k = k + 20 WHERE k < 5 RETURNING *
INSERT INTO d_t VALUES (31, '{NULL,"NULL"}', NULL, 'x', '\\', '05/04/2024 03:02:01', '-1 day 2 hours', 0.1, '\\x01'), (32, ARRAY[NULL], '{1}', '', 'a', date_trunc('century', now()), '1', 1e-7, '\\000') RETURNING a, m, x, v, i, f, b
INSERT INTO d_t SELECT k + 40, a, m, x, v, d, i, f, b FROM d_t WHERE k < 8 RETURNING a, x, d
INSERT INTO d_t (k, a) VALUES (31, '{NULL}') ON CONFLICT (k) DO UPDATE SET a = d_t.a || '\\'::text RETURNING a, v
DELETE FROM d_t WHERE v = 'a\\7' OR v LIKE '%\\\\8' RETURNING k, a, v
DELETE FROM d_t WHERE v LIKE E'a\\\\9' ESCAPE '!' AND k = 9 RETURNING k, a, v
SELECT k FROM d_t WHERE k = 10 AND v IN ('a\\10', E'a\\\\10', 'a\10')
SELECT k, v FROM d_t WHERE k = 10 AND v = E'a\\10' AND coalesce(v, '\\') <> '\'''
SELECT k FROM d_t WHERE v = NULL
SELECT k FROM d_t WHERE k = 11 AND d > '03/02/2024' AND i < '-1-2'
WITH w AS (DELETE FROM d_t WHERE k IN (10, 11, 12) RETURNING a, x, i) SELECT * FROM w
SELECT * FROM d_t ORDER BY k
SQL
my $oracle = SameAnswers->new($c, { d_t => 'p_t' }, $rows);

for my $settings ('array_nulls = off', 'xmloption = document', 'standard_conforming_strings = off', 'DateStyle = "SQL, DMY"', 'DateStyle = German',
	'IntervalStyle = sql_standard', 'IntervalStyle = iso_8601', 'extra_float_digits = -5', 'bytea_output = escape', 'transform_null_equals = on',
	'quote_all_identifiers = on', 'TimeZone = "<+03>-03"')
{
	for my $async ('on', 'off')
	{
		$oracle->{head} = "$rows SET $settings; SET enable_async_append = $async;\n";
		$oracle->same(1, "$settings, async $async", sub { "$_[0];\n" }, @statements);
		$oracle->same(2, "$settings, in a block, async $async", sub { "BEGIN; SAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nCOMMIT;\n" }, @statements);
	}
}

# What is read for statistics.
$c->sql(1, "$rows SET array_nulls = off; SET xmloption = document; ANALYZE d_t");
is($c->sql(1, "SELECT null_frac FROM pg_stats WHERE tablename = 'd_t' AND attname = 'a' AND inherited"), '0', 'statistics of all nodes');
# A text that has been written under one setting is not used under another.
for my $i (1, 2)
{
	is($c->sql($i, join '', map { "SET standard_conforming_strings = $_; SELECT count(*) FROM d_t WHERE k = 7 AND v = E'a\\\\7' AND v LIKE E'%\\\\7';" } qw(off on off on)),
		"1\n1\n1\n1", "backslashes under both settings, node $i");
}
done_testing();
