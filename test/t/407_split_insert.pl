# The parts of an INSERT for several nodes are with all of them at the same time,
# and nothing that goes wrong with one of them disturbs the session.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0 CHECK (n < 100));
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 6);
	CREATE FUNCTION rows_there(int) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT count(*)::text FROM t WHERE k <> $1'});
my @k = map { $c->sql(1, "SELECT k FROM generate_series(1, 100) k WHERE fragaffinity.bucket_of('t', k) = $_ LIMIT 1") } 0 .. 5;
my $all = join ', ', map { "($_, 'new')" } @k;

my $holder = $c->node(1)->background_psql('postgres', on_error_stop => 0);
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->query_safe('\set VERBOSITY verbose');
sub waiting
{
	my ($i) = @_;
	return $c->poll($i, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'");
}

# Sends a statement that must wait on nodes 2 and 3, until the holder ends.
sub waits_on_both
{
	my ($sql, $end, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$holder->query_safe("BEGIN; INSERT INTO t VALUES ($k[1], 'held'); INSERT INTO t VALUES ($k[2], 'held')");
	@$client{qw(stdout stderr)} = ('', '');
	$client->{stdin} .= "$sql;\n\\echo done\n";
	$client->{run}->pump_nb;
	# postgres_fdw of 16 and later does not tell its sessions: one after the other
	my $n = $c->node(1)->pg_version < 16 ? 2 : 1;
	ok($n == 2 ? waiting(2) && waiting(3) : waiting(2), "$name: $n nodes work on it at once");
	$holder->query_safe($end) if $end =~ /COMMIT|ROLLBACK/;
	$client->{run}->pump until $client->{stdout} =~ /^done$/m;
	$holder->query_safe('ROLLBACK') if $end !~ /COMMIT|ROLLBACK/;
	like($client->{stdout} . $client->{stderr}, $expected, "$name: $end");
	@$client{qw(stdout stderr)} = ('', '');
	return;
}
my $rows = join "\n", @k;
for my $around ([ 'alone', '%s; DELETE FROM t' ], [ 'in a block', 'BEGIN; SAVEPOINT a; %s; ROLLBACK TO a; SELECT count(*) FROM t; ROLLBACK' ])
{
	my ($name, $form) = @$around;
	my $count = $name eq 'alone' ? '' : '\n0';
	for my $insert ("INSERT INTO t VALUES $all RETURNING k", "INSERT INTO t VALUES $all ON CONFLICT (k) DO UPDATE SET n = t.n + 1 RETURNING k")
	{
		my $sql = sprintf $form, $insert;
		waits_on_both($sql, 'ROLLBACK', qr/^$rows$count$/m, $name);
		waits_on_both("SET statement_timeout = '2s'; $sql; RESET statement_timeout", 'time goes by',
			qr/^0?\n?done\n.*57014: canceling statement due to statement timeout/s, $name);
		is($client->query("SELECT count(*) FROM t"), '0', 'the session goes on, and nothing is left');
	}
}
waits_on_both("INSERT INTO t VALUES $all", 'COMMIT', qr/23505: duplicate key/, 'a key that is there');
is($client->query('SELECT string_agg(v, \',\') FROM t'), 'held,held', 'takes all rows with it');

# What a part evaluates may need the sessions that the others use.
is($client->query("DELETE FROM t; INSERT INTO t (k, v) VALUES " . join(', ', map { "($_, rows_there($_))" } @k) . ' RETURNING k'),
	$rows, 'values that read the table');
is($client->query('SELECT bool_and(v::int < 6) FROM t'), 't', 'are values');
$client->query("DELETE FROM t; BEGIN; INSERT INTO t VALUES $all; SAVEPOINT a");
$client->query('INSERT INTO t (k, n) VALUES ' . join(', ', map { '(' . (-$_) . ', 1000)' } @k));
like($client->{stderr}, qr/23514: new row for relation "t_b\d_h" violates check constraint/, 'all parts fail: one error');
$client->{stderr} = '';
is($client->query('ROLLBACK TO a; SELECT count(*) FROM t; COMMIT'), '6', 'and the transaction goes on');
$client->quit;
$holder->quit;
is($c->sql($_, 'SELECT count(*) FROM t'), '6', "node $_ has the rows") for 1 .. 3;
$c->check_consistent('nothing is left over');
done_testing();
