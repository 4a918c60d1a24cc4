# Joining, changing and removing nodes; what is refused leaves no trace.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 4, connect => 0);
my $add = sub {
	my ($name, $i) = @_;
	return "SELECT fragaffinity.add_node('$name', '127.0.0.1', " . $c->peer_port($i) . ", 'postgres')";
};
# Everything that add_node could leave behind.
my $trace = q{
	SELECT (SELECT count(*) FROM fragaffinity.node) || ' nodes '
		|| (SELECT count(*) FROM fragaffinity.local_node) || ' self '
		|| (SELECT count(*) FROM pg_foreign_server) || ' servers '
		|| (SELECT count(*) FROM pg_prepared_xacts) || ' prepared '
		|| (SELECT count(*) FROM fragaffinity.decision) || ' decisions'};
my $nothing = '0 nodes 0 self 0 servers 0 prepared 0 decisions';

sub refused
{
	my ($i, $sql, $state, $pattern, $name) = @_;
	my ($code, $message) = $c->fails($i, $sql);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($code, $state, "$name: SQLSTATE") or diag($message);
	like($message, $pattern, "$name: message");
	return;
}

# Not preloaded: functions say what to set.
$c->node(4)->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$c->restart(4);
$c->sql(4, 'CREATE EXTENSION fragaffinity CASCADE');
refused(4, $add->('n4', 4), '55000', qr/HINT:.*shared_preload_libraries/, 'not preloaded');

$c->sql(1, 'CREATE EXTENSION fragaffinity CASCADE');
refused(1, $add->('n2', 2), '55000', qr/n2.*HINT:.*CREATE EXTENSION/s, 'peer without the extension');
refused(1, $add->('n4', 4), '55000', qr/n4.*HINT:.*shared_preload_libraries/s, 'peer not preloaded');
is($c->sql(1, $trace), $nothing, 'nothing left on node 1');
is($c->sql(4, $trace), $nothing, 'nothing left on node 4');
$c->node(4)->append_conf('postgresql.conf', "shared_preload_libraries = 'fragaffinity'
max_prepared_transactions = 0");
$c->restart(4);
refused(1, $add->('n4', 4), '55000', qr/max_prepared_transactions.*HINT:.*max_prepared_transactions/s,
	'peer without prepared transactions');
$c->node(4)->append_conf('postgresql.conf', "max_prepared_transactions = 100\nwal_level = replica");
$c->restart(4);
refused(1, $add->('n4', 4), '55000', qr/wal_level.*HINT:.*wal_level = logical/s, 'peer with a lower wal_level');
$c->node(4)->append_conf('postgresql.conf', 'wal_level = logical');
$c->restart(4);
$c->sql(4, "CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII'");
$c->node(4)->safe_psql('latin', 'CREATE EXTENSION fragaffinity CASCADE');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', " . $c->peer_port(4) . ", 'latin')",
	'55000', qr/encoding/, 'peer with another encoding');
$c->sql(4, "CREATE DATABASE sorted TEMPLATE template0 LOCALE 'C.UTF-8'");
$c->node(4)->safe_psql('sorted', 'CREATE EXTENSION fragaffinity CASCADE');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', " . $c->peer_port(4) . ", 'sorted')",
	'55000', qr/locale is libc C.UTF-8.*Needed: libc C C.*HINT/s, 'peer that sorts otherwise');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', " . $c->peer_port(4) . ", 'nodb')",
	'08001', qr/x.*nodb/s, 'peer without the database');
$c->stop(3);
refused(1, $add->('n3', 3), '08001', qr/n3/, 'peer that is down');
$c->restart(3);
refused(1, "SELECT fragaffinity.add_node('', '127.0.0.1')", '22023', qr/name/, 'empty name');
refused(1, "SELECT fragaffinity.add_node('x', '')", '22023', qr/host/, 'empty host');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', 0)", '22023', qr/port/, 'port 0');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', 65536)", '22023', qr/port/, 'port too high');
refused(1, "SELECT fragaffinity.add_node(NULL, '127.0.0.1')", '22004', qr/name/, 'null name');
refused(1, "SELECT fragaffinity.add_node('x', NULL)", '22004', qr/host/, 'null host');
refused(1, "SELECT fragaffinity.add_node('x', '127.0.0.1', " . $c->peer_port(2) . ", 'postgres', NULL, -1)",
	'22023', qr/capacity/, 'negative capacity');
is($c->sql(1, $trace), $nothing, 'nothing left after all refusals');

# Three nodes, one with a name that needs quoting.
$c->sql($_, 'CREATE EXTENSION fragaffinity CASCADE') for 2, 3;
is($c->sql(1, $add->('n1', 1)), '1', 'a cluster begins with itself');
refused(1, $add->('again', 1), '42710', qr/n1/, 'self as peer by its address');
refused(1, "SELECT fragaffinity.add_node('again', 'localhost', " . $c->peer_port(1) . ')', '22023', qr/itself/,
	'self as peer by another address');
is($c->sql(1, $add->('n2', 2)), '2', 'second node');
my $odd = q{odd "name", it''s};
is($c->sql(1, $add->($odd, 3)), '3', 'third node, odd name');
refused(1, $add->('n2', 4), '42710', qr/n2/, 'duplicate name');
refused(1, $add->('n5', 2), '42710', qr/n2/, 'duplicate address');
refused(2, $add->('n4', 4), '55000', qr/coordinator.*HINT:.*n1/s, 'not on the coordinator');
refused(1, "SELECT fragaffinity.remove_node('nobody')", '42704', qr/nobody.*HINT/s, 'unknown node');
refused(1, "SELECT fragaffinity.set_node('nobody', host => 'x')", '42704', qr/nobody/, 'unknown node in set_node');
refused(1, "SELECT fragaffinity.set_node('n2', new_name => 'n1')", '42710', qr/n1/, 'name of another node');
refused(1, "SELECT fragaffinity.remove_node('n1')", '55006', qr/coordinator/, 'coordinator cannot go');

for my $i (1 .. 3)
{
	is($c->sql($i, 'SELECT string_agg(name, $$/$$ ORDER BY node) FROM fragaffinity.nodes'),
		q{n1/n2/odd "name", it's}, "node $i knows all nodes");
	is($c->sql($i, 'SELECT count(*) FROM pg_foreign_server'), '2', "node $i has servers for its peers");
	ok($c->poll($i, "SELECT bool_and(state = 'active') AND bool_and(round_trip_ms >= 0) FROM fragaffinity.nodes"),
		"node $i sees all alive");
}
is($c->sql(2, 'SELECT name FROM fragaffinity.nodes WHERE coordinator'), 'n1', 'who coordinates');

# Settings reach everyone.
$c->sql(2, "SELECT fragaffinity.configure('fragment_size', '64MB')");
is($c->sql($_, "SELECT value FROM fragaffinity.settings WHERE name = 'fragment_size'"),
	'64MB', "setting on node $_") for 1 .. 3;

# A change reaches everyone; a wrong address is refused.
for my $node (qw(n1 n2))
{
	refused(1, "SELECT fragaffinity.set_node('$node', port => 1)", '08001', qr/could not connect to node "$node"/,
		"address of $node where nobody is");
	refused(1, "SELECT fragaffinity.set_node('$node', port => " . $c->peer_port(3) . ')', '55000',
		qr/the address of node "$node" leads to another server/, "address of $node that is another node's");
	is($c->sql($_, "SELECT port FROM fragaffinity.nodes WHERE name = '$node'"),
		$c->peer_port(substr $node, 1), "address unchanged on node $_") for 1 .. 3;
}
$c->sql(1, "SELECT fragaffinity.set_node(name => '$odd', new_name => 'n3', region => 'north', capacity => 1000000)");
is($c->sql($_, "SELECT region || capacity FROM fragaffinity.nodes WHERE name = 'n3'"),
	'north1000000', "changed node on node $_") for 1 .. 3;

# A node that is down is shown so, and comes back by itself.
$c->kill9(3);
ok($c->poll($_, "SELECT state = 'down' FROM fragaffinity.nodes WHERE name = 'n3'"),
	"node $_ sees node 3 down") for 1, 2;
refused(1, "SELECT fragaffinity.configure('fragment_size', '32MB')", '08001', qr/n3/,
	'a setting cannot reach a node that is down');
is($c->sql($_, "SELECT value FROM fragaffinity.settings WHERE name = 'fragment_size'"),
	'64MB', "setting unchanged on node $_") for 1, 2;
$c->restart(3);
ok($c->poll($_, "SELECT state = 'active' FROM fragaffinity.nodes WHERE name = 'n3'"),
	"node $_ sees node 3 again") for 1, 2;

# A fourth joins, another leaves and comes back under its name.
$c->sql(1, $add->('n4', 4));
is($c->sql(4, 'SELECT count(*) FROM fragaffinity.nodes'), '4', 'fourth node knows all');
is($c->sql(4, "SELECT value FROM fragaffinity.settings WHERE name = 'fragment_size'"),
	'64MB', 'and the settings');
my $notices = '';
$c->node(1)->psql('postgres', "SELECT fragaffinity.remove_node('n2')", stderr => \$notices);
is($notices, '', 'a node is removed without a word of its servers');
is($c->sql(2, $trace), $nothing, 'removed node knows nothing any more');
is($c->sql($_, "SELECT count(*) FROM fragaffinity.nodes WHERE name = 'n2'"), '0', "gone from node $_")
  for 1, 3, 4;
$c->sql(1, $add->('n2', 2));
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.nodes'), '4', 'and back');

# One that comes back gets another id, and its moves are new ones.
$c->sql(1, 'CREATE TABLE m (id integer PRIMARY KEY)');
$c->sql(1, "SELECT fragaffinity.distribute_table('m', 'id', 8)");
my $there = "FROM fragaffinity.fragments WHERE owner = 'n2'";
my $move = "SELECT fragaffinity.move_fragment(fragment, 'n2') FROM fragaffinity.fragments
	WHERE owner = 'n1' ORDER BY fragment LIMIT 1";
my $id = $c->sql(1, "SELECT node FROM fragaffinity.nodes WHERE name = 'n2'");
$c->sql(1, $move);
$c->sql(1, "SELECT fragaffinity.drain_node('n2')");
ok($c->poll(1, "SELECT count(*) $there", '0'), 'node 2 is empty');
$c->sql(1, "SELECT fragaffinity.remove_node('n2')");
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.moves'), '0', 'moves are forgotten with the cluster');
$c->sql(1, $add->('n2', 2));
is($c->sql(1, "SELECT node FROM fragaffinity.nodes WHERE name = 'n2'"), $id + 1, 'an id that nobody has had');
is($c->sql(1, 'SELECT max(node) FROM fragaffinity.nodes'), $id + 1, 'the greatest of all, as the one before was');
$c->sql(1, $move);
is($c->sql(1, "SELECT count(*) $there"), '1', 'a fragment moves there')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.moves ORDER BY requested'));

# What a peer lacks is said before anything is done.
$c->sql(1, 'CREATE ROLE here');
refused(1, 'GRANT SELECT ON m TO here', '42704', qr/node "n[^1]" has no role here.*HINT/s, 'a grant to a role that a peer lacks');
$c->sql($_, q{CREATE COLLATION odd (provider = icu, locale = 'de', deterministic = false)}) for 1 .. 3;
$c->sql(4, q{CREATE COLLATION odd (provider = icu, locale = 'de')});
$c->sql(1, 'CREATE TABLE o (id integer PRIMARY KEY, v text COLLATE odd)');
refused(1, "SELECT fragaffinity.distribute_table('o', 'id')", '55000', qr/collation public.odd.*n4.*HINT/s,
	'a collation that differs on a peer');

# One that is removed while it is down does not know, and is told.
refused(2, 'SELECT fragaffinity.leave_cluster()', '55006', qr/owns 1 fragments.*HINT/s, 'an owner does not leave');
$c->sql(1, "SELECT fragaffinity.drain_node('n2')");
ok($c->poll(1, "SELECT count(*) $there", '0'), 'node 2 is empty again');
refused(2, 'SELECT fragaffinity.leave_cluster()', '55006', qr/node "n2".*still.*HINT.*n1/s, 'nor does a member');
refused(1, 'SELECT fragaffinity.leave_cluster()', '55006', qr/coordinator|owns/, 'nor the coordinator');
$c->check_consistent('before node 2 is killed');
$c->kill9(2);
refused(1, "SELECT fragaffinity.remove_node('n2')", '08001', qr/n2/, 'one that is down is not removed');
my ($out, $err);
$c->node(1)->psql('postgres', "SELECT fragaffinity.remove_node('n2', force => true)", stdout => \$out, stderr => \$err);
like($err, qr/NOTICE:.*HINT:.*leave_cluster/s, 'but for force');
$c->restart(2);
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.nodes'), '4', 'back, it believes that it belongs');
$c->sql(2, q{INSERT INTO fragaffinity.planned_move (fragment, source, destination, bytes)
	VALUES (999, 1, 2, 3)});
$c->sql(2, 'SELECT fragaffinity.leave_cluster()');
is($c->sql(2, 'SELECT count(*) FROM fragaffinity.planned_move'), '0', 'it forgets everything');
is($c->sql(2, $trace), $nothing, 'until it leaves');
is($c->sql(2, q{SELECT count(*) FROM pg_class WHERE relname = 'm'}), '0', 'with what led to the tables');
$c->sql(1, $add->('n2', 2));
is($c->sql(2, 'SELECT count(*) FROM m'), '0', 'and comes back');

# No password of anyone anywhere.
is($c->sql($_, q{SELECT count(*) FROM pg_user_mapping, unnest(umoptions) o
	WHERE o LIKE 'password=%'}), '0', "no password on node $_") for 1 .. 4;

done_testing();
