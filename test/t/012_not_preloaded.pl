# A node whose server was started without the library gives no answer that it could
# get wrong, and says what is missing.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, n int);
	INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 4)});
my ($local) = $c->sql(2, "SELECT min(id) FROM t WHERE tableoid::regclass::text ~ '_h\$'");
my ($remote) = $c->sql(2, "SELECT min(id) FROM t WHERE tableoid::regclass::text ~ '_r\$'");
my $config = sub {
	$c->node(2)->append_conf('postgresql.conf', "shared_preload_libraries = '$_[0]'");
	$c->stop(2);
	$c->node(2)->start;
};

$config->('');
for my $sql ('SELECT count(*) FROM t', "SELECT * FROM t WHERE id = $remote", "UPDATE t SET n = 0 WHERE id = $remote",
	"UPDATE t SET id = $remote + 1000 WHERE id = $remote", 'DELETE FROM t', 'INSERT INTO t SELECT i FROM generate_series(200, 299) i',
	"SELECT fragaffinity.move_fragment(1, 'n2')", 'SELECT * FROM fragaffinity.stat_progress_move')
{
	my ($code, $message) = $c->fails(2, $sql);
	is($code, '55000', "refused: $sql");
	like($message, qr/must be loaded.*HINT: .*shared_preload_libraries/s, 'with what to do');
}
is($c->sql(2, "SELECT n FROM t WHERE id = $local"), $local, 'its own rows can be read');

$config->('fragaffinity');
is($c->sql($_, 'SELECT count(*), sum(n) FROM t'), '100|5050', "nothing has changed on node $_") for 1, 2;
is($c->sql(2, "SET enable_partition_pruning = off; SELECT count(*) FROM t WHERE id = $remote"), '1', 'no row is astray');
$c->check_consistent('t', 'at the end');

done_testing();
