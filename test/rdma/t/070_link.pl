# Two devices, each a server's own, and a link between them for RDMA alone; libpq
# goes another way.  The link is cut, loses what is sent, or is not routed; queues
# are flushed, devices removed, processes killed: before the first page another
# transport is taken, after it the move fails, cleanly, and can be made again.
# doc/rdma.md has the table; it is printed as it comes.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use RdmaFaults;
use Test::More;
use Time::HiRes qw(time sleep);

my $limit = $PostgreSQL::Test::Utils::timeout_default;

sub run
{
	my ($command) = @_;

	system_or_bail(split ' ', $command);
	return;
}

sub kernel
{
	my ($name, $value) = @_;
	my $file = "/proc/sys/net/ipv4/conf/$name";

	open my $fh, '>', $file or die "$file: $!";
	print $fh $value;
	close $fh or die "$file: $!";
	return;
}

sub wait_until
{
	my ($what, $is) = @_;
	my $end = time + $limit;

	until ($is->())
	{
		die "in vain: $what" if time > $end;
		sleep 0.05;
	}
	return;
}

sub make_device { my ($i) = @_; run("rdma link add rxe$i type rxe netdev fa$i"); return; }

# A switch between two devices.  Both ends are this machine's, and the kernel would not send to itself over a
# link, nor take from there what it has sent, nor answer who asks for an address.
sub make_link
{
	run('ip link add fasw type bridge');
	run('ip link set fasw up');
	kernel('all/rp_filter', 0);
	for my $i (1, 2)
	{
		run("ip link add fa$i mtu 4200 type veth peer name sw$i mtu 4200");
		run("ip link set sw$i master fasw");
		run("ip link set sw$i up");
		kernel("fa$i/$_", 1) for qw(accept_local arp_ignore);
		kernel("fa$i/arp_announce", 2);
		kernel("fa$i/rp_filter", 0);
		run("ip addr add 10.98.0.$i/24 dev fa$i");
		run("ip link set fa$i up");
		make_device($i);
	}
	# so that a rule can be before the one for local addresses
	run('ip rule add pref 100 lookup local');
	run('ip rule del pref 0');
	return;
}

# A device's end of the link, at the switch.
sub cut { my ($i) = @_; run("ip link set sw$i down"); return; }

sub heal
{
	run("ip link set sw$_ up") for 1, 2;
	wait_until('both ports are up', sub { (() = `rdma link show` =~ /rxe[12]\/1 state ACTIVE/g) == 2 });
	return;
}

sub counter { my ($i, $name) = @_; return slurp_file("/sys/class/infiniband/rxe$i/ports/1/hw_counters/$name") + 0; }

make_link();
my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nrestart_after_crash = on\n");
my $faults = RdmaFaults->new($c);
$faults->set($_, 'fragaffinity.rdma_address', "10.98.0.$_") for 1, 2;
# four messages at a time, so that no source is done before its mover goes on
$faults->set(2, 'fragaffinity.rdma_staging', '1MB');

my @before = map { counter($_, 'rcvd_pkts') } 1, 2;
$faults->refused('nothing', qr/^$/);
cmp_ok(counter(2, 'rcvd_pkts') - $before[1], '>', 3 * 65536 / 4096, 'messages came to the device of the destination');
cmp_ok(counter(1, 'rcvd_pkts') - $before[0], '>', 0, 'from that of the source, which got answers');
is($faults->move('n2'), 'rdma|', 'a move from device to device');
is($c->rows(1, 't'), $faults->{rows}, 'with every row');
is($faults->move('n1'), 'rdma|', 'and back');

# Before the first page.
my $silent = qr/no connection within 5000 ms|nothing answered for the receiver's address within 5000 ms/;
cut(2);
$faults->refused('the link is cut', $silent);
like($c->sql(2, "SELECT fragaffinity.move_fragment($faults->{f}, 'n2'); SELECT transport, transport_reason FROM fragaffinity.moves ORDER BY move DESC LIMIT 1"),
	qr/^stream\|rdma: /m, 'a move takes the next transport');
heal();
is($faults->move('n1'), 'rdma|', 'and the one after the link is back takes rdma again');

run('tc qdisc add dev fa1 root netem loss 100%');
$faults->refused('the link loses all that is sent', $silent);
run('tc qdisc del dev fa1 root');

run('ip rule add pref 1 to 10.98.0.2 unreachable');
$faults->refused('there is no route, and the source has rdma_address', $silent);
$faults->set(1, 'fragaffinity.rdma_address', '');
$faults->refused('there is no route, and it has not', qr/no RDMA device leads to the receiver's address: Network is unreachable/);
$faults->set(1, 'fragaffinity.rdma_address', '10.98.0.1');
run('ip rule del pref 1');

# Among the pages.
$c->sql(1, "SELECT fragaffinity.configure('transports', 'rdma')");

# A link that comes back in time.
{
	my $move = $faults->begin(1, 'transport_post');
	my $again = counter(1, 'completer_retry_err');

	cut(2);
	$c->release(1);
	wait_until('something is sent again', sub { counter(1, 'completer_retry_err') > $again });
	heal();
	ok($c->poll(2, "SELECT state = 'done' FROM fragaffinity.moves WHERE move = $move"), 'a link that was cut for less than the timeouts: the move goes on');
	is($c->rows(1, 't'), $faults->{rows}, 'with every row');
	is($faults->move('n1'), 'rdma|', 'and back');
}

sub freed
{
	my ($name) = @_;

	$faults->report(sprintf '| devices are free of it | | %.1f s |', $faults->nothing_left("nothing of a device is left: $name"));
	return;
}

# One that does not, where one side or the other has sent something.
for my $case ([ 1, 'at the source, which sends', 1, 'transport_post' ],
	[ 2, 'at the destination, and the source sends', 1, 'transport_post' ],
	[ 2, 'at the destination, and the source waits for room', 2, 'transport_message' ])
{
	my ($end, $name, $at, $point) = @$case;

	$faults->broken("the link is cut $name", $at, $point, sub { cut($end) }, qr/does not answer|cannot be reached any more/);
	freed($name);
	heal();
}
$faults->broken('the link loses all that is sent', 1, 'transport_post',
	sub { run('tc qdisc add dev fa1 root netem loss 100%') }, qr/does not answer|cannot be reached any more/);
freed('lost messages');
run('tc qdisc del dev fa1 root');

for my $side ([ 1, 'source' ], [ 2, 'destination' ])
{
	my ($i, $who) = @$side;

	$faults->set($i, 'fragaffinity.transport_faults', 'flush=1');
	$faults->broken("the queue of the $who is flushed", 2, 'transport_message', sub { }, qr/the connection has ended|has closed/);
	$faults->set($i, 'fragaffinity.transport_faults', '');
	freed("a flushed queue of the $who");
}

# The driver lets processes have a device until they have ended: it goes after them.
for my $i (1, 2)
{
	my $who = $i == 1 ? 'source' : 'destination';
	my $move = $faults->begin(2, 'transport_message');
	my $remover = IPC::Run::start([ 'rdma', 'link', 'delete', "rxe$i" ], '<', \undef, '>', \my $said, '2>&1');

	wait_until("rxe$i is hidden", sub { `rdma link show` !~ /\brxe$i\b/ });
	$c->release(2);
	ok($c->poll(2, "SELECT state IN ('done', 'failed') FROM fragaffinity.moves WHERE move = $move"), "the device of the $who is removed: the move ends");
	$faults->report("| the device of the $who is removed | " . $c->sql(2, "SELECT state, error FROM fragaffinity.moves WHERE move = $move") . ' | |');
	ok($remover->finish, 'and then the device is gone');
	make_device($i);
	is($c->rows(1, 't'), $faults->{rows}, 'every row is there');
	$faults->move('n1') if $c->owner($faults->{f}) eq 'n2';
	is($faults->move('n2'), 'rdma|', 'a device that came anew is used');
	is($faults->move('n1'), 'rdma|', 'and back');
}

$faults->broken('the source\'s process is killed (kill -9), its server with it', 2, 'transport_message',
	sub { kill 'KILL', $_[0] }, qr/./);
$faults->broken('the mover is killed (kill -9), its server with it', 2, 'transport_message',
	sub { kill 'KILL', $_[1] }, qr//);

# After all that, nothing is left, and it works.
$faults->nothing_left('no queue pair and no memory of a device is left');
is($faults->move('n2'), 'rdma|', 'a move goes over rdma');
is($c->rows(1, 't'), $faults->{rows}, 'with every row');
$faults->kernel_content('the devices waited in vain for nothing');
done_testing();
