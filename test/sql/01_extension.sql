--
-- CREATE and DROP EXTENSION; who may do what
--
SET client_min_messages = warning;
CREATE EXTENSION fragaffinity CASCADE;
RESET client_min_messages;

SELECT extname, extrelocatable, nspname
FROM pg_extension e, pg_namespace n
WHERE n.oid = extnamespace AND extname IN ('fragaffinity', 'postgres_fdw')
ORDER BY extname;

-- the schema is the extension's own
CREATE EXTENSION fragaffinity SCHEMA public;

-- PUBLIC may execute only what merely tells
SELECT p.oid::regprocedure AS open_to_public
FROM pg_proc p
WHERE p.pronamespace = 'fragaffinity'::regnamespace
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
              WHERE grantee = 0 AND privilege_type = 'EXECUTE')
ORDER BY 1::text;

-- no table or view is open to PUBLIC
SELECT c.oid::regclass AS open_to_public
FROM pg_class c, aclexplode(c.relacl)
WHERE c.relnamespace = 'fragaffinity'::regnamespace AND grantee = 0
ORDER BY 1::text;

-- every view is readable for pg_monitor, no table is
SELECT c.oid::regclass AS wrong
FROM pg_class c
WHERE c.relnamespace = 'fragaffinity'::regnamespace AND c.relkind IN ('r', 'v', 'p')
  AND has_table_privilege('pg_monitor', c.oid, 'SELECT') <> (c.relkind = 'v')
ORDER BY 1::text;

-- functions in SQL and PL languages have a fixed search_path
SELECT p.oid::regprocedure AS without_search_path
FROM pg_proc p, pg_language l
WHERE p.pronamespace = 'fragaffinity'::regnamespace AND l.oid = p.prolang
  AND l.lanname <> 'c' AND p.prokind <> 'p'
  AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)
ORDER BY 1::text;

-- an ordinary role reads and does nothing; a monitor reads
CREATE ROLE regress_fa_user;
CREATE ROLE regress_fa_monitor IN ROLE pg_monitor;
SET ROLE regress_fa_user;
SELECT count(*) FROM fragaffinity.nodes;
SELECT fragaffinity.add_node('x', '127.0.0.1');
RESET ROLE;
SET ROLE regress_fa_monitor;
SELECT count(*) FROM fragaffinity.nodes;
SELECT fragaffinity.configure('mode', 'observe');
RESET ROLE;

-- before there is a cluster every view is empty, and nothing fails
DO $$
DECLARE
	v regclass;
	n bigint;
BEGIN
	FOR v IN SELECT oid FROM pg_class WHERE relkind = 'v'
			 AND relnamespace = 'fragaffinity'::regnamespace
			 AND relname NOT IN ('settings', 'node_metrics', 'rdma_stats', 'transaction_stats', 'transport_stats') ORDER BY relname
	LOOP
		EXECUTE format('SELECT count(*) FROM %s', v) INTO n;
		IF n > 0 THEN
			RAISE NOTICE '% has % rows', v, n;
		END IF;
	END LOOP;
END $$;

-- dropped, nothing runs and nothing stays but the empty schema
DROP EXTENSION fragaffinity;
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid) AS relations,
       (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid) AS functions,
       (SELECT count(*) FROM pg_type WHERE typnamespace = n.oid) AS types
FROM pg_namespace n WHERE nspname = 'fragaffinity';
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity
							  WHERE backend_type LIKE 'fragaffinity%'
								AND datname = current_database());
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT backend_type FROM pg_stat_activity
WHERE backend_type LIKE 'fragaffinity%' AND datname = current_database();

-- and it can come back
SET client_min_messages = warning;
CREATE EXTENSION fragaffinity CASCADE;
DROP EXTENSION fragaffinity;
DROP EXTENSION postgres_fdw;
DROP SCHEMA fragaffinity;
DROP ROLE regress_fa_user, regress_fa_monitor;
