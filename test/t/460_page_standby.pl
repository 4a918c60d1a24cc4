# What a streaming standby of the destination and a point-in-time restore of it
# see of a fragment that has come by pages: the rows, by every access method.
use strict;
use warnings;
use EveryIndex;
use FragAffinity;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");
my $destination = $c->node(2);

$destination->enable_archiving;
for my $i (1, 2)
{
	# the default from 18 on
	my $on = $c->sql($i, 'SHOW data_checksums') eq 'on';
	$c->stop($i);
	system_or_bail('pg_checksums', '--enable', '-D', $c->node($i)->data_dir) unless $on;
	$c->node($i)->start;
}
$c->sql($_, 'CREATE EXTENSION amcheck') for 1, 2;
$c->sql(1, "CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
	ALTER TABLE t ALTER pad SET STORAGE EXTERNAL;
	INSERT INTO t SELECT i, i, repeat('p', CASE WHEN i % 40 = 0 THEN 4000 ELSE 100 END) FROM generate_series(1, 4000) i;
	UPDATE t SET n = n + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id > 3800;
	" . every_index('t') . ";
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('move_path', 'page')");
my $f = $c->fragment('t');
my $leaf = 't_b0_h';

$destination->backup('base');

# Beside the cluster a copy of a node must not take part in it.
sub copy_of_destination
{
	my ($name, %how) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);

	$copy->init_from_backup($destination, 'base', %how);
	$copy->append_conf('postgresql.conf', "shared_preload_libraries = ''\nport = " . $copy->port
		. "\nhot_standby_feedback = off\narchive_mode = off\n");
	return $copy;
}

my $rows = "SELECT count(*) || ' ' || sum(hashtextextended(x::text, 0)) FROM $leaf x";

sub check_copy
{
	my ($copy, $expected, $name, $read_only) = @_;
	my $run = sub { $copy->safe_psql('postgres', $_[0]) };
	my $indexes = "FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid JOIN pg_am a ON a.oid = k.relam
		WHERE a.amname = 'btree' AND (i.indrelid = '$leaf'::regclass OR i.indrelid =
			(SELECT reltoastrelid FROM pg_class WHERE oid = '$leaf'::regclass))";
	my ($out, $err);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($run->($rows), $expected, "$name: the rows");
	is($run->("SELECT count(id) FROM $leaf WHERE id > -1"), (split ' ', $expected)[0], "$name: by an index-only scan");
	is(wrong_answers($run, $leaf), '', "$name: every index answers right");
	is($run->("SELECT * FROM verify_heapam('$leaf', check_toast => " . ($read_only ? 'false' : 'true') . ')'), '',
		"$name: the heap is sound");
	# those which look at parents need a lock that recovery does not give
	my $ret = $copy->psql('postgres', $read_only ? "SELECT bt_index_check(i.indexrelid, true) $indexes" :
		"SELECT bt_index_parent_check(i.indexrelid, true, true) $indexes", stdout => \$out, stderr => \$err);
	is($ret, 0, "$name: so are the indexes") or diag($err);
	return;
}

sub rows_there { return $c->sql(2, $rows); }

my $standby = copy_of_destination('standby', has_streaming => 1);
$standby->start;

# While pages come, under writers, the standby ends at once and starts again.
my $load = $c->start_load(table => 't', anchors => 3800, pause => 3000,
	modes => { 1 => [qw(simple block)], 2 => ['prepared'] });
$c->hold(2, 'move_catching up');
my $move = $c->sql(2, "SELECT fragaffinity.move_fragment($f, 'n2', wait => false)");
ok($c->wait_held(2, 'move_catching up', qr/\] LOG: /), 'pages have come');
$c->sql(2, "SELECT pg_create_restore_point('copying')");
$standby->stop('immediate');
$c->wait_for_load($load, 20);
$standby->start;
$c->release(2);
ok($c->poll(2, "SELECT state FROM fragaffinity.moves WHERE move = $move", 'done'), 'the move ends');
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n2');
$c->wait_for_load($load, 20);
$c->check_load($load, 't', 'moved');

my $moved = rows_there();
$c->sql(2, "SELECT pg_create_restore_point('moved')");
$destination->wait_for_catchup($standby, 'replay', $destination->lsn('insert'));
check_copy($standby, $moved, 'standby', 1);

# Time passes; the table is used.
$c->sql(2, "UPDATE t SET n = n + 5, pad = pad || 'x' WHERE id % 2 = 0; DELETE FROM t WHERE id % 7 = 0;
	INSERT INTO t SELECT 100000 + i, i, repeat('q', 3000) FROM generate_series(1, 200) i");
$c->sql(2, "VACUUM $leaf");
my $used = rows_there();
$destination->wait_for_catchup($standby, 'replay', $destination->lsn('insert'));
check_copy($standby, $used, 'standby, used', 1);
my $end = $c->sql(2, 'SELECT pg_walfile_name(pg_switch_wal())');
ok($c->poll(2, "SELECT last_archived_wal >= '$end' FROM pg_stat_archiver"), 'the log is archived');

# A standby that takes over goes on with the table as its primary would.
$standby->promote;
check_copy($standby, $used, 'promoted');
$standby->safe_psql('postgres', "UPDATE $leaf SET n = n + 1; DELETE FROM $leaf WHERE id % 5 = 0;
	INSERT INTO $leaf SELECT 200000 + i, i, 'new' FROM generate_series(1, 500) i");
$standby->safe_psql('postgres', "VACUUM (FREEZE) $leaf");
check_copy($standby, $standby->safe_psql('postgres', $rows), 'promoted, used');
$standby->stop;

# Restores: to after the move, and to when it was under way.
for my $point ('moved', 'copying')
{
	my $copy = copy_of_destination("restored_$point", has_restoring => 1, standby => 0);

	$copy->append_conf('postgresql.conf', "recovery_target_name = '$point'\nrecovery_target_action = 'promote'\n");
	$copy->start;
	ok($copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), "restored to \"$point\"");
	if ($point eq 'moved')
	{
		check_copy($copy, $moved, 'restored');
	}
	else
	{
		is($copy->safe_psql('postgres', "SELECT c.relkind FROM fragaffinity.fragment f JOIN pg_class c ON c.oid = f.leaf
			WHERE f.fragment = $f"), 'f', 'then the fragment was elsewhere');
		is($copy->safe_psql('postgres', "SELECT count(*) FROM fragaffinity.cleanup k
			WHERE k.move = $move AND k.relation::regclass = '$leaf'::regclass"), '1', 'and what had come is known as garbage');
		is($copy->safe_psql('postgres', "DROP TABLE $leaf"), '', 'which can be dropped');
	}
	$copy->stop;
}
$c->check_consistent('nothing is left over');

$c->stop(2);
command_ok([ 'pg_checksums', '--check', '-D', $destination->data_dir ], 'every page in the files has its checksum');

done_testing();
