# Rows of another node, used as two roles in one transaction: what one has changed, the
# other is never shown as it was before.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, 'CREATE ROLE a LOGIN; CREATE ROLE b LOGIN') for 1, 2;
$c->sql(1, q{CREATE TABLE t (k int PRIMARY KEY, v int NOT NULL); CREATE TABLE u (LIKE t INCLUDING ALL);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 60) i; INSERT INTO u SELECT * FROM t;
	SELECT fragaffinity.distribute_table('t', 'k', 4, placement => 'n2'); SELECT fragaffinity.distribute_table('u', 'k', 4, colocate_with => 't');
	GRANT ALL ON t, u TO a, b; CREATE VIEW w AS SELECT * FROM t; GRANT SELECT, UPDATE ON w TO a;
	CREATE FUNCTION seen(i int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT v FROM t WHERE k = i';
	CREATE FUNCTION more(i int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN UPDATE t SET v = v + 1 WHERE k = i; RETURN i; END';
	CREATE FUNCTION log(i int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'UPDATE u SET v = v + 1 WHERE k = i RETURNING v'});

my $as_a = 'BEGIN; SET LOCAL ROLE a';
my $change = 'UPDATE t SET v = 5 WHERE k = 1';
for my $then ('SELECT * FROM w WHERE k = 1', 'SELECT count(*) FROM w', 'SELECT seen(1)', 'SELECT more(1)', 'UPDATE w SET v = 6 WHERE k = 1',
	'SET LOCAL ROLE b; SELECT v FROM t WHERE k = 1', 'SET LOCAL ROLE b; SELECT sum(v) FROM t', 'SET LOCAL ROLE b; UPDATE t SET v = 7 WHERE k = 1',
	'SET LOCAL ROLE b; SELECT count(*) FROM u JOIN t USING (k)', 'SET LOCAL ROLE b; DELETE FROM t WHERE v = 5', 'SET LOCAL ROLE b; COPY (SELECT * FROM t) TO STDOUT')
{
	my ($code, $message) = $c->fails(1, "$as_a; $change; $then; COMMIT");
	is($code, '0A000', "as two roles: $then");
	like($message, qr/as another role than.*HINT:  Commit in between/s, 'with what to do');
}
is($c->sql(1, 'SELECT sum(v) FROM t'), '0', 'nothing has changed');
is(($c->fails(1, "$as_a; SELECT v FROM t WHERE k = 1 FOR UPDATE; SELECT more(1)"))[0], '0A000', 'rows that are locked');

is($c->sql(1, "$as_a; $change; SELECT v FROM t WHERE k = 1; COMMIT"), '5', 'as one');
is($c->sql(1, 'SET ROLE b; UPDATE t SET v = 6 WHERE k = 1; SELECT v FROM t WHERE k = 1'), '6', 'as another, in a later transaction of the session');
is($c->sql(1, "SET ROLE a; $change; SET ROLE b; SELECT v FROM t WHERE k = 1; UPDATE t SET v = 7 WHERE k = 1; SET ROLE a; SELECT seen(1)"), "5\n7", 'in transactions of one session');
is($c->sql(1, "$as_a; SELECT seen(1); SELECT v FROM t WHERE k = 1; $change; SELECT v FROM t WHERE k = 1; COMMIT"), "7\n7\n5", 'read as two, then changed');
is($c->sql(1, "$as_a; SAVEPOINT s; UPDATE t SET v = 8 WHERE k = 1; ROLLBACK TO s; SELECT seen(1); COMMIT"), '5', 'what was undone does not count');
is(($c->fails(1, "$as_a; SAVEPOINT s; UPDATE t SET v = 8 WHERE k = 1; RELEASE s; SELECT seen(1)"))[0], '0A000', 'what was released does');
is($c->sql(1, "$as_a; UPDATE t SET v = 9 WHERE k = 1; SELECT log(1); SELECT log(2); COMMIT; SELECT v FROM t WHERE k = 1"), "1\n1\n9", 'another table as its owner');
$c->sql(2, q{CREATE VIEW w AS SELECT * FROM t; GRANT SELECT ON w TO a});
is($c->sql(2, "$as_a; UPDATE t SET v = 10 WHERE k = 1; SELECT v FROM w WHERE k = 1; SET LOCAL ROLE b; UPDATE t SET v = 11 WHERE k = 1 RETURNING v; COMMIT"), "10\n11", 'rows of this node');
ok($c->check_consistent('at the end'), 'consistent');
done_testing();
