# Partitions come and go under writers on all nodes, beside moves, two at once; and are
# there on all nodes or on none, whoever dies when.
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

sub bound { my ($n) = @_; return sprintf 'FOR VALUES FROM (%d) TO (%d)', 1000 * $n, 1000 * $n + 1000; }

$c->sql(1, q{CREATE TABLE m (id int NOT NULL, at int NOT NULL, v int NOT NULL DEFAULT 0, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE m_0 PARTITION OF m FOR VALUES FROM (0) TO (1000);
	INSERT INTO m SELECT i, i, 0 FROM generate_series(1, 500) i;
	SELECT fragaffinity.distribute_table('m', 'id', 6)});

# Writers of the partition that stays wait and go on.
my $script = PostgreSQL::Test::Utils::tempdir() . '/m.sql';
append_to_file($script, '\set id random(1, 80) * 6 + :client_id + :base
UPDATE m SET v = v + 1 WHERE id = :id AND at = :id;
');
my @writers = map {
	my $i = $_;
	my %w = (out => '', err => '');
	$w{run} = IPC::Run::start([ 'pgbench', '-n', '-M', $i == 1 ? 'prepared' : 'simple', '-c', 2, '-T', 12, '-f', $script,
			'-D', 'base=' . (2 * $i - 2), '-h', $c->node($i)->host, '-p', $c->node($i)->port, 'postgres' ],
		'<', \undef, '>', \$w{out}, '2>', \$w{err});
	\%w
} 1 .. 3;
my $f = $c->fragment('m', 0);
for my $n (1 .. 3)
{
	my $i = 1 + $n % 3;
	$c->sql($i, "CREATE TABLE m_$n PARTITION OF m " . bound($n));
	$c->sql(1, "SELECT fragaffinity.move_fragment($f, '" . ($c->owner($f) eq 'n2' ? 'n3' : 'n2') . "', wait => false)");
	$c->sql($i, "INSERT INTO m SELECT i, i + 1000 * $n FROM generate_series(1, 60) i");
	$c->sql(1 + $i % 3, "CREATE TABLE x_$n (LIKE m); INSERT INTO x_$n SELECT i, 10000 + 1000 * $n + i, 0 FROM generate_series(1, 60) i;
		ALTER TABLE m ATTACH PARTITION x_$n " . bound(10 + $n));
	is($c->sql($i, 'SELECT count(*) FROM m WHERE at > 1000'), '120', "rows of round $n");
	ok($c->poll(1, "SELECT count(*) FROM fragaffinity.fragments WHERE state = 'moving'", '0'), "the move of round $n");
	$c->sql($i, "ALTER TABLE m DETACH PARTITION m_$n; DROP TABLE x_$n");
	is($c->sql($i, "SELECT count(*) FROM ONLY m_$n"), '60', "detached in round $n");
}
my ($done, $errors) = (0, '');
for my $w (@writers)
{
	$w->{run}->finish;
	$done += $1 if $w->{out} =~ /actually processed: (\d+)/;
	# two of them at one row
	$errors .= join '', grep { /ERROR/ && !/could not serialize/ } split /^/, $w->{err};
}
is($errors, '', 'writers met no error');
cmp_ok($done, '>', 100, 'they wrote');
is($c->sql($_, 'SELECT sum(v) FROM m'), $done, "nothing is lost on node $_") for 1 .. 3;

# Whoever dies before the decision: nothing has happened.  Later: all.
$c->sql(1, q{CREATE TABLE plain (LIKE m); INSERT INTO plain SELECT i, 5000 + i, 1 FROM generate_series(1, 100) i});
my $count = q{SELECT count(*) FROM m WHERE at >= 5000};
my $there = q{SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'm'::regclass AND inhrelid = to_regclass('%s'))
	AND EXISTS (SELECT FROM fragaffinity.fragments WHERE bucket = to_regclass('%s_b0'))};
for my $step (
	[ 'CREATE', 'CREATE TABLE m_4 PARTITION OF m ' . bound(4), 'm_4', 'f', '0' ],
	[ 'ATTACH', 'ALTER TABLE m ATTACH PARTITION plain ' . bound(5), 'plain', 'f', '0' ],
	[ 'DETACH', 'ALTER TABLE m DETACH PARTITION plain', 'plain', 't', '100' ],
	[ 'DROP', 'DROP TABLE m_4', 'm_4', 't', '0' ])
{
	my ($name, $sql, $partition, $before, $rows) = @$step;
	my $after = $before eq 't' ? 'f' : 't';
	my $is = sprintf $there, $partition, $partition;

	$c->hold(1, 'cluster_before_decision');
	my $s = background(1, $sql);
	ok($c->wait_held(1, 'cluster_before_decision'), "$name is prepared");
	$c->kill9(1);
	$s->{run}->finish;
	$c->release(1);
	$c->restart(1);
	ok($c->poll($_, $is, $before), "$name undone on node $_") for 1 .. 3;
	ok($c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0'), "nothing prepared on node $_") for 1 .. 3;
	ok($c->poll($_, $count, $rows), "$name: rows as before on node $_") for 1 .. 3;

	$c->hold(1, 'cluster_before_decision');
	$s = background(1, $sql);
	ok($c->wait_held(1, 'cluster_before_decision'), "$name is prepared again");
	$c->kill9(3);
	$c->release(1);
	$s->{run}->finish;
	$c->restart(3);
	ok($c->poll($_, $is, $after), "$name done on node $_") for 1 .. 3;
	ok($c->poll(3, 'SELECT count(*) FROM pg_prepared_xacts', '0'), 'nothing prepared on node 3');
	$rows = '100' if $name eq 'ATTACH';
	$rows = '0' if $name eq 'DETACH';
	ok($c->poll($_, $count, $rows), "$name: rows on node $_") for 1 .. 3;
}
is($c->sql(1, 'SELECT count(*) FROM ONLY plain'), '100', 'the rows are back');

# Two at once.
my @s = map { background($_, "CREATE TABLE m_2$_ PARTITION OF m " . bound(20 + $_)) } 1 .. 3;
$_->{run}->finish for @s;
is(join('', map { $_->{out} . $_->{err} } @s), '', 'three partitions at once');
@s = map { background($_, 'DROP TABLE m_21') } 1 .. 3;
$_->{run}->finish for @s;
is(scalar(grep { $_->{err} eq '' } @s), 1, 'one of three drops it') or diag(map { $_->{err} } @s);
@s = (background(1, 'DROP TABLE m_22'), background(2, 'INSERT INTO m SELECT i, 22000 + i FROM generate_series(1, 300) i'));
$_->{run}->finish for @s;
is($s[0]{err}, '', 'a partition is dropped under an INSERT');
like($s[1]{err}, qr/^$|no partition of relation|does not exist|cache lookup|could not open relation/, 'which is done before or fails');
is($c->sql($_, 'SELECT count(*) FROM m WHERE at >= 22000'), '0', "no rows are left on node $_") for 1 .. 3;
$c->sql(1, 'INSERT INTO m SELECT i, 23000 + i FROM generate_series(1, 30) i');

# What was recorded of fragments that are gone goes, too.
my $gone = $c->sql(1, q{SELECT array_agg(fragment) FROM fragaffinity.fragments WHERE bucket::text LIKE 'm_23%'});
ok($c->poll(1, "SELECT count(*) > 0 FROM fragaffinity.history WHERE fragment = ANY ('$gone')", 't'), 'accesses to a partition are recorded');
$c->sql(2, 'DROP TABLE m_23');
ok($c->poll($_, "SELECT count(*) FROM fragaffinity.dropped_fragment", 0), "node $_ has forgotten fragments") for 1 .. 3;
is($c->sql(1, "SELECT count(*) FROM fragaffinity.history WHERE fragment = ANY ('$gone')"), '0', 'with their history');

ok($c->check_consistent('after all'), 'consistent');
done_testing();
