# simulate(): recorded history against other settings.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	SELECT fragaffinity.configure('mode', 'observe');
	CREATE TABLE t (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('t', 'id', 4, placement => 'n1');
	INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g});

# Ten hours of one-minute steps: two fragments are used on n2 alone, one on n1,
# one first here and then there.
$c->sql(1, q{
	CREATE TABLE span AS SELECT date_trunc('minute', now()) - interval '11 hours' AS a,
		date_trunc('minute', now()) - interval '1 hour' AS b;
	INSERT INTO fragaffinity.history_step SELECT s, n FROM span, generate_series(a, b - interval '1 min', '1 min') s,
		generate_series(1, 2) n ON CONFLICT DO NOTHING;
	INSERT INTO fragaffinity.history
	SELECT s, '1 min', CASE WHEN f.i <= 2 OR f.i = 4 AND s >= a + interval '5 hours' THEN 2 ELSE 1 END, f.fragment,
		20, CASE WHEN f.i <= 2 OR f.i = 4 AND s >= a + interval '5 hours' THEN 20 ELSE 0 END, 20, 0,
		CASE WHEN f.i <= 2 OR f.i = 4 AND s >= a + interval '5 hours' THEN 100 ELSE 20 END,
		CASE WHEN f.i <= 2 OR f.i = 4 AND s >= a + interval '5 hours' THEN 100 ELSE 0 END
	FROM span, generate_series(a, b - interval '1 min', '1 min') s,
		(SELECT fragment, row_number() OVER (ORDER BY fragment) AS i FROM fragaffinity.fragment) f});
# By variant and table ('' for all): accesses, remote_share, moves, bytes, expected_ms, cost_ms.
sub simulate
{
	my ($settings, $before) = @_;
	my %row;
	$before //= '';
	for (split /\n/, $c->sql(1, "BEGIN; $before; SELECT s.* FROM span, fragaffinity.simulate(a, b, '$settings') s; ROLLBACK"))
	{
		my ($variant, $table, @v) = split /\|/;
		$row{$variant}{$table} = \@v;
	}
	return \%row;
}
my $before = $c->sql(1, 'SELECT string_agg(format($$%s %s$$, fragment, owner), $$,$$ ORDER BY fragment) FROM fragaffinity.fragments');
my @all = qw(recorded never reactive simulated optimum);
my $r = simulate('{"reactive": "on"}');
is_deeply([ sort keys %$r ], [ sort @all ], 'five variants');
is_deeply($r->{$_}{t}, $r->{$_}{''}, "$_: one table is all") for @all;
$_ = $_->{''} for values %$r;
is($r->{$_}[0], '48000', "$_: all accesses") for @all;
is($r->{$_}[1], '0.625', "$_: remote share") for qw(recorded never);
cmp_ok($r->{simulated}[1], '<', 0.1, 'moves would have brought the fragments near');
cmp_ok($r->{simulated}[2], '>=', 3, 'three fragments move');
cmp_ok($r->{simulated}[2], '<=', 6, 'and do not go to and fro');
cmp_ok($r->{simulated}[3], '>', 0, 'what moves has a size');
is("$r->{recorded}[2] $r->{never}[2]", '0 0', 'nothing has moved');
is(join(' ', @{ $r->{optimum} }[ 1, 2 ]), '0 3', 'in hindsight three moves are enough for everything');
cmp_ok($r->{reactive}[1], '>', 0, 'after the fact is late');
cmp_ok($r->{reactive}[1], '<', 0.1, 'but not in vain');
is($r->{reactive}[2], '3', 'three moves');
# 18000 local accesses took a millisecond each, 30000 remote ones five
is(join(' ', @{ $r->{recorded} }[ 4, 5 ]), '3.5 120000', 'what clients waited');
is($r->{optimum}[4], '1', 'and would have, were all local');
my @cost = map { $r->{$_}[5] } qw(never reactive optimum);
ok($cost[0] > $cost[1] && $cost[1] > $cost[2] && $cost[2] > 0, "costs: @cost");
cmp_ok($r->{simulated}[5], '>=', $cost[2], 'nothing is cheaper than the optimum');
# What depends on the round trip, which is measured anew, is left out.
my $again = simulate('{"reactive": "on"}');
is_deeply([ @{ $again->{$_}{''} }[ 0 .. 3 ] ], [ @{ $r->{$_} }[ 0 .. 3 ] ], "$_: the same again")
	for qw(recorded never optimum);

my $dear = simulate('{"move_cost": "20h"}');
is(join(' ', @{ $dear->{$_}{''} }[ 1, 2 ]), '0.625 0', "$_: moves that do not pay are not made")
	for qw(reactive simulated optimum);
cmp_ok(simulate('{"max_moves_per_hour": 1}')->{simulated}{''}[1], '>', $r->{simulated}[1], 'a tighter budget leaves more remote');
my $blind = simulate('{"predictive": "off"}');
is_deeply($blind->{simulated}, $blind->{reactive},
	'without forecasts, what is left is reactive');

# Several at once.
my $many = simulate('[{"migration_threshold": 0.2}, {"move_cost": "20h"}, {"max_moves_per_hour": 1}]');
is_deeply([ sort keys %$many ], [ sort qw(never optimum reactive recorded), '{"max_moves_per_hour": 1}',
	'{"migration_threshold": 0.2}', '{"move_cost": "20h"}' ], 'a variant for each');
is(join(' ', @{ $many->{'{"move_cost": "20h"}'}{''} }[ 0 .. 3 ]), '48000 0.625 0 0', 'one by its settings');
cmp_ok($many->{'{"migration_threshold": 0.2}'}{''}[1], '<', 0.1, 'another by its own');
cmp_ok($many->{'{"max_moves_per_hour": 1}'}{''}[1], '>', $many->{'{"migration_threshold": 0.2}'}{''}[1], 'and the third');

# Fragments that belong together move together: of these two, each is wanted on
# another node, and one much more.
$c->sql(1, q{
	CREATE TABLE u (id int PRIMARY KEY, v text);
	CREATE TABLE w (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('u', 'id', 1, placement => 'n1');
	SELECT fragaffinity.distribute_table('w', 'id', 1, colocate_with => 'u');
	INSERT INTO u SELECT g, 'x' FROM generate_series(1, 100) g;
	INSERT INTO fragaffinity.history
	SELECT s, '1 min', CASE f.table_name WHEN 'u'::regclass THEN 2 ELSE 1 END, f.fragment,
		n, CASE f.table_name WHEN 'u'::regclass THEN n ELSE 0 END, n, 0, n, 0
	FROM span, generate_series(a, b - interval '1 min', '1 min') s, fragaffinity.fragments f,
		LATERAL (SELECT CASE f.table_name WHEN 'u'::regclass THEN 60 ELSE 20 END AS n) c
	WHERE f.table_name IN ('u'::regclass, 'w'::regclass)});
my $apart = simulate('{}');
is(join(' ', $apart->{simulated}{u}[2], $apart->{simulated}{w}[2]), '1 0', 'alone, one moves');
$c->sql(1, q{SELECT fragaffinity.add_dependency('u', 'w', 0.01)});
my $together = simulate('{}');
is(join(' ', $together->{$_}{u}[2], $together->{$_}{w}[2]), '1 1', "$_: together, both do") for qw(simulated reactive);
is(join(' ', $together->{optimum}{u}[2], $together->{optimum}{w}[2]), '1 0', 'the optimum is of each alone');
$c->sql(1, q{SELECT fragaffinity.drop_dependency('u', 'w')});
my $found = simulate('[{"co_access": "observe"}, {"co_access": "auto"}]', q{INSERT INTO fragaffinity.co_access_pair (fragment, other, share, weight)
	SELECT u.fragment, w.fragment, 1, 1000 FROM fragaffinity.fragments u, fragaffinity.fragments w
	WHERE u.table_name = 'u'::regclass AND w.table_name = 'w'::regclass});
is(join(' ', map { $found->{qq({"co_access": "$_"})}{w}[2] } qw(observe auto)), '0 1', 'found pairs, where they count');
$c->sql(1, q{SELECT fragaffinity.undistribute_table('u'); SELECT fragaffinity.undistribute_table('w')});

is($c->sql(1, 'SELECT count(*) FROM fragaffinity.settings WHERE changed AND name <> $$mode$$'), '0', 'settings are as before');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.moves'), '0', 'no move was made');
is($c->sql(1, 'SELECT string_agg(format($$%s %s$$, fragment, owner), $$,$$ ORDER BY fragment) FROM fragaffinity.fragments'), $before, 'owners are as before');

for (
	[ q{now(), now() - interval '1 h'}, qr/needs a start before its end/ ],
	[ q{now(), now() + interval '1 h'}, qr/both in the past/ ],
	[ q{'-infinity', now()}, qr/needs a start/ ],
	[ q{now() - interval '1 h', now(), '{"history_interval": "1s"}'}, qr/"history_interval" cannot be simulated/ ],
	[ q{now() - interval '1 h', now(), '{"nonsense": 1}'}, qr/"nonsense" cannot be simulated/ ],
	[ q{now() - interval '1 h', now(), '{"doubt": null}'}, qr/"doubt" needs a value/ ],
	[ q{now() - interval '1 h', now(), '{"migration_threshold": "much"}'}, qr/migration_threshold/ ],
	[ q{now() - interval '1 h', now(), '[1]'}, qr/must be a JSON object/ ],
	[ q{now() - interval '1 h', now(), '[]'}, qr/must be a JSON object/ ],
	[ q{now() - interval '1 h', now(), '[{}, 1]'}, qr/must be a JSON object/ ],
	[ q{now() - interval '1 h', now(), '1'}, qr/must be a JSON object/ ],
	[ q{now() - interval '1 h', now(), '[{}, {"prediction_horizons": "3"}]'}, qr/must have the same prediction_horizons/ ],
	[ q{now() - interval '1 h', now(), '[{}, {"nonsense": 1}]'}, qr/"nonsense" cannot be simulated/ ])
{
	like(($c->fails(1, "SELECT * FROM fragaffinity.simulate($_->[0])"))[1], $_->[1], $_->[0]);
}
{
	my $out = '';
	$c->node(1)->psql('postgres', q{SELECT * FROM fragaffinity.simulate(now() - interval '1 h', now(), '{"nope": 1}');
		SELECT 'the session goes on'}, stdout => \$out, on_error_stop => 0);
	is($out, 'the session goes on', 'an error ends the statement, and no more');
}
like(($c->fails(2, q{SELECT * FROM fragaffinity.simulate(now() - interval '1 h', now())}))[1],
	qr/Call simulate on node "n1"/, 'elsewhere refused');
is($c->sql(1, q{SELECT string_agg(variant, ',') FROM fragaffinity.simulate('2001-01-01', '2001-01-02')
	WHERE accesses = 0 AND remote_share IS NULL AND expected_ms IS NULL AND table_name IS NULL}),
	join(',', @all), 'no history: nothing to say');

done_testing();
