# What clients do around statements is as on plain tables, too: COPY of random rows, one
# statement again and again while something changes between, PL/pgSQL of several steps.
# FA_SEEDS gives other seeds, FA_STATEMENTS a number.
use strict;
use warnings;
use FragAffinity;
use RandomScripts;
use SameAnswers;
use Test::More;

my @seeds = split ' ', $ENV{FA_SEEDS} // '1 2';
my $n = $ENV{FA_STATEMENTS} // 15;
my $c = FragAffinity->new(nodes => 3);
$c->sql($_, RandomSql::types()) for 1 .. 3;
# errors name the CHECK
$c->sql(1, join '', map { s/CHECK/CONSTRAINT n_check CHECK/r } RandomSql::tables('d_'), RandomSql::tables('p_'));
my @tables = RandomSql::names('d_');
$c->sql(1, "SELECT fragaffinity.distribute_table('$_', 'k', fragments => 6)") for @tables;

my $oracle = SameAnswers->new($c, { map { $_ => s/^d_/p_/r } @tables }, join('', RandomSql::rows('d_')) . "SET timezone = 'UTC';\n");
my $count = join "\n", map { "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $_ x;" } @tables;
for my $seed (@seeds)
{
	my $random = RandomScripts->new($seed);
	my $i = 1 + $seed % 3;
	my @scripts = map { $random->statement } 1 .. $n;

	$oracle->same($i, "seed $seed", sub { "$_[0];\n$count\n" }, @scripts);
}
# COPY says what is wrong, and in which words.
$oracle->{verbosity} = 'terse';
for my $seed (@seeds)
{
	my $random = RandomScripts->new($seed + 1000000);
	local $random->{prefix} = 'd_';

	$oracle->same(1 + $seed % 3, "seed $seed, COPY", sub { "$_[0];\n" }, map { $random->copied } 1 .. $n);
}
done_testing();
