# A prepared statement's kept plan is started with its values in its scan keys, and is
# then as it was: for EXPLAIN, for other executions at the same time, for the recheck
# of a row that was changed meanwhile, and after a start that failed.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 1);
$c->sql(1, q{
	CREATE TABLE t (k int, s text, n int NOT NULL DEFAULT 0, PRIMARY KEY (k, s));
	INSERT INTO t SELECT i, 's' || i % 3 FROM generate_series(1, 3000) i;
	INSERT INTO t VALUES (1, repeat('long', 100));
	SELECT fragaffinity.distribute_table('t', 'k', fragments => 2);
	ANALYZE t; CREATE ROLE nobody});
# the first: all keys of the same fragment
my @near = split /\n/, $c->sql(1, q{SELECT k FROM t JOIN (SELECT fragaffinity.bucket_of('t', 1) AS first) f
	ON fragaffinity.bucket_of('t', k) = first WHERE length(s) = 2 ORDER BY k LIMIT 5});
my $session = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart();
sub answers
{
	my ($statements, $expected, $name) = @_;
	is($session->query($statements), $expected, $name);
	is($session->{stderr}, '', "$name: no error");
	$session->{stderr} = '';
}

$session->query_safe(q{SET plan_cache_mode = force_generic_plan;
	PREPARE reads (int, text) AS SELECT k, s FROM t WHERE k = $1 AND s = $2;
	PREPARE keys (int, varchar) AS SELECT k FROM t WHERE k = $1 AND s = $2;
	PREPARE changes (int, text) AS UPDATE t SET n = n + 1 WHERE k = $1 AND s = $2 RETURNING n});
for my $round (1 .. 3)
{
	for my $k (@near)
	{
		my $s = 's' . $k % 3;
		answers("EXECUTE reads ($k, '$s'); EXECUTE keys ($k, '$s'); EXECUTE changes ($k, '$s')", "$k|$s\n$k\n$round", "$k, round $round");
		answers("EXECUTE reads ($k, NULL); EXECUTE keys ($k, 'none'); EXECUTE changes ($k, NULL)", '', "$k, no row");
	}
}
answers("EXECUTE reads (1, repeat('long', 100))", '1|' . 'long' x 100, 'a long key');

# The plan as EXPLAIN shows it: with its parameters.
my $cond = qr/Index Cond: \(\(k = \$1\) AND \(s = (\$2|\(\$2\)::text)\)\)/;
for my $statement ('reads', 'keys', 'changes')
{
	for my $explain ('EXPLAIN (COSTS OFF)', 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)')
	{
		like($session->query_safe("$explain EXECUTE $statement (1, 's1')"), $cond, "$explain of $statement");
	}
	$session->query("SET ROLE nobody; EXECUTE $statement (1, 's1'); RESET ROLE");
	like($session->{stderr}, qr/permission denied for table t/, "$statement by who may not");
	$session->{stderr} = '';
	like($session->query_safe("EXPLAIN (COSTS OFF) EXECUTE $statement (1, 's1')"), $cond, 'and then by who may');
}

# Several executions of one plan at a time.
$session->query_safe(q{CREATE FUNCTION nested(keys int[]) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r record; found text := ''; BEGIN
		IF keys = '{}' THEN RETURN ''; END IF;
		FOR r IN SELECT k, s FROM t WHERE k = keys[1] AND s = 's' || keys[1] % 3 LOOP
			found := r.k || ' ' || nested(keys[2:]);
		END LOOP;
		RETURN found;
	END $$;
	CREATE FUNCTION stored(a int, b text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r text; BEGIN
		SELECT k || s INTO r FROM t WHERE k = a AND s = b;
		RETURN r;
	END $$});
my $list = join ',', @near;
answers("SELECT nested('{$list}')", join('', map { "$_ " } @near), "nested, round $_") for 1 .. 8;
answers("SELECT count(*) FROM t WHERE k IN ($list) AND stored(k, s) = k || s", 6, "keys as they are stored, round $_") for 1 .. 3;

# One that is executed while its plan is made: there is one plan of it, which goes when
# the leaf changes.
my $near = $near[0];
my $leaf = $c->sql(1, "SELECT tableoid::regclass FROM t WHERE k = $near LIMIT 1");
$session->query_safe(qq{SET my.again = 'no';
	CREATE FUNCTION again() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN
		FOR i IN 1 .. 3 LOOP EXECUTE 'EXECUTE by_itself ($near)'; END LOOP;
	END \$\$;
	CREATE FUNCTION same(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN
		IF current_setting('my.again') = 'yes' THEN
			PERFORM set_config('my.again', 'no', false), again();
		END IF;
		RETURN \$1;
	END \$\$;
	PREPARE by_itself (int) AS SELECT k, same(5) FROM t WHERE k = \$1 LIMIT 1});
answers("EXECUTE by_itself ($near)", "$near|5", 'for the first time');
answers("SET my.again = 'yes'; EXECUTE by_itself ($near); SHOW my.again", "$near|5\nno", 'while it is planned');
$session->query_safe("REINDEX TABLE CONCURRENTLY $leaf");
answers("EXECUTE by_itself ($near)", "$near|5", "with other indexes, round $_") for 1 .. 2;

# A row whose key is changed by another session while the statement waits for it.
my $other = $c->node(1)->background_psql('postgres', on_error_stop => 1);
for my $committed (1, 0)
{
	$other->query_safe("BEGIN; UPDATE t SET s = 'other', n = 100 WHERE k = $near[1] AND s = 's' || k % 3");
	$session->{stdin} .= "\\unset QUIET\nEXECUTE changes ($near[1], 's" . $near[1] % 3 . "');\n\\echo done\n";
	@$session{qw(stdout stderr)} = ('', '');
	$session->{run}->pump_nb;
	ok($c->poll(1, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'EXECUTE changes%'}), 'waits for the row');
	$other->query_safe($committed ? 'COMMIT' : 'ROLLBACK');
	$session->{run}->pump until $session->{stdout} =~ /^done$/m;
	like($session->{stdout}, $committed ? qr/^UPDATE 0$/m : qr/^UPDATE 1$/m, $committed ? 'which is another one by now' : 'which has stayed as it was');
	$other->query_safe("UPDATE t SET s = 's' || k % 3 WHERE s = 'other'");
}
$_->quit for $session, $other;
# each once in three rounds, one by EXPLAIN ANALYZE; the last one began anew at 100
is($c->sql(1, 'SELECT sum(n) FROM t'), 3 * (@near - 1) + 1 + 101, 'every change was made once');
done_testing();
