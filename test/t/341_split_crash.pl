# kill -9 of the owner, of another node or of the coordinator at every step of a
# split and of a merge, under writers on all nodes: after the restart the
# nodes agree on what the fragments are, and every row that was acknowledged
# is in one heap.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $anchors = 120;
my $c = FragAffinity->new(nodes => 3);

# A busy machine is not what is tested.
$c->sql(1, q{SELECT fragaffinity.configure('split_timeout', '1min')});

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 50));
	CREATE INDEX ON t (n);
	INSERT INTO t (id, n) SELECT i, i FROM generate_series(1, $anchors) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n2')");
my $f = $c->fragment('t');
my $pieces = "SELECT string_agg(concat_ws(':', fragment, key_from, key_to, owner, version), ' ' ORDER BY fragment)
	FROM fragaffinity.fragment";

# Steps in their order, all of them the owner's.
my @points = qw(split_copied split_peers_locked split_locked split_rows split_reshaped
	cluster_begun cluster_prepared cluster_before_decision cluster_decided);
my %victim = (owner => 2, other => 3, coordinator => 1);

my $load = $c->start_load(
	table => 't', anchors => $anchors, pause => 10000, keys => 2000,
	modes => { 1 => [ 'block', 'reader' ], 2 => ['simple'], 3 => ['prepared'] });

# Merges what there is to merge, without a crash.
sub undo
{
	for my $other (split /\n/, $c->sql(2, "SELECT fragment FROM fragaffinity.fragments WHERE fragment <> $f"))
	{
		$c->sql(2, "SELECT fragaffinity.merge_fragments($f, $other)");
	}
	return;
}

sub one_case
{
	my ($what, $point, $who) = @_;
	my $name = "$what: $who killed at $point";
	my $sql;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	undo();
	if ($what eq 'merge')
	{
		my ($new) = $c->sql(2, "SELECT fragaffinity.split_fragment($f, '40', '2001000')") =~ /(\d+)/;
		$sql = "SELECT fragaffinity.merge_fragments($f, $new)";
	}
	else
	{
		$sql = "SELECT fragaffinity.split_fragment($f, '40', '90', '2001000')";
	}
	my $before = $c->sql(2, $pieces);
	$c->hold(2, $point);
	my $client = $c->node(2)->background_psql('postgres', on_error_stop => 0);
	$client->query_until(qr//, "SET application_name = 'divider';\n$sql;\n");
	if (!$c->wait_held(2, $point, qr/\] divider LOG: /))
	{
		fail("$name: step reached");
		$c->release(2);
		$client->quit;
		return;
	}
	$c->kill9($victim{$who});
	$c->release(2);
	$c->restart($victim{$who});
	eval { $client->quit };

	my $expected;
	ok($c->poll($_, "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'fragaffinity:%'
		AND prepared < now() - interval '1 s'", '0', "$name: prepared on node $_"), "$name: over on node $_") for 1 .. 3;
	$c->poll(2, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'divider'", '0', "$name: client gone");
	$expected = $c->sql(2, $pieces);
	is($c->poll($_, $pieces, $expected, "$name: node $_"), 1, "$name: node $_ agrees") for 1, 3;
	is($expected ne $before, 1, "$name: what was decided stays") if $point eq 'cluster_decided';
	is($expected, $before, "$name: nothing has changed") if $who eq 'owner' && $point ne 'cluster_decided';
	note("$name: $expected");
	is($c->sql($_, "SELECT count(*), count(DISTINCT id) FROM t WHERE id BETWEEN 1 AND $anchors"),
		"$anchors|$anchors", "$name: node $_ has the rows") for 1 .. 3;
	$c->check_consistent("$name: nothing left over");
	$c->wait_for_load($load, 3);
	return;
}

for my $point (@points)
{
	for my $who (qw(owner other coordinator))
	{
		one_case('split', $point, $who);
		one_case('merge', $point, $who);
	}
}
undo();
$c->check_load($load, 't', 'crashes', allow => qr/./);

# After all that it still works, without any error.
$load = $c->start_load(
	table => 't', anchors => $anchors, pause => 4000,
	modes => { 1 => [ 'block', 'reader' ], 2 => ['simple'], 3 => ['prepared'] });
for (1 .. 3)
{
	my ($new) = $c->sql(1, "SELECT fragaffinity.split_fragment($f, '20', '70')") =~ /(\d+)/;
	$c->move($new, 'n3');
	$c->move($new, 'n2');
	is($c->sql(3, "SELECT fragaffinity.merge_fragments($new, $f)"), $f, 'a plain split, and back');
}
$c->check_load($load, 't', 'afterwards');
$c->rows_agree('t', 'all nodes show the same rows');
$c->check_consistent('at the end');

done_testing();
