# What a session keeps of statements that are sent whole: their texts, while the
# names in them are those of what they mean; and at the owner the constraint of a
# leaf, while that is so.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, 'CREATE TYPE pair AS (a int, b int)') for 1, 2;
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, p pair, junk int, n int NOT NULL DEFAULT 0);
	INSERT INTO t (k, p) SELECT i, (i, -i)::pair FROM generate_series(1, 200) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2)});
my $of = sub {
	return split /\n/, $c->sql(1, qq{SELECT k FROM t WHERE fragaffinity.bucket_of('t', k) =
		(SELECT substring(bucket::text, '\\d+\$')::int FROM fragaffinity.fragments
		 WHERE owner = '$_[0]' AND table_name = 't'::regclass) ORDER BY k});
};
my @far = $of->('n2');
my ($near) = $of->('n1');
my $bucket = $c->sql(1, q{SELECT bucket FROM fragaffinity.fragments WHERE owner = 'n2' AND table_name = 't'::regclass});

my $client = $c->node(1)->background_psql('postgres', on_error_stop => 1);
sub is_each { my ($column, $name) = @_; is($client->query_safe("SELECT $column FROM t WHERE k = $far[$_]"), $far[$_], "$name, $_") for 0 .. 3; }
sub changes_each { my ($column) = @_; $client->query_safe("UPDATE t SET n = (p).$column WHERE k = $far[$_]") for 0 .. 3; }

is_each('(p).a', 'the same statement with other constants');
changes_each('a');
$c->sql($_, 'ALTER TYPE pair RENAME ATTRIBUTE a TO c') for 1, 2;
is_each('(p).c', 'an attribute has another name');
changes_each('c');
$client->query_safe('ALTER TABLE t DROP COLUMN junk');
is_each('n', 'a column is gone');
$client->query_safe('ALTER TABLE t RENAME n TO m');
is_each('m', 'a column has another name');

# At the owner, statements about the bucket, as peers send them.
my $owner = $c->node(2)->background_psql('postgres', on_error_stop => 0);
sub refused
{
	my ($statement, $name) = @_;
	$owner->{stderr} = '';
	$owner->query($statement);
	like($owner->{stderr}, qr/violates partition constraint|cannot move a row/, $name);
	$owner->{stderr} = '';
}
for my $when ('first', 'with its constraint kept', 'after a change of the table')
{
	$owner->query_safe("UPDATE $bucket SET m = m + 1 WHERE k = $_") for @far[ 0 .. 9 ];
	$owner->query_safe("DELETE FROM $bucket WHERE k = $far[9]; INSERT INTO $bucket (k) VALUES ($far[9])");
	refused("INSERT INTO $bucket (k) VALUES ($near)", "a row that is not the bucket's, $when");
	refused("UPDATE $bucket SET k = $near WHERE k = $far[0]", "nor becomes so, $when");
	$client->query_safe('ALTER TABLE t ADD COLUMN more int') if $when eq 'with its constraint kept';
}
$_->quit for $client, $owner;
is($c->sql(1, 'SELECT count(*), count(DISTINCT k) FROM t'), '200|200', 'every row is there once');
$c->check_consistent('at the end');
done_testing();
