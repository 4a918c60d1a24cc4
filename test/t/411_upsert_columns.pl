# Statements on remote fragments go whole also where the bucket came with a split,
# and so lacks the columns that its table had dropped by then: upserts and MERGE,
# which nobody else could execute, answer as on a plain table.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my $table = q{CREATE TABLE %s (gone int, id bigint, sub int, late text, v text NOT NULL DEFAULT 'none', n int NOT NULL DEFAULT 0, PRIMARY KEY (id, sub))};
$c->sql(1, sprintf($table, 't') . q{; SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n1');
	ALTER TABLE t DROP COLUMN gone; ALTER TABLE t DROP COLUMN late; ALTER TABLE t ADD COLUMN w int DEFAULT 7});
my ($rest) = ($c->fragment('t', 0));
my $piece = $c->sql(1, "SELECT (fragaffinity.split_fragment($rest, '100', '200'))[1]");
$c->move($piece, 'n2');
$c->sql(1, sprintf($table, 'plain') . '; ALTER TABLE plain DROP COLUMN gone; ALTER TABLE plain DROP COLUMN late; ALTER TABLE plain ADD COLUMN w int DEFAULT 7');

my @statements = (
	map({ my $k = $_;
		("INSERT INTO t (id, sub, v) VALUES ($k, 1, 'a') ON CONFLICT (id, sub) DO UPDATE SET v = excluded.v || t.v, n = t.n + 1 RETURNING id, v, n, w",
		"INSERT INTO t VALUES ($k, 1, 'b', 5) ON CONFLICT (id, sub) DO UPDATE SET n = excluded.n + t.w WHERE t.v = 'a' RETURNING *",
		"INSERT INTO t (w, id, sub) VALUES (9, $k, 2) ON CONFLICT DO NOTHING RETURNING w, v",
		"INSERT INTO t (w, id, sub) VALUES (9, $k, 2) ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET w = t.w + excluded.w RETURNING w, v",
		"UPDATE t SET w = n + 1, v = v || 'x' WHERE id = $k AND w > 6 RETURNING t.w, v",
		"SELECT w, count(*), max(v) FROM t WHERE id = $k GROUP BY w ORDER BY w",
		"SELECT a.w, b.v, (SELECT max(c.n) FROM t c WHERE c.id = $k AND c.w <= a.w) FROM t a JOIN t b USING (id) WHERE a.id = $k AND a.sub = 1 ORDER BY b.sub",
		"MERGE INTO t USING (VALUES ($k, 3, 'm')) s (id, sub, v) ON t.id = s.id AND t.id = $k AND t.sub = s.sub WHEN MATCHED THEN UPDATE SET w = t.w + 1 WHEN NOT MATCHED THEN INSERT (id, sub, v) VALUES (s.id, s.sub, s.v)",
		"DELETE FROM t WHERE id = $k AND w = 8 RETURNING v, w",
		"SELECT id, v, w, n, count(*) FROM t WHERE id = $k GROUP BY id, sub ORDER BY sub") } 5, 150),
	"INSERT INTO t (id, sub, v) VALUES (6, 1, 'a'), (151, 1, 'b'), (152, 1, 'c') ON CONFLICT (id, sub) DO UPDATE SET w = t.w + 1 RETURNING id, w");
for my $i (1 .. 3)
{
	for my $around ('%s', 'BEGIN; %s; COMMIT')
	{
		$c->sql(1, 'TRUNCATE t; TRUNCATE plain');
		for my $statement (@statements)
		{
			(my $on_plain = $statement) =~ s/\bt\b/plain/g;
			$on_plain =~ s/t_pkey/plain_pkey/;
			for my $round (1, 2)
			{
				is($c->sql($i, sprintf $around, $statement), $c->sql(1, sprintf $around, $on_plain), "node $i: " . substr $statement, 0, 60);
			}
		}
	}
	$c->rows_agree('t', 'all nodes show the same rows');
}
# What the primary key determines, wherever it is grouped.
for my $i (1 .. 3)
{
	for my $grouped ('SELECT id, v, w, count(*) FROM t GROUP BY id, sub ORDER BY id, sub', 'SELECT id, v, w, count(*) FROM t GROUP BY id, sub, v, w HAVING w > 6 ORDER BY id, sub',
		'SELECT a.id, a.v || a.n, sum(b.n) FROM t a JOIN t b ON a.id = b.id AND b.w > 0 GROUP BY a.id, a.sub HAVING a.v <> max(b.v) ORDER BY a.id, a.sub')
	{
		(my $on_plain = $grouped) =~ s/\bt\b/plain/g;
		for my $set ('off', 'on')
		{
			is($c->sql($i, "SET enable_partitionwise_aggregate = $set; SET enable_partitionwise_join = $set; $grouped"), $c->sql(1, $on_plain), "node $i, partitionwise $set: $grouped");
		}
	}
}
like($c->sql(3, 'EXPLAIN SELECT * FROM t WHERE id = 150'), qr/on n2.*routed whole/, 'routed to the node of the piece');
is($c->sql(1, 'SELECT md5(string_agg(t::text, \',\' ORDER BY id, sub)) FROM t'),
	$c->sql(1, 'SELECT md5(string_agg(plain::text, \',\' ORDER BY id, sub)) FROM plain'), 'and they are those of a plain table');
done_testing();
