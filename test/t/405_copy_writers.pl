# COPY into a distributed table by several processes: the client's backend only
# looks at keys, and parallel workers parse and write.  Rows, counts, errors and
# their places are those of a plain table; it is one transaction, for those who
# look, crash, cancel, and decode the log.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3, config => "log_min_messages = debug1\nrestart_after_crash = on\n");
my $columns = q{(k int, id int, v text, n int NOT NULL DEFAULT 0 CHECK (n >= 0), at timestamptz DEFAULT now(), took interval,
	tags text[], doc jsonb, twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (k, id))};
$c->sql(1, "CREATE TABLE p $columns; CREATE TABLE l $columns; CREATE TABLE d $columns;
	SELECT fragaffinity.distribute_table('l', 'k', fragments => 6, placement => 'n1');
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 6);
	ALTER TABLE d ADD gone int; ALTER TABLE d DROP gone; ALTER TABLE l ADD gone int; ALTER TABLE l DROP gone");
my $dir = PostgreSQL::Test::Utils::tempdir();
$c->sql(1, q{CREATE TABLE src AS SELECT i % 2000 AS k, i AS id, E'a\\b\tc\nd\r"e,' || i AS v, i % 7 AS n,
	'2024-03-01 12:00+00'::timestamptz + i * interval '1 hour' AS at, i * interval '-90 min' AS took,
	ARRAY['a' || i, NULL, 'b"c'] AS tags, jsonb_build_object('i', i) AS doc FROM generate_series(1, 6000) i});
my $names = 'k, id, v, n, at, took, tags, doc';

# Workers that a node has started for a COPY since the last call.
my @seen;
sub workers
{
	my ($i) = @_;
	my $log = slurp_file($c->node($i)->logfile, $seen[$i] // 0);
	$seen[$i] = -s $c->node($i)->logfile;
	return scalar(() = $log =~ /registering background worker "parallel worker for PID/g);
}

sub rows_of
{
	my ($i, $table) = @_;
	return $c->sql($i, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM
		(SELECT k, id, v, n, at, took, tags, doc, twice FROM $table) x");
}

# Formats.
for my $options ('', "(DELIMITER '|', NULL 'none')", '(FORMAT csv, HEADER)', "(FORMAT csv, HEADER MATCH, QUOTE '''', ESCAPE '!', NULL '-')",
	"(ENCODING 'LATIN1')")
{
	my $written = $options =~ s/ MATCH//r;
	$c->sql(1, "TRUNCATE l, d, p; COPY src ($names) TO '$dir/rows' $written; COPY p ($names) FROM '$dir/rows' $options");
	workers($_) for 1 .. 3;
	for my $table ('l', 'd')
	{
		my $i = $table eq 'l' ? 1 : 2;
		my $settings = "SET timezone = 'Asia/Tokyo'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'";
		is((split /\n/, $c->node($i)->safe_psql('postgres', "\\set QUIET off\n$settings; COPY $table ($names) FROM '$dir/rows' $options"))[-1],
			'COPY 6000', "$table $options: count");
		cmp_ok(workers($i), '>', 0, 'by workers');
		is(rows_of($i, $table), rows_of(1, 'p'), 'rows of a plain table');
	}
}
cmp_ok(workers(3), '>', 0, 'the peer has used workers, too');
$c->sql(1, "COPY src ($names) TO '$dir/rows'");

# What is not simple, or small, goes the usual way.
for my $case (
	[ "COPY l ($names) FROM '$dir/rows' WHERE id > 0", 'WHERE' ],
	[ "SET fragaffinity.copy_writers = 0; COPY l ($names) FROM '$dir/rows'", 'switched off' ],
	[ "BEGIN; SAVEPOINT s; COPY l ($names) FROM '$dir/rows'; COMMIT", 'in a savepoint' ],
	[ "BEGIN ISOLATION LEVEL SERIALIZABLE; COPY l ($names) FROM '$dir/rows'; COMMIT", 'serializable' ],
	[ "SET max_parallel_workers = 0; COPY l ($names) FROM '$dir/rows'", 'no workers' ])
{
	$c->sql(1, 'TRUNCATE l');
	workers(1);
	$c->sql(1, $case->[0]);
	is(workers(1), 0, "$case->[1]: no workers");
	is(rows_of(1, 'l'), rows_of(1, 'p'), 'the same rows');
}
$c->sql(1, "TRUNCATE d; SET max_parallel_workers = 0; COPY d ($names) FROM '$dir/rows'");
is(rows_of(3, 'd'), rows_of(1, 'p'), 'no workers, and rows of other nodes');
$c->sql(1, 'TRUNCATE l');
workers(1);
$c->sql(1, "COPY l (k, id, v) FROM PROGRAM 'seq 100 | sed \"s/.*/&\t&\tv/\"'");
is($c->sql(1, 'SELECT count(*), min(id), max(id) FROM l'), '100|1|100', 'a few rows');
is(workers(1), 0, 'without workers');
$c->sql($_, q{CREATE FUNCTION even(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 % 2 = 0; END'}) for 1 .. 3;
$c->sql(1, q{CREATE TABLE u (k int NOT NULL, id int CHECK (even(id)), x bigint GENERATED ALWAYS AS IDENTITY); SELECT fragaffinity.distribute_table('u', 'k', fragments => 2, placement => 'n1')});
workers(1);
$c->sql(1, "COPY u (k, id) FROM PROGRAM 'seq 2 2 40000 | sed \"s/.*/&\t&/\"'");
is($c->sql(1, 'SELECT count(*), count(DISTINCT x) FROM u'), '20000|20000', 'an identity column, and a function that is not parallel safe');
is(workers(1), 0, 'without workers');


# Queries of an index's function, which are planned as in any worker: without others.
$c->sql(1, 'CREATE TABLE many AS SELECT i FROM generate_series(1, 1000) i');
$c->sql($_, q{CREATE FUNCTION below(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS 'BEGIN RETURN (SELECT count(*) FROM public.many WHERE i < $1); END'}) for 1 .. 3;
$c->sql(1, q{CREATE TABLE f (k int NOT NULL, v text); SELECT fragaffinity.distribute_table('f', 'k', fragments => 2, placement => 'n1'); CREATE INDEX ON f (below(k))});
my $from = -s $c->node(1)->logfile;
$c->sql(1, q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	COPY f FROM PROGRAM 'seq 300 | sed "s/.*/&\t} . 'v' x 300 . q{/"'});
my %leaders = map { $_ => 1 } slurp_file($c->node(1)->logfile, $from) =~ /registering background worker "parallel worker for PID (\d+)/g;
is(scalar(keys %leaders), 1, 'no workers of workers');
is($c->sql(1, 'SELECT count(*) FROM f WHERE below(k) < 300'), '300', 'and the rows');

# Numbers of lines, wherever the error is found.
sub fails_alike
{
	my ($lines, $form, $name) = @_;
	open my $fh, '>', "$dir/bad" or die;
	print $fh @$lines;
	close $fh;
	my ($code, $text) = $c->fails(1, "COPY p (k, id, v, n) FROM '$dir/bad' $form");
	my ($expected) = $text =~ /CONTEXT:  COPY p(, .*)/;
	my ($detail) = $text =~ /DETAIL:  (.*?)(?:, \d{4}-.*)?$/m;
	like($code, qr/^2/, "$name: an error");
	for my $at ([ 1, 'l' ], [ 2, 'd' ])
	{
		my ($i, $table) = @$at;
		my ($got, $message) = $c->fails($i, "COPY $table (k, id, v, n) FROM '$dir/bad' $form");
		is($got, $code, "$name: code, $table");
		my $place = $table eq 'd' && $expected !~ /column/ ? qr/\Q@{[ $expected =~ m{^(, line \d+)} ]}\E/ : qr/\Q$expected\E$/m;
		like($message, qr/CONTEXT:  COPY $table$place/, 'place');
		like($message, qr/DETAIL:  \Q$detail\E/, 'detail') if defined $detail && $table eq 'l';
		unlike($message, qr/parallel worker/, 'no word of workers');
	}
	is($c->sql(1, 'SELECT (SELECT count(*) FROM l), (SELECT count(*) FROM d)'), '0|0', 'nothing is left');
	return;
}
$c->sql(1, 'TRUNCATE l, d, p');
my @good = map { "$_\t$_\tvalue of $_\t1\n" } 10001 .. 18000;
sub bad { my ($at, $line) = @_; my @l = @good; $l[ $at - 1 ] = "$line\n"; return \@l; }
for my $remote (0 .. 2)
{
	my ($key) = split /\n/, $c->sql(1, "SELECT k FROM generate_series(20000, 20100) k WHERE fragaffinity.bucket_of('d', k) = $remote");
	fails_alike(bad(6321, "$key\tx\tv\t1"), '', "bucket $remote: no number");
	fails_alike(bad(7000, "$key\t1\tv\t\\N"), '', "bucket $remote: NOT NULL");
	fails_alike(bad(7001, "$key\t1\tv\t-1"), '', "bucket $remote: CHECK");
	fails_alike(bad(7002, "10005\t10005\tv\t1"), '', 'duplicate key');
}
fails_alike(bad(6321, "1\t1\tv"), '', 'too few columns');
fails_alike(bad(6321, "1\t1\tv\t1\t1"), '', 'too many columns');
fails_alike(bad(6321, "x\t1\tv\t1"), '', 'no key');
fails_alike([ map({ s/\t/,/gr } @good), "7,7,\"two\nlines\",1\n", "8,x,v,1\n" ], '(FORMAT csv)', 'behind a line of two');
fails_alike([ map({ s/\t/,/gr } @good), "7,7,\"two\nlines\",1\n", "8,x,\"two\nlines\n\",1\n" ], '(FORMAT csv)', 'in one of three');
fails_alike([ "7,7,\"two\r\nlines\",1\r\n", "8,x,\"two\r\nlines\r\n\",1\r\n" ], '(FORMAT csv)', 'in one of three, of a few rows');

# The last line, with what would not be its end elsewhere.
open my $fh, '>', "$dir/last" or die;
print $fh map({ s/\t1$//r } @good), "7\t7\tno end\\";
close $fh;
$c->sql(1, "BEGIN; COPY p (k, id, v) FROM '$dir/last'; COPY l (k, id, v) FROM '$dir/last'; COMMIT");
is(rows_of(1, 'l'), rows_of(1, 'p'), 'a backslash at the end');

# In a transaction block: its rows are seen, changed, and gone.
$c->sql(1, 'TRUNCATE l, p');
workers(1);
is($c->sql(1, "BEGIN; COPY l ($names) FROM '$dir/rows'; UPDATE l SET v = 'new' WHERE id <= 10; DELETE FROM l WHERE id = 11;
	SELECT count(*), count(*) FILTER (WHERE v = 'new') FROM l; ROLLBACK; SELECT count(*) FROM l"), "5999|10\n0", 'in a block, undone');
is($c->sql(1, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM l; COPY l ($names) FROM '$dir/rows'; SELECT count(*) FROM l; COMMIT"),
	"0\n6000", 'and in REPEATABLE READ');
cmp_ok(workers(1), '>', 1, 'by workers');

# What is counted: by the server, once, and by us.
$c->sql(1, "TRUNCATE l; SELECT fragaffinity.flush_stats(); SELECT pg_stat_reset()");
my $written = q{SELECT coalesce(sum(rows_written), 0) FROM fragaffinity.access_stats a JOIN fragaffinity.fragments f USING (fragment)
	WHERE f.table_name = 'l'::regclass AND a.node = 'n1'};
my $before = $c->sql(1, $written);
$c->sql(1, "COPY l ($names) FROM '$dir/rows'");
$c->sql(1, 'SELECT fragaffinity.flush_stats()');
is($c->sql(1, $written) - $before, 6000, 'rows of each fragment are counted');
my $inserted = q{SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE relname ~ '^l_b.*_h$'};
ok($c->poll(1, "SELECT ($inserted) >= 6000"), 'statistics arrive');
is($c->sql(1, $inserted), '6000', 'and once');

# Decoded, with values out of line among others without.
$c->sql(1, q{CREATE TABLE w (k int PRIMARY KEY, v text); SELECT fragaffinity.distribute_table('w', 'k', fragments => 4, placement => 'n1');
	SELECT pg_create_logical_replication_slot('w', 'test_decoding');
	CREATE FUNCTION wide(i int) RETURNS text LANGUAGE sql AS $$SELECT CASE WHEN i % 5 = 0 THEN string_agg(md5(i || ' ' || j), '') ELSE i::text END FROM generate_series(1, 150) j$$});
$c->sql(1, "COPY (SELECT i, wide(i) FROM generate_series(1, 4000) i) TO '$dir/wide'; COPY w FROM '$dir/wide'");
is($c->sql(1, q{SELECT count(*), bool_and(v = wide(k)) FROM w}), '4000|t', 'wide rows');
is($c->sql(1, q{SELECT count(*), bool_and(right(data, length(v) + 2) = chr(39) || v || chr(39))
	FROM pg_logical_slot_get_changes('w', NULL, NULL) JOIN w ON k = substring(left(data, 100) FROM 'k.integer.:(\d+)')::int
	WHERE data ~ '^table public.w_b.*: INSERT: '}), '4000|t', 'and decoded so');
$c->sql(1, q{SELECT pg_drop_replication_slot('w')});

# A deadlock over nodes, in which a worker waits.
$c->sql(1, "TRUNCATE d; SELECT fragaffinity.configure('deadlock_wait', '500ms')");
my ($here, $there) = map { (split /\n/, $c->sql(1, "SELECT k FROM generate_series(1, 100) k WHERE fragaffinity.bucket_of('d', k) = $_"))[0] } 0, 1;
$c->sql(1, "COPY (SELECT k, CASE WHEN k = $here THEN 1 ELSE 2 END, repeat('v', 50) FROM generate_series(1, 20000) k WHERE fragaffinity.bucket_of('d', k) = 0) TO '$dir/here'");
my @s = map { $c->node($_)->background_psql('postgres', on_error_stop => 0) } 1, 2;
$_->query_safe('\set VERBOSITY verbose') for @s;
$s[0]->query_safe("BEGIN; INSERT INTO d (k, id, v) VALUES ($there, 1, 'first')");
$s[1]->query_safe("BEGIN; INSERT INTO d (k, id, v) VALUES ($here, 1, 'second')");
$s[1]->{stdin} .= "INSERT INTO d (k, id, v) VALUES ($there, 1, 'second');\n";
$s[1]->{run}->pump_nb;
ok($c->poll(2, 'SELECT count(*) FROM fragaffinity.lock_waiters()', '1'), 'one waits');
$s[0]->query("COPY d (k, id, v) FROM '$dir/here'");
$s[0]->query('COMMIT');
$s[1]->query('COMMIT');
is(scalar(() = join('', map { $_->{stderr} } @s) =~ /40P01/g), 1, 'a deadlock with a worker ends in one error')
  or diag(map { $_->{stderr} } @s);
like(join('', map { $_->{stderr} } @s), qr/DETAIL:  Process \d+ of node \d waits on node/, 'which says who');

# An error of a worker that comes while a peer is waited for is not the peer's.
$c->sql(1, 'TRUNCATE d');
$_->{stderr} = '' for @s;
$s[0]->query_safe("BEGIN; INSERT INTO d (k, id) VALUES ($here, 700)");
$s[1]->query_safe("BEGIN; INSERT INTO d (k, id) VALUES ($there, 1)");
open $fh, '>', "$dir/waits" or die;
print $fh "$there\t1\tv\n", map({ "$here\t$_\t" . 'v' x 50 . "\n" } 2 .. 3000), map({ "$there\t$_\t" . 'v' x 400 . "\n" } 3001 .. 60000);
close $fh;
my $waits = IPC::Run::start([ 'psql', '-XqAt', '-c', "COPY d (k, id, v) FROM '$dir/waits'", $c->conninfo(1) ], '<', \undef, '>', \my $none, '2>', \my $why);
ok($c->poll(1, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event_type = 'Lock'
	OR query ~ '^COPY' AND wait_event = 'Extension'}, '2'), 'a worker and the leader wait');
$s[0]->query_safe('COMMIT');
$waits->finish;
like($why, qr/CONTEXT:  COPY d, line 700$/m, 'the line of a worker');
$s[1]->query_safe('ROLLBACK');
$_->quit for @s;

# A COPY that has given half of its rows, and waits.
sub begin_copy
{
	my ($table, $name) = @_;
	unlink "$dir/go";
	my $script = "COPY $table (k, id, v) FROM PROGRAM 'seq 20000 | sed \"s/.*/&\t&\tv/\"; while [ ! -e $dir/go ]; do sleep 0.05; done; seq 20001 40000 | sed \"s/.*/&\t&\tv/\"'";
	my $copy = { script => $script, out => '', err => '' };
	$copy->{run} = IPC::Run::start([ 'psql', '-XqAt', '-v', 'VERBOSITY=sqlstate', '-c', $script, $c->conninfo(1) ],
		'<', \undef, '>', \$copy->{out}, '2>', \$copy->{err});
	ok($c->poll(1, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'MessageQueueReceive'}, '2'),
		"$name: workers have written");
	return $copy;
}
for my $table ('l', 'd')
{
	$c->sql(1, "TRUNCATE $table");
	my $copy = begin_copy($table, "$table, seen");
	is($c->sql(1, "SELECT count(*) FROM $table"), '0', 'nothing is seen before its end');
	is($c->sql(1, 'SELECT count(*) FROM pg_stat_progress_copy'), '1', 'its progress is one');
	append_to_file("$dir/go", '');
	$copy->{run}->finish;
	is($c->sql(1, "SELECT count(*), count(DISTINCT id) FROM $table"), '40000|40000', 'all of it then');

	$c->sql(1, "TRUNCATE $table");
	$copy = begin_copy($table, "$table, cancelled");
	$c->sql(1, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^COPY' AND backend_type = 'client backend'");
	$copy->{run}->finish;
	like($copy->{err}, qr/57014/, 'cancelled');
	is($c->sql(1, "SELECT count(*) FROM $table"), '0', 'nothing is left');
	ok($c->poll(1, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, '0'), 'nor workers');
	append_to_file("$dir/go", '');

	my $copying = begin_copy($table, "$table, crash");
	my $worker = $c->sql(1, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker' LIMIT 1});
	kill 'KILL', $worker;
	$copying->{run}->finish;
	append_to_file("$dir/go", '');
	ok($c->poll(1, "SELECT count(*) FROM $table", '0'), 'after the death of a worker nothing is left');
}

# The origin dies while it commits what workers and peers have written.
for my $case ([ 'cluster_before_decision', '0|0' ], [ 'cluster_decided', '40000|40000' ])
{
	my ($point, $rows) = @$case;
	$c->sql(1, 'TRUNCATE d');
	$c->hold(1, $point);
	my $client = IPC::Run::start([ 'psql', '-XqAt', '-c', "COPY d (k, id, v) FROM PROGRAM 'seq 40000 | sed \"s/.*/&\t&\tv/\"'", $c->conninfo(1) ],
		'<', \undef, '>', \my $out, '2>', \my $err);
	ok($c->wait_held(1, $point), "$point: reached");
	$c->kill9(1);
	$client->finish;
	$c->release(1);
	$c->restart(1);
	ok($c->poll($_, 'SELECT count(*) FROM pg_prepared_xacts', '0'), "$point: settled on node $_") for 1 .. 3;
	for my $i (1 .. 3)
	{
		is($c->sql($i, 'SELECT count(*), count(DISTINCT id) FROM d'), $rows, "$point: all or nothing on node $i");
	}
}

# While fragments move and are split: every row arrives once.
$c->sql(1, 'TRUNCATE d');
my @runs;
for my $i (1 .. 3)
{
	my $script = join '', map { "COPY d (k, id, v) FROM PROGRAM 'seq " . (1_000_000 * $i + 10_000 * $_) . ' ' .
		(1_000_000 * $i + 10_000 * $_ + 9_999) . " | sed \"s/.*/&\t&\tv/\"';\n" } 0 .. 5;
	my $err = '';
	push @runs, [ IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', $c->conninfo($i) ], '<', \$script, '>', \my $out, '2>', \$err), \$err ];
}
$c->move($c->fragment('d', $_), $c->owner($c->fragment('d', $_)) eq 'n3' ? 'n1' : 'n3') for 0, 2, 4;
$c->sql(1, "SELECT fragaffinity.split_fragment(" . $c->fragment('d', 1) . ", '2000000')");
for my $run (@runs) { ok($run->[0]->finish, 'copies under moves succeed') or diag(${ $run->[1] }); }
is($c->sql($_, 'SELECT count(*), count(DISTINCT (k, id)) FROM d'), '180000|180000', "node $_ sees all rows once") for 1 .. 3;
unlike(PostgreSQL::Test::Utils::slurp_file($c->node($_)->logfile), qr/WARNING:  .*leak/, "nothing is left open on n$_") for 1 .. 3;
$c->check_consistent('all is consistent');
done_testing();
