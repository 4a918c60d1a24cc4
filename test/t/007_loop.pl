# The whole loop: accesses are counted, collected and forecast, and fragments
# follow their clients; first advised only, then by themselves.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql($_, 'CREATE ROLE app LOGIN') for 1 .. 3;
$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
	GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3, placement => 'n1');
	SELECT fragaffinity.configure('history_interval', '250ms');
	SELECT fragaffinity.configure('min_residency', '1s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('mode', 'advise')");

my $load = $c->start_load(table => 't', user => 'app', anchors => 100, pause => 4000,
	modes => { 2 => [qw(simple prepared reader)] });

ok($c->poll(1, "SELECT count(DISTINCT fragment) FROM fragaffinity.access_history WHERE node = 'n2' AND calls > 0", '3'),
	'the coordinator has the history of node 2');
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.predictions WHERE horizon = 1 AND node = 'n2' AND affinity > 0.9", '3'),
	'forecasts point to node 2');
is($c->sql(1, 'SELECT count(*) FROM (SELECT fragment, horizon, sum(affinity) AS s FROM fragaffinity.predictions GROUP BY 1, 2) x
	WHERE abs(s - 1) > 1e-6'), '0', 'affinities add up to one');
ok($c->poll(1, 'SELECT count(*) > 0 FROM fragaffinity.prediction_quality WHERE log_loss IS NOT NULL AND accesses > 0'),
	'forecasts are scored');
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.recommendations WHERE destination = 'n2' AND reason <> ''", '3'),
	'moves to node 2 are recommended, with the reason')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.recommendations'));
is($c->sql(1, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n1'"), '3', "and not made in mode 'advise'");

$c->sql(1, "SELECT fragaffinity.configure('mode', 'auto')");
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n2'", '3'), 'fragments go to their clients')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.recommendations'));
# Their rows come with the news, a moment after the swap itself.
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.moves WHERE destination = 'n2' AND state = 'done'
	AND trigger IN ('predictive', 'reactive') AND reason <> '' AND expected_benefit > 0", '3'),
	'each move says why and what it should bring')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.moves'));
$c->wait_for_load($load, 20);
$c->check_load($load, 't', 'clients of node 2');

# The clients change over to node 3.
$load = $c->start_load(table => 't', user => 'app', anchors => 100, pause => 4000,
	modes => { 3 => [qw(simple block reader)] });
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n3'", '3'), 'and after them to node 3')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.recommendations'));
$c->sql(1, "SELECT fragaffinity.configure('mode', 'observe')");
ok($c->poll($_, "SELECT count(*) FROM fragaffinity.move WHERE state NOT IN ('done', 'failed', 'cancelled')", '0'),
	"no move is under way to node $_") for 1 .. 3;
is($c->sql(3, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n3'"), '3', 'and they are still there')
  or diag($c->sql(3, 'SELECT * FROM fragaffinity.moves ORDER BY requested'));
$c->wait_for_load($load, 20);

# What was learned survives a restart of the coordinator.
my $made = $c->sql(1, 'SELECT max(made_at) FROM fragaffinity.predictions');
$c->restart(1);
ok($c->poll(1, "SELECT max(made_at) > '$made' FROM fragaffinity.predictions"), 'forecasts go on after a restart');
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.predictions WHERE horizon = 1 AND node = 'n3' AND affinity > 0.9", '3'),
	'and know what they knew');
$c->check_load($load, 't', 'clients of node 3');

# A node is emptied.
$c->sql(1, "SELECT fragaffinity.drain_node('n3')");
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n3'", '0'), 'a drained node owns nothing');
$c->sql(1, "SELECT fragaffinity.remove_node('n3')");
is($c->sql($_, 'SELECT count(*) FROM fragaffinity.nodes'), '2', "node $_ knows two nodes") for 1, 2;
ok($c->poll(3, 'SELECT count(*) FROM pg_prepared_xacts', '0'), 'the one that left holds no prepared transaction');
is($c->rows(1, 't'), $c->rows(2, 't'), 'both show the same rows');
$c->{n} = 2;
$c->check_consistent('at the end');
like($c->sql(1, "SELECT fragaffinity.report(now() - interval '1 hour', now())"), qr/<svg.*<\/html>/s, 'report');

done_testing();
