# Tables that cannot move by pages move by rows, and say why; a peer that sends
# frames it should not ends its move and nothing else; rate limit, settings,
# what a standby of the destination sees.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\nmax_wal_senders = 20\n");

sub distribute
{
	my ($table, $columns, @more) = @_;

	$c->sql(1, "CREATE TABLE $table (id int PRIMARY KEY, $columns)");
	$c->sql(1, $_) for @more;
	$c->sql(1, "INSERT INTO $table (id) SELECT i FROM generate_series(1, 50) i;
		SELECT fragaffinity.distribute_table('$table', 'id', fragments => 1, placement => 'n1')");
	return $c->fragment($table);
}

sub last_move
{
	my ($fragment, $columns, $node) = @_;
	return $c->sql($node // 1, "SELECT $columns FROM fragaffinity.moves WHERE fragment = $fragment ORDER BY finished DESC LIMIT 1");
}

$c->sql($_, q{CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b text);
	CREATE TYPE span AS RANGE (subtype = float8); CREATE DOMAIN posint AS int CHECK (value > 0);
	CREATE DOMAIN feeling AS mood; CREATE EXTENSION IF NOT EXISTS amcheck}) for 1, 2;

# Which path, and why.
for my $case (
	[ 'plain', 'v text', qr/^asked for by hand$/ ],
	[ 'dom', 'v posint', qr/^asked for by hand$/ ],
	[ 'enum', 'v mood', qr/by rows, as column v is of type public.mood/ ],
	[ 'enumdom', 'v feeling', qr/by rows, as column v is of type public.feeling/ ],
	[ 'enumarr', 'v mood[]', qr/by rows, as column v is of type public.mood\[\]/ ],
	[ 'domarr', 'v posint[]', qr/by rows, as column v is of type public.posint\[\]/ ],
	[ 'comp', 'v pair', qr/by rows, as column v is of type public.pair/ ],
	[ 'rng', 'v span', qr/by rows, as column v is of type public.span/ ],
	[ 'reg', 'v regclass', qr/by rows, as column v is of type regclass/ ],
	[ 'oids', 'v oid[]', qr/by rows, as column v is of type oid\[\]/ ],
	[ 'dropped', 'w int, v text', qr/by rows, as a column was dropped/, 'ALTER TABLE dropped DROP w' ],
	[ 'exprenum', 'v int', qr/by rows, as column \w+ is of type public.mood/,
		"CREATE FUNCTION to_mood(int) RETURNS mood IMMUTABLE LANGUAGE sql AS 'SELECT ''sad''::public.mood'" ])
{
	my ($name, $columns, $reason, @more) = @$case;
	if ($name eq 'exprenum')
	{
		$c->sql(2, $more[0]);
		push @more, 'CREATE INDEX ON exprenum (to_mood(v))';
	}
	my $f = distribute($name, $columns, $name eq 'dropped' ? () : @more);
	# the leaves of a new table have no dropped column: it goes afterwards
	$c->sql(1, $more[0]) if $name eq 'dropped';
	$c->move($f, 'n2');
	like(last_move($f, 'reason'), $reason, "$name: the reason");
	is(last_move($f, 'path'), $reason =~ /rows/ ? 'logical' : 'page', "$name: the path");
	is($c->sql(2, "SELECT count(*) FROM ${name}_b0_h"), '50', "$name: the rows");
}
my $dropped = $c->fragment('dropped');
$c->move($dropped, 'n1');
is(last_move($dropped, 'path'), 'page', 'once moved by rows, the dropped column is forgotten');

# Rows that lack a column with a default.
my $missing = distribute('missing', 'v text');
$c->sql(1, "ALTER TABLE missing ADD w int NOT NULL DEFAULT 42");
$c->move($missing, 'n2');
like(last_move($missing, 'reason'), qr/rows lack the default of column w/, 'missing values: the reason');
is($c->sql(2, 'SELECT sum(w) FROM missing_b0_h'), 50 * 42, 'missing values: they came');

# The setting.
my $plain = $c->fragment('plain');
my ($code, $message) = $c->fails(1, "SELECT fragaffinity.configure('move_path', 'carrier pigeon')");
is($code, '22023', 'a path that is none is refused');
$c->sql(1, "SELECT fragaffinity.configure('move_path', 'logical', 'plain')");
$c->move($plain, 'n1');
is(last_move($plain, 'path'), 'logical', 'by rows when asked for');
$c->sql(1, "SELECT fragaffinity.configure('move_path', 'page', 'enum')");
my $enum = $c->fragment('enum');
($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($enum, 'n1')");
is($code, '55000', 'pages that are asked for and not possible fail the move');
like($message, qr/cannot move by pages: column v is of type public.mood.*move_path/s, 'and say why');
is($c->owner($enum), 'n2', 'the fragment stays');
$c->check_consistent('nothing left over');

# No room, where the new heap would be.
my $large = distribute('large', 'v text');
$c->sql(1, q{
	ALTER FUNCTION fragaffinity.open_pages(bigint, bigint, oid, oid[]) RENAME TO true_open;
	CREATE FUNCTION fragaffinity.open_pages(move bigint, xid bigint, toast oid, relations oid[]) RETURNS bigint[]
	LANGUAGE plpgsql AS $$
	DECLARE
		bytes bigint[] := fragaffinity.true_open(move, xid, toast, relations);
	BEGIN
		bytes[1] := 1000000000000000000;
		RETURN bytes;
	END $$});
($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($large, 'n2')");
is($code, '55000', 'a fragment for which there is no room is refused');
like($message, qr/no room on the disk for a fragment \(It takes 1\d{12} MB where "base\/\d+"/, 'with the place and the figures');
$c->check_consistent('and leaves nothing over');
$c->sql(1, 'DROP FUNCTION fragaffinity.open_pages(bigint, bigint, oid, oid[]);
	ALTER FUNCTION fragaffinity.true_open(bigint, bigint, oid, oid[]) RENAME TO open_pages');
$c->move($large, 'n2');
is(last_move($large, 'path'), 'page', 'what fits moves');

# A liar at the source; what it makes up can only go as rows.
my $f = distribute('t', 'n int, pad text');
$c->sql(1, "SELECT fragaffinity.configure('move_path', 'page', 't');
	SELECT fragaffinity.configure('transports', 'stream', 't');
	UPDATE t SET n = id, pad = repeat('x', 100); INSERT INTO t SELECT i, i, repeat('y', 300) FROM generate_series(51, 5000) i");
my $good = $c->sql(1, "SELECT count(*), sum(hashtext(t::text)) FROM t");
$c->sql(1, q{
	ALTER FUNCTION fragaffinity.send_pages(integer, integer, bigint) RENAME TO true_pages;
	CREATE TABLE lie (how text);
	INSERT INTO lie VALUES ('');
	CREATE FUNCTION fragaffinity.send_pages(round integer, received integer, most bigint) RETURNS SETOF bytea LANGUAGE plpgsql AS $$
	DECLARE
		how text := (SELECT l.how FROM public.lie l);
		frame bytea;
		held bytea;
		i int := 0;
		k int;
	BEGIN
		FOR frame IN SELECT fragaffinity.true_pages(round, received, most) LOOP
			i := i + 1;
			IF i = 2 AND round = 1 THEN
				CASE how
				WHEN 'truncated' THEN frame := substr(frame, 1, octet_length(frame) / 2);
				WHEN 'empty' THEN frame := ''::bytea;
				WHEN 'longer' THEN frame := frame || '\x00'::bytea;
				WHEN 'noise' THEN frame := decode(repeat(md5(random()::text), 5000), 'hex');
				WHEN 'left out' THEN CONTINUE;
				WHEN 'twice' THEN RETURN NEXT frame;
				WHEN 'swapped' THEN held := frame; CONTINUE;
				WHEN 'magic' THEN frame := set_byte(frame, 0, 0);
				WHEN 'version' THEN frame := set_byte(frame, 5, 99);
				WHEN 'kind' THEN frame := set_byte(frame, 7, 9);
				WHEN 'move' THEN frame := set_byte(frame, 15, get_byte(frame, 15) # 1);
				WHEN 'round' THEN frame := set_byte(frame, 19, 77);
				WHEN 'relation' THEN frame := set_byte(frame, 25, 200);
				WHEN 'pages' THEN frame := set_byte(frame, 27, 33);
				WHEN 'far' THEN frame := overlay(overlay(frame PLACING '\xfffffff0'::bytea FROM 29 FOR 4) PLACING '\xffffffe0'::bytea FROM 37 FOR 4);
				WHEN 'blocks' THEN frame := set_byte(frame, 31, 1);
				WHEN 'block' THEN frame := set_byte(frame, 36, 127);
				WHEN 'checksum' THEN frame := set_byte(frame, 41, get_byte(frame, 41) # 1);
				WHEN 'hole' THEN frame := set_byte(frame, 44, 255);
				WHEN 'contents' THEN frame := set_byte(frame, 200, get_byte(frame, 200) # 1);
				WHEN 'other relation' THEN frame := set_byte(frame, 25, 1);
				WHEN 'no end' THEN RETURN;
				ELSE NULL;
				END CASE;
			ELSIF i = 3 AND held IS NOT NULL THEN
				RETURN NEXT frame;
				frame := held;
			END IF;
			IF how LIKE 'random%' AND random() < 0.5 THEN
				FOR k IN 0 .. (random() * 5)::int LOOP
					frame := set_byte(frame, (random() * (octet_length(frame) - 1))::int, (random() * 255)::int);
				END LOOP;
			END IF;
			RETURN NEXT frame;
		END LOOP;
		IF how = 'more' THEN RETURN NEXT frame; END IF;
		IF how = 'raise' THEN RAISE EXCEPTION 'no more'; END IF;
	END $$});
my $started = $c->sql(2, 'SELECT pg_postmaster_start_time()');
my $relations = "SELECT string_agg(oid::regclass || ':' || pg_relation_size(oid), ' ' ORDER BY oid) FROM pg_class
	WHERE relkind IN ('r', 'i', 't') AND relname ~ '^(plain|dom|missing)'";
my $others = $c->sql(2, $relations);
for my $how ('truncated', 'empty', 'longer', 'noise', 'left out', 'twice', 'swapped', 'magic', 'version', 'kind',
	'move', 'round', 'relation', 'pages', 'blocks', 'block', 'far', 'checksum', 'hole', 'contents', 'other relation',
	'no end', 'more', 'raise', map { "random $_" } 1 .. 10)
{
	$c->sql(1, "UPDATE lie SET how = '$how'");
	($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($f, 'n2')");
	is($code, '55000', "$how: the move fails");
	like($message, qr/invalid (frame|page|row)|goes on after its end|has no end|did not come|no more/, "$how: for what it is");
	is($c->owner($f), 'n1', "$how: the fragment stays");
}
is($c->sql(2, 'SELECT pg_postmaster_start_time()'), $started, 'the server has not crashed');
is($c->sql(2, $relations), $others, 'nothing else was written to');
$c->check_consistent('lies leave nothing over');
$c->sql(1, "UPDATE lie SET how = ''");
$c->move($f, 'n2');
is($c->sql(2, 'SELECT count(*), sum(hashtext(t::text)) FROM t_b0_h t'), $good, 'who tells the truth is believed');
$c->sql(1, 'DROP FUNCTION fragaffinity.send_pages(integer, integer, bigint);
	ALTER FUNCTION fragaffinity.true_pages(integer, integer, bigint) RENAME TO send_pages');

# A page that its own server can read, but that is not as it must be: here the
# bit of a row which says that it has an OID, as rows had long ago.
my $odd = distribute('odd', 'v text');
my $file = $c->node(1)->data_dir . '/' . $c->sql(1, "SELECT pg_relation_filepath('odd_b0_h')");
my $checked = $c->sql(1, 'SHOW data_checksums') eq 'on';
$c->sql(1, 'CHECKPOINT');
$c->stop(1);
# which would find it first; the default from 18 on
system_or_bail('pg_checksums', '--disable', '-D', $c->node(1)->data_dir) if $checked;
open my $fh, '+<:raw', $file or die "$file: $!";
seek $fh, 24, 0;
read $fh, my $lp, 4;
my $at = (unpack('V', $lp) & 0x7fff) + 20;
seek $fh, $at, 0;
read $fh, my $mask, 2;
seek $fh, $at, 0;
print $fh pack('v', unpack('v', $mask) | 0x0008);
close $fh;
$c->node(1)->start;
is($c->sql(1, 'SELECT count(*) FROM odd'), '50', 'its server can read the odd row');
$c->poll(2, "SELECT state FROM fragaffinity.nodes WHERE name = 'n1'", 'active');
($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($odd, 'n2')");
like($message, qr/invalid page for block 0/, 'the destination does not let it in');
$c->move($odd, 'n2');
is(last_move($odd, 'path', 2), 'logical', 'the next move goes by rows');
like(last_move($odd, 'reason', 2), qr/its last move met an invalid page/, 'and says why');
is($c->sql(2, 'SELECT count(*) FROM odd_b0_h'), '50', 'with all rows');
$c->move($odd, 'n1');
is(last_move($odd, 'path'), 'page', 'and now they are as they must be');

# A standby of the destination, and an index-only scan there.
$c->node(1)->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($c->node(1), 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "port = " . $standby->port . "\nhot_standby_feedback = off\nmax_standby_streaming_delay = 1s\n");
$standby->start;
$c->sql(2, "UPDATE t SET n = n + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0");
$good = $c->sql(2, 'SELECT count(*), sum(hashtext(t::text)) FROM t');
$c->move($f, 'n1');
is(last_move($f, 'path'), 'page', 'back by pages');
$c->node(1)->wait_for_catchup($standby, 'replay', $c->node(1)->lsn('insert'));
is($standby->safe_psql('postgres', 'SELECT count(*), sum(hashtext(t::text)) FROM t_b0_h t'), $good,
	'the standby has the rows');
is($standby->safe_psql('postgres', 'SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM t_b0_h'),
	(split /\|/, $good)[0], 'and by the index');
is($standby->safe_psql('postgres', "SELECT count(*) FROM verify_heapam('t_b0_h')"), '0', 'and no damage');
is($standby->safe_psql('postgres', "SELECT bt_index_check('t_b0_h_pkey', true)"), '', 'nor in the index');
$standby->promote;
$standby->safe_psql('postgres', 'VACUUM FREEZE t_b0_h');
is($standby->safe_psql('postgres', 'SELECT count(*), sum(hashtext(t::text)) FROM t_b0_h t'), $good,
	'promoted and vacuumed, it still has them');

# How far it is.
$c->sql(1, "SELECT fragaffinity.configure('move_rate_limit', '100kB', 't')");
my $move = $c->sql(2, "SELECT fragaffinity.move_fragment($f, 'n2', wait => false)");
ok($c->poll(2, "SELECT bytes_total > 500000 AND bytes_done > 0 AND rate > 0 AND estimated_end > now() AND path = 'page'
	FROM fragaffinity.stat_progress_move WHERE move = $move"), 'progress of a slow move');
$c->sql(2, "SELECT fragaffinity.cancel_move($move)");
ok($c->poll(2, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'cancelled'), 'and it can be cancelled');
$c->check_consistent('cancelled');

# Clients who change every page again and again, faster than the limit lets
# them be copied: the move gives up, and they are never stopped for it.  A round
# takes two seconds, so that also a busy machine lets the writer change most pages
# within one; when it does not, the move has every right to catch up.
$c->sql(1, "SET client_min_messages = error;
	CREATE TABLE busy (id int PRIMARY KEY, n int DEFAULT 0, pad text DEFAULT repeat('b', 400)) WITH (fillfactor = 40);
	CREATE TABLE ended (really bool); INSERT INTO ended VALUES (false);
	INSERT INTO busy (id) SELECT i FROM generate_series(1, 2400) i;
	SELECT fragaffinity.distribute_table('busy', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('cutover_pause', '1ms', 'busy');
	SELECT fragaffinity.configure('move_rate_limit', '1500kB', 'busy')");
my $busy = $c->fragment('busy');
my ($in, $out) = ('', '');
$in = "SELECT 'writing';
	DO \$\$ BEGIN FOR i IN 1 .. 1000000 LOOP
		UPDATE busy SET n = n + 1 WHERE id % 5 = i % 5; COMMIT;
		EXIT WHEN (SELECT really FROM ended);
	END LOOP; END \$\$;\n\\q\n";
my $writer = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', $c->conninfo(1) ],
	'<', \$in, '>', \$out, '2>&1');
pump_until($writer, IPC::Run::timeout(60), \$out, qr/writing/) or die $out;
$move = $c->sql(2, "SELECT fragaffinity.move_fragment($busy, 'n2', wait => false)");
ok($c->poll(2, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'failed'), 'a move that cannot catch up fails');
like($c->sql(2, "SELECT error || path FROM fragaffinity.moves WHERE move = $move"),
	qr/clients change fragment \d+ faster than it can be copied.*page/, 'and says why');
is($c->owner($busy), 'n1', 'the fragment stays');
$c->sql(1, 'UPDATE ended SET really = true');
ok($writer->finish, 'the writer saw no error') or diag($out);
$c->move($busy, 'n2');
is($c->sql(2, 'SELECT count(*) FROM busy_b0_h'), '2400', 'when they rest, it moves');
$c->check_consistent('at the end');

done_testing();
