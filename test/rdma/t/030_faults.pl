# What can be missing or break: before the first page another transport is
# taken, after it the move ends, cleanly, and can be made again.  doc/rdma.md has
# the table; It is printed as it comes.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nrestart_after_crash = on\n");

$c->sql(1, q{
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
	INSERT INTO t SELECT i, i, repeat(md5(i::text), 20) FROM generate_series(1, 3000) i;
	SELECT fragaffinity.configure('transports', 'rdma,stream');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')});
my $f = $c->fragment('t');
my $rows = $c->rows(1, 't');
my $lib = `pg_config --pkglibdir`;
chomp $lib;

# An emulated server on a busy machine may not let its peer in within the time
# that it has for that.
my $slow = qr/could not connect to node/;

sub patient
{
	my ($do) = @_;
	my $result;

	for my $try (1 .. 10)
	{
		return $result if eval { $result = $do->(); 1 };
		die $@ if $@ !~ $slow || $try == 10;
	}
	return;
}

sub move
{
	my ($to) = @_;
	my $state;

	patient(sub {
		my $ret = $c->node(2)->psql('postgres', "SELECT fragaffinity.move_fragment($f, '$to')", stderr => \my $err);
		die $err if $ret != 0;
	});
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", $to);
	return;
}

sub report
{
	my ($row) = @_;

	diag($row);
	return;
}

sub postmaster { my ($i) = @_; return $c->node($i)->{_pid}; }

sub set
{
	my ($i, $name, $value) = @_;
	$c->sql($i, "ALTER SYSTEM SET $name = '$value'");
	$c->sql($i, 'SELECT pg_reload_conf()');
	$c->poll($i, "SHOW $name", $value) or die "$name is not set";
	return;
}

sub memlock
{
	my ($i, $bytes) = @_;
	system_or_bail('prlimit', '--pid', postmaster($i), "--memlock=$bytes:");
	return;
}

# Why rdma does not go from node 1 to node 2; empty when it does.
sub refused
{
	my ($name, $pattern) = @_;
	my $began = time;
	my $why = patient(sub { $c->sql(2, "SELECT reason FROM fragaffinity.check_transports('n1', 3, 65536, 'rdma')") });

	like($why, $pattern, "before the first page: $name");
	report(sprintf "| %s | next transport: %s | %.1f s |", $name, $why, time - $began);
	return;
}

refused('nothing', qr/^$/);

rename "$lib/fragaffinity_rdma.so", "$lib/away.so" or die "$lib: $!";
refused('the module is not installed', qr/cannot open shared object file/);
rename "$lib/away.so", "$lib/fragaffinity_rdma.so" or die "$lib: $!";

set(2, 'fragaffinity.rdma_address', '127.0.0.1');
refused('no device has the address', qr/no RDMA device listens at address 127\.0\.0\.1/);
set(2, 'fragaffinity.rdma_address', '10.99.0.1');

memlock(2, 65536);
refused('the destination may not lock memory', qr/could not be locked in memory, the limit \(ulimit -l\) is 64 kB/);
memlock(2, 'unlimited');
memlock(1, 65536);
refused('the source may not lock memory', qr/could not be locked in memory, the limit \(ulimit -l\) is 64 kB/);
memlock(1, 'unlimited');

set(2, 'fragaffinity.rdma_port', '7998');
{
	my $server = IPC::Run::start([ 'rping', '-s', '-a', '10.99.0.1', '-p', '7998' ], '<', \undef, '>', \my $out, '2>&1');
	sleep 0.2 while `rdma resource show cm_id 2>/dev/null` !~ /\b7998\b/;
	refused('another program has the port', qr/no RDMA device listens at address 10\.99\.0\.1: Address already in use/);
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
set(2, 'fragaffinity.rdma_port', '0');

# A move by way of the next transport.
memlock(2, 65536);
move('n2');
like($c->sql(2, 'SELECT transport, transport_reason FROM fragaffinity.moves'), qr/^stream\|rdma: .*locked/, 'a move takes the next transport');
memlock(2, 'unlimited');
move('n1');
is($c->sql(1, "SELECT transport FROM fragaffinity.moves ORDER BY finished DESC LIMIT 1"), 'rdma', 'and back');

# Shared buffers cannot be registered, the staging memory can: pages are copied.
memlock(1, 20 * 1024 * 1024);
move('n2');
memlock(1, 'unlimited');
ok($c->poll(2, "SELECT transport || ' ' || (transport_counters ->> 'gathered') FROM fragaffinity.moves WHERE destination = 'n2' ORDER BY move DESC LIMIT 1",
	'rdma 0'), 'pages are copied where shared buffers cannot be locked');
like(slurp_file($c->node(1)->logfile), qr/pages of move \d+ are copied before transport "rdma" sends them: .*limit/, 'which the source says');
report('| the source may lock the staging memory, but not shared buffers | `rdma`, of copied pages | |');
move('n1');

# Now in the middle of a copy: one process stands still, the other is hit.
$c->sql(1, "SELECT fragaffinity.configure('transports', 'rdma')");

sub broken
{
	my ($name, $at, $point, $hit, $pattern) = @_;
	my $move = patient(sub {
		$c->hold($at, $point);
		my $move = $c->sql(2, "SELECT fragaffinity.move_fragment($f, 'n2', wait => false)");
		for (1 .. 2000)
		{
			return $move if slurp_file($c->node($at)->logfile, $c->{log_start}[$at]) =~ /stopped at "$point"/;
			my $error = $c->sql(2, "SELECT error FROM fragaffinity.moves WHERE move = $move AND state = 'failed'");
			die $error if $error ne '';
			sleep 0.5;
		}
		die "move $move does not come to $point";
	});
	ok($move, "in the copy: $name");
	my $source = $c->sql(1, "SELECT pid FROM pg_stat_activity WHERE query ~ 'send_pages' AND pid <> pg_backend_pid()");
	my $mover = $c->sql(2, 'SELECT pid FROM fragaffinity.stat_progress_move');
	my $began = time;
	$hit->($source, $mover, $move);
	eval { $c->release($at) };
	my $ended = $c->poll(2, "SELECT state IN ('failed', 'cancelled') FROM fragaffinity.moves WHERE move = $move");
	my $took = time - $began;
	ok($ended, "$name: the move ends");
	$c->poll(1, 'SELECT true');
	eval { $c->release($at) };
	my ($state, $error) = split /\|/, $c->sql(2, "SELECT state, error FROM fragaffinity.moves WHERE move = $move"), 2;
	like($error // '', $pattern, "$name: says why");
	is($c->rows(1, 't'), $rows, "$name: every row is there");
	report(sprintf "| %s | %s: %s | %.1f s |", $name, $state, ($error // '') =~ s/[\n|].*//sr, $took);
	return;
}

broken('the source\'s process is terminated', 1, 'transport_post',
	sub { $c->sql(1, "SELECT pg_terminate_backend($_[0])") }, qr/./);
broken('the move is cancelled', 2, 'transport_message',
	sub { $c->sql(2, "SELECT fragaffinity.cancel_move($_[2])") }, qr/./);
broken('the source\'s process is killed (kill -9), its server with it', 1, 'transport_post',
	sub { kill 'KILL', $_[0] }, qr/./);
broken('the mover is killed (kill -9), its server with it', 2, 'transport_message',
	sub { kill 'KILL', $_[1] }, qr//);
# That takes its 30 s: FA_RDMA_LONG, as make test-rdma has it.
broken('the source\'s process stands still', 1, 'transport_post',
	sub {
		my ($source, $mover, $move) = @_;
		kill 'STOP', $source;
		$c->poll(2, "SELECT state IN ('failed', 'cancelled') FROM fragaffinity.moves WHERE move = $move");
		kill 'CONT', $source;
	}, qr/sent nothing within/) if $ENV{FA_RDMA_LONG};

# After all that, nothing is left, and it works.
sub left { return `rdma resource show qp 2>/dev/null` . `rdma resource show mr 2>/dev/null`; }
my $end = time + 60;
sleep 0.5 while left() =~ /postgres/ && time < $end;
unlike(left(), qr/postgres/, 'no queue pair and no memory of a device is left');
unlike(`dmesg`, qr/rxe_cleanup/, 'nor did the device wait in vain for anything, whoever was killed');
move('n2');
is($c->sql(2, "SELECT transport FROM fragaffinity.moves ORDER BY finished DESC LIMIT 1"), 'rdma', 'a move goes over rdma');
is($c->rows(1, 't'), $rows, 'with every row');
done_testing();
