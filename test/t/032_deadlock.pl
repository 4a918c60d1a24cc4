# A deadlock over several nodes ends in one 40P01, and only a deadlock does.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql(1, "
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 60) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3);
	SELECT fragaffinity.configure('deadlock_wait', '500ms')");
my @id = (undef, map { $c->sql(1, "SELECT min(id) FROM t_b" . ($_ - 1)) } 1 .. 3);

sub client
{
	my ($i) = @_;
	my $s = $c->node($i)->background_psql('postgres', on_error_stop => 0);
	$s->query_safe('\set VERBOSITY verbose');
	return $s;
}

sub update { my ($row) = @_; return "UPDATE t SET n = n + 1 WHERE id = $id[$row];"; }

# Each client holds something and wants what the next one holds; the last closes
# the circle.  [ node of the client, what it holds, as statement ]
sub circle
{
	my ($name, @clients) = @_;
	my $n = @clients;
	my @s = map { client($_->[0]) } @clients;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$s[$_]->query_safe('BEGIN; ' . $clients[$_][1]) for 0 .. $n - 1;
	for my $i (0 .. $n - 1)
	{
		$s[$i]->{stdin} .= $clients[ ($i + 1) % $n ][1] . "\n";
		$s[$i]->{run}->pump_nb;
	}
	my (@victims, @messages);
	# the last one fails, which lets the one before it go on
	for my $i (reverse 0 .. $n - 1)
	{
		$s[$i]->query('COMMIT');
		my $err = $s[$i]->{stderr};
		push @messages, $err if $err =~ /40P01/;
		push @victims, $i if $err =~ /ERROR/;
		$s[$i]->{stderr} = '';
		$s[$i]->quit;
	}
	is("@victims", $n - 1, "$name: one victim, the youngest");
	my $detail = 'Process \d+ of node \d waits on node \d for process \d+ of node \d';
	my $lines = join '.*', ($detail) x $n;
	like($messages[0] // '', qr/40P01.*deadlock detected.*$lines/s, "$name: both sides are named");
	return;
}

# The same, of rows of the table; what was written tells who went through.
sub row_circle
{
	my ($name, @clients) = @_;
	my $sum = $c->sql(1, 'SELECT sum(n) FROM t');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	circle($name, map { [ $_->[0], update($_->[1]) ] } @clients);
	is($c->sql(1, 'SELECT sum(n) FROM t'), $sum + 2 * (@clients - 1), "$name: the others went through");
	return;
}

# [ node of the client, row on node ]
row_circle('two nodes', [ 1, 1 ], [ 2, 2 ]);
row_circle('two nodes, crosswise', [ 1, 2 ], [ 2, 1 ]);
row_circle('two nodes, clients of one', [ 1, 1 ], [ 1, 2 ]);
row_circle('two nodes, clients of a third', [ 3, 1 ], [ 3, 2 ]);
row_circle('three nodes', [ 1, 1 ], [ 2, 2 ], [ 3, 3 ]);
row_circle('three nodes, crosswise', [ 1, 2 ], [ 2, 3 ], [ 3, 1 ]);

# Locks of a node that fragaffinity has nothing to do with, in the middle.
$c->sql(1, 'CREATE TABLE plain (id integer PRIMARY KEY); INSERT INTO plain VALUES (1)');
circle('with a plain row', [ 1, 'UPDATE plain SET id = id;' ], [ 1, update(2) ]);
circle('with a plain row, the other way', [ 1, update(2) ], [ 1, 'UPDATE plain SET id = id;' ]);
circle('with an advisory lock', [ 1, update(2) ], [ 1, 'SELECT pg_advisory_xact_lock(7);' ]);
circle('with a table, waited for in the parser', [ 1, update(3) ],
	[ 1, 'LOCK TABLE plain; SELECT * FROM plain;' ], [ 2, update(2) ]);

# What sessions between nodes call themselves does not matter, where postgres_fdw
# tells which they are.
my $circles = 14;
$circles++, circle('under other names', map { [ $_, "SET postgres_fdw.application_name = 'other'; " . update($_) ] } 1, 2)
  if $c->node(1)->pg_version < 16;

# While a fragment of the circle wants to move: it waits for nobody for long.
my $f = $c->fragment('t', 1);
my $move = $c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n3', wait => false)");
row_circle('under a move', [ 1, 1 ], [ 2, 2 ], [ 3, 3 ]);
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n3');
row_circle('after the move', [ 1, 1 ], [ 2, 2 ]);
$c->move($f, 'n2');

# A program can catch it, as one of the server's own; and it needs no log.
$c->sql($_, "ALTER SYSTEM SET log_min_messages = 'fatal'") for 1 .. 3;
$c->sql($_, 'SELECT pg_reload_conf()') for 1 .. 3;
$c->poll($_, 'SHOW log_min_messages', 'fatal') for 1 .. 3;
for my $row (2, 1)
{
	my ($first, $second) = (client(1), client($row == 1 ? 2 : 3));
	my $place = $row == 1 ? 'here' : 'on a peer';
	$first->query_safe('BEGIN; ' . update(3));
	$second->query_safe('BEGIN; ' . update($row));
	$first->{stdin} .= update($row) . "\n";
	$first->{run}->pump_nb;
	$second->query_safe("DO \$\$ BEGIN
		UPDATE t SET n = n + 100 WHERE id = $id[3];
	EXCEPTION WHEN deadlock_detected THEN
		PERFORM set_config('test.caught', SQLERRM, false);
	END \$\$");
	is($second->query('SHOW test.caught'), 'deadlock detected', "caught in an exception block, $place");
	$second->query_safe('COMMIT');
	$first->query_safe('COMMIT');
	is($first->{stderr}, '', "the other one goes through, $place");
	$_->quit for $first, $second;
}
$c->sql($_, 'ALTER SYSTEM RESET log_min_messages') for 1 .. 3;
$c->sql($_, 'SELECT pg_reload_conf()') for 1 .. 3;
is($c->sql(1, 'SELECT max(n) < 100 FROM t'), 't', 'what they had tried is undone');

my $before = join ' ', map { $c->sql($_, 'SELECT deadlocks FROM fragaffinity.transaction_stats') } 1 .. 3;
is(eval(join '+', split / /, $before), $circles, 'counted');
is(eval(join '+', map { $c->sql($_, "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'") } 1 .. 3), $circles,
	'also by the server itself');

# A long wait that is none: nobody is cancelled.
my ($holder, $waiter, $third) = (client(1), client(2), client(3));
$holder->query_safe('BEGIN; ' . update(2));
$waiter->query_safe('BEGIN; ' . update(3));
$waiter->{stdin} .= update(2) . "\n";
$waiter->{run}->pump_nb;
$third->{stdin} .= update(3) . "\n";
$third->{run}->pump_nb;
$c->poll(2, q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '3 s'});
$holder->query_safe('COMMIT');
$waiter->query_safe('COMMIT');
$third->query_safe('SELECT 1');
is($_->{stderr} =~ /ERROR/ ? $_->{stderr} : '', '', 'a chain of waits is no deadlock') for $holder, $waiter, $third;
$_->quit for $holder, $waiter, $third;
is(join(' ', map { $c->sql($_, 'SELECT deadlocks FROM fragaffinity.transaction_stats') } 1 .. 3), $before,
	'and nothing was counted');

# A client that pretends to work for another one's transaction is not believed.
$c->sql($_, 'CREATE ROLE joe LOGIN') for 1 .. 3;
$c->sql(1, 'GRANT ALL ON t TO joe');
($holder, $waiter) = (client(2), client(1));
my $pid = $holder->query_safe('SELECT pg_backend_pid()');
$holder->query_safe('BEGIN; ' . update(2));
$waiter->query_safe('BEGIN; ' . update(1));
$waiter->{stdin} .= update(2) . "\n";
$waiter->{run}->pump_nb;
my $joe;
{
	local $ENV{PGAPPNAME} = "fragaffinity:2:$pid";
	local $ENV{PGOPTIONS} = '-c fragaffinity.origin=2';
	$joe = $c->node(1)->background_psql('postgres', on_error_stop => 0, extra_params => ['-U', 'joe']);
}
$joe->query_safe('SELECT 1');
$joe->{stdin} .= update(1) . "\n";
$joe->{run}->pump_nb;
$c->poll(1, q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '2 s'});
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.open_transactions() WHERE role = 'joe' AND origin_node = 2}), '1',
	'one says that it works for node 2');
$holder->query_safe('COMMIT');
$waiter->query_safe('COMMIT');
$joe->query_safe('SELECT 1');
is($_->{stderr} =~ /ERROR/ ? $_->{stderr} : '', '', 'and nobody has to give way for it') for $holder, $waiter, $joe;
$_->quit for $holder, $waiter, $joe;
($pid) = $c->fails(1, 'SET ROLE joe; SELECT fragaffinity.end_lock_wait(1, 1, NULL)');
is($pid, '42501', 'nor may he end waits');
is(join(' ', map { $c->sql($_, 'SELECT deadlocks FROM fragaffinity.transaction_stats') } 1 .. 3), $before,
	'nothing was counted');

# Many transfers over few rows, which lock in one order, looked at all the time;
# FA_MINUTES=60 for longer.
$c->sql(1, q{SELECT fragaffinity.configure('deadlock_wait', '10ms')});
my $load = $c->start_load(
	table => 't', anchors => 4, pause => 500, keys => 300,
	modes => { map { $_ => [ 'transfer', 'transfer', 'transfer' ] } 1 .. 3 });
my $end = time() + 60 * ($ENV{FA_MINUTES} // 0);
do { $c->wait_for_load($load, 150) } while time() < $end;
$c->check_load($load, 't', 'contended without a circle');
is(join(' ', map { $c->sql($_, 'SELECT deadlocks FROM fragaffinity.transaction_stats') } 1 .. 3), $before,
	'nobody was cancelled');
is($c->sql(2, 'SELECT sum(n) FROM t WHERE id <= 4'), $c->sql(3, 'SELECT sum(n) FROM t WHERE id <= 4'),
	'all nodes see the same');
$c->check_consistent('nothing is left over');
done_testing();
