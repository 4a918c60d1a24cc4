# A move and a transaction that lasts, prepared or open, by whomever, never wait
# for each other for ever: the move gives way, clients go on, and when the
# transaction has ended the fragment moves.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 60) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3);
	SELECT fragaffinity.configure('cutover_attempts', '3')");
my $f = $c->fragment('t', 1);
my @id = split /\n/, $c->sql(1, 'SELECT id FROM t_b1 ORDER BY id LIMIT 4');

# A move of the fragment, which n2 owns, gives up; others use it all the time.
sub gives_way
{
	my ($name, %more) = @_;
	my $load = $c->start_load(table => 't', anchors => 60, pause => 2000,
		modes => { 1 => ['simple'], 2 => [ 'simple', 'reader' ] });
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$c->wait_for_load($load, 3);
	my ($code, $message) = $c->fails(2, "SELECT fragaffinity.move_fragment($f, 'n1')");
	is($code, '55000', "$name: the move gives up");
	like($message, qr/no moment to cut over fragment \d+ was found in 3 tries/, "$name: and says why");
	$c->wait_for_load($load, 3);
	# node 3's rows are not to be had while it is down
	$c->stop_load($load);
	$c->restart($more{down}) if $more{down};
	$c->check_load($load, 't', $name, $more{down} ? (allow => qr/could not connect/) : ());
	is($c->owner($f), 'n2', "$name: the fragment stays");
	return;
}

sub goes_through
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$c->move($f, 'n1');
	$c->check_consistent("$name: it moves afterwards, and nothing is left over");
	$c->move($f, 'n2');
	return;
}

# A transaction that somebody has prepared by hand, on the fragment's node.
$c->sql(2, "BEGIN; UPDATE t SET n = n + 1 WHERE id = $id[0]; PREPARE TRANSACTION 'by hand'");
gives_way('prepared by hand');
is($c->sql(3, "SELECT n FROM t WHERE id = $id[0]"), '0', 'prepared is not committed');
$c->sql(2, "COMMIT PREPARED 'by hand'");
is($c->sql(3, "SELECT n FROM t WHERE id = $id[0]"), '1', 'and can be, on the node where it was');
goes_through('prepared by hand');

# A part of a transaction over nodes whose origin is dead.
my $client = $c->node(3)->background_psql('postgres', on_error_stop => 0);
my $other = $c->sql(1, 'SELECT min(id) FROM t_b0');
$c->hold(3, 'commit_peers_done');
$client->{stdin} .= "BEGIN; UPDATE t SET n = n + 1 WHERE id IN ($id[1], $other); COMMIT;\n";
$client->{run}->pump_nb;
ok($c->wait_held(3, 'commit_peers_done'), 'a commit stands before its decision');
$c->kill9(3);
$c->release(3);
eval { $client->{run}->kill_kill };
is($c->sql(2, 'SELECT count(*) FROM pg_prepared_xacts'), '1', 'its part is in doubt');
gives_way('in doubt', down => 3);
$c->poll(2, 'SELECT count(*) FROM pg_prepared_xacts', '0');
goes_through('in doubt');
is($c->sql(1, "SELECT n FROM t WHERE id = $id[1]"), '0', 'what was not decided is not there');

# A client's transaction that stays open, here and by way of another node.
for my $from (2, 1)
{
	my $s = $c->node($from)->background_psql('postgres', on_error_stop => 0);

	$s->query_safe("BEGIN; UPDATE t SET n = 10 WHERE id = $id[2]");
	gives_way("open, from node $from");
	is($s->query("SELECT n FROM t WHERE id = $id[2]"), '10', 'it sees its own writes');
	# another move begins, and the transaction ends while it tries
	$c->sql(2, "SELECT fragaffinity.configure('cutover_attempts', '1000')");
	my $move = $c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
	$c->poll(1, "SELECT state IN ('fencing', 'catching up', 'switching') FROM fragaffinity.moves WHERE move = $move");
	is($s->query("UPDATE t SET n = n + 1 WHERE id = $id[2] RETURNING n"), '11', 'writes again under the move');
	# every try ends with an error at the source, and the log goes on meanwhile
	for my $more (4, 8)
	{
		$c->poll(1, "SELECT rounds >= $more FROM fragaffinity.moves WHERE move = $move");
		$c->sql(2, 'SELECT pg_switch_wal()');
	}
	$c->poll(1, "SELECT rounds >= 12 OR state = 'failed' FROM fragaffinity.moves WHERE move = $move");
	$s->query_safe('COMMIT');
	is($s->{stderr}, '', 'and commits');
	$s->quit;
	ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'then the move goes through');
	$c->sql(2, "SELECT fragaffinity.configure('cutover_attempts', '3')");
	is($c->sql(3, "SELECT n FROM t WHERE id = $id[2]"), '11', 'with what was written');
	$c->move($f, 'n2');
	$c->sql(2, "UPDATE t SET n = 0 WHERE id = $id[2]");
}

# Writers on another node, of whom one has always a transaction open, do not keep
# that node from hearing of a move.
my $script = PostgreSQL::Test::Utils::tempdir() . '/write.sql';
append_to_file($script, "BEGIN;\nUPDATE t SET n = n + 1 WHERE id = :id;\n\\sleep 40 ms\nCOMMIT;\n");
my @writers = map {
	IPC::Run::start([ 'pgbench', '-n', '-T', 600, '--max-tries', 100, '-f', $script, '-D', "id=$_", $c->conninfo(3) ],
		'<', \undef, '>', \my $out, '2>', \my $err)
} split /\n/, $c->sql(1, 'SELECT id FROM t_b1 ORDER BY id DESC LIMIT 8');
$c->poll(3, "SELECT count(*) = 8 FROM pg_locks WHERE relation = 't_b1_r'::regclass AND mode = 'RowExclusiveLock'");
$c->sql(1, "SELECT fragaffinity.configure('cutover_attempts', '1000'); SELECT fragaffinity.move_fragment($f, 'n1')");
ok($c->poll(3, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n1'), 'a node with writers all the time hears of a move');
$_->signal('INT') for @writers;
$_->finish for @writers;
$c->move($f, 'n2');
$c->sql(1, "SELECT fragaffinity.configure('cutover_attempts', '3')");

# Whoever waits for what a cut-over itself holds, on either side, does not keep it
# from its next step.
$c->sql(1, "SELECT fragaffinity.configure('cutover_attempts', '1')");
$c->hold(1, 'move_fenced');
my $move = $c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
ok($c->wait_held(1, 'move_fenced'), 'a move has fenced its fragment');
my @waiting = map { $c->node($_)->background_psql('postgres', on_error_stop => 0) } 1, 2;
for my $s (@waiting)
{
	$s->{stdin} .= "BEGIN; LOCK TABLE t_b1 IN ROW EXCLUSIVE MODE; COMMIT;\n";
	$s->{run}->pump_nb;
}
$c->poll($_, "SELECT count(*) FROM pg_locks WHERE relation = 't_b1'::regclass AND NOT granted", '1') for 1, 2;
$c->release(1);
ok($c->poll(1, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'it goes through in one try');
$_->quit for @waiting;
is(join('', map { $_->{stderr} } @waiting), '', 'and those who waited go on');
$c->check_consistent('nothing is left over of it');
$c->move($f, 'n2');
$c->sql(1, "SELECT fragaffinity.configure('cutover_attempts', '3')");

# The destination dies when the source has prepared its half of the swap: the
# bucket is locked there, as nobody but the destination knows what was decided.
# What an administrator says about it holds.
$c->hold(1, 'cluster_before_decision');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
ok($c->wait_held(1, 'cluster_before_decision', qr/\] LOG: /), 'a move stands before its decision');
$c->kill9(1);
$c->release(1);
my ($code) = $c->fails(2, "SET lock_timeout = '100ms'; SET fragaffinity.routing = off; SELECT n FROM t_b1 WHERE id = $id[3]");
is($code, '55P03', 'its bucket is locked at the source');
ok($c->poll(2, 'SELECT origin, state, outcome FROM fragaffinity.in_doubt', 'n1|prepared|unknown'), 'which is seen');
my $gid = $c->sql(2, 'SELECT gid FROM fragaffinity.in_doubt');
($code) = $c->fails(2, "SELECT fragaffinity.resolve_in_doubt('$gid', 'rollback')");
is($code, '55000', 'nobody can say');
$c->sql(2, "SET client_min_messages = error; SELECT fragaffinity.resolve_in_doubt('$gid', 'rollback', force => true)");
is($c->sql(2, "SELECT n FROM t_b1 WHERE id = $id[3]"), '0', 'but by force it is open again');
$c->restart(1);
$c->check_consistent('as the destination had not decided, nothing is wrong when it is back');
is($c->owner($f, $_), 'n2', "the fragment is where it was, for node $_") for 1 .. 3;
goes_through('after that');
done_testing();
