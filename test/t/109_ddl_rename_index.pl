# RENAME of indexes and constraints of a distributed table, on all nodes or on none, with
# what is kept by their names.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, connect => 0);
$c->sql($_, 'CREATE EXTENSION fragaffinity CASCADE; CREATE EXTENSION btree_gist; CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe') for 1 .. 3;
$c->add_node($_) for 1, 2;
$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, s text, r int4range,
		CONSTRAINT t_v UNIQUE (v, id), CONSTRAINT t_c CHECK (v >= 0), CONSTRAINT t_x EXCLUDE USING gist (id WITH =, r WITH &&));
	INSERT INTO t SELECT i, i, 's' || i, int4range(i, i + 1) FROM generate_series(1, 100) i;
	CREATE INDEX t_s ON t (s);
	CREATE UNIQUE INDEX t_u ON t (id, s) WHERE v > 0;
	COMMENT ON INDEX t_u IS 'you';
	ALTER TABLE t REPLICA IDENTITY USING INDEX t_v;
	ALTER TABLE t OWNER TO joe;
	SELECT fragaffinity.distribute_table('t', 'id', 4)});

sub shown
{
	my ($i) = @_;
	return $c->sql($i, q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 't'::regclass;
		SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype <> 'n';
		SELECT string_agg(u->>'name', ' ' ORDER BY u->>'name'), definition->>'identities' FROM fragaffinity.distributed_table, jsonb_array_elements(definition->'unique') u GROUP BY 2});
}

sub shown_everywhere
{
	my ($expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(shown($_), $expected, "$what: node $_") for 1, 2;
	return;
}

my $before = qq{t_pkey t_s t_u t_v\nt_c t_pkey t_v\nt_pkey t_u t_v t_x|["ALTER TABLE public.t REPLICA IDENTITY USING INDEX t_v"]};
shown_everywhere($before, 'before');
$c->sql(2, 'CREATE TABLE taken (i int)');
my $heap_index = $c->sql(1, q{SELECT indexrelid::regclass FROM pg_index WHERE indrelid = (SELECT leaf FROM fragaffinity.fragments WHERE local LIMIT 1) AND indisprimary});
for (
	[ '42501', 'SET SESSION AUTHORIZATION ann; ALTER INDEX t_s RENAME TO b' ],
	[ '42501', 'SET SESSION AUTHORIZATION ann; ALTER TABLE t RENAME CONSTRAINT t_x TO b' ],
	[ '42P07', 'ALTER INDEX t_s RENAME TO t_u' ], [ '42P07', 'ALTER INDEX t_pkey RENAME TO taken' ],
	[ '42710', 'ALTER TABLE t RENAME CONSTRAINT t_c TO t_pkey' ], [ '42704', 'ALTER TABLE t RENAME CONSTRAINT nothing TO b' ],
	[ '0A000', 'ALTER TABLE ONLY t RENAME CONSTRAINT t_c TO b' ], [ '0A000', "ALTER INDEX $heap_index RENAME TO b" ],
	[ '0A000', 'ALTER INDEX t_b0_s_idx RENAME TO b' ], [ '0A000', 'ALTER TABLE t_b0 RENAME CONSTRAINT t_c TO b' ],
	[ '0A000', 'BEGIN; SAVEPOINT s; ALTER INDEX t_s RENAME TO b' ], [ '22012', 'BEGIN; ALTER INDEX t_pkey RENAME TO b; SELECT 1/0' ],
	[ '22012', 'BEGIN; ALTER TABLE t RENAME CONSTRAINT t_x TO b; SELECT 1/0' ])
{
	my ($expected, $sql) = @$_;
	my ($code, $message) = $c->fails(1, $sql);
	is($code, $expected, "refused: $sql") or diag($message);
}
shown_everywhere($before, 'refused');

my $owns = 'SET SESSION AUTHORIZATION joe; ';
$c->sql(1, "$owns ALTER INDEX t_s RENAME TO i_s");
$c->sql(2, "$owns ALTER TABLE t_u RENAME TO i_u");
$c->sql(1, "$owns ALTER INDEX t_pkey RENAME TO \"The key\"");
$c->sql(2, "$owns ALTER TABLE t RENAME CONSTRAINT t_v TO \"The v\"");
$c->sql(1, "$owns ALTER TABLE t RENAME CONSTRAINT t_c TO i_c");
$c->sql(2, "$owns ALTER TABLE t RENAME CONSTRAINT t_x TO i_x");
my $after = qq{"The key" "The v" i_s i_u\nThe key The v i_c\nThe key The v i_u i_x|["ALTER TABLE public.t REPLICA IDENTITY USING INDEX \\"The v\\""]};
shown_everywhere($after, 'afterwards');
for my $i (1, 2)
{
	is($c->sql($i, q{SELECT string_agg(DISTINCT conname, ' ') FROM pg_constraint c, pg_class r
		WHERE r.oid = conrelid AND relname ~ '^t_b' AND contype = 'c'}), 'i_c', "a check has the name on all parts of node $i");
	is($c->sql($i, q{SELECT count(*) FROM pg_class WHERE relname LIKE 'fragaffinity\_%' AND relnamespace = 'public'::regnamespace}), '0', 'nothing is left');
	is($c->sql($i, qq{INSERT INTO t (id, v) VALUES ($_, 0) ON CONFLICT ON CONSTRAINT "The key" DO UPDATE SET s = 'x' RETURNING s}), 'x', "the key's name on node $i, of $_") for 1 .. 4;
	is(($c->fails($i, "INSERT INTO t VALUES ($_, -1)"))[1] =~ /violates check constraint "i_c"/, 1, "the check's name on node $i, of $_") for 201 .. 204;
}

# Fragments that move come with all of it; meanwhile what is no part of heaps may be renamed.
my $f = $c->fragment('t', 0);
$c->hold(2, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n2', false)");
$c->wait_held(2, 'move_copied');
is(($c->fails($_, "SET lock_timeout = '100ms'; ALTER TABLE t RENAME CONSTRAINT i_c TO j_c"))[0], '55P03', "not a check of node $_ while a fragment moves") for 1, 2;
$c->sql(1, 'ALTER INDEX "The key" RENAME TO j_key; ALTER INDEX i_s RENAME TO j_s; ALTER INDEX i_u RENAME TO j_u');
$c->release(2);
$c->poll(1, "SELECT owner || state FROM fragaffinity.fragments WHERE fragment = $f", 'n2stable', 'the move ends');
is($c->sql(2, "SELECT count(*) FROM pg_index WHERE indrelid = (SELECT leaf FROM fragaffinity.fragment WHERE fragment = $f)"), '5', 'with all indexes');
is(($c->fails(2, 'INSERT INTO t VALUES (1, 1)'))[0], '23505', 'which hold');
my $heap = $c->sql(2, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
my $key = $c->sql(2, "SELECT min(id) FROM $heap");
is(($c->fails(1, "INSERT INTO t VALUES ($key + 0, 1, 'z', int4range($key, $key + 1))"))[0], '23505', 'on both nodes');
$c->sql(1, 'DROP INDEX j_u; ALTER TABLE t DROP CONSTRAINT i_x');
$c->sql(1, q{ALTER TABLE t ADD CONSTRAINT i_x EXCLUDE USING gist (id WITH =, r WITH &&); CREATE UNIQUE INDEX j_u ON t (id, s) WHERE v > 0});
$c->add_node(3);
is(shown(3), shown(1), 'a node that joins has the names');
ok($c->check_consistent('consistent'), 'consistent');
$c->sql(2, q{SELECT fragaffinity.undistribute_table('t')});
is($c->sql(2, q{SELECT string_agg(indexrelid::regclass::text || CASE WHEN indisreplident THEN '!' ELSE '' END, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 't'::regclass}),
	'"The v"! i_x j_key j_s j_u', 'so has the plain table');
is($c->sql(2, q{SELECT conname FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c'}), 'i_c', 'and its check');

done_testing();
