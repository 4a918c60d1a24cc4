=pod

=head1 NAME

CopyClient - a client that others do something to while it is at a COPY

=head1 SYNOPSIS

  my ($client, $pid) = copy_client($cluster->node(1));
  copy_starts($client, "COPY t FROM '...'");
  copy_ends($client, qr/^$/, 'rows arrive');

=cut

package CopyClient;

use strict;
use warnings;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(copy_client copy_starts copy_ends);

# A session of background_psql that tells SQLSTATEs, and its process there.
sub copy_client
{
	my ($node) = @_;
	my $client = $node->background_psql('postgres', on_error_stop => 0);
	$client->query_safe('\set VERBOSITY verbose');
	return ($client, $client->query_safe('SELECT pg_backend_pid()'));
}

# Sends it, and does not wait.
sub copy_starts
{
	my ($client, $copy) = @_;
	@$client{qw(stdout stderr)} = ('', '');
	$client->{stdin} .= "$copy;\n\\echo done\n";
	$client->{run}->pump_nb;
	return;
}

# Waits until it has ended, and looks at what the client was told.
sub copy_ends
{
	my ($client, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# dies of the time limit of all tests if that is not to be
	$client->{run}->pump until $client->{stdout} =~ /^done$/m;
	like($client->{stderr}, $expected, $name);
	@$client{qw(stdout stderr)} = ('', '');
	return;
}

1;
