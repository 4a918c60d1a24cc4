# The coordinator's server is lost; its standby takes its place and goes on
# with what was learned.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '300ms');
	SELECT fragaffinity.configure('mode', 'observe');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g;
	SELECT fragaffinity.distribute_table('t', 'id', 2)});
my $evidence = q{SELECT coalesce(min(evidence), 0) FROM fragaffinity.predictions WHERE node = 'n2' AND horizon = 1};
my $reader = IPC::Run::start([ 'psql', '-XqAt', '-d', $c->conninfo(2) . ' application_name=reader', '-c',
		q{DO $$ BEGIN LOOP PERFORM v FROM t WHERE id = 1 + (random() * 99)::int;
			PERFORM pg_sleep(0.005); COMMIT; END LOOP; END $$} ],
	'<', \undef, '>', \my $out, '2>', \my $err);
ok($c->poll(1, "SELECT ($evidence) > 100"), 'something was learned');
$c->sql(2, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
eval { $reader->finish };

# An orderly stop of the worker saves the state; then the standby is made.
$c->restart(1);
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.predictor_state'), '1', 'the state is in the catalog');
my $primary = $c->node(1);
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('n1s');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
is($standby->safe_psql('postgres', 'SELECT count(*) > 0 FROM fragaffinity.predictor_state'), 't', 'and on the standby');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type = 'fragaffinity worker'}), '0', 'which has no worker yet');

# History goes, so that only the state can tell.
$c->sql(1, 'DELETE FROM fragaffinity.history; DELETE FROM fragaffinity.history_step');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$c->kill9(1);
$standby->stop;
$standby->append_conf('postgresql.conf', 'port = ' . $primary->port);
$standby->{_port} = $primary->port;
$c->{node}[1] = $standby;
$standby->start;
$standby->promote;
ok($c->poll(1, "SELECT ($evidence) > 50"), 'the standby predicts from what was learned before');
ok($c->poll(1, q{SELECT count(*) = 2 FROM fragaffinity.nodes WHERE state = 'active'}), 'with the same nodes');
is($c->sql(1, 'SELECT count(*) FROM t'), '100', 'and the same rows');
ok($c->poll(1, q{SELECT max(made_at) > clock_timestamp() - interval '3 s' FROM fragaffinity.predictions}), 'and goes on');

$c->stop($_) for 1, 2;
done_testing();
