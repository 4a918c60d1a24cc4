# DROP EXTENSION beside a worker that is in the middle of a transaction: it
# waits before it holds what the worker will want next.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $drops = qr/deadlock detected/;

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2, placement => 'n2');
	SELECT fragaffinity.undistribute_table('t')");

for my $relation (qw(setting metric))
{
	my $from = -s $c->node(2)->logfile;
	my $holder = $c->node(2)->background_psql('postgres', on_error_stop => 1);

	$holder->query_safe("BEGIN; LOCK TABLE fragaffinity.$relation IN ACCESS EXCLUSIVE MODE");
	ok($c->poll(2, "SELECT count(*) > 0 FROM pg_locks l
			JOIN pg_stat_activity a USING (pid)
			WHERE NOT l.granted AND l.relation = 'fragaffinity.$relation'::regclass
			AND a.backend_type ~ '^fragaffinity'", 't'), "a worker waits for table $relation");
	my $drop = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c',
			'BEGIN', '-c', 'DROP EXTENSION fragaffinity CASCADE', '-c', 'ROLLBACK', $c->conninfo(2) ],
		'>', \my $out, '2>', \my $err);
	ok($c->poll(2, "SELECT wait_event FROM pg_stat_activity
			WHERE query ~ '^DROP EXTENSION' AND wait_event_type = 'Lock'", 'object'),
		'DROP EXTENSION waits for the extension');
	is($c->sql(2, "SELECT string_agg(l.relation::regclass::text, ', ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.query ~ '^DROP EXTENSION' AND l.granted AND l.relation >= 16384
			AND l.mode = 'AccessExclusiveLock'"), '',
		'and locks nothing of it yet');
	$holder->query_safe('COMMIT');
	$holder->quit;
	ok($drop->finish, "it is done once the worker's transaction is") or diag($err);
	unlike(slurp_file($c->node(2)->logfile, $from), $drops, 'no deadlock');
}
$c->sql(2, 'DROP EXTENSION fragaffinity CASCADE');
ok($c->poll(2, "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN
		('fragaffinity worker', 'fragaffinity mover')", '0'), 'nothing is left running');
done_testing();
