# kill -9 of origin and participants at every step of a commit over several
# nodes, under transfers by clients on all nodes and with fragments moving: the
# total stays, and what a client was told holds.  The same with atomic_commit off
# loses money, so the test is one.
#
# FA_ROUNDS=50 repeats the steps (one round takes about a minute).
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $accounts = 60;
my $total = $accounts * 1000;
my $c = FragAffinity->new(nodes => 3);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, 1000 FROM generate_series(1, $accounts) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3)");
my @id = (undef, map { $c->sql(1, "SELECT min(id) FROM t_b" . ($_ - 1)) } 1 .. 3);
my $f = $c->fragment('t', 1);

sub total_is
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $i (1 .. 3)
	{
		is($c->sql($i, "SELECT count(*), sum(n) FROM t WHERE id <= $accounts"),
			"$accounts|$total", "$name: the total on node $i");
	}
	return;
}

# The steps of a commit begun on node 1, in their order; where its client waits
# when it has been told nothing.
my @points = qw(commit_begun commit_prepared commit_before_decision commit_peers_done commit_decided);

sub one_case
{
	my ($point, $victim) = @_;
	my $name = "node $victim killed at $point";
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $load = $c->start_load(
		table => 't', anchors => $accounts, pause => 5000, keys => 500,
		modes => { 1 => [ 'transfer', 'transfer' ], 2 => ['transfer'], 3 => ['transfer'] });

	$c->wait_for_load($load, 3);
	$c->hold(1, $point);
	$c->sql(1, "SELECT fragaffinity.move_fragment($f, '" . ($c->owner($f) eq 'n2' ? 'n3' : 'n2') . "', wait => false)");
	ok($c->wait_held(1, $point), "$name: step reached");
	$c->kill9($victim);
	$c->release(1);
	$c->restart($victim);
	$c->wait_for_load($load, 5);
	$c->stop_load($load);
	$c->check_consistent("$name: nothing left over");
	$c->check_load($load, 't', $name, allow => qr/./);
	total_is($name);
	return;
}

for my $round (1 .. $ENV{FA_ROUNDS} // 1)
{
	for my $point (@points)
	{
		# all at the origin's death; the participants in turn
		one_case($point, 1);
		one_case($point, 2 + $round % 2);
	}
}

# A dead origin: parts wait, are shown, and only an administrator's word ends
# them before it is back.
sub transfer { return "BEGIN; UPDATE t SET n = n - 7 WHERE id = $id[1]; UPDATE t SET n = n + 7 WHERE id = $id[3]; COMMIT;"; }

sub leave_in_doubt
{
	my ($point) = @_;
	my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);

	$c->hold(1, $point);
	# begun after hold, or the session would know nothing of it
	$client->{stdin} .= transfer() . "\n";
	$client->{run}->pump_nb;
	ok($c->wait_held(1, $point), "a commit stands at $point");
	return $client;
}
$c->sql(1, 'SELECT 1');
my $client = leave_in_doubt('commit_decided');
my $gid = $c->sql(3, 'SELECT gid FROM fragaffinity.in_doubt');
ok($c->poll(3, 'SELECT origin, state, outcome FROM fragaffinity.in_doubt', 'n1|prepared|commit'),
	'the part is shown with its outcome');
$c->kill9(1);
$c->poll(3, q{SELECT state FROM fragaffinity.nodes WHERE name = 'n1'}, 'down');
is($c->sql(3, 'SELECT outcome FROM fragaffinity.in_doubt'), 'unknown', 'which is unknown without the origin');
my ($code, $message) = $c->fails(3, "SELECT fragaffinity.resolve_in_doubt('$gid', 'commit')");
is($code, '55000', 'and by hand it is refused');
like($message, qr/nobody knows.*force => true/s, 'with a hint');
($code) = $c->fails(3, "SELECT fragaffinity.resolve_in_doubt('$gid', 'perhaps', true)");
is($code, '22023', 'another action is refused');
($code) = $c->fails(3, "BEGIN; SELECT fragaffinity.resolve_in_doubt('$gid', 'commit', true)");
is($code, '25001', 'so is a transaction block');
my ($out, $err);
$c->node(3)->psql('postgres', "SELECT fragaffinity.resolve_in_doubt('$gid', 'commit', true)", stdout => \$out, stderr => \$err);
like($err, qr/WARNING:.*finished by hand: commit/, 'forced, with a warning');
is($c->sql(3, 'SELECT parts_by_hand FROM fragaffinity.transaction_stats'), '1', 'counted');
$c->release(1);
$c->restart(1);
eval { $client->{run}->kill_kill };
$c->check_consistent('resolved by hand: nothing left over');
total_is('resolved by hand as decided');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.in_doubt'), '0', 'nothing in doubt');

# Without atomicity, the origin dies after the peers' commit and before its own.
$c->sql(1, 'ALTER SYSTEM SET fragaffinity.atomic_commit = off');
$client = leave_in_doubt('commit_peers_done');
$c->kill9(1);
$c->release(1);
$c->restart(1);
eval { $client->{run}->kill_kill };
is($c->sql(2, "SELECT sum(n) FROM t WHERE id <= $accounts"), $total + 7,
	'with atomic_commit off the same death makes money');
done_testing();
