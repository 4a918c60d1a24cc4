# COPY FROM STDIN by several processes, of a client that speaks the protocol itself:
# what workers find wrong is told while it pauses, and whatever it sends, it gets
# what a plain table's COPY answers.
use strict;
use warnings;
use FragAffinity;
use IO::Select;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "log_min_messages = debug1\n");
my $columns = '(k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0 CHECK (n >= 0))';
$c->sql(1, "CREATE TABLE p $columns; CREATE TABLE l $columns; CREATE TABLE d $columns;
	SELECT fragaffinity.distribute_table('l', 'k', fragments => 4, placement => 'n1');
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 4)");

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

sub send_bytes
{
	my ($client, $bytes) = @_;
	while (length $bytes)
	{
		my $n = syswrite $client->{socket}, $bytes;
		die "the server has gone" unless $n;
		substr($bytes, 0, $n, '');
	}
	return;
}

# The next message that says something: its type and body; dies when none comes.
sub receive
{
	my ($client) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	for (;;)
	{
		if ($client->{got} =~ /^(.)(....)/s && length($client->{got}) > unpack 'N', $2)
		{
			my ($type, $length) = ($1, unpack 'N', $2);
			my $body = substr $client->{got}, 5, $length - 4;
			substr($client->{got}, 0, 1 + $length, '');
			next if $type =~ /[SKN]/;
			return ($type, $body);
		}
		die 'no answer' unless IO::Select->new($client->{socket})->can_read($until - time);
		my $n = sysread $client->{socket}, $client->{got}, 65536, length $client->{got};
		return ('', '') unless $n;
	}
}

# Up to a message of this type: all before it, by type.
sub receive_until
{
	my ($client, $last) = @_;
	my %got;
	for (;;)
	{
		my ($type, $body) = receive($client);
		$got{$type} = $type eq 'E' ? { map { /^(.)(.*)/s ? ($1 => $2) : () } split /\0/, $body } : $body;
		return \%got if $type eq $last || $type eq '';
	}
}

sub connect_client
{
	my $client = { socket => $c->node(1)->raw_connect, got => '' };
	my $body = pack('N', 3 << 16) . "user\0postgres\0database\0postgres\0\0";
	send_bytes($client, pack('N', 4 + length $body) . $body);
	is(ord substr(receive_until($client, 'Z')->{R}, 3, 1), 0, 'connected');
	return $client;
}

sub query
{
	my ($client, $sql) = @_;
	send_bytes($client, message('Q', "$sql\0"));
	return receive_until($client, 'Z');
}

sub begin_copy
{
	my ($client, $table, $options) = @_;
	send_bytes($client, message('Q', "COPY $table (k, v, n) FROM STDIN $options\0"));
	is((receive($client))[0], 'G', 'COPY begins');
	return;
}

# Lines with keys from, to; more than the leader holds.
sub lines { my ($from, $to) = @_; return join '', map { "$_\t" . 'v' x 50 . "\t1\n" } $from .. $to; }

sub line_of { my ($got, $table) = @_; return $got->{E}{W} =~ s/^COPY $table,/COPY,/r; }

my $seen = 0;
sub workers
{
	my $log = slurp_file($c->node(1)->logfile, $seen);
	$seen = -s $c->node(1)->logfile;
	return scalar(() = $log =~ /registering background worker "parallel worker for PID/g);
}

my $client = connect_client();
my ($here) = $c->sql(1, q{SELECT min(k) FROM generate_series(100000, 100100) k WHERE fragaffinity.bucket_of('d', k) = 0});

# An error that is found here, in a line of the middle or the last one, while the
# client waits.
for my $bad ([ "$here\tv\t-1\n", 'CHECK' ], [ "$here\tv\t\\N\n", 'NOT NULL' ], [ "$here\tv\tx\n", 'no number' ])
{
	my ($line, $name) = @$bad;
	for my $more (0, 1200)
	{
		my $expected;
		for my $table ('p', 'l', 'd')
		{
			workers();
			begin_copy($client, $table, '');
			send_bytes($client, message('d', lines(1, 2000) . $line . lines(2001, 2000 + $more)));
			my $got = receive_until($client, 'Z');
			$expected //= $got;
			is($got->{E}{C}, $expected->{E}{C}, "$name, $more lines more, $table: code");
			is(line_of($got, $table), line_of($expected, 'p'), 'its place');
			cmp_ok(workers(), '>', 0, 'by workers') if $table ne 'p';
			# what it had under way is skipped
			send_bytes($client, message('d', lines(3000, 4000)) . message('c', ''));
			is(query($client, "SELECT 'rows', count(*) FROM $table")->{C}, "SELECT 1\0", 'the session goes on');
			is($c->sql(1, "SELECT count(*) FROM $table"), '0', 'with nothing of it');
		}
	}
}

# What ends the statement ends it in a pause, too.
for my $table ('l', 'd')
{
	query($client, 'SELECT pg_backend_pid()');
	my $pid = $c->sql(1, q{SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_backend_pid()'});
	begin_copy($client, $table, '');
	send_bytes($client, message('d', lines(1, 3000)));
	ok($c->poll(1, qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND leader_pid = $pid}), "$table: copies");
	$c->sql(1, "SELECT pg_cancel_backend($pid)");
	is(receive_until($client, 'Z')->{E}{C}, '57014', 'cancelled');
	query($client, "SET statement_timeout = '1s'");
	begin_copy($client, $table, '');
	send_bytes($client, message('d', lines(1, 3000)));
	is(receive_until($client, 'Z')->{E}{C}, '57014', 'statement_timeout');
	query($client, 'RESET statement_timeout');
	is($c->sql(1, "SELECT count(*) FROM $table"), '0', 'nothing is left');
}

# However the client cuts what it sends, and whatever else it sends.
for my $table ('p', 'l', 'd')
{
	my $rows = lines(1, 3000);
	begin_copy($client, $table, '');
	send_bytes($client, join '', map { message('d', $_) . message('H', '') } $rows =~ /(.{1,777})/gs);
	send_bytes($client, message('d', '') . message('d', "\\.\nx\n") . message('d', "y\n" x 10000) . message('c', ''));
	is(receive_until($client, 'Z')->{C}, "COPY 3000\0", "$table: messages that cut lines, and something behind the end");
	begin_copy($client, $table, '');
	my $bytes = message('d', lines(3001, 4500)) . message('d', lines(4501, 6000)) . message('c', '');
	for my $part ($bytes =~ /(.{1,33333})/gs)
	{
		send_bytes($client, $part);
		# it has been taken, as far as that can be
		$c->poll(1, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'ClientRead' AND query LIKE 'COPY%'});
	}
	is(receive_until($client, 'Z')->{C}, "COPY 3000\0", 'cut messages');
	is($c->sql(1, "SELECT count(*), sum(n) FROM $table"), '6000|6000', 'all rows');
	begin_copy($client, $table, '');
	send_bytes($client, message('d', lines(7001, 9000)) . message('f', "no more\0"));
	my $got = receive_until($client, 'Z');
	is("$got->{E}{C} $got->{E}{M}", '57014 COPY from stdin failed: no more', 'CopyFail');
	begin_copy($client, $table, '');
	send_bytes($client, message('d', lines(7001, 9000)) . message('X', ''));
	$got = receive_until($client, '');
	is($got->{E}{C}, '08P01', 'a message that does not belong there');
	close $client->{socket};
	$client = connect_client();
	begin_copy($client, $table, '');
	send_bytes($client, message('d', lines(7001, 9000)));
	close $client->{socket};
	ok($c->poll(1, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'}), 'its end ends the COPY');
	is($c->sql(1, "SELECT count(*) FROM $table"), '6000', 'which leaves nothing');
	$client = connect_client();
}
$c->check_consistent('all is consistent');
done_testing();
