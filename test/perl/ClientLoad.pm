=pod

=head1 NAME

ClientLoad - clients that know what must be in a table; methods of FragAffinity

=over

=cut

package ClientLoad;

use strict;
use warnings;
use Exporter qw(import);
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT_OK = qw(start_load wait_for_load stop_load check_load);

# The root of the run's copy of test/.
(my $here = $INC{'ClientLoad.pm'}) =~ s{/perl/ClientLoad\.pm$}{};

=pod

=item $c->start_load(table => 't', modes => { 1 => [qw(simple reader)] }, anchors => N, keys => N,
		user => 'postgres')

Starts test/load sessions on nodes; each writer gets keys of its own.

=item $c->wait_for_load(LOAD, N)

Waits until every session has done N more operations.

=item $c->stop_load(LOAD), $c->check_load(LOAD, TABLE, NAME, allow_errors => 0)

Ends them; compares every row that they wrote with what each node shows, and
tests that no session saw an error or a wrong answer (a lost connection is none).

=back

=cut

my $next_writer = 1;

sub start_load
{
	my ($self, %p) = @_;
	my $load = { sessions => [] };

	for my $i (sort keys %{ $p{modes} })
	{
		for my $mode (@{ $p{modes}{$i} })
		{
			my $writer = $next_writer++;
			my $out = "$PostgreSQL::Test::Utils::tmp_check/load_${$}_$writer";
			my $run = IPC::Run::start(
				[ "$here/load", '--out', $out, '--mode', $mode,
					'--table', $p{table}, '--writer', $writer,
					'--keys', $p{keys} // 200, '--anchors', $p{anchors} // 0,
					'--pause', $p{pause} // 2000, '--seed', $writer,
					$self->conninfo($i, $p{user}) ],
				'<', \undef, '>', \my $stdout, '2>&1');

			push @{ $load->{sessions} },
			  { run => $run, out => $out, node => $i, mode => $mode, writer => $writer };
		}
	}
	push @{ $self->{loads} }, $load;
	$self->wait_for_load($load, 1);
	return $load;
}

sub _ops
{
	my ($session) = @_;
	open my $fh, '<', "$session->{out}.ops" or return 0;
	my $n = <$fh> // 0;
	return $n + 0;
}

sub wait_for_load
{
	my ($self, $load, $n) = @_;
	my @goal = map { _ops($_) + $n } @{ $load->{sessions} };
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	for my $s (@{ $load->{sessions} })
	{
		my $goal = shift @goal;
		until (_ops($s) >= $goal)
		{
			die "$s->{mode} session on node $s->{node} is stuck" if time() > $end;
			usleep(10_000);
		}
	}
	return;
}

sub stop_load
{
	my ($self, $load) = @_;

	$_->{run}->signal('TERM') for @{ $load->{sessions} };
	for my $s (@{ $load->{sessions} })
	{
		eval { $s->{run}->finish };
		$s->{ops} = _ops($s);
		open my $fh, '<', $s->{out} or next;
		while (my $line = <$fh>)
		{
			chomp $line;
			if ($line =~ /^stat (\S+) (\S+)/) { $s->{stat}{$1} = $2; }
			elsif ($line =~ /^error (.*)/) { push @{ $s->{errors} }, $1; }
			elsif ($line =~ /^wrong (.*)/) { push @{ $s->{wrong} }, $1; }
			elsif ($line =~ /^key (\d+) (.*)/) { $s->{key}{$1} = [ split ' ', $2 ]; }
		}
	}
	$load->{stopped} = 1;
	return;
}

sub check_load
{
	my ($self, $load, $table, $name, %p) = @_;
	my (@errors, @wrong, %expected);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$self->stop_load($load) unless $load->{stopped};
	for my $s (@{ $load->{sessions} })
	{
		my $who = "$s->{mode} on node $s->{node}";
		push @wrong, "$who: did not report" unless $s->{stat};
		push @errors, map { "$who: $_" } @{ $s->{errors} // [] };
		push @wrong, map { "$who: $_" } @{ $s->{wrong} // [] };
		%expected = (%expected, %{ $s->{key} // {} });
		note("$who: " . join ', ', map { "$_ $s->{stat}{$_}" } sort keys %{ $s->{stat} });
	}
	@errors = grep { $_ !~ $p{allow} } @errors if $p{allow};
	is(join("\n", @errors), '', "$name: no client error");
	is(join("\n", @wrong), '', "$name: no wrong answer");

	for my $i (1 .. $self->{n})
	{
		my %seen;
		my @bad;
		for my $line (split /\n/, $self->sql($i, "SELECT id, n FROM $table WHERE id >= 1000000"))
		{
			my ($id, $n) = split /\|/, $line;
			push @bad, "id $id twice" if exists $seen{$id};
			$seen{$id} = $n;
		}
		my %writers = map { $_->{writer} => 1 } @{ $load->{sessions} };
		for my $id (keys %expected, grep { !exists $expected{$_} } keys %seen)
		{
			next unless $writers{ int($id / 1000000) };
			my @may = @{ $expected{$id} // [-1] };
			my $is = $seen{$id} // -1;
			push @bad, "id $id is $is, must be @may" unless grep { $_ == $is } @may;
		}
		is(join(', ', grep { defined } @bad[ 0 .. 9 ]), '',
			"$name: node $i shows what was acknowledged (" . keys(%seen) . ' rows)');
	}
	return;
}

1;
