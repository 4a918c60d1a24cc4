# What others do to a table while its pages are copied: the move waits for them,
# tries again or begins anew, and they wait for it no longer than they must.
use strict;
use warnings;
use FragAffinity;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nmax_wal_size = 200MB\n");

$c->sql($_, 'CREATE EXTENSION amcheck') for 1, 2;
$c->sql(1, q{
	CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
	ALTER TABLE t ALTER pad SET STORAGE EXTERNAL;
	CREATE INDEX t_n ON t (n);
	INSERT INTO t SELECT i, i, repeat('p', CASE WHEN i % 50 = 0 THEN 5000 ELSE 200 END) FROM generate_series(1, 5000) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('move_path', 'page')});
my $f = $c->fragment('t');
my $leaf = 't_b0_h';

sub number { return substr $_[0], 1; }
sub sides { my $i = number($c->owner($f)); return ($i, 3 - $i); }

sub rows_of { my ($i) = @_; return $c->sql($i, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $leaf x"); }

sub check_table
{
	my ($name) = @_;
	my ($i) = sides();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($c->sql($i, "SELECT * FROM verify_heapam('$leaf', check_toast => true)"), '', "$name: the heap");
	my ($code, $message) = $c->fails($i, "SELECT bt_index_parent_check(indexrelid, true, true) FROM pg_index
		WHERE indrelid = '$leaf'::regclass OR indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = '$leaf'::regclass)");
	is($code, '', "$name: the indexes") or diag($message);
	return;
}

sub start_move
{
	my ($to) = @_;
	return $c->sql($to, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
}

sub wait_done
{
	my ($to, $move, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $done = $c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done');
	ok($done, $name) or diag($c->sql($to, "SELECT state, error, reason FROM fragaffinity.moves WHERE move = $move"));
	$c->poll($_, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", "n$to") for 1, 2;
	return;
}

# A session in the background; its output is in ${$s->{out}}.
sub session
{
	my ($i, $sql) = @_;
	my $s = { in => "$sql\n", out => '' };

	$s->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', $c->conninfo($i) ],
		'<', \$s->{in}, '>', \$s->{out}, '2>&1');
	$s->{run}->pump while length $s->{in};
	return $s;
}

sub says
{
	my ($s, $text) = @_;
	pump_until($s->{run}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default), \$s->{out}, qr/$text/)
	  or die "session said: $s->{out}";
	return;
}

# The table is replaced, in ways that the extension does not see.
for my $case (
	[ "REINDEX TABLE CONCURRENTLY $leaf", qr/begun anew, as relation \d+ was replaced while it was copied/ ],
	[ "VACUUM FULL $leaf", qr/asked for by hand$/ ],
	[ "TRUNCATE $leaf; INSERT INTO t SELECT i, i, repeat('new', 300) FROM generate_series(1, 3000) i", qr/asked for by hand$/ ],
	[ "REINDEX TABLE $leaf", qr/asked for by hand$/ ],
	[ "CLUSTER $leaf USING " . '%pkey', qr/asked for by hand$/ ])
{
	my ($sql, $reason) = @$case;
	my ($i, $to) = sides();
	my $pkey = $c->sql($i, "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$leaf'::regclass AND indisprimary");

	$sql =~ s/%pkey/$pkey/;
	$c->hold($to, 'move_catching up');
	my $move = start_move($to);
	ok($c->wait_held($to, 'move_catching up', qr/\] LOG: /), "$sql: pages are copied");
	$c->sql($i, "UPDATE t SET n = n + 1 WHERE id % 10 = 0");
	$c->sql($i, $_) for split /;/, $sql;
	$c->sql($i, "UPDATE t SET n = n + 1 WHERE id % 7 = 0");
	my $before = rows_of($i);
	$c->release($to);
	wait_done($to, $move, "$sql: the move ends");
	is(rows_of($to), $before, "$sql: with the rows there were");
	like($c->sql($to, "SELECT reason FROM fragaffinity.moves WHERE move = $move"), $reason, "$sql: it says why it took longer");
	check_table($sql);
}

# A reader at the destination keeps the swap off, again and again, while VACUUM
# of the new heap waits: it must not get in before the swap.
{
	my ($i, $to) = sides();
	my $reader = session($to, 'BEGIN; SELECT count(*) FROM t WHERE id = 1; SELECT $$reads$$;');
	says($reader, 'reads');
	$c->hold($to, 'move_catching up');
	my $move = start_move($to);
	ok($c->wait_held($to, 'move_catching up', qr/\] LOG: /), 'a new heap is copied');
	my $heap = $c->sql($to, "SELECT relation FROM fragaffinity.cleanup WHERE move = $move");
	my $vacuum = session($to, "VACUUM $heap; SELECT 'vacuumed';");
	ok($c->poll($to, "SELECT count(*) FROM pg_locks WHERE relation = '$heap'::regclass AND NOT granted", '1'),
		'VACUUM waits for it');
	my $rounds = $c->sql($to, "SELECT rounds FROM fragaffinity.stat_progress_move WHERE move = $move");
	$c->release($to);
	ok($c->poll($to, "SELECT rounds > $rounds + 6 FROM fragaffinity.stat_progress_move WHERE move = $move"),
		'the reader keeps the swap off');
	is($c->sql($to, "SELECT count(*) FROM pg_locks WHERE relation = '$heap'::regclass AND NOT granted"), '1',
		'VACUUM waits on');
	$c->sql($i, 'UPDATE t SET n = n + 1');
	$reader->{in} .= "COMMIT; SELECT 'over';\n";
	says($reader, 'over');
	wait_done($to, $move, 'the move ends');
	says($vacuum, 'vacuumed');
	check_table('swap put off');
}

# The last round fails for a moment at the source: what it had sent comes again.
{
	my ($i, $to) = sides();

	$c->sql($i, q{
		ALTER FUNCTION fragaffinity.send_pages(integer, integer, bigint) RENAME TO true_pages;
		CREATE SEQUENCE tries;
		CREATE FUNCTION fragaffinity.send_pages(round integer, received integer, most bigint) RETURNS SETOF bytea LANGUAGE plpgsql AS $$
		BEGIN
			RETURN QUERY SELECT fragaffinity.true_pages(round, received, most);
			IF most < 9223372036854775807 AND nextval('public.tries') <= 2 THEN
				RAISE EXCEPTION 'not now' USING ERRCODE = '55P03';
			END IF;
		END $$});
	$c->hold($to, 'move_fencing');
	my $move = start_move($to);
	ok($c->wait_held($to, 'move_fencing', qr/\] LOG: /), 'just before the fence');
	$c->sql($i, 'UPDATE t SET n = n + 1 WHERE id < 100');
	my $before = rows_of($i);
	$c->release($to);
	wait_done($to, $move, 'a last round that failed is tried again');
	is(rows_of($to), $before, 'and brings all rows');
	is($c->sql($i, 'SELECT last_value FROM tries'), '3', 'at the third try');
	check_table('last round again');
	$c->sql($i, 'DROP FUNCTION fragaffinity.send_pages(integer, integer, bigint); DROP SEQUENCE tries;
		ALTER FUNCTION fragaffinity.true_pages(integer, integer, bigint) RENAME TO send_pages');
}

# While a large table is copied slowly: whoever wants it for himself gets it
# soon, and the log that has been read is let go of.
{
	$c->sql(number($c->owner($f)), "INSERT INTO t SELECT i, i, repeat('x', 1000) FROM generate_series(10001, 20000) i");
	$c->sql(1, "SELECT fragaffinity.configure('move_rate_limit', '1MB')");
	my ($i, $to) = sides();
	my $move = start_move($to);
	ok($c->poll($to, "SELECT bytes_done > 1000000 FROM fragaffinity.stat_progress_move WHERE move = $move"), 'a slow copy');
	$c->sql($i, "SET lock_timeout = '5s'; BEGIN; LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE; COMMIT");
	is($c->sql($to, "SELECT phase FROM fragaffinity.stat_progress_move WHERE move = $move"), 'copying',
		'a lock on the whole table is to be had while it is copied');
	my $kept = $c->sql($i, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name LIKE 'fragaffinity%'");
	$c->sql($i, "INSERT INTO t SELECT i, i, 'w' FROM generate_series(30001, 30100) i; SELECT pg_switch_wal()");
	$c->sql($i, "UPDATE t SET n = n WHERE id = 1");
	ok($c->poll($i, "SELECT restart_lsn > '$kept' FROM pg_replication_slots WHERE slot_name LIKE 'fragaffinity%'"),
		'the source lets go of log within the first round');
	is($c->sql($to, "SELECT phase FROM fragaffinity.stat_progress_move WHERE move = $move"), 'copying', 'which goes on');
	$c->sql($to, "SELECT fragaffinity.cancel_move($move)");
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'cancelled'), 'and can be cancelled');
	$c->sql(1, "SELECT fragaffinity.configure('move_rate_limit', '0')");
	my $before = rows_of($i);
	$c->move($f, "n$to");
	is(rows_of($to), $before, 'and made again');
	check_table('after a cancelled copy');
}
$c->check_consistent('nothing is left over');

done_testing();
