--
-- configure(), the view settings, and server variables
--
SET client_min_messages = warning;
CREATE EXTENSION fragaffinity CASCADE;

-- every setting has a value, a default and a description
SELECT name FROM fragaffinity.settings
WHERE value IS NULL OR default_value IS NULL OR coalesce(description, '') = '' OR changed;
SELECT count(*) > 5 AS many, count(DISTINCT name) = count(*) AS once FROM fragaffinity.settings;

SELECT fragaffinity.configure('fragment_size', '64MB');
SELECT name, value, default_value, changed FROM fragaffinity.settings WHERE changed;
SELECT fragaffinity.configure('fragment_size', '1GB');
SELECT name, value, default_value, changed FROM fragaffinity.settings WHERE changed;
SELECT fragaffinity.configure('fragment_size', NULL);
SELECT name, value, default_value, changed FROM fragaffinity.settings WHERE changed;

-- refused, and nothing changes
SELECT fragaffinity.configure('fragment_siez', '1GB');
\echo :SQLSTATE
SELECT fragaffinity.configure('', '1');
\echo :SQLSTATE
SELECT fragaffinity.configure(NULL, '1');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', 'big');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', '-1MB');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', '');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', 'NaN');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', '1e400');
\echo :SQLSTATE
SELECT fragaffinity.configure('history_interval', '5 parsecs');
\echo :SQLSTATE
SELECT fragaffinity.configure('history_interval', '0');
\echo :SQLSTATE
SELECT fragaffinity.configure('move_window', '22:00');
SELECT fragaffinity.configure('move_window', '22:00-25:00');
SELECT fragaffinity.configure('move_window', '08:00-08:00');
SELECT fragaffinity.configure('move_window', '22:00-06:00,');
SELECT fragaffinity.configure('move_window', '22:00-06:00, 12:30 - 13:30');
SELECT value FROM fragaffinity.settings WHERE name = 'move_window';
SELECT fragaffinity.configure('move_window', 'always');
SELECT fragaffinity.configure('move_window', NULL);
SELECT fragaffinity.configure('cutover_attempts', '1.5');
\echo :SQLSTATE
SELECT fragaffinity.configure('mode', 'automatic');
\echo :SQLSTATE
SELECT fragaffinity.configure('history_interval', '10s', 'pg_class');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', '1GB', 'pg_class');
\echo :SQLSTATE
SELECT fragaffinity.configure('fragment_size', '1GB', 'no_such_table');
\echo :SQLSTATE
SELECT count(*) FROM fragaffinity.settings WHERE changed;

-- a change that is rolled back has not happened
BEGIN;
SELECT fragaffinity.configure('fragment_size', '64MB');
ROLLBACK;
SELECT count(*) FROM fragaffinity.settings WHERE changed;

-- server variables
SHOW fragaffinity.capture;
SHOW fragaffinity.routing;
SET fragaffinity.capture = off;
SET fragaffinity.capture = maybe;
SET fragaffinity.origin = 3;
SET fragaffinity.max_movers = 3;
SET fragaffinity.no_such_variable = 3;
CREATE ROLE regress_fa_user;
SET ROLE regress_fa_user;
SET fragaffinity.capture = on;
SET fragaffinity.maintenance = on;
SET fragaffinity.stop_point = 'x';
RESET ROLE;
DROP ROLE regress_fa_user;

DROP EXTENSION fragaffinity;
DROP EXTENSION postgres_fdw;
DROP SCHEMA fragaffinity;
