# COPY in a transaction block, by parallel workers, while buckets that it has not
# written to yet move and are split: every row arrives once, or none does.  And
# whoever ends it, in its midst, ends all of it, and the session goes on.
use strict;
use warnings;
use CopyClient;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, config => "restart_after_crash = on\n");
$c->sql(1, q{CREATE TABLE d (k int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 9)});
my $dir = PostgreSQL::Test::Utils::tempdir();

# Rows of buckets of all nodes, and then of all other buckets: some are here.
my @owner = map { $c->owner($c->fragment('d', $_)) } 0 .. 8;
my @first = map { my $n = "n$_"; (grep { $owner[$_] eq $n } 0 .. 8)[0] } 1 .. 3;
my @then = grep { my $b = $_; !grep { $_ == $b } @first } 0 .. 8;
sub file
{
	my ($name, @buckets) = @_;
	my $in = join ', ', @buckets;
	$c->sql(1, "COPY (SELECT k, repeat('v', 300) FROM generate_series(1, 60000) k
		WHERE fragaffinity.bucket_of('d', k) IN ($in)) TO '$dir/$name'");
	return $c->sql(1, "SELECT count(*) FROM generate_series(1, 60000) k WHERE fragaffinity.bucket_of('d', k) IN ($in)");
}
my @keys = map { $c->sql(1, "SELECT min(k) FROM generate_series(-100, -1) k WHERE fragaffinity.bucket_of('d', k) = $_") } @first;
my $before = 'INSERT INTO d VALUES ' . join ', ', map { "($_, 'before')" } @keys;
my $early = file('first', @first);
file('then', @then);

my ($client, $pid);
sub connect_client
{
	($client, $pid) = copy_client($c->node(1));
	return;
}

my $workers = q{pg_stat_activity WHERE backend_type = 'parallel worker'};
my $hash = q{SELECT count(*), count(DISTINCT k), sum(k), bool_and(v = repeat('v', 300)) FROM d};
my $all = "60000|60000|1800030000|t";

# The client is in the midst of it: the first rows have been written, those here by
# workers.  before: what it does before the COPY.
sub starts
{
	my ($name, $before) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	unlink "$dir/go";
	$client->query_safe("BEGIN; $before");
	copy_starts($client, "COPY d FROM PROGRAM 'cat $dir/first; while [ ! -e $dir/go ]; do sleep 0.05; done; cat $dir/then'");
	ok($c->poll(1, "SELECT count(*) FROM $workers AND wait_event = 'MessageQueueReceive'", '2'), "$name: workers have written");
	return;
}

sub goes_on { append_to_file("$dir/go", ''); return; }

sub nothing_is_left
{
	my ($rows, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	goes_on();
	ok($c->poll(1, "SELECT count(*) FROM $workers", '0'), "$name: no workers are left");
	ok($c->poll($_, 'SELECT count(*) FROM d', $rows), "$name: nothing is left, as node $_ sees it") for 1 .. 3;
	return;
}

connect_client();
my $round = 0;
for my $end ('ROLLBACK', 'COMMIT')
{
	$round++;
	starts($end, $before);
	# from here to a peer, from it to another one, and from there to here
	my %moved;
	for my $i (1 .. 3)
	{
		my ($bucket) = grep { !$moved{$_} && $c->owner($c->fragment('d', $_)) eq "n$i" } @then;
		$moved{$bucket} = 1;
		$c->move($c->fragment('d', $bucket), 'n' . ($i % 3 + 1));
	}
	for my $owner ('n1', 'n2')
	{
		my ($bucket) = reverse grep { $c->owner($c->fragment('d', $_)) eq $owner } @then;
		my ($from, $to) = map { $_ + 20000 * $round } 1, 10000;
		ok($c->sql(1, 'SELECT fragaffinity.split_fragment(' . $c->fragment('d', $bucket) . ", '$from', '$to')"), "$end: bucket $bucket has been split on $owner");
	}
	goes_on();
	copy_ends($client, qr/^$/, "$end: after moves and splits");
	is($client->query("$hash WHERE k > 0"), $all, 'the transaction sees its rows');
	$client->query_safe($end);
	is($c->sql($_, "$hash WHERE k > 0"), $end eq 'COMMIT' ? $all : '0|0||', "$end: as node $_ sees it") for 1 .. 3;
}
$c->sql(1, 'TRUNCATE d');

# What ends it, in its midst.
for my $case (
	[ 'the client is cancelled', "SELECT pg_cancel_backend(PID)", '57014: canceling statement due to user request' ],
	[ 'a worker is cancelled', "SELECT pg_cancel_backend(pid) FROM $workers LIMIT 1", '57014: canceling statement due to user request' ],
	[ 'a worker is ended', "SELECT pg_terminate_backend(pid) FROM $workers LIMIT 1", '57P01: terminating background worker' ],
	[ 'statement_timeout', '', '57014: canceling statement due to statement timeout' ])
{
	my ($name, $sql, $expected) = @$case;
	$client->query_safe("SET statement_timeout = '3s'") if $sql eq '';
	starts($name, $before);
	$c->sql(1, $sql =~ s/PID/$pid/r) if $sql ne '';
	# an error of a worker is found with the next rows of a program
	goes_on() if $sql =~ /LIMIT/;
	copy_ends($client, qr/ERROR:  $expected/, $name);
	like($client->query('SELECT 1') . $client->{stderr}, qr/25P02/, 'the transaction has failed');
	$client->query('ROLLBACK; RESET statement_timeout');
	$client->{stderr} = '';
	nothing_is_left(0, $name);
	is($client->query("BEGIN; COPY d FROM '$dir/first'; SELECT count(*) FROM d; ROLLBACK"), $early, 'the session goes on');
}
starts('the client is ended', '');
$c->sql(1, "SELECT pg_terminate_backend($pid)");
nothing_is_left(0, 'the client is ended');
eval { $client->quit };
for my $who ('worker', 'client')
{
	connect_client();
	starts("$who killed", $before);
	kill 'KILL', $who eq 'client' ? $pid : $c->sql(1, "SELECT pid FROM $workers LIMIT 1");
	# the program has the client's socket as well
	goes_on();
	eval { $client->quit };
	nothing_is_left(0, "$who killed");
	ok($c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0'), "$who killed: nothing is prepared on node $_") for 1 .. 3;
}
$c->sql(1, "BEGIN; COPY d FROM '$dir/first'; COPY d FROM '$dir/then'; COMMIT");
is($c->sql($_, $hash), $all, "node $_ has all rows after it") for 1 .. 3;
$c->check_consistent('nothing is left over');
done_testing();
