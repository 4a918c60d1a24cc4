# History: steps, restart and kill -9, and the coordinator that collects it
# from nodes that are slow, silent or dead.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = FragAffinity->new(nodes => 3, proxy => 1);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('t', 'id', 6);
	INSERT INTO t SELECT g, 'x' FROM generate_series(1, 200) g});

# Own complete steps of node I until a time, as node J has them; but for those of
# a crash, of which the coordinator may have heard what the node itself lost.
my $crash = '-infinity';
sub known
{
	my ($j, $i, $until) = @_;
	return $c->sql($j, qq{
		SELECT count(DISTINCT s.step), count(h.*), coalesce(sum(calls), 0), coalesce(sum(rows_read), 0),
			coalesce(round(sum(elapsed_ms)), 0)
		FROM fragaffinity.history_step s LEFT JOIN fragaffinity.history h USING (step, node)
		WHERE s.node = $i AND s.step < '$until'
			AND s.step NOT BETWEEN timestamptz '$crash' - interval '2 s' AND '$crash'});
}

# Clients of a node read rows whose leaves are there: they need no peer.
sub read_local
{
	my ($i, $n) = @_;
	$c->sql($i, qq{DO \$\$ DECLARE k int; BEGIN
		FOR k IN SELECT id FROM (SELECT id, tableoid FROM ONLY t_b@{[$i - 1]}_h) x ORDER BY id LIMIT $n LOOP
			PERFORM v FROM t WHERE id = k; END LOOP; END \$\$});
	return;
}

sub now { my ($i) = @_; return $c->sql($i, 'SELECT clock_timestamp()'); }

# Complete steps: there is one each half second.
ok($c->poll(1, q{SELECT count(DISTINCT node) FROM fragaffinity.history_step}, 3, 'steps of all nodes'),
	'the coordinator hears of all nodes');
ok($c->poll(1, q{SELECT bool_and(n > 4) FROM (SELECT count(*) AS n FROM fragaffinity.history_step
	WHERE step > now() - interval '4 s' GROUP BY node) x}, 't', 'steps'), 'steps follow one another');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.history_step
	WHERE extract(epoch FROM step)::numeric % 0.5 <> 0}), '0', 'steps start on the interval');

for my $i (1 .. 3) { read_local($i, 20) for 1 .. 3; }
my $now = now(1);
for my $i (2, 3)
{
	ok($c->poll($i, "SELECT max(step) > '$now' FROM fragaffinity.history_step WHERE node = $i"), "all steps of n$i until then are complete");
	my $own = known($i, $i, $now);
	ok($c->poll(1, qq{SELECT fragaffinity.is_preloaded() AND '$own' = (
		SELECT concat_ws('|', count(DISTINCT s.step), count(h.*), coalesce(sum(calls), 0),
			coalesce(sum(rows_read), 0), coalesce(round(sum(elapsed_ms)), 0))
		FROM fragaffinity.history_step s LEFT JOIN fragaffinity.history h USING (step, node)
		WHERE s.node = $i AND s.step < '$now')}, 't', "history of n$i: $own"), "history of n$i arrives as it is there");
}
is($c->sql(1, q{SELECT count(DISTINCT node) FROM fragaffinity.access_stats}), '3', 'sums of all nodes');
ok($c->poll(1, q{SELECT count(DISTINCT node) FROM fragaffinity.transitions}, 3, 'transitions'), 'transitions of all nodes');
ok($c->poll(1, q{SELECT count(DISTINCT node) FROM fragaffinity.node_metrics
	WHERE sampled > now() - interval '5 s'}, 3, 'metrics'), 'metrics of all nodes');
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE bytes > 0}, 6, 'sizes'), 'sizes of all leaves');
ok($c->poll(1, q{SELECT sum(local_calls) > 0 FROM fragaffinity.node_metrics WHERE node = 'n2'}, 't', 'calls'),
	'metrics count calls');

# A silent node keeps no one else's history back.
$c->link(3, 'stall');
sleep(1);
my $stalled = now(1);
read_local(2, 10);
read_local(3, 10);
ok($c->poll(1, qq{SELECT count(*) >= 6 FROM fragaffinity.history_step WHERE node = 2 AND step > '$stalled'},
	't', 'n2 while n3 is silent'), 'history of n2 goes on while n3 is silent');
is($c->sql(1, qq{SELECT count(*) FROM fragaffinity.history_step WHERE node = 3 AND step > '$stalled'}),
	'0', 'and n3 is unknown');
sleep(11);
ok($c->poll(1, q{SELECT max(step) > now() - interval '4 s' FROM fragaffinity.history_step WHERE node = 2}, 't', 'n2'),
	'also when questions to n3 have timed out');
is($c->sql(1, q{SELECT max(sampled) > now() - interval '3 s' FROM fragaffinity.metric WHERE node = 1}), 't',
	'and the coordinator samples its own');
$c->link(3, 'heal');
ok($c->poll(1, qq{SELECT count(*) > 10 FROM fragaffinity.history_step WHERE node = 3 AND step > '$stalled'},
	't', 'n3 heals'), 'what was missed is fetched');
$now = now(1);
sleep(2);
is(known(1, 3, $now), known(3, 3, $now), 'once');

# A node whose link is cut in the middle of answers.
for (1 .. 6)
{
	$c->link(2, 'cut');
	read_local(2, 5);
	sleep(0.3);
	$c->link(2, 'heal');
	sleep(0.4);
}
$now = now(1);
sleep(6);
ok($c->poll(1, qq{SELECT max(step) > '$now' FROM fragaffinity.history_step WHERE node = 2}, 't', 'n2 after cuts'),
	'n2 is heard of again');
is(known(1, 2, $now), known(2, 2, $now), 'nothing lost or doubled by cut links');

# kill -9: what was drained is there, and counted once; the step is unknown.
read_local(3, 20);
$c->sql(3, 'SELECT fragaffinity.flush_stats(), pg_sleep(1)');
my $total = $c->sql(3, q{SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = 'n3'});
my $killed = $crash = now(3);
$c->kill9(3);
$c->restart(3);
is($c->sql(3, q{SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = 'n3'}), $total, 'sums after kill -9');
ok($c->poll(3, qq{SELECT count(*) > 2 FROM fragaffinity.history_step WHERE node = 3 AND step > '$killed'}, 't', 'after kill'),
	'steps go on after kill -9');
is($c->sql(3, qq{SELECT count(*) FROM fragaffinity.history_step WHERE node = 3
	AND step < '$killed' AND step > timestamptz '$killed' - interval '500 ms'}), '0', 'the step of the crash is unknown');
read_local(3, 7);	# and the query that it reads the keys with
$now = now(1);
sleep(2);
is($c->sql(3, q{SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = 'n3'}),
	$total + 8, 'counting goes on');
ok($c->poll(1, qq{SELECT max(step) > '$now' FROM fragaffinity.history_step WHERE node = 3}, 't', 'n3'), 'n3 is back');
is(known(1, 3, $now), known(3, 3, $now), 'the same on the coordinator');

# A clean stop loses nothing.
read_local(2, 11);
$total = $c->sql(2, q{SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = 'n2'});
$c->stop(2);
$c->restart(2);
is($c->sql(2, q{SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = 'n2'}), $total, 'sums after a clean stop');

# A coordinator that was down fetches what it missed.
$c->kill9(1);
my $down = now(2);
for (1 .. 4) { read_local($_ % 2 + 2, 10); sleep(0.5); }
$c->restart(1);
$now = now(2);
for my $i (2, 3)
{
	ok($c->poll(1, qq{SELECT max(step) > '$now' FROM fragaffinity.history_step WHERE node = $i}, 't', "n$i"),
		"n$i is collected again");
	is(known(1, $i, $now), known($i, $i, $now), "all that was missed of n$i, once");
}
cmp_ok((split /\|/, known(1, 2, $now))[0], '>', 10, 'and there was something');

# Roll-up and retention; they run soon after the start of a worker.
$c->sql(1, q{
	SELECT fragaffinity.configure('history_retention', '1h');
	SELECT fragaffinity.configure('history_hours_retention', '2d');
	SELECT fragaffinity.configure('history_days_retention', '30d');
	INSERT INTO fragaffinity.history
		SELECT s, '1 h', 1, 1, 120, 60, 180, 240, 300, 120
		FROM generate_series(date_trunc('day', now(), 'UTC') - interval '3 d',
			date_trunc('day', now(), 'UTC') - interval '2 d' - interval '1 h', '1 h') s;
	INSERT INTO fragaffinity.history
		SELECT s, '1 min', 1, 1, 2, 1, 3, 4, 5, 2
		FROM generate_series(date_trunc('hour', now(), 'UTC') - interval '5 h',
			date_trunc('hour', now(), 'UTC') - interval '3 h' - interval '1 min', '1 min') s;
	INSERT INTO fragaffinity.history VALUES (now() - interval '40 d', '1 min', 1, 1, 2, 1, 3, 4, 5, 2);
	INSERT INTO fragaffinity.metric SELECT now() - interval '3 d', 1, 0,0,0,0,0,0,0,0,0,0,0});
$c->restart(1);
ok($c->poll(1, q{SELECT string_agg(format('%s %s %s %s %s', width, calls, remote_calls, rows_read, elapsed_ms), ', '
		ORDER BY width, step) FROM fragaffinity.history WHERE step < now() - interval '90 min'},
	'01:00:00 120 60 180 300, 01:00:00 120 60 180 300, 1 day 2880 1440 4320 7200', 'roll-up'), 'roll-up into hours and days');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.metric WHERE sampled < now() - interval '2 d'}), '0', 'old metrics go');

# Another interval starts anew.
$c->sql(1, q{SELECT fragaffinity.configure('history_interval', '2s')});
ok($c->poll(1, q{SELECT count(DISTINCT node) FROM fragaffinity.access_history WHERE width = '2 s'}, 0, 'none yet') &&
	$c->poll(1, q{SELECT bool_and(n > 1) FROM (SELECT count(*) AS n FROM fragaffinity.history_step
		WHERE extract(epoch FROM step)::numeric % 2 = 0 AND step > now() - interval '10 s' GROUP BY node) x}, 't', 'steps of 2 s'),
	'steps of another length');
for my $i (1 .. 3)
{
	unlike(slurp_file($c->node($i)->logfile), qr/(ERROR|WARNING|PANIC|TRAP).*(history|transition|access_total|metric)/,
		"no error in the log of n$i");
}

done_testing();
