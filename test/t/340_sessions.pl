# Sequences: what a session has just touched tells what its node will touch
# next, before any count of accesses does.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '300ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,4');
	SELECT fragaffinity.configure('mode', 'observe');
	SELECT fragaffinity.configure('prediction_budget', '0.5');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g;
	SELECT fragaffinity.distribute_table('t', 'id', 4)});
my $keys = $c->sql(1, q{SELECT array_agg(id ORDER BY id) FROM (SELECT min(id) AS id FROM t GROUP BY tableoid) k});
like($keys, qr/^\{\d+,\d+,\d+,\d+\}$/, 'a key of each fragment');

# A session that goes round, some steps at each fragment; those of the two
# nodes are never at the same one, and each is as often everywhere.
sub start_walker
{
	my ($i, $ahead) = @_;
	return IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $c->conninfo($i) . ' application_name=walker', '-c',
			qq{DO \$\$ DECLARE k int[] := '$keys'; n int; BEGIN LOOP
				n := k[1 + (floor(extract(epoch FROM clock_timestamp()) / 0.9)::bigint + $ahead) % 4];
				PERFORM v FROM t WHERE id = n;
				PERFORM pg_sleep(0.03); COMMIT; END LOOP; END \$\$} ],
		'<', \undef, '>', \my $out, '2>', \my $err);
}
my @walker = (start_walker(1, 0), start_walker(2, 2));

ok($c->poll(2, 'SELECT count(*) > 0 FROM fragaffinity.session_forecast WHERE node = 2'),
	'a node foresees what its sessions will touch');
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.session_forecast WHERE node <> 2'), '0', 'its own only');
ok($c->poll(1, 'SELECT count(DISTINCT node) = 2 FROM fragaffinity.session_forecast'), 'the coordinator has it of both');
ok($c->poll(1, q{SELECT count(DISTINCT node) = 2 AND sum(arrivals) > 0 FROM fragaffinity.profile_use
	WHERE application = 'walker'}), 'and which role uses what where');

# What was foreseen, against what came: more where something came.
ok($c->poll(2, q{SELECT sum(f.accesses * least(h.calls, 1)) > 2 * sum(f.accesses * (1 - least(h.calls, 1)))
	FROM (SELECT step, fragment, accesses FROM fragaffinity.session_forecast WHERE step >
			(SELECT max(step) - interval '12 s' FROM fragaffinity.session_forecast)) f
	CROSS JOIN LATERAL (SELECT coalesce(sum(calls), 0) AS calls FROM fragaffinity.history
		WHERE node = 2 AND fragment = f.fragment AND step = f.step + interval '300 ms') h}),
	'most of what is foreseen comes');

# Long-run shares are even, so that they say nothing; the sequence does.
my $gain = q{SELECT coalesce(max(gain_on_static) > 0.1, false) FROM fragaffinity.prediction_quality
	WHERE "window" = 'hour' AND horizon = 1 AND model = '%s'};
ok($c->poll(1, sprintf($gain, 'session')), 'a forecast from sequences is better than the long run');
ok($c->poll(1, sprintf($gain, 'mixture')), 'and the mixture uses it');
ok($c->poll(1, q{SELECT bool_or((weights->>'session')::float8 > 0.05) FROM fragaffinity.predictions
	WHERE horizon = 1}), 'predictions say so');

# A restart keeps what was learned.
$c->stop(2);
$walker[1]->kill_kill;
$c->node(2)->start;
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.session_state'), '1', 'saved when the worker ends');
my $before = $c->sql(2, 'SELECT clock_timestamp()');
$walker[1] = start_walker(2, 2);
ok($c->poll(2, "SELECT count(*) > 0 FROM fragaffinity.session_forecast WHERE step > '$before'"), 'goes on after a restart');

# The network alone can be forgotten.
is($c->sql(1, 'SELECT fragaffinity.reset_network()'), '', 'reset_network');
is(($c->fails(1, 'CREATE ROLE watcher; GRANT pg_monitor TO watcher; SET ROLE watcher;
	SELECT fragaffinity.reset_network()'))[0], '42501', 'not for everyone');

# Switched off, it is quiet.
$c->sql(1, q{SELECT fragaffinity.configure('prediction_budget', '0')});
ok($c->poll(2, q{SELECT coalesce(max(step), '-infinity') < clock_timestamp() - interval '2 s'
	FROM fragaffinity.session_forecast}), 'no budget, no sessions followed');
ok($c->poll(1, q{SELECT max(made_at) > clock_timestamp() - interval '2 s' FROM fragaffinity.predictions}),
	'the rest of the predictor goes on');

for my $i (1, 2)
{
	$c->sql($i, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walker'});
	eval { $walker[ $i - 1 ]->finish };
}
$c->stop($_) for 1, 2;
done_testing();
