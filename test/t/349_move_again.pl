# A move that the controller has asked for and that fails among its pages is asked
# for again, until it succeeds.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	CREATE TABLE t (k int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2, placement => 'n2');
	SELECT fragaffinity.configure('move_path', 'page')});
$c->sql(2, "ALTER SYSTEM SET fragaffinity.transport_faults = 'fail=2'");
$c->sql(1, "ALTER SYSTEM SET fragaffinity.transport_faults = 'fail=2'");
$c->sql($_, 'SELECT pg_reload_conf()') for 1, 2;
$c->poll($_, 'SHOW fragaffinity.transport_faults', 'fail=2') for 1, 2;
$c->sql(1, q{SELECT fragaffinity.drain_node('n2', wait => false)});
ok($c->poll(1, q{SELECT count(*) >= 2 FROM fragaffinity.moves WHERE state = 'failed'}), 'moves of a drain fail');
like($c->sql(1, q{SELECT error FROM fragaffinity.moves WHERE state = 'failed' LIMIT 1}), qr{as "transport_faults" says}, 'by the fault');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n2'}), '2', 'and their fragments stay');
$c->check_consistent('nothing is left of them');
$c->sql($_, 'ALTER SYSTEM RESET fragaffinity.transport_faults') for 1, 2;
$c->sql($_, 'SELECT pg_reload_conf()') for 1, 2;
ok($c->poll(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE owner = 'n2'}, '0'), 'they move when the fault is mended');
$c->check_consistent('and are whole');
is($c->sql(2, 'SELECT count(*), sum(length(v)) FROM t'), '2000|1000000', 'with all rows');
done_testing();
