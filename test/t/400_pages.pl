# Moves by pages: every built-in type, TOAST of all kinds, and rows in every
# state that transactions leave them in; there and back under writers; what is
# there afterwards is checked by amcheck and by reading everything in every way.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");
my $transport = $ENV{FA_TRANSPORTS} // 'shm';

$c->sql($_, 'CREATE EXTENSION amcheck; CREATE EXTENSION pg_visibility') for 1, 2;
$c->sql(1, q{
	CREATE TABLE types (id int PRIMARY KEY,
		a bool, b smallint, c bigint, d real, e double precision, f numeric, g money, h "char",
		i char(7), j varchar(20), k text COLLATE "C", l name, m bytea, n date, o time, p timetz,
		q timestamp, r timestamptz, s interval, t uuid, u inet, v cidr, w macaddr, x macaddr8,
		y bit(5), z varbit, aa json, ab jsonb, ac xml, ad point, ae line, af lseg, ag box, ah path,
		ai polygon, aj circle, ak tsvector, al tsquery, am int4range, an numrange, ao tstzmultirange,
		ap int[], aq text[], ar jsonb[], at pg_lsn, au pg_snapshot, av xid8, aw jsonpath, ax refcursor,
		ay int GENERATED ALWAYS AS (id * 2) STORED);
	ALTER TABLE types ALTER k SET STORAGE EXTERNAL, ALTER aq SET STORAGE MAIN;
	INSERT INTO types SELECT i, i % 2 = 0, i, i, i / 3.0, i / 7.0, i * 1.1::numeric, i, chr(65 + i % 26)::"char",
		'c' || i, 'v' || i, CASE WHEN i % 10 = 0 THEN repeat(md5(i::text), 200) ELSE 'k' || i END, 'n' || i,
		CASE WHEN i % 9 = 0 THEN decode(repeat(md5(i::text), 500), 'hex') ELSE '\x0102' END,
		'2024-01-01'::date + i, '01:02:03', '01:02:03+05', '2024-01-01'::timestamp + i * interval '1 h',
		'2024-01-01 00:00+00'::timestamptz + i * interval '1 h', i * interval '1 min', md5(i::text)::uuid,
		('10.0.0.' || i % 256)::inet, ('10.' || i % 256 || '.0.0/16')::cidr, '08:00:2b:01:02:03',
		'08:00:2b:01:02:03:04:05', B'10101', B'1011', '{"a": 1}', jsonb_build_object('i', i, 't', repeat('x', i % 3000)),
		'<a/>', point(i, i), '{1,2,3}', '[(0,0),(1,1)]', box(point(0, 0), point(i, i)), '[(0,0),(1,1),(2,0)]',
		'((0,0),(1,1),(2,0))', circle(point(i, i), 1), to_tsvector('simple', 'word' || i), 'a & b',
		int4range(i, i + 10), numrange(i, i + 1.5), tstzmultirange(tstzrange('2024-01-01', '2024-02-01')),
		ARRAY[i, NULL, i + 1], ARRAY[repeat('y', i % 2500)], ARRAY['{"z": 1}'::jsonb], '0/10', '10:20:10,14',
		i::text::xid8, '$.a', 'cur' FROM generate_series(1, 400) i;
	INSERT INTO types (id) SELECT i FROM generate_series(401, 500) i;

	CREATE TABLE t (id bigint, n bigint NOT NULL, hot int DEFAULT 0, pad text,
		plain text COMPRESSION pglz, lz text, ext text, PRIMARY KEY (id)) WITH (fillfactor = 70);
	ALTER TABLE t ALTER ext SET STORAGE EXTERNAL;
	CREATE INDEX t_n ON t (n);
	CREATE INDEX t_expr ON t ((n % 100), pad) WHERE n > 10;
	CREATE INDEX t_incl ON t (n DESC) INCLUDE (hot);
	CREATE INDEX t_dup ON t ((n % 5));
});
my $has_lz4 = $c->node(1)->psql('postgres', 'ALTER TABLE t ALTER lz SET COMPRESSION lz4') == 0;
note('no lz4 in this server') unless $has_lz4;
$c->sql(1, q{
	SELECT fragaffinity.distribute_table('types', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('move_path', 'page');
});
my $types = $c->fragment('types');
my $f = $c->fragment('t');

sub number { return substr $_[0], 1; }
sub leaf { my ($table) = @_; return "${table}_b0_h"; }

# Every row by every way; the way decides, so each is forced.
sub check_table
{
	my ($table, $name) = @_;
	my $i = number($c->owner($c->fragment($table)));
	my $leaf = leaf($table);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($c->sql($i, "SELECT * FROM verify_heapam('$leaf', check_toast => true)"), '', "$name: heap of $table");
	is($c->sql($i, "SELECT v.* FROM pg_class c, verify_heapam(c.reltoastrelid) v
		WHERE c.oid = '$leaf'::regclass AND c.reltoastrelid <> 0"), '', "$name: TOAST of $table");
	my ($code, $message) = $c->fails($i, "SELECT bt_index_parent_check(i.indexrelid, true, true)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
		WHERE a.amname = 'btree' AND (i.indrelid = '$leaf'::regclass OR i.indrelid =
			(SELECT reltoastrelid FROM pg_class WHERE oid = '$leaf'::regclass))");
	is($code, '', "$name: indexes of $table") or diag($message);
	is($c->sql($i, "SELECT count(*) FROM pg_check_visible('$leaf')"), '0', "$name: visibility map of $table");

	my $count = $c->sql($i, "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
		SELECT count(*) || ' ' || coalesce(sum(hashtextextended(x::text, 0)), 0) FROM $leaf x");
	my $keys = 'id > -1';
	for my $scan (qw(indexscan indexonlyscan bitmapscan))
	{
		my $off = join '; ', map { "SET enable_$_ = off" } grep { $_ ne $scan } qw(seqscan indexscan indexonlyscan bitmapscan);
		my $what = $scan eq 'indexonlyscan' ? 'count(id)' : "count(*) || ' ' || coalesce(sum(hashtextextended(x::text, 0)), 0)";
		my $want = $scan eq 'indexonlyscan' ? (split ' ', $count)[0] : $count;
		is($c->sql($i, "$off; SELECT $what FROM $leaf x WHERE $keys"), $want, "$name: $scan of $table");
		next unless $table eq 't';
		is($c->sql($i, "$off; SELECT count(n) FROM $leaf x WHERE n > -1000000"),
			(split ' ', $count)[0], "$name: $scan of t by another index");
	}
	return $count;
}

sub rows_of
{
	my ($table) = @_;
	return $c->sql(number($c->owner($c->fragment($table))),
		"SELECT count(*) || ' ' || coalesce(sum(hashtextextended(x::text, 0)), 0) FROM " . leaf($table) . ' x');
}

sub move_by_pages
{
	my ($table, $name) = @_;
	my $fragment = $c->fragment($table);
	my $before = rows_of($table);
	my $to = $c->owner($fragment) eq 'n1' ? 'n2' : 'n1';
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$c->move($fragment, $to, 1);
	is($c->owner($fragment), $to, "$name: moved to $to");
	is($c->sql(1, "SELECT path, transport FROM fragaffinity.moves ORDER BY finished DESC LIMIT 1"),
		"page|$transport", "$name: by pages");
	is(rows_of($table), $before, "$name: the same rows");
	check_table($table, $name);
	return;
}

# An empty table, both ways.
move_by_pages('t', 'empty');
move_by_pages('t', 'empty, back');

move_by_pages('types', 'every type');
$c->sql(1, "UPDATE types SET k = k || repeat(md5(k), 300) WHERE id % 7 = 0; DELETE FROM types WHERE id % 11 = 0");
move_by_pages('types', 'every type, back');
is($c->sql(1, "SELECT sum(octet_length(x::text)) > 0 FROM types x"), 't', 'every value can be read');

# Rows in every state.  $other is a session that stays open meanwhile.
my $owner = number($c->owner($f));
$c->sql($owner, q{
	INSERT INTO t (id, n, pad, plain, lz, ext) SELECT i, i, 'p' || i, repeat('plain' || i, 600),
		(SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 200) j),
		CASE WHEN i % 3 = 0 THEN repeat('e' || i, 1000) END FROM generate_series(1, 1000) i;
	INSERT INTO t (id, n, pad) SELECT i, i, 'short' FROM generate_series(1001, 6000) i;
	-- HOT chains, some long, some broken off by an abort
	UPDATE t SET hot = hot + 1 WHERE id % 3 = 0;
	UPDATE t SET hot = hot + 1 WHERE id % 6 = 0;
	BEGIN; UPDATE t SET hot = -1 WHERE id % 4 = 0; INSERT INTO t (id, n) SELECT -i, i FROM generate_series(1, 500) i; ROLLBACK;
	UPDATE t SET n = n + 100000 WHERE id % 17 = 0;
	-- subtransactions
	BEGIN; SAVEPOINT a; UPDATE t SET hot = 77 WHERE id % 19 = 0; ROLLBACK TO a;
	SAVEPOINT b; UPDATE t SET hot = 78 WHERE id % 23 = 0; RELEASE b; SAVEPOINT c; DELETE FROM t WHERE id % 29 = 0;
	SAVEPOINT d; INSERT INTO t (id, n) VALUES (20001, 1), (20002, 2); ROLLBACK TO d; COMMIT;
	-- inserted and changed by one transaction
	BEGIN; INSERT INTO t (id, n) SELECT 30000 + i, i FROM generate_series(1, 50) i;
	UPDATE t SET hot = 5 WHERE id > 30000; DELETE FROM t WHERE id > 30040; COMMIT;
	-- freed line pointers that others take
	DELETE FROM t WHERE id BETWEEN 2000 AND 2500;
});
$c->sql($owner, 'VACUUM ' . leaf('t'));
$c->sql($owner, q{
	INSERT INTO t (id, n, pad) SELECT i, i, 'again' FROM generate_series(2000, 2300) i;
	UPDATE t SET hot = hot + 1 WHERE id BETWEEN 2100 AND 2900;
	DELETE FROM t WHERE id BETWEEN 3000 AND 3100;
	INSERT INTO t (id, n) VALUES (1, 0) ON CONFLICT DO NOTHING;
});
# Multixacts: several lockers, and lockers of a row that another updates.
{
	# One statement at a time of two sessions, by prepared transactions: row
	# locks of a prepared transaction stay.
	my $leaf = leaf('t');
	$c->sql($owner, "BEGIN; SELECT count(*) FROM (SELECT FROM $leaf WHERE id BETWEEN 100 AND 200 FOR KEY SHARE) x; PREPARE TRANSACTION 'lock1'");
	$c->sql($owner, "BEGIN; SELECT count(*) FROM (SELECT FROM $leaf WHERE id BETWEEN 150 AND 250 FOR KEY SHARE) x; PREPARE TRANSACTION 'lock2'");
	$c->sql($owner, "UPDATE t SET hot = hot + 1 WHERE id BETWEEN 180 AND 220");
	$c->sql($owner, "BEGIN; UPDATE t SET hot = -5 WHERE id BETWEEN 120 AND 130; ROLLBACK");
	cmp_ok($c->sql($owner, "SELECT count(*) FROM $leaf WHERE xmax::text::bigint > 0"), '>', 100, 'rows with an xmax');
	$c->sql($owner, "COMMIT PREPARED 'lock1'; COMMIT PREPARED 'lock2'");
}
move_by_pages('t', 'every state of a row');
is($c->sql(1, 'SELECT count(*) FROM t WHERE id < 0 OR id IN (20001, 20002) OR id > 30040 OR hot IN (-1, 77, -5)'), '0',
	'what was rolled back stays so');

# What moved is a table like any other.
sub use_table
{
	my ($name) = @_;
	my $i = number($c->owner($f));
	my $leaf = leaf('t');

	$c->sql($i, "UPDATE t SET hot = hot + 1 WHERE id % 2 = 0; UPDATE t SET n = n + 1, ext = ext || 'x' WHERE id % 5 = 0;
		DELETE FROM t WHERE id % 13 = 0; INSERT INTO t (id, n, pad, ext)
		SELECT i, i, 'new', repeat('new', 2000) FROM generate_series(50001, 50300) i");
	check_table('t', "$name: changed");
	$c->sql($i, "VACUUM (FREEZE) $leaf");
	$c->sql($i, 'CHECKPOINT');
	check_table('t', "$name: frozen");
	$c->restart($i);
	check_table('t', "$name: restarted");
	$c->sql($i, 'DELETE FROM t WHERE id > 50000');
	return;
}
use_table('once moved');
move_by_pages('t', 'back');
use_table('moved back');

# A transaction that is open while pages are copied: its rows come with the
# last round, or not at all.
{
	my $i = number($c->owner($f));
	my $to = $i == 1 ? 2 : 1;
	my $leaf = leaf('t');
	my ($in, $out) = ('', '');
	my $session = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', $c->conninfo($i) ],
		'<', \$in, '>', \$out, '2>&1');

	$in .= "BEGIN; UPDATE t SET hot = 4711 WHERE id BETWEEN 500 AND 700; INSERT INTO t (id, n) SELECT 60000 + i, i FROM generate_series(1, 300) i; SELECT 'open';\n";
	pump_until($session, IPC::Run::timeout(60), \$out, qr/open/) or die "no session: $out";
	my $aborted = "BEGIN; UPDATE t SET hot = 4712 WHERE id BETWEEN 800 AND 900; INSERT INTO t (id, n) SELECT 70000 + i, i FROM generate_series(1, 300) i; ROLLBACK";
	$c->hold($to, 'move_catching up');
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
	ok($c->wait_held($to, 'move_catching up', qr/\] LOG: /), 'all that can be copied is');
	$c->sql($i, $aborted);
	$in .= "UPDATE t SET hot = 4713 WHERE id BETWEEN 650 AND 720; COMMIT; SELECT 'over';\n";
	pump_until($session, IPC::Run::timeout(60), \$out, qr/over/) or die "no end: $out";
	$session->finish;
	my $before = rows_of('t');
	$c->release($to);
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'the move ends');
	is(rows_of('t'), $before, 'and has every row as it was committed');
	is($c->sql(1, 'SELECT count(*) FILTER (WHERE hot = 4711), count(*) FILTER (WHERE hot = 4713),
		count(*) FILTER (WHERE hot = 4712), count(*) FILTER (WHERE id > 70000), count(*) FILTER (WHERE id BETWEEN 60001 AND 60300) FROM t'),
		$c->sql(1, "SELECT (SELECT count(*) FROM t WHERE id BETWEEN 500 AND 649), (SELECT count(*) FROM t WHERE id BETWEEN 650 AND 720), 0, 0, 300"),
		'by the transaction that ended meanwhile, too');
	check_table('t', 'open transaction');
}

# TRUNCATE and VACUUM that shorten the source between rounds.
{
	my $i = number($c->owner($f));
	my $to = $i == 1 ? 2 : 1;
	my $leaf = leaf('t');

	$c->sql($i, "INSERT INTO t (id, n, pad) SELECT 100000 + i, i, repeat('z', 500) FROM generate_series(1, 5000) i");
	$c->hold($to, 'move_catching up');
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
	ok($c->wait_held($to, 'move_catching up', qr/\] LOG: /), 'the large table is copied');
	$c->sql($i, 'DELETE FROM t WHERE id > 100000');
	my $large = $c->sql($i, "SELECT pg_relation_size('$leaf')");
	$c->sql($i, "VACUUM $leaf");
	cmp_ok($c->sql($i, "SELECT pg_relation_size('$leaf')"), '<', $large, 'the source is shorter now');
	$c->sql($i, "REINDEX INDEX " . $c->sql($i, "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$leaf'::regclass AND NOT indisprimary LIMIT 1"));
	my $before = rows_of('t');
	my $size = $c->sql($i, "SELECT pg_relation_size('$leaf')");
	$c->release($to);
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'the move ends');
	is(rows_of('t'), $before, 'with the rows that are left');
	is($c->sql($to, "SELECT pg_relation_size('$leaf')"), $size, 'and the size');
	check_table('t', 'shortened');
}

# A VACUUM of the whole destination waits for the new heap, and the move goes on.
{
	my $i = number($c->owner($f));
	my $to = $i == 1 ? 2 : 1;

	$c->hold($to, 'move_catching up');
	my $move = $c->sql($to, "SELECT fragaffinity.move_fragment($f, 'n$to', wait => false)");
	ok($c->wait_held($to, 'move_catching up', qr/\] LOG: /), 'a new heap is copied');
	my $heap = $c->sql($to, "SELECT relation FROM fragaffinity.cleanup WHERE move = $move");
	my $session = IPC::Run::start([ 'psql', '-Xq', '-c', "VACUUM $heap", $c->conninfo($to) ], '<', '/dev/null');
	ok($c->poll($to, "SELECT count(*) FROM pg_locks WHERE relation = '$heap'::regclass AND NOT granted", '1'),
		'VACUUM waits for it');
	$c->release($to);
	ok($c->poll($to, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'and the move ends');
	$session->finish;
	check_table('t', 'vacuumed');
}

# There and back under writers on both nodes; an emulated one does little else
# than write, if it may.
my ($moves, $pause, $writes) = $transport eq 'rdma' ? (2, 20000, 3) : (8, 2000, 10);
$c->sql(1, "INSERT INTO types (id) VALUES (100000); CREATE TABLE w (id bigint PRIMARY KEY, n bigint NOT NULL,
		pad text DEFAULT repeat('p', 300), made timestamptz DEFAULT now());
	CREATE INDEX ON w (n); CREATE INDEX ON w (made);
	INSERT INTO w (id, n) SELECT i, i FROM generate_series(1, 300) i;
	INSERT INTO w (id, n, pad) SELECT i, 0, repeat(md5(i::text), 300) FROM generate_series(1001, 4000) i;
	SELECT fragaffinity.distribute_table('w', 'id', fragments => 1, placement => 'n1')");
my $load = $c->start_load(table => 'w', anchors => 300, pause => $pause,
	modes => { 1 => [qw(simple block copy reader)], 2 => [qw(prepared block rr)] });
my $w = $c->fragment('w');
for my $k (1 .. $moves)
{
	my $to = $c->owner($w) eq 'n1' ? 'n2' : 'n1';
	$c->move($w, $to);
	is($c->owner($w), $to, "under writers, move $k");
	$c->wait_for_load($load, $writes);
}
$c->check_load($load, 'w', 'moved by pages');
$c->rows_agree('w', 'both nodes show the same rows');
check_table('w', 'under writers');
is($c->sql(1, "SELECT count(*) FROM fragaffinity.moves WHERE path <> 'page'"), '0', 'all of it by pages');
$c->check_consistent('nothing is left over');

done_testing();
