# RENAME of a distributed table, on all nodes or on none: clients that know it by other
# ways than its name go on, the old name is free, and all that is kept by name follows.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 4, connect => 0);
$c->sql($_, 'CREATE EXTENSION fragaffinity CASCADE') for 1 .. 4;
$c->add_node($_) for 1 .. 3;
$c->sql($_, 'CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe') for 1 .. 4;

$c->sql(1, q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v int NOT NULL, s text, CONSTRAINT t_both UNIQUE (v, id)) WITH (fillfactor = 70);
	INSERT INTO t (v, s) SELECT i, 's' || i FROM generate_series(1, 300) i;
	ALTER TABLE t REPLICA IDENTITY USING INDEX t_both;
	CREATE INDEX t_s ON t (s);
	ALTER TABLE t OWNER TO joe;
	CREATE TABLE p (k int NOT NULL, d int NOT NULL, PRIMARY KEY (k, d)) PARTITION BY RANGE (d);
	CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (1) TO (2);
	INSERT INTO p SELECT i, 1 FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('t', 'id', 6);
	SELECT fragaffinity.distribute_table('p', 'k', 3)});
$c->sql(1, 'SELECT fragaffinity.split_fragment(' . $c->fragment('t', 0) . ", '150')");
$c->sql($_, 'CREATE VIEW v AS SELECT * FROM t') for 1 .. 3;

sub names
{
	return join "\n", map {
		$c->sql($_, q{SELECT string_agg(oid::regclass::text, ' ' ORDER BY oid::regclass::text) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('p', 'v')})
		  . $c->sql($_, q{SELECT string_agg(definition::text, ' ' ORDER BY table_id) FROM fragaffinity.distributed_table})
	} 1 .. 3;
}

# Refused: nothing has changed.
my $before = names();
is(($c->fails(2, 'SET SESSION AUTHORIZATION ann; ALTER TABLE t RENAME TO u'))[0], '42501', 'not hers');
is(($c->fails(1, 'BEGIN; SAVEPOINT a; ALTER TABLE t RENAME TO u'))[0], '0A000', 'not in a savepoint');
is(($c->fails(1, 'BEGIN; ALTER TABLE t RENAME TO u; SELECT 1/0'))[0], '22012', 'undone with its transaction');
is(($c->fails(1, 'ALTER TABLE t RENAME TO p'))[0], '42P07', 'the name is taken');
$c->sql(3, 'CREATE TABLE here (i int)');
is(($c->fails(1, 'ALTER TABLE t RENAME TO here'))[0], '42P07', 'the name is taken on another node');
$c->sql(3, 'DROP TABLE here');
is(($c->fails(2, 'DECLARE x CURSOR WITH HOLD FOR SELECT 1; BEGIN; DECLARE y CURSOR FOR SELECT * FROM t; FETCH y; ALTER TABLE t RENAME TO u'))[0],
	'55006', 'while a cursor reads it');
my ($f) = $c->fragment('t', 3);
my $from = substr($c->owner($f), 1);
my $to = $from % 3 + 1;
$c->hold($to, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n$to', false)");
$c->wait_held($to, 'move_copied');
is(($c->fails($_, "SET lock_timeout = '100ms'; ALTER TABLE t RENAME TO u"))[0], '55P03', "not while a fragment moves, on node $_") for 1 .. 3;
$c->release($to);
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", "n$to");
$c->poll($_, 'SELECT count(*) FROM fragaffinity.cleanup', '0', 'moves have left nothing') for 1 .. 3;
is(names(), $before, 'refused: all is as it was');

# Sessions of all nodes that know it by its name, or not.
my @client = map { $c->node($_)->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
sub by_view
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $client (@client)
	{
		is($client->query("SELECT v FROM v WHERE id = $_; EXECUTE by_view($_)"), "$_\n$_", "$what: key $_ by a view, simple and prepared")
		  for 1, 2, 3, 5, 8, 13, 200;
		is($client->query('SELECT count(*) FROM v'), 300, "$what: all of it");
	}
}
for my $client (@client)
{
	$client->query_safe("PREPARE by_name(int) AS SELECT v FROM t WHERE id = \$1; PREPARE by_view(int) AS SELECT v FROM v WHERE id = \$1");
	for my $i (1 .. 10) { $client->query_safe("EXECUTE by_name($i); EXECUTE by_view($i); SELECT v FROM t WHERE id = $i"); }
}
by_view('before');
$c->sql(2, 'SET SESSION AUTHORIZATION joe; ALTER TABLE t RENAME TO "T u"');
by_view('afterwards');
for my $client (@client)
{
	$client->{stderr} = '';
	$client->query('EXECUTE by_name(1)');
	like($client->{stderr}, qr/relation "t" does not exist/, 'what was prepared by the old name finds nothing');
	$client->{stderr} = '';
}
for my $i (1 .. 3)
{
	is($c->sql($i, q{SELECT table_name FROM fragaffinity.tables WHERE table_id = 1}), '"T u"', "node $i calls it so");
	my ($near) = $c->sql($i, q{SELECT min(id) FROM "T u" WHERE tableoid IN (SELECT leaf FROM fragaffinity.fragments WHERE local)});
	my ($far) = $c->sql($i, q{SELECT min(id) FROM "T u" WHERE tableoid IN (SELECT leaf FROM fragaffinity.fragments WHERE NOT local)});
	like($c->sql($i, qq{EXPLAIN (COSTS OFF) SELECT * FROM "T u" WHERE id = $far}), qr/Fragment: T u \d+ on n\d.*routed whole/, "routed whole from node $i");
	unlike($c->sql($i, qq{EXPLAIN (COSTS OFF) SELECT * FROM "T u" WHERE id = $near}), qr/Custom|Foreign|Append/, "against the heap on node $i");
	is($c->sql($i, qq{INSERT INTO "T u" (id, v) VALUES ($far, 0), ($near, 0) ON CONFLICT (id) DO UPDATE SET s = 'x' RETURNING s}), "x\nx", "upserts from node $i");
}

# The old name is free, also for another distributed table, whose rows are its own.
$c->sql(3, q{CREATE TABLE t (id int PRIMARY KEY, v int);
	SELECT fragaffinity.distribute_table('t', 'id', 6);
	INSERT INTO t SELECT i, -i FROM generate_series(1, 50) i});
for my $client (@client)
{
	is($client->query("EXECUTE by_name($_); SELECT v FROM t WHERE id = $_"), "-$_\n-$_", "key $_ of the new table") for 1, 2, 3, 5, 8, 13;
}
by_view('beside another');
like($c->sql(1, q{EXPLAIN (COSTS OFF) SELECT * FROM t WHERE id = 1}), qr/routed whole|Index .*Scan using t_2_b\d+_h_pkey/, 'the new one is routed, too');
is($c->sql(1, q{SELECT count(DISTINCT bucket) FROM fragaffinity.fragments WHERE bucket::text LIKE 't\_2\_b%' AND table_name = 't'::regclass}), '6', 'its buckets have names of their own');

# Moves, splits, DDL and nodes that join go on by the new name.
for my $fragment ($c->fragment('"T u"', 1), $c->fragment('t', 1))
{
	$c->move($fragment, $c->owner($fragment) eq 'n1' ? 'n2' : 'n1') for 1, 2;
}
$c->sql(2, "SELECT fragaffinity.split_fragment(" . $c->fragment('"T u"', 1) . ", '100')");
$c->sql(3, q{ALTER TABLE "T u" ADD COLUMN more int DEFAULT 7; COMMENT ON TABLE "T u" IS 'tee'; GRANT SELECT ON "T u" TO ann});
is($c->sql(2, q{SET SESSION AUTHORIZATION ann; SELECT sum(more) FROM "T u"}), '2100', 'DDL by the new name');
$c->sql(2, 'DROP VIEW v') if $c->sql(1, 'DROP VIEW v') eq '' && $c->sql(3, 'DROP VIEW v') eq '';
$_->quit for @client;
$c->add_node(4);
is($c->sql(4, q{SELECT count(*), sum(more) FROM "T u"}), '300|2100', 'a node that joins has it');
is($c->sql(4, q{SELECT sum(v) FROM t}), '-1275', 'and the other one');
is($c->sql(4, qq{SELECT more FROM "T u" WHERE id = $_; SELECT v FROM t WHERE id = $_}), "7\n-$_", "with key $_") for 1 .. 20;
for my $table ('"T u"', 't')
{
	my ($fragment) = $c->fragment($table, 2);
	$c->move($fragment, 'n4');
}
is($c->sql(4, q{SELECT reloptions FROM pg_class WHERE oid IN (SELECT leaf FROM fragaffinity.fragments WHERE local AND table_name = '"T u"'::regclass)}),
	'{fillfactor=70}', 'its options have followed');
is($c->sql($_, q{SELECT string_agg(bucket::text, ' ' ORDER BY fragment) FROM fragaffinity.fragments}),
	$c->sql(1, q{SELECT string_agg(bucket::text, ' ' ORDER BY fragment) FROM fragaffinity.fragments}), "buckets are named alike on node $_") for 2 .. 4;

# A table of partitions: they keep their names, as on one server; two change places.
$c->sql(2, 'BEGIN; ALTER TABLE p RENAME TO q; ALTER TABLE t RENAME TO p; ALTER TABLE q RENAME TO t; COMMIT');
is($c->sql($_, 'SELECT count(*), sum(v) FROM p'), '50|-1275', "one in the other's place on node $_") for 1 .. 4;
is($c->sql($_, 'SELECT count(*), sum(k) FROM t'), '100|5050', "and the other way round on node $_") for 1 .. 4;
$c->sql(3, 'CREATE TABLE p_2 PARTITION OF t FOR VALUES FROM (2) TO (3); INSERT INTO t SELECT i, 2 FROM generate_series(1, 10) i');
$c->sql(1, 'INSERT INTO t SELECT i, 2 FROM generate_series(11, 20) i; INSERT INTO p VALUES (51, -51)');
is($c->sql($_, 'SELECT count(*) FROM t WHERE d = 2'), '20', "a partition of it on node $_") for 1 .. 4;
ok($c->check_consistent('consistent'), 'consistent');

# Back to plain tables, with the names, options and identities that they have by now.
$c->sql(1, qq{SELECT fragaffinity.undistribute_table('$_')}) for '"T u"', 't', 'p';
is($c->sql(1, q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = '"T u"'::regclass}), 't_both t_pkey t_s',
	'indexes are called as before, as on one server');
is($c->sql(1, q{SELECT reloptions, relreplident, (SELECT indexrelid::regclass FROM pg_index WHERE indrelid = c.oid AND indisreplident)
	FROM pg_class c WHERE oid = '"T u"'::regclass}), '{fillfactor=70}|i|t_both', 'options and identity');
is($c->sql(1, 'SELECT count(*), sum(v) FROM p'), '51|-1326', 'rows of one');
is($c->sql(1, 'SELECT count(*) FROM t'), '120', 'rows of the other');
is($c->sql(1, q{SELECT count(*) FROM pg_class WHERE relname ~ '_b\d+'}), '0', 'nothing is left');
$c->sql(1, q{ALTER TABLE "T u" RENAME TO t3; SELECT fragaffinity.distribute_table('t3', 'id', 2)});
is($c->sql(2, 'SELECT count(*) FROM t3'), '300', 'and once more');
ok($c->check_consistent('at the end'), 'at the end');

done_testing();
