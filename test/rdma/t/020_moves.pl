# Fragments that move over "rdma" between two servers of the guest, under
# writers and without.  FA_RDMA_ROWS makes them larger: 80000 rows are 100 MB.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = $ENV{FA_RDMA_ROWS} // 1600;
my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

$c->sql(1, qq{
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 300), long text);
	CREATE INDEX t_n ON t (n);
	CREATE INDEX t_pad ON t (pad, n);
	ALTER TABLE t ALTER long SET STORAGE EXTERNAL;
	INSERT INTO t (id, n, pad) SELECT i, i, md5(i::text) || repeat('x', 700) FROM generate_series(1, $rows) i;
	INSERT INTO t (id, n, long) SELECT $rows + i, i, repeat('long' || i, 1000) FROM generate_series(1, $rows / 40) i;
	UPDATE t SET n = n + 1 WHERE id % 5 = 0;
	BEGIN; UPDATE t SET n = -1 WHERE id % 7 = 0; ROLLBACK;
	DELETE FROM t WHERE id % 11 = 0 AND id > 300;
	SELECT fragaffinity.configure('transports', 'rdma');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')});
my $f = $c->fragment('t');

is($c->sql(2, "SELECT usable, reason FROM fragaffinity.check_transports('n1', 20, 262144, 'rdma')"), 't|',
	'messages come over rdma, each as it was sent');

# What the source sent from its buffers, and what it copied.
my $before = $c->rows(1, 't');
for my $to ($ENV{FA_RDMA_LONG} ? qw(n2 n1) : 'n2')
{
	$c->move($f, $to, 1);
	is($c->sql(1, 'SELECT path, transport, transport_reason FROM fragaffinity.moves ORDER BY finished DESC LIMIT 1'),
		'page|rdma|', "moved over rdma to $to");
	is($c->rows(1, 't'), $before, 'with all rows');
}
$c->poll(1, "SELECT bool_and(transport_counters IS NOT NULL) FROM fragaffinity.moves");
my $counters = $c->sql(1, "SELECT transport_counters FROM fragaffinity.moves WHERE transport = 'rdma' ORDER BY move LIMIT 1");
note($counters);
my ($bytes) = $counters =~ /"bytes": (\d+)/;
my ($gathered) = $counters =~ /"gathered": (\d+)/;
cmp_ok($gathered, '>', 0.5 * $bytes, 'most pages went straight from shared buffers');

# A source that does not get its lock ends a statement early; the channel lives on.
{
	my $at = $c->owner($f) eq 'n2' ? 2 : 1;
	my $to = $at == 2 ? 1 : 2;
	my $leaf = $c->sql($at, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
	my $log = -s $c->node($at)->logfile;

	$c->sql($at, "BEGIN; LOCK TABLE $leaf IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'holder'");
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
	$c->node($at)->wait_for_log(qr/canceling statement due to lock timeout/, $log);
	$c->sql($at, "ROLLBACK PREPARED 'holder'");
	ok($c->poll($to, "SELECT state IN ('done', 'failed') FROM fragaffinity.moves WHERE move = $move"), 'a move waits for a lock and ends');
	is($c->sql($to, "SELECT state, transport, error FROM fragaffinity.moves WHERE move = $move"), 'done|rdma|', 'over the channel that it had');
	is($c->rows(1, 't'), $before, 'with all rows');
}

# Under writers on both sides: FA_RDMA_LONG, as make test-rdma has it.
if ($ENV{FA_RDMA_LONG})
{
	my $load = $c->start_load(table => 't', anchors => 300, pause => 20000,
		modes => { 1 => [qw(simple reader)], 2 => [qw(block)] });
	for my $to ($c->owner($f) eq 'n2' ? qw(n1 n2) : qw(n2 n1))
	{
		$c->move($f, $to, 1);
		$c->wait_for_load($load, 3);
	}
	$c->check_load($load, 't', 'moved over rdma');
	is($c->sql(1, "SELECT count(*) FROM fragaffinity.moves WHERE transport IS DISTINCT FROM 'rdma'"), '0', 'all of it over rdma');
	note($c->sql(1, "SELECT 'move ' || move || ': ' || bytes || ' bytes, ' || rounds || ' rounds, ' || round(extract(epoch FROM finished - started), 1)
		|| ' s, ' || transport_counters FROM fragaffinity.moves ORDER BY move"));
	$c->check_consistent('indexes fit their heaps, and nothing is left over');
	# The kernel's own queue pair has no process.
	unlike(`rdma resource show qp`, qr/postgres/, 'no queue pair is left');
}
# Nothing of the device's was destroyed while something else still used it:
# the driver waits for that, and complains when it was in vain.
my $kernel = `dmesg`;
like($kernel, qr/rxe0/, 'what the drivers say is there');
unlike($kernel, qr/rxe_cleanup/, 'the device got back all that was its own, in an order that it can do');
done_testing();
