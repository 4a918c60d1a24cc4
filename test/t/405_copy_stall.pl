# COPY in a transaction block, towards a peer that neither reads nor answers: what
# is to end the statement ends it in bounded time, whatever it is doing there, and
# nothing of it stays.
use strict;
use warnings;
use CopyClient;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, proxy => 1);
plan skip_all => 'rows go one by one, as postgres_fdw of 16 and later hides its sessions'
  if $c->node(1)->pg_version >= 16;
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL);
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 3)});
my @k = map { [ split /\n/, $c->sql(1, "SELECT k FROM generate_series(1, 100) k WHERE fragaffinity.bucket_of('t', k) = $_ LIMIT 2") ] } 0 .. 2;
my $held = $k[1][0];
my $dir = PostgreSQL::Test::Utils::tempdir();

# Two rows for each node: as wide as these.
sub file
{
	my ($name, @width) = @_;
	open my $fh, '>', "$dir/$name" or die;
	for my $i (0, 1) { print $fh "$_->[$i]\t" . 'x' x $width[$i] . "\n" for @k; }
	close $fh;
	return "'$dir/$name'";
}
# The first large one is inserted when it is there, and the second one is more
# than sockets and the proxy take.
my %file = (small => file('small', 10, 10), large => file('large', 100_000, 32_000_000));

my $holder = $c->node(2)->background_psql('postgres', on_error_stop => 0);
$holder->set_query_timer_restart();
$holder->query_safe('SET client_min_messages = error');
my ($client, $pid);
sub connect_client
{
	($client, $pid) = copy_client($c->node(1));
	$client->set_query_timer_restart();
	return;
}
connect_client();

sub starts
{
	my ($rows) = @_;
	copy_starts($client, "COPY t FROM $file{$rows}");
	return;
}

# The client is at the COPY in a block with work at all nodes, and node 2 silent:
# before it has begun, or while it waits for a lock.
sub stalls
{
	my ($rows, $when, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$client->query_safe('BEGIN; INSERT INTO t SELECT -i, $$before$$ FROM generate_series(1, 20) i; SAVEPOINT a; SELECT count(*) FROM t');
	$c->link(2, 'stall') if $when eq 'silent';
	$holder->query_safe("BEGIN; INSERT INTO t VALUES ($held, 'held')") if $when eq 'locked';
	starts($rows);
	if ($when eq 'locked')
	{
		ok($c->poll(2, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"), "$name: the peer works on it");
		$c->link(2, 'stall');
	}
	ok($c->poll(1, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND query LIKE 'COPY%' AND wait_event_type = 'Extension'"),
		"$name: the client waits for it");
	return;
}

# The transaction is lost, as its part at node 2 is; the next one is not.
sub goes_on
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$client->query("ROLLBACK TO a; COMMIT");
	like($client->{stderr}, qr/ERROR:/, "$name: the rest of the transaction cannot commit");
	$client->query('ROLLBACK');
	$c->link(2, 'heal');
	$holder->query('ROLLBACK');
	ok($c->poll($_, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND backend_type = 'client backend'"),
		"$name: node $_ has no transaction left") for 1 .. 3;
	$client->{stderr} = '';
	is($client->query("BEGIN; COPY t FROM $file{small}; SELECT count(*) FROM t; ROLLBACK"), '6', "$name: the client goes on");
	is($client->{stderr}, '', "$name: without an error");
	return;
}

# It has not begun, has all rows, or takes no more of them.
for my $case ([ 'small', 'silent' ], [ 'small', 'locked' ], [ 'large', 'locked' ])
{
	my ($rows, $when) = @$case;
	my $name = "$rows, $when";

	$client->query_safe("SET statement_timeout = 0");
	stalls($rows, $when, $name);
	$c->sql(1, "SELECT pg_cancel_backend($pid)");
	copy_ends($client, qr/57014: canceling statement due to user request/, "$name: canceled");
	goes_on($name);

	$client->query_safe("SET statement_timeout = '3s'");
	stalls($rows, $when, $name);
	copy_ends($client, qr/57014: canceling statement due to statement timeout/, "$name: statement_timeout");
	$client->query_safe('ROLLBACK; SET statement_timeout = 0');
	$c->link(2, 'heal');
	$holder->query('ROLLBACK');

	stalls($rows, $when, $name);
	$c->sql(1, "SELECT pg_terminate_backend($pid)");
	ok($c->poll(1, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "$name: the process ends");
	$c->link(2, 'heal');
	$holder->query('ROLLBACK');
	eval { $client->quit };
	connect_client();
}

# What the network does not take for tcp_user_timeout is lost, whoever waits.
$c->sql(1, "ALTER SERVER fragaffinity_2 OPTIONS (SET tcp_user_timeout '1000')");
stalls('large', 'locked', 'tcp_user_timeout');
copy_ends($client, qr/ERROR:  08...: /, 'tcp_user_timeout ends it');
goes_on('tcp_user_timeout');

$client->quit;
$holder->quit;
$c->check_consistent('nothing is left over');
done_testing();
