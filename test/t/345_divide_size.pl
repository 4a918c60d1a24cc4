# Fragments that are too large are divided, and parts that need not be apart
# united; and what would be, while it may not.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $rows = 20000;
my $c = FragAffinity->new(nodes => 2);
$c->sql(1, qq{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('min_residency', '1s');
	SELECT fragaffinity.configure('split_timeout', '1min');
	SELECT fragaffinity.configure('fragment_size', '1MB');
	CREATE TABLE t (id bigint PRIMARY KEY, pad text DEFAULT repeat('p', 200));
	INSERT INTO t SELECT g FROM generate_series(1, $rows) g;
	CREATE TABLE small (id bigint PRIMARY KEY);
	SELECT fragaffinity.distribute_table('t', 'id', 1, 'n1');
	SELECT fragaffinity.distribute_table('small', 'id', 1, 'n1')});
my $f = $c->fragment('t');

# How many rows the fragments of the table have, from n1's leaves.
sub most_rows
{
	my @leaves = split /,/, $c->sql(1, q{SELECT string_agg(leaf::text, ',') FROM fragaffinity.fragments WHERE table_name = 't'::regclass});
	my @n = sort { $b <=> $a } map { $c->sql(1, "SELECT count(*) FROM $_") } @leaves;
	return (scalar @n, $n[0]);
}

my $told = q{SELECT string_agg(fragment || ' ' || trigger || ' ' || verdict, ',') FROM fragaffinity.recommendations};
is($c->sql(1, q{SELECT value FROM fragaffinity.settings WHERE name = 'divide_above' AND table_name IS NULL}), '0', 'not by default');
$c->sql(1, q{SELECT fragaffinity.configure('divide_above', '2')});
ok($c->poll(1, $told, "$f split split"), 'in mode advise it is told');
like($c->sql(1, "SELECT detail FROM fragaffinity.explain_decision($f) WHERE item = 'split'"),
	qr/^split: \d MB on disk, \d\.\d times fragment_size; the last \d\d % of its rows would be a fragment \(/, 'and explained');
$c->sql(1, q{SELECT fragaffinity.configure('auto_split', 'off', 't')});
ok($c->poll(1, $told, "$f split switched off"), 'also that it is switched off');
$c->sql(1, q{SELECT fragaffinity.configure('auto_split', NULL, 't'); SELECT fragaffinity.configure('mode', 'observe')});
ok($c->poll(1, $told, ''), 'in mode observe it is not');
$c->sql(1, qq{SELECT fragaffinity.configure('mode', 'auto'); SELECT fragaffinity.pin_fragment($f)});
ok($c->poll(1, $told, "$f split pinned"), 'a pin holds it');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.fragment'), '2', 'nothing is divided so far');

$c->sql(1, "SELECT fragaffinity.pin_fragment($f, false)");
ok($c->poll(1, 'SELECT count(*) > 4 FROM fragaffinity.fragments WHERE table_name = $$t$$::regclass'), 'then it is divided')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
my ($n, $most);
for (1 .. 60)
{
	($n, $most) = most_rows();
	last if $most < $rows / 2;
	$c->poll(1, "SELECT count(*) > $n FROM fragaffinity.fragments WHERE table_name = 't'::regclass");
}
cmp_ok($most, '<', $rows / 2, "into $n parts, of which none is large: $most");
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE table_name = 'small'::regclass}), '1', 'what is small is not');
is($c->sql(1, "SELECT count(*), sum(id) FROM t"), "$rows|" . $rows * ($rows + 1) / 2, 'all rows are there');

# Its files are as large as before, but not its rows: it is left alone now.
my $steps = q{SELECT count(DISTINCT step) > 8 FROM fragaffinity.history_step WHERE step > };
my $now = $c->sql(1, 'SELECT now()');
$c->poll(1, "$steps '$now'");
cmp_ok((most_rows())[0], '<=', 7, 'and that is it');

# Neighbours that nobody else uses are one again, when that is not too large.
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'advise');
	SELECT fragaffinity.configure('divide_above', '8');
	SELECT fragaffinity.configure('merge_after', '1s')});
$c->sql(1, q{SELECT fragaffinity.configure('fragment_size', '4MB')});
ok($c->poll(1, q{SELECT count(*) > 2 AND bool_and(verdict = 'merge' AND source = 'n1') FROM fragaffinity.recommendations WHERE trigger = 'merge'}),
	'a union is told, too') or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'auto')});
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.fragments', '2'), 'and done')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
is($c->sql(2, "SELECT count(*), sum(id) FROM t"), "$rows|" . $rows * ($rows + 1) / 2, 'all rows are there');
is(($c->fails(1, "SELECT fragaffinity.configure('divide_above', '-1')"))[0], '22023', 'not below 0');
$c->check_consistent('nothing is left over');
done_testing();
