# A node's clock is an hour ahead: both nodes say so, once.  Rows, moves and
# transactions over nodes do not care.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

(my $clock = $INC{'FragAffinity.pm'}) =~ s{/perl/FragAffinity\.pm$}{/clock.so};
my $c = FragAffinity->new(nodes => 2);
my $said = qr/WARNING:  the clock of node/;

$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO t SELECT generate_series(1, 100);
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2)});
ok($c->poll(1, q{SELECT last_seen IS NOT NULL FROM fragaffinity.nodes WHERE name = 'n2'}), 'nodes talk');
unlike(slurp_file($_->logfile), $said, 'clocks that agree are not worth a word') for $c->nodes;

$c->stop(2);
{
	local $ENV{LD_PRELOAD} = join ':', grep { defined && length } $ENV{LD_PRELOAD}, $clock;
	local $ENV{FA_CLOCK_AHEAD} = 3600;
	$c->node(2)->start;
}
is($c->sql(2, "SELECT now() > '" . $c->sql(1, 'SELECT now()') . "'::timestamptz + interval '59 min'"), 't',
	'a clock is ahead');
ok($c->node(1)->wait_for_log(qr/WARNING:  the clock of node 2 is \d+\.\d s ahead of this node's/),
	'the other node says so');
ok($c->node(2)->wait_for_log(qr/WARNING:  the clock of node 1 is \d+\.\d s behind this node's/),
	'and so does this one');

$c->move($c->fragment('t', 0), 'n2');
$c->move($c->fragment('t', 1), 'n1');
$c->sql($_, 'BEGIN; UPDATE t SET n = n + 1; COMMIT') for 1, 2;
is($c->sql($_, 'SELECT count(*), sum(n) FROM t'), '100|200', "node $_ has the rows") for 1, 2;
my @times = slurp_file($c->node(1)->logfile) =~ /$said/g;
is(scalar @times, 1, 'it is said once');
$c->check_consistent('nothing is left over');

done_testing();
