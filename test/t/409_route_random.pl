# Random statements on distributed tables answer as on plain ones, from every
# node, alone and in blocks.  FA_SEEDS gives other seeds, FA_STATEMENTS a number.
use strict;
use warnings;
use FragAffinity;
use RandomSql;
use SameAnswers;
use Test::More;

my @seeds = split ' ', $ENV{FA_SEEDS} // '1 2';
my $n = $ENV{FA_STATEMENTS} // 60;
my $c = FragAffinity->new(nodes => 3);
$c->sql($_, 'CREATE DOMAIN small AS int CHECK (VALUE < 100000)') for 1 .. 3;
$c->sql(1, join '', RandomSql::tables('d_'), RandomSql::tables('p_'));
my ($first, @others) = RandomSql::names('d_');
$c->sql(1, "SELECT fragaffinity.distribute_table('$_', 'k', fragments => 6)") for $first, @others;

my %twin = map { $_ => s/^d_/p_/r } $first, @others;
my $oracle = SameAnswers->new($c, \%twin, join('', RandomSql::rows('d_')) . "SET timezone = 'UTC';\n");
my $count = join "\n", map { "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $_ x;" } $first, @others;
for my $seed (@seeds)
{
	my $random = RandomSql->new($seed);
	my @statements = map { $random->statement } 1 .. $n;
	my $i = 1 + $seed % 3;

	$oracle->same($i, "seed $seed, alone", sub { "$_[0];\n" }, @statements, $count);
	$i = 1 + $i % 3;
	$oracle->same($i, "seed $seed, in blocks", sub { "BEGIN; SAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nCOMMIT;\n" },
		(grep { !/CURSOR|^PREPARE|^CREATE/ } @statements), $count);
	$i = 1 + $i % 3;
	$oracle->same($i, "seed $seed, repeatable read", sub { "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$_[0];\nCOMMIT;\n" }, @statements, $count);
}
done_testing();
