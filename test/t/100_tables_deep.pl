# What distribute_table and undistribute_table keep: every kind of column,
# index and partitioning, there and back; nodes that join; owners who are no
# superusers; transactions that fail half way.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 4, connect => 0);

$c->sql($_, 'CREATE EXTENSION fragaffinity CASCADE') for 1 .. 4;
$c->add_node($_) for 1 .. 3;
$c->sql($_, q{
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN posint AS int CHECK (value > 0);
	CREATE SCHEMA app;
	CREATE SCHEMA "Weird ""S""";
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	GRANT CREATE ON SCHEMA public TO alice;
}) for 1 .. 4;

# Everything about a table that a user can see, but for its statistics.
sub describe
{
	my ($i, $table) = @_;
	return $c->sql($i, qq{
		WITH r AS (SELECT oid::regclass AS rel, * FROM pg_class
			WHERE oid = '$table'::regclass
				OR oid IN (SELECT relid FROM pg_partition_tree('$table')))
		SELECT concat_ws(' ', 'table', rel, relkind, relowner::regrole, relacl, reloptions,
			relreplident, pg_get_expr(relpartbound, rel), pg_get_partkeydef(rel),
			obj_description(rel, 'pg_class')) AS x FROM r
		UNION ALL
		SELECT concat_ws(' ', 'column', attrelid::regclass, attname,
			format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
			attcompression, attcollation::regcollation, attstattarget,
			(SELECT string_agg(o, ',') FROM unnest(attoptions) o WHERE o NOT LIKE 'pg\\_%'), attacl,
			col_description(attrelid, attnum), pg_get_expr(adbin, adrelid))
		FROM r JOIN pg_attribute ON attrelid = rel AND attnum > 0 AND NOT attisdropped
		LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		UNION ALL
		SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(c.oid),
			obj_description(c.oid, 'pg_constraint'))
		FROM r JOIN pg_constraint c ON conrelid = rel
		UNION ALL
		SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisreplident,
			obj_description(indexrelid, 'pg_class')) FROM r JOIN pg_index ON indrelid = rel
		UNION ALL
		SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(s.oid))
		FROM r JOIN pg_statistic_ext s ON stxrelid = rel
		UNION ALL
		SELECT concat_ws(' ', 'sequence', s.seqrelid::regclass, seqtypid::regtype, seqincrement,
			seqmin, seqmax, seqcache, seqcycle, relacl)
		FROM pg_sequence s JOIN pg_class q ON q.oid = seqrelid
		WHERE EXISTS (SELECT FROM pg_depend d JOIN r ON refobjid = rel WHERE objid = seqrelid)
		ORDER BY 1});
}

sub content
{
	my ($i, $table, $key) = @_;
	return $c->sql($i, "SELECT count(*) || ' ' || md5(string_agg(t::text, '|' ORDER BY $key)) FROM $table t");
}

sub there_and_back
{
	my ($table, $key, $from, $back, $fragments) = @_;
	my $before = describe($from, $table);
	my $rows = content($from, $table, $key);
	my @names = split /\n/, $c->sql($from,
		"SELECT '$table'::regclass UNION SELECT relid FROM pg_partition_tree('$table')");

	$c->sql($from, "SELECT fragaffinity.distribute_table('$table', '$key', $fragments)");
	is(content($_, $table, $key), $rows, "$table: rows on node $_") for 1 .. 3;
	is($c->sql($from, "SELECT string_agg(nspname, ',') FROM pg_namespace WHERE nspname LIKE 'fragaffinity\\_%'"),
		'', "$table: nothing left of the old one");
	$c->sql($back, "SELECT fragaffinity.undistribute_table('$table')");
	is(content($back, $table, $key), $rows, "$table: rows back");
	is(describe($back, $table), $before, "$table: as it was");
	for my $i (grep { $_ != $back } 1 .. 3)
	{
		is($c->sql($i, "SELECT to_regclass('$_') IS NULL"), 't', "$_ is gone from node $i")
		  for @names;
	}
	$c->sql($back, "DROP TABLE $table");
}

# Every type that could be trouble on its way, and every access method.
$c->sql(1, q{
	CREATE TABLE app.wide (
		k posint NOT NULL, m mood DEFAULT 'ok', ms mood[], p pair, ps pair[], r int4range,
		mr int4multirange, ts timestamptz DEFAULT now(), iv interval, f4 real, f8 double precision,
		n numeric, mny money, x xml, bits bit varying(10), ip inet, u uuid DEFAULT gen_random_uuid(),
		rc regclass, nm name, c "char", bp char(5), pt point, tsv tsvector, jb jsonb, js json,
		t text COLLATE "C", bt bytea, lsn pg_lsn, tid2 tid, added int DEFAULT 7,
		CONSTRAINT wide_key UNIQUE (k, u) DEFERRABLE INITIALLY DEFERRED,
		EXCLUDE USING hash (k WITH =),
		CHECK (m <> 'sad')) WITH (fillfactor = 80, toast.autovacuum_enabled = false);
	CREATE UNIQUE INDEX wide_part ON app.wide (k) INCLUDE (m) WHERE added = 7;
	CREATE INDEX wide_gin ON app.wide USING gin (jb jsonb_path_ops) WITH (fastupdate = off);
	CREATE INDEX wide_brin ON app.wide USING brin (ts);
	CREATE INDEX wide_gist ON app.wide USING gist (r);
	CREATE INDEX wide_expr ON app.wide ((f8 * 2), lower(t) text_pattern_ops DESC NULLS LAST);
	COMMENT ON CONSTRAINT wide_key ON app.wide IS 'deferrable';
	COMMENT ON INDEX app.wide_part IS 'partial';
	ALTER TABLE app.wide REPLICA IDENTITY FULL;
	ALTER TABLE app.wide ALTER t SET (n_distinct = -0.5), ALTER bt SET STORAGE external;
	INSERT INTO app.wide (k, ms, p, ps, r, mr, iv, f4, f8, n, mny, x, bits, ip, rc, nm, c, bp, pt,
			tsv, jb, js, t, bt, lsn, tid2)
		SELECT i, '{sad,happy}', (i, E'a"b,\\\\)')::pair, ARRAY[('(' || i || ',z)')::pair, NULL],
			int4range(i, i + 10), '{[1,3), [5,9)}', '1 mon 2 days 03:04:05.678', 1.1::real / i,
			1e-300::float8 / i, 'NaN', 12.34, '<a>b</a>', B'1010', '10.0.0.1/24', 'pg_class', 'nm',
			'x', 'ab', '(1.5, 2)', 'a fat cat'::tsvector, '{"a": [1, 2, {"b": "\n"}]}', '{"z" : 1}',
			E'tab\there\\N\r\n\\.', '\xdeadbeef', '0/16B3748', '(1,2)'
		FROM generate_series(1, 300) i;
	INSERT INTO app.wide (k, m) VALUES (1000, NULL);
	INSERT INTO app.wide (k, t, bt) SELECT 2000 + i, repeat(md5(i::text), 5000),
		decode(repeat(md5(i::text), 3000), 'hex') FROM generate_series(1, 5) i;
});
there_and_back('app.wide', 'k', 1, 3, 'NULL');

# Partitions in partitions, defaults, odd names, sequences, grants.
$c->sql(2, q{
	CREATE TABLE "Weird ""S"""."T 1" (
		id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT 5 CACHE 3), region text NOT NULL, ser serial,
		amt numeric(10, 2) DEFAULT 1.5, d date DEFAULT current_date,
		g numeric GENERATED ALWAYS AS (amt * 2) STORED,
		PRIMARY KEY (id, region), UNIQUE (region, ser, id), CONSTRAINT "amt ok" CHECK (amt >= 0))
		PARTITION BY LIST (region);
	CREATE TABLE "Weird ""S"""."p east" PARTITION OF "Weird ""S"""."T 1"
		FOR VALUES IN ('east') PARTITION BY RANGE (id);
	CREATE TABLE "Weird ""S""".pe1 PARTITION OF "Weird ""S"""."p east"
		FOR VALUES FROM (MINVALUE) TO (500) WITH (fillfactor = 70);
	CREATE TABLE app.pe2 PARTITION OF "Weird ""S"""."p east" FOR VALUES FROM (500) TO (MAXVALUE);
	CREATE TABLE "Weird ""S""".pdef PARTITION OF "Weird ""S"""."T 1" DEFAULT;
	CREATE TABLE "Weird ""S""".pempty PARTITION OF "Weird ""S"""."T 1"
		FOR VALUES IN ('empty') PARTITION BY HASH (id);
	CREATE INDEX "idx amt" ON "Weird ""S"""."T 1" (amt DESC, lower(region));
	CREATE STATISTICS "Weird ""S"""."st 1" (dependencies) ON amt, d FROM "Weird ""S"""."T 1";
	COMMENT ON INDEX "Weird ""S"""."idx amt" IS 'the index';
	COMMENT ON TABLE "Weird ""S"""."T 1" IS 'a "table"';
	COMMENT ON COLUMN "Weird ""S"""."T 1".amt IS 'it''s amount';
	COMMENT ON CONSTRAINT "amt ok" ON "Weird ""S"""."T 1" IS 'con';
	ALTER TABLE "Weird ""S"""."T 1" ALTER amt SET STATISTICS 500, OWNER TO alice;
	GRANT SELECT ON "Weird ""S"""."T 1" TO bob;
	GRANT UPDATE (amt) ON "Weird ""S"""."T 1" TO bob WITH GRANT OPTION;
	GRANT USAGE ON SEQUENCE "Weird ""S"""."T 1_ser_seq" TO bob;
	INSERT INTO "Weird ""S"""."T 1" (region, amt)
		SELECT CASE WHEN i % 3 = 0 THEN 'east' ELSE E'we\\st\t' || i END, i FROM generate_series(1, 400) i;
});
there_and_back('"Weird ""S"""."T 1"', 'id', 2, 1, 3);

# Sequences go on where the largest value of any node was.
$c->sql(1, 'CREATE TABLE s (id serial PRIMARY KEY, b bigint GENERATED BY DEFAULT AS IDENTITY, v int);
	INSERT INTO s (v) SELECT 0 FROM generate_series(1, 10)');
$c->sql(1, q{SELECT fragaffinity.distribute_table('s', 'id', 4)});
$c->sql($_, 'INSERT INTO s (v) SELECT 1 FROM generate_series(1, 5)') for 1 .. 3;
$c->add_node(4);
is($c->sql(4, 'SELECT count(*) FROM s'), '25', 'a node that joins sees the rows');
$c->sql(4, 'INSERT INTO s (v) SELECT 4 FROM generate_series(1, 5)');
is($c->sql(2, q{SELECT count(DISTINCT id) || ' ' || count(DISTINCT b) FROM s}), '30 30',
	'and draws values of its own');
$c->sql(2, q{SELECT fragaffinity.undistribute_table('s')});
$c->sql(2, 'INSERT INTO s (v) VALUES (9)');
is($c->sql(2, 'SELECT max(id) = (SELECT id FROM s WHERE v = 9) AND max(b) = (SELECT b FROM s WHERE v = 9) FROM s'),
	't', 'sequences go on after the largest');
is($c->sql(4, q{SELECT to_regclass('s') IS NULL}), 't', 'and the table is gone from there');

# An owner who is no superuser, and whose code must not run as one.
$c->sql($_, q{
	CREATE FUNCTION who(t text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN IF current_user <> 'alice' THEN RAISE 'runs as %', current_user; END IF; RETURN true; END $$;
	GRANT USAGE ON SCHEMA fragaffinity TO alice;
	GRANT EXECUTE ON FUNCTION fragaffinity.distribute_table, fragaffinity.undistribute_table TO alice;
}) for 1 .. 4;
$c->sql(1, q{
	SET SESSION AUTHORIZATION alice;
	CREATE TABLE hers (id int PRIMARY KEY, v text CHECK (who(v)));
	CREATE INDEX ON hers ((who(v)));
	INSERT INTO hers SELECT i, 'x' FROM generate_series(1, 40) i;
});
$c->sql(1, q{CREATE TABLE theirs (id int PRIMARY KEY)});
my ($code, $message) = $c->fails(1, q{SET SESSION AUTHORIZATION alice;
	SELECT fragaffinity.distribute_table('theirs', 'id')});
is($code, '42501', 'not a table of others');
$c->sql(1, q{SET SESSION AUTHORIZATION alice; SELECT fragaffinity.distribute_table('hers', 'id', 6)});
is($c->sql($_, q{SET SESSION AUTHORIZATION alice; SELECT count(*) FROM hers}), '40',
	"the owner reads it on node $_") for 1 .. 4;
($code) = $c->fails(3, q{SET SESSION AUTHORIZATION bob; SELECT count(*) FROM hers});
is($code, '42501', 'others do not');
$c->sql(4, q{SET SESSION AUTHORIZATION alice; SELECT fragaffinity.undistribute_table('hers')});
is($c->sql(4, q{SELECT count(*) || ' ' || pg_get_userbyid((SELECT relowner FROM pg_class WHERE relname = 'hers')) FROM hers}),
	'40 alice', 'and takes it back');

# A long name, and two that begin alike.
my $long = 'n' x 63;
(my $alike = $long) =~ s/.$/m/;
for my $name ($long, $alike)
{
	$c->sql(1, "CREATE TABLE $name (id int PRIMARY KEY); INSERT INTO $name SELECT generate_series(1, 30);
		SELECT fragaffinity.distribute_table('$name', 'id', 12)");
	is($c->sql(3, "SELECT count(*) FROM $name"), '30', 'a name of 63 bytes');
}

# Fails half way: on a peer's constraint, and when a peer dies.
$c->sql(1, q{CREATE TABLE half (id int PRIMARY KEY, v int CHECK (v < 1000));
	INSERT INTO half SELECT i, i FROM generate_series(1, 500) i;
	CREATE FUNCTION only_here(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
	CREATE INDEX half_i ON half (only_here(v))});
my $before = describe(1, 'half');
($code, $message) = $c->fails(1, q{SELECT fragaffinity.distribute_table('half', 'id')});
is($code, '42883', 'a function that the peers lack');
is(describe(1, 'half'), $before, 'nothing has changed here');
is($c->sql($_, q{SELECT to_regclass('half') IS NULL AND NOT EXISTS
	(SELECT FROM fragaffinity.distributed_table WHERE rel::text = 'half')}), 't',
	"nor on node $_") for 2 .. 4;
$c->sql(1, 'DROP INDEX half_i');
$c->kill9(3);
($code, $message) = $c->fails(1, q{SELECT fragaffinity.distribute_table('half', 'id')});
like($code, qr/^08/, 'a node that is down');
like($message, qr/node "n3"/, 'is named');
$c->restart(3);
$c->poll(1, q{SELECT fragaffinity.distribute_table('half', 'id', 8)}, '8', 'again, once it is back');

# Without a partition there is nothing to gather.
$c->sql(1, q{CREATE TABLE none (id int NOT NULL) PARTITION BY RANGE (id); SELECT fragaffinity.distribute_table('none', 'id')});
$c->sql(2, q{SELECT fragaffinity.undistribute_table('none'); DROP TABLE none});
is($c->sql($_, q{SELECT to_regclass('none') IS NULL}), 't', "a table without partitions is gone from node $_") for 1 .. 4;

# In the transaction that made it.
$c->sql(2, q{BEGIN; CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh SELECT generate_series(1, 100);
	SELECT fragaffinity.distribute_table('fresh', 'id'); COMMIT});
is($c->sql(1, 'SELECT count(*) FROM fresh'), '100', 'made and distributed in one transaction');
is($c->sql(2, q{BEGIN; CREATE TABLE here (id int PRIMARY KEY); INSERT INTO here SELECT generate_series(1, 100);
	SELECT fragaffinity.distribute_table('here', 'id', placement => 'local') IS NULL;
	UPDATE here SET id = id; INSERT INTO here VALUES (101); SELECT count(*), (SELECT id FROM here WHERE id = 7) FROM here; COMMIT}), "f\n101|7", 'read and changed in the transaction that distributes it');
($code, $message) = $c->fails(2, q{BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE rr (id int PRIMARY KEY);
	SELECT fragaffinity.distribute_table('rr', 'id')});
is($code, '25001', 'not with a snapshot that could be too old');
($code) = $c->fails(2, q{CREATE TABLE sp (id int PRIMARY KEY); BEGIN; SAVEPOINT a;
	SELECT fragaffinity.distribute_table('sp', 'id')});
is($code, '0A000', 'not in a savepoint');

is($c->sql($_, q{SELECT string_agg(conrelid::regclass || ' ' || conname, ', ' ORDER BY conname) FROM pg_constraint
	JOIN fragaffinity.distributed_table ON rel = conrelid WHERE contype = 'p'}), $c->sql(1, q{SELECT string_agg(t.rel || ' ' || (u->>'name'), ', ' ORDER BY u->>'name')
	FROM fragaffinity.distributed_table t, jsonb_array_elements(definition->'unique') u WHERE (u->>'primary')::boolean}), "primary keys are shown on node $_") for 1 .. 4;
ok($c->check_consistent('after all'), 'consistent');
done_testing();
