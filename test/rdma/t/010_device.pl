# The guest itself: a device, two processes that find each other by rdma_cm,
# and limits that hold.  When this fails, no other test says anything.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $limit = $PostgreSQL::Test::Utils::timeout_default;

sub output
{
	my @command = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout($limit));
	return $out . $err;
}

like(output('ibv_devinfo', '-d', 'rxe0'), qr/state:\s+PORT_ACTIVE/, 'the device is up');
like(output('ibv_devinfo', '-d', 'rxe0', '-v'), qr/MEM_WINDOW_TYPE_2B/, 'and has memory windows');

my $server = IPC::Run::start([ 'rping', '-s', '-a', '10.99.0.1', '-p', '7471', '-C', '3' ],
	'<', \undef, '>', \my $said, '2>&1');
my $reached = 0;
for (1 .. 20)
{
	# refused until the server listens
	last if $reached = IPC::Run::run([ 'rping', '-c', '-a', '10.99.0.1', '-p', '7471', '-C', '3' ],
		'<', \undef, '>', \my $out, '2>&1', IPC::Run::timeout($limit));
}
ok($reached, 'rdma_cm connects, and memory is read and written');
eval { $server->kill_kill; };
done_testing();
