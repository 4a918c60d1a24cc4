# Statements by way of views, functions, cursors and savepoints are as on plain tables,
# too.  FA_SEEDS gives other seeds, FA_STATEMENTS a number.
use strict;
use warnings;
use FragAffinity;
use RandomObjects;
use SameAnswers;
use Test::More;

my @seeds = split ' ', $ENV{FA_SEEDS} // '3 5 12 16';
my $n = $ENV{FA_STATEMENTS} // 16;
my $c = FragAffinity->new(nodes => 3);
$c->sql($_, RandomSql::types()) for 1 .. 3;
$c->sql(1, join '', RandomSql::tables('d_'), RandomSql::tables('p_'));
my @tables = RandomSql::names('d_');
$c->sql(1, "SELECT fragaffinity.distribute_table('$_', 'k', fragments => 6)") for @tables;
$c->sql($_, 'CREATE ROLE a LOGIN') for 1 .. 3;
ok($c->poll($_, q{SELECT count(*) FROM pg_user_mappings WHERE usename = 'a'}, '2'), "node $_ knows it at the others") for 1 .. 3;
$c->sql(1, "GRANT ALL ON $_ TO a") for map { ($_, s/^d_/p_/r) } @tables;
$c->sql($_, RandomObjects::objects('d_')) for 1 .. 3;
$c->sql(1, RandomObjects::objects('p_'));

my $oracle = SameAnswers->new($c, { map { $_ => s/^d_/p_/r } @tables, RandomObjects::names('d_') }, join('', RandomSql::rows('d_')) . "SET timezone = 'UTC';\n");
my $count = join "\n", map { "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $_ x;" } @tables;
for my $seed (@seeds)
{
	my $random = RandomObjects->new($seed);
	my $i = 1 + $seed % 3;

	$oracle->same($i, "seed $seed", sub { "$_[0];\n" }, (map { $random->statement } 1 .. $n), $count);
}
done_testing();
