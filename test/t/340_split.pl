# Fragments are split at keys and merged while clients of all nodes work on
# them; parts of them move; what is asked for in vain changes nothing.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $anchors = 300;
my $c = FragAffinity->new(nodes => 4, connect => 0);
# The fourth joins later.
$c->{n} = 3;
$c->connect_nodes;
$c->sql(4, 'CREATE EXTENSION fragaffinity CASCADE');
# A busy machine is not what is tested.
$c->sql(1, q{SELECT fragaffinity.configure('split_timeout', '1min'), fragaffinity.configure('cutover_attempts', '1000')});

sub pieces
{
	my ($i, $table) = @_;
	return $c->sql($i, "SELECT string_agg(concat_ws(':', fragment, coalesce(key_from, '-'), coalesce(key_to, '-'), owner), ' ' ORDER BY fragment)
		FROM fragaffinity.fragments WHERE table_name = '$table'::regclass");
}

# A fragment's keys as a list, from the heap on its owner.
sub heap
{
	my ($i, $fragment) = @_;
	my $leaf = $c->sql($i, "SELECT leaf FROM fragaffinity.fragments WHERE fragment = $fragment AND local");
	return $c->sql($i, "SELECT concat_ws(' ', count(*), min(id), max(id)) FROM ONLY $leaf");
}

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 100),
		twice bigint GENERATED ALWAYS AS (n * 2) STORED);
	CREATE INDEX ON t (n);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, $anchors) i;
	INSERT INTO t (id, n, pad) SELECT i, 0, repeat(md5(i::text), 300) FROM generate_series(1001, 1100) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2, placement => 'n2')");
my ($f, $g) = ($c->fragment('t', 0), $c->fragment('t', 1));

# What it does, with nobody else there.
{
	my ($all) = split / /, heap(2, $f);
	is($c->sql(1, "SELECT fragaffinity.split_fragment($f, '200', '100')"), '{3}', 'split in another order, on another node');
	is(pieces($_, 't'), "$f:-:-:n2 $g:-:-:n2 3:100:200:n2", "node $_ has the fragments") for 1 .. 3;
	my ($rest) = split / /, heap(2, $f);
	my ($cut, $min, $max) = split / /, heap(2, 3);
	is($rest + $cut, $all, 'every row is in one heap');
	ok($cut > 30 && $min >= 100 && $max < 200, 'which is the right one');
	$c->rows_agree('t', 'nodes show the same rows of the split table');
	like($c->sql(3, "EXPLAIN (COSTS OFF) SELECT * FROM t WHERE id = 1"), qr/on n2/, 'statements are still routed');
	$c->move(3, 'n3', 1);
	is($c->sql(2, 'SELECT fragaffinity.split_fragment(3, \'130\')'), '{4}', 'a range is split');
	is($c->sql(1, "SELECT fragaffinity.split_fragment($f, '50')"), '{5}', 'up to the next fragment');
	is(pieces($_, 't'), "$f:-:-:n2 $g:-:-:n2 3:100:130:n3 4:130:200:n3 5:50:100:n2", "node $_ has these") for 1 .. 3;
	$c->check_consistent('a split table is whole');

	my $before = pieces(1, 't');
	for my $bad (
		[ "split_fragment($f, '90', '110')", '22023', qr/belong in part to fragment/ ],
		[ "split_fragment($f, '60')", '22023', qr/belong in part to fragment 5/ ],
		[ "split_fragment(3, '100')", '22023', qr/not inside fragment 3/ ],
		[ "split_fragment(3, '130')", '22023', qr/not inside fragment 3/ ],
		[ "split_fragment(4, '150', '150')", '22023', qr/more than once/ ],
		[ "split_fragment(4, 'x')", '22P02', qr/invalid input syntax/ ],
		[ "split_fragment(4, NULL)", '22004', qr/at null/ ],
		[ "split_fragment(4, VARIADIC '{}')", '22023', qr/not at 0/ ],
		[ "split_fragment(NULL, '1')", '22004', qr/fragment must not be null/ ],
		[ "split_fragment(999, '1')", '42704', qr/does not exist/ ],
		[ "merge_fragments($f, $g)", '22023', qr/never one/ ],
		[ "merge_fragments($f, 3)", '55000', qr/different nodes/ ],
		[ "merge_fragments($f, $f)", '22023', qr/itself/ ],
		[ "merge_fragments(3, 999)", '42704', qr/does not exist/ ],
		[ "merge_fragments(3, NULL)", '22004', qr/other must not be null/ ])
	{
		my ($code, $message) = $c->fails(1, "SELECT fragaffinity.$bad->[0]");
		is($code, $bad->[1], "$bad->[0] is refused");
		like($message, $bad->[2], 'which says why');
	}
	is(pieces(1, 't'), $before, 'nothing was changed by that');

	my $one = $c->sql(1, 'SELECT fragaffinity.merge_fragments(3, 4)');
	is(pieces(2, 't'), "$f:-:-:n2 $g:-:-:n2 " . ($one == 3 ? '3:100:200:n3 5:50:100:n2' : '4:100:200:n3 5:50:100:n2'),
		'ranges are merged');
	$c->move($one, 'n2', 1);
	is($c->sql(3, "SELECT fragaffinity.merge_fragments($one, $f)"), $f, 'a range goes back to the rest');
	is($c->sql(2, "SELECT fragaffinity.merge_fragments($f, 5)"), $f, 'and the last one');
	is(pieces($_, 't'), "$f:-:-:n2 $g:-:-:n2", "node $_ has what it began with") for 1 .. 3;
	is(heap(2, $f) =~ s/ .*//r, $all, 'with all the rows');
	$c->rows_agree('t', 'nodes show the same rows of the merged table');
	$c->check_consistent('nothing is left of the split');
}

# While clients work: what is cut off moves, is merged, and so on.
my $load = $c->start_load(
	table => 't', anchors => $anchors, pause => 4000,
	modes => {
		1 => [qw(simple block copy reader)],
		2 => [qw(prepared block transfer rr)],
		3 => [qw(simple copy block reader)] });
my %next = (n1 => 'n2', n2 => 'n3', n3 => 'n1');
my $rest = $f;

# Keys of writers are in it, and of readers.
for my $k (0 .. 7)
{
	my $from = $k % 3 + 1;
	my $cut = $k % 2 ? "'100', '250'" : "'150', '2000000', '5000100'";
	my $numbers = $c->sql($from, "SELECT fragaffinity.split_fragment($rest, $cut)");
	my @new = $numbers =~ /(\d+)/g;

	is(scalar @new, ($k % 2 ? 1 : 2), "split $numbers on node $from");
	$c->wait_for_load($load, 5);
	my $owner = $c->owner($rest);
	for my $new (@new)
	{
		$c->move($new, $next{$owner}, $from);
		$c->wait_for_load($load, 3);
	}
	if (@new == 2)
	{
		@new = $c->sql($from, "SELECT fragaffinity.merge_fragments($new[0], $new[1])");
		ok($new[0] ne '', 'ranges merged');
	}
	# together again where the part is now
	$c->move($rest, $next{$owner}, $from);
	is($c->sql($from, "SELECT fragaffinity.merge_fragments($rest, $new[0])"), $rest, 'and merged back');
	$c->wait_for_load($load, 3);
}
$c->check_load($load, 't', 'splits and merges');
is($c->sql($_, 'SELECT count(*), sum(length(pad)), sum(twice) FROM t WHERE id BETWEEN 1001 AND 1100'),
	'100|960000|0', "long and generated values whole on node $_") for 1 .. 3;
$c->rows_agree('t', 'all nodes show the same rows');
$c->check_consistent('splits and merges leave nothing over');

# A snapshot that is older must not be answered from heaps with other rows.
{
	my $session = $c->node(2)->background_psql('postgres', on_error_stop => 0);
	$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$c->sql(1, "SELECT fragaffinity.move_fragment($rest, 'n2')") if $c->owner($rest) ne 'n2';
	my ($new) = $c->sql(2, "SELECT fragaffinity.split_fragment($rest, '100', '200')") =~ /(\d+)/;
	$session->query('SELECT count(*) FROM t WHERE id = 1 OR id > 0');
	like($session->{stderr}, qr/could not serialize access/, 'an older snapshot ends in 40001');
	$session->query('ROLLBACK');
	$session->quit;
	$c->sql(2, "SELECT fragaffinity.merge_fragments($rest, $new)");
}

# Clients wait for so long and no longer.
{
	my $before = pieces(1, 't');
	$c->sql(1, "SELECT fragaffinity.configure('split_timeout', '10ms')");
	$c->sql(2, "INSERT INTO t (id, n) SELECT i, 0 FROM generate_series(2000, 60000) i");
	my ($code, $message) = $c->fails(2, "SELECT fragaffinity.split_fragment($rest, '3000', '50000')");
	is($code, '57014', 'a split that takes too long is given up');
	like($message, qr/split_timeout/, 'which names the setting');
	is(pieces($_, 't'), $before, "node $_ has what it had") for 1 .. 3;
	$c->sql(1, "SELECT fragaffinity.configure('split_timeout', '1min'),
		fragaffinity.configure('cutover_attempts', '3')");

	my $session = $c->node(3)->background_psql('postgres');
	$session->query("BEGIN; SELECT count(*) FROM t");
	($code, $message) = $c->fails(1, "SELECT fragaffinity.split_fragment($rest, '3000', '50000')");
	is($code, '55P03', 'nor is a lock waited for without end');
	$session->query('COMMIT');
	$session->quit;
	is(pieces($_, 't'), $before, "node $_ still has what it had") for 1 .. 3;
	$c->check_consistent('nothing is left of what was given up');
}

# DDL, a node that joins, the way back.
{
	my ($new) = $c->sql(1, "SELECT fragaffinity.split_fragment($rest, '3000', '50000')") =~ /(\d+)/;
	$c->move($new, 'n1', 1);
	$c->sql(1, 'ALTER TABLE t ADD COLUMN more int DEFAULT 7; CREATE INDEX ON t (more)');
	$c->sql(2, 'CREATE ROLE other LOGIN');
	$c->sql($_, 'CREATE ROLE other LOGIN') for 1, 3, 4;
	$c->sql(3, 'ALTER TABLE t OWNER TO other; GRANT SELECT ON t TO PUBLIC');
	is($c->sql(1, "SELECT string_agg(DISTINCT pg_get_userbyid(c.relowner), ',')
		FROM pg_partition_tree('t') p JOIN pg_class c ON c.oid = p.relid"), 'other', 'all parts have the new owner');
	$c->add_node(4);
	$c->{n} = 4;
	is(pieces(4, 't'), pieces(1, 't'), 'a node that joins has the same fragments');
	is($c->rows(4, 't'), $c->rows(1, 't'), 'and the same rows');
	$c->move($new, 'n4', 4);
	is($c->rows(4, 't'), $c->rows(1, 't'), 'a part moves there');
	my $rows = $c->rows(1, 't');
	$c->sql(4, "SELECT fragaffinity.undistribute_table('t')");
	is($c->rows(4, 't'), $rows, 'all rows are in one table again');
	is($c->sql($_, "SELECT count(*) FROM pg_class WHERE relname ~ '^t_b'"), '0', "nothing is left on node $_") for 1 .. 4;
}

# Keys of other types: as text, and what a collation makes of the order.
for my $type (
	[ 'text COLLATE "C"', "'k' || i", "'k3', 'k5'", 'k3:k5' ],
	[ 'timestamptz', "'2026-01-01 00:00+00'::timestamptz + i * interval '1 hour'", "'2026-01-10 12:00+02'", '2026-01-10 10:00:00+00:-' ],
	[ 'numeric(8,2)', 'i / 2.0', "'10.001', '90'", '10.00:90.00' ],
	[ 'uuid', 'md5(i::text)::uuid', "'40000000-0000-0000-0000-000000000000', '80000000-0000-0000-0000-000000000000'",
		'40000000-0000-0000-0000-000000000000:80000000-0000-0000-0000-000000000000' ])
{
	$c->sql(1, "CREATE TABLE u (id $type->[0] PRIMARY KEY, n int);
		INSERT INTO u SELECT $type->[1], i FROM generate_series(1, 500) i;
		SELECT fragaffinity.distribute_table('u', 'id', fragments => 1, placement => 'n1')");
	my $u = $c->fragment('u');
	my $rows = $c->rows(1, 'u');
	my ($new) = $c->sql(2, "SELECT fragaffinity.split_fragment($u, $type->[2])") =~ /(\d+)/;
	like(pieces(3, 'u'), qr/ $new:\Q$type->[3]\E:n1$/, "$type->[0]: keys as every node writes them");
	$c->move($new, 'n3', 2);
	is($c->rows($_, 'u'), $rows, "$type->[0]: node $_ has the rows") for 1 .. 4;
	$c->check_consistent("$type->[0]: whole");
	$c->sql(2, "SELECT fragaffinity.undistribute_table('u'); DROP TABLE u");
}

# Reading such a key runs what somebody has written.
$c->sql($_, q{CREATE FUNCTION anything(n int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE DOMAIN checked AS int CHECK (anything(VALUE))}) for 1 .. 4;
for my $type ('checked', 'checked[]')
{
	$c->sql(1, "CREATE TABLE u (id $type PRIMARY KEY);
		SELECT fragaffinity.distribute_table('u', 'id', fragments => 1, placement => 'n1')");
	my ($code, $message) = $c->fails(1, "SELECT fragaffinity.split_fragment(" . $c->fragment('u') . ", '{1}')");
	is($code, '0A000', "key of $type");
	like($message, qr/fragments of table "u" cannot be divided by key/, 'is why');
	$c->sql(2, "SELECT fragaffinity.undistribute_table('u'); DROP TABLE u");
}

done_testing();
