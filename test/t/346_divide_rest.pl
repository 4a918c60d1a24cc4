# A split that fails is not tried again at once, and less and less often.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $rows = 20000;
my $c = FragAffinity->new(nodes => 2);
$c->sql(1, qq{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('min_residency', '500ms');
	SELECT fragaffinity.configure('split_timeout', '1s');
	SELECT fragaffinity.configure('fragment_size', '1MB');
	SELECT fragaffinity.configure('divide_above', '2');
	SELECT fragaffinity.configure('mode', 'observe');
	CREATE TABLE t (id bigint PRIMARY KEY, pad text DEFAULT repeat('p', 200));
	INSERT INTO t SELECT g FROM generate_series(1, $rows) g;
	SELECT fragaffinity.distribute_table('t', 'id', 1, 'n2');
	CREATE TABLE failure (n int, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.failure VALUES (NEW.failures); RETURN NULL; END';
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON fragaffinity.division_failure FOR EACH ROW EXECUTE FUNCTION note()});
my $f = $c->fragment('t');

# With all clients waiting, until the time is up: three times.
$c->hold(2, 'split_locked');
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'auto')});
ok($c->poll(1, 'SELECT max(n) FROM failure', '3'), 'a split fails again and again')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
my ($second, $third) = split /\|/, $c->sql(1, q{SELECT extract(epoch FROM b.at - a.at), extract(epoch FROM c.at - b.at)
	FROM failure a, failure b, failure c WHERE (a.n, b.n, c.n) = (1, 2, 3)});
# the rest, and the second that the split itself may take
cmp_ok($second, '>=', 2.9, "the second time after a rest: $second s");
cmp_ok($third, '>=', 4.9, "the third time after twice that: $third s");
ok($c->poll(1, "SELECT verdict FROM fragaffinity.recommendations WHERE fragment = $f AND trigger = 'split'", 'failed before'),
	'that is the verdict');
like($c->sql(1, "SELECT detail FROM fragaffinity.explain_decision($f) WHERE item = 'split'"),
	qr/^failed before: .* times fragment_size; .* failed 3 times in a row, lastly: .*"split_timeout"; not again before 20\d\d-/, 'and the reason');

# Once it can be done it is, and that is forgotten.
$c->release(2);
ok($c->poll(1, 'SELECT count(*) > 1 FROM fragaffinity.fragment'), 'done in the end')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
ok($c->poll(1, "SELECT count(*) FROM fragaffinity.division_failure WHERE fragment = $f AND failures > 2", '0'), 'and forgotten');
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe')});

# The same for unions.
$c->sql(1, q{SELECT fragaffinity.configure('divide_above', '8');
	SELECT fragaffinity.configure('fragment_size', '4MB');
	SELECT fragaffinity.configure('merge_after', '1s')});
$c->hold(2, 'split_locked');
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'auto')});
ok($c->poll(1, q{SELECT count(*) > 0 FROM fragaffinity.recommendations WHERE trigger = 'merge' AND verdict = 'failed before'
	AND reason ~ 'failed 1 time in a row, lastly: .*; not again before '}), 'a union that failed rests, too')
  or diag($c->sql(1, 'TABLE fragaffinity.recommendations'));
$c->release(2);
$c->sql(1, q{SELECT fragaffinity.configure('mode', 'observe')});
is($c->sql(1, 'SELECT count(*), sum(id) FROM t'), "$rows|" . $rows * ($rows + 1) / 2, 'all rows are there');
$c->sql(1, 'CREATE ROLE nobody_special');
is(($c->fails(1, "SET ROLE nobody_special; SELECT fragaffinity.note_division(1, 'split', 'x')"))[0], '42501', 'not for everybody');
$c->check_consistent('nothing is left over');
done_testing();
