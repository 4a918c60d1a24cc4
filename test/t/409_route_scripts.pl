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
# One statement again and again by those to whom policies show, and let change, other rows.
delete $oracle->{verbosity};
$c->sql($_, 'CREATE ROLE a LOGIN; CREATE ROLE b LOGIN; CREATE TABLE member (login name, n int); GRANT SELECT ON member TO PUBLIC;
	INSERT INTO member SELECT $$b$$, i FROM generate_series(0, 50, 2) i') for 1 .. 3;
ok($c->poll($_, q{SELECT count(*) FROM pg_user_mappings WHERE usename IN ('a', 'b')}, '4'), "node $_ knows them at the others") for 1 .. 3;
for my $table (map { ($_, s/^d_/p_/r) } @tables)
{
	$c->sql(1, $_) for "GRANT ALL ON $table TO a, b", "ALTER TABLE $table ENABLE ROW LEVEL SECURITY",
	  "CREATE POLICY seen ON $table FOR SELECT TO a USING (coalesce(n, 4) % 7 <> coalesce(nullif(current_setting('app.hidden', true), ''), '5')::int)",
	  "CREATE POLICY changed ON $table FOR UPDATE TO a USING (n IS NOT NULL) WITH CHECK (n < 40)",
	  "CREATE POLICY made ON $table FOR INSERT TO a WITH CHECK (n IS DISTINCT FROM 13)",
	  "CREATE POLICY gone ON $table FOR DELETE TO a USING (n > 5)",
	  "CREATE POLICY others ON $table TO b USING (v IS DISTINCT FROM 'v3') WITH CHECK (coalesce(m, 1) < 100)",
	  "CREATE POLICY members ON $table FOR SELECT TO b USING (n IN (SELECT x.n FROM member x WHERE x.login = current_user))",
	  "CREATE POLICY all_but ON $table AS RESTRICTIVE USING (j IS NULL OR NOT j @> '{\"a\": 3}')";
}
$oracle->{head} .= "SET ROLE a;\n";
for my $seed (@seeds)
{
	my $random = RandomScripts->new($seed + 2000000, qw(a b));
	local $random->{prefix} = 'd_';

	$oracle->same(1 + $seed % 3, "seed $seed, roles", sub { "$_[0];\n" }, map { $random->repeated } 1 .. $n);
}
done_testing();
