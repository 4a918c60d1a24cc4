# What every transport has to do: messages of all sizes, whole and in order; an
# end, and nothing left, whoever is killed when; no message of a move believed
# that was damaged on the way; another transport where one does not go.
use strict;
use warnings;
use File::Basename;
use FragAffinity;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my @transports = split ',', $ENV{FA_TRANSPORTS} // 'shm,stream';
my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

# What a node's processes have of shared memory for transports.
sub shared_memory
{
	my ($i) = @_;
	my @found;

	for my $pid (split /\n/, $c->sql($i, 'SELECT pid FROM pg_stat_activity'))
	{
		my $maps = eval { slurp_file("/proc/$pid/maps") } // '';
		push @found, "$pid maps $1" while $maps =~ /(memfd:fragaffinity\S*)/g;
		for my $fd (glob "/proc/$pid/fd/*")
		{
			my $to = readlink($fd) // '';
			push @found, "$pid has $to" if $to =~ /memfd:fragaffinity/;
		}
	}
	push @found, glob '/dev/shm/*fragaffinity*';
	return join '; ', @found;
}

# The same, when those whose connection has ended have had time to notice.
sub leftovers
{
	my ($i) = @_;
	my $found;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$found = shared_memory($i);
		last if $found eq '';
		usleep(100_000);
	}
	return $found;
}

# Sessions of node 1 that serve a receiver.
my $senders = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'open_transport|send_test_messages|send_pages|messages_sent'
	AND pid <> pg_backend_pid() AND state <> 'idle'";

sub check
{
	my ($transport, $messages, $size, $faults) = @_;

	return ($faults ? "SET fragaffinity.transport_faults = '$faults'; " : '')
	  . "SELECT name, usable, reason, mb_per_second > 0 FROM fragaffinity.check_transports('n1', $messages, $size, '$transport')";
}

# Messages of all sizes.
is($c->sql(2, "SELECT string_agg(name, ',') FROM fragaffinity.check_transports('n1', messages => 10)"),
	'shm,rdma,stream', 'these are all there are');
for my $t (@transports)
{
	is($c->sql(2, check($t, @$_)), "$t|t||t", "$t: $_->[0] messages of $_->[1] bytes")
	  for [ 1, 8 ], [ 1, 262144 ], [ 5000, 9 ], [ 20000, 1000 ], [ 300, 70001 ], [ 1000, 262144 ], [ 20, 3000000 ];
	is($c->sql(1, "SELECT name, usable FROM fragaffinity.check_transports('n2', 100, transport => '$t')"), "$t|t", "$t: the other way");
	is($c->sql(2, "SELECT count(*) FROM generate_series(1, 30), fragaffinity.check_transports('n1', 3, 100, '$t')"),
		'30', "$t: thirty channels, one after another");
}
is(leftovers($_), '', "nothing is left on node $_") for 1, 2;

# A node's counters since its start.
sub counted
{
	my ($i, $t, $columns, $before) = @_;
	my $now = $c->sql($i, "SELECT $columns FROM fragaffinity.transport_stats WHERE transport = '$t'");
	my @before = split /\|/, $before // '';

	return $now if !defined $before;
	return join '|', map { $_ - shift @before } split /\|/, $now;
}
my $came = 'channels, refused, broken, messages_received, bytes_received, messages_sent';
my $went = "channels, messages_sent, bytes_sent";
for my $t (@transports)
{
	my @before = (counted(2, $t, $came), counted(1, $t, $went));
	$c->sql(2, check($t, 20, 1000));
	my ($bytes) = counted(2, $t, $came, $before[0]) =~ /^1\|0\|0\|20\|([1-9]\d*)\|0$/;
	ok($bytes, "$t: the receiver counts what came");
	is(counted(1, $t, $went, $before[1]), "1|20|$bytes", "$t: the sender counts what went");
	is(counted(1, $t, 'writes > 0, completions > 0'), $t eq 'rdma' ? 't|t' : 'f|f', "$t: and what its device did");
	$c->fails(2, check($t, 20, 1000, 'lose=20'));
	is(counted(2, $t, 'channels, refused, broken', $before[0]), '2|0|1', "$t: and what breaks");
}
{
	my $before = counted(2, 'shm', 'channels, refused, broken');
	$c->sql(2, check('shm', 1, 8, 'refuse=1'));
	is(counted(2, 'shm', 'channels, refused, broken', $before), '0|1|0', 'and what is refused');
}
is($c->sql(1, 'SELECT count(*) > 0 FROM fragaffinity.rdma_stats'), (grep { $_ eq 'rdma' } @transports) ? 't' : 'f',
	'counters of devices, where there are any')
  if !-e '/sys/class/infiniband' || grep { $_ eq 'rdma' } @transports;
my ($code, $message) = $c->fails(2, check('pigeon', 1, 8));
is($code, '22023', 'a transport that there is not');
($code) = $c->fails(2, check('shm', 1, 7));
is($code, '22023', 'messages without room for their number');
($code) = $c->fails(2, "SELECT fragaffinity.check_transports('n2')");
is($code, '22023', 'this node itself');
$c->sql(2, 'CREATE ROLE app LOGIN');
for my $f ("check_transports('n1')", 'transport_secret()', "open_transport('shm', '', 8)", 'messages_sent()', 'send_test_messages(1, 8)')
{
	($code) = $c->fails(2, "SET ROLE app; SELECT fragaffinity.$f");
	is($code, '42501', "$f is not for everyone");
}
($code) = $c->fails(2, "SELECT fragaffinity.$_"), is($code, '55000', "$_ without a channel")
  for "open_transport('shm', '', 8)", 'messages_sent()', 'send_test_messages(1, 8)', 'send_pages(1, 0, 1)';
($code) = $c->fails(2, "SELECT fragaffinity.transport_secret(); SELECT fragaffinity.open_transport('shm', '', 2000000000)");
is($code, '22023', 'a message size out of bounds');
is($c->sql(2, "SELECT octet_length(fragaffinity.transport_secret()); SELECT fragaffinity.open_transport('$_->[0]', '$_->[1]', 8)"),
	"32\n$_->[2]", "a wrong address of $_->[0]: $_->[2]")
  for [ 'shm', '', 'invalid address' ], [ 'shm', '\x' . '00' x 72, 'invalid address' ],
	[ 'shm', '\x' . unpack('H*', pack('V V a64', 0x46415348, 1, 'fragaffinity/nobody')), 'the nodes are not on one host, or in different network namespaces' ],
	[ 'pigeon', '', q{it is not in the source's build} ];

# Faults of the wire.
for my $t (@transports)
{
	for my $f ('drop=3', 'repeat=3', 'swap=3', 'truncate=3', 'append=3', 'flip=3')
	{
		($code, $message) = $c->fails(2, check($t, 50, 100000, $f));
		is($code, 'XX001', "$t: $f is found");
		like($message, qr/message [34] is not what was sent/, "$t: and where");
	}
	($code, $message) = $c->fails(2, check($t, 50, 100000, 'drop=50'));
	like($message, qr/49 of 50 messages came/, "$t: the last one is missed");
	($code, $message) = $c->fails(2, check($t, 50, 100000, 'lose=20'));
	is($code, '08006', "$t: a channel that is lost");
	($code, $message) = $c->fails(2, check($t, 50, 100000, 'fail=20'));
	is($code, '58030', "$t: a call that fails");
	($code, $message) = $c->fails(2, "SET statement_timeout = 500; " . check($t, 500, 100000, 'stall=20'));
	is($code, '57014', "$t: who waits in vain can be cancelled");
	is($c->sql(2, check($t, 20, 100000, 'delay=5')), "$t|t||t", "$t: a slow wire");
	$c->poll(1, $senders, '0', "$t: senders have ended");
}
($code) = $c->fails(2, check('shm', 1, 8, 'pigeon=1'));
is($code, '22023', 'a fault that there is not');
is($c->sql(2, check('shm', 1, 8, 'refuse=1')), q{shm|f|shm: refused, as "transport_faults" says|}, 'a transport that does not go, and why');

# The same at the sender.
$c->sql(1, "ALTER SYSTEM SET fragaffinity.transport_faults = 'fail=20'");
$c->sql(1, 'SELECT pg_reload_conf()');
$c->poll(1, 'SHOW fragaffinity.transport_faults', 'fail=20');
for my $t (@transports)
{
	($code, $message) = $c->fails(2, check($t, 50, 100000));
	is($code, '58030', "$t: a post that fails");
	like($message, qr/post 20 failed.*remote SQL on node "n1"/s, "$t: in the sender's words");
}
$c->sql(1, 'ALTER SYSTEM RESET fragaffinity.transport_faults');
$c->sql(1, 'SELECT pg_reload_conf()');
$c->poll(1, 'SHOW fragaffinity.transport_faults', '');
is(leftovers($_), '', "nothing is left on node $_ after faults") for 1, 2;

# kill -9 in every phase.
sub killed_at
{
	my ($t, $at, $point, $victim) = @_;
	my ($out, $err) = ('', '');
	my $name = "$t: node $victim killed at $point";

	$c->hold($at, $point);
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->conninfo(2), '-c', check($t, 1000, 200000) ],
		'<', '/dev/null', '>', \$out, '2>', \$err);
	ok($c->wait_held($at, $point), "$name: reached");
	like(shared_memory(2), $t eq 'shm' ? qr/maps/ : qr/^$/, "$name: memory of the channel");
	$c->kill9($victim);
	$c->release($at);
	my $ended = eval { $session->finish; 1 };
	ok($ended, "$name: the receiver's statement ends");
	like($err, qr/connection|terminat|server closed|has closed it/, "$name: with an error") or diag($out);
	$c->restart($victim);
	$c->poll(1, $senders, '0', "$name: the sender's statement ends");
	is(leftovers($_), '', "$name: nothing is left on node $_") for 1, 2;
	is($c->sql(2, check($t, 10, 200000)), "$t|t||t", "$name: and then it works");
	return;
}
for my $t (@transports)
{
	for my $victim (1, 2)
	{
		killed_at($t, 2, 'transport_listen', $victim);
		killed_at($t, 1, 'transport_connect', $victim);
		killed_at($t, 1, 'transport_post', $victim);
		killed_at($t, 2, 'transport_message', $victim);
	}
}

# Who finds the socket of another's channel and connects to it, gets nothing and
# holds nobody up.
{
	my ($out, $err) = ('', '');

	$c->hold(2, 'transport_listen');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->conninfo(2), '-c', check('shm', 100, 200000) ],
		'<', '/dev/null', '>', \$out, '2>', \$err);
	ok($c->wait_held(2, 'transport_listen'), 'a receiver listens');
	my $pid = $c->sql(2, "SELECT pid FROM pg_stat_activity WHERE query ~ 'check_transports' AND pid <> pg_backend_pid()");
	my %inode = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
	my ($name) = map { /(\d+) \@(fragaffinity\/\w+)$/ && $inode{$1} ? $2 : () } split /\n/, slurp_file('/proc/net/unix');
	ok($name, 'others see its socket');
	my @intruders;
	for my $hello ('', 'x', pack('V V a32', 0x46415348, 1, 'not the secret'), 'y' x 5000)
	{
		my $s = IO::Socket::UNIX->new(Type => Socket::SOCK_SEQPACKET(), Peer => "\0$name") or die "$name: $!";
		$s->send($hello) if $hello ne '';
		$hello eq '' ? close($s) : push @intruders, $s;
	}
	$c->release(2);
	$session->finish;
	is($out, "shm|t||t\n", 'the sender comes through') or diag($err);
	my $got = join '', map { my $data = ''; $_->recv($data, 100); $data } @intruders;
	is($got, '', 'and nobody else was told anything');
}

# Moves: damaged on the way, and over the next best.
$c->sql(1, "
	CREATE TABLE t (id int PRIMARY KEY, pad text);
	INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')");
my $f = $c->fragment('t');
my $rows = $c->sql(1, 'SELECT count(*), sum(hashtext(t::text)) FROM t');

sub set_faults
{
	my ($faults) = @_;

	$c->sql(2, "ALTER SYSTEM SET fragaffinity.transport_faults = '$faults'");
	$c->sql(2, 'SELECT pg_reload_conf()');
	$c->poll(2, 'SHOW fragaffinity.transport_faults', $faults);
	return;
}

sub last_move
{
	my ($columns) = @_;
	return $c->sql(2, "SELECT $columns FROM fragaffinity.moves ORDER BY move DESC LIMIT 1");
}

for my $t (@transports)
{
	$c->sql(1, "SELECT fragaffinity.configure('transports', '$t')");
	if ($t eq 'rdma')
	{
		# As if it had changed while it was sent: it comes again.
		set_faults('flip=3');
		$c->move($f, 'n2');
		is(last_move("state, transport_counters ->> 'torn'"), 'done|1', "$t, flip=3: the page is sent again");
		is($c->sql(2, 'SELECT count(*), sum(hashtext(t::text)) FROM t'), $rows, "$t, flip=3: all rows came");
		set_faults('');
		$c->move($f, 'n1');
	}
	for my $fault ('drop=3', 'repeat=3', 'swap=3', 'truncate=3', 'append=3', 'lose=5', 'fail=5',
		$t eq 'rdma' ? () : 'flip=3')
	{
		set_faults($fault);
		($code, $message) = $c->fails(2, "SELECT fragaffinity.move_fragment($f, 'n2')");
		is($code, '55000', "$t, $fault: the move fails");
		like($message, qr/invalid frame|"transport_faults"/, "$t, $fault: for what it is");
		is($c->owner($f), 'n1', "$t, $fault: the fragment stays");
	}
	set_faults('delay=2');
	$c->move($f, 'n2');
	is(last_move('state, transport, transport_reason'), "done|$t|", "$t: a slow wire is only slow");
	is($c->sql(2, 'SELECT count(*), sum(hashtext(t::text)) FROM t'), $rows, "$t: all rows came");
	set_faults('');
	$c->move($f, 'n1');
	is($c->sql(1, 'SELECT count(*), sum(hashtext(t::text)) FROM t'), $rows, "$t: and went back");
}
set_faults('refuse=1');
$c->sql(1, "SELECT fragaffinity.configure('transports', 'shm, stream')");
$c->move($f, 'n2');
is(last_move('transport, transport_reason'), 'stream|shm: refused, as "transport_faults" says',
	'where the best does not go, the next does, and why is said');
is($c->sql(2, "SELECT source, destination, transport, reason FROM fragaffinity.transports WHERE destination = 'n2'"),
	'n1|n2|stream|shm: refused, as "transport_faults" says', 'in the view of transports as well');
$c->move($f, 'n1');
$c->sql(1, "SELECT fragaffinity.configure('transports', 'shm', 't')");
($code, $message) = $c->fails(2, "SELECT fragaffinity.move_fragment($f, 'n2')");
like($message, qr/no transport works between this node and node "n1": shm: refused.*Add "stream"/, 'no other is allowed');
is($c->owner($f), 'n1', 'so the fragment stays');
set_faults('');
$c->move($f, 'n2');
is(last_move('transport'), 'shm', 'and goes when it can');
for my $bad ('pigeon', 'shm,shm', '', 'shm stream')
{
	($code) = $c->fails(1, "SELECT fragaffinity.configure('transports', '$bad')");
	is($code, '22023', "\"$bad\" is no list of transports");
}

# The mover or the source's session alone is killed among the pages.
for my $case ([ 1, 'transport_message', 'mover' ], [ 2, 'transport_post', 'session' ])
{
	my ($at, $point, $who) = @$case;

	$c->hold($at, $point);
	my $move = $c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n1', wait => false)");
	ok($c->wait_held($at, $point), "$who reaches a page");
	my $pid = $c->sql($at, $who eq 'mover' ? "SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'mover'" :
		  "SELECT pid FROM pg_stat_activity WHERE query ~ 'send_pages' AND pid <> pg_backend_pid()");
	kill 'KILL', $pid;
	$c->poll($at, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0');
	$c->release($at);
	ok($c->poll(1, "SELECT state FROM fragaffinity.move WHERE move = $move", 'failed'), "$who killed: the move has failed");
	$c->poll(2, $senders, '0', "$who killed: the sender's statement ends");
	is(leftovers($_), '', "$who killed: nothing is left on node $_") for 1, 2;
	is($c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n2'), 1, "$who killed: node $_ knows the owner")
	  for 1, 2;
}
$c->check_consistent('nothing is left over');
$c->move($f, 'n1');
is($c->sql(2, 'SELECT count(*), sum(hashtext(t::text)) FROM t'), $rows, 'the rows are all there');

done_testing();
