# COPY in a transaction block: its rows are with all owners at the same time, over
# the transaction's sessions, and whatever goes wrong leaves these in order.
use strict;
use warnings;
use CopyClient;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL, n int NOT NULL DEFAULT 0 CHECK (n < 100));
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 6)});
my @k = map { $c->sql(1, "SELECT k FROM generate_series(1, 100) k WHERE fragaffinity.bucket_of('t', k) = $_ LIMIT 1") } 0 .. 5;
my $dir = PostgreSQL::Test::Utils::tempdir();

# Rows with these keys first, then many more, a kilobyte each.
sub file
{
	my ($name, $keys, $more) = @_;
	open my $fh, '>', "$dir/$name" or die;
	print $fh map { "$_\tv$_\n" } @$keys;
	print $fh map { "$_\t" . 'x' x 1000 . "\n" } 1001 .. 1000 + $more;
	close $fh;
	return "'$dir/$name'";
}
my $few = file('few', \@k, 0);
my $many = file('many', \@k, 30000);

# postgres_fdw of 16 and later does not tell its sessions.
my $told = $c->node(1)->pg_version < 16;
my $holder = $c->node(1)->background_psql('postgres', on_error_stop => 0);
my ($client, $pid);
sub connect_client
{
	($client, $pid) = copy_client($c->node(1));
	return;
}
connect_client();

sub waiting
{
	my ($i) = @_;
	return $c->poll($i, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'");
}

# Has the client run this in a block, until both peers wait for the holder.
sub starts
{
	my ($copy, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$holder->query_safe("BEGIN; INSERT INTO t VALUES ($k[1], 'held'); INSERT INTO t VALUES ($k[2], 'held')");
	$client->query_safe('BEGIN; INSERT INTO t VALUES (-1, $$before$$); SAVEPOINT a');
	copy_starts($client, "COPY t (k, v) FROM $copy");
	ok($told ? waiting(2) && waiting(3) : waiting(2) || waiting(3), "$name: the owners work on it at once");
	return;
}
sub count { return $client->query('SELECT count(*) FROM t') }

for my $case ([ 'few rows', $few, 6 ], [ 'many rows', $many, 30006 ])
{
	my ($name, $copy, $n) = @$case;

	starts($copy, $name);
	$holder->query_safe('ROLLBACK');
	copy_ends($client, qr/^$/, "$name arrive");
	is(count(), $n + 1, 'the transaction sees them');
	$client->query_safe('ROLLBACK TO a');
	is(count(), 1, 'a savepoint takes them back');
	$client->query_safe('ROLLBACK');

	starts($copy, $name);
	$holder->query_safe('COMMIT');
	copy_ends($client, qr/23505: duplicate key/, "$name: a key that is there");
	$client->query_safe('ROLLBACK TO a');
	is(count(), 3, 'nothing of it is left, the rest of the transaction is');
	$client->query_safe('COMMIT');
	$c->sql(1, 'DELETE FROM t');

	starts($copy, $name);
	$c->sql(1, "SELECT pg_cancel_backend($pid)");
	copy_ends($client, qr/57014: canceling statement due to user request/, "$name: canceled");
	$client->query_safe("ROLLBACK TO a; INSERT INTO t VALUES ($k[3], 'after'), ($k[4], 'after'), ($k[5], 'after')");
	is(count(), 4, 'and the transaction goes on at all owners');
	$client->query_safe('ROLLBACK');
	$holder->query_safe('ROLLBACK');

	starts($copy, $name);
	$c->sql(1, "SELECT pg_terminate_backend($pid)");
	ok($c->poll($_, "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted"), "$name: the end of the process ends it on node $_") for 1 .. 3;
	$holder->query_safe('ROLLBACK');
	eval { $client->quit };
	connect_client();
}

# One owner refuses at once, while the other has begun.
$c->sql(3, 'SET fragaffinity.maintenance = on; ALTER TABLE t RENAME TO t_away');
for my $copy ($few, $many)
{
	$client->query_safe('BEGIN; SAVEPOINT a');
	$client->query("COPY t (k, v) FROM $copy");
	like($client->{stderr}, $told ? qr/42P01: relation "public.t" does not exist/ : qr/^$/, 'an owner that cannot');
	$client->{stderr} = '';
	$client->query_safe("ROLLBACK TO a; INSERT INTO t VALUES ($k[1], 'v'), ($k[0], 'v')");
	is(count(), 2, 'and the transaction goes on');
	$client->query_safe('ROLLBACK');
}
$c->sql(3, 'SET fragaffinity.maintenance = on; ALTER TABLE t_away RENAME TO t');

# The line of an error, in whichever burst.
my $bad = file('bad', [ @k, -1 ], 30000);
my ($far) = $c->sql(1, "SELECT max(k) FROM generate_series(1001, 31000) k WHERE fragaffinity.bucket_of('t', k) = 1");
my $error = ($c->fails(1, "BEGIN; INSERT INTO t VALUES ($far, 'there'); COPY t (k, v) FROM $bad"))[1];
my $line = $far - 1000 + 7;
like($error, $told ? qr/23505.*CONTEXT:  COPY t, line $line$/ms : qr/23505.*CONTEXT:  COPY t, lines \d+ to/s, 'an error names its line');

# Sessions that something else has open: cursors before and after.
is($c->sql(1, "BEGIN; INSERT INTO t SELECT i, 'c' FROM generate_series(1, 3000) i; DECLARE r CURSOR FOR SELECT k FROM t;
	MOVE 1 IN r; COPY t (k, v) FROM PROGRAM 'seq 40001 45000 | sed \"s/\$/\\tv/\"'; MOVE 5000 IN r; SELECT count(*) FROM t; ROLLBACK"), '8000', 'beside a cursor');
$c->sql(1, q{CREATE FUNCTION each(path text) RETURNS bool LANGUAGE plpgsql AS $$
	DECLARE r record; n int := 0;
	BEGIN
		FOR r IN SELECT k FROM t LOOP
			n := n + 1;
			IF n = 3 THEN
				BEGIN EXECUTE format('COPY t (k, v) FROM %L', path); RAISE 'x'; EXCEPTION WHEN raise_exception THEN NULL; END;
				EXECUTE format('COPY t (k, v) FROM %L', path);
			END IF;
		END LOOP;
		RETURN n >= 500;
	END $$});
is($c->sql(1, "INSERT INTO t SELECT -i, 'f' FROM generate_series(1, 500) i; SELECT each($many); SELECT count(*) FROM t"), "t\n30506", 'in a function, beside its loop');
is($c->sql(2, "DELETE FROM t WHERE k > 0; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; COPY t (k, v) FROM $many; SELECT count(*) FROM t; COMMIT"),
	"500\n30506", 'in REPEATABLE READ');
is($c->sql($_, 'SELECT count(*), count(DISTINCT k) FROM t'), '30506|30506', "node $_ has the rows") for 1 .. 3;
$client->quit;
$holder->quit;
$c->check_consistent('nothing is left over');
done_testing();
