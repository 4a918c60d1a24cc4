# What uses a table goes on with it when it is distributed, gathered, or becomes or ceases
# to be a partition: views, materialized views, rules and functions with a parsed body stay
# what they are, on the node where they are.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql($_, 'CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe') for 1 .. 3;

# A column has gone, so that numbers of columns change.
$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, gone int, v int, s text DEFAULT 'x', g int GENERATED ALWAYS AS (v * 2) STORED);
	ALTER TABLE t DROP COLUMN gone;
	INSERT INTO t (id, v) SELECT i, i FROM generate_series(1, 100) i;
	ALTER TABLE t OWNER TO joe;
	CREATE TABLE log (id int, v int)});

# In use by many: the second owner may read the first one's view only.
$c->sql(1, q{
	CREATE VIEW v1 WITH (security_barrier) AS SELECT id, v AS w, g, s FROM t WHERE v > 10 WITH CASCADED CHECK OPTION;
	ALTER VIEW v1 RENAME COLUMN g TO "G g";
	ALTER VIEW v1 ALTER COLUMN s SET DEFAULT 'y';
	COMMENT ON VIEW v1 IS 'one'; COMMENT ON COLUMN v1.w IS 'double';
	GRANT SELECT (id, w) ON v1 TO ann; GRANT ALL ON v1 TO joe WITH GRANT OPTION;
	CREATE VIEW v2 AS SELECT *, (SELECT count(*) FROM t u WHERE u.id < v1.id) AS before FROM v1 WHERE w < 50;
	ALTER VIEW v2 OWNER TO joe; COMMENT ON VIEW v2 IS 'second';
	CREATE VIEW of_user WITH (security_invoker) AS SELECT id, s, count(*) FROM t GROUP BY id;
	GRANT SELECT ON of_user TO ann, joe;
	CREATE MATERIALIZED VIEW m WITH (fillfactor = 50) AS SELECT v % 10 AS k, sum(v), count(t.*) FROM t GROUP BY 1;
	CREATE UNIQUE INDEX m_k ON m (k);
	CREATE MATERIALIZED VIEW empty AS SELECT id FROM v2 JOIN t USING (id) WITH NO DATA;
	CREATE VIEW whole AS SELECT t.s, v2.id, row_to_json(t.*) AS j, (t.*)::text AS x FROM t JOIN v2 USING (id);
	CREATE RULE on_whole AS ON INSERT TO whole DO INSTEAD (INSERT INTO t (id, v, s) VALUES (NEW.id, 11, NEW.s); INSERT INTO log VALUES (NEW.id, 1));
	COMMENT ON RULE on_whole ON whole IS 'two';
	CREATE RULE on_log AS ON INSERT TO log WHERE NEW.v = 7 AND EXISTS (SELECT FROM t WHERE id = NEW.id) DO ALSO UPDATE t SET s = 'ruled' WHERE t.id = NEW.id;
	CREATE RULE off AS ON UPDATE TO log DO ALSO DELETE FROM t;
	ALTER TABLE log DISABLE RULE off;
	CREATE RECURSIVE VIEW steps (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM steps JOIN t ON t.id = n WHERE n < 5;
	CREATE FUNCTION f(i int) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET work_mem = '8MB' BEGIN ATOMIC SELECT sum(t.v) FROM t WHERE t.id <= i; END;
	ALTER FUNCTION f OWNER TO joe; REVOKE ALL ON FUNCTION f FROM PUBLIC; GRANT EXECUTE ON FUNCTION f TO ann; COMMENT ON FUNCTION f IS 'three';
	CREATE PROCEDURE p(INOUT i int) BEGIN ATOMIC UPDATE t SET s = 'called' WHERE id = i RETURNING v; END;
	CREATE VIEW by_function AS SELECT f(10);
	CREATE FUNCTION write_v1() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t (id, v, s) VALUES (NEW.id, NEW.w, NEW.s); RETURN NEW; END $$;
	CREATE VIEW v3 AS SELECT id, v AS w, s FROM t;
	CREATE TRIGGER write_v3 INSTEAD OF INSERT ON v3 FOR EACH ROW EXECUTE FUNCTION write_v1()});

# All that the catalog says of them, with their OIDs.
my $facts = q{
	SELECT string_agg(pg_describe_object('pg_class'::regclass, c.oid, 0) || ' ' || (to_jsonb(c) - 'relfilenode' - 'relpages' - 'reltuples')
		|| coalesce(pg_get_viewdef(c.oid), '') || coalesce(obj_description(c.oid), ''), E'\n' ORDER BY c.oid)
	  FROM pg_class c WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace;
	SELECT string_agg((to_jsonb(a) - 'attmissingval')::text || coalesce(col_description(attrelid, attnum), '') || coalesce((SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum), ''), E'\n' ORDER BY attrelid, attnum)
	  FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace;
	SELECT string_agg(concat_ws(' ', w.oid, ev_class, rulename, ev_type, ev_enabled, is_instead, pg_get_ruledef(w.oid), obj_description(w.oid)), E'\n' ORDER BY w.oid)
	  FROM pg_rewrite w JOIN pg_class c ON c.oid = ev_class WHERE relnamespace = 'public'::regnamespace;
	SELECT string_agg((to_jsonb(p) - 'prosqlbody') || pg_get_functiondef(p.oid) || coalesce(obj_description(p.oid), ''), E'\n' ORDER BY p.oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace;
	SELECT string_agg(pg_get_triggerdef(oid), E'\n') FROM pg_trigger WHERE NOT tgisinternal;
	SELECT count(*), sum(sum) FROM m};
my $was = $c->sql(1, $facts);

# Key numbers that were not used yet.
my $next = 1000;
sub used
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $rows = $c->sql(1, 'SELECT count(*) FROM t');
	my $key = $next;

	$next += 20;
	is($c->sql(1, $facts), $was, "$what: they are the same") unless $what =~ /refreshed/;
	is($c->sql(1, 'SELECT count(*), sum(w) FROM v2; SELECT count(*), sum(before) FROM v2 WHERE w < 50'),
		$c->sql(1, 'SELECT count(*), sum(v) FROM t WHERE v > 10 AND v < 50; SELECT count(*), sum((SELECT count(*) FROM t u WHERE u.id < t.id)) FROM t WHERE v > 10 AND v < 50'), "$what: nested views");
	is($c->sql(1, 'SELECT count(*) FROM whole WHERE id = 20; SELECT max(n) FROM steps; SELECT f(10), f FROM by_function; SELECT j FROM whole WHERE id = 20'),
		"1\n5\n55|55\n" . '{"id":20,"v":20,"s":"x","g":40}', "$what: of whole rows, recursive, by a function");
	is($c->sql(1, "INSERT INTO v1 (id, w) VALUES ($key, 60) RETURNING \"G g\", s; UPDATE v1 SET w = 61 WHERE id = $key RETURNING \"G g\"; SELECT v FROM t WHERE id = $key"), "120|y\n122\n61", "$what: changed through a view");
	is(($c->fails(1, "UPDATE v1 SET w = 1 WHERE id = $key"))[0], '44000', "$what: check option");
	$key++;
	is($c->sql(1, "INSERT INTO v3 (id, w, s) VALUES ($key, 62, 'q'); SELECT v, s FROM t WHERE id = $key"), '62|q', "$what: by its trigger");
	$key++;
	is($c->sql(1, "INSERT INTO whole (id, s) VALUES ($key, 'r'); SELECT v, s FROM t WHERE id = $key; SELECT v FROM log WHERE id = $key"), "11|r\n1", "$what: by a rule with two actions");
	is($c->sql(1, "INSERT INTO log VALUES ($key, 8), ($key, 7); SELECT s FROM t WHERE id = $key; CALL p($key); SELECT s FROM t WHERE id = $key"), "ruled\n11\ncalled", "$what: by a rule of another table, and a procedure");
	is($c->sql(1, 'SET SESSION AUTHORIZATION ann; SELECT max(w) >= 60 FROM v1; SELECT f(2)'), "t\n3", "$what: with the rights of another");
	is(($c->fails(1, "SET SESSION AUTHORIZATION ann; $_"))[0], '42501', "$what: and no more: $_") for 'SELECT s FROM v1', 'SELECT * FROM v2', 'SELECT * FROM of_user', 'SELECT * FROM t';
	is($c->sql(1, 'SET SESSION AUTHORIZATION joe; SELECT count(*) > 90 FROM v1; SELECT count(*) > 90 FROM of_user'), "t\nt", "$what: by the owner of the table");
	is(($c->fails(1, 'TABLE empty'))[0], '55000', "$what: what was not populated is not");
	is($c->sql(1, 'SELECT count(*) FROM t'), $rows + 3, "$what: nothing else has changed");
}
used('before');

# What would mean something else is refused, and what names the row's type.
for my $case (
	[ 'CREATE VIEW x AS SELECT t FROM t', 'DROP VIEW x', qr/column t of view x depends on the table/ ],
	[ 'CREATE VIEW x AS SELECT * FROM v1, LATERAL (SELECT FROM ONLY t) y', 'DROP VIEW x', qr/view x uses the table with ONLY/ ],
	[ 'CREATE RULE x AS ON DELETE TO log DO ALSO DELETE FROM ONLY t', 'DROP RULE x ON log', qr/rule x on table log uses the table with ONLY/ ],
	[ 'CREATE FUNCTION x() RETURNS int BEGIN ATOMIC SELECT max(v) FROM ONLY t; END', 'DROP FUNCTION x', qr/function x\(\) uses the table with ONLY/ ],
	[ 'CREATE FUNCTION x() RETURNS SETOF t BEGIN ATOMIC SELECT * FROM t; END', 'DROP FUNCTION x', qr/function x\(\) depends on the table/ ],
	[ 'CREATE FUNCTION x(t[]) RETURNS int BEGIN ATOMIC SELECT max(v) FROM t; END', 'DROP FUNCTION x', qr/function x\(t\[\]\) depends on the table/ ],
	[ 'CREATE POLICY x ON log USING (EXISTS (SELECT FROM t WHERE t.id = log.id))', 'DROP POLICY x ON log', qr/policy x on table log depends on the table/ ])
{
	my ($make, $drop, $wanted) = @$case;
	$c->sql(1, $make);
	my ($code, $message) = $c->fails(1, q{SELECT fragaffinity.distribute_table('t', 'id', 6)});
	like($code, qr/^(2BP01|0A000)$/, "refused: $make");
	$message =~ s/public\.//g;
	like($message, qr/$wanted.*HINT:  Drop it, and create it again afterwards/s, 'and named');
	$c->sql(1, $drop);
}
for my $case (
	[ 'REVOKE CREATE ON SCHEMA public FROM joe', 'GRANT CREATE ON SCHEMA public TO joe', qr/function f\(integer\) cannot be kept: its owner may not create in schema "public".*HINT: /s ],
	[ 'CREATE SCHEMA hidden; CREATE FUNCTION hidden.g() RETURNS int LANGUAGE sql RETURN 1; CREATE VIEW x AS SELECT hidden.g() FROM t; ALTER VIEW x OWNER TO ann',
		'DROP VIEW x; DROP SCHEMA hidden CASCADE', qr/permission denied for schema hidden/ ])
{
	my ($make, $undo, $wanted) = @$case;
	$c->sql(1, $make);
	my ($code, $message) = $c->fails(1, q{SELECT fragaffinity.distribute_table('t', 'id', 6)});
	$message =~ s/public\.//g;
	is($code, '42501', "not as its owner might define it: $make");
	like($message, $wanted, 'as it says');
	$c->sql(1, $undo);
}
$c->sql(1, q{BEGIN; SELECT fragaffinity.distribute_table('t', 'id', 6); ROLLBACK});
used('undone');

# A transaction that uses a view goes on: what waits for it holds no lock yet on what
# the view uses.
sub behind
{
	my ($statement, $what) = @_;
	my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);

	$client->query_safe("BEGIN; COMMENT ON VIEW v2 IS 'second'");
	my %late = (out => '', err => '');
	$late{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(1)->connstr('postgres'), '-c', $statement ], '<', \undef, '>', \$late{out}, '2>', \$late{err});
	$c->poll(1, q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'v2'::regclass}, '1', "$what waits for the view");
	is($client->query('SELECT count(*) > 0 FROM v2; COMMIT'), 't', "$what keeps nobody from the table meanwhile");
	is($client->{stderr}, '', 'without an error');
	$late{run}->finish;
	is($late{err}, '', "$what, then");
	$client->quit;
}
$c->sql(1, "GRANT EXECUTE ON FUNCTION fragaffinity.distribute_table, fragaffinity.undistribute_table TO joe; GRANT USAGE ON SCHEMA fragaffinity TO joe");
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->query_safe('PREPARE by_view AS SELECT w FROM v1 WHERE id = $1; PREPARE all_of_it AS SELECT count(*) >= 90 FROM v2');
$client->query_safe('EXECUTE by_view (20); EXECUTE all_of_it') for 1 .. 10;
behind(q{SET SESSION AUTHORIZATION joe; SELECT fragaffinity.distribute_table('t', 'id', 6)}, 'distribute_table, by the owner of the table');
used('distributed');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.tables'), '1', 'it is');
is($client->query('EXECUTE by_view (20)'), '20', 'by a statement that was prepared before');
$c->sql(1, 'REFRESH MATERIALIZED VIEW CONCURRENTLY m; REFRESH MATERIALIZED VIEW empty');
is($c->sql(1, 'SELECT sum(count) FROM m; SELECT count(*) FROM empty'), $c->sql(1, 'SELECT count(*) FROM t; SELECT count(*) FROM v2'), 'materialized views are refreshed from all nodes');
$c->sql(1, 'REFRESH MATERIALIZED VIEW empty WITH NO DATA');
$was = $c->sql(1, $facts);

# They are on this node; others make their own, as of one that is made later.
is(($c->fails(2, 'TABLE v1'))[0], '42P01', 'they are on one node');
$c->sql($_, 'CREATE VIEW v1 AS SELECT id, v AS w FROM t WHERE v > 10; ALTER VIEW v1 OWNER TO joe') for 2, 3;
for my $offset (0 .. 5)
{
	my ($fragment) = $c->fragment('t', $offset);
	$c->move($fragment, 'n' . ($offset % 3 + 1)) if $c->owner($fragment) ne 'n' . ($offset % 3 + 1);
}
used('moved');
my $of_all = $c->sql(1, 'SELECT count(*), sum(w) FROM v1');
is($c->sql($_, 'SELECT count(*), sum(w) FROM v1'), $of_all, "by a view of node $_") for 2, 3;
is($c->sql($_, "INSERT INTO v1 VALUES (@{[ $_ + 500 ]}, 70) RETURNING w"), '70', "and into it on node $_") for 2, 3;
$c->sql(1, 'ALTER TABLE t ADD COLUMN more int DEFAULT 3; ALTER TABLE t RENAME TO t2; ALTER TABLE t2 RENAME TO t; ALTER TABLE t DROP COLUMN more');
used('changed');

# Back: where they are on other nodes, the table goes from them.
my ($code, $message) = $c->fails(1, q{SELECT fragaffinity.undistribute_table('t')});
is($code, '2BP01', 'views of other nodes stand in the way of undistribute_table');
like($message, qr/view (public\.)?v1 depends on the table.*node "n2".*HINT:  Drop it there/s, 'which are named');
$c->sql($_, 'DROP VIEW v1') for 2, 3;
$c->sql(1, 'CREATE VIEW of_bucket AS SELECT * FROM t_b0');
($code, $message) = $c->fails(1, q{SELECT fragaffinity.undistribute_table('t')});
is($code, '2BP01', 'so does a view of a bucket');
like($message, qr/view (public\.)?of_bucket depends on the table.*HINT: /s, 'which is named');
$c->sql(1, 'DROP VIEW of_bucket');
behind(q{SET SESSION AUTHORIZATION joe; SELECT fragaffinity.undistribute_table('t')}, 'undistribute_table, by the owner of the table');
used('gathered');
is($client->query('EXECUTE by_view (20)'), '20', 'by a statement that was prepared before');
$client->quit;
$c->sql(1, q{SELECT fragaffinity.distribute_table('t', 'id', 2); ALTER VIEW v2 RENAME TO v9; ALTER VIEW v9 RENAME TO v2});
used('once more');
is(($c->fails(1, 'DROP TABLE t'))[0], '2BP01', 'it does not go without them');
$c->sql(1, 'DROP TABLE t CASCADE');
is($c->sql(1, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace}), '', 'and takes them along');

# Of a table of partitions, and partitions that come and go.
$c->sql(1, q{
	CREATE TABLE q (k int NOT NULL, d int NOT NULL, PRIMARY KEY (k, d)) PARTITION BY RANGE (d);
	CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM (1) TO (2);
	INSERT INTO q SELECT i, 1 FROM generate_series(1, 50) i;
	CREATE VIEW vq AS SELECT * FROM ONLY q UNION ALL SELECT * FROM q;
	CREATE VIEW vq_1 AS SELECT k FROM q_1;
	CREATE TABLE q_2 (k int NOT NULL, d int NOT NULL, PRIMARY KEY (k, d));
	INSERT INTO q_2 SELECT i, 2 FROM generate_series(1, 20) i;
	CREATE MATERIALIZED VIEW vq_2 AS SELECT count(*) FROM q_2;
	SELECT fragaffinity.distribute_table('q', 'k', 3)});
sub of_partitions { return $c->sql(1, 'SELECT count(*) FROM vq; SELECT count(*) FROM vq_1; REFRESH MATERIALIZED VIEW vq_2; TABLE vq_2'); }
is(of_partitions(), "50\n50\n20", 'of a table and its partition');
$c->sql(1, 'ALTER TABLE q ATTACH PARTITION q_2 FOR VALUES FROM (2) TO (3)');
is(of_partitions(), "70\n50\n20", 'of a partition that is attached');
$c->sql(2, 'DELETE FROM q WHERE k = 5');
is(of_partitions(), "68\n49\n19", 'of its rows on all nodes');
$c->sql(1, 'ALTER TABLE q DETACH PARTITION q_1; DELETE FROM q_1 WHERE k = 6');
is(of_partitions(), "19\n48\n19", 'of one that is detached');
is(($c->fails(1, 'DROP TABLE q_2'))[0], '2BP01', 'of one that does not go');
$c->sql(1, 'DROP TABLE q_2 CASCADE');
is($c->sql(1, q{SELECT count(*) FROM pg_class WHERE relname IN ('q_2', 'vq_2')}), '0', 'and of one that does');
$c->sql(1, q{SELECT fragaffinity.undistribute_table('q'); INSERT INTO q_1 VALUES (200, 1); ALTER TABLE q ATTACH PARTITION q_1 FOR VALUES FROM (1) TO (2)});
is($c->sql(1, 'SELECT count(*) FROM vq'), '49', 'of the table when it is gathered');
ok($c->check_consistent('at the end'), 'at the end');

done_testing();
