# What is unique in a distributed table comes and goes by DDL, on all nodes.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

$c->sql($_, 'CREATE ROLE joe LOGIN; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO joe') for 1 .. 3;
$c->sql(1, q{
	CREATE TABLE t (id int NOT NULL, v int, s text);
	INSERT INTO t SELECT i, i % 50, 's' || i FROM generate_series(1, 300) i;
	ALTER TABLE t OWNER TO joe;
	SELECT fragaffinity.distribute_table('t', 'id', 6);
});

# What node i shows of a table, and what its heaps have: equal sets.
sub shown
{
	my ($i, $table) = @_;
	return $c->sql($i, qq{SELECT coalesce(string_agg(pg_get_indexdef(indexrelid) || coalesce(' ' || conname, ''), '; ' ORDER BY indexrelid::regclass::text), '')
		FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid AND conrelid = indrelid
		WHERE indrelid = '$table'::regclass AND indisunique});
}

sub on_heaps
{
	my ($i, $table) = @_;
	return $c->sql($i, qq{SELECT string_agg(DISTINCT defs, ' / ') FROM (
		SELECT leaf, string_agg(coalesce(pg_get_constraintdef(k.oid), substring(pg_get_indexdef(indexrelid) FROM 'USING.*')), '; '
			ORDER BY pg_get_constraintdef(k.oid), substring(pg_get_indexdef(indexrelid) FROM 'USING.*')) AS defs
		FROM fragaffinity.fragments LEFT JOIN pg_index ON indrelid = leaf AND (indisunique OR indisexclusion)
		LEFT JOIN pg_constraint k ON conindid = indexrelid
		WHERE table_name = '$table'::regclass AND local GROUP BY leaf) x});
}

sub identities
{
	my ($i, $table) = @_;
	return $c->sql($i, qq{SELECT string_agg(DISTINCT relreplident::text, '') FROM fragaffinity.fragments JOIN pg_class ON oid = leaf
		WHERE table_name = '$table'::regclass AND local});
}

sub everywhere
{
	my ($shown, $heaps, $what) = @_;
	for my $i (1 .. 3)
	{
		is(shown($i, 't'), $shown, "$what: what node $i shows");
		is(on_heaps($i, 't'), $heaps, "$what: the heaps of node $i");
	}
}

# By its owner, through any node; others may not.
for my $sql ('CREATE UNIQUE INDEX no ON t (id)', 'ALTER TABLE t ADD UNIQUE (id)', 'ALTER TABLE t ADD EXCLUDE USING btree (id WITH =)')
{
	my ($code) = $c->fails(2, "SET SESSION AUTHORIZATION ann; $sql");
	is($code, '42501', "not hers: $sql");
}
$c->sql(1, q{SET SESSION AUTHORIZATION joe; CREATE UNIQUE INDEX "U 1" ON t (id, lower(s)) WHERE v > 3});
$c->sql(2, q{SET SESSION AUTHORIZATION joe; ALTER TABLE t ADD CONSTRAINT t_key PRIMARY KEY (id)});
$c->sql(3, q{SET SESSION AUTHORIZATION joe; ALTER TABLE t ADD UNIQUE (v, id)});
everywhere('CREATE UNIQUE INDEX "U 1" ON ONLY public.t USING btree (id, lower(s)) WHERE (v > 3); '
	  . 'CREATE UNIQUE INDEX t_key ON ONLY public.t USING btree (id) t_key; '
	  . 'CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree (v, id) t_v_id_key',
	'PRIMARY KEY (id); UNIQUE (v, id); USING btree (id, lower(s)) WHERE (v > 3)', 'added');
is(identities($_, 't'), 'd', "rows are known by the primary key on node $_") for 1 .. 3;
$c->sql(1, 'CREATE UNIQUE INDEX IF NOT EXISTS "U 1" ON t (id)');
is(($c->fails($_, 'CREATE UNIQUE INDEX "U 1" ON t (id)'))[0], '42P07', "the name is taken on node $_") for 1 .. 3;

# They hold, and upserts find them by columns and by name, also plans of before.
my $upsert = 'INSERT INTO t VALUES ($1, $2, $3) ON CONFLICT (v, id) DO UPDATE SET s = excluded.s || $4 RETURNING s';
for my $i (1 .. 3)
{
	for my $id (1 .. 6)
	{
		is(($c->fails($i, "INSERT INTO t VALUES ($id, 1)"))[0], '23505', "$id is there once, through node $i");
	}
	is($c->sql($i, "INSERT INTO t VALUES (7, 7, 'x') ON CONFLICT ON CONSTRAINT t_key DO UPDATE SET s = 's7' RETURNING s"), 's7', "the key named by an upsert on node $i");
	is($c->sql($i, "INSERT INTO t VALUES (8, 8, 's8') ON CONFLICT ON CONSTRAINT t_v_id_key DO UPDATE SET s = t.s RETURNING s"), 's8', "another constraint on node $i");
	is($c->sql($i, "INSERT INTO t VALUES (9, 9, 'S9') ON CONFLICT (id, lower(s)) WHERE v > 3 DO UPDATE SET s = lower(excluded.s) RETURNING s"), 's9', "an index with an expression on node $i");
	is($c->sql($i, "PREPARE u AS $upsert; EXECUTE u(10, 10, 's', '10'); EXECUTE u(11, 11, 's', '11')"), "s10\ns11", "prepared on node $i");
}

# Moves, splits and merges carry them; DROP finds the name that was given.
$c->move($c->fragment('t', 0), 'n2');
$c->move($c->fragment('t', 1), 'n3');
my $part = $c->sql(1, "SELECT (fragaffinity.split_fragment(" . $c->fragment('t', 0) . ", '150'))[1]");
everywhere(shown(1, 't'), 'PRIMARY KEY (id); UNIQUE (v, id); USING btree (id, lower(s)) WHERE (v > 3)', 'moved and split');
$c->sql(3, 'DROP INDEX "U 1"');
$c->sql(2, 'ALTER TABLE t DROP CONSTRAINT t_key, ADD CONSTRAINT again UNIQUE (id)');
everywhere('CREATE UNIQUE INDEX again ON ONLY public.t USING btree (id) again; '
	  . 'CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree (v, id) t_v_id_key', 'UNIQUE (id); UNIQUE (v, id)', 'dropped');
is(identities($_, 't'), 'i', "rows are known by another index on node $_") for 1 .. 3;
$c->sql(1, 'ALTER TABLE t DROP CONSTRAINT again, DROP CONSTRAINT IF EXISTS nothing');
$c->sql(1, "SELECT fragaffinity.merge_fragments(" . $c->fragment('t', 0) . ", $part)");
everywhere('CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree (v, id) t_v_id_key', 'UNIQUE (v, id)', 'merged');
is(identities($_, 't'), 'f', "rows are known by themselves on node $_") for 1 .. 3;
is(($c->fails(1, 'INSERT INTO t VALUES (10, 1) ON CONFLICT (id) DO NOTHING'))[0], '42P10', 'what is gone cannot be named');
$c->sql($_, "INSERT INTO t VALUES (1, -$_), (2, -$_), (3, -$_)") for 1 .. 3;

# Rows that are there break it, on whichever node: nothing, nowhere.
for my $i (1 .. 3)
{
	my ($code, $message) = $c->fails($i, 'ALTER TABLE t ADD CONSTRAINT "One only" UNIQUE (id)');
	is($code, '23505', "duplicates through node $i");
	like($message, qr/could not create unique index "One only".*Key \(id\)=\([123]\) is duplicated/s, 'in the words of the user');
	is(($c->fails($i, 'ALTER TABLE t ADD PRIMARY KEY (id, s)'))[0], '23502', "nulls through node $i");
}
everywhere('CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree (v, id) t_v_id_key', 'UNIQUE (v, id)', 'failed');
is($c->sql($_, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 's' AND attnotnull}), '0', "no NOT NULL is left on node $_") for 1 .. 3;
$c->sql(1, 'DELETE FROM t WHERE v < 0');

# Exclusion constraints have names, too, and are kept.
$c->sql(1, 'ALTER TABLE t ADD EXCLUDE USING btree (id WITH =)');
$c->sql(2, 'ALTER TABLE t ADD CONSTRAINT twice EXCLUDE USING hash (id WITH =) WHERE (v > 5)');
is(on_heaps($_, 't'), 'EXCLUDE USING btree (id WITH =); EXCLUDE USING hash (id WITH =) WHERE ((v > 5)); UNIQUE (v, id)', "excluded on node $_") for 1 .. 3;
is(($c->fails($_, 'INSERT INTO t VALUES (4, -1)'))[0], '23P01', "and so it is through node $_") for 1 .. 3;
is(($c->fails(1, 'ALTER TABLE t ADD CONSTRAINT twice EXCLUDE USING btree (id WITH =)'))[0], '42P07', 'the name is taken');
is(($c->fails(1, 'ALTER TABLE t ADD EXCLUDE USING btree (id WITH <)'))[0], '42809', 'PostgreSQL may not like it');
$c->sql(3, 'ALTER TABLE t DROP CONSTRAINT t_id_excl');
is(on_heaps($_, 't'), 'EXCLUDE USING hash (id WITH =) WHERE ((v > 5)); UNIQUE (v, id)', "no more on node $_") for 1 .. 3;
is($c->sql($_, q{SELECT count(*) FROM pg_class WHERE relname ~ '^fragaffinity_'}), '0', "nothing is left on node $_") for 1 .. 3;
is(($c->fails(1, 'ALTER TABLE t RENAME v TO w'))[0], '0A000', 'its columns are kept by name');
$c->sql(1, 'ALTER TABLE t DROP CONSTRAINT twice');

# Comments, columns, and back.
$c->sql(2, q{COMMENT ON CONSTRAINT t_v_id_key ON t IS 'both'; ALTER TABLE t RENAME v TO "W w"});
$c->sql(3, q{ALTER TABLE t ADD COLUMN x int; CREATE UNIQUE INDEX u2 ON t (id, x); ALTER TABLE t ALTER "W w" TYPE bigint});
everywhere('CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree ("W w", id) t_v_id_key; CREATE UNIQUE INDEX u2 ON ONLY public.t USING btree (id, x)',
	'UNIQUE ("W w", id); USING btree (id, x)', 'renamed');
$c->sql(1, 'ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN y int NOT NULL DEFAULT 0; ALTER TABLE t ADD PRIMARY KEY (id, y)');
is(identities($_, 't'), 'd', "a primary key again on node $_") for 1 .. 3;
$c->sql(1, 'ALTER TABLE t DROP COLUMN y');
is(identities($_, 't'), 'f', "that goes with its column on node $_") for 1 .. 3;
$c->move($c->fragment('t', 1), 'n1');
everywhere('CREATE UNIQUE INDEX t_v_id_key ON ONLY public.t USING btree ("W w", id) t_v_id_key', 'UNIQUE ("W w", id)', 'a column less');
$c->sql(2, q{SELECT fragaffinity.undistribute_table('t')});
is(shown(2, 't'), 'CREATE UNIQUE INDEX t_v_id_key ON public.t USING btree ("W w", id) t_v_id_key', 'the plain table has it');
is($c->sql(2, q{SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 't_v_id_key'}), 'both', 'with its comment');

# An index by which a plain table's rows were known, and that is gone.
$c->sql(2, q{ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER "W w" SET NOT NULL;
	ALTER TABLE t REPLICA IDENTITY USING INDEX t_v_id_key; SELECT fragaffinity.distribute_table('t', 'id', 6)});
$c->sql(1, 'ALTER TABLE t DROP CONSTRAINT t_v_id_key');
$c->sql(1, q{SELECT fragaffinity.undistribute_table('t')});
is($c->sql(1, q{SELECT relreplident FROM pg_class WHERE oid = 't'::regclass}), 'd', 'is forgotten');
$c->sql(1, 'DROP TABLE t');

# A table that its user has partitioned: its columns, too.
$c->sql(1, q{CREATE TABLE m (k int NOT NULL, day int NOT NULL, v int) PARTITION BY RANGE (day);
	CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (1) TO (10); CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20) PARTITION BY LIST (v);
	CREATE TABLE m2a PARTITION OF m2 FOR VALUES IN (1, 2);
	INSERT INTO m SELECT i, i % 19 + 1, 1 FROM generate_series(1, 100) i;
	SELECT fragaffinity.distribute_table('m', 'k', 3)});
for my $columns ('k', 'day', 'k, day', 'day, v')
{
	my ($code, $message) = $c->fails(1, "CREATE UNIQUE INDEX ON m ($columns)");
	is($code, '0A000', "not by $columns");
	like($message, qr/must contain column "\w+".*HINT/s, 'and why');
}
$c->sql(2, 'CREATE UNIQUE INDEX m_u ON m (k, day, v)');
is(on_heaps($_, 'm'), 'USING btree (k, day, v)', "all three on node $_") for 1 .. 3;
is(($c->fails($_, 'INSERT INTO m VALUES (5, 6, 1)'))[0], '23505', "held through node $_") for 1 .. 3;

# Not while a move is under way, nor does one begin meanwhile.
my $f = $c->fragment('m', 0);
my $owner = $c->sql(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f");
my $to = $owner eq 'n2' ? 3 : 2;
$c->hold($to, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
ok($c->wait_held($to, 'move_copied'), 'a move is under way');
for my $i (1 .. 3)
{
	is(($c->fails($i, "SET lock_timeout = '100ms'; $_"))[0], '55P03', "not now through node $i: $_") for 'CREATE UNIQUE INDEX ON m (k, day, v)', 'DROP INDEX m_u';
}
$c->release($to);
$c->poll(1, "SELECT owner || state FROM fragaffinity.fragments WHERE fragment = $f", "n${to}stable", 'the move ends');
my %ddl = (out => '', err => '', in => '');
$ddl{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $c->node(1)->connstr('postgres') ],
	'<', \$ddl{in}, '>', \$ddl{out}, '2>', \$ddl{err});
$ddl{in} .= "BEGIN; DROP INDEX m_u; CREATE UNIQUE INDEX m_new ON m (v, day, k); SELECT 'done';\n";
pump_until($ddl{run}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default), \$ddl{out}, qr/done/);
my $back = $to == 2 ? 3 : 2;
is(($c->fails($back, "SELECT fragaffinity.move_fragment($f, 'n$back', wait => false)"))[0], '55006', 'no move meanwhile');
$ddl{in} .= "COMMIT;\n\\q\n";
$ddl{run}->finish;
is($ddl{err}, '', 'the transaction ends');
$c->move($f, "n$back");
is(on_heaps($_, 'm'), 'USING btree (v, day, k)', "with what is unique now on node $_") for 1 .. 3;

# What waits while the table is gathered is done to what that has made.
for my $sql ('ALTER TABLE m ADD COLUMN x int', 'DROP INDEX m_new', 'DROP TABLE m')
{
	my %undo = (out => '', err => '', in => '');
	my %late = (out => '', err => '');
	$undo{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $c->node(1)->connstr('postgres') ],
		'<', \$undo{in}, '>', \$undo{out}, '2>', \$undo{err});
	$undo{in} .= "BEGIN; SELECT fragaffinity.undistribute_table('m'); SELECT 'done';\n";
	pump_until($undo{run}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default), \$undo{out}, qr/done/);
	$late{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(1)->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \$late{out}, '2>', \$late{err});
	$c->poll(1, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'advisory'}, 't', "$sql waits");
	$undo{in} .= "COMMIT;\n\\q\n";
	$_->finish for $undo{run}, $late{run};
	is($late{err}, '', 'and is done');
	$c->sql(1, q{SELECT fragaffinity.distribute_table('m', 'k', 3)}) if $sql ne 'DROP TABLE m';
}
is($c->sql($_, q{SELECT to_regclass('m') IS NULL}), 't', "dropped on node $_") for 1 .. 3;

# Values that a collation takes for equal, and hashes do not: not of the key, nor of
# columns that partitions are by.  Of others they meet in one heap.
$c->sql($_, q{CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE EXTENSION IF NOT EXISTS btree_gist}) for 1 .. 3;
$c->sql(1, q{CREATE TABLE c (k text NOT NULL, p text NOT NULL, v text COLLATE ci NOT NULL, n int NOT NULL) PARTITION BY RANGE (n);
	CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (1) TO (10) PARTITION BY LIST (p);
	CREATE TABLE c1a PARTITION OF c1 FOR VALUES IN ('a'); CREATE TABLE c1b PARTITION OF c1 FOR VALUES IN ('A');
	SELECT fragaffinity.distribute_table('c', 'k', 6)});
for my $columns ('k COLLATE ci, p, n', 'k, p COLLATE ci, n')
{
	my ($code, $message) = $c->fails(2, "CREATE UNIQUE INDEX ON c ($columns)");
	is($code, '0A000', "not by $columns");
	like($message, qr/must contain column "[kp]".*HINT/s, 'and why');
}
$c->sql(2, 'CREATE UNIQUE INDEX ON c (k COLLATE "C", p, n, v); CREATE UNIQUE INDEX ON c (k, p, n, v COLLATE "C")');
for my $i (1 .. 3)
{
	$c->sql($i, "INSERT INTO c VALUES ('k$i', 'a', 'v', 1), ('K$i', 'a', 'v', 1), ('k$i', 'A', 'v', 1)");
	is(($c->fails($i % 3 + 1, "INSERT INTO c VALUES ('k$i', 'a', 'V', 1)"))[0], '23505', "equal in another column, through node $i");
	is($c->sql($i, "INSERT INTO c VALUES ('k$i', 'a', 'V', 1) ON CONFLICT (k, p, n, v) DO UPDATE SET v = 'w' RETURNING v"), 'w', "the row in conflict is found, too, by node $i");
	is($c->sql($i, "INSERT INTO c VALUES ('k$i', 'A', 'V', 1) ON CONFLICT DO NOTHING RETURNING v"), '', "or left alone, by node $i");
}
$c->sql(1, q{CREATE TABLE d (k text NOT NULL, n int NOT NULL) PARTITION BY RANGE (n); CREATE TABLE d1 PARTITION OF d FOR VALUES FROM (1) TO (10);
	CREATE UNIQUE INDEX d_u ON d (n, k COLLATE ci)});
my ($loose, $why) = $c->fails(1, q{SELECT fragaffinity.distribute_table('d', 'k', 3)});
is($loose, '0A000', 'nor is such a table distributed');
like($why, qr/"d_u" does not contain the key "k".*HINT.*deterministic/s, 'and why');

# Writers meanwhile: what they wrote is unique, or there is no index.
$c->sql(1, q{CREATE TABLE w (id int NOT NULL, v int NOT NULL DEFAULT 0); INSERT INTO w SELECT generate_series(1, 300);
	SELECT fragaffinity.distribute_table('w', 'id', 6)});
my $script = PostgreSQL::Test::Utils::tempdir() . '/w.sql';
append_to_file($script, '\set id random(1, 300)
UPDATE w SET v = v + 1 WHERE id = :id;
');
my @writers = map {
	my %w = (out => '', err => '');
	$w{run} = IPC::Run::start([ 'pgbench', '-n', '-M', 'prepared', '-c', 2, '-T', 8, '-f', $script,
			'-h', $c->node($_)->host, '-p', $c->node($_)->port, 'postgres' ],
		'<', \undef, '>', \$w{out}, '2>', \$w{err});
	\%w
} 1 .. 3;
for my $i (1 .. 3)
{
	$c->sql($i, 'ALTER TABLE w ADD CONSTRAINT w_key PRIMARY KEY (id)');
	$c->sql($i % 3 + 1, 'ALTER TABLE w DROP CONSTRAINT w_key');
}
$_->{run}->finish for @writers;
my $written = 0;
for (@writers)
{
	is($_->{err}, '', 'writers see nothing of it');
	$written += $1 if $_->{out} =~ /actually processed: (\d+)/;
}
is($c->sql(1, 'SELECT sum(v) FROM w'), $written, 'and nothing is lost');

# Servers that die half way: on all nodes, or on none.
my $n = 0;
for my $point ('cluster_before_decision', 'cluster_decided')
{
	my %s = (out => '', err => '');
	$c->hold(1, $point);
	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(1)->connstr('postgres'), '-c', "CREATE UNIQUE INDEX w_$point ON w (id)" ],
		'<', \undef, '>', \$s{out}, '2>', \$s{err});
	ok($c->wait_held(1, $point), "held at $point");
	$c->kill9(1);
	$s{run}->finish;
	$c->release(1);
	$c->restart(1);
	$n++ if $point eq 'cluster_decided';
	$c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0', "nothing in doubt on node $_") for 2, 3;
	is($c->sql($_, q{SELECT count(*) FROM pg_class WHERE relname ~ '^w_cluster' AND relkind = 'I'}), $n, "after $point: node $_") for 1 .. 3;
	is(on_heaps($_, 'w') // '', $n ? 'USING btree (id)' : '', "and its heaps") for 1 .. 3;
}
$c->kill9(3);
is(($c->fails(1, 'DROP INDEX w_cluster_decided'))[0], '08001', 'not while a node is down');

done_testing();
