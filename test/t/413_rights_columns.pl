# A right to insert into some columns is enough for an INSERT or COPY that names
# these, whoever owns the rows, and whatever the other columns' defaults are; and it
# gives no more than that.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, 'CREATE ROLE r LOGIN; CREATE ROLE other LOGIN') for 1, 2;
my $columns = q{(k int, v text, id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now(), who text DEFAULT current_user,
	app text DEFAULT current_setting('app.name', true), n int DEFAULT 7, x text, twice int GENERATED ALWAYS AS (k * 2) STORED, PRIMARY KEY (k))};
$c->sql(1, "CREATE TABLE p $columns; CREATE TABLE t $columns;
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 4);
	GRANT INSERT (k, v), SELECT ON t, p TO r; GRANT UPDATE (v) ON t, p TO r");
$c->poll($_, q{SELECT count(*) FROM pg_user_mappings WHERE usename IN ('r', 'other')}, '2') or die for 1, 2;
my @k = map { [ split /\n/, $c->sql(1, "SELECT k FROM generate_series(1, 1000) k WHERE fragaffinity.bucket_of('t', k) = $_ LIMIT 20") ] } 0 .. 3;
my @far = grep { $c->owner($c->fragment('t', $_)) eq 'n2' } 0 .. 3;
my @near = grep { $c->owner($c->fragment('t', $_)) eq 'n1' } 0 .. 3;

# As the role: SQLSTATE of the error, if any, and what is printed.
sub as
{
	my ($role, $sql, $in) = @_;
	my $script = "SET app.name = 'client';\n$sql;\n" . ($in // '');
	IPC::Run::run([ 'psql', '-XqAt', '-v', 'VERBOSITY=sqlstate', '-v', 'ON_ERROR_STOP=1', $c->conninfo(1, $role) ],
		'<', \$script, '>', \my $out, '2>', \my $err);
	chomp $out;
	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err . $out;
}

my $look = q{SELECT count(*), count(DISTINCT id), bool_and(at > now() - interval '1 hour'), min(who), max(who), min(app), max(app), min(n), max(n), count(x), bool_and(twice = k * 2) FROM %s};

# The same on both tables: K, L, ... stand for keys of the bucket.
sub alike
{
	my ($name, $sql, $bucket, $input) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$c->sql(1, 'DELETE FROM p; DELETE FROM t');
	$sql =~ s/\b([K-M])\b/$k[$bucket][ord($1) - 75]/g;
	my $expected = as('r', $sql =~ s/TABLE/p/gr, $input);
	is(as('r', $sql =~ s/TABLE/t/gr, $input), $expected, "$name, bucket $bucket");
	is($c->sql(1, sprintf $look, 't'), $c->sql(1, sprintf $look, 'p'), 'with the same rows');
	return $expected;
}
my $many = join '', map { "$_\tv\n" } 1 .. 3000;
for my $bucket ($near[0], $far[0])
{
	is(alike('INSERT', "INSERT INTO TABLE (k, v) VALUES (K, 'a') RETURNING v, who, app, n", $bucket), "a|r|client|7", 'is let in');
	alike('in a block', "BEGIN; INSERT INTO TABLE (k, v) VALUES (K, 'a'); INSERT INTO TABLE (k) VALUES (L); COMMIT", $bucket);
	for my $mode (qw(force_generic_plan force_custom_plan))
	{
		alike("prepared, $mode", "SET plan_cache_mode = $mode; PREPARE s (int) AS INSERT INTO TABLE (k, v) VALUES (\$1, 'a'); EXECUTE s (K); EXECUTE s (L); EXECUTE s (M)", $bucket);
	}
	alike('upsert', "INSERT INTO TABLE (k, v) VALUES (K, 'a') ON CONFLICT (k) DO UPDATE SET v = 'b'; INSERT INTO TABLE (k, v) VALUES (K, 'a') ON CONFLICT (k) DO UPDATE SET v = 'b' RETURNING v", $bucket);
	is(alike('a column without the right', "INSERT INTO TABLE (k, x) VALUES (K, 'a')", $bucket), '42501', 'is refused');
	is(alike('one with a default', "INSERT INTO TABLE (k, n) VALUES (K, 1)", $bucket), '42501', 'is refused');
	is(alike('the identity', "INSERT INTO TABLE (k, id) OVERRIDING SYSTEM VALUE VALUES (K, 1)", $bucket), '42501', 'is refused');
}
alike('rows of all buckets', 'INSERT INTO TABLE (k, v) VALUES ' . join(', ', map { "($_->[0], 'v'), ($_->[1], 'v')" } @k), 0);
alike('INSERT ... SELECT', "INSERT INTO TABLE (k, v) SELECT i, 'v' FROM generate_series(1, 500) i", 0);
is(alike('INSERT ... SELECT of another column', "INSERT INTO TABLE (k, x) SELECT i, 'v' FROM generate_series(1, 500) i", 0), '42501', 'is refused');
alike('COPY', 'COPY TABLE (k, v) FROM STDIN', 0, $many);
alike('COPY of a few rows', 'COPY TABLE (k, v) FROM STDIN', 0, join '', map { "$_\tv\n" } 1 .. 20);
alike('COPY in a block', 'BEGIN; COPY TABLE (k, v) FROM STDIN', 0, "$many\\.\nCOMMIT;\n");
is(alike('COPY of another column', 'COPY TABLE (k, x) FROM STDIN', 0, $many), '42501', 'is refused');

# Row by row.
$c->sql($_, q{CREATE FUNCTION mine(text) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 = current_user; END'}) for 1, 2;
$c->sql(1, "ALTER TABLE $_ ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON $_ USING (mine(who))") for 't', 'p';
for my $bucket ($near[0], $far[0])
{
	alike('row by row', "INSERT INTO TABLE (k, v) VALUES (K, 'a') ON CONFLICT (k) DO UPDATE SET v = 'b' RETURNING v; INSERT INTO TABLE (k, v) VALUES (K, 'a') ON CONFLICT (k) DO UPDATE SET v = 'b' RETURNING v", $bucket);
}
for my $table ('t', 'p') { $c->sql(1, "ALTER TABLE $table DISABLE ROW LEVEL SECURITY; DROP POLICY own ON $table"); }

# At the owner itself, also by who says that he works for a node.
for my $origin (0, 1)
{
	my $bucket = $c->sql(2, "SELECT bucket FROM fragaffinity.fragments WHERE fragment = " . $c->fragment('t', $far[0]));
	IPC::Run::run([ 'psql', '-XqAt', '-v', 'VERBOSITY=sqlstate', '-c', "SET fragaffinity.origin = $origin", '-c',
			"INSERT INTO $bucket (k, n) VALUES ($k[$far[0]][5], 1)", $c->conninfo(2, 'r') ], '>', \my $out, '2>', \my $err);
	like($err, qr/42501/, "the bucket, origin $origin: refused");
}
# A session that works for a peer is no way for functions to do more.
my ($bucket) = $c->sql(2, "SELECT bucket FROM fragaffinity.fragments WHERE fragment = " . $c->fragment('t', $far[0]));
my @far_keys = @{ $k[$far[0]] };
$c->sql($_, qq{CREATE FUNCTION more(int) RETURNS bool LANGUAGE plpgsql AS \$\$
	BEGIN IF \$1 = $far_keys[1] THEN INSERT INTO public.$bucket (k, n) VALUES ($far_keys[2], 1); END IF; RETURN true; END \$\$}) for 1, 2;
$c->sql(1, 'DELETE FROM t; ALTER TABLE t ADD CHECK (more(k))');
is(as('r', "INSERT INTO t (k, v) VALUES ($far_keys[0], 'a') RETURNING n"), '7', 'a row');
is(as('r', "INSERT INTO t (k, v) VALUES ($far_keys[1], 'a')"), '42501', 'one whose check would do more');
is(as('other', "INSERT INTO t (k, v) VALUES ($far_keys[1], 'a')"), '42501', 'no right at all');
is($c->sql(1, 'SELECT string_agg(k::text, $$ $$) FROM t'), $far_keys[0], 'nothing else is there');
$c->check_consistent('all is consistent');
done_testing();
