# Twenty moves of fragments while clients of all three nodes write and read
# with simple and prepared statements, COPY and transaction blocks, as an
# ordinary role.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $moves = 20;
my $anchors = 300;
my $c = FragAffinity->new(nodes => 3);

$c->sql($_, 'CREATE ROLE app LOGIN') for 1 .. 3;
$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 100),
		made timestamptz DEFAULT now());
	CREATE INDEX ON t (n);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, $anchors) i;
	INSERT INTO t (id, n, pad) SELECT i, 0, repeat(md5(i::text), 300) FROM generate_series(1001, 1100) i;
	GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 6)");

my $load = $c->start_load(
	table => 't', user => 'app', anchors => $anchors, pause => 4000,
	modes => {
		1 => [qw(simple block copy reader)],
		2 => [qw(prepared block rr)],
		3 => [qw(simple copy block reader)] });

my @fragments = split /\n/, $c->sql(1, "SELECT fragment FROM fragaffinity.fragments
	WHERE table_name = 't'::regclass ORDER BY fragment");
is(scalar @fragments, 6, 'six fragments');
my %next = (n1 => 'n2', n2 => 'n3', n3 => 'n1');
my $moved = 0;
for my $k (0 .. $moves - 1)
{
	my $fragment = $fragments[ $k % 6 ];
	my $to = $next{ $c->owner($fragment) };

	$c->move($fragment, $to, $k % 3 + 1);
	$moved++ if $c->owner($fragment, $k % 3 + 1) eq $to;
	$c->wait_for_load($load, 5);
}
is($moved, $moves, "$moves moves, each to where it was told");
is($c->sql(1, "SELECT count(*) FROM fragaffinity.moves WHERE state = 'done'"), $moves, 'view moves has them');
note($c->sql(1, "SELECT 'pause ms: median ' || percentile_disc(0.5) WITHIN GROUP (ORDER BY pause_ms)
	|| ', max ' || max(pause_ms) || '; move ms: median '
	|| percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished - started) * 1000)
	FROM fragaffinity.moves WHERE state = 'done'"));
is($c->sql(1, "SELECT count(*) FROM fragaffinity.moves WHERE state = 'done'
	AND (bytes IS NULL OR pause_ms IS NULL OR finished < started OR source = destination)"),
	'0', 'and what they took');
$c->wait_for_load($load, 50);
$c->check_load($load, 't', 'twenty moves');
is($c->sql($_, 'SELECT count(*), sum(length(pad)) FROM t WHERE id BETWEEN 1001 AND 1100'),
	'100|960000', "long values whole on node $_") for 1 .. 3;
$c->rows_agree('t', 'all nodes show the same rows');
$c->check_consistent('twenty moves leave nothing over');

# Two at a time, both ways, of different fragments.
$load = $c->start_load(
	table => 't', user => 'app', anchors => $anchors, pause => 4000,
	modes => { 1 => ['simple'], 2 => [ 'block', 'reader' ], 3 => ['prepared'] });
for my $round (1 .. 3)
{
	my @ids = map {
		my $f = $fragments[$_];
		$c->sql(1, "SELECT fragaffinity.move_fragment($f, '" . $next{ $c->owner($f) } . "', wait => false)")
	} 0 .. 3;
	my $ids = join ',', @ids;
	ok($c->poll(1, "SELECT count(*) FROM fragaffinity.moves WHERE move IN ($ids) AND state = 'done'", '4'),
		"four moves at once, round $round")
	  or diag($c->sql(1, "SELECT * FROM fragaffinity.moves WHERE move IN ($ids)"));
}
$c->check_load($load, 't', 'moves at once');
$c->rows_agree('t', 'all nodes show the same rows again');
$c->check_consistent('moves at once leave nothing over');

done_testing();
