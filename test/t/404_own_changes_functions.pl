# What functions that are not volatile read is what was there when the statement began
# that calls them, not what it has changed since, wherever that is; volatile ones see it.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
for my $t ('d', 'p')
{
	$c->sql(1, "CREATE TABLE $t (k int PRIMARY KEY, n int, v text DEFAULT 'x')");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'k', fragments => 6)});
my $head = q{DELETE FROM d; INSERT INTO d SELECT i, i FROM generate_series(1, 20) i;
	CREATE FUNCTION pg_temp.seen(i int) RETURNS text LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT count(*) || '/' || sum(n) || '/' || count(*) FILTER (WHERE v <> 'x') FROM d); END $$;
	CREATE FUNCTION pg_temp.in_sql(i int) RETURNS text LANGUAGE sql STABLE SET work_mem = '1MB' AS
		$$ SELECT count(*) || '/' || sum(n) || '/' || count(*) FILTER (WHERE v <> 'x') FROM d $$;
	CREATE FUNCTION pg_temp.one(i int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT v || n FROM d WHERE k = i); END $$;
	CREATE FUNCTION pg_temp.looped(i int) RETURNS text LANGUAGE plpgsql STABLE AS $$ DECLARE r record; a text; BEGIN
		FOR r IN SELECT * FROM d ORDER BY k LOOP a := concat(a, r.n, pg_temp.one(r.k)); END LOOP; RETURN a; END $$;
	CREATE FUNCTION pg_temp.now_seen(i int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM d WHERE n > 100 AND k > 0); END $$;
	CREATE FUNCTION pg_temp.changes(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN UPDATE d SET n = n + 1 WHERE k = i; RETURN pg_temp.seen(i); END $$;
};
my $oracle = SameAnswers->new($c, { d => 'p' }, $head);
my @statements = (
	(map {
		("INSERT INTO d (k, n) SELECT k + 3, 1 FROM d ON CONFLICT (k) DO UPDATE SET v = pg_temp.$_(excluded.k)",
			"INSERT INTO d (k, n) SELECT k + 30, 1 FROM d ON CONFLICT (k) DO NOTHING RETURNING pg_temp.$_(k)",
			"MERGE INTO d USING (SELECT k + 3 AS k FROM d) s ON d.k = s.k WHEN MATCHED THEN UPDATE SET v = pg_temp.$_(s.k) WHEN NOT MATCHED THEN INSERT (k, n, v) VALUES (s.k, 2, pg_temp.$_(1))",
			"UPDATE d SET n = n + 1, v = pg_temp.$_(k)",
			"UPDATE d SET n = n + 1, v = 'y' RETURNING pg_temp.$_(k)",
			"UPDATE d SET n = n + 1, v = 'y' WHERE k IN (1, 3, 5, 6) RETURNING pg_temp.$_(k + 1), pg_temp.$_(3)",
			"INSERT INTO d (k, n, v) SELECT k + 40, 1, pg_temp.$_(k) FROM d RETURNING pg_temp.$_(k), v",
			"INSERT INTO d (k, n, v) VALUES (61, 1, pg_temp.$_(1)), (62, 1, pg_temp.$_(1)), (63, 1, pg_temp.$_(1)), (64, 1, pg_temp.$_(1)) RETURNING pg_temp.$_(61), v",
			"WITH u AS (INSERT INTO d (k, n) SELECT k + 3, 1 FROM d ON CONFLICT (k) DO UPDATE SET v = pg_temp.$_(excluded.k) RETURNING v, pg_temp.$_(d.k)) SELECT *, count(*) FROM u GROUP BY 1, 2",
			"WITH u AS (UPDATE d SET v = 'y', n = 4 RETURNING pg_temp.$_(d.k)) SELECT *, count(*), pg_temp.$_(1) FROM u GROUP BY 1") } qw(seen in_sql one looped)),
	"DELETE FROM d WHERE pg_temp.seen(k) LIKE '20/%'",
	'UPDATE d SET n = n + 200 RETURNING pg_temp.now_seen(k)',
	'INSERT INTO d SELECT k + 500, 300 FROM d ON CONFLICT (k) DO NOTHING RETURNING pg_temp.now_seen(k)',
	'SELECT pg_temp.changes(4), pg_temp.changes(5), pg_temp.changes(6)');
for my $i (1, 2)
{
	$oracle->same($i, 'functions', sub { "BEGIN;\n$_[0];\nSELECT * FROM d;\nROLLBACK;\n" }, @statements);
	$oracle->same($i, 'functions, repeatable read', sub { "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$_[0];\nSELECT * FROM d;\nROLLBACK;\n" }, @statements[ 0 .. 9 ]);
}
done_testing();
