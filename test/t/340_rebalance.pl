# rebalance(): every node holds its part, within capacities, by the controller's
# moves.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('mode', 'observe');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 6000) g;
	SELECT fragaffinity.distribute_table('t', 'id', 9, placement => 'n1');
	CREATE TABLE plain (i int)});
my $owners = sub { "SELECT string_agg(n::text, ',' ORDER BY owner) FROM (SELECT owner, count(*) AS n FROM fragaffinity.fragments GROUP BY 1) o" };

# What it would do.
my $plan = $c->sql(1, q{SELECT string_agg(destination || n, ',' ORDER BY destination) FROM
	(SELECT destination, count(*) AS n FROM fragaffinity.rebalance(dry_run => true)
	 WHERE source = 'n1' AND bytes > 0 GROUP BY 1) p});
is($plan, 'n23,n33', 'three for each of the others');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.planned_move'), '0', 'a dry run plans nothing');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.stat_progress_rebalance'), '0', 'no progress of nothing');

# A pinned fragment stays, a node that is being drained takes nothing.
my $pinned = $c->fragment('t', 0);
$c->sql(1, "SELECT fragaffinity.pin_fragment($pinned)");
is($c->sql(1, "SELECT count(*) FROM fragaffinity.rebalance('t', 0, true) WHERE fragment = $pinned"), '0', 'a pin holds');
$c->sql(1, "SELECT fragaffinity.pin_fragment($pinned, false)");
$c->sql(1, q{SELECT fragaffinity.drain_node('n3', false)});
is($c->sql(1, q{SELECT string_agg(DISTINCT destination, ',') FROM fragaffinity.rebalance(dry_run => true)}), 'n2',
	'a node that is being drained takes nothing');
$c->sql(1, q{SELECT fragaffinity.resume_node('n3')});

# Capacity bounds it.
my $one = $c->sql(1, 'SELECT max(bytes) FROM fragaffinity.fragments');
$c->sql(1, "SELECT fragaffinity.set_node('n2', capacity => ($one * 1.5)::bigint)");
like($c->sql(1, q{SELECT string_agg(destination || n, ',' ORDER BY destination) FROM
	(SELECT destination, count(*) AS n FROM fragaffinity.rebalance(dry_run => true) GROUP BY 1) p}),
	qr/^n21,n3[3-4]$/, 'no more than a node has room for');
$c->sql(1, q{SELECT fragaffinity.set_node('n2', capacity => 0)});

# And now.
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.rebalance()'), '6', 'six are to move');
is($c->sql(1, 'SELECT fragments_total, bytes_total > 0 FROM fragaffinity.stat_progress_rebalance'), '6|t', 'progress');
ok($c->poll(1, $owners->(), '3,3,3'), 'each node has its part') or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
ok($c->poll(1, 'SELECT fragments_done = 6 AND bytes_done = bytes_total AND last_error IS NULL FROM fragaffinity.stat_progress_rebalance'),
	'and that is told');
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.moves WHERE trigger = 'rebalance' AND state = 'done' AND reason ~ '^rebalanced from node n1 to n[23]$'}, '6'),
	'moves say why');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.rebalance()'), '0', 'again: nothing to do');

# An end before the end.
$c->sql(1, q{SELECT fragaffinity.configure('max_concurrent_moves', '0')});
$c->sql(1, "SELECT fragaffinity.move_fragment($_, 'n1') FROM fragaffinity.fragments WHERE fragment = $_") for
	split /,/, $c->sql(1, q{SELECT string_agg(fragment::text, ',') FROM fragaffinity.fragments WHERE owner <> 'n1'});
my $wanted = $c->sql(1, 'SELECT count(*) FROM fragaffinity.rebalance()');
is($wanted, '6', 'planned again');
ok($c->poll(1, q{SELECT count(*) > 0 AND bool_and(trigger = 'rebalance' AND verdict = 'too many moves') FROM fragaffinity.recommendations}),
	'held back by the limits');
is($c->sql(1, 'SELECT fragaffinity.cancel_rebalance()'), '6', 'cancelled');
$c->sql(1, q{SELECT fragaffinity.configure('max_concurrent_moves', NULL)});
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.recommendations', '0'), 'nothing is wanted any more');
is($c->sql(1, $owners->()), '9', 'and nothing has moved');

# What is refused.
is(($c->fails(1, $_->[0]))[0], $_->[1], $_->[0]) for
	[ q{SELECT * FROM fragaffinity.rebalance('plain')}, '42809' ],
	[ 'SELECT * FROM fragaffinity.rebalance(slack => -1)', '22023' ],
	[ q{SELECT * FROM fragaffinity.rebalance(slack => 'NaN')}, '22023' ];
is(($c->fails(2, 'SELECT * FROM fragaffinity.rebalance()'))[0], '55000', 'only on the coordinator');
$c->sql(1, 'CREATE ROLE nobody_special');
is(($c->fails(1, "SET ROLE nobody_special; SELECT fragaffinity.$_"))[0], '42501', "$_ is not for everybody")
	for 'rebalance()', 'cancel_rebalance()';

# Fragments that belong together move together.
$c->sql(1, q{
	CREATE TABLE a (id int PRIMARY KEY, v text);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	INSERT INTO a SELECT g, 'x' FROM generate_series(1, 600) g;
	INSERT INTO b SELECT g, repeat('x', 500) FROM generate_series(1, 3000) g;
	SELECT fragaffinity.undistribute_table('t');
	SELECT fragaffinity.distribute_table('a', 'id', 6, 'n1');
	SELECT fragaffinity.distribute_table('b', 'id', 6, colocate_with => 'a');
	SELECT fragaffinity.add_dependency('a', 'b', 0.5)});
my $apart = q{SELECT count(*) FROM fragaffinity.hint_link l
	JOIN fragaffinity.fragment f ON f.fragment = l.from_fragment
	JOIN fragaffinity.fragment s ON s.fragment = l.to_fragment WHERE f.owner <> s.owner};
my $strayed = $c->fragment('a', 2);
$c->sql(1, "SELECT fragaffinity.move_fragment($strayed, 'n3')");
is($c->sql(1, $apart), '1', 'one is apart from its like');
is($c->sql(1, q{SELECT count(*) > 4, count(*) FILTER (WHERE fragment IN (SELECT fragment FROM fragaffinity.fragments
	WHERE table_name = 'a'::regclass)) > 1 FROM fragaffinity.rebalance('b')}), 't|t', 'a plan for one takes the other along');
ok($c->poll(1, 'SELECT fragments_done = fragments_total FROM fragaffinity.stat_progress_rebalance'), 'they are moved');
is($c->sql(1, $apart), '0', 'none is apart now');
is($c->sql(1, 'SELECT count(DISTINCT owner) FROM fragaffinity.fragments'), '3', 'on all nodes');
is($c->sql(1, q{SELECT fragaffinity.drain_node('n3')}) > 0, 1, 'one is drained');
is($c->sql(1, $apart), '0', 'and they left together');
is($c->sql(1, q{SELECT count(DISTINCT owner) FROM fragaffinity.fragments}), '2', 'to both others');
$c->sql(1, q{SELECT fragaffinity.resume_node('n3')});

$c->check_consistent('one owner each');
$c->rows_agree($_, 'all nodes see the same rows') for 'a', 'b';
done_testing();
