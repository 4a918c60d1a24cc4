--
-- report(): its structure and what it refuses.  Nothing moves here: history
-- of one past day is written by hand, so that the page is the same every
-- time, and never committed, so that no worker meets it.
--
SET client_min_messages = warning;
CREATE EXTENSION fragaffinity CASCADE;
RESET client_min_messages;
SET timezone = 'UTC';

CREATE FUNCTION page() RETURNS text LANGUAGE sql AS $$
	SELECT fragaffinity.report('2024-03-01 00:00', '2024-03-02 00:00')
$$;
-- sections in the order of the page
CREATE FUNCTION sections() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT m[1] FROM regexp_matches(page(), '<section id="(\w+)">', 'g') m
$$;

-- ranges that make no sense
SELECT fragaffinity.report('2024-03-02', '2024-03-01');
SELECT fragaffinity.report('2024-03-01', '2024-03-01');
SELECT fragaffinity.report('-infinity', '2024-03-01');
SELECT fragaffinity.report('2024-03-01', NULL);

-- an empty database says so
SELECT page() LIKE '%belongs to no cluster%' AS no_cluster,
	   page() LIKE '%<h2>No history</h2>%' AS no_history,
	   fragaffinity.report() LIKE '<!DOCTYPE html>%</html>_' AS page_of_today;
SELECT * FROM sections();

-- two nodes, one table, names that need escaping
BEGIN;
INSERT INTO fragaffinity.node (node, name, host, port, dbname, region)
VALUES (1, 'east <"&''>', 'h1', 5432, 'd', 'r1'),
	   (2, 'west' || E'\t' || '</svg>', 'h2', 5432, 'd', NULL);
INSERT INTO fragaffinity.local_node VALUES (true, 1, 1, gen_random_uuid());
CREATE TABLE "a<b>&'c'" (i int);
INSERT INTO fragaffinity.distributed_table (table_id, rel, key, colocation, placement, definition)
VALUES (1, '"a<b>&''c''"', 'i', 1, 'balanced', '{}');
INSERT INTO fragaffinity.fragment (fragment, table_id, bucket, leaf, owner, home)
VALUES (1, 1, 'pg_class', 'pg_class', 1, 'pg_class'), (2, 1, 'pg_class', 'pg_proc', 2, 'pg_class');
SELECT page() LIKE '%<h2>No history</h2>%' AS still_no_history;

-- fragment 1 is wanted by west from noon on, and moves at 13:00
INSERT INTO fragaffinity.history (step, width, node, fragment, calls, remote_calls,
	rows_read, rows_written, elapsed_ms, remote_elapsed_ms)
SELECT '2024-03-01'::timestamptz + h * '1 h'::interval, '1 h',
	   CASE WHEN h < 12 THEN 1 ELSE 2 END, 1, 100,
	   CASE h WHEN 12 THEN 100 ELSE 0 END, 100, 0,
	   CASE h WHEN 12 THEN 1000 ELSE 10 END, CASE h WHEN 12 THEN 1000 ELSE 0 END
FROM generate_series(0, 23) h;
INSERT INTO fragaffinity.history_step (step, node)
SELECT '2024-03-01'::timestamptz + h * '1 h'::interval, n
FROM generate_series(0, 23) h, generate_series(1, 2) n;
INSERT INTO fragaffinity.move (move, fragment, source, destination, trigger, path, transport,
	state, bytes, pause_ms, lead_ms, requested, started, finished, reason)
VALUES (1, 1, 1, 2, 'predictive', 'logical', 'stream', 'done', 8192, 3.5, 60000,
		'2024-03-01 12:59', '2024-03-01 12:59', '2024-03-01 13:00', 'because <west> "wants" it'),
	   (2, 2, 2, 1, 'manual', 'logical', 'stream', 'failed', 0, NULL, NULL,
		'2024-03-01 14:00', '2024-03-01 14:00', '2024-03-01 14:01', NULL);
UPDATE fragaffinity.fragment SET owner = 2 WHERE fragment = 1;
INSERT INTO fragaffinity.prediction_history (step, width, fragment, node, horizon, expected_rate, affinity)
SELECT '2024-03-01'::timestamptz + h * '1 h'::interval, '1 h', 1, n, 2, 50, 0.5
FROM generate_series(0, 23) h, generate_series(1, 2) n;
INSERT INTO fragaffinity.prediction_score (scored_at, horizon, model, accesses, log_loss, brier, top1, bins)
SELECT '2024-03-01'::timestamptz + h * '1 h'::interval, 2, m, 100, l, 0.1, 0.9,
	   '[{"n": 10, "p": 1, "hit": 2}, {"n": 0, "p": 0, "hit": 0}, {"n": 10, "p": 9, "hit": 8}]'
FROM generate_series(1, 23) h, (VALUES ('static', 0.8), ('mixture', 0.2)) m (m, l);

SELECT * FROM sections();
SELECT regexp_replace(m[1], '&#160;', ' ', 'g') AS tile,
	   regexp_replace(m[2], '&#160;', ' ', 'g') AS value,
	   regexp_replace(m[3], '&#160;', ' ', 'g') AS note
FROM regexp_matches(page(), '<div class="tile"><span class="what">([^<]*)</span><b>([^<]*)</b><span>([^<]*)</span>', 'g') m;

-- half the cells belong to either node, one panel a node
SELECT count(*) AS cells FROM regexp_matches(page(), '<path class="h7"', 'g');
SELECT count(*) AS charts FROM regexp_matches(page(), '<svg viewBox="[^"]*" role="img"', 'g');
-- forecast and actual: one figure for the one busy fragment, two dashed lines
SELECT count(*) AS dashed FROM regexp_matches(page(), 'class="ln dash n[12]" d="M', 'g');
-- one arrow that arrives, one that does not
SELECT count(*) FILTER (WHERE m[1] LIKE 'd1" d%') AS arrived,
	   count(*) FILTER (WHERE m[1] LIKE 'bad" d%') AS failed
FROM regexp_matches(page(), '<g><path class="mv [^>]*>(?:<path class="([^>]*))', 'g') m;
-- three calibrated bins less the empty one
SELECT count(*) AS calibrated FROM regexp_matches(page(), '<circle class="a1" cx="[0-9.]*" cy="[0-9.]*" r="[0-9.]*"><title>predicted', 'g');
SELECT page() LIKE '%&#8722;75.0&#160;\%%' AS log_loss_against_static;

-- nothing a user named is markup
SELECT page() ~ '<b>&|west\t|</svg></svg>|<west>' AS unescaped,
	   page() LIKE '%east &lt;&quot;&amp;&#39;&gt;%' AS node_escaped,
	   page() LIKE '%because &lt;west&gt; &quot;wants&quot; it%' AS reason_escaped;
SELECT page() ~ '[^\x01-\x7f]' AS beyond_ascii, page() ~* '<script|https?://' AS script_or_link;
SELECT length(page()) < 200000 AS small;
-- a client's settings change nothing
SELECT page() AS usual \gset
SET extra_float_digits = -15;
SET datestyle = German;
SET intervalstyle = sql_standard;
SELECT page() = :'usual' AS same;
RESET extra_float_digits;
RESET datestyle;
RESET intervalstyle;

-- a coordinator elsewhere is named
UPDATE fragaffinity.local_node SET coordinator = 2;
SELECT page() LIKE '%keeps its own recent history only%' AS told;

ROLLBACK;

-- monitoring roles may read it, others not
CREATE ROLE regress_fa_monitor IN ROLE pg_monitor;
CREATE ROLE regress_fa_nobody;
GRANT USAGE ON SCHEMA fragaffinity TO regress_fa_nobody;
SET ROLE regress_fa_monitor;
SELECT fragaffinity.report('2024-03-01', '2024-03-02') LIKE '%</html>_' AS allowed;
SET ROLE regress_fa_nobody;
SELECT fragaffinity.report('2024-03-01', '2024-03-02');
RESET ROLE;

DROP FUNCTION sections(), page();
DROP EXTENSION fragaffinity;
REVOKE USAGE ON SCHEMA fragaffinity FROM regress_fa_nobody;
DROP ROLE regress_fa_monitor, regress_fa_nobody;
