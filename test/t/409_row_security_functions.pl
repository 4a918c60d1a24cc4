# What a peer's session may read of a bucket, functions of tables' owners that it runs
# may not: of a check of new rows, or of a domain, in any language.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
for my $i (1, 2)
{
	$c->sql($i, q{
		CREATE ROLE app LOGIN;
		CREATE SCHEMA app AUTHORIZATION app;
		SET ROLE app;
		CREATE TABLE app.loot (how text, rows bigint);
		CREATE FUNCTION app.note(how text, bucket text) RETURNS boolean LANGUAGE plpgsql AS $$
			DECLARE n bigint;
			BEGIN
				EXECUTE 'SELECT count(*) FROM public.' || bucket INTO n;
				INSERT INTO app.loot VALUES (how, n);
				RETURN true;
			EXCEPTION WHEN insufficient_privilege OR undefined_table THEN RETURN true;
			END $$;
		CREATE FUNCTION app.spy(how text) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN
				FOR i IN 0 .. 3 LOOP PERFORM app.note(how, 'd_b' || i); END LOOP;
				RETURN true;
			END $$});
}
$c->sql(1, q{
	CREATE TABLE d (tenant int, id int, secret int, PRIMARY KEY (tenant, id));
	GRANT ALL ON d TO app;
	INSERT INTO d SELECT i % 12, i, i % 6 FROM generate_series(1, 120) i;
	ALTER TABLE d ENABLE ROW LEVEL SECURITY;
	CREATE POLICY a ON d USING (secret < 0)});
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 4)});
# of functions with a body of SQL, which is parsed when they are made
for my $i (1, 2)
{
	$c->sql($i, q{
		SET ROLE app;
		CREATE FUNCTION app.atomic(b bigint) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO app.loot SELECT 'atomic', b WHERE b > 0; RETURN true; END $$});
	$c->sql($i, qq{
		SET ROLE app;
		SET check_function_bodies = off;
		CREATE FUNCTION app.body$_() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM public.d_b$_; END}) for 0 .. 3;
	$c->sql($i, q{
		SET ROLE app;
		CREATE FUNCTION app.bodies(x int) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN
				BEGIN PERFORM app.atomic(app.body0()); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
				BEGIN PERFORM app.atomic(app.body1()); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
				BEGIN PERFORM app.atomic(app.body2()); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
				BEGIN PERFORM app.atomic(app.body3()); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
				RETURN true;
			END $$;
		CREATE DOMAIN app.name AS text CHECK (app.spy('domain'))});
}
$c->sql(1, q{
	CREATE TABLE mine (k int PRIMARY KEY, x int DEFAULT 1, y app.name, CHECK (app.spy('check')), CHECK (app.bodies(x)));
	ALTER TABLE mine OWNER TO app});
$c->sql(1, q{SELECT fragaffinity.distribute_table('mine', 'k', fragments => 4)});

for my $i (1, 2)
{
	for my $sql (
		'INSERT INTO mine SELECT i FROM generate_series(K, K + 9) i',
		(map { "INSERT INTO mine VALUES (K + 10 + $_, 1, 'x')" } 0 .. 5),
		"UPDATE mine SET y = y || 'z' WHERE k BETWEEN K + 10 AND K + 20",
		'UPDATE mine SET x = 2 WHERE k = K + 12')
	{
		my $here = $sql =~ s/\bK\b/$i * 1000/gre;
		my $again = $sql =~ s/\bK\b/$i * 1000 + 500/gre;
		$c->sql($i, "SET ROLE app; SELECT count(*) FROM d; SELECT count(*) FROM d WHERE tenant = $_") for 0 .. 3;
		$c->sql($i, "SET ROLE app; SELECT count(*) FROM d; " . (join '; ', map { "SELECT count(*) FROM d WHERE tenant = $_" } 0 .. 11) . "; $here");
		$c->sql($i, "SET ROLE app; BEGIN; SELECT count(*) FROM d; $again; COMMIT");
	}
}
is($c->sql($_, 'SELECT * FROM app.loot'), '', "nothing was read by functions on node $_") for 1, 2;
done_testing();
