# A fragment of which another node wants a twentieth: that part, and no more,
# goes to it, and comes back when it is no longer wanted.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 20000;
my ($from, $to) = (12000, 13000);
my $c = FragAffinity->new(nodes => 3, proxy => 1);
$c->link(0, 'delay', 4);
$c->sql(1, qq{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,2,4,16');
	SELECT fragaffinity.configure('min_residency', '2s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('move_cost_factor', '0.0001');
	SELECT fragaffinity.configure('split_size', '1MB');
	SELECT fragaffinity.configure('split_timeout', '1min');
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text DEFAULT repeat('p', 200));
	INSERT INTO t SELECT g, g FROM generate_series(1, $rows) g;
	SELECT fragaffinity.distribute_table('t', 'id', 1, 'n1')});
my $f = $c->fragment('t');
my $size = $c->sql(1, "SELECT bytes FROM fragaffinity.fragments WHERE fragment = $f");

# A session that reads n rows ten times a second: nine of ten within [from, to)
# when it is hot, else anywhere.
sub start_reader
{
	my ($i, $n, $hot) = @_;
	my $key = "1 + (random() * ($rows - 1))::int";

	$key = "CASE WHEN random() < 0.9 THEN $from + (random() * ($to - 1 - $from))::int ELSE $key END" if $hot;
	return IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $c->conninfo($i) . ' application_name=reader', '-c',
			"DO \$\$ DECLARE k int; BEGIN LOOP FOR i IN 1 .. $n LOOP k := $key; PERFORM n FROM t WHERE id = k; END LOOP;
				COMMIT; PERFORM pg_sleep(0.1); END LOOP; END \$\$" ],
		'<', \undef, '>', \my $out, '2>', \my $err);
}

sub stop_readers
{
	my ($i, @run) = @_;
	$c->sql($i, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
	for my $run (@run) { eval { $run->finish }; }
	return;
}

# Own clients' accesses of node 2, and how many were remote.
sub counts
{
	return split /\|/, $c->sql(2, q{SELECT sum(calls), sum(remote_calls) FROM fragaffinity.access_stats
		WHERE node = 'n2'});
}

my $load = $c->start_load(table => 't', anchors => 100, pause => 20000, keys => 50,
	modes => { 1 => [ 'reader', 'simple', 'block' ] });
# All in all node 1 wants it most, but not that part.
my $reader = start_reader(1, 7, 0);
my $hot = start_reader(2, 6, 1);

# What is seen, while nothing is done.
ok($c->poll(2, "SELECT sum(weight) > 400 AND sum(share) FILTER (WHERE key::int >= $from AND key::int < $to) > 0.8
	AND abs(sum(share) - 1) < 1e-6 FROM fragaffinity.heat WHERE fragment = $f"), 'the keys that a node asks for are seen');
ok($c->poll(1, "SELECT share > 0.85 AND purity > 0.7 AND rows < 0.08 AND accesses > 400
		AND key_from::int BETWEEN $from - 400 AND $from + 200 AND key_to::int BETWEEN $to - 200 AND $to + 400
	FROM fragaffinity.hot_range($f, 'n2')"), 'so is the part that it wants')
  or diag($c->sql(1, "SELECT * FROM fragaffinity.hot_range($f, 'n2')"));
is($c->sql(1, "SELECT fragaffinity.hot_range($f, 'n3') IS NULL OR (fragaffinity.hot_range($f, 'n3')).rows < 0.1"),
	't', 'for a node that wants nothing there is none');
my ($code) = $c->fails(2, "SELECT fragaffinity.hot_range($f, 'n2')");
is($code, '55000', 'only the owner can tell');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.fragment'), '1', 'nothing is done in mode advise');

$c->sql(1, q{SELECT fragaffinity.configure('auto_split', 'off', 't'); SELECT fragaffinity.configure('mode', 'auto')});
my $steps = 'SELECT count(DISTINCT step) > 6 FROM fragaffinity.history WHERE step > ';
my $now = $c->sql(1, 'SELECT now()');
$c->poll(1, "$steps '$now'");
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.fragment'), '1', 'nor where it is off');

$c->sql(1, q{SELECT fragaffinity.configure('auto_split', 'on', 't')});
ok($c->poll(1, q{SELECT count(*) > 0 FROM fragaffinity.fragments WHERE owner = 'n2'}), 'the part is split off and moves')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.fragments'), $c->sql(1, 'SELECT * FROM fragaffinity.moves'));
# The move's row comes with the news, a moment after the swap itself.
my $reasons = q{FROM fragaffinity.moves m
	JOIN fragaffinity.fragments f USING (fragment) WHERE f.owner = 'n2' AND m.state = 'done'};
$c->poll(1, "SELECT count(*) > 0 $reasons");
my $reason = $c->sql(1, "SELECT m.reason $reasons ORDER BY move LIMIT 1");
like($reason, qr/keys from "\d+" to "\d+", \d+\.\d % of the rows of fragment $f, have \d+ % of this node's accesses/,
	'and the reason can be read');
is($c->owner($f), 'n1', 'the rest has stayed');

# A first part may be cut a little short, as it rests on a sample; then the
# other follows.
my $share = 0;
for (1 .. 8)
{
	my ($calls, $remote) = counts();
	$c->poll(2, "SELECT sum(calls) > $calls + 600 FROM fragaffinity.access_stats WHERE node = 'n2'");
	my ($calls2, $remote2) = counts();
	$share = 1 - ($remote2 - $remote) / ($calls2 - $calls);
	note("local share $share");
	last if $share >= 0.85;
}
cmp_ok($share, '>=', 0.85, "local share of the node afterwards: $share");
my $moved = $c->sql(1, q{SELECT sum(bytes) FROM fragaffinity.moves WHERE destination = 'n2' AND state = 'done'});
cmp_ok($moved, '<=', $size / 10, "bytes moved for that: $moved of $size");
$c->rows_agree("(SELECT * FROM t WHERE id <= $rows)", 'rows are right');

# No longer wanted: the readers of node 1 get it back, and it becomes one again.
stop_readers(2, $hot);
$c->sql(1, q{SELECT fragaffinity.configure('merge_after', '4s')});
ok($c->poll(1, 'SELECT count(*) FROM fragaffinity.fragment', '1'), 'it is united with the rest')
  or diag($c->sql(1, 'SELECT * FROM fragaffinity.fragments'), $c->sql(1, 'SELECT * FROM fragaffinity.moves'));
is($c->owner($f), 'n1', 'which is where it was');
stop_readers(1, $reader);
$c->check_load($load, 't', 'automatic split and union');
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'advise')});
is($c->sql($_, "SELECT count(*), sum(n) FROM t WHERE id <= $rows"), "$rows|" . $rows * ($rows + 1) / 2,
	"node $_ has all rows") for 1 .. 3;
$c->check_consistent('nothing is left over');

done_testing();
