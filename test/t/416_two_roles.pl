# Rows of another node, used as several roles in one transaction: what one of them has
# changed the others see, as on a plain table, and none gets what is another's.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, q{CREATE ROLE a LOGIN; CREATE ROLE b LOGIN; CREATE SCHEMA f; CREATE SCHEMA o; GRANT USAGE ON SCHEMA f, o TO a, b;
	CREATE FUNCTION me() RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END'}) for 1, 2;
for my $schema ('f', 'o')
{
	$c->sql(1, "SET search_path = $schema, public; " . q{CREATE TABLE t (k int PRIMARY KEY, v int NOT NULL); CREATE TABLE u (LIKE t INCLUDING ALL);
		CREATE TABLE p (k int PRIMARY KEY, who text DEFAULT current_user, at text);
		INSERT INTO t SELECT i, 0 FROM generate_series(1, 60) i; INSERT INTO u SELECT * FROM t; INSERT INTO p VALUES (1, 'a', 'x'), (2, 'b', 'x'), (3, 'b', 'y')});
	$c->sql(1, q{SELECT fragaffinity.distribute_table('f.t', 'k', 4, placement => 'n2'); SELECT fragaffinity.distribute_table('f.u', 'k', 4, colocate_with => 'f.t');
		SELECT fragaffinity.distribute_table('f.p', 'k', 2, placement => 'n2')}) if $schema eq 'f';
	$c->sql(1, "SET search_path = $schema, public; " . q{GRANT ALL ON t, p TO a, b; GRANT SELECT ON u TO b; CREATE VIEW w AS SELECT * FROM t; GRANT SELECT, UPDATE ON w TO a;
		CREATE FUNCTION seen(i int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT v FROM t WHERE k = i';
		CREATE FUNCTION total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT sum(v) FROM t';
		CREATE FUNCTION more(i int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN UPDATE t SET v = v + 1 WHERE k = i; RETURN i; END';
		CREATE FUNCTION log(i int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'UPDATE u SET v = v + 1 WHERE k = i RETURNING v';
		CREATE FUNCTION every() RETURNS SETOF t LANGUAGE plpgsql SECURITY DEFINER AS 'DECLARE r t; BEGIN FOR r IN SELECT * FROM t ORDER BY k LOOP RETURN NEXT r; END LOOP; END';
		ALTER TABLE p ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON p USING (who = me());
		CREATE VIEW pw AS SELECT * FROM p; ALTER VIEW pw OWNER TO b; GRANT ALL ON pw TO a});
}

# Rows and SQLSTATE of statements, of which the first is to be as a.
sub run_as
{
	my ($schema, $sql) = @_;
	my ($out, $err) = ('', '');

	$c->node(1)->psql('postgres', "\\set VERBOSITY verbose\nSET search_path = $schema, public; BEGIN; SET LOCAL ROLE a; $sql",
		stdout => \$out, stderr => \$err, on_error_stop => 1);
	return $out . ($err =~ /ERROR:\s+(\w{5}):/ ? "\n$1" : '');
}

sub as_plain
{
	my ($sql, $like) = @_;
	my ($got, $plain) = map { run_as($_, $sql) } 'f', 'o';

	is($got, $plain, $sql);
	like($plain, $like, 'is something') if $like;
}

my $change = 'UPDATE t SET v = 5 WHERE k = 1';
as_plain("$change; $_; ROLLBACK", qr/^\S/) for 'SELECT * FROM w WHERE k = 1', 'SELECT sum(v) FROM w', 'SELECT seen(1)', 'SELECT total()',
	'SELECT more(1), v FROM t WHERE k = 1', 'SELECT more(1); SELECT v FROM t WHERE k = 1',
	'UPDATE w SET v = 6 WHERE k = 1 RETURNING v', 'UPDATE w SET v = v + 1 WHERE v = 5 RETURNING k', 'UPDATE w SET v = 6 WHERE k = 1; SELECT v FROM t WHERE k = 1',
	'SET LOCAL ROLE b; SELECT v FROM t WHERE k = 1', 'SET LOCAL ROLE b; SELECT sum(v) FROM t',
	'SET LOCAL ROLE b; UPDATE t SET v = 7 WHERE k = 1; SET LOCAL ROLE a; SELECT v FROM t WHERE k = 1',
	'SET LOCAL ROLE b; SELECT sum(t.v) FROM u JOIN t USING (k)', 'SET LOCAL ROLE b; DELETE FROM t WHERE v = 5 RETURNING k',
	'SET LOCAL ROLE b; COPY (SELECT * FROM t WHERE v = 5) TO STDOUT',
	'SET LOCAL ROLE b; INSERT INTO t VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = t.v + 3 RETURNING v',
	'SET LOCAL ROLE b; INSERT INTO t SELECT i, 9 FROM generate_series(61, 90) i; SET LOCAL ROLE a; SELECT sum(v) FROM t',
	'SET LOCAL ROLE b; TRUNCATE t; SET LOCAL ROLE a; SELECT count(*) FROM t',
	'SET LOCAL ROLE b; UPDATE t SET k = 100 WHERE k = 1; SET LOCAL ROLE a; SELECT v FROM t WHERE k = 100',
	'SELECT sum(x.v) FROM t, LATERAL (SELECT v FROM w WHERE w.k = t.k) x', 'SELECT sum(e.v + t.v + seen(t.k)) FROM every() e JOIN t USING (k)',
	'SELECT k, more(k), seen(k), (SELECT v FROM w WHERE w.k = t.k) FROM t ORDER BY k',
	'WITH x AS (UPDATE t SET v = 8 WHERE k < 4 RETURNING *), y AS (UPDATE w SET v = 9 WHERE k > 57 RETURNING *) SELECT sum(w.v) + (SELECT sum(v) FROM x) + (SELECT sum(v) FROM y) FROM w',
	'DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 2 FROM c; SELECT more(1); SELECT total(); FETCH 1 FROM c',
	'DECLARE c CURSOR FOR SELECT v FROM w ORDER BY k; FETCH 1 FROM c; UPDATE t SET v = 6; SELECT more(2); SELECT total(); FETCH 2 FROM c',
	'SAVEPOINT s; SELECT more(1); ROLLBACK TO s; SELECT v FROM t WHERE k = 1; SELECT seen(1)',
	'SAVEPOINT s; SELECT more(1); RELEASE s; SELECT v FROM t WHERE k = 1; SELECT seen(1)',
	'SELECT seen(1); SAVEPOINT s; SELECT v FROM t WHERE k = 1; ROLLBACK TO s; SELECT count(*) FROM w',
	'SELECT log(1); SELECT * FROM u WHERE k = 1', 'SELECT log(1); UPDATE u SET v = 0', 'SELECT log(1); SET LOCAL ROLE b; UPDATE u SET v = 0 WHERE k = 1',
	'SELECT log(1); SAVEPOINT s; SELECT 1/(SELECT v FROM t WHERE k = 2); ROLLBACK TO s; SELECT count(*) FROM u',
	q{UPDATE p SET at = 'z'; SELECT k, at FROM p; SELECT k, at FROM pw ORDER BY k; UPDATE pw SET at = at || 'b'; SELECT k, at FROM p; SET LOCAL ROLE b; SELECT k, at FROM p ORDER BY k; RESET ROLE; SELECT count(*) FROM p},
	q{INSERT INTO p (k) VALUES (10); SET LOCAL ROLE b; INSERT INTO p (k) VALUES (11); SET LOCAL ROLE a; INSERT INTO p (k) VALUES (12); RESET ROLE; SELECT k, who FROM p ORDER BY k},
	q{SET LOCAL ROLE b; UPDATE p SET at = 'z'; SET LOCAL ROLE a; SELECT count(*) FROM p; INSERT INTO p VALUES (20, 'b')};
is($c->sql(1, 'SELECT sum(v) FROM f.t'), '0', 'nothing has changed');

as_plain($_) for 'SELECT v FROM t WHERE k = 1 FOR UPDATE; SELECT more(1); COMMIT; SELECT v FROM t WHERE k = 1',
	"SELECT seen(1); SELECT v FROM t WHERE k = 1; $change; SELECT v FROM t WHERE k = 1; SELECT seen(1); COMMIT",
	'SELECT log(1); UPDATE t SET v = 10 WHERE k = 1; SET LOCAL ROLE b; UPDATE t SET v = v + 1 WHERE k = 1; COMMIT',
	"SET LOCAL ROLE b; INSERT INTO p (k, at) VALUES (30, 'z'); SELECT log(2); SET LOCAL ROLE a; INSERT INTO p (k) VALUES (31); COMMIT; SELECT * FROM p ORDER BY k";
is($c->sql(2, 'SELECT t.v, u.v FROM f.t JOIN f.u USING (k) WHERE k = 1'), '11|1', 'one commit of all');
run_as('f', 'UPDATE o.t SET v = 70 WHERE k = 60; SELECT log(60); SET LOCAL ROLE b; UPDATE t SET v = 71 WHERE k = 60; COMMIT');
is($c->sql(1, 'SELECT o.v, t.v, u.v FROM o.t o JOIN f.t USING (k) JOIN f.u USING (k) WHERE k = 60'), '70|71|1', 'with rows of this node, prepared while it acts as another');
is($c->sql(2, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'and nothing is left');

# What a session acts as is for nodes to say, and what runs in it cannot become another.
for my $set ('SET fragaffinity.act_as = postgres', 'SET fragaffinity.act_as TO DEFAULT', 'SET LOCAL fragaffinity.act_as = b', "SELECT set_config('fragaffinity.act_as', 'b', true)")
{
	like(($c->fails(2, "SET SESSION AUTHORIZATION a; $set"))[0], qr/^42/, "refused: $set");
	like(($c->fails(2, $set))[0], qr/^42/, "refused to a superuser: $set");
}
$c->sql($_, q{CREATE FUNCTION refused(what text) RETURNS bool LANGUAGE plpgsql AS
	'BEGIN EXECUTE what; RETURN false; EXCEPTION WHEN OTHERS THEN RETURN true; END';
	CREATE FUNCTION held(i int) RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT public.me() = 'b' AND public.refused('SET fragaffinity.act_as = postgres') AND
		public.refused('SET fragaffinity.act_as TO DEFAULT') AND public.refused('RESET ROLE') AND public.refused('SET ROLE a') AND public.refused('RESET SESSION AUTHORIZATION') $$}) for 1, 2;
$c->sql(1, q{CREATE TABLE f.h (k int PRIMARY KEY CHECK (public.held(k)));
	SELECT fragaffinity.distribute_table('f.h', 'k', 2, placement => 'n2'); GRANT ALL ON f.h TO a, b});
is(run_as('f', "$change; INSERT INTO h VALUES (1); COMMIT"), "\n23514", 'a CHECK that would become another, as a: refused');
is(run_as('f', "$change; SET LOCAL ROLE b; INSERT INTO h VALUES (1); SELECT count(*) FROM h; COMMIT"), '1', 'as b in the session of a: it cannot');

# What one role's code has set does not decide what another's statements mean.
$c->sql($_, q{CREATE SCHEMA evil; CREATE FUNCTION evil.lower(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END'; GRANT USAGE ON SCHEMA evil TO PUBLIC;
	CREATE FUNCTION evil.path(i int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('search_path', 'evil, pg_catalog', i < 0) IS NOT NULL; END $$}) for 1, 2;
$c->sql(1, q{CREATE TABLE f.e (k int PRIMARY KEY CHECK (evil.path(k)), x text);
	SELECT fragaffinity.distribute_table('f.e', 'k', 2, placement => 'n2'); GRANT ALL ON f.e TO a, b;
	CREATE FUNCTION f.low() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM f.e WHERE pg_catalog.lower(x) = 'x' $$});
like(run_as('f', "INSERT INTO e VALUES ($_, 'X'); SELECT low(); ROLLBACK"), qr/^1$/, "search_path: $_") for 1, -1;
is(run_as('f', "$change; SET LOCAL ROLE b; INSERT INTO e VALUES (1, 'X'); COMMIT; SET ROLE a; SELECT count(*) FROM e WHERE pg_catalog.lower(x) = 'x'"), '1', 'nor in the next transaction');
is(run_as('f', "INSERT INTO e VALUES (2, 'X'); SELECT low(); COMMIT; BEGIN; SET LOCAL ROLE a; SELECT count(*) FROM e WHERE pg_catalog.lower(x) = 'x'"), "2\n2", 'of the session itself');

# Roles that may not log in have no session of their own anywhere.
$c->sql($_, 'CREATE ROLE own NOLOGIN; GRANT USAGE ON SCHEMA f, o TO own; CREATE ROLE rd NOLOGIN; GRANT USAGE ON SCHEMA f, o TO rd; GRANT rd, own TO a') for 1, 2;
for my $schema ('f', 'o')
{
	$c->sql(1, "SET search_path = $schema, public; " . q{CREATE TABLE n (k int PRIMARY KEY, v int); INSERT INTO n SELECT i, i FROM generate_series(1, 60) i});
	$c->sql(1, q{SELECT fragaffinity.distribute_table('f.n', 'k', 4, placement => 'n2')}) if $schema eq 'f';
	$c->sql(1, "SET search_path = $schema, public; " . q{ALTER TABLE n OWNER TO own; GRANT SELECT ON n TO rd; CREATE VIEW nw AS SELECT * FROM n; ALTER VIEW nw OWNER TO own; GRANT ALL ON nw TO a;
		CREATE FUNCTION nf(i int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'UPDATE n SET v = v + 1 WHERE k = i RETURNING v'; ALTER FUNCTION nf OWNER TO own});
}
as_plain($_, qr/\S/) for 'SELECT count(*) FROM nw', 'SELECT v FROM nw WHERE k = 3', 'SELECT * FROM n ORDER BY k', 'SET ROLE rd; SELECT sum(v) FROM n WHERE k IN (1, 2, 3)', 'SET ROLE rd; UPDATE n SET v = 0',
	'UPDATE nw SET v = 0 WHERE k = 3 RETURNING v; SELECT nf(3), nf(4); SELECT sum(v) FROM nw; COMMIT', 'SET ROLE own; DELETE FROM n WHERE k = 50 RETURNING v';
my ($rows, $plain) = map { $c->sql(1, "SET SESSION AUTHORIZATION a; SET search_path = $_; SET ROLE own; UPDATE n SET v = 7 WHERE k = 7; INSERT INTO n VALUES (7, 1), (70, 1), (71, 1) ON CONFLICT (k) DO UPDATE SET v = 8;
	COPY n FROM STDIN;\n80\t1\n81\t2\n82\t3\n\\.\nANALYZE n; SELECT sum(v), count(*) FROM n") } 'f', 'o';
is($rows, $plain, 'each alone');
is($c->sql(2, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left');
ok($c->check_consistent('at the end'), 'consistent');
done_testing();
