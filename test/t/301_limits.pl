# What holds the controller back: the time of day, pins, budgets, and moves that
# did not bring what was expected.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

# One mover a node: more moves are wanted at a time than it takes.
my $c = FragAffinity->new(nodes => 2, proxy => 1, config => 'fragaffinity.max_movers = 1');
$c->link(0, 'delay', 4);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,2,4,16');
	SELECT fragaffinity.configure('min_residency', '1s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('move_cost_factor', '0.0001');
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT g, g FROM generate_series(1, 100) g;
	SELECT fragaffinity.distribute_table('t', 'id', 4, placement => 'n1')});
my ($pinned, $other) = ($c->fragment('t', 0), $c->fragment('t', 1));

# A time that is not now, nor soon.
$c->sql(1, q{SELECT fragaffinity.configure('move_window',
	to_char(now() + interval '6 hours', 'HH24:MI') || '-' || to_char(now() + interval '7 hours', 'HH24:MI'), 't')});
$c->sql(2, "SELECT fragaffinity.pin_fragment($pinned)");
is($c->sql($_, 'SELECT string_agg(fragment::text, $$,$$) FROM fragaffinity.fragments WHERE pinned'), $pinned,
	"node $_ knows the pin") for 1, 2;
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'auto')});
my $load = $c->start_load(table => 't', anchors => 100, pause => 3000, modes => { 2 => [qw(reader simple)] });
my $verdicts = sub {
	return "SELECT count(*) FROM fragaffinity.recommendations WHERE destination = 'n2' AND verdict = '$_[0]'";
};
ok($c->poll(1, $verdicts->('not the time'), '3'), 'moves wait for their time of day');
ok($c->poll(1, $verdicts->('pinned'), '1'), 'and a pin is a pin');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.moves'), '0', 'nothing has moved');
like($c->sql(1, "SELECT string_agg(item || ' ' || detail, ' | ') FROM fragaffinity.explain_decision($pinned)"),
	qr/fragment $pinned of public.t on n1, .* pinned .*forecast n2: .*decision .* n2, pinned: .*; pinned to n1.*limit .*max_moves_per_hour = 0.*limit move_window = \d/,
	'explain_decision tells all of it');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.explain_decision(123456)'), '0', 'and nothing of what is not there');

# Moves that brought nothing: less is expected of the next ones.
$c->sql(1, qq{SELECT fragaffinity.configure('mode', 'advise');
	INSERT INTO fragaffinity.move (move, fragment, source, destination, trigger, state, reason, requested,
			finished, expected_benefit, observed_benefit)
		SELECT 1000000 + i, $other, 1, 2, 'predictive', 'done', 'test', now() - interval '30 hours',
			now() - interval '30 hours', 1000, 0 FROM generate_series(1, 9) i});
my $said = "SELECT count(*) FROM fragaffinity.recommendations WHERE reason ~ 'moves brought 0[.][23]. of what was expected'";
ok($c->poll(1, $said, '4'), 'a table whose moves did not pay gets quieter')
	or diag($c->sql(1, 'SELECT reason FROM fragaffinity.recommendations'));

# Some bring nothing and others as much more: that is chance.
$c->sql(1, q{UPDATE fragaffinity.move SET observed_benefit = 2300 WHERE reason = 'test' AND move % 2 = 0});
ok($c->poll(1, 'SELECT count(*) = 4 AND NOT bool_or(reason ~ $$brought$$) FROM fragaffinity.recommendations'),
	'moves that pay on the average are believed');
$c->sql(1, q{UPDATE fragaffinity.move SET observed_benefit = 0 WHERE reason = 'test'});
ok($c->poll(1, $said, '4'), 'and again they do not');
$c->sql(1, q{SELECT fragaffinity.configure('benefit_learning', 'off')});
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.recommendations WHERE reason ~ $$brought$$', '0'), 'when that is wanted');
$c->sql(1, 'DELETE FROM fragaffinity.move WHERE reason = $$test$$');

# One move within the hour, and no more.
$c->sql(1, q{SELECT fragaffinity.configure('max_moves_per_hour', '1');
	SELECT fragaffinity.configure('move_window', NULL, 't');
	SELECT fragaffinity.configure('mode', 'auto')});
ok($c->poll(1, $verdicts->('budget spent'), '2'), 'the budget of the hour is spent');
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.moves WHERE state = 'done'}, '1'), 'by one move');
my $steps = 'SELECT max(made_at) FROM fragaffinity.recommendations';
for (1 .. 3)
{
	my $made = $c->sql(1, $steps);
	$c->poll(1, "SELECT ($steps) > '$made'");
}
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.moves}), '1', 'also some decisions later');
$c->sql(1, q{SELECT fragaffinity.configure('max_moves_per_hour', NULL)});
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n2'}, '3'), 'without it, the others follow');
is($c->owner($pinned), 'n1', 'but for the one that is pinned');
unlike(slurp_file($c->node(1)->logfile), qr/refused to fetch/, 'a busy mover is asked again, not given up');

# By hand it moves, with its pin.
$c->move($pinned, 'n2');
is($c->owner($pinned), 'n2', 'a move by hand is not held back');
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.fragments WHERE pinned'), '1', 'and the pin stays');
$c->sql(1, "SELECT fragaffinity.pin_fragment($pinned, false)");
is($c->sql($_, 'SELECT count(*) FROM fragaffinity.pin'), '0', "node $_: unpinned") for 1, 2;
is(($c->fails(1, 'SELECT fragaffinity.pin_fragment(123456)'))[0], '42704', 'an unknown fragment');
is(($c->fails(1, 'SELECT fragaffinity.pin_fragment(NULL)'))[0], '22004', 'null');
$c->sql(1, 'CREATE ROLE nobody_special');
is(($c->fails(1, "SET ROLE nobody_special; SELECT fragaffinity.$_"))[0], '42501', "$_ is not for everybody")
	for "pin_fragment($pinned)", "explain_decision($pinned)";

$c->check_load($load, 't', 'limits');
$c->sql(1, "SELECT fragaffinity.pin_fragment($pinned); SELECT fragaffinity.undistribute_table('t')");
is($c->sql($_, 'SELECT count(*) FROM fragaffinity.pin'), '0', "node $_: pins go with the table") for 1, 2;
done_testing();
