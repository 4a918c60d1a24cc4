# Transfers by clients on all nodes while fragments move at random and servers
# are killed at random, whatever they are doing: the total stays, and what a
# client was told holds.
#
# FA_MINUTES=10 goes on for longer; FA_SEED repeats an order of events.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{FA_SEED} // int(rand(1e6));
my $end = time() + 60 * ($ENV{FA_MINUTES} // 0.5);
my $accounts = 60;
my $total = $accounts * 1000;
my $c = FragAffinity->new(nodes => 3);
note("FA_SEED=$seed");
srand($seed);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, 1000 FROM generate_series(1, $accounts) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 6)");
my @fragments = map { $c->fragment('t', $_) } 0 .. 5;

my ($kills, $moves, $rounds) = (0, 0, 0);
until (time() > $end && $rounds > 0)
{
	my $load = $c->start_load(
		table => 't', anchors => $accounts, pause => 3000, keys => 500,
		modes => { map { $_ => [ 'transfer', 'transfer' ] } 1 .. 3 });
	$rounds++;
	for (1 .. 6)
	{
		my $victim = 1 + int(rand(3));
		for my $f (map { $fragments[ rand @fragments ] } 1 .. 2)
		{
			my $to = 1 + int(rand(3));
			my $from = 1 + int(rand(3));
			# one that is under way already, or to where it is, is refused
			$moves += 0 == $c->node($from)->psql('postgres',
				"SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)", stderr => \my $err);
		}
		# between a few commits at the same place and some hundred
		$c->wait_for_load($load, 1 + int(rand(20)));
		$c->kill9($victim);
		$kills++;
		$c->restart($victim);
	}
	$c->wait_for_load($load, 5);
	$c->stop_load($load);
	$c->check_consistent("round $rounds: nothing left over");
	$c->check_load($load, 't', "round $rounds", allow => qr/./);
	is($c->sql($_, "SELECT count(*), sum(n) FROM t WHERE id <= $accounts"), "$accounts|$total",
		"round $rounds: the total on node $_") for 1 .. 3;
}
note("$rounds rounds, $kills kills, $moves moves begun, "
	  . eval(join '+', map { $c->sql($_, 'SELECT parts_committed_later FROM fragaffinity.transaction_stats') } 1 .. 3)
	  . ' parts committed by resolvers since the last restarts');
done_testing();
