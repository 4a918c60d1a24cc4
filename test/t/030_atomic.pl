# What a client's transaction wrote on several nodes is there on all of them or
# on none, by whatever statements it was written; what wrote on one node is left
# alone.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, config => 'log_statement = all');

$c->sql($_, "SET client_min_messages = warning; CREATE ROLE joe LOGIN") for 1 .. 3;
$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL CHECK (n >= 0));
	INSERT INTO t SELECT i, 100 FROM generate_series(1, 60) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3);
	GRANT ALL ON t TO joe");
# The least id on each node: fragments 1, 2 and 3 belong to n1, n2 and n3.
my @id = (undef, map { $c->sql(1, "SELECT min(id) FROM t_b" . ($_ - 1)) } 1 .. 3);

# What the peers were asked to do by the transaction of a statement.
sub asked
{
	my ($sql, $node) = @_;
	my @start = map { -s $c->node($_)->logfile } 1 .. 3;
	my ($out, $err) = ('', '');
	my $ret = $c->node($node // 1)->psql('postgres', $sql, stdout => \$out, stderr => \$err,
		on_error_stop => 1);
	my %seen = (prepare => 0, commit => 0, rollback => 0, warning => 0);
	for my $i (1 .. 3)
	{
		my $log = slurp_file($c->node($i)->logfile, $start[ $i - 1 ]);
		$seen{prepare}++ while $log =~ /statement: PREPARE TRANSACTION|execute <unnamed>: PREPARE TRANSACTION/g;
		$seen{commit}++ while $log =~ /statement: COMMIT PREPARED/g;
		$seen{rollback}++ while $log =~ /statement: ROLLBACK PREPARED/g;
		$seen{warning}++ while $log =~ /WARNING/g;
	}
	return ($ret ? "failed, " : '') . "prepare $seen{prepare}, commit $seen{commit}"
	  . ($seen{rollback} ? ", rollback $seen{rollback}" : '')
	  . ($seen{warning} ? ", warning $seen{warning}" : '');
}

sub add { return join ' ', map { "UPDATE t SET n = n + 1 WHERE id = $id[$_];" } @_; }
sub values_of { 
	return join ' ', map { $c->sql(1, "SELECT n FROM t WHERE id = $id[$_]") } 1 .. 3;
}

# First commits connect; that is not counted here.
$c->sql(1, 'BEGIN; ' . add(1, 2, 3) . ' COMMIT');
is(values_of(), '101 101 101', 'three nodes written');
is(asked(add(1)), 'prepare 0, commit 0', 'a local write');
is(asked(add(2)), 'prepare 0, commit 0', 'a write on one peer');
is(asked('BEGIN; ' . add(2) . 'SELECT sum(n) FROM t; COMMIT'), 'prepare 0, commit 0',
	'a write on one peer and reads on the others');
is(asked("BEGIN; SELECT n FROM t WHERE id = $id[2]; " . add(1) . 'COMMIT'), 'prepare 0, commit 0',
	'a local write and the read of a row on a peer');
is(asked('BEGIN; SELECT * FROM t; COMMIT'), 'prepare 0, commit 0', 'reads');
is(asked("BEGIN; SELECT * FROM t WHERE id = $id[2] FOR UPDATE; SELECT * FROM t WHERE id = $id[3] FOR SHARE; COMMIT"),
	'prepare 0, commit 0', 'row locks alone');
is(asked('BEGIN; ' . add(2, 3) . 'COMMIT'), 'prepare 2, commit 2', 'writes on two peers');
is(asked('BEGIN; ' . add(1, 3) . 'COMMIT'), 'prepare 1, commit 1', 'a write here and one on a peer');
is(asked("BEGIN; SELECT n FROM t WHERE id = $id[2] FOR UPDATE; " . add(3) . 'COMMIT'),
	'prepare 2, commit 2', 'a row lock on one peer is kept while another is written');
is(asked('UPDATE t SET n = n + 1'), 'prepare 2, commit 2', 'one statement');
is(asked('SET fragaffinity.atomic_commit = off; BEGIN; ' . add(2, 3) . 'COMMIT'),
	'prepare 0, commit 0', 'switched off');
is(asked('BEGIN; ' . add(2, 3) . 'ROLLBACK'), 'prepare 0, commit 0', 'rolled back');
is(values_of(), '105 106 106', 'all is there');

# Ways to write.
is(asked("COPY t FROM STDIN;\n" . join('', map { $_ + 1000 . "\t1\n" } 1 .. 20) . "\\.\n"),
	'prepare 2, commit 2', 'COPY');
is($c->sql(2, 'SELECT count(*) FROM t WHERE id > 1000'), '20', 'and its rows');
is(asked('INSERT INTO t SELECT i, 1 FROM generate_series(2001, 2040) i'), 'prepare 2, commit 2', 'routed rows');
is(asked('DELETE FROM t WHERE id > 1000'), 'prepare 2, commit 2', 'DELETE');
is(asked("WITH a AS (UPDATE t SET n = n WHERE id = $id[2] RETURNING id)
	UPDATE t SET n = n WHERE id = $id[3] AND EXISTS (SELECT FROM a)"), 'prepare 2, commit 2', 'a CTE');
$c->sql(1, "CREATE FUNCTION pay(a bigint, b bigint, amount bigint) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		UPDATE t SET n = n - amount WHERE id = a;
		BEGIN
			UPDATE t SET n = n + amount WHERE id = b;
			UPDATE t SET n = -1 WHERE id = b;
		EXCEPTION WHEN check_violation THEN
			UPDATE t SET n = n + amount WHERE id = b;
		END;
	END \$\$");
is(asked("SELECT pay($id[2], $id[3], 5)"), 'prepare 2, commit 2', 'a function with an exception block');
is(values_of(), '105 101 111', 'and what it wrote');
is(asked('BEGIN; ' . add(2) . 'SAVEPOINT a; ' . add(3) . 'ROLLBACK TO a; ' . add(1) . 'COMMIT'),
	'prepare 2, commit 2', 'a savepoint rolled back');
is(values_of(), '106 102 111', 'and what is left');
is(asked("DO \$\$ BEGIN
	FOR i IN 1 .. 3 LOOP
		UPDATE t SET n = n WHERE id = $id[2];
		UPDATE t SET n = n WHERE id = $id[3];
		COMMIT;
	END LOOP; END \$\$"), 'prepare 6, commit 6', 'transactions within a DO block');
is(asked("BEGIN; DECLARE k CURSOR FOR SELECT * FROM t ORDER BY id; FETCH 3 FROM k; " . add(2, 3) . 'COMMIT'),
	'prepare 2, commit 2', 'with a cursor open');
is(asked('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT sum(n) FROM t; ' . add(2, 3) . 'COMMIT'),
	'prepare 2, commit 2', 'in REPEATABLE READ');
is(asked('BEGIN ISOLATION LEVEL SERIALIZABLE; ' . add(2, 3) . 'COMMIT'),
	'prepare 2, commit 2', 'in SERIALIZABLE');
is(asked('SET ROLE joe; BEGIN; ' . add(2, 3) . 'COMMIT'), 'prepare 2, commit 2',
	'as a role without rights on the catalog');
is(asked('SET SESSION AUTHORIZATION joe; BEGIN; ' . add(1, 2) . 'COMMIT'), 'prepare 1, commit 1',
	'as another user');
is(asked('SET synchronous_commit = off; BEGIN; ' . add(1, 2) . 'COMMIT'), 'prepare 1, commit 1',
	'with asynchronous commits');
is(values_of(), '108 108 115', 'all is there');
is(asked('TRUNCATE t'), 'prepare 2, commit 2', 'TRUNCATE');
$c->sql(1, 'INSERT INTO t SELECT i, 100 FROM generate_series(1, 60) i');

# Refusals.
my ($code, $message) = $c->fails(1, 'BEGIN; ' . add(2) . "PREPARE TRANSACTION 'x'");
is($code, '0A000', 'PREPARE TRANSACTION by the client is refused');
like($message, qr/Use COMMIT/, 'and the hint says what to do');
is($c->sql(1, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left of it');
$c->sql(1, "BEGIN; UPDATE t SET n = n WHERE id = $id[1]; PREPARE TRANSACTION 'y'");
$c->sql(1, "ROLLBACK PREPARED 'y'");
pass('a local one is not');
($code) = $c->fails(1, "BEGIN; UPDATE t SET n = n WHERE id = $id[1]; PREPARE TRANSACTION 'fragaffinity:x:2:5:1'");
is($code, '42939', 'but a name that looks like a part of ours is');

# A peer that cannot prepare: nothing happens anywhere.
$c->sql(3, 'ALTER SYSTEM SET max_prepared_transactions = 0');
$c->restart(3);
$c->poll(1, q{SELECT state FROM fragaffinity.nodes WHERE name = 'n3'}, 'active');
my $before = values_of();
($code, $message) = $c->fails(1, 'BEGIN; ' . add(1, 2, 3) . 'COMMIT');
is($code, '55000', 'a peer with max_prepared_transactions = 0 is refused');
like($message, qr/max_prepared_transactions.*node 3/s, 'with hint and node');
is(values_of(), $before, 'nothing is changed');
is($c->sql(1, 'BEGIN; ' . add(3) . 'COMMIT; SELECT 1'), '1', 'it can be written alone');
$c->sql(3, 'ALTER SYSTEM RESET max_prepared_transactions');
$c->restart(3);
$c->poll(1, q{SELECT state FROM fragaffinity.nodes WHERE name = 'n3'}, 'active');

# Row locks on a node that was only read are kept until the others can be seen.
$c->hold(1, 'commit_before_decision');
my $locker = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$locker->{stdin} .= "BEGIN; SELECT n FROM t WHERE id = $id[2] FOR UPDATE; " . add(3) . "COMMIT;\n";
$locker->{run}->pump_nb;
ok($c->wait_held(1, 'commit_before_decision'), 'a commit stands before its decision');
($code) = $c->fails(2, "SELECT n FROM t_b1 WHERE id = $id[2] FOR UPDATE NOWAIT");
is($code, '55P03', 'its row lock is kept');
$c->release(1);
$locker->query('SELECT 1');
is($c->sql(2, "SELECT count(*) FROM (SELECT n FROM t_b1 WHERE id = $id[2] FOR UPDATE NOWAIT) x"), '1',
	'and free when the client has its answer');
$locker->quit;

# A node that has not heard of a move: the old owner has what it holds itself
# prepared together with what it has handed on.
$c->sql(1, "
	CREATE TABLE u (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO u SELECT i, 100 FROM generate_series(1, 60) i;
	SELECT fragaffinity.distribute_table('u', 'id', fragments => 6)");
my ($here, $moves, $stays) = map { $c->sql(1, "SELECT min(id) FROM u_b$_") } 0, 1, 4;
my $f = $c->fragment('u', 1);
sub set_to { my ($n, @ids) = @_; return join ' ', map { "UPDATE u SET n = $n WHERE id = $_;" } @ids; }
sub seen { my ($i) = @_; return $c->sql($i, "SELECT string_agg(n::text, ' ') FROM u WHERE id IN ($here, $moves, $stays)"); }

my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
my $tries = 0;
my $stale = '';
while ($stale ne 'n2' && $tries++ < 10)
{
	$c->move($f, 'n2') if $c->owner($f) ne 'n2';
	$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n2');
	$client->query_safe("BEGIN; SELECT n FROM u WHERE id = $here");
	$c->hold(3, 'move_decided');
	$c->sql(3, "SELECT fragaffinity.move_fragment($f, 'n3', wait => false)");
	$c->wait_held(3, 'move_decided', qr/\] LOG: /);
	$client->query_safe(set_to(500, $moves));
	$stale = $c->owner($f, 1);
	last if $stale eq 'n2';
	$client->query_safe('ROLLBACK');
	$c->release(3);
}
is($stale, 'n2', 'a row is written by way of the old owner');
$client->query_safe(set_to(500, $stays, $here));
is(seen(3), '100 100 100', 'not committed yet');
$client->query_safe('COMMIT');
is(seen($_), '500 500 500', "committed, seen on node $_ at once") for 1 .. 3;
is($c->sql(2, 'SELECT parts_forwarded FROM fragaffinity.transaction_stats'), '1', 'the old owner handed on a part');
$client->query_safe('BEGIN; ' . set_to(700, $moves, $stays, $here));
$client->query('ROLLBACK');
is(seen(2), '500 500 500', 'rolled back');

# The same, and the origin dies before it decides.
$client->query_safe('SET application_name = victim');
$c->hold(1, 'commit_before_decision');
$client->{stdin} .= 'BEGIN; ' . set_to(900, $moves, $stays, $here) . "COMMIT;\n";
$client->{run}->pump_nb;
ok($c->wait_held(1, 'commit_before_decision'), 'the origin is about to decide');
$c->kill9(1);
$c->release(1);
$c->restart(1);
eval { $client->{run}->kill_kill };
$c->release(3);
$c->check_consistent('nothing is left over');
is(seen($_), '500 500 500', "nothing of it is seen on node $_") for 1 .. 3;
done_testing();
