# ALTER TABLE ... SET SCHEMA of a distributed table, on all nodes or on none: its sequences
# and indexes go along, its buckets stay, and all that is kept by name follows.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 4, connect => 0);
$c->sql($_, 'CREATE EXTENSION fragaffinity CASCADE') for 1 .. 4;
$c->add_node($_) for 1 .. 3;
$c->sql($_, q{CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; CREATE SCHEMA old; CREATE SCHEMA "N w";
	GRANT ALL ON SCHEMA old, "N w" TO joe; GRANT USAGE ON SCHEMA old, "N w" TO ann; CREATE SCHEMA closed; GRANT USAGE ON SCHEMA closed TO joe}) for 1 .. 4;
$c->sql(1, q{
	CREATE TABLE old.t (id bigserial PRIMARY KEY, v int NOT NULL, s text, CONSTRAINT t_both UNIQUE (v, id)) WITH (fillfactor = 70);
	INSERT INTO old.t (v, s) SELECT i, 's' || i FROM generate_series(1, 300) i;
	ALTER TABLE old.t REPLICA IDENTITY USING INDEX t_both;
	CREATE INDEX t_s ON old.t (s);
	GRANT SELECT ON old.t TO ann;
	ALTER TABLE old.t OWNER TO joe;
	CREATE TABLE old.p (k int NOT NULL, d int NOT NULL, PRIMARY KEY (k, d)) PARTITION BY RANGE (d);
	CREATE TABLE old.p_1 PARTITION OF old.p FOR VALUES FROM (1) TO (2);
	INSERT INTO old.p SELECT i, 1 FROM generate_series(1, 100) i;
	ALTER TABLE old.p OWNER TO joe;
	SELECT fragaffinity.distribute_table('old.t', 'id', 6);
	SELECT fragaffinity.distribute_table('old.p', 'k', 3)});
$c->sql($_, 'CREATE VIEW old.v AS SELECT * FROM old.t') for 1 .. 3;

sub state_of
{
	return join "\n", map {
		$c->sql($_, q{SELECT string_agg(oid::regclass::text, ' ' ORDER BY oid::regclass::text) FROM pg_class WHERE relkind IN ('p', 'S', 'I', 'i') AND oid > 16384})
		  . $c->sql($_, q{SELECT string_agg(definition::text, ' ' ORDER BY table_id) FROM fragaffinity.distributed_table})
	} 1 .. 3;
}

# Refused: nothing has changed.
my $before = state_of();
my ($code, $message);
is(($c->fails(2, 'SET SESSION AUTHORIZATION ann; ALTER TABLE old.t SET SCHEMA "N w"'))[0], '42501', 'not hers');
($code, $message) = $c->fails(2, 'SET SESSION AUTHORIZATION joe; ALTER TABLE old.t SET SCHEMA closed');
is($code, '42501', 'a schema in which he may not create');
like($message, qr/permission denied for schema closed/, 'as PostgreSQL says it');
is(($c->fails(1, 'ALTER TABLE old.t SET SCHEMA none'))[0], '3F000', 'no such schema');
is(($c->fails(1, 'BEGIN; SAVEPOINT a; ALTER TABLE old.t SET SCHEMA "N w"'))[0], '0A000', 'not in a savepoint');
is(($c->fails(1, 'BEGIN; ALTER TABLE old.t SET SCHEMA "N w"; SELECT 1/0'))[0], '22012', 'undone with its transaction');
for ('TABLE old.t_b0', 'TABLE old.p_1', 'SEQUENCE old.t_id_seq')
{
	($code, $message) = $c->fails(1, qq{ALTER $_ SET SCHEMA "N w"});
	is($code, '0A000', "not of $_");
	like($message, qr/HINT: /, 'with a hint');
}
$c->sql(3, 'CREATE TABLE "N w".t (i int)');
is(($c->fails(1, 'ALTER TABLE old.t SET SCHEMA "N w"'))[0], '42P07', 'the name is taken on another node');
$c->sql(3, 'DROP TABLE "N w".t; REVOKE CREATE ON SCHEMA "N w" FROM joe');
is(($c->fails(1, 'SET SESSION AUTHORIZATION joe; ALTER TABLE old.t SET SCHEMA "N w"'))[0], '42501', 'nor where another node lets him create nothing');
$c->sql(3, 'GRANT CREATE ON SCHEMA "N w" TO joe');
$c->sql($_, 'CREATE SCHEMA here') for 1, 2;
($code, $message) = $c->fails(1, 'ALTER TABLE old.t SET SCHEMA here');
is($code, '3F000', 'a schema that another node has not');
like($message, qr/node "n3" has no schema here.*HINT: /s, 'which is named');
is(state_of(), $before, 'refused: all is as it was');

# Sessions of all nodes that know it by a view go on; the name is free.
my @client = map { $c->node($_)->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
sub by_view
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $client (@client)
	{
		is($client->query("EXECUTE by_view($_)"), $_, "$what: key $_") for 1, 2, 3, 5, 8, 13, 200;
		is($client->query('SELECT count(*) FROM old.v'), 300, "$what: all of it");
	}
}
for my $client (@client)
{
	$client->query_safe('PREPARE by_view(int) AS SELECT v FROM old.v WHERE id = $1');
	$client->query_safe("EXECUTE by_view($_)") for 1 .. 10;
}
by_view('before');
$c->sql(2, 'SET SESSION AUTHORIZATION joe; SET search_path = old; ALTER TABLE t SET SCHEMA "N w"');
by_view('afterwards');
for my $i (1 .. 3)
{
	is($c->sql($i, q{SELECT table_name FROM fragaffinity.tables WHERE table_id = 1}), '"N w".t', "node $i finds it there");
	is($c->sql($i, q{SELECT pg_get_serial_sequence('"N w".t', 'id')}), '"N w".t_id_seq', 'with its sequence');
	is($c->sql($i, q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = '"N w".t'::regclass}),
		'"N w".t_both "N w".t_pkey "N w".t_s', 'and indexes');
	my ($near) = $c->sql($i, q{SELECT min(id) FROM "N w".t WHERE tableoid IN (SELECT leaf FROM fragaffinity.fragments WHERE local)});
	my ($far) = $c->sql($i, q{SELECT min(id) FROM "N w".t WHERE tableoid IN (SELECT leaf FROM fragaffinity.fragments WHERE NOT local)});
	like($c->sql($i, qq{EXPLAIN (COSTS OFF) SELECT * FROM "N w".t WHERE id = $far}), qr/Fragment: t \d+ on n\d.*routed whole/, "routed whole from node $i");
	unlike($c->sql($i, qq{EXPLAIN (COSTS OFF) SELECT * FROM "N w".t WHERE id = $near}), qr/Custom|Foreign|Append/, "against the heap on node $i");
	is($c->sql($i, qq{INSERT INTO "N w".t (id, v) VALUES ($far, 0), ($near, 0) ON CONFLICT (id) DO UPDATE SET s = 'x' RETURNING s}), "x\nx", "upserts from node $i");
	is($c->sql($i, q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM "N w".t}), '300', "others read it from node $i");
	is($c->sql($i, qq{INSERT INTO "N w".t (v) VALUES (-1); DELETE FROM "N w".t WHERE v = -1 RETURNING id % 3 IS NOT NULL}), 't', "a number of the sequence on node $i");
}

# Another one takes its place; moves, splits and nodes that join go on.
$c->sql(3, q{CREATE TABLE old.t (id int PRIMARY KEY, v int);
	SELECT fragaffinity.distribute_table('old.t', 'id', 6);
	INSERT INTO old.t SELECT i, -i FROM generate_series(1, 50) i});
by_view('beside another');
is($c->sql($_, 'SELECT count(*), sum(v) FROM old.t'), '50|-1275', "the other one on node $_") for 1 .. 3;
for my $fragment ($c->fragment('"N w".t', 1), $c->fragment('old.t', 1))
{
	$c->move($fragment, $c->owner($fragment) eq 'n1' ? 'n2' : 'n1') for 1, 2;
}
$c->sql(2, "SELECT fragaffinity.split_fragment(" . $c->fragment('"N w".t', 1) . ", '100')");
$c->sql(3, q{ALTER TABLE "N w".t ADD COLUMN more int DEFAULT 7; COMMENT ON TABLE "N w".t IS 'tee'; DROP INDEX "N w".t_s});
$_->quit for @client;
$c->sql($_, 'DROP VIEW old.v') for 1 .. 3;
$c->sql(4, 'ALTER SCHEMA old RENAME TO older');
$c->sql(3, 'DROP TABLE old.t; ALTER TABLE old.p SET SCHEMA "N w"; DROP TABLE "N w".p');
($code, $message) = $c->fails(1, "SELECT fragaffinity.add_node('n4', '127.0.0.1', " . $c->peer_port(4) . ", 'postgres')");
like($message, qr/node "n4" has no schema old/, 'a node that joins needs the schema of the buckets');
$c->sql(4, 'ALTER SCHEMA older RENAME TO old');
$c->add_node(4);
is($c->sql(4, q{SELECT count(*), sum(more) FROM "N w".t}), '300|2100', 'and has the table then');
is($c->sql(4, qq{SELECT more FROM "N w".t WHERE id = $_}), '7', "with key $_") for 1 .. 20;
my ($fragment) = $c->fragment('"N w".t', 2);
$c->move($fragment, 'n4');
is($c->sql(4, q{SELECT reloptions FROM pg_class WHERE oid IN (SELECT leaf FROM fragaffinity.fragments WHERE local)}), '{fillfactor=70}', 'its options have followed');
is($c->sql($_, q{SELECT string_agg(bucket::text, ' ' ORDER BY fragment) FROM fragaffinity.fragments}),
	$c->sql(1, q{SELECT string_agg(bucket::text, ' ' ORDER BY fragment) FROM fragaffinity.fragments}), "buckets are named alike on node $_") for 2 .. 4;

# The schemas: of the table, and of its buckets.
for ('ALTER SCHEMA old RENAME TO x', 'ALTER SCHEMA "N w" RENAME TO x')
{
	is(($c->fails(1, $_))[0], '0A000', "refused: $_");
}
is(($c->fails(1, 'DROP SCHEMA old CASCADE'))[0], '2BP01', 'buckets do not go with their schema');
$c->sql(1, 'GRANT INSERT ON ALL TABLES IN SCHEMA old TO ann');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE has_table_privilege('ann', bucket, 'INSERT')}), '0', 'nor are rights given on them alone');
($code, $message) = (0, '');
$c->sql($_, 'REVOKE ALL ON SCHEMA old FROM ann; GRANT USAGE ON SCHEMA closed TO ann') for 1 .. 4;
$c->node(3)->psql('postgres', 'ALTER TABLE "N w".t SET SCHEMA closed', stderr => \$message);
like($message, qr/WARNING:  role "ann" may not use schema "old".*HINT: /s, 'who has no USAGE of it is named');
$c->sql($_, 'GRANT USAGE ON SCHEMA old TO ann') for 1 .. 4;
$message = '';
$c->node(3)->psql('postgres', 'ALTER TABLE closed.t SET SCHEMA "N w"', stderr => \$message);
is($message, '', 'nobody is otherwise');
ok($c->check_consistent('consistent'), 'consistent');

# Back to a plain table, where it is by now.
$c->sql(1, q{SELECT fragaffinity.undistribute_table('"N w".t')});
is($c->sql(1, q{SELECT reloptions, relreplident, relowner::regrole, (SELECT indexrelid::regclass FROM pg_index WHERE indrelid = c.oid AND indisreplident)
	FROM pg_class c WHERE oid = '"N w".t'::regclass}), '{fillfactor=70}|i|joe|"N w".t_both', 'options, identity and owner');
is($c->sql(1, q{SELECT count(*), sum(more) FROM "N w".t}), '300|2100', 'rows');
is($c->sql($_, q{SELECT count(*) FROM pg_class WHERE relname ~ '_b\d+'}), '0', "nothing is left on node $_") for 1 .. 4;
$c->sql($_, 'DROP SCHEMA old') for 1 .. 4;
ok($c->check_consistent('at the end'), 'at the end');

done_testing();
