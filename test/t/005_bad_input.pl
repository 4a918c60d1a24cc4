# Bad input gets one clear error, and nothing has changed on any node.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my $state = q{
	WITH kept AS (SELECT * FROM pg_class WHERE relpersistence <> 't') -- others go when their session has ended
	SELECT md5(string_agg(x, ',' ORDER BY x)) FROM (
		SELECT concat(relname, relkind, relnamespace::regnamespace) FROM kept WHERE relnamespace <> 'pg_toast'::regnamespace
		UNION ALL SELECT concat(fragment, owner, state) FROM fragaffinity.fragments
		UNION ALL SELECT concat(conname, relname) FROM pg_constraint LEFT JOIN kept ON kept.oid = conrelid WHERE conrelid = 0 OR kept.oid <> 0
		UNION ALL SELECT concat(attname, relname, atttypid, attnotnull) FROM pg_attribute JOIN kept ON kept.oid = attrelid WHERE attnum > 0
		UNION ALL SELECT srvname FROM pg_foreign_server
		UNION ALL SELECT gid FROM pg_prepared_xacts) s (x)};

sub state_of_all { return join ' ', map { $c->sql($_, $state) } 1 .. 3; }

my $before;

sub refused
{
	my ($sql, $state, $pattern, $name) = @_;
	my ($code, $message) = $c->fails(1, $sql);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	like($code, qr/^(?:$state)$/, "$name: SQLSTATE") or diag($message);
	like($message, $pattern, "$name: message");
	is(() = $message =~ /(ERROR|PANIC|FATAL): /g, 1, "$name: one error");
	is(state_of_all(), $before, "$name: nothing changed");
	return;
}

$c->sql(1, q{
	CREATE TABLE plain (id int PRIMARY KEY, other int UNIQUE, v int);
	CREATE TABLE parent (id int PRIMARY KEY, v int);
	CREATE TABLE child (id int PRIMARY KEY REFERENCES parent, v int);
	CREATE TABLE nokey (v int, f point NOT NULL, n int NOT NULL);
	CREATE TABLE inh (id int PRIMARY KEY);
	CREATE TABLE inh_child () INHERITS (inh);
	CREATE UNLOGGED TABLE unlog (id int PRIMARY KEY);
	CREATE VIEW v AS SELECT 1 AS id;
	CREATE MATERIALIZED VIEW mv AS SELECT 1 AS id;
	CREATE TABLE trig (id int PRIMARY KEY);
	CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER trig BEFORE INSERT ON trig FOR EACH ROW EXECUTE FUNCTION trig();
	CREATE TABLE excl (id int NOT NULL, r int4range, EXCLUDE USING gist (r WITH &&));
	CREATE TABLE parted (id int NOT NULL, d int NOT NULL) PARTITION BY RANGE (d);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
	CREATE TABLE taken (id int PRIMARY KEY);
	CREATE TABLE ok (id int PRIMARY KEY, v int);
	CREATE TABLE ok2 (id text PRIMARY KEY, v int);
	INSERT INTO ok SELECT i, i FROM generate_series(1, 100) i;
	CREATE ROLE app LOGIN;
});
$c->sql(2, 'CREATE TABLE taken (id int)');
$c->sql(1, "SELECT fragaffinity.distribute_table('ok', 'id', fragments => 3)");
my $f = $c->fragment('ok');
my $owner = $c->owner($f);
my ($free) = grep { $_ ne $owner } qw(n1 n2 n3);
$before = state_of_all();

my $distribute = sub { return "SELECT fragaffinity.distribute_table($_[0])"; };
my $not_supported = '0A000|42809|22023|42P16';

# Tables.
refused($distribute->("'no_such', 'id'"), '42P01', qr/no_such/, 'unknown table');
refused($distribute->("NULL, 'id'"), '22004', qr/null/, 'null table');
refused($distribute->("'parent', NULL"), '22004', qr/null/, 'null key');
refused($distribute->("'nokey', 'id'"), '42703', qr/"id".*"nokey"/s, 'unknown key column');
refused($distribute->("'nokey', 'ctid'"), '42703|42P10|22023|0A000', qr/ctid/, 'system column as key');
refused($distribute->("'nokey', 'f'"), '0A000|22023|42704|42883', qr/hash|point/, 'key type without hash');
refused($distribute->("'nokey', 'v'"), '55000', qr/"v".*null.*HINT:.*SET NOT NULL/s, 'key that may be null');
refused($distribute->("'plain', 'id'"), $not_supported, qr/plain_other_key|unique.*HINT/s, 'unique without the key');
refused($distribute->("'child', 'id'"), $not_supported, qr/foreign key/i, 'foreign key');
refused($distribute->("'parent', 'id'"), $not_supported, qr/foreign key/i, 'referenced by a foreign key');
refused($distribute->("'inh', 'id'"), $not_supported, qr/inherit/i, 'parent of inheritance');
refused($distribute->("'inh_child', 'id'"), $not_supported, qr/inherit/i, 'child of inheritance');
refused($distribute->("'unlog', 'id'"), $not_supported, qr/unlogged/i, 'unlogged');
refused("CREATE TEMP TABLE tmp (id int PRIMARY KEY); " . $distribute->("'tmp', 'id'"),
	$not_supported, qr/temporary/i, 'temporary');
refused($distribute->("'v', 'id'"), '42809', qr/"v"/, 'view');
refused($distribute->("'mv', 'id'"), '42809', qr/"mv"/, 'materialized view');
refused($distribute->("'plain_pkey', 'id'"), '42809', qr/plain_pkey/, 'index');
refused($distribute->("'pg_class', 'oid'"), "42809|42501|$not_supported", qr/system|catalog/, 'system catalog');
refused($distribute->("'fragaffinity.node', 'node'"), "42809|42501|55006|$not_supported", qr/node/, 'our own catalog');
refused($distribute->("'parted_1', 'id'"), $not_supported, qr/partition/, 'partition of another table');
refused($distribute->("'trig', 'id'"), $not_supported, qr/trigger/i, 'row trigger');
refused($distribute->("'excl', 'id'"), $not_supported, qr/exclusion/i, 'exclusion constraint');
refused($distribute->("'ok', 'id'"), '42710|42809|55000|22023', qr/already/, 'distributed already');
refused($distribute->("'ok_b0', 'id'"), "42809|$not_supported|42710|55000", qr/ok/, 'bucket of a distributed table');
refused($distribute->("'taken', 'id'"), '42P07', qr/n2.*taken/s, 'table that another node has');
for my $n (0, -1, 1000000)
{
	refused($distribute->("'nokey', 'n', fragments => $n"), '22023|54000', qr/fragments/, "$n fragments");
}
refused($distribute->("'nokey', 'n', placement => 'mars'"), '42704|22023', qr/mars.*HINT/s, 'unknown placement');
refused($distribute->("'ok2', 'id', colocate_with => 'ok'"), '22023|42804', qr/text and integer/, 'colocated with another key type');
refused($distribute->("'ok2', 'id', colocate_with => 'nokey'"), '42809|55000|42704', qr/nokey/, 'colocated with a plain table');
refused("SELECT fragaffinity.undistribute_table('nokey')", '42809|55000|42704', qr/nokey/, 'undistribute a plain table');

# Moves.
refused("SELECT fragaffinity.move_fragment(123456789, 'n2')", '42704', qr/123456789/, 'unknown fragment');
refused("SELECT fragaffinity.move_fragment($f, 'mars')", '42704', qr/mars.*HINT/s, 'unknown destination');
refused("SELECT fragaffinity.move_fragment($f, '$owner')", '22023|55000|42710', qr/$owner/, 'destination is the owner');
refused("SELECT fragaffinity.move_fragment(NULL, 'n2')", '22004', qr/null/, 'null fragment');
refused("SELECT fragaffinity.move_fragment($f, NULL)", '22004', qr/null/, 'null destination');
refused('SELECT fragaffinity.cancel_move(987654321)', '42704', qr/987654321/, 'cancel an unknown move');
refused('SELECT fragaffinity.cancel_move(NULL)', '22004', qr/null/, 'cancel null');
refused("SELECT fragaffinity.$_", '22004', qr/must not be null/, "null: $_")
  for 'resume_node(NULL)', 'import_log(NULL)', "check_transports('n2', messages => NULL)", 'check_transports(NULL)',
  "add_dependency(NULL, 'ok')", "add_dependency('ok', NULL)", "drop_dependency(NULL, 'ok')", "drop_dependency('ok', NULL)",
  "add_sequence(NULL, '{1,2}')", 'drop_schedule(NULL)', 'drop_sequence(NULL)', "add_schedule(NULL, 'n1')",
  "add_schedule('ok', NULL)", "add_schedule('ok', 'n1', starting => NULL)", "set_profile('app', NULL, NULL)";
refused("SELECT fragaffinity.add_sequence('ok', NULL)", '22023', qr/none of them null/, 'sequence of null');
refused("SELECT fragaffinity.drain_node('mars')", '42704', qr/mars/, 'drain an unknown node');
refused("SELECT fragaffinity.remove_node('$owner')", '55006', qr/$owner.*HINT.*drain/s, 'remove a node that owns fragments')
  if $owner ne 'n1';
refused("SET ROLE app; SELECT fragaffinity.move_fragment($f, '$free')", '42501', qr/permission/, 'role without rights');
refused("SET ROLE app; SELECT fragaffinity.distribute_table('nokey', 'v')", '42501', qr/permission/, 'no right to distribute');

# A node that is down.
my ($victim) = grep { "n$_" ne $owner } 2, 3;
$before = state_of_all();
$c->stop($victim);
{
	my ($code, $message) = $c->fails(1, "SELECT fragaffinity.move_fragment($f, 'n$victim')");
	is($code, '08001', 'move to a node that is down: SQLSTATE') or diag($message);
	like($message, qr/n$victim/, 'move to a node that is down: message');
	($code, $message) = $c->fails(1, "SELECT fragaffinity.distribute_table('nokey', 'n')");
	is($code, '08001', 'distribute while a node is down: SQLSTATE') or diag($message);
	like($message, qr/n$victim/, 'distribute while a node is down: message');
	($code, $message) = $c->fails(1, "SELECT fragaffinity.remove_node('n$victim')");
	like($code, qr/^(08001|55006)$/, 'remove a node that is down: SQLSTATE') or diag($message);
}
$c->restart($victim);
is(state_of_all(), $before, 'nothing changed');
is($c->rows(2, 'ok'), $c->rows(1, 'ok'), 'rows as before');
$c->check_consistent('after all refusals');

done_testing();
