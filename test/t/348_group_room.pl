# A group for which there is room is not parted by what would come in between:
# moves are made one by one, the smallest first.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('mode', 'observe');
	SELECT fragaffinity.configure('max_concurrent_moves', '1');
	CREATE TABLE small (id int PRIMARY KEY, v text);
	CREATE TABLE large (id int PRIMARY KEY, v text);
	CREATE TABLE alone (id int PRIMARY KEY, v text);
	INSERT INTO small SELECT g, 'x' FROM generate_series(1, 10) g;
	INSERT INTO large SELECT g, repeat('x', 500) FROM generate_series(1, 6000) g;
	INSERT INTO alone SELECT g, repeat('x', 500) FROM generate_series(1, 3000) g;
	SELECT fragaffinity.distribute_table('small', 'id', 1, 'n3');
	SELECT fragaffinity.distribute_table('large', 'id', 1, colocate_with => 'small');
	SELECT fragaffinity.distribute_table('alone', 'id', 1, 'n3');
	SELECT fragaffinity.add_dependency('small', 'large', 0.5)});
my %size;
$c->poll(1, q{SELECT count(*) FROM fragaffinity.fragments WHERE bytes > 0}, '3');
$size{$_} = $c->sql(1, "SELECT bytes FROM fragaffinity.fragments WHERE table_name = '$_'::regclass") for qw(small large alone);
# the group has room on n2 only, what is alone on n1, too, though less
my $spare = int($size{alone} / 2);
my $n2 = $size{small} + $size{large} + $spare;
my $n1 = $size{alone} + $spare;
cmp_ok($n1, '<', $size{large}, "sizes: $size{small}, $size{large}, $size{alone}");
$c->sql(1, "SELECT fragaffinity.set_node('n1', capacity => $n1), fragaffinity.set_node('n2', capacity => $n2)");
$c->sql(1, q{SELECT fragaffinity.drain_node('n3', false)});
ok($c->poll(1, q{SELECT string_agg(table_name || ':' || owner, ' ' ORDER BY fragment) FROM fragaffinity.fragments}, 'small:n2 large:n2 alone:n1'), 'the group has come together, the other has made way')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'), $c->sql(1, 'TABLE fragaffinity.move'));
$c->check_consistent('one owner each');

done_testing();
