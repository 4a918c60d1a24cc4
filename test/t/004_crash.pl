# kill -9 of the source, the destination or the coordinator at every step of a
# move, under writers on all nodes: after the restart there is one owner, every
# row that was acknowledged, and an index of each access method that finds it.
#
# Clients may see errors here, as a node is down; they may not be told wrong.
use strict;
use warnings;
use EveryIndex;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $anchors = 120;
my $c = FragAffinity->new(nodes => 3);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 50));
	CREATE INDEX ON t (n);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, $anchors) i;
	" . every_index('t') . ";
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3, placement => 'n2')");
my $f = $c->fragment('t');

# Steps in their order; all but one are the mover's, at the destination.
my @points = (
	'move_copying', 'move_heap_created', 'move_slot_created', 'move_copied',
	'move_catching up', 'move_fencing', 'move_locked_here', 'move_fenced',
	'move_exclusive_here', 'move_swapped_out', 'move_swapped',
	'cluster_prepared', 'cluster_before_decision', 'move_decided');
my %at_source = (move_swapped_out => 1);
# A background worker's line has no application name.
my $mover = qr/\] LOG: /;

my $load = $c->start_load(
	table => 't', anchors => $anchors, pause => 10000, keys => 2000,
	modes => { 1 => [ 'block', 'reader' ], 2 => ['simple'], 3 => ['prepared'] });

sub number { my ($name) = @_; return substr $name, 1; }

# Of the moving fragment, where it is.
sub check_indexes
{
	my ($name) = @_;
	my $i = number($c->owner($f));
	my $leaf = $c->sql($i, "SELECT leaf::regclass FROM fragaffinity.fragment WHERE fragment = $f");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(wrong_answers(sub { $c->sql($i, $_[0]) }, $leaf), '', "$name: every index answers right");
	return;
}

sub one_case
{
	my ($point, $who) = @_;
	my $source = number($c->owner($f));
	my $destination = $source == 2 ? 3 : 2;
	my $victim = { source => $source, destination => $destination, coordinator => 1 }->{$who};
	my $at = $at_source{$point} ? $source : $destination;
	my $name = "$who killed at $point";
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$c->hold($at, $point);
	my $move = $c->sql($destination, "SELECT fragaffinity.move_fragment($f, 'n$destination', wait => false)");
	if (!$c->wait_held($at, $point, $at_source{$point} ? undef : $mover))
	{
		fail("$name: step reached");
		diag($c->sql($destination, "SELECT * FROM fragaffinity.move WHERE move = $move"));
		$c->release($at);
		return;
	}
	$c->kill9($victim);
	$c->release($at);
	$c->restart($victim);

	# Over, one way or the other, and every node says the same.
	ok($c->poll($destination, "SELECT count(*) FROM fragaffinity.move
			WHERE state NOT IN ('done', 'failed', 'cancelled')", '0', "$name: moves in flight"),
		"$name: the move ends");
	my $owner = $c->owner($f, $destination);
	my $state = $c->sql($destination, "SELECT state || coalesce(': ' || error, '') FROM fragaffinity.move WHERE move = $move");
	note("$name: $state; owner $owner");
	is(($state eq 'done' ? "n$destination" : "n$source"), $owner, "$name: the owner fits the outcome");
	is($c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", $owner), 1,
		"$name: node $_ knows the owner") for 1 .. 3;
	is($c->sql($_, "SELECT count(*), count(DISTINCT id) FROM t WHERE id BETWEEN 1 AND $anchors"),
		"$anchors|$anchors", "$name: node $_ has the rows") for 1 .. 3;
	check_indexes($name);
	$c->check_consistent("$name: nothing left over");
	$c->wait_for_load($load, 5);
	return;
}

for my $point (@points)
{
	one_case($point, $_) for qw(source destination coordinator);
}

# The mover alone dies: its server restarts all processes.
{
	my $source = number($c->owner($f));
	my $destination = $source == 2 ? 3 : 2;

	$c->hold($destination, 'move_fenced');
	$c->sql($destination, "SELECT fragaffinity.move_fragment($f, 'n$destination', wait => false)");
	ok($c->wait_held($destination, 'move_fenced', $mover), 'mover at the fence');
	my $pid = $c->sql($destination, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'fragaffinity mover%'");
	kill 'KILL', $pid;
	$c->poll($destination, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0');
	$c->release($destination);
	is($c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", "n$source"), 1,
		"mover killed: node $_ knows the owner") for 1 .. 3;
	$c->check_consistent('mover killed: nothing left over');
}

# After all that moves still work, without any error.
$c->check_load($load, 't', 'crashes', allow => qr/./);
$load = $c->start_load(
	table => 't', anchors => $anchors, pause => 4000,
	modes => { 1 => [ 'block', 'reader' ], 2 => ['simple'], 3 => ['prepared'] });
for (1 .. 3)
{
	my $to = $c->owner($f) eq 'n2' ? 'n3' : 'n2';
	$c->move($f, $to);
	is($c->owner($f), $to, "and a plain move to $to");
}
$c->check_load($load, 't', 'afterwards');
$c->rows_agree('t', 'all nodes show the same rows');
check_indexes('at the end');
$c->check_consistent('at the end');

my $path = $ENV{FA_MOVE_PATH} // 'page';
is($c->sql(1, "SELECT string_agg(DISTINCT path, ',') FROM fragaffinity.moves WHERE state = 'done'"),
	$path, "all moves went by the $path path");

done_testing();
