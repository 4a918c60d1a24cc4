# The test tools themselves, on one plain table: a load that survives a crash
# and knows what must be there, and a link that can be delayed and cut.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $c = FragAffinity->new(nodes => 1, proxy => 1, connect => 0);
$c->sql(1, 'CREATE TABLE t (id bigint PRIMARY KEY, n bigint);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) i');

my $load = $c->start_load(table => 't', anchors => 50,
	modes => { 1 => [qw(simple prepared copy block reader rr)] });
$c->wait_for_load($load, 100);
$c->kill9(1);
$c->restart(1);
$c->wait_for_load($load, 50);
$c->check_load($load, 't', 'crash of a plain server');
my $lost = 0;
$lost += $_->{stat}{lost} for @{ $load->{sessions} };
cmp_ok($lost, '>', 0, 'sessions lost their connection');

# A row that nobody acknowledged must be noticed.
$load = $c->start_load(table => 't', modes => { 1 => ['simple'] });
$c->wait_for_load($load, 20);
$c->stop_load($load);
my ($id) = sort keys %{ $load->{sessions}[0]{key} };
$c->sql(1, "UPDATE t SET n = n + 1000000 WHERE id = $id");
{
	my $report = '';
	my $builder = Test::More->builder;
	my $outer = Test::Builder->create;
	$outer->output(\$report);
	$outer->failure_output(\$report);
	local $Test::Builder::Test = $outer;
	{
		no warnings 'redefine';
		local *FragAffinity::is = sub { $outer->is_eq(@_) };
		$c->check_load($load, 't', 'damaged');
	}
	$outer->done_testing;
	like($report, qr/^not ok.*node 1 shows/m, 'check_load notices a changed row');
}

my $through = 'host=127.0.0.1 user=postgres dbname=postgres connect_timeout=2 port=' . $c->peer_port(1);
$c->link(1, 'delay', 200);
my $start = time();
run_log([ 'psql', '-X', '-d', $through, '-c', 'SELECT 1', '-c', 'SELECT 2' ]);
cmp_ok(time() - $start, '>=', 0.4, 'link delays each round trip');
$c->link(1, 'delay', 0);
$c->link(1, 'cut');
ok(!run_log([ 'psql', '-X', '-d', $through, '-c', 'SELECT 1' ]), 'cut link refuses');
$c->link(1, 'heal');
ok(run_log([ 'psql', '-X', '-d', $through, '-c', 'SELECT 1' ]), 'healed link works');
$c->link(1, 'stall');
ok(!run_log([ 'psql', '-X', '-d', $through, '-c', 'SELECT 1' ]), 'stalled link is silent');

done_testing();
