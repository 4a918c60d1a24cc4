# A cursor lives on when a savepoint is undone in which its query began to scan another
# node with values from other rows, for more partners than one fetch brings.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{CREATE TABLE d (k int PRIMARY KEY, n int, m int); CREATE TABLE p (LIKE d INCLUDING ALL);
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 3)});
my $oracle = SameAnswers->new($c, { d => 'p' }, "TRUNCATE d; INSERT INTO d SELECT i, i, i % 2 FROM generate_series(1, 9000) i;\n");
my @statements = map { "SET enable_async_append = $_; BEGIN; DECLARE c CURSOR FOR SELECT y.k FROM (VALUES (0), (1), (0)) x(m), LATERAL (SELECT k FROM d WHERE d.m = x.m OFFSET 0) y;\n"
	. "SAVEPOINT s; MOVE 1 FROM c; ROLLBACK TO s;\nMOVE 2 FROM c; SAVEPOINT t; UPDATE d SET m = 5; MOVE 6000 FROM c; ROLLBACK TO t;\n"
	. 'UPDATE d SET m = 6; MOVE ALL FROM c; COMMIT; UPDATE d SET m = n % 2' } 'on', 'off';
$oracle->same($_, 'partners', sub { "$_[0];\n" }, @statements) for 1, 2;

# Likewise, when a function in SQL, which the query calls, has begun to.
my @functions = (many => q{SETOF int LANGUAGE sql VOLATILE AS 'SELECT n FROM %s WHERE m = i %% 2 ORDER BY n'},
	one => q{int LANGUAGE sql VOLATILE AS 'SELECT n FROM %s WHERE k = i'});
while (my ($name, $body) = splice @functions, 0, 2)
{
	$c->sql($_, "CREATE FUNCTION $name(i int) RETURNS " . sprintf($body, 'd')) for 1, 2;
	$c->sql(1, "CREATE FUNCTION ${name}_plain(i int) RETURNS " . sprintf($body, 'p'));
}
$oracle = SameAnswers->new($c, { d => 'p', many => 'many_plain', one => 'one_plain' },
	"TRUNCATE d; INSERT INTO d SELECT i, i, i % 2 FROM generate_series(1, 9000) i;\n");
@statements = map {
	my $calls = $_;
	map { "BEGIN; DECLARE c CURSOR FOR SELECT $calls AS n FROM generate_series(1, 40) i; FETCH 1 FROM c;\nSAVEPOINT a; SAVEPOINT b; FETCH $_ FROM c; ROLLBACK TO b;\n"
		. "FETCH 2 FROM c; UPDATE d SET n = n; ROLLBACK TO a; FETCH 5 FROM c; SAVEPOINT b; FETCH 4 FROM c; RELEASE b; MOVE ALL FROM c; COMMIT" } 1, 4, 4600
} 'many(i)', 'one(i)', '(SELECT one(i))';
$oracle->same($_, 'functions', sub { "$_[0];\n" }, @statements) for 1, 2;
done_testing();
