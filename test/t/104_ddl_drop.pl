# DROP TABLE of distributed tables, alone, with their schema, with their owner:
# on all nodes at once, and nothing is left; or nowhere.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql($_, q{CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe; CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO joe}) for 1 .. 3;

# What a node knows or has of distributed tables.
sub traces
{
	my ($i) = @_;
	return $c->sql($i, q{SELECT string_agg(x, ' ' ORDER BY x) FROM (
		SELECT oid::regclass::text FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 's'::regnamespace) AND relname ~ '^(t|u|m)(_|\d|$)'
		UNION ALL SELECT 'table ' || table_id FROM fragaffinity.distributed_table
		UNION ALL SELECT 'fragment ' || fragment FROM fragaffinity.fragment
		UNION ALL SELECT 'setting ' || name FROM fragaffinity.setting WHERE table_id <> 0
		UNION ALL SELECT 'hint ' || kind FROM fragaffinity.hint
		UNION ALL SELECT 'cleanup ' || relation FROM fragaffinity.cleanup WHERE kind = 'table'
		UNION ALL SELECT 'pin ' || fragment FROM fragaffinity.pin) y(x)});
}

sub make
{
	my ($table, %p) = @_;
	my $owner = $p{owner} // 'joe';
	$c->sql(1, qq{CREATE TABLE $table (id bigserial PRIMARY KEY, v int, UNIQUE (v, id));
		INSERT INTO $table (v) SELECT i FROM generate_series(1, 100) i; CREATE INDEX ON $table (v);
		ALTER TABLE $table OWNER TO $owner;
		SELECT fragaffinity.distribute_table('$table', 'id', 3)} . ($p{more} ? "; $p{more}" : ''));
	return;
}

sub gone
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(traces($_), '', "$what: nothing is left on node $_") for 1 .. 3;
	return;
}

# All that belongs to one: settings, hints, policies, a split, moves.
make('t', more => q{SELECT fragaffinity.configure('fragment_size', '1GB', 't'); SELECT fragaffinity.add_sequence('t', '{1,2}');
	CREATE POLICY p ON t USING (true); COMMENT ON TABLE t IS 'tee'});
$c->move($c->fragment('t', 0), 'n2');
$c->move($c->fragment('t', 1), 'n3');
$c->sql(1, "SELECT fragaffinity.split_fragment(" . $c->fragment('t', 0) . ", '50')");
$c->poll($_, 'SELECT count(*) FROM fragaffinity.cleanup', '0', 'heaps that moves have left are gone') for 1 .. 3;
my $last = $c->sql(1, 'SELECT max(fragment) FROM fragaffinity.fragment');
my @before = map { $_ ? traces($_) : undef } 0 .. 3;
sub unchanged
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(traces($_), $before[$_], "$what: all is there on node $_") for 1 .. 3;
	return;
}
is(($c->fails(2, 'SET SESSION AUTHORIZATION ann; DROP TABLE t'))[0], '42501', 'not hers');
$c->sql(3, 'CREATE VIEW v3 AS SELECT * FROM t');
my ($code, $message) = $c->fails(1, 'DROP TABLE t');
is($code, '2BP01', 'a view on another node depends on it');
like($message, qr/view v3 depends on/, 'and is named');
is(($c->fails(3, 'DROP TABLE t'))[0], '2BP01', 'as on its own');
is(($c->fails(2, 'BEGIN; DROP TABLE t CASCADE; SELECT 1/0'))[0], '22012', 'undone with its transaction');
is(($c->fails(1, 'DROP TABLE t, nothing'))[0], '42P01', 'with one that does not exist');
is(($c->fails(1, 'DECLARE x CURSOR WITH HOLD FOR SELECT 1; BEGIN; DECLARE y CURSOR FOR SELECT * FROM t; FETCH y; DROP TABLE t'))[0], '55006', 'while a cursor reads it');
unchanged('refused');
$c->sql(2, 'SET SESSION AUTHORIZATION joe; DROP TABLE IF EXISTS t CASCADE') if $c->sql(3, 'DROP VIEW v3') eq '';
gone('DROP TABLE');
is(($c->fails($_, 'SELECT FROM t'))[0], '42P01', "not on node $_") for 1 .. 3;

# Its fragments' history is not taken for that of the next ones.
make('t');
cmp_ok($c->sql(1, 'SELECT min(fragment) FROM fragaffinity.fragment'), '>', $last, 'numbers are not given again');

# Several, with a plain one, in a block, by CASCADE with what depends on it.
make('u');
$c->sql(1, q{CREATE TABLE plain (id int); CREATE VIEW w AS SELECT * FROM u; CREATE VIEW ww AS SELECT * FROM w});
$c->sql(2, q{CREATE VIEW w AS SELECT * FROM u});
$c->sql(1, q{BEGIN; ALTER TABLE t ADD COLUMN x int; DROP TABLE t, plain, u CASCADE; CREATE TABLE t (id int); COMMIT});
is(traces($_), $_ == 1 ? 't' : '', "two at once: node $_") for 1 .. 3;
is($c->sql($_, q{SELECT count(*) FROM pg_class WHERE relname IN ('w', 'ww', 'plain')}), '0', "and what depended, on node $_") for 1 .. 3;
$c->sql(1, 'DROP TABLE t');

# Made and dropped at once.
$c->sql(1, q{BEGIN; CREATE TABLE t (id int PRIMARY KEY); SELECT fragaffinity.distribute_table('t', 'id', 3); DROP TABLE t; COMMIT});
gone('made and dropped in one transaction');

# With its schema: the others' schemas stay. A part of another table does not go.
make('s.t');
make('t');
$c->sql(1, q{CREATE TABLE m (k int NOT NULL, day int NOT NULL) PARTITION BY RANGE (day); CREATE TABLE s.m1 PARTITION OF m FOR VALUES FROM (1) TO (10);
	SELECT fragaffinity.distribute_table('m', 'k', 3)});
is(($c->fails(1, 'DROP SCHEMA s'))[0], '2BP01', 'a schema that is not empty');
@before = map { $_ ? traces($_) : undef } 0 .. 3;
($code, $message) = $c->fails(1, 'DROP SCHEMA s CASCADE');
is($code, '2BP01', 'a schema with a part of a table elsewhere');
like($message, qr/"m1?_?\w*".*belongs to distributed table "m"/, 'which is named');
unchanged('refused');
$c->sql(2, 'DROP TABLE m');
$c->sql(3, 'DROP SCHEMA s CASCADE');
is($c->sql($_, q{SELECT count(*) FROM pg_namespace WHERE nspname = 's'}), $_ == 3 ? '0' : '1', "schema on node $_") for 1 .. 3;
$c->sql(3, 'CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO joe');
is($c->sql($_, q{SELECT string_agg(rel::text, ',') FROM fragaffinity.distributed_table}), 't', "only the schema's tables, node $_") for 1 .. 3;
is($c->sql($_, 'SELECT count(*) FROM t'), '100', "the other is whole on node $_") for 1 .. 3;

# With their owner; others' stay, but for what was granted.
make('u', owner => 'ann', more => 'GRANT SELECT ON u TO joe');
is(($c->fails(1, 'SET SESSION AUTHORIZATION ann; DROP OWNED BY joe'))[0], '42501', 'not by others');
$c->sql(2, 'SET SESSION AUTHORIZATION joe; DROP OWNED BY joe');
is($c->sql($_, q{SELECT string_agg(rel::text, ',') FROM fragaffinity.distributed_table}), 'u', "only the owner's tables, node $_") for 1 .. 3;
$c->sql(2, 'DROP OWNED BY joe');
is(($c->fails($_, 'SET SESSION AUTHORIZATION joe; SELECT FROM u'))[0], '42501', "revoked on node $_") for 1 .. 3;
$c->sql(3, 'GRANT SELECT ON u TO joe');
is($c->sql($_, 'SET SESSION AUTHORIZATION joe; SELECT count(*) FROM u'), '100', "joe still comes to other nodes from node $_") for 1 .. 3;
$c->sql(1, 'DROP TABLE u');
gone('DROP OWNED');

# Not while a fragment moves; writers wait and are told.
make('t');
my $f = $c->fragment('t', 0);
my $to = $c->sql(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f") eq 'n2' ? 3 : 2;
$c->hold($to, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
ok($c->wait_held($to, 'move_copied'), 'a move is under way');
for my $i (1 .. 3)
{
	($code, $message) = $c->fails($i, "SET lock_timeout = '100ms'; DROP TABLE t");
	is($code, '55P03', "not now through node $i");
	like($message, qr/fragment $f .*moving/, 'and why');
}
$c->release($to);
$c->poll(1, "SELECT owner || state FROM fragaffinity.fragments WHERE fragment = $f", "n${to}stable", 'the move ends');
my $script = PostgreSQL::Test::Utils::tempdir() . '/w.sql';
append_to_file($script, '\set id random(1, 100)
UPDATE t SET v = v + 1 WHERE id = :id;
');
my @writers = map {
	my %w = (out => '', err => '');
	$w{run} = IPC::Run::start([ 'pgbench', '-n', '-M', 'prepared', '-c', 2, '-T', 60, '-f', $script,
			'-h', $c->node($_)->host, '-p', $c->node($_)->port, 'postgres' ],
		'<', \undef, '>', \$w{out}, '2>', \$w{err});
	\%w
} 1 .. 3;
$c->poll(1, q{SELECT sum(v) > 5050 + 300 FROM t}, 't', 'writers write');
$c->sql(2, 'DROP TABLE t');
for my $w (@writers)
{
	$w->{run}->finish;
	unlike($w->{err}, qr/ERROR(?!.*relation "t" does not exist)/, 'writers see a table that is gone') or diag($w->{err});
	like($w->{err}, qr/relation "t" does not exist/, 'and no other error');
}
gone('under writers');

# Servers that die half way: on all nodes, or on none.
for my $point ('cluster_before_decision', 'cluster_decided')
{
	my %s = (out => '', err => '');
	make('t') if $point eq 'cluster_before_decision';
	$c->hold(1, $point);
	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(1)->connstr('postgres'), '-c', 'DROP TABLE t' ],
		'<', \undef, '>', \$s{out}, '2>', \$s{err});
	ok($c->wait_held(1, $point), "held at $point");
	$c->kill9(1);
	$s{run}->finish;
	$c->release(1);
	$c->restart(1);
	$c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0', "nothing in doubt on node $_") for 2, 3;
	if ($point eq 'cluster_decided')
	{
		gone('decided');
	}
	else
	{
		is($c->sql($_, 'SELECT count(*) FROM t'), '100', "undecided: all is there on node $_") for 1 .. 3;
	}
}
make('t');
$c->kill9(3);
is(($c->fails(1, 'DROP TABLE t'))[0], '08001', 'not while a node is down');
is($c->sql(1, q{SELECT to_regclass('t') IS NOT NULL}), 't', 'it is there');

done_testing();
