# DDL while a fragment moves: moves that nobody asked for by hand give way, others are
# waited for, and none begins in between.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0, w int); INSERT INTO t SELECT i, i FROM generate_series(1, 300) i;
	CREATE TABLE u (id int PRIMARY KEY); SELECT fragaffinity.distribute_table('t', 'id', 3), fragaffinity.distribute_table('u', 'id', 3)});
my $f = $c->fragment('t', 0);
my $announced = q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND classid = 'fragaffinity.distributed_table'::regclass};

sub begin
{
	my ($i, $sql) = @_;
	my %s = (out => '', err => '', node => $i);
	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1', '-d', $c->node($i)->connstr('postgres') . " application_name=ddl",
		'-c', $sql ], '<', \undef, '>', \$s{out}, '2>', \$s{err});
	return \%s;
}

# Begins, and is seen to wait.
sub waits
{
	my ($i, $sql) = @_;
	my $s = begin($i, $sql);
	ok($c->poll($_, $announced), "node $_ knows: $sql") for 1 .. 3;
	ok($s->{run}->pumpable, 'which waits');
	return $s;
}

sub ends
{
	my ($s, $err, $name) = @_;
	$s->{run}->finish;
	like($s->{err}, $err, $name);
	ok($c->poll($_, $announced, 'f'), "no more on node $_") for 1 .. 3;
	return;
}

# A move of the fragment that has copied, or stands at another point; its number.
sub move_held
{
	my ($trigger, $point) = @_;
	my $to = substr($c->owner($f), 1) % 3 + 1;
	$c->hold($to, $point // 'move_copied');
	my $move = $c->sql($to, $trigger ? "SELECT fragaffinity.request_move($f, 'n$to', '$trigger', 'for a test', 1)" : "SELECT fragaffinity.move_fragment($f, 'n$to', false)");
	ok($c->wait_held($to, $point // 'move_copied'), 'a move is under way');
	return ($to, $move);
}

sub moved
{
	my ($to) = @_;
	$c->release($to);
	ok($c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", "n$to"), "node $_ knows of the move") for 1 .. 3;
	ok($c->poll($_, 'SELECT count(*) FROM fragaffinity.cleanup', '0'), 'nothing is left') for 1 .. 3;
	return;
}

# A move that is under way ends first, whatever node the statement comes from.
my @ddl = ('ALTER TABLE t ADD COLUMN x int DEFAULT 7', 'CREATE UNIQUE INDEX t_x ON t (id, x)', 'BEGIN; CREATE TABLE local (i int); ALTER TABLE t ALTER v TYPE bigint; COMMIT');
for my $i (1 .. 3)
{
	my ($to) = move_held();
	my $s = waits($i, $ddl[ $i - 1 ]);
	my $next = $c->fragment('t', 1);
	my ($code, $message) = $c->fails($i, sprintf("SELECT fragaffinity.move_fragment($next, 'n%d')", substr($c->owner($next), 1) % 3 + 1));
	is($code, '55006', 'no other move begins') or diag($message);
	$c->sql($_, 'ALTER TABLE u ADD COLUMN IF NOT EXISTS x int; ALTER TABLE u DROP COLUMN x') for 1 .. 3;
	$c->release($to);
	ends($s, qr/^$/, "node $i: $ddl[$i - 1]");
	moved($to);
	is($c->sql($_, 'SELECT count(*), sum(v), sum(x) FROM t'), '300|45150|2100', "rows, from node $_") for 1 .. 3;
}

# A move that comes later is refused as long as the transaction is open.
{
	my $open = $c->node(2)->background_psql('postgres', on_error_stop => 0);
	my $to = substr($c->owner($f), 1) % 3 + 1;
	$open->query_safe('BEGIN; ALTER TABLE t DROP COLUMN w');
	for my $i (1 .. 3)
	{
		my ($code, $message) = $c->fails($i, "SELECT fragaffinity.move_fragment($f, 'n$to')");
		is($code, '55006', "no move begins, asked for on node $i");
		like($message, qr/definition of table "t" is being changed.*HINT/s, 'and why');
	}
	$open->query_safe('COMMIT');
	$open->quit;
	$c->move($f, "n$to");
}

# Nobody waits for ever, nor who cannot.
{
	my ($to, $move) = move_held();
	for my $i (1 .. 3)
	{
		my ($code, $message) = $c->fails($i, "SET lock_timeout = '100ms'; ALTER TABLE t ADD COLUMN y int");
		is($code, '55P03', "no longer than lock_timeout, on node $i");
		like($message, qr/fragment $f of the table was still moving after 100 ms.*HINT:  .*cancel_move/s, 'and why');
		is(($c->fails($i, "SET lock_timeout = '100ms'; SELECT fragaffinity.undistribute_table('t')"))[0], '55P03', 'so undistribute_table');
		is(($c->fails($i, "SET statement_timeout = '300ms'; ALTER TABLE t ADD COLUMN y int"))[0], '57014', 'nor than statement_timeout');
		for ([ 'BEGIN; SELECT count(*) FROM t', 'locks' ], [ 'BEGIN; CREATE INDEX ON t (v)', 'locks' ], [ 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'snapshot' ],
			[ 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1', 'snapshot' ])
		{
			($code, $message) = $c->fails($i, "SET statement_timeout = '100s'; $_->[0]; ALTER TABLE t ADD COLUMN y int");
			is($code, '55006', "at once: $_->[0]");
			like($message, qr/fragment $f of the table is moving.*DETAIL:.* $_->[1] .*HINT/s, 'and why');
		}
		# a lock at a peer alone, where a row has been read by key
		my $there = $c->sql(1, "SELECT min(id) FROM t WHERE tableoid = (SELECT leaf FROM fragaffinity.fragments WHERE fragment = $f)");
		is(($c->fails($i, "BEGIN; SELECT FROM t WHERE id = $there FOR UPDATE; ALTER TABLE t ADD COLUMN y int"))[0], '55006', 'at once, having locked a row of it');
		my $s = waits($i, 'ALTER TABLE t ADD COLUMN y int');
		$c->sql($i, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'ddl'});
		ends($s, qr/57014.*canceling statement due to user request/, "cancelled on node $i");
	}
	my $log = -s $c->node(2)->logfile;
	$c->fails(2, q{SET log_lock_waits = on; SET deadlock_timeout = '1ms'; SET lock_timeout = '300ms'; ALTER TABLE t ADD COLUMN y int});
	like(slurp_file($c->node(2)->logfile, $log), qr/LOG:  process \d+ still waiting for the move of fragment $f /, 'it is logged as a wait for a lock');
	# nothing that looks at the statement locks the table
	for my $ddl ('ALTER TABLE t ADD COLUMN y int', 'ALTER TABLE t DROP COLUMN x', 'ALTER TABLE t ALTER x TYPE bigint', 'ALTER TABLE t ALTER v TYPE text USING v::text',
		'ALTER TABLE t ALTER v SET DEFAULT 8', 'ALTER TABLE t ADD CHECK (v > 0)', 'ALTER TABLE t ADD UNIQUE (id, v)', 'CREATE UNIQUE INDEX ON t (id, v)',
		'DROP INDEX t_x', 'ALTER TABLE t DROP CONSTRAINT t_pkey', 'ALTER TABLE t RENAME COLUMN v TO w', 'ALTER TABLE t RENAME TO t2', 'ALTER TABLE t ADD EXCLUDE USING btree (id WITH =)',
		'DROP TABLE t', 'DROP SCHEMA public CASCADE')
	{
		my ($code, $message) = $c->fails(2, "SET lock_timeout = '1ms'; $ddl");
		is($code, '55P03', "waits: $ddl") or diag($message);
	}
	is($c->sql($to, "SELECT state FROM fragaffinity.moves WHERE move = $move"), 'copying', 'a move that was asked for does not give way');
	moved($to);
}

# What the controller began is made again later.
for my $trigger ('predictive', 'drain')
{
	my $owner = $c->owner($f);
	my ($to, $move) = move_held($trigger);
	$c->sql($to % 3 + 1, 'ALTER TABLE t ADD COLUMN z int');
	is($c->sql($to, "SELECT state, error FROM fragaffinity.moves WHERE move = $move"), "cancelled|gave way to a change of the table's definition", "a move gives way: $trigger");
	is($c->owner($f), $owner, 'the fragment is where it was');
	$c->release($to);
	$c->sql($to, 'ALTER TABLE t DROP COLUMN z');
	$c->move($f, "n$to");
}

# But not one that has all but ended.
{
	my ($to, $move) = move_held('predictive', 'move_fenced');
	my $s = waits(1, 'ALTER TABLE t ADD COLUMN z int');
	$c->release($to);
	ends($s, qr/^$/, 'waits for a cut-over');
	moved($to);
	is($c->sql($to, "SELECT state FROM fragaffinity.moves WHERE move = $move"), 'done', 'which comes to its end');
}

# One that has been asked for, and has not begun when the change is announced, fails.
{
	my $owner = $c->owner($f);
	my ($to, $move) = move_held('', 'move_copying');
	my $s = waits(3, 'ALTER TABLE t ALTER v SET DEFAULT 1');
	$c->release($to);
	ends($s, qr/^$/, 'does not wait for what cannot begin');
	like($c->sql($to, "SELECT state, error FROM fragaffinity.moves WHERE move = $move"), qr/^failed\|the definition of table "t" is being changed/, 'that is told why');
	is($c->owner($f), $owner, 'and has moved nothing');
}

# Nor for a move of another partition, or table.
$c->sql(1, q{CREATE TABLE p (id int NOT NULL, d int) PARTITION BY RANGE (d); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (19);
	CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (29); INSERT INTO p SELECT i, i % 9 + 10 FROM generate_series(1, 100) i; SELECT fragaffinity.distribute_table('p', 'id', 3)});
$f = $c->sql(1, q{SELECT fragment FROM fragaffinity.fragments WHERE bucket::text LIKE 'p2%' LIMIT 1});
{
	my ($to) = move_held();
	$c->sql(1, 'ALTER TABLE t DROP COLUMN z');
	$c->sql(2, 'DROP TABLE p1');
	$c->sql(3, 'ALTER TABLE p DETACH PARTITION p3');
	my $s = waits(3, 'ALTER TABLE p DETACH PARTITION p2');
	$c->release($to);
	ends($s, qr/^$/, 'DETACH waits');
	is($c->sql(3, 'SELECT count(*) FROM p2'), '100', 'with all rows');
}
$f = $c->fragment('t', 0);
for my $sql (q{SELECT fragaffinity.undistribute_table('t')}, 'DROP TABLE u')
{
	my ($to) = move_held();
	my $s = waits(2, $sql);
	$c->release($to);
	ends($s, qr/^$/, "waits: $sql");
	is($c->sql(2, 'SELECT count(*), sum(v) FROM t'), '300|45150', 'all rows are there');
	$f = $c->fragment('u', 0) if $sql !~ /DROP/;
}
is($c->sql($_, q{SELECT to_regclass('u') IS NULL}), 't', "dropped on node $_") for 1 .. 3;
ok($c->check_consistent('at the end'), 'consistent');

done_testing();
