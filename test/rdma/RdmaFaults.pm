# What tests of faults share: how a fault is brought about before the first page
# of a move and among its pages, and what must hold afterwards.
package RdmaFaults;

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# A cluster of two nodes with a table "t" of one fragment, on node 1.
sub new
{
	my ($class, $c) = @_;

	$c->sql(1, q{
		CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
		INSERT INTO t SELECT i, i, repeat(md5(i::text), 20) FROM generate_series(1, 3000) i;
		SELECT fragaffinity.configure('transports', 'rdma,stream');
		SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')});
	return bless { c => $c, f => $c->fragment('t'), rows => $c->rows(1, 't') }, $class;
}

# An emulated server on a busy machine may not let its peer in within the time
# that it has for that.
my $slow = qr/could not connect to node/;

sub patient
{
	my ($self, $do) = @_;
	my $result;

	for my $try (1 .. 10)
	{
		return $result if eval { $result = $do->(); 1 };
		die $@ if $@ !~ $slow || $try == 10;
	}
	return;
}

# Moves the fragment, and returns "transport|why not one before it".
sub move
{
	my ($self, $to) = @_;
	my ($c, $f) = @$self{qw(c f)};

	$self->patient(sub {
		my $ret = $c->node(2)->psql('postgres', "SELECT fragaffinity.move_fragment($f, '$to')", stderr => \my $err);
		die $err if $ret != 0;
	});
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", $to);
	return $c->sql($to eq 'n1' ? 1 : 2,
		"SELECT transport, transport_reason FROM fragaffinity.moves WHERE destination = '$to' ORDER BY move DESC LIMIT 1");
}

# A line of doc/rdma.md's tables.
sub report
{
	my ($self, $row) = @_;

	diag($row);
	return;
}

# A server variable.
sub set
{
	my ($self, $i, $name, $value) = @_;
	my $c = $self->{c};

	$c->sql($i, "ALTER SYSTEM SET $name = '$value'");
	$c->sql($i, 'SELECT pg_reload_conf()');
	$c->poll($i, "SHOW $name", $value) or die "$name is not set";
	return;
}

# Why rdma does not go from node 1 to node 2; empty when it does.
sub refused
{
	my ($self, $name, $pattern) = @_;
	my $c = $self->{c};
	my $began = time;
	my $why = $self->patient(sub { $c->sql(2, "SELECT reason FROM fragaffinity.check_transports('n1', 3, 65536, 'rdma')") });

	like($why, $pattern, "before the first page: $name");
	$self->report(sprintf "| %s | next transport: %s | %.1f s |", $name, $why, time - $began);
	return;
}

# Starts a move to node 2 that stops at a point of node $at, and returns it.
sub begin
{
	my ($self, $at, $point) = @_;
	my ($c, $f) = @$self{qw(c f)};

	return $self->patient(sub {
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
}

# In the middle of a copy: one process stands still, the other is hit.
sub broken
{
	my ($self, $name, $at, $point, $hit, $pattern) = @_;
	my $c = $self->{c};
	my $move = $self->begin($at, $point);

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
	is($c->rows(1, 't'), $self->{rows}, "$name: every row is there");
	$self->report(sprintf "| %s | %s: %s | %.1f s |", $name, $state, ($error // '') =~ s/[\n|].*//sr, $took);
	return;
}

# Waits until servers hold nothing of a device; how long that took.
sub nothing_left
{
	my ($self, $name) = @_;
	my $began = time;
	my $left;

	while (1)
	{
		# a kernel's own have no process
		$left = join '', map { `rdma resource show $_ 2>/dev/null` } qw(qp mr cq pd cm_id);
		last if $left !~ /postgres/ || time - $began > 60;
		sleep 0.1;
	}
	unlike($left, qr/postgres/, $name);
	return time - $began;
}

# Devices got back all that was theirs, in an order that they can do; the driver
# waits for what is still in use, and complains when that was in vain.
sub kernel_content
{
	my ($self, $name) = @_;

	unlike(`dmesg`, qr/rxe_cleanup/, $name);
	return;
}

1;
