# A split or merge copies what changes its fragment while clients read and write,
# and then what they have changed meanwhile.
use strict;
use warnings;
use EveryIndex;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
# rows of many types, one of which is dropped, and what is computed of them
$c->sql($_, q{CREATE EXTENSION amcheck; CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TYPE pair AS (a int, b text)}) for 1, 2;
$c->sql(1, q{
	SELECT fragaffinity.configure('mode', 'observe');
	SELECT fragaffinity.configure('split_timeout', '1min');
	CREATE TABLE t (id bigint PRIMARY KEY, gone int, n bigint NOT NULL, pad text, long text,
		twice bigint GENERATED ALWAYS AS (2 * n) STORED, list text[] DEFAULT '{a,NULL,b}', doc jsonb DEFAULT '{"k": [1, null]}',
		span tstzrange DEFAULT '[2024-01-01,)', feels mood DEFAULT 'sad', low positive DEFAULT 3, both_of pair DEFAULT ROW(1, 'x')::pair,
		amount numeric DEFAULT 'NaN', bits bytea DEFAULT '\x00ff', at inet DEFAULT '::1', nothing point);
	ALTER TABLE t DROP COLUMN gone;
	CREATE INDEX ON t (n);
	ALTER TABLE t ALTER COLUMN long SET STORAGE EXTERNAL;
	INSERT INTO t SELECT g, g, repeat('p', 100), CASE WHEN g % 50 = 0 THEN repeat('x' || g, 2000) END FROM generate_series(1, 4000) g;
	CREATE TABLE same (LIKE t INCLUDING DEFAULTS INCLUDING GENERATED);
	INSERT INTO same SELECT id, n, pad, long FROM t;
	} . every_index('t') . q{;
	SELECT fragaffinity.distribute_table('t', 'id', 1, 'n1')});
my $f = $c->fragment('t');
# the same changes to a plain table say what is right
my $differ = 'SELECT count(*) FROM ((SELECT t::text FROM t EXCEPT ALL SELECT same::text FROM same)
	UNION ALL (SELECT same::text FROM same EXCEPT ALL SELECT t::text FROM t)) d';

# In the part from $k to $k + 500, and out of it and into it.
sub changes
{
	my ($k) = @_;
	my $sql = q{
		UPDATE % SET n = n + 100000 WHERE id BETWEEN K+0 AND K+100;
		UPDATE % SET pad = 'short' WHERE id BETWEEN K+101 AND K+200;
		UPDATE % SET pad = 'again' WHERE id BETWEEN K+150 AND K+160;
		DELETE FROM % WHERE id BETWEEN K+201 AND K+300;
		INSERT INTO % SELECT g, g, 'new', CASE WHEN g % 10 = 0 THEN repeat('y' || g, 3000) END FROM generate_series(K+201, K+250) g;
		DELETE FROM % WHERE id BETWEEN K+14001 AND K+14100;
		INSERT INTO % SELECT g, g, 'beyond' FROM generate_series(K+14001, K+14100) g;
		UPDATE % SET long = repeat('z' || id, 2500), feels = 'ok', list = '{}' WHERE id BETWEEN K+301 AND K+310;
		UPDATE % SET id = id + 15000 WHERE id BETWEEN K+401 AND K+410;
		DELETE FROM % WHERE id BETWEEN K+450 AND K+459;
		UPDATE % SET id = id + 1450 WHERE id BETWEEN K-1000 AND K-991;
		DELETE FROM % WHERE id BETWEEN K-30 AND K-20};
	$sql =~ s/K([+-]\d+)/$k + $1/ge;
	return split /;\s*/, $sql;
}

sub part_is_right
{
	my ($fragment, $from, $to, $name) = @_;
	my $heap = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $fragment");

	is($c->sql(1, "SELECT count(*) FROM $heap"), $c->sql(1, "SELECT count(*) FROM same WHERE id >= $from AND id < $to"), "$name: rows of $heap");
	is($c->sql(1, "SELECT count(*) FROM $heap WHERE id < $from OR id >= $to"), '0', "$name: and no others");
	is($c->sql(1, "SELECT count(*) FROM pg_index WHERE indrelid = '$heap'::regclass AND indisvalid"), '8', "$name: indexes");
	is($c->sql(1, "SELECT count(*) FROM pg_constraint WHERE conrelid = '$heap'::regclass AND contype = 'c'"), '0', "$name: no constraint is left");
	return heap_is_sound($fragment, $name);
}

sub heap_is_sound
{
	my ($fragment, $name) = @_;
	my $heap = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $fragment");

	is($c->sql(1, "SELECT count(*) FROM verify_heapam('$heap', check_toast => true)"), '0', "$name: $heap is sound");
	$c->sql(1, "SELECT bt_index_parent_check(indexrelid, true, true) FROM pg_index JOIN pg_class i ON i.oid = indexrelid
		JOIN pg_am a ON a.oid = relam WHERE indrelid = '$heap'::regclass AND amname = 'btree'");
	is(wrong_answers(sub { $c->sql(1, $_[0]) }, $heap), '', "$name: every index of it answers right");
	return;
}

# Runs a statement that divides, and changes rows while it has copied but not
# locked: nobody waits for it, on no node.
sub change_meanwhile
{
	my ($statement, $k, $name) = @_;
	my $leaf = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
	my @changes = changes($k);
	my ($out, $err);

	$c->hold(1, 'split_copied');
	my $divider = IPC::Run::start([ 'psql', '-XqAt', '-d', $c->conninfo(1), '-c', $statement ], '<', \undef, '>', \$out, '2>', \$err);
	ok($c->wait_held(1, 'split_copied'), "$name: copied");
	for my $i (0 .. $#changes)
	{
		for my $table ('t', 'same')
		{
			my $sql = $changes[$i] =~ s/%(?= \D)/$table/r;
			$c->sql($table eq 't' ? 1 + $i % 2 : 1, "SET lock_timeout = '60s'; $sql");
		}
	}
	is($c->sql(1, $differ), '0', "$name: nobody sees the copies");
	my $holder = $c->node(2)->background_psql('postgres', on_error_stop => 1);
	$holder->query_safe('BEGIN; UPDATE t SET n = -n WHERE id BETWEEN ' . ($k + 480) . ' AND ' . ($k + 490));
	$c->sql(1, "BEGIN; UPDATE t SET n = 0 WHERE id BETWEEN $k AND $k + 470; ROLLBACK");
	$c->sql(1, "SELECT count(*) FROM (SELECT id FROM t WHERE id BETWEEN $k AND $k + 470 FOR UPDATE) x");
	$c->sql(1, "VACUUM $leaf");
	# what was freed, if anything, is used again
	$c->sql(1, "INSERT INTO $_ SELECT g, g, 'later' FROM generate_series($k + 251, $k + 300) g") for 't', 'same';
	$holder->query_safe('COMMIT');
	$holder->quit;
	$c->sql(1, "UPDATE same SET n = -n WHERE id BETWEEN $k + 480 AND $k + 490");
	$c->release(1);
	$divider->finish;
	is($err, '', $name);
	is($c->sql(1, $differ), '0', "$name: every row is as it should be")
	  or diag($c->sql(1, 'SELECT left(x, 60) FROM (SELECT t::text FROM t EXCEPT ALL SELECT same::text FROM same) d(x) LIMIT 10'));
	return $out =~ /(\d+)/g;
}

my @new = change_meanwhile("SELECT fragaffinity.split_fragment($f, '1100', '1600', '1700')", 1100, 'split');
is(scalar @new, 2, 'into three');
part_is_right($new[0], 1100, 1600, 'split');
part_is_right($new[1], 1600, 1700, 'split');
my $leaf = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
is($c->sql(1, "SELECT count(*) FROM $leaf WHERE id >= 1100 AND id < 1700"), '0', 'none is left behind');
$c->rows_agree('(SELECT id, n FROM t)', 'both nodes see them');

# Parts move, and are put together: two ranges, a range and the rest, and what
# is given up.
$c->move($new[0], 'n2', 1);
$c->move($new[0], 'n1', 2);
$c->sql(1, "SELECT fragaffinity.merge_fragments($f, $_)") for @new;
is($c->sql(1, $differ), '0', 'and after all that');
@new = $c->sql(1, "SELECT fragaffinity.split_fragment($f, '2000', '2500', '2600')") =~ /(\d+)/g;
my ($stays) = change_meanwhile("SELECT fragaffinity.merge_fragments($new[1], $new[0])", 2000, 'merge of two ranges');
is($stays, $new[0], 'the larger stays');
part_is_right($stays, 2000, 2600, 'merge of two ranges');

sub give_up
{
	my ($statement, $name) = @_;
	my $heap = $c->sql(1, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f");
	my ($out, $err);

	$c->hold(1, 'split_copied');
	my $client = IPC::Run::start([ 'psql', '-XqAt', '-d', $c->conninfo(1) . ' application_name=giver', '-c', $statement ],
		'<', \undef, '>', \$out, '2>', \$err);
	ok($c->wait_held(1, 'split_copied'), "$name: copied");
	$c->sql(1, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'giver'});
	eval { $client->finish };
	like($err, qr/canceling statement/, "$name: cancelled");
	$c->release(1);
	is($c->sql(1, $differ), '0', "$name: nothing has changed");
	heap_is_sound($f, $name);
	return;
}

give_up("SELECT fragaffinity.merge_fragments($f, $stays)", 'merge');
part_is_right($stays, 2000, 2600, 'a merge given up');
my ($whole) = change_meanwhile("SELECT fragaffinity.merge_fragments($stays, $f)", 2000, 'merge');
is($whole, $f, 'the rest stays');
is($c->sql(1, "SELECT count(*) FROM pg_class WHERE relname ~ '^t_b0_s'"), '0', 'no other is left');
heap_is_sound($f, 'merge');
$c->rows_agree('(SELECT id, twice FROM t)', 'both nodes see them');
give_up("SELECT fragaffinity.split_fragment($f, '1000', '1500')", 'split');
is($c->sql(1, "SELECT count(*) FROM pg_class WHERE relname ~ '^t_b0_s'"), '0', 'nothing is left of it');

# What the table's owner wrote runs as him, whoever divides.
$c->sql($_, q{
	CREATE ROLE boss;
	GRANT CREATE ON SCHEMA public TO boss;
	CREATE FUNCTION as_boss(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		IF current_user <> 'boss' THEN RAISE EXCEPTION 'runs as %', current_user; END IF; RETURN n; END $$}) for 1, 2;
$c->sql(1, q{
	CREATE TABLE o (id int PRIMARY KEY, n int CHECK (public.as_boss(n) > 0), m int GENERATED ALWAYS AS (public.as_boss(n)) STORED);
	CREATE INDEX ON o (public.as_boss(n));
	ALTER TABLE o OWNER TO boss;
	SET ROLE boss;
	INSERT INTO o SELECT g, g FROM generate_series(1, 300) g;
	RESET ROLE;
	SELECT fragaffinity.distribute_table('o', 'id', 1, 'n1')});
my $o = $c->fragment('o');
my ($part) = $c->sql(1, "SELECT fragaffinity.split_fragment($o, '100', '200')") =~ /(\d+)/;
$c->sql(1, "SELECT fragaffinity.merge_fragments($o, $part)");
is($c->sql(2, 'SELECT count(*), sum(n - m) FROM o'), '300|0', 'rows of another owner');
$c->check_consistent('at the end');
done_testing();
