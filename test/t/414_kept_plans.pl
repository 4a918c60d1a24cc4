# Plans of statements that differ in their constants only: kept, and never another
# answer than without them.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $columns = q{(k int PRIMARY KEY, b bigint, v text DEFAULT 'none', n numeric(10,2), ts timestamptz, c varchar(5),
	f boolean NOT NULL DEFAULT true, CHECK (inner_too(v)))};
$c->sql($_, q{CREATE FUNCTION inner_too(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	IF $1 = 'outer' THEN EXECUTE format('UPDATE t SET v = %L WHERE k = %s RETURNING v', 'inner', current_setting('my.key')); END IF;
	RETURN true; END $$}) for 1, 2;
my $rows = q{SELECT i, i * 3, md5(i::text), i / 7.0, '2026-01-01'::timestamptz + i * interval '1 hour', i % 9999 FROM generate_series(1, 4000) i};
$c->sql(1, "
	CREATE TABLE t $columns; INSERT INTO t $rows;
	CREATE TABLE p $columns; INSERT INTO p $rows;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2, placement => 'n1')");
$c->sql(1, 'VACUUM ANALYZE t, p');
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->query(q{\set VERBOSITY verbose});
$client->query_safe('SET client_min_messages = debug2');

# What a statement gives, or its SQLSTATE; whether a kept plan gave it.
my $kept;
sub run
{
	my ($sql) = @_;
	$client->{stderr} = '';
	my $out = $client->query($sql);
	$kept = $client->{stderr} =~ /using a kept plan for leaf/;
	return $client->{stderr} =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}

# A statement on {t} with each list of constants in turn, as on a plain table.
sub same
{
	my ($name, $expected, $sql, @values) = @_;
	my $n = 0;
	for my $value (@values)
	{
		my $statement = sprintf $sql, @$value;
		my ($plain, $ours) = map { $statement =~ s/\{t\}/$_/gr } qw(p t);
		my $is = run($plain);
		is(run($ours), $is, "$name: @$value");
		$n++ if $kept;
	}
	is($n, $expected eq 'last' ? 1 : $expected eq 'none' ? 0 : $n, "$name: kept") if $expected ne 'any';
	ok($n > 0, "$name: some kept") if $expected eq 'some';
}
my $leaf = $c->sql(1, 'SELECT leaf FROM fragaffinity.fragments ORDER BY fragment LIMIT 1');
my @k = split /\n/, $c->sql(1, "SELECT k FROM $leaf WHERE k > 100 ORDER BY k LIMIT 40");

# from the third that is about a fragment
same('read', 'last', 'SELECT k, b, v, n, ts, c, f FROM {t} WHERE k = %s', map { [$_] } @k[ 0 .. 2 ]);
same('a condition more', 'last', 'SELECT v FROM {t} WHERE k = %s AND b = %s', [ $k[0], 0 ], [ $k[1], 0 ], [ $k[2], 3 * $k[2] ]);
same('no row', 'last', 'SELECT v FROM {t} WHERE k = %s AND v = %s', map { [ $k[$_], "'x$_'" ] } 0 .. 2);
same('text, numeric, timestamptz', 'last', 'SELECT k FROM {t} WHERE k = %s AND v > %s AND n < %s AND ts > %s',
	map { [ $k[$_], "'$_'", "$_.5 + 1000", "'2026-01-0$_'" ] } 1 .. 3);
same('constants that are given back', 'last', q{SELECT %s AS a, %s AS b, %s::varchar(3) AS c, v || %s FROM {t} WHERE k = %s},
	map { [ "'x$_'", $_ * 1000, "'long$_'", "'y$_'", $k[$_] ] } 1 .. 3);
same('NULL, or not', 'some', 'SELECT k, %s::text FROM {t} WHERE k = %s AND b IS NOT NULL',
	map { [ $_, $k[3] ] } 'NULL', "'a'", 'NULL', "'b'", 'NULL', "'c'", 'NULL');
same('NULL as a key', 'none', 'SELECT v FROM {t} WHERE k = %s', (['NULL']) x 4);
same('limits', 'any', 'SELECT v FROM {t} WHERE k = %s LIMIT %s', map { [ $k[1], $_ ] } 1, 1, 0, 1, 0, 'NULL', 1, 0, 0, 0, 1);
same('true and false', 'any', 'SELECT v FROM {t} WHERE k = %s AND f = %s', map { [ $k[1], $_ ] } qw(true true false true false true false));
same('CASE, OR, IN', 'any', q{SELECT CASE WHEN b > %s THEN 'a' ELSE 'b' END, coalesce(v, %s) FROM {t} WHERE k = %s AND (b > %s OR n IN (%s, 7)) ORDER BY 1},
	map { [ $_, "'x'", $k[1], $_ * 1000, $_ ] } 1, 1, 1, 2, 1, 2, 1, 1);
same('functions that are not the same each time', 'last',
	q{SELECT random() < %s, now() - interval %s < clock_timestamp(), current_date > date %s FROM {t} WHERE k = %s},
	map { [ 1 + $_, "'$_ hours'", "'2020-01-0$_'", $k[$_] ] } 1 .. 3);
same('rows compared', 'any', 'SELECT v FROM {t} WHERE (k, b) = (%s, %s)', map { [ $k[$_], 3 * $k[$_] ] } 1 .. 4);
same('locked', 'last', 'SELECT v, %s FROM {t} WHERE k = %s FOR UPDATE', map { [ $_, $k[$_] ] } 1 .. 3);
same('an error without a row', 'any', 'SELECT %s / %s FROM {t} WHERE k = %s AND b = -1', [ 1, 1, $k[0] ], [ 2, 1, $k[0] ], [ 3, 1, $k[0] ], [ 1, 0, $k[0] ], [ 4, 1, $k[0] ]);
run(q{SET max_stack_depth = '7680kB'});
same('a deep expression', 'none', 'SELECT v, ' . '~ ' x 6000 . '%s FROM {t} WHERE k = %s', map { [ $_, $k[0] ] } 1 .. 4);
run('RESET max_stack_depth');
is(run("SELECT v FROM t WHERE k = $k[0]") , run("SELECT v FROM p WHERE k = $k[0]"), 'after all this')
  for 1 .. 3;

same('update', 'some', 'UPDATE {t} SET b = %s, v = %s, n = %s, ts = %s, c = %s WHERE k = %s RETURNING *',
	map { [ @$_, $k[5] ] } [ 1, "'a'", 1, "'2026-02-01'", "'x'" ], [ 2, "'b'", 2.345, "'2026-02-02 03:04+05'", "'y'" ],
	[ 3, "'c'", 3, "'2026-02-03'", "'z'" ], [ '2 ^ 40', "'d' || 'e'", "'4'", "timestamptz '2026-02-04' + interval '1 day'", "'w'" ], [ 5, "'e'", 5, "'2026-02-03'", "'toolong'" ],
	[ 6, "'f'", 6, "'2026-02-06'", "'six'" ], [ 7, 'NULL', 7, 'NULL', "'v'" ], [ 8, "'h'", '12345678901', "'2026-02-08'", "'u'" ],
	[ 9, "'i'", 9, "'2026-02-09'", "'t'" ], [ 10, "'j'", 10.5, "'2026-02-10'", "'s'" ]);
same('arithmetic', 'some', 'UPDATE {t} SET n = n * %s + %s, b = b + %s WHERE k = %s RETURNING n, b', map { [ $_, $_ / 4, $_, $k[5] ] } 1 .. 5);
same('what is too large', 'some', 'UPDATE {t} SET n = n + %s WHERE k = %s RETURNING n', map { [ $_, $k[6] ] } 1, 2, 3, '99999999.5', 4);
same('a key that stays or goes', 'any', 'UPDATE {t} SET k = %s WHERE k = %s RETURNING k', map { [@$_] } [ $k[7], $k[7] ], [ $k[7], $k[7] ], [ $k[7], $k[7] ], [ 100001, $k[7] ], [ 100002, 100001 ], [ 100003, 100002 ], [ $k[7], 100003 ]);
my $i = 10;
same('insert', 'some', 'INSERT INTO {t} (k, b, n, ts, c) VALUES (%s, %s, %s, %s, %s) RETURNING *',
	map { [ 5000 + $_, $_, "$_.005", "'2026-03-01'", "'n$_'" ] } 1 .. 8);
same('a key that is there', 'any', 'INSERT INTO {t} (k, v) VALUES (%s, %s)', map { [ $_, "'x'" ] } 6001, 6002, 6003, 6004, 6005, 5001, 5002, 5003, 6006);
same('upsert', 'some', q{INSERT INTO {t} AS x (k, v, n) VALUES (%s, %s, %s) ON CONFLICT (k) DO UPDATE SET v = x.v || %s, n = excluded.n + %s
	WHERE x.k > %s RETURNING *}, map { [ $k[8], "'$_'", $_, "'+$_'", $_ * 2, $_ == 4 ? 1000000 : $_ ] } 1 .. 6);
same('delete', 'last', 'DELETE FROM {t} WHERE k = %s AND b <> %s RETURNING k', map { [ $k[$_], -$_ ] } 11 .. 13);
# Parameters of statements that are planned for each execution.
sub executed
{
	my ($name, $types, $sql, @values) = @_;
	my $n = 0;
	for my $value (@values)
	{
		my @is;
		for my $table (qw(p t))
		{
			run("PREPARE s$types AS " . $sql =~ s/\{t\}/$table/gr);
			push @is, run('EXECUTE s(' . join(', ', @$value) . ')');
			$n++ if $kept;
			run('DEALLOCATE s');
		}
		is($is[1], $is[0], "$name with @$value");
	}
	ok($n > 0, "$name: kept");
}
executed('read', '(int, text)', 'SELECT v, $2 FROM {t} WHERE k = $1', map { [ $k[$_], "'x$_'" ] } 1 .. 5);
executed('update', '(int, text, int)', 'UPDATE {t} SET n = $3, v = $2, c = $2, b = $3 WHERE k = $1 RETURNING n, b, c, v',
	map { [ $k[15], @$_ ] } [ "'a'", 1 ], [ "'b'", 2 ], [ "'c'", 3 ], [ "'toolong'", 4 ], [ 'NULL', 5 ], [ "'e'", 'NULL' ], [ "'f'", 7 ]);
executed('upsert', '(int, numeric, bigint)', 'INSERT INTO {t} AS x (k, n, b) VALUES ($1, $2, $3) ON CONFLICT (k) DO UPDATE SET n = x.n + $2, b = $3 + 1 RETURNING *',
	map { [ $k[16], $_ / 3, $_ ] } 1 .. 6);
executed('upsert by a condition', '(int, bigint)', 'INSERT INTO {t} AS x (k, b) VALUES ($1, $2) ON CONFLICT (k) WHERE b > 1 DO UPDATE SET b = $2 RETURNING *',
	map { [ $k[16], $_ ] } 1 .. 4);
executed('a key that is NULL, or another', '(int)', 'SELECT v FROM {t} WHERE k = $1', [ $k[1] ], ['NULL'], [ $k[2] ], [ $k[1] ], ['NULL'], [ $k[2] ]);

# A function in SQL that fails is whole again at the next statement.
run('BEGIN');
same('a function in SQL', 'some', 'SELECT k FROM {t} WHERE k = %s AND v <> rpad(%s, %s)', map { [ $k[1], "'a'", $_ ] } 1 .. 4);
for my $table (qw(p t))
{
	run('SAVEPOINT s');
	is(run("SELECT k FROM $table WHERE k = $k[1] AND v <> rpad('a', 2000000000)"), '54000', 'fails');
	run('ROLLBACK TO s');
}
same('a function in SQL that has failed', 'some', 'SELECT k FROM {t} WHERE k = %s AND v <> rpad(%s, %s)', map { [ $k[1], "'a'", $_ ] } 1 .. 4);
run('COMMIT');
my $all = 'SELECT count(*), sum(hashtextextended((k, b, v, n, c)::text, 0)) FROM';
is($c->sql(1, "$all t"), $c->sql(1, "$all p"), 'the tables are the same');

# What is shown is what runs.
my $read = 'SELECT v FROM t WHERE k = %s';
sub shown { return run("EXPLAIN (COSTS OFF) " . sprintf $_[0] // $read, $k[0]); }
like(shown(), qr/Index Scan using .*Index Cond: \(k = $k[0]\)/s, 'EXPLAIN of a kept plan');
ok($kept, 'it is one');
run('SET enable_indexscan = off');
unlike(shown(), qr/Index Scan using/, 'without index scans');
shown() for 1 .. 3;
unlike(shown(), qr/Index Scan using/, 'again and again');
run('RESET enable_indexscan');
like(shown(), qr/Index Scan using/, 'with them again') for 1 .. 4;
ok($kept, 'kept again');
run('BEGIN; SET LOCAL enable_indexscan = off');
unlike(shown(), qr/Index Scan using/, 'in a transaction');
run('ROLLBACK');
like(shown(), qr/Index Scan using/, 'after it');
my $parallel = $c->sql(1, q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') ORDER BY 1 LIMIT 1});
run("SET $parallel = on");
like(shown(), qr/Gather/, 'in parallel');
run("RESET $parallel");
run(sprintf $read, $_) for @k[ 0 .. 4 ];
ok($kept, 'kept after settings are back');
run('SET plan_cache_mode = force_custom_plan');
run(sprintf $read, $_) for @k[ 0 .. 4 ];
ok(!$kept, 'each is planned where custom plans are asked for');
run('RESET plan_cache_mode');
run('SET fragaffinity.routing = off');
is(run(sprintf $read, $k[0]), $c->sql(1, "SELECT v FROM p WHERE k = $k[0]"), 'without routing');
ok(!$kept, 'there is none');
run('RESET fragaffinity.routing');
run(sprintf "/*+ SeqScan(t) */ $read", $_) for @k[ 0 .. 4 ];
ok(!$kept, 'nor with hints in the text');
my $leaves = $c->sql(1, q{SELECT string_agg(leaf::text, '|') FROM fragaffinity.fragments});

# Definitions change.
sub keep { run($_[0]) for 1 .. 4; ok($kept, "kept: $_[0]"); return; }
my $star = "SELECT * FROM t WHERE k = $k[9]";
my $insert = "INSERT INTO t (k, b) VALUES ($k[14], 1) ON CONFLICT (k) DO UPDATE SET b = 1 RETURNING v";
keep($star);
run('ALTER TABLE t ADD COLUMN more int DEFAULT 7');
is(run($star), $c->sql(1, "SELECT p.*, 7 FROM p WHERE k = $k[9]"), 'a column more');
keep($star);
run('ALTER TABLE t DROP COLUMN c');
is(run($star), $c->sql(1, "SELECT k, b, v, n, ts, f, 7 FROM p WHERE k = $k[9]"), 'a column less');
keep($star);
run("DELETE FROM t WHERE k = $k[14]");
keep($insert);
run("ALTER TABLE t ALTER COLUMN v SET DEFAULT 'other'");
run("DELETE FROM t WHERE k = $k[14]");
is(run($insert), 'other', 'another default');
run('CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 * 2 $$');
my $function = "SELECT twice(more), twice(4) FROM t WHERE k = $k[9]";
is(run($function), '14|8', 'a function') for 1 .. 4;
run('CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 * 3 $$');
is(run($function), '21|12', 'is another');
run('ALTER TABLE t ADD COLUMN w int');
run('UPDATE t SET w = k * 2');
my $by_two = "SELECT k FROM t WHERE k = $k[9] AND w = @{[ $k[9] * 2 ]}";
keep($by_two);
run('CREATE INDEX t_w ON t (w)');
is(run($by_two), $k[9], 'an index more');
keep($by_two);
run('DROP INDEX t_w');
is(run($by_two), $k[9], 'and it is gone');
my $only = "SELECT w FROM t WHERE k = $k[9]";
keep($only);
my $put = "INSERT INTO t (k, b) VALUES (%s, 1) RETURNING b";
run("DELETE FROM t WHERE k = $_") for @k[ 17 .. 21 ];
run(sprintf $put, $_) for @k[ 17 .. 20 ];
ok($kept, 'an INSERT');
run('ALTER TABLE t ALTER COLUMN w TYPE text');
is(run(sprintf $put, $k[21]), '1', 'a column that it fills with NULL has another type');
is(run("SELECT w || 'a' FROM t WHERE k = $k[9]"), 2 * $k[9] . 'a', 'and another value');
keep($only);
run('ALTER TABLE t RENAME COLUMN w TO x');
is(run($only), '42703', 'a column has another name');

# Rights, row security, names.
$c->sql($_, 'CREATE ROLE reader') for 1, 2;
$c->sql(1, $_) for 'GRANT SELECT (k) ON t TO reader';
keep(sprintf $read, $k[9]);
run('SET ROLE reader');
is(run(sprintf $read, $k[9]), '42501', 'another role has no right');
is(run("SELECT k FROM t WHERE k = $k[9]"), $k[9], 'but on a column') for 1 .. 4;
run('RESET ROLE');
$c->sql(1, $_) for 'GRANT SELECT ON t TO reader', 'CREATE POLICY few ON t TO reader USING (b = -1)';
keep("SELECT b FROM t WHERE k = $k[9]");
$c->sql(1, 'ALTER TABLE t ENABLE ROW LEVEL SECURITY');
run('SET ROLE reader');
is(run("SELECT b FROM t WHERE k = $k[9]"), '', 'nor sees what a policy hides') for 1 .. 4;
run('RESET ROLE');
$c->sql(1, 'ALTER TABLE t DISABLE ROW LEVEL SECURITY');
keep("SELECT b FROM t WHERE k = $k[9]");
run('CREATE SCHEMA other; CREATE TABLE other.t AS SELECT k, -k AS b FROM p; SET search_path = other, public');
is(run("SELECT b FROM t WHERE k = $k[9]"), -$k[9], 'another table has the name');
run('RESET search_path');
is(run("SELECT b FROM t WHERE k = $k[9]"), 3 * $k[9], 'no more');

# One inside the other.
run("SET my.key = $k[10]");
run("UPDATE t SET v = '$_' WHERE k = $k[9] RETURNING v") for 'a' .. 'd';
ok($kept, 'the outer one is kept');
is(run("UPDATE t SET v = 'outer' WHERE k = $k[9] RETURNING v"), 'outer', 'and within it the same statement') for 1 .. 2;
is(run("SELECT v FROM t WHERE k = $k[10]"), 'inner', 'which has its own constants');

like(run("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) UPDATE t SET v = 'outer' WHERE k = $k[9] RETURNING v"),
	qr/Index Cond: \(k = $k[9]\)/, 'and leaves the outer one its own');
run("UPDATE t SET v = 'a' WHERE k = $k[9]");

# So is what compares constants of a type of the user's.
$c->sql(1, q{CREATE TYPE point_on AS (x int);
	CREATE FUNCTION point_cmp(a point_on, b point_on) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		IF current_setting('my.again', true) = 'yes' THEN
			PERFORM set_config('my.again', 'no', false);
			EXECUTE format('SELECT %L::point_on[] < %L, k FROM t WHERE k = %s', '{(1)}', '{(2)}', current_setting('my.key'));
		END IF;
		RETURN a.x - b.x; END $$});
my @by = ([ '<', 'lt' ], [ '<=', 'le' ], [ '=', 'eq' ], [ '>=', 'ge' ], [ '>', 'gt' ]);
$c->sql(1, "CREATE FUNCTION point_$_->[1](point_on, point_on) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT \$1.x $_->[0] \$2.x';
	CREATE OPERATOR $_->[0]# (LEFTARG = point_on, RIGHTARG = point_on, FUNCTION = point_$_->[1])") for @by;
$c->sql(1, 'CREATE OPERATOR CLASS point_ops DEFAULT FOR TYPE point_on USING btree AS FUNCTION 1 point_cmp(point_on, point_on), '
	. join ', ', map { 'OPERATOR ' . ($_ + 1) . " $by[$_][0]#" } 0 .. $#by);
my $compare = "SELECT '{(1)}'::point_on[] < '{(2)}', k FROM t WHERE k = $k[9]";
run($compare) for 1 .. 4;
ok($kept, 'kept with such constants');
run(q{SET my.again = 'yes'});
is(run($compare), "t|$k[9]", 'and has its own key after the same statement within it');
is(run('SHOW my.again'), 'no', 'which there was');

# Moves to and fro.
my $fragment = $c->fragment('t');
for my $value (1 .. 2)
{
	run("UPDATE t SET b = b + $value WHERE k = $k[9]") for 1 .. 4;
	ok($kept, "kept at round $value");
	$c->move($fragment, 'n2');
	my $before = run("SELECT b FROM t WHERE k = $k[9]");
	run("UPDATE t SET b = b + $_ WHERE k = $k[9]") for 1 .. 4;
	ok(!$kept, 'not of a fragment that is elsewhere');
	is(run("SELECT b FROM t WHERE k = $k[9]"), $before + 10, 'which is changed there');
	$c->move($fragment, 'n1');
	is(run("SELECT b FROM t WHERE k = $k[9]"), $before + 10, 'and has come back');
}
run('BEGIN ISOLATION LEVEL REPEATABLE READ');
run("SELECT v FROM t WHERE k = $k[9]") for 1 .. 4;
ok($kept, 'kept in a transaction');
run('ROLLBACK');
my ($other) = split /\n/, $c->sql(1, "SELECT k FROM t WHERE fragaffinity.bucket_of('t', k) <> fragaffinity.bucket_of('t', $k[9]) LIMIT 1");
run("SELECT v FROM t WHERE k = $other") for 1 .. 4;
$c->move($fragment, 'n2');
run('BEGIN ISOLATION LEVEL REPEATABLE READ');
run("SELECT v FROM t WHERE k = $other");
$c->move($fragment, 'n1');
is(run("SELECT v FROM t WHERE k = $k[9]"), '40001', 'a snapshot that is older than the move');
run('ROLLBACK');

# Room.
my $contexts = sub { return run("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'fragaffinity $_[0]'"); };
my $bytes = sub { return run("SELECT coalesce(sum(total_bytes), 0) < 5500000 FROM pg_backend_memory_contexts WHERE name ~ '^fragaffinity (kept|shape)'"); };
$client->query_safe('SET client_min_messages = warning');
for my $n (1 .. 400)
{
	$client->query(join "\n", map { "SELECT v FROM t WHERE k = $_ LIMIT $n;" } @k[ 22 .. 24 ]);
}
cmp_ok($contexts->('kept plan'), '<=', 640, 'no more plans than there is room');
cmp_ok($contexts->('shape'), '<=', 256, 'nor shapes');
is($bytes->(), 't', 'nor bytes');
cmp_ok($contexts->('kept plan'), ">", 50, 'but some');
run("SELECT fragaffinity.undistribute_table('t')");
is($contexts->('kept plan'), '0', 'they are freed with their table');
$client->quit;
done_testing();
