# COPY into a distributed table: the rows, counts and errors of a plain table,
# in streams to the owners when it is alone, over the transaction's sessions
# when it is not; neither row by row.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, config => "log_statement = all\n");
my $columns = q{(k int, id int, v text, n int NOT NULL DEFAULT 0 CHECK (n >= 0), at timestamptz DEFAULT '2024-01-01', took interval,
	ratio float8, tags text[], doc jsonb, raw bytea, twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (k, id))};
$c->sql(1, "CREATE TABLE d $columns; CREATE TABLE p $columns; CREATE TABLE src $columns;
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 6);
	ALTER TABLE d ADD gone int; ALTER TABLE d DROP gone");
$c->move($c->fragment('d', 0), 'n2');
$c->move($c->fragment('d', 1), 'n3');
my $dir = PostgreSQL::Test::Utils::tempdir();
$c->sql(1, q{INSERT INTO src SELECT i % 2000, i, E'a\\b\tc\nd\re' || i, i % 7, '2024-03-01 12:00+00'::timestamptz + i * interval '1 hour',
	i * interval '-90 min', i / 7.0, ARRAY['a' || i, NULL, 'b"c'], jsonb_build_object('i', i), decode(md5(i::text), 'hex')
	FROM generate_series(1, 6000) i});
$c->sql(1, "COPY src TO '$dir/rows.txt'; COPY src TO '$dir/rows.csv' (FORMAT csv, HEADER); COPY src TO '$dir/rows.bin' (FORMAT binary)");
my $names = 'k, id, v, n, at, took, ratio, tags, doc, raw';

# Statements that a node's log shows since it was looked at last.
my @seen;
sub statements
{
	my ($i, $pattern) = @_;
	my $log = slurp_file($c->node($i)->logfile, $seen[$i] // 0);
	$seen[$i] = -s $c->node($i)->logfile;
	return scalar(grep { /LOG:  (?:statement|execute [^:]*): / && /$pattern/ } split /\n/, $log);
}

sub same_rows
{
	my ($i, $name) = @_;
	my $hash = "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM (SELECT k, id, v, n, at, took, ratio, tags, doc, raw, twice FROM %s) x";
	is($c->sql($i, sprintf($hash, 'd')), $c->sql(1, sprintf($hash, 'p')), "$name: rows as in a plain table");
	return;
}

my @forms = ([ 'txt', '' ], [ 'csv', '(FORMAT csv, HEADER)' ], [ 'bin', '(FORMAT binary)' ],
	[ 'csv', '(FORMAT csv, HEADER) WHERE id % 3 = 0' ]);
for my $i (1 .. 3)
{
	for my $form (@forms)
	{
		my ($file, $options) = @$form;
		$c->sql(1, 'TRUNCATE d, p');
		$c->sql(1, "COPY p ($names) FROM '$dir/rows.$file' $options");
		statements($_, qr//) for 1 .. 3;
		my $tag = (split /\n/, $c->node($i)->safe_psql('postgres', "\\set QUIET off\nSET datestyle = 'German, DMY';
			SET intervalstyle = 'sql_standard'; COPY d ($names) FROM '$dir/rows.$file' $options"))[-1];
		is($tag, 'COPY ' . $c->sql(1, 'SELECT count(*) FROM p'), "node $i, $file $options: count");
		for my $peer (grep { $_ != $i } 1 .. 3)
		{
			is(statements($peer, qr/COPY public\.d|INSERT/), 1, "one statement for all rows of node $peer");
		}
		same_rows(1 + $i % 3, 'alone');
	}
}
$c->sql(1, 'TRUNCATE d');
is($c->sql(2, "BEGIN; COPY d ($names) FROM '$dir/rows.txt' WHERE id % 3 = 0; SAVEPOINT s; COPY d ($names) FROM '$dir/rows.txt' WHERE id % 3 = 1;
	SELECT count(*) FROM d; ROLLBACK TO s; SELECT count(*), count(DISTINCT id) FROM d; COMMIT"), "4000\n2000|2000",
	'in a block: it sees its rows, and a savepoint takes them back');
same_rows(3, 'in a block');
$c->sql(1, 'TRUNCATE d');
statements($_, qr//) for 1 .. 3;
$c->sql(2, "BEGIN; COPY d ($names) FROM '$dir/rows.txt'; ROLLBACK");
cmp_ok(statements(3, qr/COPY|INSERT/), '<=', 6, 'in a block: some hundred rows in a statement');
is($c->sql(3, 'SELECT count(*) FROM d'), '0', 'and rolled back');
$c->sql(1, "COPY d ($names) FROM '$dir/rows.txt' WHERE id < 50");
is($c->sql(3, 'SELECT count(*) FROM d'), '49', 'a few rows, alone');

# Errors: of what the client sent, and of what the owners say; nothing is left.
sub fails_as
{
	my ($i, $lines, $where, $code, $context, $name) = @_;
	my $file = "$dir/bad.txt";
	open my $fh, '>', $file or die;
	print $fh "$_\n" for @$lines;
	close $fh;
	my ($expected) = $c->fails(1, "COPY p (k, id, v, n) FROM '$file'");
	for my $block (0, 1)
	{
		my ($got, $text) = $c->fails($i, ($block ? 'BEGIN; ' : '') . "COPY d (k, id, v, n) FROM '$file'");
		is($got, $code, "$name, block $block");
		is($got, $expected, 'as a plain table');
		# postgres_fdw of 16 and later does not tell its sessions: rows inserted together
		like($text, $block && !$where && $c->node(1)->pg_version >= 16 ? qr/COPY d, lines \d+ to \d+$/m : $context, 'with its line, or lines');
	}
	is($c->sql(1, 'SELECT count(*) FROM d'), '49', 'and nothing is left');
	return;
}
$c->sql(1, "TRUNCATE p; COPY p ($names) FROM '$dir/rows.txt' WHERE id < 50");
my @good = map { "$_\t$_\tv$_\t1" } 10001 .. 15000;
sub bad { my ($at, $line) = @_; my @l = @good; $l[ $at - 1 ] = $line; return \@l; }
my ($remote) = split /\n/, $c->sql(1, "SELECT k FROM generate_series(20000, 20100) k WHERE fragaffinity.bucket_of('d', k) = 4");
for my $i (1, 3)
{
	fails_as($i, bad(4321, "x\t1\tv\t1"), 1, '22P02', qr/COPY d, line 4321, column k: "x"/, "node $i: no number");
	fails_as($i, bad(4321, "\\N\t1\tv\t1"), 1, '23502', qr/COPY d, line 4321:/, "node $i: no key");
	fails_as($i, bad(4321, "1\t1"), 1, '22P04', qr/COPY d, line 4321:/, "node $i: too few columns");
	fails_as($i, bad(4321, "$remote\t1\tv\t-1"), 0, '23514', qr/COPY d, line 4321$/m, "node $i: CHECK");
	fails_as($i, bad(777, "$remote\t1\tv\t\\N"), 0, '23502', qr/COPY d, line 777$/m, "node $i: NOT NULL");
	my $twice = bad(100, "$remote\t1\tv\t1");
	$twice->[4000] = $twice->[99];
	fails_as($i, $twice, 0, '23505', qr/COPY d, line 4001$/m, "node $i: duplicate key");
}
is($c->sql($_, "SELECT count(*) FROM pg_prepared_xacts"), '0', "nothing is prepared on node $_") for 1 .. 3;

# Rights.
for my $i (1 .. 3)
{
	$c->sql($i, 'CREATE ROLE loader LOGIN; CREATE ROLE other LOGIN');
}
$c->sql(1, 'GRANT INSERT (k, id, v), SELECT ON d TO loader');
$c->poll($_, "SELECT count(*) FROM pg_user_mappings WHERE usename IN ('loader', 'other')", '4') or die for 1 .. 3;
sub as
{
	my ($role, $sql) = @_;
	IPC::Run::run([ 'psql', '-XqAt', '-v', 'VERBOSITY=sqlstate', '-c', $sql, $c->conninfo(2, $role) ],
		'<', \join('', map { "$_\t$_\tv\n" } 30001 .. 34000), '>', \my $out, '2>', \my $err);
	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err;
}
is(as('other', 'COPY d (k, id, v) FROM STDIN'), '42501', 'no right to insert');
is(as('loader', 'COPY d FROM STDIN'), '42501', 'no right on all columns');
is(as('loader', 'COPY d (k, id, v) FROM STDIN'), '', 'a right on some');
is($c->sql(1, 'SELECT count(*), sum(n) FROM d'), '4049|' . $c->sql(1, 'SELECT sum(n) FROM p'), 'is enough');
$c->sql(1, 'ALTER TABLE d ALTER v SET DEFAULT current_user');
is(as('loader', "INSERT INTO d (k, id, v) VALUES ($remote, $_, 'v')"), '', 'also for an INSERT') for 1, 2;

# While fragments move: every row arrives once.
my $before = $c->sql(1, 'SELECT count(*) FROM d');
my @runs;
for my $i (1 .. 3)
{
	my $script = '';
	for my $round (0 .. 9)
	{
		my $from = 100000 * $i + 2000 * $round;
		$script .= "COPY d (k, id, v) FROM PROGRAM 'seq $from " . ($from + 1999) . " | sed \"s/.*/&\t&\tv/\"';\n";
	}
	push @runs, IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', $c->conninfo($i) ], '<', \$script, '>', \my $out, '2>', \my $err);
}
for my $round (1 .. 4)
{
	$c->move($c->fragment('d', $round), 'n' . (1 + $round % 3)) if $c->owner($c->fragment('d', $round)) ne 'n' . (1 + $round % 3);
}
is(scalar(grep { $_->finish } @runs), 3, 'copies under moves succeed');
is($c->sql($_, 'SELECT count(*), count(DISTINCT (k, id)) FROM d'), ($before + 60000) . '|' . ($before + 60000), "node $_ sees all rows once")
  for 1 .. 3;
$c->check_consistent('all is consistent');
done_testing();
