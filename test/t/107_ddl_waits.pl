# DDL that others' was ahead of, in savepoints, and with snapshots that are older than
# the table's fragments.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

sub session
{
	my ($i) = @_;
	my %s = (out => '', err => '', in => '');
	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $c->node($i)->connstr('postgres') ],
		'<', \$s{in}, '>', \$s{out}, '2>', \$s{err});
	return \%s;
}

sub say_to
{
	my ($s, $sql) = @_;
	$s->{out} = '';
	$s->{in} .= "$sql; SELECT 'done';\n";
	pump_until($s->{run}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default), \$s->{out}, qr/done/);
	return;
}

sub end
{
	my ($s, $sql) = @_;
	$s->{in} .= "$sql;\n\\q\n";
	$s->{run}->finish;
	return;
}

$c->sql($_, 'CREATE ROLE ann LOGIN; CREATE ROLE joe LOGIN') for 1 .. 3;
my $partitioned = q{CREATE TABLE p (id int NOT NULL, d int NOT NULL, v int) PARTITION BY RANGE (d); CREATE INDEX p_v ON p (v);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
	SELECT fragaffinity.distribute_table('p', 'id', 3)};
my $gather = q{SELECT fragaffinity.undistribute_table('p')};
my $p3 = 'p3 PARTITION OF p FOR VALUES FROM (20) TO (30)';

# What one says of a table or its partitions is about what is there when its turn comes.
for (
	[ 1, $gather, "CREATE TABLE $p3", qr/^$/, 'f' ],
	[ 1, $gather, 'DROP TABLE p2', qr/^$/ ],
	[ 1, $gather, 'ALTER TABLE p DETACH PARTITION p2', qr/^$/ ],
	(map { [ 1, $gather, $_, qr/^$/ ] } 'DROP TABLE p', 'ALTER TABLE p ADD COLUMN x int, DROP COLUMN v',
		'CREATE INDEX ON p (v)', 'CREATE UNIQUE INDEX ON p (id, d, v)', 'DROP INDEX p_v', 'ALTER INDEX p_v RENAME TO p_w', 'ALTER TABLE p RENAME COLUMN v TO x',
		"COMMENT ON TABLE p IS 'pee'", 'ALTER TABLE p ENABLE ROW LEVEL SECURITY', 'CREATE POLICY a ON p', 'GRANT SELECT ON p TO ann'),
	(map { [ 2, $gather, $_, qr/^ERROR: .*"p" does not exist/ ] } 'ALTER TABLE p ADD COLUMN x int', 'DROP TABLE p', 'CREATE INDEX ON p (v)', 'ALTER TABLE p RENAME TO q',
		'GRANT SELECT ON p TO ann'),
	(map { [ 2, 'DROP TABLE p', $_, qr/^ERROR: .*"p" does not exist/ ] } 'ALTER TABLE p ADD COLUMN x int', 'DROP TABLE p', 'GRANT SELECT ON p TO ann'),
	[ 1, 'ALTER TABLE p RENAME TO q', 'ALTER TABLE p ADD COLUMN x int', qr/^ERROR: .*"p" does not exist/ ],
	[ 2, 'DROP TABLE p2', 'DROP TABLE IF EXISTS p2', qr/NOTICE: .*"p2" does not exist, skipping/ ],
	[ 2, 'DROP TABLE p2', 'ALTER TABLE p DETACH PARTITION p2', qr/ERROR: .*"p2" does not exist/ ],
	[ 2, "CREATE TABLE $p3", "CREATE TABLE IF NOT EXISTS $p3", qr/NOTICE: .*"p3" already exists, skipping/ ],
	[ 3, 'DROP TABLE p', "CREATE TABLE $p3", qr/ERROR: .*"p" does not exist/ ])
{
	my ($i, $first, $second, $said) = @$_;
	$c->sql(1, $partitioned);
	my $ahead = session(1);
	say_to($ahead, "BEGIN; $first");
	my %late = (out => '', err => '');
	$late{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node($i)->connstr('postgres'), '-c', $second ],
		'<', \undef, '>', \$late{out}, '2>', \$late{err});
	$c->poll(1, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'}, 't', "$second waits for $first");
	end($ahead, 'COMMIT');
	is($ahead->{err}, '', $first);
	$late{run}->finish;
	like($late{err}, $said, "$second afterwards, on node $i");
	$c->sql(1, "DROP TABLE IF EXISTS $_") for qw(p p2 q);
}

# A table that was plain when one waited for it is not changed here alone.
for my $ddl ('ALTER TABLE z ADD COLUMN x int', 'CREATE INDEX ON z (v)', 'ALTER TABLE z RENAME TO q', 'ALTER TABLE z RENAME COLUMN v TO x', 'ALTER INDEX z_v RENAME TO z_w',
	'DROP TABLE z', 'DROP INDEX z_v', 'ALTER TABLE z SET SCHEMA fragaffinity', 'ALTER TABLE z ENABLE ROW LEVEL SECURITY', 'CREATE POLICY a ON z', 'CREATE RULE a AS ON DELETE TO z DO NOTHING',
	'CREATE TRIGGER a BEFORE INSERT ON z FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', "COMMENT ON TABLE z IS 'zed'")
{
	$c->sql(1, 'CREATE TABLE z (id int PRIMARY KEY, v int); CREATE INDEX z_v ON z (v)');
	my $ahead = session(1);
	say_to($ahead, q{BEGIN; SELECT fragaffinity.distribute_table('z', 'id', 3)});
	my %late = (out => '', err => '');
	$late{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $c->node(1)->connstr('postgres'), '-c', $ddl ],
		'<', \undef, '>', \$late{out}, '2>', \$late{err});
	$c->poll(1, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'}, 't', "$ddl waits");
	end($ahead, 'COMMIT');
	$late{run}->finish;
	like($late{err}, qr/40001: .*was distributed while this statement waited.*HINT:  Run the statement again/s, "not changed on one node alone: $ddl");
	is($c->sql($_, q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'z'::regclass AND attnum > 0}), 'id v', "node $_") for 1, 2;
	$c->sql(1, 'DROP TABLE z');
}

# Who may not do it is told so at once: he waits for nobody, and nobody waits for him.
$c->sql(1, q{CREATE TABLE o (id int PRIMARY KEY, v int); CREATE INDEX o_v ON o (v); CREATE STATISTICS o_st ON id, v FROM o; CREATE POLICY own ON o USING (true);
	SELECT fragaffinity.distribute_table('o', 'id', 3); GRANT SELECT ON o TO ann; CREATE TABLE other (id int NOT NULL); SELECT fragaffinity.distribute_table('other', 'id', 3)});
$c->sql(1, "$partitioned; GRANT SELECT ON p TO ann");
my $busy = session(1);
say_to($busy, 'BEGIN; CREATE INDEX ON other (id)');
my $ann = "SET statement_timeout = '10s'; SET SESSION AUTHORIZATION ann; ";
for my $i (1, 2)
{
	for my $ddl ('ALTER TABLE o ADD COLUMN x int', 'ALTER TABLE o ALTER v SET NOT NULL', 'ALTER TABLE o RENAME COLUMN v TO w', 'ALTER TABLE o RENAME TO o2',
		'ALTER INDEX o_v RENAME TO w', 'CREATE INDEX ON o (v)', 'CREATE UNIQUE INDEX ON o (id, v)', 'DROP INDEX o_v', 'DROP INDEX o_pkey',
		'ALTER TABLE o DROP CONSTRAINT o_pkey', 'ALTER TABLE o ENABLE ROW LEVEL SECURITY', 'CREATE STATISTICS o_s2 ON id, v FROM o', 'DROP STATISTICS o_st',
		"COMMENT ON TABLE o IS 'o'", "COMMENT ON COLUMN o.v IS 'o'", "COMMENT ON INDEX o_v IS 'o'", 'CREATE POLICY hers ON o', 'ALTER POLICY own ON o USING (false)',
		'DROP POLICY own ON o', 'ALTER POLICY own ON o RENAME TO theirs', 'DROP TABLE o', 'DROP TABLE p1', "CREATE TABLE $p3", 'ALTER TABLE p DETACH PARTITION p1')
	{
		my ($code, $message) = $c->fails($i, $ann . $ddl);
		is($code, '42501', "not hers, on node $i: $ddl") or diag($message);
	}
	is($c->sql($i, $ann . 'GRANT SELECT ON o TO joe; REVOKE SELECT ON o FROM joe; SET SESSION AUTHORIZATION joe; DROP OWNED BY joe; SELECT 1'), '1', "nor hers to grant, on node $i");
	is(($c->fails($i, "SET lock_timeout = '100ms'; SET statement_timeout = '120s'; ALTER TABLE o ADD COLUMN x int"))[0], '55P03', "no longer than lock_timeout, on node $i");
	is(($c->fails($i, "SET statement_timeout = '100ms'; $_"))[0], '57014', "its owner waits, on node $i: $_") for 'ALTER TABLE o ADD COLUMN x int', 'GRANT SELECT ON o TO joe', 'DROP OWNED BY ann';
}
end($busy, 'COMMIT');
$c->sql(1, 'GRANT UPDATE (v) ON o TO ann WITH GRANT OPTION');
$c->sql(2, 'SET SESSION AUTHORIZATION ann; GRANT UPDATE (v) ON o TO joe');
is($c->sql($_, q{SELECT has_column_privilege('joe', 'o', 'v', 'UPDATE')}), 't', "who has the grant option for a column, grants it on all nodes: node $_") for 1 .. 3;
$c->sql(2, 'DROP OWNED BY ann');
is($c->sql($_, q{SELECT has_table_privilege('ann', 'o', 'SELECT')}), 'f', "DROP OWNED takes it away on all nodes: node $_") for 1 .. 3;

# What a savepoint would undo here would have been done on the others.
$c->sql(1, q{CREATE TABLE t (id int NOT NULL, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('t', 'id', 3)});
for my $ddl ('ALTER TABLE t ADD COLUMN b int', 'CREATE UNIQUE INDEX ON t (id)', 'DROP TABLE t', "SELECT fragaffinity.undistribute_table('t')",
	"SELECT fragaffinity.configure('fragment_size', '1GB', 't')")
{
	is(($c->fails(1, "BEGIN; ALTER TABLE t ADD COLUMN a int; SAVEPOINT s; $ddl"))[0], '0A000', "not in a savepoint, after other DDL: $ddl");
}
is($c->sql($_, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0}), '2', "unchanged on node $_") for 1 .. 3;

# A heap that a move has brought since a snapshot would be left out.
my $f = $c->sql(1, q{SELECT fragment FROM fragaffinity.fragments WHERE table_name = 't'::regclass AND owner = 'n2' LIMIT 1});
for my $ddl ('CREATE UNIQUE INDEX ON t (id)', 'ALTER TABLE t ADD PRIMARY KEY (id)', 'DROP TABLE t')
{
	my ($to) = $c->owner($f) eq 'n1' ? 'n2' : 'n1';
	my $old = session(1);
	say_to($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
	$c->move($f, $to);
	end($old, "\\set VERBOSITY verbose\n$ddl; COMMIT");
	like($old->{err}, qr/25001/, "with a snapshot older than a move: $ddl");
}
$c->sql(1, 'ALTER TABLE t ADD PRIMARY KEY (id)');
is(($c->fails(1, "BEGIN ISOLATION LEVEL REPEATABLE READ; $_"))[0], '25001', "nor what changes it besides: $_")
  for 'ALTER TABLE t DROP CONSTRAINT t_pkey';

$c->sql(1, q{DROP TABLE o; CREATE TABLE o (id int PRIMARY KEY, n int); INSERT INTO o SELECT i, i FROM generate_series(1, 60) i;
	SELECT fragaffinity.distribute_table('o', 'id', 6); SELECT fragaffinity.configure('deadlock_wait', '200ms')});
# Where postgres_fdw keeps its sessions to itself, rows of other nodes are used in others
# than those that change the table, so one transaction cannot do both.  It is told so,
# and not to retry.  (Else: 417_ddl_rows.)
my $joins = $c->sql(1, 'SHOW server_version_num') < 160000;
for my $sql ($joins ? () : ('ALTER TABLE o ADD m int; UPDATE o SET m = 1', 'ALTER TABLE o ADD m int; SELECT count(*) FROM o',
	'CREATE INDEX ON o (n); UPDATE o SET n = 2', 'ALTER TABLE o ADD m int; INSERT INTO o SELECT i, i FROM generate_series(100, 140) i'))
{
	my ($code, $err) = $c->fails(2, "BEGIN; $sql; COMMIT");
	is($code, '55006', "DDL, then rows: $sql");
	like($err, qr/waits for itself on another node.*HINT:  Change a table's definition in a transaction of its own/s, 'with what to do');
}
for my $sql ($joins ? () : ('SELECT count(*) FROM o; ALTER TABLE o ADD m int', 'SELECT count(*) FROM o; DROP TABLE o', 'SELECT count(*) FROM o; ALTER TABLE o ADD UNIQUE (id, n)'))
{
	my ($code, $err) = $c->fails(2, "BEGIN; $sql; COMMIT");
	is($code, '55006', "rows, then DDL: $sql");
	like($err, qr/cannot \w+ "o" because this transaction has used it on other nodes.*HINT:  Change/s, 'with what to do');
}
for my $sql ($joins ? () : ('UPDATE o SET n = 3; ALTER TABLE o ADD m int', 'UPDATE o SET n = 3; CREATE INDEX ON o (n)'))
{
	my ($code, $err) = $c->fails(2, "BEGIN; $sql; COMMIT");
	is($code, '55006', "changed rows, then DDL: $sql");
	like($err, qr/HINT:  Change a table's definition in a transaction of its own/, 'with what to do');
}
is($c->sql($_, 'SELECT count(*), sum(n) FROM o'), '60|1830', "nothing has changed, seen from node $_") for 1 .. 3;
is($c->sql($_, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'o'::regclass AND attnum > 0}), '2', "nor the table on node $_") for 1 .. 3;
# what was used here alone does not stand in the way
my $here = $c->sql(2, q{SELECT min(id) FROM o WHERE tableoid::regclass::text ~ '_h$'});
$c->sql(2, "BEGIN; UPDATE o SET n = n WHERE id = $here; ALTER TABLE o ADD m int; COMMIT");
is($c->sql(1, 'SELECT count(m), count(n) FROM o'), '0|60', 'rows of this node, then DDL');
ok($c->check_consistent('at the end'), 'consistent');

done_testing();
