# A statement sees the rows as they were when it began, wherever they are: not what
# it changes itself, nor what statements inside of it change, also where a scan of
# another node begins only then.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
for my $t ('d', 'p')
{
	$c->sql(1, "CREATE TABLE $t (k int PRIMARY KEY, n int, m int)");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'k', fragments => 6)});

my $oracle = SameAnswers->new($c, { d => 'p' }, '');
$oracle->{head} = q{
	TRUNCATE d; INSERT INTO d SELECT i, i % 7, i % 5 FROM generate_series(1, 60) i;
	CREATE FUNCTION pg_temp.loop(what text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r record; s bigint := 0; c int := 0; BEGIN
		FOR r IN SELECT * FROM d LOOP
			s := s + r.n; c := c + 1;
			IF c % 20 = 1 THEN
				BEGIN EXECUTE what; IF c > 20 THEN RAISE SQLSTATE 'XX001'; END IF; EXCEPTION WHEN SQLSTATE 'XX001' THEN s := s + 1; END;
			END IF;
		END LOOP;
		RETURN concat_ws(' ', c, s, (SELECT sum(n) FROM d)); END $$;
	CREATE FUNCTION pg_temp.often() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r record; s bigint := 0; x bigint; c int := 0; BEGIN
		FOR r IN SELECT * FROM d LOOP
			s := s + r.n; c := c + 1;
			FOR i IN 1 .. CASE WHEN c = 1 THEN 80 ELSE 0 END LOOP
				WITH w AS (UPDATE d SET n = n + 1 WHERE m = 2 RETURNING (SELECT sum(y.n) FROM d y) AS t) SELECT max(t) INTO x FROM w;
				s := s + x;
			END LOOP;
		END LOOP;
		RETURN concat_ws(' ', c, s, (SELECT sum(n) FROM d)); END $$;
	CREATE FUNCTION pg_temp.opened(what text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE c refcursor; r record; a text := ''; BEGIN
		OPEN c FOR EXECUTE what;
		BEGIN UPDATE d SET n = n + 100; FETCH c INTO r; a := r::text; RAISE SQLSTATE 'XX001'; EXCEPTION WHEN SQLSTATE 'XX001' THEN UPDATE d SET m = m + 1; END;
		LOOP FETCH c INTO r; EXIT WHEN NOT FOUND; a := a || r; END LOOP;
		RETURN a; END $$;
	CREATE FUNCTION pg_temp.touch(i int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
		IF i % 15 = 0 THEN UPDATE d SET n = n + 1000; RETURN (SELECT count(*) FROM d WHERE n >= 1000); END IF;
		RETURN 0; END $$;
};
my @statements = (
	'UPDATE d SET n = n + 100 RETURNING k, (SELECT sum(y.n) FROM d y)',
	'UPDATE d SET n = n + 100 WHERE m = 2 RETURNING k, (SELECT sum(y.n) FROM d y WHERE y.m = d.m), (SELECT min(n) FROM d z WHERE z.k = d.k + 1)',
	'UPDATE d SET n = n + 100 WHERE n < 9 RETURNING k, n IN (SELECT y.n + 100 FROM d y)',
	'UPDATE d SET n = abs(n) + (random() < 2)::int RETURNING k, (SELECT count(*) FROM d y WHERE y.n > 5)',
	'DELETE FROM d WHERE m = 3 RETURNING k, (SELECT count(*) FROM d y), EXISTS (SELECT FROM d y WHERE y.k = d.k)',
	'DELETE FROM d x WHERE n < (SELECT avg(y.n) FROM d y WHERE y.m = x.m) RETURNING k, (SELECT count(*) FROM d y WHERE y.m = x.m)',
	'INSERT INTO d SELECT k + 1000, n, m FROM d RETURNING k, (SELECT count(*) FROM d y)',
	'INSERT INTO d SELECT y.k + 2000, y.n, x.m FROM d x JOIN d y ON x.k = y.n RETURNING k, (SELECT max(k) FROM d)',
	'UPDATE d SET k = k + 5000 WHERE m = 1 RETURNING k, (SELECT max(k) FROM d y)',
	'WITH w AS (UPDATE d SET n = n + 100 RETURNING k) SELECT count(*), (SELECT sum(n) FROM d) FROM w',
	'WITH w AS (UPDATE d SET n = n + 100 RETURNING k, n) SELECT w.k, w.n, d.n FROM w JOIN d USING (k)',
	'WITH w AS (DELETE FROM d WHERE m < 3 RETURNING *) SELECT (SELECT count(*) FROM w), count(*), sum(n) FROM d',
	'WITH w AS (INSERT INTO d SELECT k + 3000, n, m FROM d RETURNING *) SELECT count(*), sum(w.n) FROM w LEFT JOIN d USING (k)',
	'WITH w AS (UPDATE d SET n = 0 RETURNING k), v AS (INSERT INTO d SELECT k + 4000, n, m FROM d RETURNING n) SELECT (SELECT sum(n) FROM v), (SELECT count(*) FROM w)',
	'WITH w AS (UPDATE d SET n = n + 1 RETURNING k) UPDATE d SET m = n WHERE k IN (SELECT k - 3000 FROM w)',
	(map { ("WITH w AS (UPDATE d SET n = n + 100 WHERE k = $_ RETURNING k) UPDATE d SET n = n + 1000",
		"WITH w AS (UPDATE d SET n = n + 100) UPDATE d SET n = n + 1000 WHERE k = $_ RETURNING k, n",
		"WITH w AS (DELETE FROM d WHERE k = $_ RETURNING n), v AS (UPDATE d SET n = n + 1000 RETURNING n) SELECT (SELECT count(*) FROM w), (SELECT count(*) FROM v)",
		"WITH w AS (INSERT INTO d VALUES ($_ + 7000, 1, 1) RETURNING n) UPDATE d SET n = n + 1000 RETURNING k") } 1 .. 4),
	q{SELECT pg_temp.loop('UPDATE d SET n = n + 1000')},
	q{SELECT pg_temp.loop('DELETE FROM d WHERE m > 1')},
	q{SELECT pg_temp.loop('INSERT INTO d SELECT k + 10000 + (SELECT count(*) FROM d), n, m FROM d')},
	q{SELECT pg_temp.loop('UPDATE d SET n = n + 1000 RETURNING (SELECT sum(n) FROM d)')},
	q{SELECT pg_temp.loop('WITH w AS (UPDATE d SET n = n + 1000 RETURNING k) INSERT INTO d SELECT w.k + 20000, d.n, 5 FROM w JOIN d USING (k) WHERE d.k < 9')},
	'SELECT pg_temp.often()',
	(map { "SELECT pg_temp.opened('$_')" } 'SELECT * FROM d ORDER BY k', 'SELECT x.k, y.n FROM d x JOIN d y ON y.k = x.n ORDER BY 1',
		'SELECT k, (SELECT sum(n) FROM d y WHERE y.m = x.m) FROM d x ORDER BY 1'),
	(map { ("BEGIN; DECLARE c CURSOR FOR SELECT sum(n), count(*) FROM d WHERE k = $_; DECLARE e CURSOR FOR SELECT * FROM d WHERE k = $_;\nUPDATE d SET n = n + 100 WHERE k = $_;\nFETCH ALL FROM c; FETCH ALL FROM e; COMMIT",
		"BEGIN; DECLARE c CURSOR FOR SELECT * FROM d WHERE k = $_; SAVEPOINT s; UPDATE d SET n = n + 100;\nMOVE 1 FROM c; ROLLBACK TO s;\nMOVE ALL FROM c; COMMIT") } 1 .. 4),
	(map { "BEGIN; DECLARE c CURSOR FOR $_; SAVEPOINT s; UPDATE d SET n = n + 100;\nMOVE 1 FROM c; ROLLBACK TO s;\nUPDATE d SET n = n + 1; FETCH ALL FROM c;\nSELECT sum(n) FROM d; COMMIT" }
		'SELECT * FROM d ORDER BY k', 'SELECT x.k, y.n FROM d x JOIN d y ON y.k = x.n ORDER BY 1', 'SELECT count(*) FROM d WHERE n < (SELECT max(n) FROM d)',
		'SELECT k, (SELECT sum(n) FROM d y WHERE y.m = x.m) FROM d x ORDER BY 1'),
	"BEGIN; DECLARE c CURSOR FOR SELECT * FROM d; SAVEPOINT s; UPDATE d SET n = n;\nMOVE 1 FROM c; ROLLBACK TO s;\nMOVE ALL FROM c; COMMIT",
	'SELECT sum(n), sum((pg_temp.touch(k) > 0)::int) FROM d',
	'SELECT x.n, y.n FROM d x, d y WHERE pg_temp.touch(x.k) > 0 AND y.k = x.k + 1',
	'SELECT k, n FROM d WHERE pg_temp.touch(k) >= 0 AND n > 5',
	'SELECT sum(n) FROM d WHERE m = (SELECT 2 FROM d WHERE k = 15 AND pg_temp.touch(k) > 0)',
	"BEGIN; DECLARE c SCROLL CURSOR FOR SELECT * FROM d;\nFETCH 1 FROM c \\g /dev/null\nUPDATE d SET n = n + 10000; DELETE FROM d WHERE m = 4; INSERT INTO d VALUES (-1, 0, 0);\nMOVE BACKWARD ALL FROM c; FETCH ALL FROM c; SELECT count(*), sum(n) FROM d; COMMIT",
	"BEGIN; DECLARE c SCROLL CURSOR FOR SELECT x.k, x.n, (SELECT sum(n) FROM d y WHERE y.m = x.m) FROM d x ORDER BY k;\nFETCH 1 FROM c; UPDATE d SET n = n + 10000;\nSAVEPOINT s; UPDATE d SET n = n + 5; ROLLBACK TO s; FETCH 2 FROM c; SELECT sum(n) FROM d;\nUPDATE d SET n = 1; FETCH ALL FROM c; SELECT sum(n) FROM d; COMMIT");
my $all = 'SELECT count(*), sum(n), sum(m) FROM d';
# each from the same rows
my %forms = (
	alone => sub { "$_[0];\n$all;\nTRUNCATE d; INSERT INTO d SELECT i, i % 7, i % 5 FROM generate_series(1, 60) i;\n" },
	block => sub { $_[0] =~ /BEGIN/ ? '' : "BEGIN; UPDATE d SET n = n + 1 WHERE k < 10; SAVEPOINT a;\n$_[0];\n$all;\nROLLBACK TO a;\n$all;\n$_[0];\n$all;\nROLLBACK;\n" },
	'repeatable read' => sub { $_[0] =~ /BEGIN/ ? '' : "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$_[0];\n$all;\nROLLBACK;\n" });
for my $form (sort keys %forms)
{
	$oracle->same($_, $form, $forms{$form}, @statements) for 1 .. 3;
}

# In REPEATABLE READ, nor what others change, wherever the cursor has begun.
$c->sql(1, 'TRUNCATE d; INSERT INTO d SELECT i, i, i FROM generate_series(1, 4) i');
my $s = $c->node(1)->background_psql('postgres');
$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$s->query_safe("DECLARE c$_ CURSOR FOR SELECT n FROM d WHERE k = $_") for 1 .. 4;
$c->sql(2, 'UPDATE d SET n = n + 100');
is($s->query_safe("FETCH 1 FROM c$_") . '/' . $s->query_safe("SELECT n FROM d WHERE k = $_"), "$_/$_", "row $_ as it was") for 1 .. 4;
$s->query_safe('COMMIT');
$s->quit;

# A query that an error has ended is not begun by the savepoints after it.
$c->sql($_, q{ALTER SYSTEM SET log_statement = 'all'}) for 2, 3;
$c->sql($_, 'SELECT pg_reload_conf()') for 2, 3;
ok($c->poll($_, 'SHOW log_statement', 'all'), "node $_ logs") for 2, 3;
my $cursors = sub { return scalar(() = join('', map { slurp_file($c->node($_)->logfile) } 2, 3) =~ /DECLARE c\d+ CURSOR/g) };
my $before = $cursors->();
is($c->sql(1, q{
	TRUNCATE d; INSERT INTO d SELECT i, i, i FROM generate_series(1, 60) i;
	CREATE FUNCTION fails() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT sum(1 / (n - n)) FROM d';
	CREATE FUNCTION caught() RETURNS int LANGUAGE plpgsql SET enable_async_append = off AS $$
	DECLARE x bigint; c int := 0; BEGIN
		FOR i IN 1 .. 5 LOOP
			BEGIN x := fails(); EXCEPTION WHEN division_by_zero THEN c := c + 1; END;
		END LOOP;
		RETURN c; END $$;
	SELECT caught()}), '5', 'all errors are caught');
is($cursors->(), $before, 'without asking other nodes');
done_testing();
