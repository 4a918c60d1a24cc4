# Indexes of every access method of the server move with their pages: each
# answers as a sequential scan does, before and after it is used further.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2, config => "autovacuum = off\n");

$c->sql(1, q{
	CREATE TABLE x (id int PRIMARY KEY, h text, n int, a int[], d jsonb, w tsvector, p point, r int4range,
		b box, i inet, t text, ts timestamptz);
	CREATE INDEX x_hash ON x USING hash (h);
	CREATE INDEX x_hash_int ON x USING hash (n);
	CREATE INDEX x_gin_a ON x USING gin (a);
	CREATE INDEX x_gin_d ON x USING gin (d jsonb_path_ops) WITH (fastupdate = off);
	CREATE INDEX x_gin_w ON x USING gin (w);
	CREATE INDEX x_gist_p ON x USING gist (p);
	CREATE INDEX x_gist_r ON x USING gist (r, p);
	CREATE INDEX x_gist_w ON x USING gist (w);
	CREATE INDEX x_sp_t ON x USING spgist (t);
	CREATE INDEX x_sp_p ON x USING spgist (p);
	CREATE INDEX x_sp_i ON x USING spgist (i inet_ops);
	CREATE INDEX x_sp_b ON x USING spgist (b);
	CREATE INDEX x_brin_n ON x USING brin (id) WITH (pages_per_range = 4);
	CREATE INDEX x_brin_ts ON x USING brin (ts timestamptz_minmax_multi_ops) WITH (pages_per_range = 2);
	CREATE INDEX x_brin_h ON x USING brin (h text_bloom_ops) WITH (pages_per_range = 2);
	CREATE INDEX x_brin_r ON x USING brin (r range_inclusion_ops) WITH (pages_per_range = 2);
});
$c->sql(1, "SELECT fragaffinity.distribute_table('x', 'id', fragments => 1, placement => 'n1');
	SELECT fragaffinity.configure('move_path', 'page')");
my $f = $c->fragment('x');

my $rows = q{SELECT i, md5((i % 900)::text), i % 500, ARRAY[i % 100, i % 77, i],
	jsonb_build_object('k', i % 300, 'v', jsonb_build_array(i % 10)), to_tsvector('simple', 'w' || i % 200 || ' common'),
	point(i % 211, i % 307), int4range(i % 1000, i % 1000 + i % 50 + 1), box(point(i % 100, i % 90), point(i % 100 + 3, i % 90 + 2)),
	('10.' || i % 200 || '.' || i % 250 || '.1')::inet, md5((i % 3000)::text) || repeat('t', i % 20),
	'2024-01-01'::timestamptz + i * interval '7 min'};
sub number { return substr $_[0], 1; }

# Index, and conditions that it answers.
my @conditions = (
	[ x_hash => map { "h = md5('$_')" } 5, 77, 899, 12345 ],
	[ x_hash_int => map { "n = $_" } 0, 17, 499, 777 ],
	[ x_gin_a => "a @> ARRAY[5]", "a && ARRAY[1, 2, 76]", "a @> ARRAY[99, 3]" ],
	[ x_gin_d => "d @> '{\"k\": 7}'", "d @> '{\"v\": [3]}'" ],
	[ x_gin_w => "w @@ 'w7'::tsquery", "w @@ 'common & w11'::tsquery", "w @@ 'common'::tsquery" ],
	[ x_gist_p => "p <@ box '(10,10),(50,60)'", "p ~= point(5, 5)" ],
	[ x_gist_r => "r && int4range(100, 120)", "r @> 500", "r && int4range(5, 9) AND p <@ box '(0,0),(100,100)'" ],
	[ x_gist_w => "w @@ 'w7'::tsquery" ],
	[ x_sp_t => "t = md5('7') || repeat('t', 7)", "t ^@ 'a'", "t ^@ 'c4'" ],
	[ x_sp_p => "p <@ box '(100,100),(150,160)'" ],
	[ x_sp_i => "i << '10.7.0.0/16'", "i <<= '10.0.0.0/12'" ],
	[ x_sp_b => "b && box '(20,20),(30,30)'" ],
	[ x_brin_n => 'id BETWEEN 100 AND 300', 'id > 7000' ],
	[ x_brin_ts => "ts BETWEEN '2024-01-03' AND '2024-01-05'", "ts > '2024-02-01'" ],
	[ x_brin_h => "h = md5('55')" ],
	[ x_brin_r => 'r && int4range(990, 999)' ]);

# Answers by one index alone, the others hidden in a transaction that is undone.
sub check
{
	my ($name) = @_;
	my $i = number($c->owner($f));
	my $wrong = 0;
	my $script = '';
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# Names of a leaf's indexes differ from those of the table's: by definition.
	my %leaf = map { split /\|/ } split /\n/, $c->sql($i, q{
		SELECT p.relname, min(l.indexrelid::regclass::text) FROM pg_index px JOIN pg_class p ON p.oid = px.indexrelid
		JOIN LATERAL (SELECT x.indexrelid FROM pg_index x JOIN pg_class q ON q.oid = x.indexrelid
			WHERE x.indrelid = 'x_b0_h'::regclass AND q.relam = p.relam AND x.indkey = px.indkey
				AND x.indclass = px.indclass) l ON true
		WHERE px.indrelid = 'x'::regclass GROUP BY p.relname});
	for my $case (@conditions)
	{
		my ($index, @where) = @$case;
		my $leaf = $leaf{$index} or die "no index for $index";
		for my $where (@where)
		{
			my $what = "count(*) || ' ' || coalesce(sum(hashtext(x::text)), 0)";
			my $seq = $c->sql($i, "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;
				SELECT $what FROM x_b0_h x WHERE $where");
			my $got = $c->sql($i, "BEGIN; UPDATE pg_index SET indisvalid = false
				WHERE indrelid = 'x_b0_h'::regclass AND indexrelid <> '$leaf'::regclass;
				SET LOCAL enable_seqscan = off; SELECT $what FROM x_b0_h x WHERE $where; ROLLBACK");
			my $plan = $c->sql($i, "BEGIN; UPDATE pg_index SET indisvalid = false
				WHERE indrelid = 'x_b0_h'::regclass AND indexrelid <> '$leaf'::regclass;
				SET LOCAL enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT * FROM x_b0_h x WHERE $where; ROLLBACK");
			next if $got eq $seq && $plan =~ /\Q$leaf\E/;
			diag("$index: $where: $got, must be $seq\n$plan");
			$wrong++;
		}
	}
	is($wrong, 0, $name);
	is($c->sql($i, "SELECT string_agg(p::text, '') FROM (SELECT p FROM x_b0_h ORDER BY p <-> point(30, 30), id LIMIT 5) n"),
		$c->sql($i, "SET enable_indexscan = off; SELECT string_agg(p::text, '') FROM (SELECT p FROM x_b0_h ORDER BY p <-> point(30, 30), id LIMIT 5) n"),
		"$name: nearest");
	return;
}

sub move
{
	my ($name) = @_;
	my $to = $c->owner($f) eq 'n1' ? 'n2' : 'n1';

	$c->move($f, $to);
	is($c->owner($f), $to, "$name: moved to $to");
	check($name);
	return;
}

sub change
{
	my ($from) = @_;
	my $i = number($c->owner($f));

	$c->sql($i, "DELETE FROM x WHERE id % 3 = 1; UPDATE x SET n = n + 1, t = t || 'u', p = point(id % 50, n) WHERE id % 5 = 0");
	$c->sql($i, 'VACUUM x_b0_h');
	$c->sql($i, "INSERT INTO x SELECT * FROM ($rows FROM generate_series($from, $from + 2000) i) s ON CONFLICT DO NOTHING");
	return;
}

move('empty');
$c->sql(number($c->owner($f)), "INSERT INTO x $rows FROM generate_series(1, 6000) i");
move('full');
change(10000);
check('changed');
move('changed and back');
# Whole ranges go, so that index pages are deleted and used again.
$c->sql(number($c->owner($f)), 'DELETE FROM x WHERE id < 10000');
$c->sql(number($c->owner($f)), 'VACUUM x_b0_h');
move('deleted pages');
change(20000);
check('deleted pages are used again');
$c->restart(number($c->owner($f)));
check('restarted');

# While it is written to.
{
	my $source = number($c->owner($f));
	my $to = $source == 1 ? 2 : 1;
	my @writers = map {
		my $k = $_;
		IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', $c->conninfo($k) ],
			'<', \join('', map { my $n = 30000 + 1000 * $_ + 500 * $k;
				"INSERT INTO x $rows FROM generate_series($n, $n + 300) i; UPDATE x SET h = md5('u' || id), a = a || 5 WHERE id BETWEEN $n AND $n + 50;
				DELETE FROM x WHERE id BETWEEN $n + 200 AND $n + 220;\n" } 1 .. 12),
			'>', \my $out, '2>&1')
	} 1, 2;
	for (1 .. 3)
	{
		my $now = number($c->owner($f));
		$c->move($f, $now == 1 ? 'n2' : 'n1');
	}
	for my $w (@writers)
	{
		ok($w->finish, 'a writer saw no error');
	}
	check('written to meanwhile');
	is($c->sql(1, 'SELECT count(*) FROM x WHERE id > 30000'), 2 * 12 * 280, 'with all rows');
	move('after it');
}
is($c->sql(1, "SELECT string_agg(DISTINCT path, ',') FROM fragaffinity.moves"), 'page', 'all of it by pages');
$c->check_consistent('at the end');

done_testing();
