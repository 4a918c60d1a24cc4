# Moves over "rdma" between two servers of the guest: there and back.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nfragaffinity.rdma_address = '10.99.0.1'\n");

$c->sql(1, q{
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
	CREATE INDEX ON t (n);
	INSERT INTO t SELECT i, i, repeat('x', 300) FROM generate_series(1, 5000) i;
	SELECT fragaffinity.configure('transports', 'rdma');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1')});
my $f = $c->fragment('t');
my $before = $c->rows(1, 't');
$c->move($f, 'n2');
is($c->sql(1, 'SELECT path, transport, transport_reason FROM fragaffinity.moves ORDER BY move DESC LIMIT 1'),
	'page|rdma|', 'moved over rdma');
is($c->rows(2, 't'), $before, 'with all rows');
$c->move($f, 'n1');
is($c->rows(2, 't'), $before, 'and back');
note($c->sql(1, 'SELECT move, transport, transport_reason, bytes, rounds, pause_ms, finished - started FROM fragaffinity.moves'));
$c->check_consistent('nothing is left over');
done_testing();
