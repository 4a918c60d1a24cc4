# A client's sessions at other nodes end when they are idle, and come back unseen;
# those of a move, and of the worker, do not end, whatever the server's default.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "fragaffinity.peer_idle_timeout = 500ms");
$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO t SELECT generate_series(1, 200);
	SELECT fragaffinity.distribute_table('t', 'id', 4)});
my ($here, $there) = map { $c->sql(1, qq{
	SELECT string_agg(id::text, ',' ORDER BY id) FROM (SELECT id FROM t JOIN fragaffinity.fragments f
	ON f.leaf = t.tableoid WHERE f.owner = '$_' ORDER BY id LIMIT 4) s}) } 'n1', 'n2';
my ($near) = split /,/, $here;
my ($far) = split /,/, $there;

# the sessions that n1 has at n2; one is the worker's
my $theirs = q{FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()};
my ($in, $out, $err) = ('', '', '');
my $session = IPC::Run::start([ 'psql', '-XqAt', '-v', 'VERBOSITY=verbose', $c->conninfo(1) ], '<', \$in, '>', \$out, '2>', \$err);
my $limit = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);

sub run
{
	my ($sql) = @_;
	$out = '';
	$in .= "$sql;\n\\echo done\n";
	PostgreSQL::Test::Utils::pump_until($session, $limit, \$out, qr/done\n/);
	return $out =~ s/done\n//r;
}

my ($n, $seen) = (0, 0);
for my $what (
	[ 'a read', "SELECT count(*) FROM t WHERE id = $far" ],
	[ 'an upsert', "INSERT INTO t VALUES ($far, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + 1" ],
	[ 'a scan', 'SELECT count(*) > 0 FROM t' ],
	[ 'a transaction on both nodes', "BEGIN; INSERT INTO t VALUES ($near, 1) ON CONFLICT (id) DO NOTHING; UPDATE t SET v = v + 1 WHERE id IN ($here, $there); COMMIT" ],
	[ 'rows for both nodes', "INSERT INTO t SELECT unnest(ARRAY[$here, $there]) + 1000" ],
	[ 'a cursor', 'BEGIN; DECLARE c CURSOR FOR TABLE t; FETCH c; COMMIT' ],
	[ 'COPY', "COPY t (id) FROM PROGRAM 'seq 5001 5020'" ])
{
	my ($name, $sql) = @$what;
	for my $round (1, 2)
	{
		run($sql);
		$n = $c->sql(2, "SELECT count(*) $theirs") if $round == 2;
		$seen = $n if $n > $seen;
		$c->poll(2, "SELECT count(*) = 1 $theirs");
		run("DELETE FROM t WHERE id > 900") if $sql =~ /000|COPY/;
		$c->poll(2, "SELECT count(*) = 1 $theirs");
	}
	is($err, '', "$name finds its sessions ended, and goes on");
}
cmp_ok($seen, '>', 2, 'they were there');
$in .= "\\q\n";
$session->finish;

$c->sql($_, q{ALTER SYSTEM SET idle_session_timeout = '1s'}) for 1, 2;
$c->sql($_, 'SELECT pg_reload_conf()') for 1, 2;
my $f = $c->sql(1, q{SELECT min(fragment) FROM fragaffinity.fragments WHERE owner = 'n2'});
$c->hold(1, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
$c->wait_held(1, 'move_copied');
# one that was idle for less long than the move's ends meanwhile
my $idle = IPC::Run::start([ 'psql', '-XqAt', $c->conninfo(2) . ' application_name=idle' ], '<', \my $nothing, '>', \my $said, '2>', \my $why);
my $idles = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle'};
$c->poll(2, $idles, '1');
$c->poll(2, $idles, '0');
$idle->kill_kill;
$c->release(1);
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n1');
is($c->sql(1, "SELECT count(*) FROM fragaffinity.moves WHERE fragment = $f AND state = 'failed'"), '0', 'a move outlives idle_session_timeout');
done_testing();
