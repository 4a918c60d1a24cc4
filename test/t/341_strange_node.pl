# At a node's address there is another database: one of no cluster, or the node
# of the same number in another cluster.  It counts as down, and what it says
# of its fragments, which have the same numbers, is not believed.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $other = FragAffinity->new(nodes => 2, prefix => 'other');
my $setup = q{
	CREATE TABLE t (id int PRIMARY KEY);
	INSERT INTO t SELECT generate_series(1, 100);
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 2, placement => 'n1')};
my $state = q{SELECT state FROM fragaffinity.nodes WHERE name = 'n2'};

$_->sql(1, $setup) for $c, $other;
my ($f, $g) = map { $c->fragment('t', $_) } 0, 1;
# there, the second node owns a later version of what the first has here
is($other->fragment('t'), $f, 'fragments have the same numbers');
$other->move($f, 'n2');

sub exchange
{
	$c->stop(2);
	$other->stop(2);
	my $node = $other->node(2);
	$node->append_conf('postgresql.conf', 'port = ' . $c->node(2)->port);
	$node->{_port} = $c->node(2)->port;
	$node->start;
	return;
}

my $from = -s $c->node(1)->logfile;
exchange();
ok($c->node(1)->wait_for_log(qr/LOG:  the address of node 2 leads to another database/, $from),
	'the node of another cluster is noticed');
is($c->sql(1, $state), 'down', 'and counts as down');
is($c->sql(1, 'SELECT string_agg(owner || version, \' \' ORDER BY fragment) FROM fragaffinity.fragments'),
	'n11 n11', 'its fragments are not taken for those of the node');
is($c->sql(1, 'SELECT count(*) FROM t'), '100', 'and the rows are where they were');

$other->sql(2, 'SELECT fragaffinity.leave_cluster(force => true)');
is($c->sql(1, $state), 'down', 'a database of no cluster is down, too');

$other->stop(2);
$c->node(2)->start;
ok($c->poll(1, $state, 'active'), 'the node comes back');
$c->move($g, 'n2');
is($c->sql(2, 'SELECT count(*) FROM t'), '100', 'and takes part');

done_testing();
