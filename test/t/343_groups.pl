# Fragments of tables that are used together are decided about together.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, proxy => 1);
$c->link(0, 'delay', 4);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,2,4,16');
	SELECT fragaffinity.configure('min_residency', '2s');
	SELECT fragaffinity.configure('move_cost', '1ms');
	SELECT fragaffinity.configure('move_cost_factor', '0.0001');
	SELECT fragaffinity.configure('benefit_learning', 'off');
	CREATE TABLE a (id int PRIMARY KEY, v text);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	INSERT INTO a SELECT g, 'x' FROM generate_series(1, 100) g;
	INSERT INTO b SELECT g, repeat('x', 1000) FROM generate_series(1, 100) g;
	SELECT fragaffinity.distribute_table('a', 'id', 2, 'n1');
	SELECT fragaffinity.distribute_table('b', 'id', 2, colocate_with => 'a');
	SELECT fragaffinity.configure('mode', 'auto')});

my $errors = PostgreSQL::Test::Utils::tempdir() . '/errors';

# n reads of a table ten times a second.
sub start_reader
{
	my ($i, $table, $n) = @_;
	open my $err, '>>', $errors or die "$errors: $!";
	return IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $c->conninfo($i) . ' application_name=reader', '-c',
			"DO \$\$ BEGIN LOOP FOR i IN 1 .. $n LOOP PERFORM v FROM $table WHERE id = 1 + (random() * 99)::int; END LOOP;
				COMMIT; PERFORM pg_sleep(0.1); END LOOP; END \$\$" ],
		'<', \undef, '>', \my $out, '2>', $err);
}

sub stop_readers
{
	my ($i, @run) = @_;
	$c->sql($i, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
	for my $run (@run) { eval { $run->finish }; }
	return;
}

# Why fragments may not be where they should.
sub show_why
{
	diag(slurp_file($errors), $c->sql(1, 'TABLE fragaffinity.recommendations'), $c->sql(1, 'TABLE fragaffinity.move'));
	return;
}

my $owners = q{SELECT string_agg(table_name || ':' || owner, ' ' ORDER BY fragment) FROM fragaffinity.fragments};

# Alone, each goes where it is used most.
my $b = start_reader(1, 'b', 3);
my $a = start_reader(2, 'a', 8);
ok($c->poll(1, $owners, 'a:n2 a:n2 b:n1 b:n1'), 'each for itself') or show_why();

# Together, where both are used most: hardly believed, so that it is not the hint
# that draws.
$c->sql(1, q{SELECT fragaffinity.add_dependency('a', 'b', 0.01)});
ok($c->poll(1, $owners, 'a:n2 a:n2 b:n2 b:n2'), 'both where their sum is') or show_why();

# The demand turns, and both go.
stop_readers(2, $a);
ok($c->poll(1, $owners, 'a:n1 a:n1 b:n1 b:n1'), 'both where they are still used') or show_why();

# And apart again.
$c->sql(1, q{SELECT fragaffinity.drop_dependency('a', 'b')});
$a = start_reader(2, 'a', 8);
ok($c->poll(1, $owners, 'a:n2 a:n2 b:n1 b:n1'), 'without the dependency each for itself') or show_why();
stop_readers(2, $a);
stop_readers(1, $b);

# Pairs of a table that is split: the same keys, or what the other has not set apart.
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe');
	SELECT fragaffinity.add_dependency('a', 'b', 0.5)});
my $pairs = q{SELECT string_agg(from_fragment || '-' || to_fragment, ' ' ORDER BY from_fragment, to_fragment) FROM fragaffinity.hint_link};
is($c->sql(1, $pairs), '1-3 2-4', 'each has its pair');
is($c->sql(1, q{SELECT fragaffinity.split_fragment(1, '20', '40')}), '{5}', 'one is split');
is($c->sql(1, $pairs), '1-3 2-4 5-3', 'its part has the same pair');
is($c->sql(1, q{SELECT fragaffinity.split_fragment(3, '20', '40')}), '{6}', 'the other too');
is($c->sql(1, $pairs), '1-3 2-4 5-6', 'then parts are pairs');
$c->check_consistent('at the end');

done_testing();
