# A cursor, EXPLAIN ANALYZE, CREATE TABLE AS, COPY or EXECUTE of a query, or a volatile
# function's statement, that has waited for a cut-over answers in READ COMMITTED as any
# statement does, in both directions.  What would have to read with its caller's
# snapshot fails.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) i;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 1, placement => 'n2');
	SELECT fragaffinity.configure('cutover_wait', '1min'); CREATE TABLE started (move bigint)});
my $fragment = $c->fragment('t', 0);
my $client = $c->node(1)->background_psql('postgres', on_error_stop => 0);
$client->set_query_timer_restart();
$client->query_safe('PREPARE p(int) AS SELECT * FROM t WHERE id = $1; PREPARE u(int) AS UPDATE t SET v = v WHERE id = $1');
my $generic = 'SET plan_cache_mode = force_generic_plan;';

# of functions: a statement, a loop, a cursor, a change
my %body = (
	reads => 'SELECT v INTO r FROM t WHERE id = a;',
	asks => 'r := (SELECT v FROM t WHERE id = a);',
	loops => 'FOR r IN SELECT v FROM t WHERE id = a LOOP NULL; END LOOP;',
	opens => 'OPEN c; FETCH c INTO r; CLOSE c;',
	writes => 'UPDATE t SET v = v WHERE id = a RETURNING v INTO r;');
my @functions = sort keys %body;
for my $name (@functions)
{
	for my $kind ('volatile', $name eq 'writes' ? () : 'stable')
	{
		$c->sql(1, "CREATE FUNCTION ${kind}_$name(a int) RETURNS text LANGUAGE plpgsql $kind AS \$\$
			DECLARE r text; c CURSOR FOR SELECT v FROM t WHERE id = a; BEGIN $body{$name} RETURN 'found ' || r; END \$\$");
		# until it has plans that serve all values
		$client->query_safe("SELECT ${kind}_$name(i) FROM generate_series(1, 10) i");
	}
}
my $serialization = qr/could not serialize access due to a move/;

for my $command ([ 'BEGIN; DECLARE a CURSOR FOR SELECT * FROM t', 'MOVE ALL a; COMMIT', qr/^MOVE 50$/m ],
	[ 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM t', 'SELECT 1', qr/rows=50/ ],
	[ 'CREATE TABLE copied AS SELECT * FROM t', 'SELECT count(*) FROM copied; DROP TABLE copied', qr/^50$/m ],
	[ 'COPY (SELECT count(*) + 1000 FROM t) TO STDOUT', 'SELECT 1', qr/^1050$/m ],
	(map { ([ "$_ EXECUTE p(5) /* t */", 'RESET plan_cache_mode', qr/^5\|v5$/m ],
		[ "$_ EXECUTE u(5) /* t */", 'RESET plan_cache_mode', qr/^UPDATE 1$/m ],
		[ "$_ EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE p(5) /* t */", 'RESET plan_cache_mode', qr/rows=1\b/ ],
		[ "$_ CREATE TABLE copied AS EXECUTE p(5) /* t */", 'RESET plan_cache_mode; SELECT * FROM copied; DROP TABLE copied', qr/^5\|v5$/m ]) } '', $generic),
	(map { [ "SELECT volatile_$_(5) /* t */", 'SELECT 1', qr/^found v5$/m ] } @functions),
	(map { [ "SELECT stable_$_(5) /* t */", 'SELECT 1', $serialization, 'fails' ] } grep { $_ ne 'writes' } @functions))
{
	my ($first, $then, $expected, $fails) = @$command;

	for my $destination (1, 2)
	{
		$c->hold($destination, 'move_fenced');
		$c->sql(1, "INSERT INTO started SELECT fragaffinity.move_fragment($fragment, 'n$destination', wait => false)");
		$c->wait_held($destination, 'move_fenced');
		@$client{qw(stdout stderr)} = ('', '');
		$client->{stdin} .= "\\unset QUIET\n$first;\n$then;\n\\echo done\n";
		$client->{run}->pump_nb;
		ok($c->poll(1, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type IN ('Extension', 'Lock') AND backend_type = 'client backend' AND query ~ ' t(\)|$|;| )'}),
			"waits for the move to n$destination: $first");
		$c->release($destination, 'move_fenced');
		$client->{run}->pump until $client->{stdout} =~ /^done$/m;
		like($client->{stdout} . $client->{stderr}, $expected, 'and answers');
		unlike($client->{stderr}, qr/ERROR/, 'without an error') unless $fails;
		ok($c->poll(1, "SELECT owner = 'n$destination' AND state = 'stable' FROM fragaffinity.fragments WHERE fragment = $fragment"), 'after the move');
		$client->query('ROLLBACK');
	}
}
$client->quit;
done_testing();
