# distribute_table, undistribute_table and DDL against moves, writers and
# servers that die half way.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

sub background
{
	my ($i, $sql) = @_;
	my %s = (out => '', err => '');

	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node($i)->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \$s{out}, '2>', \$s{err});
	return \%s;
}

# A move that stands still in its middle.
$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 600) i;
	SELECT fragaffinity.distribute_table('t', 'id', 6)});
my $f = $c->fragment('t', 0);
$c->hold(2, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n2', wait => false)");
ok($c->wait_held(2, 'move_copied'), 'a move is under way');
for my $i (1 .. 3)
{
	my ($code, $message) = $c->fails($i, "SET lock_timeout = '100ms'; ALTER TABLE t ADD COLUMN x int");
	is($code, '55P03', "no ALTER TABLE through node $i meanwhile");
	like($message, qr/fragment $f .*moving/, 'and why');
	($code) = $c->fails($i, q{SET lock_timeout = '100ms'; SELECT fragaffinity.undistribute_table('t')});
	is($code, '55P03', "no undistribute_table through node $i");
}
$c->sql(3, 'CREATE INDEX t_v ON t (v)');
$c->sql(3, q{CREATE TABLE u (id int PRIMARY KEY); SELECT fragaffinity.distribute_table('u', 'id', 3)});
$c->release(2);
$c->poll(1, "SELECT owner || state FROM fragaffinity.fragments WHERE fragment = $f", 'n2stable', 'the move ends');
is($c->sql(2, "SELECT count(*) FROM pg_index WHERE indrelid = (SELECT leaf FROM fragaffinity.fragment WHERE fragment = $f)"),
	'2', 'with the index that was made meanwhile');
$c->sql(1, 'ALTER TABLE t ADD COLUMN x int DEFAULT 8');
is($c->sql(3, 'SELECT sum(x) FROM t'), '4800', 'and ALTER TABLE goes');

# A snapshot that is older than the fragments is refused, not half answered.
$c->sql($_, 'CREATE TABLE go (id int)') for 1;
$c->sql(1, q{CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r SELECT generate_series(1, 90)});
my $old = background(1, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM go;
	DO $$ BEGIN FOR i IN 1 .. 6000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'go on');
		PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$;
	SELECT count(*) FROM r; COMMIT});
$c->poll(1, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '1', 'an old snapshot');
$c->sql(1, q{SELECT fragaffinity.distribute_table('r', 'id', 6)});
my $go = background(1, q{SET application_name = 'go on'; SELECT pg_sleep(2)});
$old->{run}->finish;
$go->{run}->finish;
like($old->{err}, qr/could not serialize access/, 'an older snapshot cannot read the fragments');

# Writers wait and go on; none of their rows is lost.
$c->sql(1, q{CREATE TABLE w (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
	INSERT INTO w SELECT i, 0 FROM generate_series(1, 510) i});
my $script = PostgreSQL::Test::Utils::tempdir() . '/w.sql';
append_to_file($script, '\set id random(1, 100) * 5 + :client_id
UPDATE w SET v = v + 1 WHERE id = :id;
');
my @writers = map {
	my %w = (out => '', err => '');
	$w{run} = IPC::Run::start([ 'pgbench', '-n', '-M', $_, '-c', 2, '-T', 6, '-f', $script,
			'-h', $c->node(1)->host, '-p', $c->node(1)->port, 'postgres' ],
		'<', \undef, '>', \$w{out}, '2>', \$w{err});
	\%w
} qw(simple prepared);
for (1 .. 3)
{
	$c->sql(1, q{SELECT fragaffinity.distribute_table('w', 'id', 6)});
	$c->sql(1, q{SELECT fragaffinity.undistribute_table('w')});
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('w', 'id', 6)});
my ($done, $failed) = (0, 0);
for my $w (@writers)
{
	$w->{run}->finish;
	$done += $1 if $w->{out} =~ /actually processed: (\d+)/;
	# postgres_fdw reads in REPEATABLE READ: 40001 when two update one row.
	my @errors = grep { /ERROR/ && !/could not serialize/ } split /\n/, $w->{err};
	is("@errors", '', 'a writer met no error');
}
cmp_ok($done, '>', 100, 'writers wrote');
is($c->sql(2, 'SELECT sum(v) FROM w'), $done, 'and nothing is lost');

# Dies before the decision: nothing has happened.  A peer that dies then comes
# along when it is back.
$c->sql(1, q{CREATE TABLE d (id int PRIMARY KEY); INSERT INTO d SELECT generate_series(1, 200)});
for my $what ([ 'distribute_table', q{SELECT fragaffinity.distribute_table('d', 'id', 6)}, 'f' ],
	[ 'undistribute_table', q{SELECT fragaffinity.undistribute_table('d')}, 't' ])
{
	my ($name, $sql, $before) = @$what;
	my $is = q{SELECT EXISTS (SELECT FROM fragaffinity.tables WHERE table_name::text = 'd')};

	$c->hold(1, 'cluster_before_decision');
	my $s = background(1, $sql);
	ok($c->wait_held(1, 'cluster_before_decision'), "$name is prepared");
	$c->kill9(1);
	$s->{run}->finish;
	$c->release(1);
	$c->restart(1);
	$c->poll($_, $is, $before, "$name undone on node $_") for 1 .. 3;
	is($c->sql(1, 'SELECT count(*) FROM d'), '200', "$name: rows as before");
	$c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0', "nothing prepared on node $_") for 1 .. 3;

	$c->hold(1, 'cluster_before_decision');
	$s = background(1, $sql);
	ok($c->wait_held(1, 'cluster_before_decision'), "$name is prepared again");
	$c->kill9(3);
	$c->release(1);
	$s->{run}->finish;
	$c->restart(3);
	$c->poll($_, $is, $before eq 't' ? 'f' : 't', "$name done on node $_") for 1 .. 3;
	$c->poll(3, 'SELECT count(*) FROM pg_prepared_xacts', '0', 'nothing prepared on node 3');
	is($c->sql($before eq 't' ? 1 : 3, 'SELECT count(*) FROM d'), '200', "$name: all rows");
}

# Two at once, the same table and different ones.
$c->sql($_, "CREATE TABLE two_$_ (id int PRIMARY KEY)") for 1, 2;
$c->sql($_, 'CREATE TABLE twice (id int PRIMARY KEY)') for 1, 2;
my @s = map { background($_, "SELECT fragaffinity.distribute_table('two_$_', 'id', 6)") } 1, 2;
$_->{run}->finish for @s;
is(join('', map { $_->{out} . $_->{err} } @s), "6\n6\n", 'two tables at once');
is($c->sql(3, 'SELECT count(DISTINCT fragment) FROM fragaffinity.fragments WHERE table_name::text LIKE $$two%$$'),
	'12', 'with fragments of their own');
@s = map { background($_, q{SELECT fragaffinity.distribute_table('twice', 'id', 6)}) } 1, 2;
$_->{run}->finish for @s;
like(join('', map { $_->{err} } @s), qr/already has a relation or type public.twice.*already has a relation or type public.twice/s,
	'a table that two nodes have');

# Heaps that moves have left behind, here and there, are no obstacle; their
# defaults use the table's sequence.
$c->sql(1, q{CREATE TABLE left_over (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s serial);
	INSERT INTO left_over (s) SELECT i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('left_over', 'id', 2, placement => 'n1')});
$c->move($c->fragment('left_over', 1), 'n2');
$c->hold($_, 'move_cleanup') for 1, 2;
ok($c->wait_held($_, 'move_cleanup'), "node $_ drops nothing for now") for 1, 2;
$c->move($c->fragment('left_over', 0), 'n3');
$c->move($c->fragment('left_over', 1), 'n3');
is($c->sql($_, q{SELECT count(*) > 0 FROM fragaffinity.cleanup WHERE kind = 'table'}), 't',
	"node $_ has an old heap") for 1, 2;
$c->sql(1, q{SELECT fragaffinity.undistribute_table('left_over')});
is($c->sql($_, q{SELECT count(*) FROM pg_class WHERE relname LIKE 'fragaffinity_old%'}), '0',
	"undistribute_table drops it on node $_") for 1, 2;
is($c->sql(1, 'SELECT count(*) FROM left_over'), '100', 'and keeps the rows');
$c->release($_) for 1, 2;

ok($c->check_consistent('after all'), 'consistent');
done_testing();
