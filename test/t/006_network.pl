# Links that stall, break and come back while fragments move: nobody hangs for
# ever, one owner remains, and rows that were acknowledged stay.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $anchors = 90;
my $c = FragAffinity->new(nodes => 3, proxy => 1);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, $anchors) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3, placement => 'n2')");
my $f = $c->fragment('t');

# Some way off: moves and statements still work, only slower.
$c->link(0, 'delay', 20);
my $load = $c->start_load(
	table => 't', anchors => $anchors, pause => 5000,
	modes => { 1 => [ 'simple', 'block' ], 2 => ['prepared'], 3 => [ 'simple', 'reader' ] });
for my $to (qw(n3 n1 n2))
{
	$c->move($f, $to);
	is($c->owner($f), $to, "moved to $to over a distance");
	$c->wait_for_load($load, 5);
}
$c->check_load($load, 't', 'with 20 ms between the nodes');
$c->check_consistent('with a distance: nothing left over');
$c->link(0, 'delay', 0);

# The network is lost at steps of a move, and comes back.
for my $case (
	[ 'move_slot_created', 'cut' ], [ 'move_copied', 'stall' ], [ 'move_fenced', 'cut' ],
	[ 'move_swapped', 'cut' ], [ 'cluster_before_decision', 'cut' ], [ 'move_decided', 'cut' ])
{
	my ($point, $how) = @$case;
	my $source = substr $c->owner($f), 1;
	my $destination = $source == 2 ? 3 : 2;
	my $name = "$how at $point";

	$c->hold($destination, $point);
	my $move = $c->sql($destination, "SELECT fragaffinity.move_fragment($f, 'n$destination', wait => false)");
	ok($c->wait_held($destination, $point, qr/\] LOG: /), "$name: step reached");
	$c->link($source, $how);
	$c->release($destination);
	if ($how eq 'cut')
	{
		# Seen at once: the move ends before the link is back, but for what
		# only the source can do.
		ok($c->poll($destination, "SELECT count(*) FROM fragaffinity.moves
				WHERE move = $move AND state NOT IN ('done', 'failed', 'cancelled')", '0', $name),
			"$name: the move ends");

		# Who needs the node that is cut off gets an error, not a wait.
		my $start = time();
		my ($code) = $c->fails($destination, 'SELECT count(*) FROM t');
		like($code, qr/^(08...|)$/, "$name: a statement that needs the other side");
		cmp_ok(time() - $start, '<', 60, "$name: is told in time");
	}
	$c->link($source, 'heal');

	my $owner;
	ok($c->poll($destination, "SELECT count(*) FROM fragaffinity.moves
			WHERE state NOT IN ('done', 'failed', 'cancelled')", '0', $name), "$name: over");
	$owner = $c->owner($f, $destination);
	is($c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", $owner), 1,
		"$name: node $_ knows the owner") for 1 .. 3;
	is($c->sql($_, "SELECT count(*), count(DISTINCT id) FROM t WHERE id BETWEEN 1 AND $anchors"),
		"$anchors|$anchors", "$name: node $_ has the rows") for 1 .. 3;
	$c->check_consistent("$name: nothing left over");
}
$c->rows_agree('t', 'all nodes show the same rows');

done_testing();
