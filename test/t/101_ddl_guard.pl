# DDL on a distributed table is refused, or runs on every node.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql($_, 'CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe') for 1 .. 3;
$c->sql(1, q{
	CREATE TABLE t (id serial PRIMARY KEY, v int, s text);
	INSERT INTO t (v, s) SELECT i, 's' || i FROM generate_series(1, 100) i;
	CREATE INDEX t_s ON t (s);
	CREATE TABLE plain (id int PRIMARY KEY, v int);
	CREATE SEQUENCE loose;
	CREATE TABLE p (k int NOT NULL, c text) PARTITION BY LIST (c);
	CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
	SELECT fragaffinity.distribute_table('t', 'id', 6);
	SELECT fragaffinity.distribute_table('p', 'k', 3);
	CREATE PUBLICATION mine FOR TABLE plain;
});

# The whole catalog's opinion of the tables, on every node.
sub state_of_tables
{
	return join "\n", map {
		$c->sql($_, q{SELECT string_agg(x, E'\n' ORDER BY x) FROM (
			SELECT concat_ws(' ', oid::regclass, relkind, relowner::regrole, relacl, relnamespace::regnamespace)
			FROM pg_class WHERE relnamespace = 'public'::regnamespace
			UNION ALL
			SELECT concat_ws(' ', attrelid::regclass, attname, attstattarget, attacl)
			FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = 'public'::regnamespace AND attnum > 0) y(x)})
	} 1 .. 3;
}

my $before = state_of_tables();
for my $sql (
	'DROP TABLE t_b0', 'DROP TABLE t, t_b0', 'DROP TABLE p_a_b0',
	'DROP TABLE IF EXISTS t_b0_h CASCADE', 'DROP FOREIGN TABLE t_b1_r', 'DROP INDEX t_b0_h_pkey',
	'DROP INDEX CONCURRENTLY t_s', 'DROP INDEX t_s, t_v', 'DROP SEQUENCE t_id_seq CASCADE',
	'DROP SERVER fragaffinity_2 CASCADE', 
	'DROP EXTENSION fragaffinity', 'DROP EXTENSION postgres_fdw CASCADE',
	'ALTER TABLE t_b0 ADD COLUMN x int', 'ALTER TABLE ONLY t ADD COLUMN x int',
	'ALTER TABLE t ADD COLUMN x serial', 'ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS IDENTITY',
	'ALTER TABLE t ADD COLUMN x int UNIQUE', 'ALTER TABLE t ADD COLUMN x int REFERENCES plain',
	"ALTER TABLE t ADD COLUMN x int DEFAULT nextval('loose')", 'ALTER TABLE t ADD CHECK (v > 0) NOT VALID',
	'ALTER TABLE t DROP COLUMN id', 'ALTER TABLE t ALTER id TYPE bigint', 'ALTER TABLE t ALTER id DROP NOT NULL',
	'ALTER TABLE t ALTER id DROP DEFAULT', 'ALTER TABLE t RENAME COLUMN id TO x',
	'ALTER TABLE p ALTER k DROP NOT NULL',
	'ALTER TABLE t_b0_h SET (fillfactor = 50)', 'ALTER TABLE p_a ADD CHECK (k > 0)',
	'ALTER TABLE t DETACH PARTITION t_b0', 'ALTER TABLE t_b0 DETACH PARTITION t_b0_h',
	'ALTER TABLE t_b0 ENABLE ROW LEVEL SECURITY', 'ALTER TABLE t ADD UNIQUE (v)', 'ALTER TABLE ONLY t ADD UNIQUE (id)',
	'ALTER TABLE t ADD UNIQUE (id, v), ADD COLUMN x int', 'ALTER TABLE t DROP CONSTRAINT t_pkey, ADD EXCLUDE USING btree (id WITH =)',
	'ALTER TABLE t ADD UNIQUE USING INDEX t_s', 'ALTER TABLE p ADD PRIMARY KEY (k)', 'ALTER TABLE p ADD PRIMARY KEY (c)',
	'ALTER TABLE t ADD EXCLUDE USING btree (v WITH =)', 'ALTER TABLE t_b0 RENAME CONSTRAINT t_pkey TO u', 'ALTER INDEX t_b0_h_pkey RENAME TO u',
	'ALTER TABLE t_b0 RENAME TO u', 'ALTER TABLE p_a RENAME TO u',
	'ALTER INDEX t_b0_s_idx RENAME TO u', 'ALTER INDEX t_s SET (fillfactor = 50)',
	'ALTER TABLE t_b0 SET SCHEMA fragaffinity', 'ALTER SCHEMA public RENAME TO other',
	'ALTER SEQUENCE t_id_seq INCREMENT BY 1',
	'CREATE UNIQUE INDEX ON t (v, (id + 1))', 'CREATE UNIQUE INDEX ON ONLY t (id)', 'CREATE UNIQUE INDEX CONCURRENTLY ON t (id)', 'CREATE INDEX CONCURRENTLY ON t (v)', 'CREATE INDEX ON t_b0 (v)',
	'CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON INSERT TO t DO NOTHING', 'CREATE POLICY p ON t_b0',
	"CREATE TABLE t_b9 PARTITION OF t FOR VALUES WITH (MODULUS 9, REMAINDER 1)", "CREATE FOREIGN TABLE p_b PARTITION OF p FOR VALUES IN ('b') SERVER fragaffinity_2",
	'CREATE TABLE c () INHERITS (t_b0_h)', 'GRANT SELECT ON t_b0 TO joe',
	'CREATE STATISTICS st ON v, s FROM t_b0',
	'CREATE PUBLICATION x FOR TABLE plain, t', 'CREATE PUBLICATION x FOR TABLE t_b0_h', 'ALTER PUBLICATION mine ADD TABLE p',
	'ALTER PUBLICATION mine SET TABLE t',
	# NOT NULL has a name
	$c->node(1)->pg_version < 18 ? () : ('ALTER TABLE p DROP CONSTRAINT p_k_not_null', 'ALTER TABLE t ADD CONSTRAINT nn NOT NULL v NOT VALID'))
{
	my ($code, $message) = $c->fails(1, $sql);
	like($code, qr/^(0A000|2BP01|42809)$/, "refused: $sql") or diag($message);
	like($message, qr/HINT: /, 'with a hint');
}
is(state_of_tables(), $before, 'nothing has changed');

# All tables, or a schema's: others may want them, and are told.
for my $sql ('CREATE PUBLICATION every FOR ALL TABLES', 'CREATE PUBLICATION schemas FOR TABLES IN SCHEMA public',
	'ALTER PUBLICATION mine SET TABLES IN SCHEMA public',
	'CREATE PUBLICATION current FOR TABLES IN SCHEMA CURRENT_SCHEMA')
{
	my $err = '';
	is($c->node(1)->psql('postgres', $sql, stderr => \$err), 0, $sql);
	like($err, qr/WARNING:  publication "\w+" is not complete for distributed table "public\.[pt]".*HINT/s, 'warns');
}
my $quiet = '';
$c->node(1)->psql('postgres', 'ALTER PUBLICATION mine SET TABLE plain; CREATE SCHEMA s; CREATE PUBLICATION other FOR TABLES IN SCHEMA s;
	DROP PUBLICATION every, schemas, current, other, mine; DROP SCHEMA s', stderr => \$quiet);
is($quiet, '', 'not of what has no distributed table');

# As a superuser's slip inside a block: nothing half done.
my ($code) = $c->fails(1, q{BEGIN; CREATE INDEX t_v ON t (v); DROP TABLE t_b0; COMMIT});
is($code, '2BP01', 'refused inside a transaction block');
is($c->sql($_, q{SELECT to_regclass('t_v') IS NULL}), 't', "rolled back on node $_") for 1 .. 3;

# What runs everywhere.
$c->sql(2, q{SET search_path = public; CREATE INDEX t_v ON t (v) WHERE v > 0; SELECT 1});
$c->sql(3, q{COMMENT ON TABLE t IS 'tee'; COMMENT ON COLUMN t.v IS 'vee'; COMMENT ON INDEX t_v IS 'idx'});
$c->sql(1, q{CREATE STATISTICS t_st ON v, s FROM t; ALTER TABLE t ALTER v SET STATISTICS 77});
$c->sql(1, q{ALTER TABLE t OWNER TO joe});
$c->sql(2, q{GRANT SELECT ON t TO ann; GRANT UPDATE (v) ON t TO ann});
for my $i (1 .. 3)
{
	is($c->sql($i, q{SELECT count(*) FROM pg_index WHERE indrelid IN (SELECT leaf FROM fragaffinity.fragments
			WHERE local AND table_name = 't'::regclass) AND pg_get_indexdef(indexrelid) LIKE '%(v) WHERE (v > 0)'}),
		'2', "index on the leaves of node $i");
	is($c->sql($i, q{SELECT concat_ws(' ', obj_description('t'::regclass), col_description('t'::regclass, 2),
			obj_description('t_v'::regclass))}), 'tee vee idx', "comments on node $i");
	is($c->sql($i, q{SELECT count(*) FROM pg_statistic_ext WHERE stxname = 't_st'}), '1', "statistics on node $i");
	is($c->sql($i, q{SELECT DISTINCT attstattarget FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
			WHERE (relname = 't' OR relname LIKE 't\_b%') AND relkind IN ('p', 'r', 'f') AND attname = 'v'}),
		'77', "statistics target on node $i");
	is($c->sql($i, q{SELECT DISTINCT relowner::regrole FROM pg_class WHERE (relname = 't' OR relname LIKE 't\_b%')
			AND relkind IN ('p', 'r', 'f')}), 'joe', "owner on node $i");
	is($c->sql($i, q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM t}), '100', "ann reads through node $i");
	is($c->sql($i, q{SET SESSION AUTHORIZATION ann; UPDATE t SET v = v WHERE id < 50 RETURNING 1}) =~ tr/1//, 49,
		"and updates the column through node $i");
	($code) = $c->fails($i, q{SET SESSION AUTHORIZATION ann; UPDATE t SET s = s});
	is($code, '42501', "no other through node $i");
}
$c->sql(3, q{SET SESSION AUTHORIZATION joe; REVOKE ALL ON t FROM ann; REVOKE ALL (v) ON t FROM ann});
for my $i (1 .. 3)
{
	($code) = $c->fails($i, q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM t});
	is($code, '42501', "revoked on node $i");
}
($code) = $c->fails(1, q{SET SESSION AUTHORIZATION ann; CREATE INDEX t_no ON t (v)});
is($code, '42501', 'rights are those of the user');
$c->sql(1, q{SET SESSION AUTHORIZATION joe; CREATE INDEX t_joe ON t (v, s); DROP INDEX t_v});
is($c->sql($_, q{SELECT to_regclass('t_v') IS NULL AND to_regclass('t_joe') IS NOT NULL}), 't',
	"the owner's indexes on node $_") for 1 .. 3;
$c->sql(2, 'CREATE SCHEMA more; CREATE TABLE more.x (id int)');
$c->sql(1, q{GRANT SELECT ON ALL TABLES IN SCHEMA public TO ann});
is($c->sql($_, q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM t}), '100',
	"GRANT ON ALL TABLES reaches node $_") for 1 .. 3;

# The primary key is shown on every node, whatever becomes of its columns' types.
sub primary_key
{
	return $c->sql($_[0], q{SELECT string_agg(concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid),
		obj_description(oid, 'pg_constraint')), ', ') FROM pg_constraint WHERE contype = 'p' AND conname ~ 'Key'});
}
$c->sql(1, q{CREATE TABLE pk (a int, b int, v text, CONSTRAINT "Key 1" PRIMARY KEY (b, a)); COMMENT ON CONSTRAINT "Key 1" ON pk IS 'both';
	INSERT INTO pk SELECT i, i, i FROM generate_series(1, 20) i; SELECT fragaffinity.distribute_table('pk', 'a', 3)});
is(primary_key($_), 'pk Key 1 PRIMARY KEY (b, a) both', "the primary key is shown on node $_") for 1 .. 3;
is($c->sql($_, 'SELECT b, v, count(*) FROM pk WHERE a = 7 GROUP BY b, a'), '7|7|1', "what it determines is grouped by it on node $_") for 1 .. 3;
$c->sql(2, 'ALTER TABLE pk ALTER b TYPE bigint');
is(primary_key($_), 'pk Key 1 PRIMARY KEY (b, a) both', "and still on node $_") for 1 .. 3;
is($c->sql($_, 'INSERT INTO pk VALUES (7, 7) ON CONFLICT ON CONSTRAINT "Key 1" DO UPDATE SET b = pk.b + (1::bigint << 40) RETURNING b'),
	(1 << 40) + 7, "named by an upsert on node $_")
  and $c->sql($_, 'UPDATE pk SET b = 7 WHERE a = 7') for 1 .. 3;
$c->sql(3, q{SELECT fragaffinity.undistribute_table('pk')});
is(primary_key(3), 'pk Key 1 PRIMARY KEY (b, a) both', 'it is the plain table\'s again');
$c->sql(3, 'DROP TABLE pk');

# Columns and constraints.
$c->sql(2, q{ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 5 CHECK (a > 0), ADD g int GENERATED ALWAYS AS (v + 1) STORED,
	ADD COLUMN drop_me text DEFAULT clock_timestamp()});
$c->sql(3, q{ALTER TABLE t ALTER v TYPE bigint, ALTER s SET DEFAULT 'dflt', ALTER s SET NOT NULL})
  if $c->sql(1, q{ALTER TABLE t DROP COLUMN g}) eq '';
$c->sql(1, q{ALTER TABLE t RENAME COLUMN a TO b; ALTER TABLE t DROP COLUMN drop_me; ALTER TABLE p ADD COLUMN n int DEFAULT 3});
$c->sql(1, q{ALTER TABLE t ADD CONSTRAINT s_short CHECK (length(s) < 10)});
$c->sql($_, 'INSERT INTO t (v) VALUES (1::bigint << 40)') for 1 .. 3;
is($c->sql($_, q{SELECT count(*) || ' ' || sum(b) || ' ' || count(*) FILTER (WHERE s = 'dflt') FROM t}), '103 515 3',
	"columns on node $_") for 1 .. 3;
for my $i (1 .. 3)
{
	($code) = $c->fails($i, 'INSERT INTO t (b) VALUES (-1)');
	is($code, '23514', "the new column's CHECK through node $i");
	($code) = $c->fails($i, q{UPDATE t SET s = 'much too long' WHERE v = 3});
	is($code, '23514', "the new CHECK through node $i");
	($code) = $c->fails($i, q{UPDATE t SET s = NULL});
	is($code, '23502', "the new NOT NULL through node $i");
}
$c->sql(2, 'ALTER TABLE t DROP CONSTRAINT s_short');
is($c->sql(3, q{UPDATE t SET s = 'much too long' WHERE v = 3 RETURNING 1}), '1', 'and without it');
# What moves gets the columns too.
$c->move($c->fragment('t', $_), 'n2') for 2, 3;
is($c->sql(1, q{SELECT count(*) || ' ' || sum(b) FROM t}), '103 515', 'fragments move with their new columns');
($code) = $c->fails(3, q{ALTER TABLE t ALTER s SET NOT NULL, ADD CONSTRAINT no CHECK (v < 50)});
is($code, '23514', 'a CHECK that rows of another node break');
is($c->sql($_, q{SELECT count(*) FROM pg_constraint WHERE conname = 'no'}), '0', "is nowhere on node $_") for 1 .. 3;

# What passes.
$c->sql(1, $_) for 'ANALYZE t', 'VACUUM t', 'VACUUM FULL t_b0_h', 'CLUSTER t_b0_h USING t_b0_h_pkey',
  'REINDEX TABLE t', 'BEGIN; LOCK TABLE t; COMMIT', 'DROP TABLE plain', 'CREATE TABLE likes (LIKE t)',
  'CREATE VIEW view_t AS SELECT * FROM t', 'COMMENT ON TABLE likes IS $$x$$', 'TRUNCATE t RESTART IDENTITY';
is($c->sql(3, 'SELECT count(*) FROM t'), '0', 'TRUNCATE reached all');
$c->sql($_, 'INSERT INTO t (v) SELECT 1 FROM generate_series(1, 20)') for 1 .. 3;
is($c->sql(1, 'SELECT count(DISTINCT id) FROM t'), '60', 'identities stay unique after RESTART IDENTITY');

# Roles come and go although they have user mappings.
$c->sql($_, 'CREATE ROLE temp LOGIN; GRANT SELECT ON t TO joe') for 1 .. 3;
$c->sql(1, 'GRANT SELECT ON t TO temp');
is($c->sql($_, q{SET SESSION AUTHORIZATION temp; SELECT count(*) FROM t}), '60', "a new role reads on node $_")
  for 1 .. 3;
$c->sql($_, 'ALTER ROLE temp RENAME TO temp2') for 1 .. 3;
is($c->sql(2, q{SET SESSION AUTHORIZATION temp2; SELECT count(*) FROM t}), '60', 'under another name, too');
$c->sql(1, 'REVOKE ALL ON t FROM temp2');
$c->sql($_, 'DROP ROLE temp2') for 1 .. 3;
pass('and is dropped');

# Everything a role has.
$c->sql($_, 'CREATE ROLE owned LOGIN') for 1 .. 3;
$c->sql(1, 'ALTER TABLE p OWNER TO owned; GRANT SELECT ON t TO owned');
($code) = $c->fails(2, 'REASSIGN OWNED BY owned TO joe');
is($code, '0A000', 'REASSIGN OWNED does not give a distributed table away');
$c->sql(3, 'ALTER TABLE p OWNER TO joe');
$c->sql(2, 'DROP OWNED BY owned');
is($c->sql($_, q{SELECT has_table_privilege('owned', 't', 'SELECT')}), 'f', "DROP OWNED revokes on node $_") for 1 .. 3;
$c->sql(1, 'DROP STATISTICS t_st');
is($c->sql($_, q{SELECT count(*) FROM pg_statistic_ext WHERE stxname = 't_st'}), '0', "no statistics on node $_") for 1 .. 3;

# Views stay in the way of undistribute_table.
$c->sql(1, 'DROP VIEW view_t');
$c->sql(2, 'CREATE VIEW view_2 AS SELECT * FROM t_b0');
($code, my $message) = $c->fails(1, q{SELECT fragaffinity.undistribute_table('t')});
is($code, '2BP01', 'a view on another node stands in the way');
like($message, qr/view \S*view_2 depends.*node "n2"/s, 'and is named');
$c->sql(2, 'DROP VIEW view_2');

# A database with our worker in it can be copied, renamed and dropped.
$c->sql(1, 'CREATE DATABASE other');
$c->node(1)->safe_psql('other', 'CREATE EXTENSION fragaffinity CASCADE');
$c->sql(1, 'CREATE DATABASE third TEMPLATE other');
$c->sql(1, 'ALTER DATABASE other RENAME TO fourth');
$c->sql(1, "DROP DATABASE $_") for qw(third fourth);
pass('databases come and go');

# A standby of the extension's absence: DROP with CASCADE, when told so.
($code) = $c->fails(1, 'DROP EXTENSION fragaffinity');
is($code, '2BP01', 'the extension stays while there are tables');
$c->sql(1, "SELECT fragaffinity.undistribute_table('$_')") for qw(t p);
$c->sql(1, 'DROP TABLE t, p');
$c->sql(1, 'DROP EXTENSION postgres_fdw CASCADE');
is($c->sql(1, q{SELECT count(*) FROM pg_extension WHERE extname IN ('fragaffinity', 'postgres_fdw')}), '0',
	'and goes without');
# Everywhere, and once more from the start.
$c->sql($_, q{DROP EXTENSION fragaffinity}) for 2, 3;
is($c->sql($_, q{SELECT count(*) FROM pg_foreign_server WHERE srvname LIKE 'fragaffinity%'}), '0',
	"no server left on node $_") for 1 .. 3;
$c->connect_nodes;
$c->sql(1, q{CREATE TABLE again (id int PRIMARY KEY); INSERT INTO again SELECT generate_series(1, 50);
	SELECT fragaffinity.distribute_table('again', 'id', 3)});
is($c->sql(3, 'SELECT count(*) FROM again'), '50', 'the extension comes back');
done_testing();
