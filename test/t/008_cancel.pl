# cancel_move at every step: before the decision the fragment stays where it
# is, with its rows; clients notice nothing.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $anchors = 60;
my $c = FragAffinity->new(nodes => 2);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, i FROM generate_series(1, $anchors) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2, placement => 'n2')");
my $f = $c->fragment('t');
my $load = $c->start_load(table => 't', anchors => $anchors, pause => 5000,
	modes => { 1 => [qw(simple reader)], 2 => ['block'] });

for my $point ('move_copying', 'move_heap_created', 'move_slot_created', 'move_copied',
	'move_catching up', 'move_fencing', 'move_locked_here', 'move_fenced',
	'move_exclusive_here', 'move_swapped')
{
	$c->hold(1, $point);
	my $move = $c->sql(2, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
	ok($c->wait_held(1, $point, qr/\] LOG: /), "step $point reached");
	my ($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($f, 'n1')");
	is($code, '55006', "$point: a second move is refused") or diag($message);
	$c->sql(1, "SELECT fragaffinity.cancel_move($move)");
	$c->release(1);
	ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'cancelled'),
		"$point: the move is cancelled");
	is($c->owner($f, $_), 'n2', "$point: node $_ knows that it stayed") for 1, 2;
	$c->check_consistent("$point: nothing left over");
	($code, $message) = $c->fails(1, "SELECT fragaffinity.cancel_move($move)");
	like($code, qr/^(42704|55000)$/, "$point: it cannot be cancelled again") or diag($message);
}
$c->wait_for_load($load, 10);
$c->check_load($load, 't', 'cancelled moves');
$c->move($f, 'n1');
is($c->owner($f), 'n1', 'and it can still move');
$c->rows_agree('t', 'both nodes show the same rows');
$c->check_consistent('at the end');

my $path = $ENV{FA_MOVE_PATH} // 'page';
is($c->sql(1, "SELECT string_agg(DISTINCT path, ',') FROM fragaffinity.moves WHERE state = 'done'"),
	$path, "all moves went by the $path path");

done_testing();
