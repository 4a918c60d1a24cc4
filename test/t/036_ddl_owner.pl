# PostgreSQL computes expressions of indexes and checks that hold no column when it
# attaches, makes or plans for a leaf.  That is the code of the table's owner, and
# runs as him, not as the superuser who moves, splits or joins a node.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3, connect => 0);

$c->sql($_, q{
	CREATE EXTENSION fragaffinity CASCADE;
	CREATE ROLE boss;
	GRANT CREATE ON SCHEMA public TO boss;
	CREATE FUNCTION fixed(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		IF current_user <> 'boss' THEN
			RAISE EXCEPTION 'runs as % in %', current_user, current_query();
		END IF;
		IF current_setting('fragaffinity.origin') <> '0' THEN
			BEGIN
				PERFORM set_config('role', 'none', false);
				RAISE WARNING 'runs as %', current_user;
			EXCEPTION WHEN insufficient_privilege THEN NULL;
			END;
		END IF;
		RETURN n; END $$}) for 1 .. 3;
$c->add_node($_) for 1, 2;
my $rows = 6000;
sub make
{
	my ($table, $partitions, $node) = @_;
	$node //= 'n1';
	my $more = join(' ', map { "CREATE TABLE ${table}_$_ PARTITION OF $table $partitions->{$_};" } sort keys %$partitions);
	$c->sql(1, qq{
		CREATE TABLE $table (id int PRIMARY KEY, n int CHECK (n < 1000000 + public.fixed(5) AND public.fixed(n) > 0), s serial, v text)
			@{[%$partitions ? 'PARTITION BY RANGE (id)' : '']};
		$more
		ALTER TABLE $table OWNER TO boss;
		@{[map { "ALTER TABLE ${table}_$_ OWNER TO boss;" } sort keys %$partitions]}
		SET ROLE boss;
		CREATE INDEX ON $table (n) WHERE n > public.fixed(3);
		CREATE INDEX ON $table ((n + public.fixed(3)));
		CREATE INDEX ON $table USING gin (string_to_array(v, ',')) WHERE n > public.fixed(3);
		CREATE UNIQUE INDEX ON $table (id, (n + public.fixed(4))) WHERE n > public.fixed(3);
		INSERT INTO $table SELECT g, g, g, repeat('x', 200) FROM generate_series(1, $rows) g;
		RESET ROLE;
		SELECT fragaffinity.distribute_table('$table', 'id', 2, '$node')});
	return $c->fragment($table);
}
my $f = make('o', {});
my $p = make('p', { low => 'FOR VALUES FROM (0) TO (4000)', rest => 'DEFAULT' });

for my $path ('page', 'logical')
{
	$c->sql(1, "SELECT fragaffinity.configure('move_path', '$path')");
	for my $fragment ($f, $p)
	{
		for my $node ('n2', 'n1')
		{
			$c->move($fragment, $node);
			is($c->owner($fragment), $node, "moved to $node by path $path");
		}
	}
}

# rows that go to other nodes, and DDL that is told to them
my $q = make('q', {}, 'n2');
$c->sql(2, "SET ROLE boss; ALTER TABLE q ADD COLUMN w int DEFAULT public.fixed(1) CHECK (public.fixed(w) > 0)");
$c->sql(1, "SET ROLE boss; CREATE INDEX ON q ((w + public.fixed(2)))");
is($c->sql(2, 'SET ROLE boss; SELECT sum(n), sum(w) FROM q'), $rows * ($rows + 1) / 2 . "|$rows", 'rows went to the other node');

# here and on a peer, and back; the last of it by itself
for my $at (1, 2)
{
	my $new = $c->sql(1, "SELECT string_agg(f::text, ',') FROM fragaffinity.split_fragment($f, '100', '2000') f");
	ok($new, "split on n$at: $new");
	note('now united');
	$c->sql(1, "SELECT fragaffinity.merge_fragments($f, (SELECT fragment FROM fragaffinity.fragments
		WHERE table_name = 'o'::regclass AND key_from = '100'))");
	$c->move($f, 'n2') if $at == 1;
}
$c->move($p, 'n2');
$c->sql(1, "SELECT fragaffinity.split_fragment($p, '100')");
my $parts = $c->sql(1, 'SELECT count(*) FROM fragaffinity.fragment');
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('min_residency', '1s');
	SELECT fragaffinity.configure('fragment_size', '64kB');
	SELECT fragaffinity.configure('divide_above', '2');
	SELECT fragaffinity.configure('mode', 'auto')});
$c->poll(1, "SELECT count(*) > $parts FROM fragaffinity.fragment");
$c->sql(1, "SELECT fragaffinity.configure('mode', 'observe')");

# Whoever opens a table computes what in its partition key holds no column: that is
# nobody's who is not a superuser, on any node.
my $key = q{CREATE TABLE k (id int NOT NULL, d int NOT NULL) PARTITION BY RANGE ((d + public.zero(0)));
	CREATE TABLE k1 PARTITION OF k FOR VALUES FROM (1) TO (10)};
$c->sql($_, q{CREATE FUNCTION zero(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n'}) for 1, 2;
for my $i (1, 2)
{
	$c->sql($i, 'ALTER FUNCTION zero OWNER TO boss');
	is(($c->fails(1, "BEGIN; $key; SELECT fragaffinity.distribute_table('k', 'id', 2)"))[0], '0A000', "a key with a function of another on node $i");
	$c->sql($i, 'ALTER FUNCTION zero OWNER TO postgres');
}
$c->sql(1, "$key; SELECT fragaffinity.distribute_table('k', 'id', 2); GRANT SELECT ON k TO boss");
$c->sql($_, 'ALTER FUNCTION zero OWNER TO boss') for 1, 2;
for my $i (1, 2)
{
	is(($c->fails($i, 'CREATE TABLE k2 PARTITION OF k FOR VALUES FROM (10) TO (20) PARTITION BY RANGE ((id + public.zero(0)))'))[0],
		'0A000', "nor a new partition's, on node $i");
}
$c->sql(1, 'DROP TABLE k');

$c->add_node(3);
$c->move($f, 'n3');
is($c->owner($f, 3), 'n3', 'moved to a node that joined later');
$c->sql(2, "SELECT fragaffinity.undistribute_table('o')");
is($c->sql(2, 'SET ROLE boss; SELECT count(*), sum(n) FROM o'), "$rows|" . $rows * ($rows + 1) / 2, 'all rows at the end');
unlike(PostgreSQL::Test::Utils::slurp_file($c->node($_)->logfile), qr/runs as postgres/, "nothing ran as superuser on n$_") for 1 .. 3;
done_testing();
