# What is known beforehand is met in time: a move is asked for in the step before
# the one that it is for, and waits until it is due.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2, proxy => 1);
$c->link(0, 'delay', 4);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,4');
	SELECT fragaffinity.configure('min_residency', '1s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('move_cost_factor', '0.0001');
	SELECT fragaffinity.configure('reactive', 'off');
	SELECT fragaffinity.configure('benefit_learning', 'off');
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT g, g FROM generate_series(1, 100) g;
	SELECT fragaffinity.distribute_table('t', 'id', 4, placement => 'n1')});
my $load = $c->start_load(table => 't', anchors => 100, pause => 3000, modes => { 1 => [qw(reader simple)] });
ok($c->poll(1, q{SELECT count(*) = 4 AND min(affinity) > 0.9 FROM fragaffinity.predictions
	WHERE node = 'n1' AND horizon = 1}), 'forecasts');

# Four seconds of eight are said to be the other node's.
$c->sql(1, q{SELECT fragaffinity.add_schedule('t', 'n2', every => '8 s', lasting => '4 s', weight => 1);
	SELECT fragaffinity.configure('mode', 'auto')});
for my $to (qw(n2 n1))
{
	ok($c->poll(1, qq{SELECT count(*) > 0 FROM fragaffinity.moves WHERE state = 'done' AND destination = '$to'
		AND trigger = 'predictive' AND reason ~ ', begins in '}), "a move to $to is asked for ahead")
		or diag($c->sql(1, 'SELECT reason FROM fragaffinity.moves'));
}
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe')});
$c->check_load($load, 't', 'ahead');
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.moves WHERE finished IS NULL', '0'), 'all moves end');
$c->check_consistent('one owner each, nothing left over');

done_testing();
