# Partitions of a distributed table come and go: CREATE, ATTACH, DETACH, DROP, TRUNCATE,
# through every node, with everything that a table can have; who may, what is refused,
# moves, dead nodes.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);

# Partitions with their buckets' owners and leaves' kinds, indexes, rights: alike on all nodes.
my $shape = q{SELECT string_agg(x, E'\n' ORDER BY x) FROM (
	SELECT concat_ws(' ', oid::regclass, replace(pg_get_expr(relpartbound, oid), '00:00:00', ''), relowner::regrole, relacl,
		obj_description(oid, 'pg_class'), (SELECT string_agg(concat_ws(':', f.fragment, f.owner, f.version), ',' ORDER BY f.fragment)
			FROM fragaffinity.fragment f JOIN pg_inherits i ON inhrelid = f.home WHERE inhparent = c.oid))
	FROM pg_class c WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace
	UNION ALL SELECT definition::text FROM fragaffinity.distributed_table
	UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, attstattarget, attstorage) FROM pg_attribute
		JOIN pg_class p ON p.oid = attrelid WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace AND attnum > 0) y(x)};

sub alike
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $first = $c->sql(1, $shape);
	is($c->sql($_, $shape), $first, "$name: node $_ agrees") for 2, 3;
	return;
}

sub count_rows
{
	my ($table, $rows, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($c->sql($_, "SELECT count(*) FROM $table"), $rows, "$name: node $_") for 1 .. 3;
	return;
}

$c->sql($_, 'CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carl LOGIN; GRANT CREATE ON SCHEMA public TO ann, bob') for 1 .. 3;
$c->sql(1, q{
	SET SESSION AUTHORIZATION ann;
	CREATE TABLE o (id bigserial, at date NOT NULL, who int NOT NULL, v int DEFAULT 7 CHECK (v > 0), s text,
		PRIMARY KEY (who, id, at)) PARTITION BY RANGE (at);
	CREATE TABLE o_2401 PARTITION OF o FOR VALUES FROM ('2024-01-01') TO ('2024-02-01') WITH (fillfactor = 70);
	CREATE TABLE o_2402 PARTITION OF o FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
	CREATE INDEX o_v ON o (v);
	CREATE UNIQUE INDEX o_u ON o (who, at, s);
	GRANT SELECT ON o TO carl;
	ALTER TABLE o ALTER s SET STORAGE external, ALTER v SET STATISTICS 55;
	INSERT INTO o (at, who, s) SELECT date '2024-01-01' + i % 60, i, 's' || i FROM generate_series(1, 300) i;
});
$c->sql(1, q{SELECT fragaffinity.distribute_table('o', 'who', 4)});
alike('at first');

# CREATE, through two nodes, by the owner.  The next month is where the last one was moved to.
my @feb = split /\n/, $c->sql(1, q{SELECT fragment FROM fragaffinity.fragment WHERE home::text LIKE 'o_2402%' ORDER BY 1});
$c->move($_, 'n3') for @feb[ 0, 2 ];
$c->sql(2, q{SET SESSION AUTHORIZATION ann; CREATE TABLE o_2403 PARTITION OF o FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')
	WITH (fillfactor = 60, toast.autovacuum_enabled = false)});
$c->sql(3, q{SET SESSION AUTHORIZATION ann; CREATE TABLE IF NOT EXISTS o_2404 PARTITION OF o FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')});
$c->sql(3, q{SET SESSION AUTHORIZATION ann; CREATE TABLE IF NOT EXISTS o_2404 PARTITION OF o FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')});
alike('two more');
my $owners = q{SELECT string_agg(owner, ' ' ORDER BY fragment) FROM fragaffinity.fragments WHERE bucket::text LIKE '%s%%'};
is($c->sql(1, sprintf $owners, 'o_2404'), $c->sql(1, sprintf $owners, 'o_2402'), 'buckets are where those of the month before are');
like($c->sql(1, sprintf $owners, 'o_2404'), qr/^n3 n3 n3 /, 'also where they were moved to');
for my $i (1 .. 3)
{
	$c->sql($i, qq{INSERT INTO o (at, who, s) SELECT date '2024-03-01' + n, n, 'n$i' FROM generate_series(0, 49) n});
	is($c->sql($i, q{UPDATE o SET v = 8 WHERE at = '2024-03-05' AND who = 4 RETURNING s}), join("\n", map { "n$_" } 1 .. $i), "point statements on node $i");
	is($c->sql($i, qq{SET SESSION AUTHORIZATION carl; SELECT count(*) FROM o WHERE at >= '2024-03-01'}), 50 * $i, "grants of the table on node $i");
	my ($code) = $c->fails($i, qq{INSERT INTO o (at, who, s) VALUES ('2024-04-03', 33, 'n$i')});
	is($code, '23505', "unique indexes, asked by node $i");
	($code) = $c->fails($i, q{INSERT INTO o (at, who, v) VALUES ('2024-04-03', 33, -1)});
	is($code, '23514', "constraints, asked by node $i");
	is($c->sql($i, q{SELECT count(*) FROM fragaffinity.fragments f WHERE local AND bucket::text ~ 'o_240[34]' AND NOT
			(SELECT array_agg(split_part(pg_get_indexdef(indexrelid), ' USING ', 2) ORDER BY 1) FROM pg_index WHERE indrelid = f.leaf)
			@> ARRAY['btree (v)', 'btree (who, at, s)', 'btree (who, id, at)']}), '0', "indexes on node $i");
	is($c->sql($i, q{SELECT count(*) FROM fragaffinity.fragments f JOIN pg_attribute ON attrelid = leaf WHERE local
			AND (attname = 'v' AND attstattarget <> 55 OR attname = 's' AND attstorage <> 'e')}), '0', "columns' options on node $i");
	is($c->sql($i, q{SELECT DISTINCT array_to_string(reloptions, ' ') FROM fragaffinity.fragments f JOIN pg_class c ON c.oid = leaf
			WHERE local AND bucket::text LIKE 'o_2403%'}), $i == 1 ? '' : 'fillfactor=60', "storage options on node $i");
	is($c->sql($i, q{SELECT count(*) FROM pg_constraint WHERE conrelid = 'o'::regclass AND contype = 'p'}), '1', "the primary key is shown on node $i");
}
is($c->sql(1, 'SELECT count(DISTINCT id) = count(*) FROM o'), 't', 'numbers are unique');
count_rows('o', 450, 'all rows');
$c->move($c->fragment('o', 13), 'n2');

# Who may, and what is refused, without a trace.
my $before = $c->sql(1, $shape);
my ($code, $message) = $c->fails(1, q{SET SESSION AUTHORIZATION bob; CREATE TABLE x PARTITION OF o FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')});
is($code, '42501', 'CREATE by another');
($code) = $c->fails(2, 'SET SESSION AUTHORIZATION bob; DROP TABLE o_2401');
is($code, '42501', 'DROP by another');
($code) = $c->fails(2, 'SET SESSION AUTHORIZATION bob; ALTER TABLE o DETACH PARTITION o_2401');
is($code, '42501', 'DETACH by another');
$c->sql(1, 'CREATE TABLE his (LIKE o); ALTER TABLE his OWNER TO bob');
($code) = $c->fails(1, q{SET SESSION AUTHORIZATION ann; ALTER TABLE o ATTACH PARTITION his FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')});
is($code, '42501', 'ATTACH of what is not the owner\'s');
my $next = q{PARTITION OF o %s FOR VALUES FROM ('2025-01-01') TO ('2025-02-01') %s};
for my $case (
	[ sprintf("CREATE TABLE o_2403 $next", '', ''), '42P07' ],
	[ q{CREATE TABLE x PARTITION OF o FOR VALUES FROM ('2024-03-15') TO ('2024-05-01')}, '42P17' ],
	[ sprintf("CREATE TABLE x $next", '(v DEFAULT 3)', ''), '0A000' ],
	[ sprintf("CREATE TABLE x $next", '(CHECK (v > 5))', ''), '0A000' ],
	[ sprintf("CREATE TABLE x $next", '', 'TABLESPACE pg_default'), '0A000' ],
	[ sprintf("CREATE UNLOGGED TABLE x $next", '', ''), '0A000' ],
	[ sprintf("CREATE TABLE x $next", '', 'WITH (fillfactor = 5)'), '22023' ],
	[ 'CREATE TABLE x PARTITION OF o_2401 FOR VALUES WITH (MODULUS 9, REMAINDER 1)', '0A000' ],
	[ 'CREATE TABLE x PARTITION OF o_2401_b0 DEFAULT', '0A000' ],
	[ 'CREATE TABLE x () INHERITS (o)', '0A000' ], [ 'CREATE SCHEMA z CREATE TABLE x PARTITION OF public.o DEFAULT', '0A000' ],
	[ 'ALTER TABLE o DETACH PARTITION o_2401 CONCURRENTLY', '0A000' ],
	[ 'ALTER TABLE o_2401 DETACH PARTITION o_2401_b0', '0A000' ],
	[ 'DROP TABLE o_2401_b0', '2BP01' ], [ 'DROP TABLE o_2401, o_2402_b1', '2BP01' ],
	[ q{BEGIN ISOLATION LEVEL REPEATABLE READ; DROP TABLE o_2401}, '25001' ],
	[ sprintf("BEGIN; SAVEPOINT a; CREATE TABLE x $next", '', ''), '0A000' ],
	[ q{CREATE VIEW w AS SELECT * FROM o_2401; DROP TABLE o_2401}, '2BP01', 'DROP VIEW w' ],
	[ q{CREATE TABLE q (at date) PARTITION BY RANGE (at); ALTER TABLE q ATTACH PARTITION o DEFAULT}, '0A000', 'DROP TABLE q' ])
{
	my ($sql, $wanted, $afterwards) = @$case;
	($code, $message) = $c->fails(2, $sql);
	is($code, $wanted, "refused: $sql") or diag($message);
	$c->sql(2, $afterwards) if $afterwards;
}
$c->sql(3, 'CREATE TABLE x ()');
($code, $message) = $c->fails(1, sprintf("CREATE TABLE x $next", '', ''));
is($code, '42P07', 'the name is taken elsewhere');
like($message, qr/node "n3"/, 'and the node is named');
$c->sql(3, 'DROP TABLE x');
$c->kill9(3);
($code, $message) = $c->fails(1, sprintf("CREATE TABLE x $next", '', ''));
like($code, qr/^08/, 'not while a node is down');
($code) = $c->fails(1, 'DROP TABLE o_2401');
like($code, qr/^08/, 'nor DROP');
$c->restart(3);
$c->poll(1, q{SELECT count(*) FROM o}, '450', 'all nodes are back');
is($c->sql(1, $shape), $before, 'nothing has changed');
alike('after refusals');

# DEFAULT: its rows stand in the way of a partition that would have them, wherever they are.
$c->sql(2, 'SET SESSION AUTHORIZATION ann; CREATE TABLE o_rest PARTITION OF o DEFAULT');
$c->sql(2, q{INSERT INTO o (at, who, s) SELECT '2030-01-01', i, 'r' FROM generate_series(1, 40) i});
for my $i (1 .. 3)
{
	($code) = $c->fails($i, q{CREATE TABLE o_30 PARTITION OF o FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')});
	is($code, '23514', "rows of the default partition, asked on node $i");
}
my $who = $c->sql(1, q{SELECT min(who) FROM o, fragaffinity.fragments WHERE at = '2030-01-01' AND owner = 'n3'
	AND bucket = ('o_rest_b' || fragaffinity.bucket_of('o_rest', who))::regclass});
$c->sql(1, "DELETE FROM o WHERE at = '2030-01-01' AND who <> $who");
($code) = $c->fails(1, q{CREATE TABLE o_30 PARTITION OF o FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')});
is($code, '23514', 'one row on another node is enough');
$c->sql(1, q{DELETE FROM o WHERE at = '2030-01-01'});
$c->sql(1, q{CREATE TABLE o_30 PARTITION OF o FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')});
$c->sql(3, q{INSERT INTO o (at, who, s) VALUES ('2030-05-01', 1, 'thirty'), ('2040-01-01', 1, 'rest')});
is($c->sql(2, q{SELECT string_agg(tableoid::regclass::text, ',' ORDER BY s) FROM (SELECT at, s, tableoid FROM o WHERE s IN ('thirty', 'rest')) x}) =~ s/_b\d_[hr]//gr,
	'o_rest,o_30', 'rows go where they belong');
alike('with a default partition');

# ATTACH: an empty one as pg_partman makes it, one with rows and columns in another order.
$c->sql(2, q{SET SESSION AUTHORIZATION ann; CREATE TABLE o_2405 (LIKE o INCLUDING ALL);
	ALTER TABLE o ATTACH PARTITION o_2405 FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')});
$c->sql(3, q{SET SESSION AUTHORIZATION ann;
	CREATE TABLE o_2406 (s text, v int DEFAULT 7 CONSTRAINT o_v_check CHECK (v > 0), gone int, id bigint DEFAULT nextval('o_id_seq') NOT NULL, who int NOT NULL, at date NOT NULL,
		PRIMARY KEY (who, id, at)) WITH (fillfactor = 50);
	ALTER TABLE o_2406 DROP COLUMN gone;
	COMMENT ON TABLE o_2406 IS 'June'; GRANT SELECT ON o_2406 TO bob;
	INSERT INTO o_2406 (at, who, s) SELECT date '2024-06-01' + i % 30, i, repeat('long', i) FROM generate_series(1, 200) i});
my $june = $c->sql(3, q{SELECT md5(string_agg(concat_ws(',', id, at, who, v, s), '|' ORDER BY id)) FROM o_2406});
$c->sql(3, q{SET SESSION AUTHORIZATION ann; ALTER TABLE o ATTACH PARTITION o_2406 FOR VALUES FROM ('2024-06-01') TO ('2024-07-01')});
alike('attached');
is($c->sql($_, q{SELECT md5(string_agg(concat_ws(',', id, at, who, v, s), '|' ORDER BY id)) FROM o WHERE at BETWEEN '2024-06-01' AND '2024-06-30'}),
	$june, "attached rows on node $_") for 1 .. 3;
is($c->sql(1, q{SELECT count(DISTINCT owner) FROM fragaffinity.fragments WHERE bucket::text LIKE 'o_2406%'}), '2', 'they are dealt out');
is($c->sql($_, q{SELECT obj_description('o_2406'::regclass) || has_table_privilege('bob', 'o_2406', 'SELECT')}), 'Junetrue', "comment and grant on node $_") for 1 .. 3;
is($c->sql($_, q{INSERT INTO o (at, who, s) VALUES ('2024-05-05', 5, 'may') RETURNING s}), 'may', "may takes rows of node $_")
  and $c->sql($_, q{DELETE FROM o WHERE s = 'may'}) for 1 .. 3;
$before = $c->sql(1, $shape);
for my $case (
	[ q{CREATE TABLE x (LIKE o INCLUDING CONSTRAINTS); INSERT INTO x (id, at, who) VALUES (1, '2027-01-01', 1);
		ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '23514', 'rows beyond its bound' ],
	[ q{CREATE TABLE x (LIKE o INCLUDING CONSTRAINTS); INSERT INTO x (id, at, who, s) SELECT i, '2025-01-01', 1, 'same' FROM generate_series(1, 2) i;
		ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '23505', 'rows that break a unique index' ],
	[ q{CREATE TABLE x (LIKE o INCLUDING ALL); ALTER TABLE x ADD CHECK (v < 9);
		ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '0A000', 'a constraint of its own' ],
	[ q{CREATE TABLE x (LIKE o INCLUDING ALL); CREATE UNIQUE INDEX ON x (who, id, at, v);
		ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '0A000', 'a unique index of its own' ],
	[ q{CREATE TABLE x (at date, who int) PARTITION BY RANGE (at);
		ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '0A000', 'a partitioned table' ],
	[ q{CREATE TABLE x (at date, who int); ALTER TABLE o ATTACH PARTITION x FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')},
		'42804', 'missing columns' ],
	[ q{CREATE TABLE x (LIKE o); ALTER TABLE o ATTACH PARTITION o_2401_b0 FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')}, '55000', 'a part of itself' ])
{
	my ($sql, $wanted, $name) = @$case;
	($code, $message) = $c->fails(1, $sql);
	is($code, $wanted, "not attached: $name") or diag($message);
	$c->sql(1, 'DROP TABLE IF EXISTS x');
}
is($c->sql(1, $shape), $before, 'nothing has changed');

# DETACH: a plain table with all rows, here.
$c->sql(2, q{SET SESSION AUTHORIZATION ann; ALTER TABLE o DETACH PARTITION o_2406});
is($c->sql(2, q{SELECT md5(string_agg(concat_ws(',', id, at, who, v, s), '|' ORDER BY id)) FROM ONLY o_2406}), $june, 'detached with its rows');
is($c->sql(2, q{SELECT concat_ws(' ', relkind, relowner::regrole, reloptions, obj_description(oid)) FROM pg_class WHERE oid = 'o_2406'::regclass}),
	'r ann {fillfactor=50} June', 'as it was');
is($c->sql(2, q{SELECT string_agg(split_part(pg_get_indexdef(indexrelid), ' USING ', 2), ', ' ORDER BY pg_get_indexdef(indexrelid, 1, false), indisunique, indisprimary) FROM pg_index
	WHERE indrelid = 'o_2406'::regclass}), 'btree (v), btree (who, at, s), btree (who, id, at)', 'with the table\'s indexes');
is($c->sql($_, q{SELECT to_regclass('o_2406') IS NULL AND to_regclass('o_2406_b0') IS NULL}), 't', "gone from node $_") for 1, 3;
is($c->sql($_, q{SELECT count(*) FROM o WHERE at BETWEEN '2024-06-01' AND '2024-06-30'}), '0', "no rows of it on node $_") for 1 .. 3;
alike('detached');
# there and back, from another node than where it was made
$c->sql(2, q{SET SESSION AUTHORIZATION ann; ALTER TABLE o ATTACH PARTITION o_2406 FOR VALUES FROM ('2024-06-01') TO ('2024-07-01')});
$c->move($c->sql(1, q{SELECT fragment FROM fragaffinity.fragments WHERE bucket = 'o_2406_b2'::regclass}), 'n1');
$c->sql(1, q{ALTER TABLE o DETACH PARTITION o_2406});
is($c->sql(1, q{SELECT md5(string_agg(concat_ws(',', id, at, who, v, s), '|' ORDER BY id)) FROM ONLY o_2406}), $june, 'again, after a move');
$c->sql(1, 'DROP TABLE o_2406');

# Nothing goes while it moves; the statement that waits for the map's news is told so.
my $moving = $c->sql(1, q{SELECT fragment FROM fragaffinity.fragments WHERE bucket = 'o_2402_b3'::regclass});
my $owner = $c->owner($moving);
my $other = $owner eq 'n1' ? 2 : 1;
$c->hold($other, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($moving, 'n$other', wait => false)");
ok($c->wait_held($other, 'move_copied'), 'a fragment moves');
for my $sql ('DROP TABLE o_2402', 'ALTER TABLE o DETACH PARTITION o_2402')
{
	($code, $message) = $c->fails(3, "SET lock_timeout = '100ms'; $sql");
	is($code, '55P03', "not while a fragment moves: $sql") or diag($message);
}
$c->sql(3, 'DROP TABLE o_2403');
alike('another one may go');
$c->release($other);
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $moving", "n$other", 'the move ends');

# TRUNCATE of one.
$c->sql(3, 'TRUNCATE o_2401');
is($c->sql(1, q{SELECT count(*) FROM o WHERE at < '2024-02-01'}), '0', 'TRUNCATE of one partition, on all nodes');
isnt($c->sql(1, q{SELECT count(*) FROM o WHERE at BETWEEN '2024-02-01' AND '2024-02-29'}), '0', 'and no other');

# DROP, with what is known of the fragments.
my $gone = $c->sql(1, q{SELECT array_agg(fragment) FROM fragaffinity.fragments WHERE bucket::text LIKE 'o_2402%'});
$c->sql(1, q{SELECT fragaffinity.add_schedule('o', 'n2', NULL, NULL, '1 day', now(), '1 hour', 0.5)});
$c->sql(1, 'CREATE TABLE also (); DROP TABLE o_2402, also, o_30');
is($c->sql($_, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'p' AND relname ~ '^o_[a-z0-9]+$'}),
	'o_2401 o_2404 o_2405 o_rest', "partitions of node $_") for 1 .. 3;
is($c->sql($_, "SELECT count(*) FROM fragaffinity.fragment WHERE fragment = ANY ('$gone')"), '0', "no fragments on node $_") for 1 .. 3;
is($c->sql(1, q{SELECT fragments = (SELECT array_agg(fragment ORDER BY fragment) FROM fragaffinity.fragment) FROM fragaffinity.hint}), 't',
	'hints are about what is there');
$c->sql(2, q{CREATE TABLE o_2407 PARTITION OF o FOR VALUES FROM ('2024-07-01') TO ('2024-08-01')});
is($c->sql(1, q{SELECT fragments = (SELECT array_agg(fragment ORDER BY fragment) FROM fragaffinity.fragment) FROM fragaffinity.hint}), 't',
	'also about what is new');
is($c->sql(1, "SELECT count(*) FROM fragaffinity.fragment WHERE fragment <= (SELECT max(x) FROM unnest('$gone'::bigint[]) x) AND bucket::text LIKE 'o_2407%'"), '0',
	'numbers are not given twice');
alike('dropped');
ok($c->check_consistent('consistent'), 'consistent');

# In one transaction with rows, and undone.
$c->sql(1, q{BEGIN; CREATE TABLE o_2408 PARTITION OF o FOR VALUES FROM ('2024-08-01') TO ('2024-09-01'); DROP TABLE o_2407; ROLLBACK});
is($c->sql($_, q{SELECT to_regclass('o_2408') IS NULL AND to_regclass('o_2407') IS NOT NULL}), 't', "undone on node $_") for 1 .. 3;
$c->sql(1, q{BEGIN; CREATE TABLE o_2408 PARTITION OF o FOR VALUES FROM ('2024-08-01') TO ('2024-09-01'); DROP TABLE o_2407; COMMIT});
is($c->sql($_, q{SELECT to_regclass('o_2408') IS NOT NULL AND to_regclass('o_2407') IS NULL}), 't', "done on node $_") for 1 .. 3;

# Under a function, as pg_partman's.
$c->sql(3, q{CREATE FUNCTION monthly(month date) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN EXECUTE format('CREATE TABLE o_%s (LIKE o INCLUDING ALL)', to_char(month, 'YYMM'));
	EXECUTE format('ALTER TABLE o ATTACH PARTITION o_%s FOR VALUES FROM (%L) TO (%L)', to_char(month, 'YYMM'), month, month + interval '1 month');
	END $$});
$c->sql(3, q{SELECT monthly('2024-09-01'), monthly('2024-10-01')});
alike('by a function');

# Partitions of partitions; a table that had none when it was distributed; row security.
$c->sql(2, q{CREATE TABLE l (k int, c text, at date, PRIMARY KEY (at, k, c)) PARTITION BY RANGE (at);
	SELECT fragaffinity.distribute_table('l', 'k', 3, 'n2')});
$c->sql(1, q{CREATE TABLE l_1 PARTITION OF l FOR VALUES FROM ('2024-01-01') TO ('2024-02-01') PARTITION BY LIST (c);
	CREATE TABLE l_1_eu PARTITION OF l_1 FOR VALUES IN ('eu')});
$c->sql(3, q{CREATE TABLE l_2 PARTITION OF l FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY LIST (c)});
is($c->sql(1, sprintf $owners, 'l_1_eu'), 'n2 n2 n2', 'the placement holds for the first');
$c->move($c->fragment('l', 0), 'n1');
$c->sql(3, q{CREATE TABLE l_2_eu PARTITION OF l_2 FOR VALUES IN ('eu'); CREATE TABLE l_2_us PARTITION OF l_2 FOR VALUES IN ('us')});
is($c->sql(1, sprintf $owners, 'l_2_eu'), 'n1 n2 n2', 'of the same list in the month before');
is($c->sql(1, sprintf $owners, 'l_2_us'), 'n2 n2 n2', 'another list is placed as ever');
$c->sql($_, qq{INSERT INTO l SELECT i + 100 * $_, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, '2024-02-03' FROM generate_series(1, 30) i}) for 1 .. 3;
($code) = $c->fails($_, q{INSERT INTO l VALUES (102, 'eu', '2024-02-03')})
  and is($code, '23505', "the primary key holds in a sub-partition, asked by node $_") for 1 .. 3;
$c->sql(1, q{CREATE TABLE l_2_xx (LIKE l INCLUDING ALL); INSERT INTO l_2_xx SELECT i, 'xx', '2024-02-03' FROM generate_series(1, 20) i;
	ALTER TABLE l_2 ATTACH PARTITION l_2_xx FOR VALUES IN ('xx')});
count_rows("l WHERE c = 'xx'", 20, 'attached to a partition');
$c->sql(2, 'DROP TABLE l_2_xx');
count_rows('l', 90, 'sub-partitions');
$c->sql(1, q{ALTER TABLE l DETACH PARTITION l_2});
is($c->sql(1, q{SELECT (SELECT count(*) FROM ONLY l_2_eu) || ' ' || (SELECT count(*) FROM ONLY l_2_us) || ' ' || (SELECT count(*) FROM l)}), '45 45 0', 'detached with its partitions');
$c->sql(2, 'ALTER TABLE l_1 DETACH PARTITION l_1_eu; DROP TABLE l_1_eu, l_1');
$c->sql(1, 'DROP TABLE l_2');
alike('partitions of partitions');
$c->sql(1, q{ALTER TABLE l OWNER TO ann; CREATE TABLE l_3 PARTITION OF l FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')});
$c->sql(1, q{CREATE POLICY p ON l USING (c = current_user); ALTER TABLE l ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON l TO bob, carl;
	CREATE TABLE l_4 PARTITION OF l FOR VALUES FROM ('2024-04-01') TO ('2024-05-01');
	INSERT INTO l SELECT i, CASE WHEN i % 2 = 0 THEN 'bob' ELSE 'carl' END, date '2024-03-01' + i FROM generate_series(1, 60) i});
is($c->sql($_, 'SET SESSION AUTHORIZATION bob; SELECT count(*) FROM l'), '30', "policies on node $_") for 1 .. 3;
($code) = $c->fails(3, 'SET SESSION AUTHORIZATION bob; SELECT count(*) FROM l_4_b0');
is($code, '42501', 'not past them by a new bucket');
$c->sql(3, 'SET SESSION AUTHORIZATION ann; ALTER TABLE l DETACH PARTITION l_4');
is($c->sql(3, 'SELECT count(*) FROM ONLY l_4'), '30', 'the owner takes a partition that another one made');
$c->sql(2, q{SELECT fragaffinity.undistribute_table('l')});
is($c->sql(2, 'SELECT count(*) FROM l'), '30', 'undistributed after all');

# What the owner has written runs as the owner, and cannot become another.
$c->sql($_, q{CREATE FUNCTION tens(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		BEGIN PERFORM set_config('role', 'none', true); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
		IF current_user <> 'ann' THEN RAISE 'runs as %', current_user; END IF;
		RETURN n / 10;
	END $$}) for 1 .. 3;
$c->sql(1, q{SET SESSION AUTHORIZATION ann; CREATE TABLE e (k int NOT NULL, n int) PARTITION BY RANGE (tens(n));
	CREATE TABLE e_rest PARTITION OF e DEFAULT});
$c->sql(1, q{SELECT fragaffinity.distribute_table('e', 'k', 6)});
my $rows = q{SET SESSION AUTHORIZATION ann; INSERT INTO e SELECT i, 200 FROM generate_series(1, 30) i;};
$c->sql(1, "$rows CREATE TABLE e_1 PARTITION OF e FOR VALUES FROM (1) TO (2)");
$c->sql(3, q{SET SESSION AUTHORIZATION ann; CREATE TABLE e_2 (LIKE e);
	ALTER TABLE e ATTACH PARTITION e_2 FOR VALUES FROM (2) TO (3)});
is($c->sql(2, q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM e}), '30', 'functions of the bound run as the owner');

# A node that is to be emptied gets none, also when the table was put there.
$c->sql(1, q{CREATE TABLE z (k int NOT NULL, at date) PARTITION BY RANGE (at); SELECT fragaffinity.distribute_table('z', 'k', 3, 'n2')});
$c->sql(1, q{CREATE TABLE z_1 PARTITION OF z FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')});
$c->sql($_, q{UPDATE fragaffinity.node SET state = 'draining' WHERE name = 'n2'}) for 1 .. 3;
$c->sql(3, q{CREATE TABLE z_2 PARTITION OF z FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
	CREATE TABLE z_0 PARTITION OF z DEFAULT});
unlike($c->sql(1, sprintf $owners, $_), qr/n2/, "$_ is not on a draining node") for qw(z_2 z_0);
$c->sql($_, q{UPDATE fragaffinity.node SET state = 'active' WHERE name = 'n2'}) for 1 .. 3;

# Equal keys of co-located tables meet, also in new partitions.
$c->sql(1, q{CREATE TABLE i (who int NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
	CREATE TABLE i_2401 PARTITION OF i FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
	CREATE TABLE u (who int PRIMARY KEY); SELECT fragaffinity.distribute_table('u', 'who', 4);
	SELECT fragaffinity.distribute_table('i', 'who', colocate_with => 'u');
	CREATE TABLE j (who int NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
	SELECT fragaffinity.distribute_table('j', 'who', colocate_with => 'u')});
$c->sql(3, q{CREATE TABLE i_2402 PARTITION OF i FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
	CREATE TABLE j_2402 PARTITION OF j FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')});
is($c->sql(1, sprintf $owners, $_), $c->sql(1, sprintf $owners, 'u_b'), "$_ is with its table") for qw(i_2402 j_2402);

ok($c->check_consistent('at the end'), 'consistent');
done_testing();
