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
		20, CASE WHEN f.i <= 2 OR f.i = 4 AND s >= a + interval '5 hours' THEN 20 ELSE 0 END, 20, 0, 20, 0
	FROM span, generate_series(a, b - interval '1 min', '1 min') s,
		(SELECT fragment, row_number() OVER (ORDER BY fragment) AS i FROM fragaffinity.fragment) f});
sub simulate
{
	my ($settings) = @_;
	my %row;
	for (split /\n/, $c->sql(1, "SELECT s.* FROM span, fragaffinity.simulate(a, b, '$settings') s"))
	{
		my ($variant, @v) = split /\|/;
		$row{$variant} = \@v;
	}
	return \%row;
}
my $before = $c->sql(1, 'SELECT string_agg(format($$%s %s$$, fragment, owner), $$,$$ ORDER BY fragment) FROM fragaffinity.fragments');
my $r = simulate('{"reactive": "on"}');
is($r->{$_}[0], '48000', "$_: all accesses") for qw(recorded unmoved simulated);
is($r->{$_}[1], '0.625', "$_: remote share") for qw(recorded unmoved);
cmp_ok($r->{simulated}[1], '<', 0.1, 'moves would have brought the fragments near');
cmp_ok($r->{simulated}[2], '>=', 3, 'three fragments move');
cmp_ok($r->{simulated}[2], '<=', 6, 'and do not go to and fro');
cmp_ok($r->{simulated}[3], '>', 0, 'what moves has a size');
is("$r->{recorded}[2] $r->{unmoved}[2]", '0 0', 'nothing has moved');
is_deeply(simulate('{"reactive": "on"}'), $r, 'the same again');

is_deeply([ @{ simulate('{"move_cost": "20h"}')->{simulated} }[ 1, 2 ] ], [ '0.625', '0' ], 'moves that do not pay are not made');
cmp_ok(simulate('{"max_moves_per_hour": 1}')->{simulated}[1], '>', $r->{simulated}[1], 'a tighter budget leaves more remote');

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
	[ q{now() - interval '1 h', now(), '[1]'}, qr/must be a JSON object/ ])
{
	like(($c->fails(1, "SELECT * FROM fragaffinity.simulate($_->[0])"))[1], $_->[1], $_->[0]);
}
like(($c->fails(2, q{SELECT * FROM fragaffinity.simulate(now() - interval '1 h', now())}))[1],
	qr/Call simulate on node "n1"/, 'elsewhere refused');
is($c->sql(1, q{SELECT string_agg(variant, ',') FROM fragaffinity.simulate('2001-01-01', '2001-01-02')
	WHERE accesses = 0 AND remote_share IS NULL}), 'recorded,unmoved,simulated', 'no history: nothing to say');

done_testing();
