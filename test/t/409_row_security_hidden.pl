# A condition that fails for rows which policies hide is not asked of them, wherever
# they are and however cheap it is.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, q{
	CREATE ROLE app LOGIN;
	CREATE FUNCTION may_see(secret int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN secret < 3; END'}) for 1, 2;
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table (tenant int, id int, secret int, PRIMARY KEY (tenant, id));
		GRANT ALL ON $table TO app;
		ALTER TABLE $table ENABLE ROW LEVEL SECURITY");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 4)});

my $oracle = SameAnswers->new($c, { d => 'p' }, q{DELETE FROM d; INSERT INTO d SELECT i % 12, i, i % 7 FROM generate_series(1, 120) i; SET ROLE app;} . "\n");
my $leaks = '1 / (secret - 5) IS NOT NULL';
my @statements = (
	"SELECT * FROM d WHERE $leaks",
	"SELECT count(*), sum(secret) FROM d WHERE $leaks",
	"SELECT id FROM d WHERE $leaks ORDER BY id LIMIT 3",
	(map { "SELECT * FROM d WHERE tenant = $_ AND $leaks" } 0 .. 11),
	"SELECT * FROM d WHERE $leaks AND secret > 0 FOR UPDATE",
	"SELECT x.id, y.id FROM d x JOIN d y ON x.tenant = y.tenant AND x.id < y.id AND 1 / (x.secret - 5) = y.secret - 1",
	"SELECT x.id, y.id FROM d x JOIN d y ON x.tenant = y.tenant AND x.id = 1 / (y.secret - 5) + 1 WHERE x.tenant = 1",
	"SELECT x.id, (SELECT count(*) FROM d y WHERE y.tenant = x.tenant AND 1 / (y.secret - 5) + x.secret = 0) FROM d x",
	"UPDATE d SET id = id + 1000 WHERE $leaks AND tenant = 3 RETURNING *",
	"UPDATE d SET id = id + 2000 WHERE $leaks RETURNING *",
	"DELETE FROM d WHERE $leaks AND tenant = 4 RETURNING *",
	"DELETE FROM d WHERE $leaks AND secret = 1 RETURNING *",
	'TABLE d');
for my $policy ('abs(secret) + 0 + 0 + 0 + 0 < 3', 'may_see(secret)')
{
	$c->sql(1, "CREATE POLICY a ON $_ USING ($policy)") for 'd', 'p';
	for my $joins ('off', 'on')
	{
		my $with = "SET enable_partitionwise_join = $joins;\n";
		$oracle->same($_, "$policy, joins by parts $joins, node $_", sub { "$with$_[0];\n" }, @statements) for 1, 2;
		$oracle->same(2, "$policy, joins by parts $joins, prepared", sub { "${with}PREPARE s$_[1] AS $_[0];\nEXECUTE s$_[1];\n" }, grep { !/^TABLE/ } @statements);
	}
	$c->sql(1, "DROP POLICY a ON $_") for 'd', 'p';
}
done_testing();
