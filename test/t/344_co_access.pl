# Fragments that sessions use together are found, shown, and where the setting
# says so decided about together.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('mode', 'observe');
	CREATE TABLE a (id int PRIMARY KEY, v text);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	CREATE TABLE other (id int PRIMARY KEY, v text);
	INSERT INTO a SELECT g, 'x' FROM generate_series(1, 600) g;
	INSERT INTO b SELECT g, repeat('x', 500) FROM generate_series(1, 3000) g;
	INSERT INTO other SELECT g, 'x' FROM generate_series(1, 600) g;
	SELECT fragaffinity.distribute_table('a', 'id', 6, 'n1');
	SELECT fragaffinity.distribute_table('b', 'id', 6, colocate_with => 'a');
	SELECT fragaffinity.distribute_table('other', 'id', 6, 'n1')});

# The same key of both tables, then any key of another; n times.
my $use = sub {
	my ($i, $n) = @_;
	$c->sql($i, qq{DO \$\$ DECLARE k int; o int; BEGIN FOR i IN 1 .. $n LOOP
		k := 1 + (random() * 599)::int;
		o := 1 + (random() * 599)::int;
		PERFORM v FROM a WHERE id = k;
		PERFORM v FROM b WHERE id = k;
		PERFORM v FROM other WHERE id = o;
		IF i % 50 = 0 THEN COMMIT; END IF;
		END LOOP; END \$\$});
};
$use->(2, 2000);
my $pairs = q{SELECT string_agg(fragment || '-' || other, ' ' ORDER BY fragment) FROM fragaffinity.co_access};
my @a = split /,/, $c->sql(1, q{SELECT string_agg(fragment::text, ',' ORDER BY fragment) FROM fragaffinity.fragments WHERE table_name = 'a'::regclass});
my @b = split /,/, $c->sql(1, q{SELECT string_agg(fragment::text, ',' ORDER BY fragment) FROM fragaffinity.fragments WHERE table_name = 'b'::regclass});
ok($c->poll(1, $pairs, join(' ', map { "$a[$_]-$b[$_]" } 0 .. 5)), 'what is used together is found, and nothing else')
	or diag($c->sql(1, 'TABLE fragaffinity.co_access'));
is($c->sql(1, q{SELECT bool_and(share > 0.9 AND share <= 1 AND weight BETWEEN 30 AND 2000 AND table_name = 'a'::regclass
	AND other_table = 'b'::regclass AND owner = 'n1' AND other_owner = 'n1') FROM fragaffinity.co_access}), 't', 'with its evidence');
like($c->sql(1, "SELECT detail FROM fragaffinity.explain_decision($a[0]) WHERE item = 'used together'"),
	qr/^with $b[0] of public\.b on n1: 1\.00 of the accesses to both, \d+ times of late$/, 'and in the explanation of a fragment');

# It is only shown, until it is to count.
my $parted = q{SELECT count(*) FROM fragaffinity.fragments f LEFT JOIN fragaffinity.rebalance(dry_run => true) p USING (fragment)
	JOIN fragaffinity.co_access c ON c.fragment = f.fragment JOIN fragaffinity.fragments g ON g.fragment = c.other
	LEFT JOIN fragaffinity.rebalance(dry_run => true) q ON q.fragment = g.fragment
	WHERE coalesce(p.destination, f.owner) <> coalesce(q.destination, g.owner)};
cmp_ok($c->sql(1, $parted), '>', 0, 'a plan parts them');
$c->sql(1, q{SELECT fragaffinity.configure('co_access', 'auto', 'a')});
cmp_ok($c->sql(1, $parted), '>', 0, 'also when one table alone is set to');
$c->sql(1, q{SELECT fragaffinity.configure('co_access', 'auto')});
is($c->sql(1, $parted), '0', 'they are planned for together then');
$c->sql(1, 'SELECT count(*) FROM fragaffinity.rebalance()');
ok($c->poll(1, 'SELECT coalesce(bool_and(fragments_done = fragments_total), true) FROM fragaffinity.stat_progress_rebalance'), 'moved');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.co_access WHERE owner <> other_owner'), '0', 'and are together');

# Accesses that are not beside the other's count against it.
$c->sql(1, q{DO $$ DECLARE k int; BEGIN FOR i IN 1 .. 6000 LOOP k := 1 + (random() * 2999)::int; PERFORM v FROM b WHERE id = k;
	IF i % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$});
ok($c->poll(1, $pairs, ''), 'when one is mostly used alone it is over');

# Nothing waits for the search: here it is held up by a lock on what it wants to
# remove, while decisions are made and carried out.
my $holder = $c->node(1)->background_psql('postgres', on_error_stop => 1);
my $locked = 0;
for (1 .. 50)
{
	$c->sql(1, "INSERT INTO fragaffinity.co_access_pair (fragment, other, share, weight) VALUES ($a[0], $b[1], 1, 1000)
		ON CONFLICT DO NOTHING");
	$holder->query_safe('BEGIN');
	$locked = $holder->query_safe("SELECT fragment FROM fragaffinity.co_access_pair WHERE other = $b[1] FOR UPDATE") eq $a[0];
	last if $locked;
	$holder->query_safe('ROLLBACK');
}
ok($locked, 'locked');
ok($c->poll(1, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'fragaffinity pairing'}, '1'),
	'a process of its own looks, and waits for a lock');
my $from = $c->sql(1, q{SELECT owner FROM fragaffinity.fragments ORDER BY fragment LIMIT 1});
my $left = $c->sql(1, "SELECT fragaffinity.drain_node('$from', false)");
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.fragments WHERE owner = '$from'", '0'), "$left fragments have left a node meanwhile");
is($c->sql(1, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'fragaffinity pairing'}), '1',
	'and it still waits, one process');
$c->sql(1, "SELECT fragaffinity.resume_node('$from')");
$holder->query_safe('COMMIT');
$holder->quit;

$c->sql(1, q{SELECT fragaffinity.configure('co_access', 'off'); SELECT fragaffinity.configure('co_access', 'off', 'a')});
is(($c->fails(1, $_->[0]))[0], $_->[1], $_->[0]) for
	[ q{SELECT fragaffinity.configure('co_access', 'on')}, '22023' ],
	[ q{SELECT fragaffinity.configure('co_access_share', '0.4')}, '22023' ],
	[ q{SELECT fragaffinity.configure('co_access_weight', '5', 'a')}, '22023' ];
$c->sql(1, 'CREATE ROLE nobody_special');
is(($c->fails(1, q{SET ROLE nobody_special; SELECT fragaffinity.find_co_access(0.7, 30, 1000, '{}')}))[0], '42501', 'not for everybody');
$c->check_consistent('one owner each');
done_testing();
