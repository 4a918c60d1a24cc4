# UPDATE of the key that takes rows to other fragments, here and on other nodes:
# answers as of a plain table, one row whatever happens, and for who waits for a
# moved row the error of PostgreSQL's own row movement.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use SameAnswers;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my $columns = q{(gone int, k int PRIMARY KEY, v text NOT NULL DEFAULT 'new', n int NOT NULL DEFAULT 0 CHECK (n < 1000),
	g text GENERATED ALWAYS AS (v || ':' || n) STORED, id int GENERATED ALWAYS AS IDENTITY (START 1000000))};
$c->sql(1, "CREATE TABLE d $columns; CREATE TABLE p $columns; ALTER TABLE d DROP gone; ALTER TABLE p DROP gone;
	CREATE TABLE names (k int, name text, PRIMARY KEY (k));
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 6);
	CREATE VIEW low AS SELECT * FROM d WHERE k < 5000 WITH CHECK OPTION;
	CREATE VIEW p_low AS SELECT * FROM p WHERE k < 5000 WITH CHECK OPTION;
	CREATE FUNCTION f(a int, b int) RETURNS text LANGUAGE plpgsql AS
		\$\$ DECLARE r text; BEGIN UPDATE d SET k = b WHERE k = a RETURNING v INTO r; RETURN r; END \$\$;
	CREATE FUNCTION p_f(a int, b int) RETURNS text LANGUAGE plpgsql AS
		\$\$ DECLARE r text; BEGIN UPDATE p SET k = b WHERE k = a RETURNING v INTO r; RETURN r; END \$\$");
for my $r ('r', 'p_r')
{
	$c->sql(1, "CREATE TABLE $r (k int, day date, n int NOT NULL DEFAULT 0, PRIMARY KEY (k, day)) PARTITION BY RANGE (day);
		CREATE TABLE ${r}_1 PARTITION OF $r FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
		CREATE TABLE ${r}_2 PARTITION OF $r FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')");
}
$c->sql(1, "SELECT fragaffinity.distribute_table('r', 'k', fragments => 3)");
my $of_others = 'CREATE TABLE names (k int PRIMARY KEY, name text)';
$c->sql($_, "$of_others; CREATE VIEW low AS SELECT * FROM d WHERE k < 5000 WITH CHECK OPTION;
	CREATE FUNCTION f(a int, b int) RETURNS text LANGUAGE plpgsql AS
		\$\$ DECLARE r text; BEGIN UPDATE d SET k = b WHERE k = a RETURNING v INTO r; RETURN r; END \$\$") for 2, 3;
my $head = q{
	TRUNCATE d;
	INSERT INTO d (k, v, n, id) OVERRIDING SYSTEM VALUE SELECT i, 'v' || i, i, i FROM generate_series(1, 60) i;
	TRUNCATE r; INSERT INTO r SELECT i, '2024-01-01'::date + i, i FROM generate_series(1, 40) i;
	TRUNCATE names; INSERT INTO names SELECT i, 'name ' || i FROM generate_series(1, 40) i;
};

# Every row that is in another leaf than its own, or in two.
sub misplaced
{
	my ($table, $rows) = @_;
	my ($wrong, $n) = ('', 0);
	for my $i (1 .. 3)
	{
		my $leaves = $c->sql($i, "SELECT string_agg(format('SELECT %L, count(*) FILTER (WHERE fragaffinity.bucket_of(''$table'', k) <> %s), count(*) FROM %s',
				f.leaf::regclass, substring(f.bucket::text, '\\d+\$'), f.leaf::regclass), ' UNION ALL ')
			FROM fragaffinity.fragments f WHERE f.owner = 'n$i' AND f.table_name = '$table'::regclass");
		next if $leaves eq '';
		$wrong .= $c->sql($i, "SELECT leaf, n FROM ($leaves) x (leaf, n, rows) WHERE n > 0");
		$n += $c->sql($i, "SELECT sum(rows) FROM ($leaves) x (leaf, n, rows)");
	}
	return "$wrong $n of $rows rows" if $wrong ne '' || $n != $rows;
	return '';
}

my @statements = split /\n/, <<'SQL';
UPDATE d SET k = 101 WHERE k = 1
UPDATE d SET k = 102 WHERE k = 2 RETURNING *
UPDATE d SET k = k + 200 WHERE k IN (3, 4, 5, 6, 7, 8) RETURNING k, v, g, id
UPDATE d SET k = k + 200 WHERE k = ANY (ARRAY[9, 10, 11, 777]) RETURNING (d) AS x, k * 2
UPDATE d SET k = -k WHERE v LIKE 'v1_' RETURNING k
UPDATE d SET k = k * 1000, n = n + 1, v = upper(v) WHERE n BETWEEN 20 AND 25 RETURNING g
UPDATE d SET (k, v) = (SELECT max(x.k) + 1, 'most' FROM names x) WHERE k = 26 RETURNING k, v, g
UPDATE d SET k = 27 WHERE k = 28
UPDATE d SET k = 999 WHERE k IN (29, 30)
UPDATE d SET k = NULL WHERE k = 29
UPDATE d SET k = NULL WHERE v = 'v29'
UPDATE d SET k = 500, v = NULL WHERE k = 29
UPDATE d SET k = 500, n = 1000 WHERE k = 29
UPDATE d SET k = 1 / (k - 29) WHERE k = 29
UPDATE d SET k = 12345678901 WHERE k = 29
UPDATE d SET k = k + 300, id = DEFAULT WHERE k = 30 RETURNING k, id > 1000
UPDATE d SET k = k + 300, v = DEFAULT, n = DEFAULT WHERE k = 31 RETURNING *
UPDATE d SET k = d.k + 400, v = s.x FROM (VALUES (32, 'a'), (33, 'b'), (34, 'c')) s (k, x) WHERE d.k = s.k RETURNING d.k, s.k, v, x
UPDATE d SET k = d.k + 400, v = x.name FROM names x WHERE d.k = x.k AND x.k BETWEEN 35 AND 38 RETURNING d.k, x.k, v, x.name, g
UPDATE d SET k = d.k + 400 FROM names x, names y WHERE d.k = x.k AND x.k = 39
UPDATE d SET k = x.k + 600 FROM names x WHERE d.k = 40 AND x.k IN (1, 2) RETURNING d.v
UPDATE d SET k = a.k + 700 FROM d a WHERE d.k = a.k AND a.k IN (41, 42) RETURNING d.k
UPDATE d SET k = a.k + 2000 FROM d a WHERE d.id = a.id + 1 AND a.id IN (43, 44) RETURNING d.id, a.id
WITH u AS (UPDATE d SET k = k + 800 WHERE k IN (46, 47) RETURNING k, n) SELECT count(*), sum(k), sum(n) FROM u
WITH u AS (UPDATE d SET k = k + 800 WHERE k = 48) INSERT INTO d (k, v) VALUES (4800, 'with')
WITH u AS (UPDATE d SET k = k + 800 WHERE k = 49 RETURNING k), w AS (UPDATE d SET k = k + 800 WHERE k = 50 RETURNING k) SELECT * FROM u UNION ALL SELECT * FROM w
WITH x AS (DELETE FROM d WHERE k = 51 RETURNING *) UPDATE d SET k = x.k + 800 FROM x WHERE d.k = 52 RETURNING d.k, d.v
UPDATE low SET k = 4000 WHERE k = 53 RETURNING k
UPDATE low SET k = 6000 WHERE k = 54 RETURNING k
UPDATE low SET k = 6000 WHERE v = 'v54'
SELECT f(55, 955) AS x
SELECT f(x, x + 900) AS y FROM generate_series(56, 57) x
UPDATE d SET k = k WHERE k = 58 RETURNING *
UPDATE d SET k = k, v = 'same' RETURNING k
UPDATE d SET k = 901 WHERE k = 4711 RETURNING *
UPDATE d SET k = k + 10000
UPDATE d SET k = CASE WHEN k % 2 = 0 THEN k ELSE -k END, n = n + 1 RETURNING k, n
UPDATE d SET k = 7 WHERE false
UPDATE r SET day = day + 20 WHERE k IN (1, 2, 3, 15, 16, 17) RETURNING *
UPDATE r SET day = '2024-02-28', k = k + 100 WHERE n BETWEEN 20 AND 26 RETURNING k, day
UPDATE r SET day = day + 1 WHERE k = 4 RETURNING day
UPDATE r SET day = '2024-03-01' WHERE k = 5
UPDATE r SET day = NULL WHERE k = 5
UPDATE r SET k = 6, day = '2024-01-07' WHERE k = 7
UPDATE r SET k = -k, n = r.n + x.k FROM names x WHERE x.k = r.k AND x.k > 34 RETURNING r.k, r.n, day
SELECT count(*), sum(k), sum(n), sum(day - '2024-01-01') FROM r
EXECUTE moves (10027, 27)
EXECUTE moves (27, 28)
UPDATE d SET v = 'after', k = k WHERE k = 28 RETURNING *
SQL
my $oracle = SameAnswers->new($c, { d => 'p', low => 'p_low', f => 'p_f', r => 'p_r' },
	"$head;\nPREPARE moves AS UPDATE d SET k = \$2, v = 'was ' || k WHERE k = \$1 RETURNING k, v;\n");
for my $i (1 .. 3)
{
	cmp_ok($oracle->same($i, 'alone', sub { "$_[0];\n" }, @statements), '>', 5, 'errors are among them');
	is(misplaced('d', $c->sql(1, 'SELECT count(*) FROM p')), '', 'and every row is in its place, once');
	$oracle->same($i, 'in blocks', sub { "BEGIN; SAVEPOINT a; $_[0];\nROLLBACK TO a;\nSELECT count(*), sum(k), sum(n), max(g) FROM d;\n"
		  . "SAVEPOINT b; $_[0];\nROLLBACK TO b; $_[0];\nSELECT count(*), sum(k), sum(n), max(g) FROM d; COMMIT;\n" }, @statements);
	$oracle->same($i, 'repeatable read', sub { "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM d; $_[0];\nSELECT count(*), sum(k) FROM d; COMMIT;\n" }, @statements);
	is(misplaced('d', $c->sql(1, 'SELECT count(*) FROM p')), '', 'and every row is in its place, once');
}
# More rows than fit into work_mem.
$c->sql(1, q{CREATE TABLE wide (k int PRIMARY KEY, v text);
	INSERT INTO wide SELECT g, repeat('x', 200) FROM generate_series(1, 3000) g;
	SELECT fragaffinity.distribute_table('wide', 'k', fragments => 6)});
my ($out, $err);
$c->node(1)->psql('postgres', q{SET work_mem = '64kB'; UPDATE wide SET k = k + 100000 WHERE v <> ''; SELECT count(*), min(k) FROM wide},
	stdout => \$out, stderr => \$err);
is("$out$err", '3000|100001', 'more rows than fit into memory leave');
$c->check_consistent('indexes and maps are whole');

# Rights: those to delete and insert, as well.
$c->sql($_, 'CREATE ROLE writer LOGIN') for 1 .. 3;
$c->sql(1, 'TRUNCATE d; INSERT INTO d (k) SELECT generate_series(1, 60); GRANT SELECT, UPDATE ON d TO writer');
sub keys_of { return split /\n/, $c->sql(1, "SELECT k FROM generate_series(1, 60) k WHERE fragaffinity.bucket_of('d', k) = $_[0] ORDER BY k") }
my ($far, $far2) = keys_of(1);
my ($near) = keys_of(0);
# a key of another fragment, for each of these
my %to;
for ($far, $far2, $near)
{
	my $used = join ',', 0, values %to;
	$to{$_} = $c->sql(1, "SELECT min(k) FROM generate_series(5001, 5100) k WHERE k NOT IN ($used)
		AND fragaffinity.bucket_of('d', k) NOT IN (0, 1)");
}
sub as_writer
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-c', '\set VERBOSITY sqlstate', '-c', $sql, $c->conninfo(1, 'writer') ], '>', \$out, '2>', \$err);
	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}
my $take = "UPDATE d SET k = $to{$far} WHERE k = $far RETURNING k";
SKIP:
{
	my $reads = as_writer("SELECT k FROM d WHERE k = $far");
	skip "writer cannot log in at peers: $reads", 3 if $reads !~ /^\d+$/m || $reads ne "$far\n";
	is(as_writer($take), '42501', 'without them it is refused');
	$c->sql(1, 'GRANT INSERT, DELETE ON d TO writer');
	is(as_writer($take), "$to{$far}\n", 'with them it is done');
	is($c->sql(2, "SELECT count(*) FROM d WHERE k = $to{$far}"), '1', 'and seen elsewhere');
}

# Who waits for a row that goes gets what PostgreSQL says of row movement.
$c->sql(1, 'TRUNCATE d; INSERT INTO d (k, v) SELECT i, $$v$$ || i FROM generate_series(1, 60) i');
my $moved = qr/tuple to be locked was already moved to another partition due to concurrent update/;
for my $case ([ 1, 2, $far ], [ 1, 1, $far ], [ 2, 1, $near ], [ 3, 2, $far2 ])
{
	my ($mover, $waiter, $k) = @$case;
	for my $end ('ROLLBACK', 'COMMIT')
	{
		for my $sql ("UPDATE d SET n = n + 1 WHERE v = 'v$k'", "DELETE FROM d WHERE k = $k", "SELECT FROM d WHERE k = $k FOR UPDATE",
			"UPDATE d SET k = k + 6000 WHERE v = 'v$k'")
		{
			my $m = $c->node($mover)->background_psql('postgres');
			my $w = $c->node($waiter)->background_psql('postgres', on_error_stop => 0);
			$m->query_safe("BEGIN; UPDATE d SET k = $to{$k} WHERE k = $k");
			$w->{stdin} .= "\\set VERBOSITY verbose\nBEGIN; $sql;\nROLLBACK;\n\\echo done\n";
			$w->{run}->pump_nb;
			my $node = 1 + ($k == $near ? 0 : 1);
			ok($c->poll($node, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"), "$sql waits");
			$m->query_safe($end);
			$w->{run}->pump until $w->{stdout} =~ /done/;
			if ($end eq 'COMMIT')
			{
				like($w->{stderr}, qr/40001: $moved/, "mover on $mover, waiter on $waiter: it is told so");
				$c->sql(1, "UPDATE d SET k = $k WHERE k = $to{$k}");
			}
			else
			{
				unlike($w->{stderr}, qr/ERROR/, 'it goes on when the row stays');
			}
			$m->quit;
			$w->quit;
		}
	}
}
is(misplaced('d', 60), '', 'every row is in its place');

# Many writers on all nodes, rows on their way, fragments moving, nodes dying.
# Each writes down what it has done, in the same transaction.
$c->sql($_, 'CREATE TABLE done (id int)') for 1 .. 3;
$c->sql(1, q{CREATE TABLE m (k int PRIMARY KEY, id int NOT NULL, n int NOT NULL DEFAULT 0);
	INSERT INTO m SELECT i, i FROM generate_series(1, 40) i;
	SELECT fragaffinity.distribute_table('m', 'k', fragments => 6)});
my $script = "$PostgreSQL::Test::Utils::tmp_check/moves.sql";
append_to_file($script, q{\set id random(1, 40)
\set r random(0, 99)
WITH u AS (UPDATE m SET k = :id + 40 * :r, n = n + 1 WHERE id = :id RETURNING id) INSERT INTO done SELECT id FROM u;
});
sub start_writers
{
	return map {
		my %w = (out => '', err => '');
		$w{run} = IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 1000, '--max-tries', 1000, '-f', $script,
			'-h', $c->node($_)->host, '-p', $c->node($_)->port, 'postgres' ], '<', \undef, '>', \$w{out}, '2>', \$w{err});
		\%w } 1 .. 3;
}
sub stop_writers
{
	my ($name, @writers) = @_;

	for my $w (@writers)
	{
		$w->{run}->signal('INT');
		$w->{run}->finish;
	}
	$c->check_consistent("$name: indexes and maps are whole, and nothing is left over");
	my $done = 0;
	$done += $c->sql($_, 'SELECT count(*) FROM done') for 1 .. 3;
	is($c->sql(1, 'SELECT count(*), count(DISTINCT id), sum(n) FROM m'), "40|40|$done", "$name: every row is there once, every UPDATE done once");
	is(misplaced('m', 40), '', "$name: every row is in its place");
	return;
}
sub more
{
	my ($name) = @_;
	my $n = $c->sql(1, 'SELECT sum(n) FROM m');
	ok($c->poll(1, "SELECT sum(n) > $n + 50 FROM m"), $name);
	return;
}
my $f = $c->fragment('m', 1);
for my $to ('n3', 'n1', 'n2')
{
	my @writers = start_writers();
	more('rows go about');
	# not by move(): nodes may be too busy to hear of it before the end
	$c->sql(1, "SELECT fragaffinity.move_fragment($f, '$to')");
	more('also when a fragment has moved');
	stop_writers("a move to $to", @writers);
	unlike(join('', map { $_->{err} } @writers), qr/error|aborted/i, 'no writer has seen another error than 40001');
}
for my $victim (2, 1, 3)
{
	my @writers = start_writers();
	more('rows go about');
	$c->kill9($victim);
	$c->restart($victim);
	stop_writers("node $victim was killed", @writers);
}
done_testing();
