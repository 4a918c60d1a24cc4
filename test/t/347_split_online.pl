# A split copies what it cuts off while clients read and write, and then what
# they have changed meanwhile.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	SELECT fragaffinity.configure('mode', 'observe');
	SELECT fragaffinity.configure('split_timeout', '1min');
	CREATE TABLE t (id bigint PRIMARY KEY, gone int, n bigint NOT NULL, pad text, long text);
	ALTER TABLE t DROP COLUMN gone;
	CREATE INDEX ON t (n);
	ALTER TABLE t ALTER COLUMN long SET STORAGE EXTERNAL;
	INSERT INTO t SELECT g, g, repeat('p', 100), CASE WHEN g % 50 = 0 THEN repeat('x' || g, 2000) END FROM generate_series(1, 4000) g;
	SELECT fragaffinity.distribute_table('t', 'id', 1, 'n1');
	CREATE TABLE g (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (2 * id) STORED);
	INSERT INTO g SELECT generate_series(1, 1000);
	SELECT fragaffinity.distribute_table('g', 'id', 1, 'n1')});
my $f = $c->fragment('t');
my $leaf = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
# the same changes to a plain table say what is right
$c->sql(1, 'CREATE TABLE same AS SELECT * FROM t');

my @changes = (
	q{UPDATE % SET n = n + 100000 WHERE id BETWEEN 1000 AND 1100},			# with the index
	q{UPDATE % SET pad = 'short' WHERE id BETWEEN 1101 AND 1200},			# in the page, where it can be
	q{UPDATE % SET pad = 'again' WHERE id BETWEEN 1150 AND 1160},
	q{DELETE FROM % WHERE id BETWEEN 1201 AND 1300},
	q{INSERT INTO % SELECT g, g, 'new', CASE WHEN g % 10 = 0 THEN repeat('y' || g, 3000) END FROM generate_series(1201, 1250) g},
	q{INSERT INTO % SELECT g, g, 'beyond' FROM generate_series(5001, 5100) g},
	q{UPDATE % SET long = repeat('z' || id, 2500) WHERE id BETWEEN 1301 AND 1310},
	q{UPDATE % SET id = id + 5000 WHERE id BETWEEN 1401 AND 1410},			# out of the range
	q{UPDATE % SET id = id + 1150 WHERE id BETWEEN 300 AND 309},				# and into it, where others were
	q{DELETE FROM % WHERE id BETWEEN 10 AND 20});
splice @changes, 8, 0, q{DELETE FROM % WHERE id BETWEEN 1450 AND 1459};

$c->hold(1, 'split_copied');
my $splitter = IPC::Run::start([ 'psql', '-XqAt', '-d', $c->conninfo(1), '-c',
		"SELECT fragaffinity.split_fragment($f, '1000', '1500', '1600')" ], '<', \undef, '>', \my $out, '2>', \my $err);
ok($c->wait_held(1, 'split_copied'), 'copied');

# Nobody waits for it: on no node, nor for long locks of rows.
for my $i (0 .. $#changes)
{
	for my $table ('t', 'same')
	{
		my $sql = $changes[$i] =~ s/%(?= )/$table/r;
		my $node = $table eq 't' ? 1 + $i % 2 : 1;
		$sql =~ s/FROM %/FROM $table/;
		$c->sql($node, "SET lock_timeout = '60s'; $sql");
	}
}
my $holder = $c->node(2)->background_psql('postgres', on_error_stop => 1);
$holder->query_safe('BEGIN; UPDATE t SET n = -n WHERE id BETWEEN 1500 AND 1510');
$c->sql(1, "BEGIN; UPDATE t SET n = 0 WHERE id BETWEEN 1000 AND 1499; ROLLBACK");
$c->sql(1, "SELECT count(*) FROM (SELECT id FROM t WHERE id BETWEEN 1000 AND 1499 FOR UPDATE) x");
$c->sql(1, "VACUUM $leaf");
# what was freed, if anything, is used again
$c->sql(1, "INSERT INTO $_ SELECT g, g, 'later' FROM generate_series(1251, 1300) g") for 't', 'same';
$holder->query_safe('COMMIT');
$holder->quit;
$c->sql(1, 'UPDATE same SET n = -n WHERE id BETWEEN 1500 AND 1510');
$c->release(1);
$splitter->finish;
is($err, '', 'split');
my @new = $out =~ /(\d+)/g;
is(scalar @new, 2, 'into three');

my $differ = 'SELECT count(*) FROM ((TABLE t EXCEPT ALL TABLE same) UNION ALL (TABLE same EXCEPT ALL TABLE t)) d';
is($c->sql(1, $differ), '0', 'every row is as it should be') or diag($c->sql(1, 'SELECT id, n, left(pad, 8) FROM (TABLE t EXCEPT ALL TABLE same) d LIMIT 10'));
for my $part ([ $new[0], 1000, 1500 ], [ $new[1], 1500, 1600 ])
{
	my $heap = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $part->[0]");
	is($c->sql(1, "SELECT count(*) FROM $heap"), $c->sql(1, "SELECT count(*) FROM same WHERE id >= $part->[1] AND id < $part->[2]"), "rows of $heap");
	is($c->sql(1, "SELECT count(*) FROM $heap WHERE id < $part->[1] OR id >= $part->[2]"), '0', 'and no others');
	is($c->sql(1, "SELECT count(*) FROM pg_index WHERE indrelid = '$heap'::regclass AND indisvalid"), '2', 'indexes');
	is($c->sql(1, "SELECT count(*) FROM pg_constraint WHERE conrelid = '$heap'::regclass AND contype = 'c'"), '0', 'no constraint is left');
}
$leaf = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
is($c->sql(1, "SELECT count(*) FROM $leaf WHERE id >= 1000 AND id < 1600"), '0', 'none is left behind');
$c->rows_agree('(SELECT id, n FROM t)', 'both nodes see them');

# Parts move, and are put together.
$c->move($new[0], 'n2', 1);
$c->move($new[0], 'n1', 2);
$c->sql(1, "SELECT fragaffinity.merge_fragments($f, $_)") for @new;
is($c->sql(1, $differ), '0', 'and after all that');

# What is computed by the server, and one that is given up.
my $g = $c->fragment('g');
is($c->sql(1, "SELECT array_length(fragaffinity.split_fragment($g, '100', '200'), 1)"), '1', 'a generated column');
is($c->sql(2, 'SELECT count(*) FROM g WHERE twice = 2 * id'), '1000', 'has its values');
$c->hold(1, 'split_copied');
my $client = IPC::Run::start([ 'psql', '-XqAt', '-d', $c->conninfo(1) . ' application_name=giver', '-c',
		"SELECT fragaffinity.split_fragment($f, '1000', '1500')" ], '<', \undef, '>', \my $out2, '2>', \my $err2);
ok($c->wait_held(1, 'split_copied'), 'copied');
$c->sql(1, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'giver'});
eval { $client->finish };
like($err2, qr/canceling statement/, 'cancelled');
$c->release(1);
is($c->sql(1, "SELECT count(*) FROM pg_class WHERE relname ~ '^t_b0_s'"), '0', 'nothing is left of it');
is($c->sql(1, $differ), '0', 'and nothing has changed');
$c->check_consistent('at the end');
done_testing();
