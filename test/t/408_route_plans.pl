# A session keeps the plans that it used last, not one more; and all of them are
# right when it has used many others in between.
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
done_testing();
