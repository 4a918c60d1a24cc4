# A move by rows writes them at the new owner again: what the table's owner has
# written, checks, generated columns, functions in indexes and types, runs as him
# there, and changes no setting of the mover.
use strict;
use warnings;
use FragAffinity;
use Test::More;

$ENV{FA_MOVE_PATH} = 'logical';
my $c = FragAffinity->new(nodes => 2);

$c->sql($_, q{
	CREATE ROLE boss;
	GRANT CREATE ON SCHEMA public TO boss;
	CREATE SCHEMA trap;
	GRANT USAGE ON SCHEMA trap TO boss;
	CREATE FUNCTION as_boss(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		IF current_user <> 'boss' OR current_setting('search_path') ~ 'trap' THEN
			RAISE EXCEPTION 'runs as %, path %', current_user, current_setting('search_path');
		END IF;
		IF 'client backend' <> (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) THEN
			PERFORM set_config('search_path', 'trap', false);
		END IF;
		RETURN n; END $$;
	CREATE DOMAIN his AS int CHECK (public.as_boss(VALUE) > 0)}) for 1, 2;
$c->sql(1, q{
	CREATE TABLE o (id int PRIMARY KEY, n int CHECK (public.as_boss(n) > 0), d his,
		m int GENERATED ALWAYS AS (public.as_boss(n)) STORED);
	ALTER TABLE o OWNER TO boss;
	SET ROLE boss;
	CREATE INDEX ON o (public.as_boss(n)) WHERE public.as_boss(n) > 3;
	INSERT INTO o SELECT g, g, g FROM generate_series(1, 300) g;
	RESET ROLE;
	SELECT fragaffinity.distribute_table('o', 'id', 1, 'n1')});
my $f = $c->fragment('o');

# with changes to apply after the copy
$c->hold(2, 'move_copied');
$c->sql(1, "SELECT fragaffinity.move_fragment($f, 'n2', wait => false)");
$c->wait_held(2, 'move_copied');
$c->sql(1, q{SET ROLE boss; INSERT INTO o VALUES (301, 301, 301);
	UPDATE o SET n = 1000, d = 1000 WHERE id = 7; DELETE FROM o WHERE id = 8});
$c->release(2);
$c->poll(1, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $f", 'n2')
  or diag($c->sql(1, 'SELECT state, error FROM fragaffinity.moves'));
is($c->owner($f), 'n2', 'the fragment moves');
is($c->sql(2, 'SELECT count(*), sum(n), sum(n - m), sum(n - d) FROM o'),
	join('|', 300, 300 * 301 / 2 + 301 - 7 + 1000 - 8, 0, 0), 'with all rows and changes');
$c->check_consistent('at the end');
done_testing();
