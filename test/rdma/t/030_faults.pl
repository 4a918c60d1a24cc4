# What can be missing or break: before the first page another transport is
# taken, after it the move ends, cleanly, and can be made again.  doc/rdma.md has
# the table; it is printed as it comes.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use RdmaFaults;
use Test::More;
use Time::HiRes qw(time sleep);

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nrestart_after_crash = on\n");
my $faults = RdmaFaults->new($c);
my $lib = `pg_config --pkglibdir`;
chomp $lib;

sub memlock
{
	my ($i, $bytes) = @_;
	system_or_bail('prlimit', '--pid', $c->node($i)->{_pid}, "--memlock=$bytes:");
	return;
}

$faults->refused('nothing', qr/^$/);

rename "$lib/fragaffinity_rdma.so", "$lib/away.so" or die "$lib: $!";
$faults->refused('the module is not installed', qr/cannot open shared object file/);
rename "$lib/away.so", "$lib/fragaffinity_rdma.so" or die "$lib: $!";

$faults->set(2, 'fragaffinity.rdma_address', '127.0.0.1');
$faults->refused('no device has the address', qr/no RDMA device listens at address 127\.0\.0\.1/);
$faults->set(2, 'fragaffinity.rdma_address', '10.99.0.1');

memlock(2, 65536);
$faults->refused('the destination may not lock memory', qr/could not be locked in memory, the limit \(ulimit -l\) is 64 kB/);
memlock(2, 'unlimited');
memlock(1, 65536);
$faults->refused('the source may not lock memory', qr/could not be locked in memory, the limit \(ulimit -l\) is 64 kB/);
memlock(1, 'unlimited');

$faults->set(2, 'fragaffinity.rdma_port', '7998');
{
	my $server = IPC::Run::start([ 'rping', '-s', '-a', '10.99.0.1', '-p', '7998' ], '<', \undef, '>', \my $out, '2>&1');
	sleep 0.2 while `rdma resource show cm_id 2>/dev/null` !~ /\b7998\b/;
	$faults->refused('another program has the port', qr/no RDMA device listens at address 10\.99\.0\.1: Address already in use/);
	$server->kill_kill;
}

# Who has no secret is sent away, and does no harm.
{
	$c->hold(2, 'transport_listen');
	my $check = IPC::Run::start([ 'psql', '-XAtc', "SELECT usable, reason FROM fragaffinity.check_transports('n1', 3, 65536, 'rdma')", $c->conninfo(2) ],
		'<', \undef, '>', \my $out, '2>&1');
	ok($c->wait_held(2, 'transport_listen'), 'the receiver listens');
	my $stranger = IPC::Run::start([ 'rping', '-c', '-a', '10.99.0.1', '-p', '7998', '-C', '1' ], '<', \undef, '>', \my $said, '2>&1');
	$c->release(2);
	my $connected = $stranger->finish;
	$check->finish;
	ok(!$connected, 'a stranger is refused') or diag($said);
	is($out, "t|\n", 'and the sender still gets in');
}
$faults->set(2, 'fragaffinity.rdma_port', '0');

# A move by way of the next transport.
memlock(2, 65536);
like($faults->move('n2'), qr/^stream\|rdma: .*locked/, 'a move takes the next transport');
memlock(2, 'unlimited');
is($faults->move('n1'), 'rdma|', 'and back');

# Shared buffers cannot be registered, the staging memory can: pages are copied.
memlock(1, 20 * 1024 * 1024);
$faults->move('n2');
memlock(1, 'unlimited');
ok($c->poll(2, "SELECT transport || ' ' || (transport_counters ->> 'gathered') FROM fragaffinity.moves WHERE destination = 'n2' ORDER BY move DESC LIMIT 1",
	'rdma 0'), 'pages are copied where shared buffers cannot be locked');
like(slurp_file($c->node(1)->logfile), qr/pages of move \d+ are copied before transport "rdma" sends them: .*limit/, 'which the source says');
$faults->report('| the source may lock the staging memory, but not shared buffers | `rdma`, of copied pages | |');
$faults->move('n1');

# Now in the middle of a copy: one process stands still, the other is hit.
$c->sql(1, "SELECT fragaffinity.configure('transports', 'rdma')");

$faults->broken('the source\'s process is terminated', 1, 'transport_post',
	sub { $c->sql(1, "SELECT pg_terminate_backend($_[0])") }, qr/./);
$faults->broken('the move is cancelled', 2, 'transport_message',
	sub { $c->sql(2, "SELECT fragaffinity.cancel_move($_[2])") }, qr/./);
$faults->broken('the source\'s process is killed (kill -9), its server with it', 1, 'transport_post',
	sub { kill 'KILL', $_[0] }, qr/./);
$faults->broken('the mover is killed (kill -9), its server with it', 2, 'transport_message',
	sub { kill 'KILL', $_[1] }, qr//);
# That takes its 30 s: FA_RDMA_LONG, as make test-rdma has it.
$faults->broken('the source\'s process stands still', 1, 'transport_post',
	sub {
		my ($source, $mover, $move) = @_;
		kill 'STOP', $source;
		$c->poll(2, "SELECT state IN ('failed', 'cancelled') FROM fragaffinity.moves WHERE move = $move");
		kill 'CONT', $source;
	}, qr/sent nothing within/) if $ENV{FA_RDMA_LONG};

# After all that, nothing is left, and it works.
$faults->nothing_left('no queue pair and no memory of a device is left');
$faults->kernel_content('nor did the device wait in vain for anything, whoever was killed');
is($faults->move('n2'), 'rdma|', 'a move goes over rdma');
is($c->rows(1, 't'), $faults->{rows}, 'with every row');
done_testing();
