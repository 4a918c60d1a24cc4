# What counts as an access, for whom, and how much of it.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('t', 'id', 4);
	CREATE TABLE plain (id int PRIMARY KEY, v text)});

# Smallest keys of each fragment; 1 and 3 are on node 1, 2 and 4 on node 2.
my (%key, %second);
for my $line (split /\n/, $c->sql(1, q{
	SELECT fragaffinity.bucket_of('t', g) + 1, g FROM generate_series(1, 60) g}))
{
	my ($f, $g) = split /\|/, $line;
	if (!$key{$f}) { $key{$f} = $g; }
	elsif (!$second{$f}) { $second{$f} = $g; }
}
is($c->sql(1, q{SELECT string_agg(fragment || owner, ' ' ORDER BY fragment) FROM fragaffinity.fragments}),
	'1n1 2n2 3n1 4n2', 'fragments are where this test expects them');

my $stats = q{SELECT fragment, sum(calls), sum(remote_calls), sum(rows_read), sum(rows_written)
	FROM fragaffinity.access_stats WHERE node = '%s' GROUP BY 1 ORDER BY 1};

sub stats
{
	my ($i) = @_;
	my %s;
	$c->sql($i, 'SELECT fragaffinity.flush_stats()');
	for my $line (split /\n/, $c->sql($i, sprintf($stats, "n$i")))
	{
		my ($f, @n) = split /\|/, $line;
		$s{$f} = \@n;
	}
	return \%s;
}

# "fragment:calls/remote/read/written" of what a script did.
sub counted
{
	my ($i, $sql) = @_;
	my $before = stats($i);
	$c->sql($i, $sql);
	my $after = stats($i);
	my @result;
	for my $f (sort keys %$after)
	{
		my @d = map { $after->{$f}[$_] - ($before->{$f} ? $before->{$f}[$_] : 0) } 0 .. 3;
		push @result, "$f:" . join('/', @d) if grep { $_ } @d;
	}
	return "@result";
}

sub counts
{
	my ($sql, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(counted(1, $sql), $expected, $name);
	return;
}

my ($k1, $k2, $k3, $k4) = @key{1 .. 4};
my ($s1, $s2) = @second{1, 2};

counts("INSERT INTO t VALUES ($k1, 'a')", '1:1/0/0/1', 'insert of a local row');
counts("INSERT INTO t VALUES ($k2, 'a')", '2:1/1/0/1', 'insert of a remote row');
counts("INSERT INTO t VALUES ($k3, 'a'), ($k4, 'a')", '3:1/0/0/1 4:1/1/0/1', 'insert into two fragments');
counts("SELECT * FROM t WHERE id = $k1", '1:1/0/1/0', 'local read');
counts("SELECT * FROM t WHERE id = $k2", '2:1/1/1/0', 'remote read');
counts("SELECT count(*) FROM t", '1:1/0/1/0 2:1/1/1/0 3:1/0/1/0 4:1/1/1/0', 'scan of all');
counts("SELECT * FROM t WHERE id IN ($k1, $k2)", '1:1/0/1/0 2:1/1/1/0', 'read of two fragments');
counts("UPDATE t SET v = 'b' WHERE id = $k1", '1:1/0/1/1', 'local update');
counts("UPDATE t SET v = 'b' WHERE id = $k2", '2:1/1/1/1', 'remote update');
counts("UPDATE t SET v = 'c'", '1:1/0/1/1 2:1/1/1/1 3:1/0/1/1 4:1/1/1/1', 'update of all');
counts("UPDATE t SET v = 'c' WHERE id = $k1 RETURNING v", '1:1/0/1/1', 'update returning');
counts("DELETE FROM t WHERE id = $k3", '3:1/0/1/1', 'delete');
counts("SELECT * FROM t WHERE id = $k3", '3:1/0/0/0', 'read that finds nothing');
counts("INSERT INTO t SELECT id + 0, v FROM (VALUES ($k3, 'z')) x(id, v)", '3:1/0/0/1', 'insert of a query');
counts("SELECT a.id FROM t a JOIN t b USING (id) WHERE a.id = $k1", '1:1/0/2/0', 'a fragment met twice counts once');
counts("WITH w AS (UPDATE t SET v = 'd' WHERE id = $k1 RETURNING id) SELECT * FROM w",
	'1:1/0/1/1', 'update in a query');
counts("WITH w AS (INSERT INTO t VALUES ($s1, 'w') RETURNING id) SELECT * FROM t WHERE id = $k1",
	'1:1/0/1/1', 'insert in a query of the same fragment');
counts("DELETE FROM t WHERE id = $s1", '1:1/0/1/1', 'and it is deleted');

# Nodes of a plan that are not executed do not count.
counts("SELECT * FROM t WHERE id = $k1 AND (SELECT count(*) FROM plain) > 5 ",
	'', 'plan node that never runs');
counts("SELECT * FROM t WHERE id = (SELECT $k2)", '2:1/1/1/0', 'pruning at run time');
counts("SET plan_cache_mode = force_generic_plan;
	PREPARE p(int) AS SELECT * FROM t WHERE id = \$1;
	EXECUTE p($k1); EXECUTE p($k2); EXECUTE p($k1)", '1:2/0/2/0 2:1/1/1/0', 'prepared, generic plan');
counts("PREPARE p(int) AS UPDATE t SET v = 'p' WHERE id = \$1; EXECUTE p($k1); EXECUTE p($k2)",
	'1:1/0/1/1 2:1/1/1/1', 'prepared update');
counts("SELECT * FROM t LIMIT 0", '', 'limit 0 reads nothing');

counts("EXPLAIN SELECT * FROM t", '', 'explain');
counts("EXPLAIN (ANALYZE) SELECT * FROM t WHERE id = $k1", '1:1/0/1/0', 'explain analyze');
counts("SELECT * FROM plain; INSERT INTO plain VALUES (1, 'x'); DELETE FROM plain", '', 'other tables');
counts("BEGIN; DECLARE x CURSOR FOR SELECT * FROM t WHERE id = $k1; COMMIT", '', 'cursor that is not read');
counts("BEGIN; DECLARE x CURSOR FOR SELECT * FROM t WHERE id = $k1; FETCH x; FETCH x; COMMIT",
	'1:1/0/1/0', 'cursor');
counts("SET fragaffinity.capture = off; SELECT * FROM t", '', 'capture off');

# Errors and functions.
is(counted(1, "DO \$\$ BEGIN PERFORM 1 / (id - $k1) FROM t WHERE id = $k1;
	EXCEPTION WHEN division_by_zero THEN NULL; END \$\$"), '', 'failed statement');
$c->sql(1, "CREATE FUNCTION f(k int) RETURNS text LANGUAGE plpgsql AS
	\$\$ DECLARE r text; BEGIN SELECT v INTO r FROM t WHERE id = k; RETURN r; END \$\$;
	CREATE FUNCTION g(k int) RETURNS text LANGUAGE sql VOLATILE AS
	\$\$ SELECT v FROM t WHERE id = k \$\$");
counts("SELECT f($k1)", '1:1/0/1/0', 'statement in a function');
counts("SELECT f($k1), f($k2)", '1:1/0/1/0 2:1/1/1/0', 'two calls');
counts("SELECT f($k1) FROM t WHERE id = $k1", '1:2/0/2/0', 'function in a counted statement');
counts("SELECT g($k1)", '1:1/0/1/0', 'SQL function');

# Triggers count by themselves, checks of foreign keys do not.
$c->sql(1, q{CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
	INSERT INTO parent VALUES (1)});
counts('INSERT INTO child VALUES (1); DELETE FROM parent', '', 'foreign key of other tables');

# Parallel: the leader alone counts, with the workers' rows.
$c->sql(1, "INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1000, 21000) g; ANALYZE t");
my $local = $c->sql(1, 'SELECT count(*) FROM t_b0_h');
my $parallel = $c->node(1)->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
counts("SET max_parallel_workers_per_gather = 2; SET min_parallel_table_scan_size = 0;
	SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET $parallel = on;
	SELECT count(*) FROM t_b0_h", "1:1/0/$local/0", 'parallel scan');

# COPY and TRUNCATE.
my $csv = PostgreSQL::Test::Utils::tempdir() . '/t.csv';
$c->sql(1, 'TRUNCATE t');
counts("COPY (SELECT g, 'c' FROM generate_series(1, 400) g) TO '$csv'; COPY t FROM '$csv'",
	join(' ', map { "$_" } split /\n/, $c->sql(1, q{
		WITH r AS (SELECT bucket_of + 1 AS f, count(*) AS n
			FROM generate_series(1, 400) g, fragaffinity.bucket_of('t', g) GROUP BY 1)
		SELECT f || CASE WHEN f IN (1, 3) THEN ':1/0/0/' || n
			ELSE ':1/1/0/' || (SELECT floor(sum(n) / 2)::int FROM r WHERE f IN (2, 4)) END
		FROM r ORDER BY f})), 'copy from');
counts("COPY t_b0_h TO '$csv'", "1:1/0/" . $c->sql(1, 'SELECT count(*) FROM t_b0_h') . '/0', 'copy of a leaf');
counts("COPY (SELECT * FROM t WHERE id = $k2) TO '$csv'", '2:1/1/1/0', 'copy of a query');
counts('TRUNCATE t', '1:1/0/0/0 2:1/1/0/0 3:1/0/0/0 4:1/1/0/0', 'truncate');

# The owner counts nothing of what it does for a peer's clients.
my $owner = stats(2);
is(join(' ', map { "$_:$owner->{$_}[0]" } sort keys %$owner), '', 'forwarded statements do not count at the owner');
is(counted(2, "SELECT * FROM t WHERE id = $k1; SELECT * FROM t WHERE id = $k2"),
	'1:1/1/0/0 2:1/0/0/0', 'its own clients do');

# Times: remote calls cost at least as much as local ones, and add up.
is($c->sql(1, q{SELECT bool_and(mean_ms > 0 AND (remote_calls = 0) = (remote_mean_ms IS NULL)
		AND last_access > now() - interval '10 minutes')
	FROM fragaffinity.access_stats WHERE node = 'n1'}), 't', 'times are there');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.access_stats a
	JOIN (SELECT fragment, node, sum(calls) AS calls FROM fragaffinity.access_history GROUP BY 1, 2) h
	USING (fragment, node) WHERE node = 'n1' AND a.calls <> h.calls}), '0', 'history adds up to the sums');

# Sequences: who came from where.
$c->sql(1, 'DELETE FROM fragaffinity.transition');
$c->sql($_, 'CREATE ROLE teller LOGIN') for 1, 2;
$c->sql(1, 'GRANT SELECT ON t TO teller');
$c->poll(1, q{SELECT count(*) FROM pg_user_mappings WHERE usename = 'teller'}, 1, 'role is mapped');
$c->sql(1, qq{SET application_name = 'till'; SET SESSION AUTHORIZATION teller;
	SELECT * FROM t WHERE id = $k1; SELECT * FROM t WHERE id = $k1; SELECT * FROM t WHERE id = $k3;
	SELECT * FROM t WHERE id = $k1});
$c->sql(1, 'SELECT fragaffinity.flush_stats()');
is($c->sql(1, q{SELECT string_agg(format('%s>%s=%s', coalesce(from_fragment::text, ''), to_fragment, round(weight)),
		' ' ORDER BY from_fragment NULLS FIRST, to_fragment)
	FROM fragaffinity.transitions WHERE role = 'teller' AND application = 'till' AND node = 'n1'}),
	'>1=1 1>1=1 1>3=1 3>1=1', 'transitions of a session');

# Many sessions at once: every statement is counted once, in the sums and in
# the sequences (a session's statements are its transitions).
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/read.sql", "\\set k random(1, 400)\nSELECT v FROM t WHERE id = :k;\n");
my $before = $c->sql(1, 'SELECT fragaffinity.flush_stats(); SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = \'n1\'');
local $ENV{PGAPPNAME} = 'pgbench';
for my $mode (qw(simple extended prepared))
{
	$c->node(1)->command_ok([ 'pgbench', '-n', '-M', $mode, '-c', 6, '-t', 200, '-f', "$dir/read.sql",
		'-h', $c->node(1)->host, '-p', $c->node(1)->port, 'postgres' ], "pgbench $mode");
}
my $after = $c->sql(1, 'SELECT fragaffinity.flush_stats(); SELECT sum(calls) FROM fragaffinity.access_stats WHERE node = \'n1\'');
s/\s//g for $before, $after;
is($after - $before, 3600, 'concurrent sessions: every call once');
is($c->sql(1, q{SELECT sum(h) = sum(t) FROM (SELECT (SELECT sum(calls) FROM fragaffinity.history h
		WHERE (h.node, h.fragment) = (t.node, t.fragment)) AS h, calls AS t
	FROM fragaffinity.access_total t WHERE node = 1) x}), 't', 'also in history');
is($c->sql(1, q{SELECT lost FROM fragaffinity.event_stats()}), '0', 'no event lost');
cmp_ok($c->sql(1, q{SELECT round(sum(weight)) FROM fragaffinity.transitions WHERE application = 'pgbench'}),
	'>=', 3580, 'every call is a transition');
is($c->sql(1, q{SELECT round(sum(weight)) FROM fragaffinity.transitions
	WHERE application = 'pgbench' AND from_fragment IS NULL}), '18', 'every session arrives once');

# Rights.
my ($code) = $c->fails(1, 'SET SESSION AUTHORIZATION teller; SELECT * FROM fragaffinity.access_stats');
is($code, '42501', 'nothing for everybody');
$c->sql(1, 'GRANT pg_monitor TO teller');
is($c->sql(1, "SET SESSION AUTHORIZATION teller; SELECT fragaffinity.flush_stats();
	SELECT count(*) > 0 FROM fragaffinity.access_stats"), "\nt", 'pg_monitor reads and flushes');
($code) = $c->fails(1, 'SET SESSION AUTHORIZATION teller; SELECT fragaffinity.reset_stats()');
is($code, '42501', 'but does not reset');
$c->sql(1, 'SELECT fragaffinity.reset_stats()');
is($c->sql(1, q{SELECT count(*) FROM fragaffinity.access_stats WHERE node = 'n1'}), '0', 'reset');

done_testing();
