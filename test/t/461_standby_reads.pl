# What clients of a node's standby see: the rows of all nodes, before and after
# moves that it replays, and nothing that they could change; then it takes over.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Cluster;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $primary = $c->node(1);
$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, n int);
	INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 4);
	SELECT fragaffinity.configure('move_path', 'logical')});
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'port = ' . $standby->port . "\nmax_standby_streaming_delay = -1\n");
$standby->start;

my $moved = $c->fragment('t', 1);
my $key = "SELECT min(id) FROM t WHERE tableoid::regclass::text ~";
my ($here, $there) = ($c->sql(1, "$key '_h\$'"), $c->sql(1, "$key '_r\$'"));
my $catch_up = sub { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')) };
my $read = sub { return $standby->safe_psql('postgres', $_[0]) };

is($read->('SELECT count(*), sum(n) FROM t'), '1000|500500', 'a standby reads the fragments of all nodes');
is($read->("SELECT n FROM t WHERE id = $_"), $_, "and one row, of key $_") for $here, $there;
for my $sql ("UPDATE t SET n = 0 WHERE id = $here", "UPDATE t SET n = 0 WHERE id = $there", "DELETE FROM t",
	"INSERT INTO t SELECT 2000 + i FROM generate_series(1, 9) i", "SELECT * FROM t WHERE id = $there FOR UPDATE",
	"SELECT fragaffinity.move_fragment($moved, 'n1')", "SELECT fragaffinity.split_fragment($moved, '500')",
	"SELECT fragaffinity.merge_fragments($moved, $moved + 1)", "SELECT fragaffinity.cancel_move(1)",
	"SELECT fragaffinity.drain_node('n2')", "SELECT fragaffinity.configure('mode', 'auto')")
{
	my $err = '';
	$standby->psql('postgres', "\\set VERBOSITY verbose\n$sql", stderr => \$err);
	like($err, qr/ERROR:  25006: cannot execute/, "refused there: $sql");
}
is($c->sql(1, 'SELECT count(*), sum(n) FROM t'), '1000|500500', 'nothing has changed');

# What it has not it says, and shows the rest.
for my $sql ((map { "SELECT * FROM fragaffinity.$_" } qw(predictions recommendations heat)), "SELECT fragaffinity.explain_decision($moved)",
	"SELECT fragaffinity.explain_prediction($moved)", 'WITH p AS (SELECT 1 WHERE EXISTS (SELECT FROM fragaffinity.predictions)) SELECT * FROM p')
{
	my $err = '';
	$standby->psql('postgres', "\\set VERBOSITY verbose\n$sql", stderr => \$err);
	like($err, qr/ERROR:  55000: a standby does not have.*HINT:  Ask the primary of the coordinator/s, "not there: $sql");
}
ok($read->("SELECT count(*) >= 0 FROM fragaffinity.$_"), "there: $_")
  for qw(nodes tables fragments access_stats access_history transitions prediction_quality hints moves transports node_metrics settings in_doubt);
is($read->('SELECT left(fragaffinity.report(), 15)'), '<!DOCTYPE html>', 'a report');
is($c->sql(2, "SELECT count(*) FROM fragaffinity.nodes WHERE state = 'draining'"), '0', 'on no node');

# A snapshot of the standby's that is older than a move by rows does not see the
# rows that came with it.  One on the primary keeps all that the standby's needs.
my $keeper = $c->node(1)->background_psql('postgres', on_error_stop => 1);
$keeper->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$catch_up->();
my $old = $standby->background_psql('postgres', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->query_safe('SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = \'fragaffinity\''), '1', 'a snapshot');
$c->move($moved, 'n1');
$catch_up->();
is($read->("SELECT leaf::text || owner FROM fragaffinity.fragments WHERE fragment = $moved"), 't_b1_hn1', 'the standby has the move');
$old->query('SELECT count(*) FROM t');
like($old->{stderr}, qr/could not serialize access due to a move of fragment $moved/, 'an older snapshot gets no answer without its rows');
$old->{stderr} = '';
$old->query('ROLLBACK');
is($old->query_safe('SELECT count(*) FROM t'), '1000', 'a new one has all rows');

# A snapshot from before the standby took over is no other.
$c->move($moved, 'n2');
$catch_up->();
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->query_safe('SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = \'fragaffinity\''), '1', 'one more snapshot');
$c->move($moved, 'n1');
$catch_up->();
$keeper->quit;
$c->stop(1);
$standby->promote;
$old->query('SELECT count(*) FROM t');
like($old->{stderr}, qr/could not serialize access due to a move of fragment $moved/, 'nor after the standby has taken over');
$old->{stderr} = '';
$old->query('ROLLBACK');

# Peers are told where it is.
$c->{node}[1] = $standby;
$c->{peer_port}[1] = $standby->port;
$old->query_safe("SELECT fragaffinity.set_node('n1', port => " . $standby->port . ')');
$old->quit;
is($c->sql($_, 'SELECT count(*), sum(n) FROM t'), '1000|500500', "node $_ reads all rows after it took over") for 1, 2;
$c->sql(2, "UPDATE t SET n = n + 1 WHERE id = $here");
is($c->sql(1, "SELECT n FROM t WHERE id = $here"), $here + 1, 'and writes them');
$c->move($moved, 'n2');
$c->move($moved, 'n1', 1);
is($c->sql(2, 'SELECT count(*) FROM t'), '1000', 'fragments move to and from it');
$c->check_consistent('t', 'at the end');
done_testing();
