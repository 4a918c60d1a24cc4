# Random statements answer as on plain tables while fragments move, are split and
# merged all the time: no error, no other row.  FA_SEEDS and FA_STATEMENTS as in
# 409_route_random.
use strict;
use warnings;
use FragAffinity;
use POSIX ();
use PostgreSQL::Test::Utils;
use RandomSql;
use SameAnswers;
use Test::More;

my @seeds = split ' ', $ENV{FA_SEEDS} // '1';
my $n = $ENV{FA_STATEMENTS} // 30;
my $c = FragAffinity->new(nodes => 3);
$c->sql($_, RandomSql::types()) for 1 .. 3;
$c->sql(1, join '', RandomSql::tables('d_'), RandomSql::tables('p_'));
my @tables = RandomSql::names('d_');
$c->sql(1, "SELECT fragaffinity.distribute_table('$_', 'k', fragments => 6)") for @tables;

# What is done to fragments; it may be refused, as when another one is at work.
my @moves = (("SELECT fragaffinity.move_fragment(fragment, n) FROM (SELECT fragment, owner FROM fragaffinity.fragments ORDER BY random() LIMIT 1) f,
		LATERAL (SELECT name AS n FROM fragaffinity.nodes WHERE name <> f.owner ORDER BY random() LIMIT 1) g") x 3,
	"SELECT fragaffinity.split_fragment(fragment, k::text, (k + 10)::text) FROM (SELECT fragment, (random() * 40)::int AS k FROM fragaffinity.fragments
		WHERE key_from IS NULL AND key_to IS NULL AND table_name IN ('d_int'::regclass, 'd_pair') ORDER BY random() LIMIT 1) f",
	'SELECT fragaffinity.merge_fragments(a, b) FROM (SELECT x.fragment AS a, y.fragment AS b FROM fragaffinity.fragments x
		JOIN fragaffinity.fragments y USING (table_name, owner) WHERE x.fragment < y.fragment AND x.key_from IS NULL AND y.key_from IS NOT NULL ORDER BY random() LIMIT 1) f');
my $stop = "$PostgreSQL::Test::Utils::tmp_check/stop";
my $mover = fork;
die 'no mover' unless defined $mover;
if ($mover == 0)
{
	until (-e $stop)
	{
		$c->node(1 + int rand 3)->psql('postgres', $moves[ rand @moves ], stdout => \my $out, stderr => \my $err);
	}
	POSIX::_exit(0);
}
ok($c->poll(1, q{SELECT count(*) > 0 FROM fragaffinity.moves WHERE state = 'done'}), 'fragments move');

my $oracle = SameAnswers->new($c, { map { $_ => s/^d_/p_/r } @tables }, join('', RandomSql::rows('d_')) . "SET timezone = 'UTC';\n");
my $count = join "\n", map { "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $_ x;" } @tables;
for my $seed (@seeds)
{
	my $random = RandomSql->new($seed + 3000000);
	my @statements = map { $random->statement } 1 .. $n;
	my $i = 1 + $seed % 3;

	$oracle->same($i, "seed $seed, alone", sub { "$_[0];\n" }, @statements, $count);
	$i = 1 + $i % 3;
	$oracle->same($i, "seed $seed, in blocks", sub { "BEGIN; SAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nCOMMIT;\n" },
		(grep { !/CURSOR|^PREPARE|^CREATE/ } @statements), $count);
}
append_to_file($stop, '');
waitpid $mover, 0;
note($c->sql(1, q{SELECT string_agg(state || ' ' || n, ', ') FROM (SELECT state, count(*) AS n FROM fragaffinity.moves GROUP BY 1) m}));
$c->check_consistent('all fragments are whole');
done_testing();
