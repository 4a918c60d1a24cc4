# A statement on a fragment's heap asks for the rights that its user has on the
# table, whether it is planned now or has been before, and locks both.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 1);
$c->sql(1, "
	CREATE ROLE r;
	CREATE TABLE t (k int PRIMARY KEY, v int, w int);
	INSERT INTO t SELECT i, i, -i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 4);
	CREATE VIEW shown AS SELECT k, w FROM t;
	GRANT SELECT ON shown TO r;
	GRANT CREATE ON SCHEMA public TO r");

sub refused
{
	my ($what, $sql) = @_;
	my ($code, $error) = $c->fails(1, "SET ROLE r; $sql");

	is($code, '42501', $what) or diag($error);
	like($error, qr/permission denied for table t\b/, "$what: of the table");
}

my %statements = (
	read => ['SELECT v FROM t WHERE k = %s', 'SELECT'],
	lock => ['SELECT v FROM t WHERE k = %s FOR UPDATE', 'SELECT, UPDATE'],
	join => ['SELECT a.v FROM t a JOIN t b USING (k) WHERE k = %s', 'SELECT'],
	subquery => ['SELECT (SELECT v FROM t WHERE k = %s)', 'SELECT'],
	update => ['UPDATE t SET v = v + 1 WHERE k = %s RETURNING v', 'SELECT, UPDATE'],
	delete => ['DELETE FROM t WHERE k = %s RETURNING v', 'SELECT, DELETE'],
	insert => ['INSERT INTO t VALUES (%s + 1000, 1, 1) RETURNING v', 'SELECT, INSERT'],
	upsert => ['INSERT INTO t VALUES (%s, 1, 1) ON CONFLICT (k) DO UPDATE SET v = t.v + 1 RETURNING v', 'SELECT, INSERT, UPDATE']);
for my $kind (sort keys %statements)
{
	my ($statement, $rights) = @{ $statements{$kind} };
	my $grant = "RESET ROLE; GRANT $rights ON t TO r; SET ROLE r";
	my $revoke = "RESET ROLE; REVOKE $rights ON t FROM r; SET ROLE r";

	refused("$kind without rights", sprintf $statement, 5);
	for my $mode (qw(auto force_generic_plan force_custom_plan))
	{
		my $of = sprintf $statement, '$1';
		my $constant = sprintf $statement, 6;

		for ([ "PREPARE s (int) AS $of", map { "EXECUTE s ($_)" } 7, 7, 8 ], [ "PREPARE s AS $constant", 'EXECUTE s', 'EXECUTE s', 'EXECUTE s' ])
		{
			my ($prepare, @execute) = @$_;
			my $what = $prepare =~ /int/ ? "$kind, prepared, $mode" : "$kind of a constant, prepared, $mode";
			my $runs = join '; ', map { "BEGIN; $_; ROLLBACK" } @execute;

			ok($c->sql(1, "SET plan_cache_mode = $mode; $grant; $prepare; $runs; $revoke"), "$what: with rights");
			$c->sql(1, "REVOKE ALL ON t FROM r");
			refused("$what: rights taken away", "SET plan_cache_mode = $mode; $grant; $prepare; $runs; $revoke; $execute[0]");
		}
	}
}

# Rights on columns, and those of a view's owner.
$c->sql(1, 'GRANT SELECT (k, v) ON t TO r');
is($c->sql(1, 'SET ROLE r; SELECT v FROM t WHERE k = 9'), '9', 'a column that may be read');
refused('one that may not', 'SELECT w FROM t WHERE k = 9');
is($c->sql(1, 'SET ROLE r; SELECT w FROM shown WHERE k = 9'), '-9', 'a view is its owner\'s');

# What reads only is told so by the table, too.
for ('UPDATE t SET v = 1 WHERE k = 5', 'PREPARE s AS UPDATE t SET v = 1 WHERE k = $1; EXECUTE s (5); EXECUTE s (5)')
{
	my ($code) = $c->fails(1, "SET default_transaction_read_only = on; $_");
	is($code, '25006', "$_: in a transaction that reads only");
}

# The table is locked with the heap, also by a plan that is there already.
my $locks = q{SELECT string_agg(mode, ' ' ORDER BY relation::regclass::text) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text IN (SELECT 't' UNION SELECT leaf::text FROM fragaffinity.fragments)};
for (['SELECT v FROM t WHERE k = %s', 'AccessShareLock'], ['UPDATE t SET v = v WHERE k = %s', 'RowExclusiveLock'])
{
	my ($statement, $mode) = @$_;
	for my $value ('5', '$1')
	{
		my $execute = $value eq '5' ? 'EXECUTE s' : 'EXECUTE s (5)';
		my $prepare = 'PREPARE s AS ' . sprintf $statement, $value;
		my $out = $c->sql(1, "$prepare; $execute; $execute; $execute; BEGIN; $execute; SELECT 'locks', ($locks); ROLLBACK");

		like($out, qr/^locks\|\Q$mode $mode\E$/m, sprintf("$statement, planned before", $value));
	}
}
done_testing();
