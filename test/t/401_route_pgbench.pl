# pgbench's own tables, distributed: its scripts run unchanged through every
# node while fragments move, and the balances add up.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my $scale = 4;

command_ok([ 'pgbench', '-i', '-q', '-s', $scale, '-h', '127.0.0.1', '-p', $c->node(1)->port, '-U', 'postgres', 'postgres' ],
	'pgbench -i');
$c->sql(1, q{
	SELECT fragaffinity.distribute_table('pgbench_branches', 'bid', fragments => 3);
	SELECT fragaffinity.distribute_table('pgbench_tellers', 'tid', fragments => 3);
	SELECT fragaffinity.distribute_table('pgbench_accounts', 'aid', fragments => 6);
	SELECT fragaffinity.distribute_table('pgbench_history', 'aid', fragments => 3)})
  if $c->sql(1, q{ALTER TABLE pgbench_history ALTER aid SET NOT NULL; SELECT true}) eq 't';

sub bench
{
	my ($i, $protocol, @how) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ 'pgbench', '-n', @how, '-M', $protocol, '-t', 40, '-c', 2, '-h', '127.0.0.1', '-p', $c->node($i)->port,
			'-U', 'postgres', '-s', $scale, '--max-tries', 20, 'postgres' ],
		'>', \$out, '2>', \$err);
	my ($done) = $out =~ /actually processed: (\d+)/;
	return ($ok && $done == 80 && $err !~ /error|abort/i) ? '' : "node $i, $protocol, @how: $out$err";
}

# Each protocol and script through each node.
my @failed = grep { $_ ne '' } map {
	my $i = $_;
	map { my $p = $_; (bench($i, $p, '-S'), bench($i, $p, '-N')) } qw(simple extended prepared)
} 1 .. 3;
is(join("\n", @failed), '', 'select-only and simple-update through every node, in every protocol');

# TPC-B-like from all nodes at once, with moves.
my @runs;
for my $i (1 .. 3)
{
	my $out = "$PostgreSQL::Test::Utils::tmp_check/pgbench_$i";
	push @runs, [ $i, $out, IPC::Run::start(
		[ 'pgbench', '-n', '-M', (qw(simple extended prepared))[ $i - 1 ], '-T', 15, '-c', 2, '-h', '127.0.0.1',
			'-p', $c->node($i)->port, '-U', 'postgres', '-s', $scale, 'postgres' ],
		'>', $out, '2>&1') ];
}
my $moves = 0;
for my $round (1 .. 2)
{
	for my $table (qw(pgbench_accounts pgbench_branches pgbench_tellers))
	{
		for my $offset (0, 1)
		{
			my $f = $c->fragment($table, $offset);
			my ($to) = grep { $c->owner($f) ne $_ } ('n' . (1 + ($round + $offset) % 3), 'n1', 'n2');
			$c->move($f, $to);
			$moves++;
		}
	}
}
my $transactions = 0;
for my $run (@runs)
{
	my ($i, $out, $process) = @$run;
	$process->finish;
	my $text = slurp_file($out);
	my ($done) = $text =~ /actually processed: (\d+)/;
	ok($process->result == 0 && $text !~ /error|abort/i, "TPC-B-like through node $i during moves")
	  or diag($text);
	$transactions += $done // 0;
}
cmp_ok($transactions, '>', 50, "$transactions transactions, $moves moves");

my ($history) = $c->sql(1, 'SELECT count(*) FROM pgbench_history');
is($history, $transactions + 3 * 3 * 80, 'history has a row for each');
is($c->sql($_, q{SELECT (SELECT sum(delta) FROM pgbench_history) = (SELECT sum(abalance) FROM pgbench_accounts)}),
	't', "accounts add up, seen from node $_") for 1 .. 3;
is($c->sql(1, sprintf(q{SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers)})),
	't', 'branches and tellers agree');
$c->check_consistent('nothing is left over');
done_testing();
