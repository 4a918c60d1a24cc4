# The planner's statistics come with the pages: as they are, even when the rows
# have changed since; what is not to be had is found by ANALYZE, and what a peer
# makes up is not believed.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

$c->sql($_, 'CREATE DOMAIN posint AS int CHECK (value > 0)') for 1, 2;
$c->sql(1, q{
	CREATE TABLE s (id bigint PRIMARY KEY, k int NOT NULL, t text, v varchar(40), d timestamptz, a int[], w tsvector,
		j jsonb, x json, n numeric, f float8, u uuid, dom posint, r int4range);
	CREATE INDEX s_lower ON s (lower(t));
	CREATE INDEX s_k ON s (k) WHERE k > 10;
	INSERT INTO s SELECT i, i % 100, 'text' || i % 1000, 'v' || i % 17, '2024-01-01'::timestamptz + i * interval '1 min',
		ARRAY[i % 5, i % 50, i % 500], to_tsvector('simple', 'w' || i % 20 || ' common'), jsonb_build_object('k', i % 9), '{}',
		i * 1.5, i / 7.0, md5(i::text)::uuid, 1 + i % 30, int4range(i, i + 10)
		FROM generate_series(1, 5000) i;
	CREATE TABLE plain (id bigint PRIMARY KEY, k int, t text);
	INSERT INTO plain SELECT i, i % 100, 't' || i FROM generate_series(1, 3000) i;
	SELECT fragaffinity.distribute_table('s', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.distribute_table('plain', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('move_path', 'page')});

sub number { return substr $_[0], 1; }

sub statistics
{
	my ($i, $table, $but) = @_;
	return $c->sql($i, "SELECT s.* FROM (SELECT CASE WHEN c.relkind = 'i' THEN 'index' ELSE 'table' END, p.attname, p.inherited, p.null_frac, p.avg_width,
			p.n_distinct, p.most_common_vals::text, p.most_common_freqs, p.histogram_bounds::text, p.correlation,
			p.most_common_elems::text, p.most_common_elem_freqs, p.elem_count_histogram,
			s.staop1, s.staop2, s.staop3, s.staop4, s.staop5, s.stacoll1, s.stacoll2, s.stacoll3, s.stacoll4, s.stacoll5
		FROM pg_stats p JOIN pg_class c ON c.relname = p.tablename JOIN pg_attribute b ON b.attrelid = c.oid AND b.attname = p.attname
		JOIN pg_statistic s ON s.starelid = c.oid AND s.staattnum = b.attnum
		WHERE c.oid = '${table}_b0_h'::regclass OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '${table}_b0_h'::regclass)) s
		WHERE attname <> ALL ('{$but}') ORDER BY 1, 2");
}

my @queries = map { "EXPLAIN SELECT * FROM s_b0_h WHERE $_" }
  'k = 42', "t = 'text5'", "lower(t) = 'text5'", "d < '2024-01-02'", 'a @> ARRAY[3]', "w @@ 'w7'::tsquery", "v > 'v3'",
  'n BETWEEN 100 AND 300', 'dom = 3', 'id > 2500 AND k = 3';

sub plans { my ($i) = @_; return join "\n", map { $c->sql($i, $_) } @queries; }

# Rows of the size that ANALYZE would find now; the statistics say otherwise.
$c->sql(1, 'ANALYZE s_b0_h');
$c->sql(1, "UPDATE s SET k = 7777, t = 'changed', v = 'changed' WHERE id % 2 = 0; DELETE FROM s WHERE id % 10 = 1");
# sizes are as of VACUUM at the source, and as they are at the destination
$c->sql(1, 'VACUUM s_b0_h');
$c->sql(1, 'DELETE FROM s WHERE id % 10 = 3');
$c->poll(1, "SELECT n_dead_tup >= 500 FROM pg_stat_user_tables WHERE relname = 's_b0_h'");
my $f = $c->fragment('s');
# those that cannot come: of a user's type, and of a kind of its own
my $left = 'dom,r';
my $before = statistics(1, 's', $left);
my $plans = plans(1);
my $sizes = $c->sql(1, "SELECT reltuples, relpages FROM pg_class WHERE oid = 's_b0_h'::regclass");
like($before, qr/text/, 'there are statistics');
$c->move($f, 'n2');
is(statistics(2, 's', $left), $before, 'statistics come as they are');
is($c->sql(2, "SELECT count(*) FROM pg_stats WHERE tablename = 's_b0_h' AND attname IN ('dom', 'r')"), '2',
	'what cannot come is found anew');
ok($c->poll(2, "SELECT n_dead_tup > 400 AND n_live_tup > 3000 FROM pg_stat_user_tables WHERE relname = 's_b0_h'"),
	'autovacuum knows of the dead rows');
is($c->sql(2, "SELECT relpages * 8192 = pg_relation_size(oid) AND relallvisible > 0 FROM pg_class WHERE oid = 's_b0_h'::regclass"), 't',
	'sizes are those here');

# Without them, all of it comes, and plans are the same to the last digit.
$c->sql(1, "CREATE TABLE p (LIKE s); ALTER TABLE p DROP dom, DROP r; CREATE TABLE q (LIKE p); DROP TABLE p;
	ALTER TABLE q ADD PRIMARY KEY (id); CREATE INDEX ON q (lower(t)); CREATE INDEX ON q (k);
	INSERT INTO q SELECT i, i % 100, 'text' || i % 1000, 'v' || i % 17, '2024-01-01'::timestamptz + i * interval '1 min',
		ARRAY[i % 5, i % 50], to_tsvector('simple', 'w' || i % 20), '{}', '{}', i * 1.5, i / 7.0, md5(i::text)::uuid
		FROM generate_series(1, 50000) i;
	SELECT fragaffinity.distribute_table('q', 'id', fragments => 1, placement => 'n1')");
$c->sql(1, 'VACUUM ANALYZE q_b0_h');
$c->sql(1, "UPDATE q SET k = 1 WHERE id < 10");
@queries = map { s/s_b0_h/q_b0_h/r } grep { !/dom/ } @queries;
my $q = $c->fragment('q');
$before = statistics(1, 'q', '');
$plans = plans(1);
my $tuples = "SELECT relkind, reltuples, relpages FROM pg_class WHERE oid = 'q_b0_h'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'q_b0_h'::regclass) ORDER BY 1, 2, 3";
my $size = $c->sql(1, $tuples);
$c->move($q, 'n2');
is(statistics(2, 'q', ''), $before, 'all of them');
is($c->sql(2, $tuples), $size, 'with the sizes');
# names of indexes are the leaf's own on each node
s/\bq_b0_h\w*/INDEX/g for $plans;
(my $now = plans(2)) =~ s/\bq_b0_h\w*/INDEX/g;
is($now, $plans, 'and plans are the same');
$c->move($q, 'n1');
is(statistics(1, 'q', ''), $before, 'there and back');

# Never analysed: the destination does it.
my $plain = $c->fragment('plain');
$c->sql(1, "DELETE FROM pg_statistic WHERE starelid = 'plain_b0_h'::regclass");
$c->move($plain, 'n2');
cmp_ok($c->sql(2, "SELECT count(*) FROM pg_stats WHERE tablename = 'plain_b0_h'"), '==', 3, 'what has none gets them');
$c->move($plain, 'n1');

# A liar at the source.
$c->sql(1, q{
	ALTER FUNCTION fragaffinity.table_statistics(oid[]) RENAME TO true_statistics;
	CREATE TABLE lie (sql text);
	INSERT INTO lie VALUES ('');
	CREATE FUNCTION fragaffinity.table_statistics(relations oid[], OUT relation int, OUT attnum int, OUT kind int,
		OUT numbers bytea, OUT "values" bytea) RETURNS SETOF record LANGUAGE plpgsql AS $$
	BEGIN
		RETURN QUERY EXECUTE 'WITH t AS (SELECT * FROM fragaffinity.true_statistics($1)) ' || (SELECT sql FROM public.lie) USING relations;
	END $$});
my $true = $c->sql(1, "SELECT count(*) FROM pg_stats WHERE tablename = 'plain_b0_h'");
my $floats = "array_send(ARRAY[%s]::real[])";
for my $lie (
	[ 'another relation', 'SELECT relation + 100, attnum, kind, numbers, "values" FROM t' ],
	[ 'another column', 'SELECT relation, attnum + 100, kind, numbers, "values" FROM t' ],
	[ 'a system column', 'SELECT relation, -attnum, kind, numbers, "values" FROM t' ],
	[ 'a column of an index', 'SELECT 2, attnum, kind, numbers, "values" FROM t' ],
	[ 'an unknown kind', 'SELECT relation, attnum, CASE WHEN kind > 0 THEN 99 ELSE 0 END, numbers, "values" FROM t' ],
	[ 'a kind twice', 'SELECT * FROM t UNION ALL SELECT * FROM t WHERE kind = 2' ],
	[ 'columns twice', 'SELECT * FROM t UNION ALL SELECT * FROM t' ],
	[ 'no numbers', 'SELECT relation, attnum, kind, NULL::bytea, "values" FROM t' ],
	[ 'nulls', 'SELECT NULL::int, NULL::int, NULL::int, NULL::bytea, NULL::bytea FROM t' ],
	[ 'wrong numbers', sprintf("SELECT relation, attnum, kind, $floats, \"values\" FROM t", '5, 5, 5') ],
	[ 'infinite numbers', sprintf("SELECT relation, attnum, kind, $floats, \"values\" FROM t", "'inf', 'nan', '-inf'") ],
	[ 'many tuples', sprintf("SELECT relation, attnum, kind, CASE WHEN attnum = 0 THEN $floats ELSE numbers END, \"values\" FROM t", '1e30, 1e30, 1e30') ],
	[ 'too many values', 'SELECT relation, attnum, kind, numbers, CASE WHEN kind = 2 THEN array_send(array_fill(1::bigint, ARRAY[200000])) ELSE "values" END FROM t' ],
	[ 'another type', 'SELECT relation, attnum, kind, numbers, CASE WHEN kind IN (1, 2) THEN array_send(ARRAY[now(), now()]) ELSE "values" END FROM t' ],
	[ 'a matrix', 'SELECT relation, attnum, kind, numbers, CASE WHEN attnum = 2 AND kind = 1 THEN array_send(ARRAY[[1, 2], [3, 4]]) ELSE "values" END FROM t' ],
	[ 'cut off', 'SELECT relation, attnum, kind, numbers, substr("values", 1, length("values") / 2) FROM t' ],
	[ 'noise', 'SELECT relation, attnum, kind, numbers, CASE WHEN "values" IS NULL THEN NULL ELSE decode(repeat(md5(random()::text), 50), \'hex\') END FROM t' ],
	[ 'more bytes', 'SELECT relation, attnum, kind, numbers, "values" || \'\x00\'::bytea FROM t' ],
	[ 'raise', 'SELECT 1 / 0, 1, 1, numbers, "values" FROM t' ])
{
	my ($name, $sql) = @$lie;
	my $started = $c->sql(2, 'SELECT pg_postmaster_start_time()');
	$sql =~ s/'/''/g;
	$c->sql(1, "UPDATE lie SET sql = '$sql'");
	$c->move($plain, 'n2');
	is($c->sql(2, "SELECT count(*) FROM pg_stats WHERE tablename = 'plain_b0_h'"), $true, "$name: ANALYZE finds out");
	my $plan = $c->sql(2, "EXPLAIN SELECT * FROM plain_b0_h WHERE k = 5 AND id > 100 AND t < 't2'");
	my ($rows) = $plan =~ /rows=(\d+)/;
	cmp_ok($rows, '<', 3001, "$name: and plans are sane");
	is($c->sql(2, 'SELECT pg_postmaster_start_time()'), $started, "$name: the server has not crashed");
	$c->move($plain, 'n1');
}
$c->check_consistent('nothing is left over');

done_testing();
