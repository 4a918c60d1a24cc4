# How fast: "rdma" alone beside perftest, then whole moves over each transport.
#
# The guest's clock goes by the instructions executed, of both servers and both
# devices, on one processor: a comparison of work, and not of a network's speed.
# So nothing is asserted of it.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = $ENV{FA_RDMA_ROWS} // 8000;
my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

# Beside each other, with messages of one size.
sub perftest
{
	my ($size, $n) = @_;
	my @command = ('ib_write_bw', '-d', 'rxe0', '-x', '1', '-F', '-s', $size, '-n', $n, '-p', '18600');
	my $server = IPC::Run::start(\@command, '<', \undef, '>', \my $said, '2>&1');
	my ($out, $rate) = ('');

	for (1 .. 30)
	{
		# refused until the server listens
		last if IPC::Run::run([ @command, '127.0.0.1' ], '<', \undef, '>', \$out, '2>&1');
	}
	eval { $server->finish };
	($rate) = $out =~ /^\s*$size\s+\d+\s+[\d.]+\s+([\d.]+)/m;
	return ($rate // 0) * 1.048576;
}

my @alone;
for my $k (1 .. 3)
{
	push @alone, [ perftest(262144, 60),
		$c->sql(2, "SELECT string_agg(name || '=' || coalesce(round(mb_per_second::numeric, 1)::text, reason), ' ')
			FROM fragaffinity.check_transports('n1', 60, 262144)") ];
	note(sprintf 'messages of 256 kB, MB/s: ib_write_bw=%.1f %s', @{ $alone[-1] });
}
is(scalar(grep { $_->[1] =~ /\brdma=[\d.]+\b/ } @alone), 3, 'messages come over rdma, each as it was sent');


$c->sql(1, qq{
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
	INSERT INTO t SELECT i, i, md5(i::text) || repeat('x', 900) FROM generate_series(1, $rows) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')});
my $f = $c->fragment('t');
my $before = $c->rows(1, 't');
my %took;

for my $round (1 .. 3)
{
	for my $transport (qw(rdma stream shm))
	{
		$c->sql(1, "SELECT fragaffinity.configure('transports', '$transport')");
		for my $to (qw(n2 n1))
		{
			$c->move($f, $to, 1);
			my ($by, $bytes, $s) = split /\|/, $c->sql(1, 'SELECT transport, bytes, extract(epoch FROM finished - started)
				FROM fragaffinity.moves ORDER BY finished DESC LIMIT 1');
			is($by, $transport, "moved over $transport to $to");
			push @{ $took{$transport} }, $s;
			note(sprintf '%s: %.1f MB, %.2f s', $by, $bytes / 1e6, $s);
		}
	}
}
is($c->rows(1, 't'), $before, 'with all rows');
for my $transport (sort keys %took)
{
	my @sorted = sort { $a <=> $b } @{ $took{$transport} };
	note(sprintf 'a move over %s: median %.2f s, %.2f to %.2f', $transport, $sorted[ @sorted / 2 ], @sorted[ 0, -1 ]);
}
done_testing();
