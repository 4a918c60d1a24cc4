# ALTER TABLE ... ALTER COLUMN ... TYPE ... USING converts the rows of all nodes;
# DROP COLUMN ... CASCADE drops the column.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
$c->sql($_, q{CREATE ROLE joe LOGIN; GRANT CREATE ON SCHEMA public TO joe;
	CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper($1) || '!' $$}) for 1 .. 3;
my $table = q{
	CREATE TABLE %1$s (id int PRIMARY KEY, v text NOT NULL DEFAULT '7' CHECK (v <> ''), s text, n int, m int GENERATED ALWAYS AS (id * 2) STORED);
	CREATE INDEX %1$s_v ON %1$s (v);
	CREATE UNIQUE INDEX %1$s_u ON %1$s (id, n);
	INSERT INTO %1$s SELECT i, i % 9, 's' || i, i FROM generate_series(1, 300) i;
	ALTER TABLE %1$s DROP COLUMN s, ADD s text;
	UPDATE %1$s SET s = 'x' || id;
	ALTER TABLE %1$s OWNER TO joe};
$c->sql(1, sprintf($table, 'plain') . ';' . sprintf($table, 't') . q{; SELECT fragaffinity.distribute_table('t', 'id', 6)});
# one fragment in three pieces, each of them somewhere
my $split = $c->fragment('t', 0);
$c->sql(1, "SELECT fragaffinity.split_fragment($split, '100', '200')");
my ($piece) = $c->sql(1, q{SELECT max(fragment) FROM fragaffinity.fragments WHERE table_name = 't'::regclass});
$c->move($piece, $c->owner($piece) eq 'n3' ? 'n2' : 'n3');

sub same
{
	my ($what) = @_;
	my $rows = 'SELECT string_agg(x::text, E\'\n\' ORDER BY id) FROM';
	my $columns = q{SELECT string_agg(format('%s %s %s %s', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)), E'\n' ORDER BY attnum)
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attnum > 0 AND NOT attisdropped AND attrelid = };
	my $checks = q{SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint WHERE contype = 'c' AND conrelid = };
	my ($want_rows, $want_columns, $want_checks) = ($c->sql(1, "$rows plain x"), $c->sql(1, "${columns}'plain'::regclass"), $c->sql(1, "${checks}'plain'::regclass"));
	for my $i (1 .. 3)
	{
		is($c->sql($i, "$rows t x"), $want_rows, "$what: rows through node $i");
		is($c->sql($i, "${columns}'t'::regclass"), $want_columns, "$what: columns on node $i");
		is($c->sql($i, "${checks}'t'::regclass"), $want_checks, "$what: checks on node $i");
		is($c->sql($i, q{SELECT count(*) FROM fragaffinity.fragments f LEFT JOIN pg_inherits ON inhrelid = leaf AND inhparent = bucket
			LEFT JOIN pg_class k ON k.oid = leaf WHERE inhrelid IS NULL OR relkind <> CASE WHEN local THEN 'r' ELSE 'f' END OR relowner <> 'joe'::regrole}),
			'0', "$what: a leaf in every bucket of node $i");
	}
	return;
}

# Sessions that have used the table go on.
my @session = map { $c->node($_)->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
$_->query_safe('PREPARE p AS SELECT id FROM t WHERE id = $1; SELECT count(*) FROM t; EXECUTE p (1); EXECUTE p (2)') for @session;

my $i = 0;
for my $change ('ALTER v DROP DEFAULT, DROP CONSTRAINT %s_v_check, ALTER v TYPE bigint USING v::bigint, ALTER v SET DEFAULT 7',
	'ALTER v TYPE text USING (v * 2)::text, ADD w int DEFAULT 3, ALTER n TYPE bigint, ALTER s TYPE varchar(40) USING shout(s), ADD CHECK (length(v) > 0)',
	'ALTER n TYPE numeric(12, 2) USING n / 4.0, DROP COLUMN w')
{
	my $node = 1 + $i++ % 3;
	$c->sql(1, 'SET SESSION AUTHORIZATION joe; ALTER TABLE plain ' . sprintf($change, 'plain'));
	$c->sql($node, 'SET SESSION AUTHORIZATION joe; ALTER TABLE t ' . sprintf($change, 't'));
	same($change);
	for my $id (1 .. 20)
	{
		is($_->query_safe("EXECUTE p ($id)"), $id, "a prepared statement finds $id") for $session[ $id % 3 ];
	}
}
$c->sql($_, "UPDATE t SET s = s || '$_'; INSERT INTO t (id, n) SELECT i, i FROM generate_series(1000 * $_ + 1, 1000 * $_ + 9) i") for 1 .. 3;
$c->sql(1, "UPDATE plain SET s = s || '$_'; INSERT INTO plain (id, n) SELECT i, i FROM generate_series(1000 * $_ + 1, 1000 * $_ + 9) i") for 1 .. 3;
same('writes');
my ($code) = $c->fails(2, 'INSERT INTO t (id, n) VALUES (1, 0)');
is($code, '23505', 'what was unique is');

# What fails here, or on another node, changes nothing on any.
my ($there) = $c->sql(1, q{SELECT id FROM t WHERE tableoid::regclass::text ~ '_r$' LIMIT 1});
$c->sql(1, "UPDATE $_ SET s = 'odd' WHERE id = $there; UPDATE $_ SET s = id::text WHERE id <> $there") for 't', 'plain';
($code) = $c->fails(1, 'ALTER TABLE t ALTER s TYPE int USING s::int');
is($code, '22P02', 'a value of another node that cannot be converted');
$c->sql(1, 'BEGIN; ALTER TABLE t ALTER s TYPE text USING s; ROLLBACK');
same('failures');
$c->sql($_, 'CREATE ROLE ann') for 1 .. 3;
($code) = $c->fails(3, 'SET SESSION AUTHORIZATION ann; ALTER TABLE t ALTER s TYPE text USING s');
is($code, '42501', 'others may not');

# CASCADE is no reason to refuse what needs none.
for my $table ('plain', 't')
{
	$c->sql(1, "ALTER TABLE $table ADD c1 int DEFAULT 1, ADD c2 text, ADD CHECK (c1 <= id); CREATE INDEX ON $table (c1)");
	$c->sql($table eq 't' ? 2 : 1, "ALTER TABLE $table DROP c1 CASCADE, DROP COLUMN IF EXISTS nothing CASCADE");
}
$c->sql(3, 'CREATE VIEW w AS SELECT c2 FROM t');
($code) = $c->fails(3, 'ALTER TABLE t DROP c2 CASCADE');
is($code, '0A000', 'a view depends on it');
$c->sql(3, 'DROP VIEW w');
$c->sql(1, "ALTER TABLE $_ ADD g text GENERATED ALWAYS AS (c2 || 'g') STORED") for 't', 'plain';
($code) = $c->fails(2, 'ALTER TABLE t DROP c2 CASCADE');
is($code, '0A000', 'a generated column depends on it');
$c->sql(1, "ALTER TABLE $_ DROP g CASCADE; ALTER TABLE $_ DROP c2 CASCADE") for 't', 'plain';
same('DROP COLUMN ... CASCADE');

$c->move($piece, 'n1');
same('a move');
$c->check_consistent('t', 'at the end');
$_->quit for @session;
$c->sql(2, q{SELECT fragaffinity.undistribute_table('t')});
is($c->sql(2, q{SELECT string_agg(x::text, E'\n' ORDER BY id) FROM t x}), $c->sql(1, q{SELECT string_agg(x::text, E'\n' ORDER BY id) FROM plain x}), 'and gathered again');
done_testing();
