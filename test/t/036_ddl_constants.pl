# To read a constant of a composite type, or of an array or range of domains, runs the
# domains' checks: what a user has written.  We read the text of defaults, checks and so on
# as a superuser, so such constants are refused, whoever distributes or changes the table.
# That of views, rules and functions is read as their owner.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql($_, q{
	CREATE ROLE joe LOGIN;
	GRANT CREATE ON SCHEMA public TO joe;
	CREATE TABLE ran_as (who name);
	GRANT INSERT ON ran_as TO PUBLIC;
	SET ROLE joe;
	CREATE FUNCTION his(n int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.ran_as VALUES (current_user);
		IF current_user <> 'joe' THEN RAISE EXCEPTION 'runs as % in %', current_user, current_query(); END IF;
		RETURN true; END $$;
	CREATE FUNCTION same(n int[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
	CREATE DOMAIN d AS int CHECK (his(VALUE));
	CREATE TYPE pair AS (a int, b int);
	CREATE TYPE span AS RANGE (subtype = d)}) for 1 .. 3;
$c->sql(1, 'GRANT EXECUTE ON FUNCTION fragaffinity.distribute_table, fragaffinity.undistribute_table TO joe; GRANT USAGE ON SCHEMA fragaffinity TO joe');

my $distribute = q{SELECT fragaffinity.distribute_table('t', 'id', 6)};
sub refused
{
	my ($sql, $what) = @_;
	my ($code, $message) = $c->fails(1, "SET SESSION AUTHORIZATION joe; $sql");

	is($code, '0A000', "refused: $what") or diag($message);
	like($message, qr/of type (public\.)?(d|pair|span)\b.*HINT: /s, 'with the type and a hint');
	return;
}

# Before: all that is written anew.
for my $make (
	q{CREATE TABLE t (id int PRIMARY KEY, x d[] DEFAULT '{1}')},
	q{CREATE TABLE t (id int PRIMARY KEY, x pair DEFAULT '(1,2)')},
	q{CREATE TABLE t (id int PRIMARY KEY, x pair[] DEFAULT '{"(1,2)"}')},
	q{CREATE TABLE t (id int PRIMARY KEY, x span DEFAULT '[1,2)')},
	q{CREATE TABLE t (id int PRIMARY KEY, x boolean GENERATED ALWAYS AS (same('{1}'::d[]::int[])) STORED)},
	q{CREATE TABLE t (id int PRIMARY KEY, x d[] CHECK (x <> '{1}'))},
	q{CREATE TABLE t (id int PRIMARY KEY, x d[]); CREATE INDEX ON t (id) WHERE x <> '{1}'},
	q{CREATE TABLE t (id int PRIMARY KEY, x d[]); CREATE INDEX ON t ((x <> '{1}'))},
	q{CREATE TABLE t (id int PRIMARY KEY, x d[]); CREATE STATISTICS s ON (x <> '{1}'), id FROM t},
	q{CREATE TABLE t (id int PRIMARY KEY, x d[]); CREATE POLICY s ON t USING (x <> '{1}')},
	q{CREATE TABLE t (id int, x d, PRIMARY KEY (id, x)) PARTITION BY LIST (x); CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)})
{
	$c->sql(1, "SET SESSION AUTHORIZATION joe; $make");
	refused($distribute, $make);
	$c->sql(1, 'DROP TABLE t');
}

# What is not read so may stay, and works on all nodes as the user.
$c->sql(1, q{SET SESSION AUTHORIZATION joe;
	CREATE TABLE t (id int PRIMARY KEY, x d[] DEFAULT ARRAY[1]::d[], y pair DEFAULT ROW(1, 2)::pair, z d DEFAULT 3, n d[] DEFAULT NULL,
		i int[] DEFAULT '{1}', r int4range DEFAULT '[1,2)', CHECK (x <> ARRAY[5]::d[]));
	CREATE VIEW v AS SELECT id, '{7}'::d[] AS x, '(1,2)'::pair AS y FROM t WHERE i = '{1}';
	CREATE VIEW w AS SELECT 1 AS i;
	CREATE RULE otherwise AS ON INSERT TO w DO INSTEAD NOTHING;
	CREATE RULE r AS ON INSERT TO w WHERE '{8}'::d[] IS NOT NULL DO INSTEAD INSERT INTO t VALUES (NEW.i);
	CREATE FUNCTION f(x d[] DEFAULT '{1}') RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t WHERE '{2}'::d[] <> f.x; END;
	INSERT INTO t SELECT i FROM generate_series(1, 20) i;
	} . $distribute);
is($c->sql($_, "SET SESSION AUTHORIZATION joe; INSERT INTO t (id) SELECT i FROM generate_series($_ * 100, $_ * 100 + 20) i; SELECT count(DISTINCT (x, y, z, n, i, r)) FROM t"), '1', "node $_") for 1 .. 3;
is($c->sql(1, 'SET SESSION AUTHORIZATION joe; SELECT count(*), min(x) FROM v; INSERT INTO w VALUES (1000); SELECT f()'), "83|{7}\n84", 'by a view, a rule and a function');

# Afterwards.
for my $ddl (
	q{ALTER TABLE t ALTER x SET DEFAULT '{1}'}, q{ALTER TABLE t ADD COLUMN w pair DEFAULT '(1,2)'},
	q{ALTER TABLE t ADD CHECK (x <> '{9}')}, q{CREATE INDEX ON t (id) WHERE x <> '{1}'}, q{CREATE UNIQUE INDEX ON t (id, (x <> '{1}'))},
	q{ALTER TABLE t ADD EXCLUDE USING btree (id WITH =) WHERE (x <> '{1}')},
	q{CREATE STATISTICS s ON (x <> '{1}'), id FROM t}, q{CREATE POLICY s ON t USING (x <> '{1}')})
{
	refused($ddl, $ddl);
}
for my $fragment (map { $c->fragment('t', $_) } 0 .. 2)
{
	$c->move($fragment, $c->owner($fragment) eq 'n1' ? 'n2' : 'n1');
}
$c->sql(1, q{SET SESSION AUTHORIZATION joe; SELECT fragaffinity.undistribute_table('t')});
is($c->sql(1, 'SET SESSION AUTHORIZATION joe; INSERT INTO w VALUES (1001); SELECT count(*), f() FROM v'), '85|85', 'gathered');
is($c->sql($_, q{SELECT DISTINCT who FROM ran_as WHERE who <> 'joe'}), '', "what is his ran as him alone on node $_") for 1 .. 3;
is($c->sql(1, q{SELECT count(*) > 0 FROM ran_as}), 't', 'and it ran');

done_testing();
