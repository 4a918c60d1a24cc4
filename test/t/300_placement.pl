# Forecasts, recommendations, moves by themselves, drains: what the coordinator
# does with the history of accesses.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $c = FragAffinity->new(nodes => 3, proxy => 1);
$c->link(0, 'delay', 4);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,2,4,16');
	SELECT fragaffinity.configure('min_residency', '2s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('move_cost_factor', '0.0001');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('t', 'id', 6);
	INSERT INTO t SELECT g, 'x' FROM generate_series(1, 300) g});
my $all = 'SELECT count(*) FROM fragaffinity.fragment';
my $on = sub { "SELECT count(*) FROM fragaffinity.fragments WHERE owner = '$_[0]'" };

# A session of a node's clients that reads all the time, until it is stopped.
sub start_reader
{
	my ($i) = @_;
	return IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $c->conninfo($i) . ' application_name=reader', '-c',
			q{DO $$ BEGIN LOOP PERFORM v FROM t WHERE id = 1 + (random() * 299)::int;
				PERFORM pg_sleep(0.004); COMMIT; END LOOP; END $$} ],
		'<', \undef, '>', \my $out, '2>', \my $err);
}

sub stop_reader
{
	my ($i, $run) = @_;
	$c->sql($i, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
	eval { $run->finish };
	return;
}

# Nothing known, nothing said.
ok($c->poll(1, q{SELECT count(*) > 0 AND bool_and(affinity BETWEEN 0 AND 1)
	FROM fragaffinity.predictions}), 'every fragment has predictions');
my $sums = q{SELECT bool_and(abs(s - 1) < 1e-6) AND count(*) = 24 FROM (SELECT sum(affinity) AS s
	FROM fragaffinity.predictions GROUP BY fragment, horizon) x};
ok($c->poll(1, $sums), 'shares of a fragment sum to 1');
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.predictions'), '0', 'only the coordinator predicts');

# Advise: says what it would do, and does not.
my $reader = start_reader(2);
ok($c->poll(1, q{SELECT count(*) > 0 AND bool_and(destination = 'n2' AND source <> 'n2')
	FROM fragaffinity.recommendations WHERE verdict = 'move'}), 'fragments are recommended to the node that reads them');
like($c->sql(1, q{SELECT reason FROM fragaffinity.recommendations WHERE verdict = 'move' LIMIT 1}),
	qr/^node n2 [01]\.\d\d of (next|last) .* accesses \(\w+ \d+\), remote costs .* each: .*saves .*, move costs .*; threshold/,
	'the reason can be read');
ok($c->poll(1, q{SELECT min(p.affinity) > 0.8 FROM fragaffinity.predictions p
	WHERE node = 'n2' AND horizon = 1}), 'and predicted there');
ok($c->poll(1, $sums), 'shares still sum to 1');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.moves'), '0', 'nothing has moved');

# Observe: predicts only.
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe')});
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.recommendations', '0'), 'observe: no recommendations');

# A threshold nobody reaches, for this table only.
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'advise');
	SELECT fragaffinity.configure('reactive', 'off');
	SELECT fragaffinity.configure('migration_threshold', '1', 't')});
ok($c->poll(1, q{SELECT count(*) > 0 AND bool_and(verdict = 'below threshold') FROM fragaffinity.recommendations}),
	'below the threshold of the table');
$c->sql(1, q{SELECT fragaffinity.configure('migration_threshold', '0.5', 't');
	SELECT fragaffinity.configure('reactive', 'on')});

# Auto: moves.
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'auto')});
ok($c->poll(1, $on->('n2'), '6'), 'auto: all fragments have followed their reader');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.moves WHERE trigger NOT IN ('predictive', 'reactive')
	OR reason IS NULL OR expected_benefit IS NULL}), '0', 'every move says why');
ok($c->poll(1, q{SELECT count(*) = 4 AND bool_and(observed_benefit > 0 AND lead_ms IS NOT NULL)
	FROM fragaffinity.moves WHERE state = 'done'}), 'what the moves brought is told afterwards');
ok($c->poll(2, q{SELECT count(*) = 4 AND bool_and(observed_benefit > 0 AND lead_ms IS NOT NULL)
	FROM fragaffinity.moves WHERE state = 'done'}), 'also where they were made');
ok($c->poll(1, q{SELECT count(*) = 4 FROM fragaffinity.prediction_quality
	WHERE "window" = 'hour' AND model = 'mixture' AND log_loss >= 0 AND ece BETWEEN 0 AND 1}),
	'forecasts are scored at every horizon');

# Demand goes elsewhere, and the fragments with it.
stop_reader(2, $reader);
$reader = start_reader(3);
ok($c->poll(1, $on->('n3'), '6'), 'the fragments follow to another node');

# A dead coordinator: data stays in reach, and it comes back knowing.
$c->kill9(1);
is($c->sql(2, 'SELECT count(*) FROM t WHERE id = 7'), '1', 'without the coordinator');
$c->restart(1);
ok($c->poll(1, q{SELECT min(affinity) > 0.5 AND min(evidence) > 20 FROM fragaffinity.predictions
	WHERE node = 'n3' AND horizon = 1}), 'the coordinator has caught up from history');

# Reset: only what came since counts.
my $evidence = 'SELECT coalesce(max(evidence), 0) FROM fragaffinity.predictions';
stop_reader(3, $reader);
$c->sql(1, 'SELECT fragaffinity.reset_predictions(now())');
ok($c->poll(1, "SELECT ($evidence) < 5", undef, 'evidence'), 'reset_predictions forgets');
$c->sql(1, 'SELECT fragaffinity.reset_predictions()');
ok($c->poll(1, "SELECT ($evidence) > 20"), 'or learns from all history again');
my ($code) = $c->fails(2, 'SELECT fragaffinity.reset_predictions()');
is($code, '55000', 'only on the coordinator');
($code) = $c->fails(1, q{SELECT fragaffinity.reset_predictions(now() + interval '1 h')});
is($code, '22023', 'not from the future');

# Drain.
($code) = $c->fails(1, q{SELECT fragaffinity.drain_node('nowhere')});
is($code, '42704', 'drain of an unknown node');
($code) = $c->fails(1, q{SELECT fragaffinity.drain_node(NULL)});
is($code, '22004', 'drain of null');
($code) = $c->fails(1, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT fragaffinity.drain_node('n3')});
is($code, '55000', 'no waiting under one snapshot');
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe')});
is($c->sql(2, q{SELECT fragaffinity.drain_node('n3')}), '6', 'drain_node says how many have left');
is($c->sql(2, $on->('n3')), '0', 'the node is empty');
ok($c->poll($_, $on->('n3'), '0'), "node $_ knows") for 1 .. 3;
is($c->sql($_, q{SELECT state FROM fragaffinity.node WHERE name = 'n3'}), 'draining', "node $_ knows the state")
	for 1 .. 3;
is($c->sql(1, q{SELECT node || fragments_left || moving FROM fragaffinity.stat_progress_drain}), 'n300', 'progress');
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.moves
	WHERE trigger = 'drain' AND source = 'n3' AND state = 'done'}, '6'), 'by moves that say drain');
is($c->sql(3, q{SELECT fragaffinity.drain_node('n2', false)}), $c->sql(1, $on->('n2')), 'a drain without waiting');
($code) = $c->fails(1, q{SELECT fragaffinity.drain_node('n1')});
is($code, '55000', 'the last node cannot be drained');
ok($c->poll(1, $on->('n1'), '6'), 'everything is on the last node');
$c->sql(1, q{SELECT fragaffinity.resume_node('n2')});
$c->sql(2, q{SELECT fragaffinity.resume_node('n3')});
is($c->sql(3, q{SELECT count(*) FROM fragaffinity.node WHERE state = 'active'}), '3', 'all take fragments again');

# Rights.
$c->sql(1, 'CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE nobody_special LOGIN');
for my $view (qw(predictions prediction_quality recommendations stat_progress_drain))
{
	is(($c->fails(1, "SET ROLE watcher; SELECT * FROM fragaffinity.$view"))[0], '', "pg_monitor reads $view");
	is(($c->fails(1, "SET ROLE nobody_special; SELECT * FROM fragaffinity.$view"))[0], '42501', "others do not");
}
for my $call (q{drain_node('n2')}, q{resume_node('n2')}, q{mark_node('n2', 'active')}, 'reset_predictions()')
{
	is(($c->fails(1, "SET ROLE watcher; SELECT fragaffinity.$call"))[0], '42501', "$call is not for pg_monitor");
}

$c->check_consistent('one owner each, nothing left over');
$c->rows_agree('t', 'all nodes see the same rows');
done_testing();
