# A session keeps the plans that it used last, not one more; and all of them are
# right when it has used many others in between.  What its first statements on a
# table cost does not depend on how many fragments there are.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 1);
my $n = 400;
$c->sql(1, "
	CREATE TABLE t (k int PRIMARY KEY, v int, w int);
	INSERT INTO t SELECT i, i, -i FROM generate_series(1, 20000) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => $n);
	CREATE TABLE keys AS SELECT row_number() OVER (ORDER BY bucket) AS i, k FROM
		(SELECT fragaffinity.bucket_of('t', k) AS bucket, min(k) AS k FROM t GROUP BY 1) b;
	CREATE TABLE seen (i int, v int, w int, x int);
	CREATE TABLE plans (n int)");
is($c->sql(1, 'SELECT count(*) FROM keys'), $n, 'a key for each fragment');

# A new session learns of the buckets that it uses, not of all.
my $knows_all = q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'partition descriptor' AND ident = 't'};
is($c->sql(1, "$_; $knows_all"), '0', "$_: without a look at other buckets")
  for 'SELECT FROM t WHERE k = 5', 'UPDATE t SET v = v WHERE k = 6', 'DELETE FROM t WHERE k = -1', 'INSERT INTO t VALUES (-2, 0, 0)',
  'INSERT INTO t VALUES (5, 0, 0) ON CONFLICT (k) DO UPDATE SET v = t.v', 'PREPARE s AS SELECT FROM t WHERE k = $1; EXECUTE s (7); EXECUTE s (8)',
  'SELECT FROM t x JOIN t y USING (k) WHERE k = 9', q{SELECT FROM t WHERE k = 5 AND fragaffinity.bucket_of('t', k) < 0};
is($c->sql(1, "SELECT FROM t WHERE v = -5; $knows_all"), '1', 'a statement on all of them needs all');
$c->sql(1, 'DELETE FROM t WHERE k < 0');

# Three statements on each fragment, so 1,200 plans; first what has no plan yet,
# as a statement's first execution is not kept.
my $dir = $PostgreSQL::Test::Utils::tmp_check;
append_to_file("$dir/each.sql", q{\set i 1 + :i % } . $n . q{
SELECT k FROM keys WHERE i = :i \gset
SELECT v FROM t WHERE k = :k \gset
SELECT w FROM t WHERE k = :k AND v = :v \gset
SELECT v + w AS x FROM t WHERE k = :k AND w = :w \gset
INSERT INTO seen VALUES (:i, :v, :w, :x);
INSERT INTO plans SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'fragaffinity plan';
});
$c->node(1)->command_ok([ 'pgbench', '-n', '-M', 'prepared', '-c', 1, '-t', 3 * $n, '-D', 'i=0', '-f', "$dir/each.sql",
	'-h', '127.0.0.1', '-p', $c->node(1)->port, 'postgres' ], 'many statements on many fragments');
is($c->sql(1, 'SELECT max(n) FROM plans'), '1024', 'as many plans as there may be');
is($c->sql(1, "SELECT min(n) FROM (SELECT n FROM plans OFFSET $n) p"), '1024', 'and no fewer, from then on');
is($c->sql(1, 'SELECT count(*) FROM seen JOIN keys USING (i) WHERE v <> k OR w <> -k OR x <> 0'), '0', 'all answers are right');

# A function in SQL has one memory for all its calls in a query; what each execution
# needed for itself does not stay there.
$c->sql(1, q{CREATE FUNCTION counted(int) RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM t WHERE k IN ($1, $1 + 1) $$});
my $calls = q{SELECT (SELECT sum(counted(i)) FROM generate_series(1, %d) i), (SELECT sum(total_bytes) FROM pg_backend_memory_contexts)};
my ($few, $many) = map { [ split /\|/ ] } (split /\n/, $c->sql(1, join '; ', map { sprintf $calls, $_ } 200, 3, 200))[ 1, 2 ];
is("$few->[0] $many->[0]", '6 400', 'a function, called often');
cmp_ok($many->[1] - $few->[1], '<', 4000000, 'takes no more memory than one that is called some times');
done_testing();
