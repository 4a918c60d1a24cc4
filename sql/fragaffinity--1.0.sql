/* sql/fragaffinity--1.0.sql */

\echo Use "CREATE EXTENSION fragaffinity CASCADE" to load this file. \quit

-- ---------------------------------------------------------------------
-- Catalog.  Every node holds the same nodes, tables, fragments and
-- settings; moves and history are each node's own, and collected by the
-- coordinator.
-- ---------------------------------------------------------------------

CREATE TABLE fragaffinity.node (
	node		integer PRIMARY KEY CHECK (node BETWEEN 1 AND 1023),
	name		name NOT NULL UNIQUE,
	host		text NOT NULL,
	port		integer NOT NULL,
	dbname		name NOT NULL,
	region		text,
	capacity	bigint CHECK (capacity > 0),	-- bytes; null: no limit
	state		text NOT NULL DEFAULT 'active'
				CHECK (state IN ('active', 'draining'))
);

-- One row once this database belongs to a cluster: who it is there.
CREATE TABLE fragaffinity.local_node (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	node		integer NOT NULL,
	coordinator	integer NOT NULL,
	cluster		uuid NOT NULL,
	last_node	integer NOT NULL DEFAULT 1	-- on the coordinator: ids given out
);

CREATE TABLE fragaffinity.distributed_table (
	table_id	integer PRIMARY KEY,
	rel			regclass NOT NULL UNIQUE,
	key			name NOT NULL,
	colocation	integer NOT NULL,	-- same group: same hash, same placement
	placement	text NOT NULL,
	definition	jsonb NOT NULL		-- what the leaves and undistribute need
);

CREATE TABLE fragaffinity.fragment (
	fragment	bigint PRIMARY KEY,
	table_id	integer NOT NULL REFERENCES fragaffinity.distributed_table,
	bucket		regclass NOT NULL,
	leaf		regclass NOT NULL UNIQUE,
	key_from	text,				-- null: unbounded
	key_to		text,
	owner		integer NOT NULL REFERENCES fragaffinity.node,
	version		bigint NOT NULL DEFAULT 1,	-- ascends with every move
	-- Transaction on this node after which a snapshot agrees with the leaf:
	-- an older one must not be answered from it.
	changed_xid	xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	bytes		bigint,				-- last known, where it is not local
	-- Bucket as distribute_table made it: the same, until it is split; then
	-- what holds the buckets of all its fragments.
	home		regclass NOT NULL,
	-- when it got these keys, on this node's clock
	made		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
-- Last number that was given, on the coordinator: history still speaks of parts
-- that were merged, and of partitions that are gone.
CREATE SEQUENCE fragaffinity.fragment_number AS bigint MINVALUE 0;
-- Whose partition is gone for good; the worker removes what was recorded of them,
-- and then this.
CREATE TABLE fragaffinity.dropped_fragment (
	fragment	bigint PRIMARY KEY,
	dropped		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX fragment_table_id_idx ON fragaffinity.fragment (table_id);
CREATE INDEX fragment_bucket_idx ON fragaffinity.fragment (bucket);
CREATE INDEX fragment_home_idx ON fragaffinity.fragment (home);

CREATE TABLE fragaffinity.setting (
	name		text NOT NULL,
	table_id	integer NOT NULL DEFAULT 0,	-- 0: the whole cluster
	value		text NOT NULL,
	PRIMARY KEY (name, table_id)
);

-- Remote parts of a cluster transaction commit if and only if its row here
-- is committed.
CREATE TABLE fragaffinity.decision (
	gid			text PRIMARY KEY,
	nodes		integer[] NOT NULL,
	decided		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- Moves, written by the destination; other nodes hold copies.
CREATE SEQUENCE fragaffinity.move_id_seq AS bigint;
CREATE TABLE fragaffinity.move (
	move		bigint PRIMARY KEY,
	fragment	bigint NOT NULL,
	source		integer NOT NULL,
	destination	integer NOT NULL,
	trigger		text NOT NULL
				CHECK (trigger IN ('manual', 'predictive', 'reactive', 'drain',
				 'rebalance')),
	path		text,
	transport	text,
	transport_reason	text,		-- why none that is before it in "transports"
	transport_counters	jsonb,		-- see doc/monitoring.md
	state		text NOT NULL CHECK (state IN
				('planned', 'copying', 'catching up', 'fencing', 'switching',
				 'done', 'failed', 'cancelled')),
	bytes		bigint NOT NULL DEFAULT 0,
	rounds		integer NOT NULL DEFAULT 0,
	pause_ms	double precision,
	lead_ms		double precision,
	requested	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started		timestamptz,
	finished	timestamptz,
	reason		text,
	error		text,
	announced	boolean NOT NULL DEFAULT false,	-- other nodes were told
	expected_benefit	double precision,
	observed_benefit	double precision,
	changed		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX move_fragment_idx ON fragaffinity.move (fragment);
CREATE INDEX move_changed_idx ON fragaffinity.move (changed);
CREATE UNIQUE INDEX move_active_idx ON fragaffinity.move (fragment)
	WHERE state NOT IN ('done', 'failed', 'cancelled');

-- Relations that a move leaves behind or would leave behind if it died:
-- written before the relation is made, in a transaction of its own.
CREATE TABLE fragaffinity.cleanup (
	cleanup		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	move		bigint NOT NULL,
	relation	text NOT NULL,		-- qualified, quoted name
	kind		text NOT NULL CHECK (kind IN ('table', 'publication')),
	fragment	bigint NOT NULL		-- whose; a publication is due when it is unclaimed
);

-- History.  Coordinator: all nodes; others: their own until collected.
CREATE TABLE fragaffinity.history (
	step		timestamptz NOT NULL,	-- start
	width		interval NOT NULL,		-- length; roll-up makes it longer
	node		integer NOT NULL,		-- whose clients
	fragment	bigint NOT NULL,
	calls		bigint NOT NULL,
	remote_calls	bigint NOT NULL,	-- while the fragment was elsewhere
	rows_read	bigint NOT NULL,
	rows_written	bigint NOT NULL,
	elapsed_ms	double precision NOT NULL,
	remote_elapsed_ms	double precision NOT NULL,
	PRIMARY KEY (step, node, fragment)
);

-- Steps of which a node's history is complete; a step that is missing here
-- is unknown, not zero.
CREATE TABLE fragaffinity.history_step (
	step		timestamptz NOT NULL,
	node		integer NOT NULL,
	PRIMARY KEY (node, step)
);

-- Sums over all time since reset_stats(), written along with the history.
CREATE TABLE fragaffinity.access_total (
	node		integer NOT NULL,		-- whose clients
	fragment	bigint NOT NULL,
	calls		bigint NOT NULL,
	remote_calls	bigint NOT NULL,
	rows_read	bigint NOT NULL,
	rows_written	bigint NOT NULL,
	elapsed_ms	double precision NOT NULL,
	remote_elapsed_ms	double precision NOT NULL,
	last_access	timestamptz,
	changed		timestamptz NOT NULL,
	PRIMARY KEY (node, fragment)
);
CREATE INDEX access_total_changed_idx
	ON fragaffinity.access_total (node, changed);

-- Coordinator: sizes of all leaves as their owners gave them last.
CREATE TABLE fragaffinity.fragment_size (
	fragment	bigint PRIMARY KEY,
	bytes		bigint NOT NULL,
	sampled		timestamptz NOT NULL
);

CREATE TABLE fragaffinity.transition (
	node		integer NOT NULL,
	role		name NOT NULL,
	application	text NOT NULL,
	from_fragment	bigint NOT NULL,	-- 0: first of its session
	to_fragment	bigint NOT NULL,
	weight		double precision NOT NULL,	-- decays
	updated		timestamptz NOT NULL,
	PRIMARY KEY (node, role, application, from_fragment, to_fragment)
);
CREATE INDEX transition_updated_idx
	ON fragaffinity.transition (node, updated);

-- Coordinator: fragments of two tables that sessions use together.
CREATE TABLE fragaffinity.co_access_pair (
	fragment	bigint NOT NULL,
	other		bigint NOT NULL,
	share		double precision NOT NULL,	-- of the accesses to either, the smaller
	weight		double precision NOT NULL,	-- times that one followed the other; decays
	found		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	updated		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (fragment, other),
	CHECK (fragment < other)
);

-- Keys that this node's clients asked for, of late.
CREATE UNLOGGED TABLE fragaffinity.key_sample (
	fragment	bigint NOT NULL,
	key			text NOT NULL,
	weight		double precision NOT NULL,	-- accesses that it stands for
	sampled		timestamptz NOT NULL
);
CREATE INDEX key_sample_fragment_idx ON fragaffinity.key_sample (fragment);
CREATE INDEX key_sample_sampled_idx ON fragaffinity.key_sample (sampled);

CREATE TABLE fragaffinity.metric (
	sampled		timestamptz NOT NULL,
	node		integer NOT NULL,
	active		integer NOT NULL,
	idle_in_transaction	integer NOT NULL,
	waiting		integer NOT NULL,
	commits		bigint NOT NULL,		-- since the sample before
	rollbacks	bigint NOT NULL,
	blocks_read	bigint NOT NULL,
	blocks_hit	bigint NOT NULL,
	local_calls	bigint NOT NULL,
	remote_calls	bigint NOT NULL,
	local_ms	double precision NOT NULL,	-- sum of elapsed
	remote_ms	double precision NOT NULL,
	waits		jsonb,					-- "type:event": sessions that wait for it
	PRIMARY KEY (node, sampled)
);

-- Latest forecasts (replaced each step) and the scores of past ones.
CREATE UNLOGGED TABLE fragaffinity.prediction (
	fragment	bigint NOT NULL,
	node		integer NOT NULL,
	horizon		integer NOT NULL,		-- steps
	affinity	double precision NOT NULL,
	access_probability	double precision NOT NULL,
	expected_rate	double precision NOT NULL,	-- accesses per step
	evidence	double precision NOT NULL,
	weights		jsonb NOT NULL,			-- model: weight
	made_at		timestamptz NOT NULL,
	PRIMARY KEY (fragment, node, horizon)
) WITH (fillfactor = 45);

CREATE TABLE fragaffinity.prediction_score (
	scored_at	timestamptz NOT NULL,
	horizon		integer NOT NULL,
	model		text NOT NULL,
	accesses	double precision NOT NULL,
	log_loss	double precision NOT NULL,	-- means over accesses
	brier		double precision NOT NULL,
	top1		double precision NOT NULL,
	rate_msle	double precision,
	-- calibration: [{"n": cells, "p": sum of predicted, "hit": sum of
	-- observed}, ...], one entry for each tenth of probability
	bins		jsonb NOT NULL,
	PRIMARY KEY (scored_at, horizon, model)
);

-- What was forecast for past steps, to be drawn beside what came: kept by
-- placement on the coordinator for the busiest fragments alone (at most 24)
-- and for the horizon that decides moves; removed with the history.
CREATE TABLE fragaffinity.prediction_history (
	step		timestamptz NOT NULL,	-- the step that was forecast
	width		interval NOT NULL,
	fragment	bigint NOT NULL,
	node		integer NOT NULL,
	horizon		integer NOT NULL,		-- steps ahead
	expected_rate	double precision NOT NULL,	-- accesses in the step
	affinity	double precision NOT NULL,
	PRIMARY KEY (step, fragment, node)
);

-- Predictor's saved state; survives a restart.  An empty one: learn from
-- history after last_step.
CREATE TABLE fragaffinity.predictor_state (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	saved		timestamptz NOT NULL,
	last_step	timestamptz NOT NULL,
	width		interval NOT NULL,		-- of a step
	horizons	integer[] NOT NULL,
	nodes		integer[] NOT NULL,		-- dense index -> id
	fragments	bigint[] NOT NULL,
	state		bytea NOT NULL
);

-- What a node's open sessions are expected to access in the step after "step",
-- and what its roles did in "step"; written there, collected with the history
-- and read once.
CREATE UNLOGGED TABLE fragaffinity.session_forecast (
	step		timestamptz NOT NULL,
	node		integer NOT NULL,
	fragment	bigint NOT NULL,
	accesses	double precision NOT NULL,
	PRIMARY KEY (step, node, fragment)
);

CREATE UNLOGGED TABLE fragaffinity.profile_use (
	step		timestamptz NOT NULL,
	node		integer NOT NULL,
	role		name NOT NULL,
	application	text NOT NULL,
	fragment	bigint NOT NULL,
	accesses	double precision NOT NULL,
	arrivals	double precision NOT NULL,	-- sessions that began with it
	PRIMARY KEY (step, node, role, application, fragment)
);

-- What this node has learned of its sessions; survives a restart.
CREATE TABLE fragaffinity.session_state (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	saved		timestamptz NOT NULL,
	fragments	bigint[] NOT NULL,		-- dense index -> id
	state		bytea NOT NULL
);

-- What learning takes of this node's worker.
CREATE UNLOGGED TABLE fragaffinity.learning_state (
	part		text PRIMARY KEY,		-- predictor, sessions
	bytes		bigint NOT NULL,		-- of memory
	step_ms		double precision NOT NULL,	-- of processor, for a step
	share		double precision NOT NULL,	-- of what it could learn from
	updated		timestamptz NOT NULL
);

-- When reset_network() was called here last.
CREATE TABLE fragaffinity.network_reset (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	called		timestamptz NOT NULL
);

-- What people told the predictor; on the coordinator.
CREATE TABLE fragaffinity.hint (
	hint		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind		text NOT NULL
				CHECK (kind IN ('dependency', 'schedule', 'sequence', 'profile')),
	table_id	integer REFERENCES fragaffinity.distributed_table
				ON DELETE CASCADE,	-- dependency: that leads
	to_table	integer REFERENCES fragaffinity.distributed_table
				ON DELETE CASCADE,
	node		integer REFERENCES fragaffinity.node ON DELETE CASCADE,
	role		name,				-- profile; null: any
	application	text,				-- null: any
	key_from	text,				-- schedule; null: all keys
	key_to		text,
	keys		text[],				-- sequence
	fragments	bigint[],			-- schedule: covered; sequence: in turn
	every		interval,			-- schedule; null: once
	starting	timestamptz,
	lasting		interval,
	weight		double precision NOT NULL CHECK (weight > 0 AND weight <= 1),
	created		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- Fragments that the controller leaves where they are; equal on every node.
CREATE TABLE fragaffinity.pin (
	fragment	bigint PRIMARY KEY
);

-- Where the last rebalance wants fragments; on the coordinator.
CREATE TABLE fragaffinity.planned_move (
	fragment	bigint PRIMARY KEY,
	source		integer NOT NULL,
	destination	integer NOT NULL,
	bytes		bigint NOT NULL,
	planned		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	done		timestamptz			-- null: not there yet
);

-- What the controller would do, or why not; the latest step's.
CREATE UNLOGGED TABLE fragaffinity.recommendation (
	fragment	bigint PRIMARY KEY,
	source		integer NOT NULL,
	destination	integer NOT NULL,
	trigger		text NOT NULL,
	affinity	double precision,
	expected_benefit	double precision NOT NULL,	-- ms saved over the horizon
	cost		double precision NOT NULL,			-- ms
	verdict		text NOT NULL,			-- 'move' or what held it back
	reason		text NOT NULL,
	made_at		timestamptz NOT NULL
);

-- What the controller would divide or unite, or why not; the latest look's.
CREATE UNLOGGED TABLE fragaffinity.division (
	fragment	bigint NOT NULL,
	kind		text NOT NULL CHECK (kind IN ('split', 'merge')),
	destination	integer,			-- node that wants the part; null: none
	expected_benefit	double precision NOT NULL,
	cost		double precision NOT NULL,
	verdict		text NOT NULL,		-- the kind, or what held it back
	reason		text NOT NULL,
	made_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (fragment, kind)
);

-- Coordinator: what failed when it was tried last.
CREATE TABLE fragaffinity.division_failure (
	fragment	bigint NOT NULL,
	kind		text NOT NULL CHECK (kind IN ('split', 'merge')),
	failures	integer NOT NULL,	-- in a row
	failed		timestamptz NOT NULL,
	error		text NOT NULL,
	PRIMARY KEY (fragment, kind)
);

-- ---------------------------------------------------------------------
-- Nodes and settings
-- ---------------------------------------------------------------------

CREATE FUNCTION fragaffinity.is_preloaded() RETURNS boolean
AS 'MODULE_PATHNAME', 'fa_sql_is_preloaded' LANGUAGE C STRICT;

-- Tells one database of one server from every other.
CREATE FUNCTION fragaffinity.node_identity() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT system_identifier || ':' ||
		   (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' ||
		   current_setting('port') || ':' ||
		   extract(epoch FROM pg_postmaster_start_time())
	  FROM pg_control_system()
$$;

CREATE FUNCTION fragaffinity.node_health(
	node integer, OUT alive boolean, OUT round_trip_ms double precision,
	OUT last_seen timestamptz)
AS 'MODULE_PATHNAME', 'fa_sql_node_health' LANGUAGE C STRICT VOLATILE;

-- postgres_fdw with notes taken of which peers a transaction has used.
CREATE FUNCTION fragaffinity.fdw_handler() RETURNS fdw_handler
AS 'MODULE_PATHNAME', 'fa_sql_fdw_handler' LANGUAGE C STRICT;
CREATE FUNCTION fragaffinity.fdw_validator(text[], oid) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_fdw_validator' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION fragaffinity.fdw_handler() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.fdw_validator(text[], oid) FROM PUBLIC;
CREATE FOREIGN DATA WRAPPER fragaffinity
	HANDLER fragaffinity.fdw_handler VALIDATOR fragaffinity.fdw_validator;

CREATE FUNCTION fragaffinity.add_node(
	name name, host text, port integer DEFAULT 5432,
	dbname name DEFAULT NULL, region text DEFAULT NULL,
	capacity bigint DEFAULT NULL) RETURNS integer
AS 'MODULE_PATHNAME', 'fa_sql_add_node' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.set_node(
	name name, new_name name DEFAULT NULL, host text DEFAULT NULL,
	port integer DEFAULT NULL, dbname name DEFAULT NULL,
	region text DEFAULT NULL, capacity bigint DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_set_node' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.remove_node(name name, force boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_remove_node' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.leave_cluster(force boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_leave_cluster' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.link_node(node integer) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_link_node' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.relink_node(node integer) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_relink_node' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.unlink_node(node integer) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_unlink_node' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.check_link(node integer, identity text) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_check_link' LANGUAGE C STRICT VOLATILE;

CREATE FUNCTION fragaffinity.configure(
	setting text, value text, rel regclass DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_configure' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.setting_definitions(
	OUT name text, OUT default_value text, OUT per_table boolean,
	OUT description text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_setting_definitions' LANGUAGE C STRICT VOLATILE;

REVOKE ALL ON FUNCTION fragaffinity.add_node(name, text, integer, name, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.set_node(name, name, text, integer, name, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.remove_node(name, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.leave_cluster(boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.link_node(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.relink_node(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.unlink_node(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.check_link(integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.node_identity() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.node_health(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.configure(text, text, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.node_health(integer) TO pg_monitor;

CREATE VIEW fragaffinity.nodes AS
SELECT n.name, n.host, n.port, n.dbname, n.region,
	   CASE WHEN n.node <> l.node AND h.alive IS NULL THEN 'unknown'
			WHEN n.node <> l.node AND NOT h.alive THEN 'down'
			ELSE n.state END AS state,
	   CASE WHEN n.node = l.node THEN 0 ELSE h.round_trip_ms END AS round_trip_ms,
	   CASE WHEN n.node = l.node THEN pg_catalog.now() ELSE h.last_seen END AS last_seen,
	   n.capacity, n.node = l.coordinator AS coordinator,
	   n.node = l.node AS local, n.node
  FROM fragaffinity.node n
 CROSS JOIN fragaffinity.local_node l
 CROSS JOIN LATERAL fragaffinity.node_health(n.node) h;

CREATE VIEW fragaffinity.settings AS
SELECT d.name, NULL::regclass AS table_name,
	   COALESCE(s.value, d.default_value) AS value, d.default_value,
	   s.value IS NOT NULL AS changed, d.description
  FROM fragaffinity.setting_definitions() d
  LEFT JOIN fragaffinity.setting s ON s.name = d.name AND s.table_id = 0
UNION ALL
SELECT d.name, t.rel, s.value, d.default_value, true, d.description
  FROM fragaffinity.setting_definitions() d
  JOIN fragaffinity.setting s ON s.name = d.name
  JOIN fragaffinity.distributed_table t ON t.table_id = s.table_id;

GRANT USAGE ON SCHEMA fragaffinity TO pg_monitor;
GRANT SELECT ON fragaffinity.nodes, fragaffinity.settings TO pg_monitor;

-- ---------------------------------------------------------------------
-- Transactions over several nodes
-- ---------------------------------------------------------------------

CREATE FUNCTION fragaffinity.local_decision(gid text) RETURNS text
AS 'MODULE_PATHNAME', 'fa_sql_local_decision' LANGUAGE C STRICT VOLATILE;

-- With its owner's rights: it asks another node.
CREATE FUNCTION fragaffinity.decision(gid text) RETURNS text
AS 'MODULE_PATHNAME', 'fa_sql_decision' LANGUAGE C STRICT VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

CREATE FUNCTION fragaffinity.resolve_in_doubt(
	gid text, action text, force boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_resolve_in_doubt' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.transaction_counters(
	OUT commits bigint, OUT aborts bigint, OUT parts_left bigint,
	OUT parts_committed_later bigint, OUT parts_rolled_back_later bigint,
	OUT parts_by_hand bigint, OUT parts_forwarded bigint, OUT deadlocks bigint)
AS 'MODULE_PATHNAME', 'fa_sql_transaction_counters' LANGUAGE C STRICT VOLATILE;

-- Sessions that wait for a lock, themselves or in a parallel worker, and since when.
CREATE FUNCTION fragaffinity.lock_waiters(OUT pid integer, OUT wait_start timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_lock_waiters' LANGUAGE C STRICT VOLATILE;

-- Ends a wait that began then (in microseconds, as below) as a deadlock's.
CREATE FUNCTION fragaffinity.end_lock_wait(pid integer, wait_start bigint, detail text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'fa_sql_end_lock_wait' LANGUAGE C STRICT VOLATILE;

-- Sessions that use others at peers, and which: a number for node and process,
-- one for node and role.
CREATE FUNCTION fragaffinity.peer_uses(OUT pid integer, OUT keys bigint[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_peer_uses' LANGUAGE C STRICT VOLATILE;

-- What the search for deadlocks asks of each node: who waits, who may be waited
-- for, who works for whom.  Sessions that postgres_fdw has opened say in their
-- application_name for whom; whom it uses is for the origin to say.
CREATE FUNCTION fragaffinity.open_transactions(
	OUT pid integer, OUT origin_node integer, OUT origin_pid integer,
	OUT xact_start bigint, OUT wait_start bigint, OUT blockers integer[],
	OUT role name, OUT uses bigint[])
RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	WITH waiter AS MATERIALIZED (
		SELECT w.pid, min(w.wait_start) AS wait_start, pg_blocking_pids(w.pid) AS blockers
		  FROM fragaffinity.lock_waiters() w GROUP BY w.pid),
	blocker AS MATERIALIZED (
		SELECT DISTINCT unnest(w.blockers) AS pid FROM waiter w)
	SELECT a.pid, coalesce(o[1]::integer, 0), coalesce(o[2]::integer, 0),
		   (extract(epoch FROM a.xact_start) * 1000000)::bigint,
		   coalesce((extract(epoch FROM w.wait_start) * 1000000)::bigint, 0),
		   coalesce(w.blockers, '{}'), a.usename, coalesce(u.keys, '{}')
	  FROM pg_stat_activity a
	  LEFT JOIN waiter w ON w.pid = a.pid
	  LEFT JOIN fragaffinity.peer_uses() u ON u.pid = a.pid
	  LEFT JOIN LATERAL regexp_match(a.application_name,
			'^fragaffinity:([0-9]{1,4}):([0-9]{1,9})$') o ON true
	 WHERE a.datname = current_database() AND a.xact_start IS NOT NULL
	   AND a.backend_type = 'client backend'
	   AND (w.pid IS NOT NULL OR u.pid IS NOT NULL OR o IS NOT NULL
			OR a.pid IN (SELECT b.pid FROM blocker b))
$$;

REVOKE ALL ON FUNCTION fragaffinity.local_decision(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.decision(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.resolve_in_doubt(text, text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.transaction_counters() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.lock_waiters() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.end_lock_wait(integer, bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.peer_uses() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.open_transactions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.decision(text) TO pg_monitor;
GRANT EXECUTE ON FUNCTION fragaffinity.transaction_counters() TO pg_monitor;

-- Parts on this node that wait for the node where their transaction began; and
-- decisions made here that some node may not have heard of yet.
CREATE VIEW fragaffinity.in_doubt AS
SELECT p.gid, o.name::text AS origin, ARRAY[n.name::text] AS nodes,
	   'prepared'::text AS state, p.prepared AS since,
	   pg_catalog.clock_timestamp() - p.prepared AS age,
	   p.owner::text AS role,
	   CASE WHEN p.prepared > pg_catalog.clock_timestamp() - '1 s'::pg_catalog.interval
			THEN 'undecided' ELSE fragaffinity.decision(p.gid) END AS outcome
  FROM pg_catalog.pg_prepared_xacts p
  JOIN fragaffinity.local_node l ON true
  JOIN fragaffinity.node n ON n.node = l.node
  LEFT JOIN fragaffinity.node o
	ON o.node::text = pg_catalog.split_part(p.gid, ':', 3)
 WHERE p.database = pg_catalog.current_database()
   AND pg_catalog.starts_with(p.gid, 'fragaffinity:')
UNION ALL
SELECT d.gid, n.name::text,
	   ARRAY(SELECT m.name::text FROM fragaffinity.node m
			  WHERE m.node = ANY (d.nodes) ORDER BY m.node),
	   'decided', d.decided, pg_catalog.clock_timestamp() - d.decided, NULL,
	   'commit'
  FROM fragaffinity.decision d
  JOIN fragaffinity.local_node l ON true
  JOIN fragaffinity.node n ON n.node = l.node
 WHERE d.decided < pg_catalog.clock_timestamp() - '10 s'::pg_catalog.interval;

CREATE VIEW fragaffinity.transaction_stats AS
SELECT * FROM fragaffinity.transaction_counters();

GRANT SELECT ON fragaffinity.in_doubt, fragaffinity.transaction_stats TO pg_monitor;

-- ---------------------------------------------------------------------
-- Workers
-- ---------------------------------------------------------------------

CREATE FUNCTION fragaffinity.start_worker() RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_start_worker' LANGUAGE C STRICT VOLATILE;
REVOKE ALL ON FUNCTION fragaffinity.start_worker() FROM PUBLIC;

-- ---------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------

-- What peers ask of each other while a table is distributed, or gets a partition
-- (0: all that it has).
CREATE FUNCTION fragaffinity.create_fragments(table_id integer,
	partition regclass, key name, fragments bigint[], owners integer[],
	schema name, stem text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_create_fragments';
REVOKE ALL ON FUNCTION fragaffinity.create_fragments FROM PUBLIC;

CREATE FUNCTION fragaffinity.create_leaf_indexes(table_id integer,
	partition regclass)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_create_leaf_indexes';
REVOKE ALL ON FUNCTION fragaffinity.create_leaf_indexes FROM PUBLIC;

CREATE FUNCTION fragaffinity.show_unique(root regclass, shown boolean)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_show_unique';
REVOKE ALL ON FUNCTION fragaffinity.show_unique FROM PUBLIC;

CREATE FUNCTION fragaffinity.put_leaves(root regclass, back boolean)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_put_leaves';
REVOKE ALL ON FUNCTION fragaffinity.put_leaves FROM PUBLIC;

CREATE FUNCTION fragaffinity.set_unique(root regclass, "unique" text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_set_unique';
REVOKE ALL ON FUNCTION fragaffinity.set_unique FROM PUBLIC;

CREATE FUNCTION fragaffinity.run_as(role name, statement text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_run_as';
REVOKE ALL ON FUNCTION fragaffinity.run_as FROM PUBLIC;

CREATE FUNCTION fragaffinity.unlink_unique(partition regclass)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_unlink_unique';
REVOKE ALL ON FUNCTION fragaffinity.unlink_unique FROM PUBLIC;

CREATE FUNCTION fragaffinity.analyze_leaves(table_id integer,
	partition regclass)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_analyze_leaves';
REVOKE ALL ON FUNCTION fragaffinity.analyze_leaves FROM PUBLIC;

CREATE FUNCTION fragaffinity.vouch(token text, secret text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_vouch';
REVOKE ALL ON FUNCTION fragaffinity.vouch FROM PUBLIC;

CREATE FUNCTION fragaffinity.heap_wait(bucket oid, exclusive boolean)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_heap_wait';
REVOKE ALL ON FUNCTION fragaffinity.heap_wait FROM PUBLIC;

CREATE FUNCTION fragaffinity.secure_buckets(root regclass)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_secure_buckets';
REVOKE ALL ON FUNCTION fragaffinity.secure_buckets FROM PUBLIC;

CREATE FUNCTION fragaffinity.set_rights(root regclass, statements text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_set_rights';
REVOKE ALL ON FUNCTION fragaffinity.set_rights FROM PUBLIC;

CREATE FUNCTION fragaffinity.distribute_table(rel regclass, key name,
	fragments integer DEFAULT NULL, placement text DEFAULT 'balanced',
	colocate_with regclass DEFAULT NULL)
RETURNS integer LANGUAGE c
AS 'MODULE_PATHNAME', 'fa_sql_distribute_table';
REVOKE ALL ON FUNCTION fragaffinity.distribute_table FROM PUBLIC;

CREATE FUNCTION fragaffinity.undistribute_table(rel regclass)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'fa_sql_undistribute_table';
REVOKE ALL ON FUNCTION fragaffinity.undistribute_table FROM PUBLIC;

CREATE FUNCTION fragaffinity.reshape_bucket(home regclass, pieces text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'fa_sql_reshape_bucket';
REVOKE ALL ON FUNCTION fragaffinity.reshape_bucket FROM PUBLIC;

-- First of n numbers for new fragments; with the cluster's metadata locked.
CREATE FUNCTION fragaffinity.take_fragment_numbers(n bigint) RETURNS bigint
LANGUAGE sql STRICT SET search_path = pg_catalog, pg_temp
AS $$
	SELECT setval('fragaffinity.fragment_number', greatest(s.last_value,
			(SELECT max(f.fragment) FROM fragaffinity.fragment f)) + n) - n + 1
	  FROM fragaffinity.fragment_number s
$$;
REVOKE ALL ON FUNCTION fragaffinity.take_fragment_numbers(bigint) FROM PUBLIC;

-- Of one key: all from there on; of several: each from one to the next.
CREATE FUNCTION fragaffinity.split_fragment(fragment bigint, VARIADIC at text[])
RETURNS bigint[] LANGUAGE c
AS 'MODULE_PATHNAME', 'fa_sql_split_fragment';
REVOKE ALL ON FUNCTION fragaffinity.split_fragment FROM PUBLIC;

CREATE FUNCTION fragaffinity.merge_fragments(fragment bigint, other bigint)
RETURNS bigint LANGUAGE c
AS 'MODULE_PATHNAME', 'fa_sql_merge_fragments';
REVOKE ALL ON FUNCTION fragaffinity.merge_fragments FROM PUBLIC;

-- Remainder of the bucket that holds a key.
CREATE FUNCTION fragaffinity.bucket_of(rel regclass, key anyelement)
RETURNS integer LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'fa_sql_bucket_of';

CREATE VIEW fragaffinity.tables AS
SELECT t.rel AS table_name, t.key, t.placement,
	   f.fragments, f.local_fragments, f.bytes, t.colocation, t.table_id
  FROM fragaffinity.distributed_table t
 CROSS JOIN fragaffinity.local_node l
 CROSS JOIN LATERAL (
	SELECT pg_catalog.count(*) AS fragments,
		   pg_catalog.count(*) FILTER (WHERE f.owner = l.node) AS local_fragments,
		   pg_catalog.sum(CASE WHEN f.owner = l.node
						  THEN pg_catalog.pg_total_relation_size(f.leaf)
						  ELSE COALESCE(s.bytes, f.bytes) END)::bigint AS bytes
	  FROM fragaffinity.fragment f
	  LEFT JOIN fragaffinity.fragment_size s ON s.fragment = f.fragment
	 WHERE f.table_id = t.table_id) f;

CREATE VIEW fragaffinity.fragments AS
SELECT f.fragment, t.rel AS table_name, f.bucket, f.leaf, f.key_from, f.key_to,
	   n.name::text AS owner,
	   CASE WHEN EXISTS (SELECT FROM fragaffinity.move m
						  WHERE m.fragment = f.fragment
							AND m.state NOT IN ('done', 'failed', 'cancelled'))
			  OR EXISTS (SELECT FROM pg_catalog.pg_locks c	-- a mover's claim
						  WHERE c.locktype = 'advisory' AND c.objsubid = 2
							AND c.classid = 'fragaffinity.fragment'::pg_catalog.regclass
							AND c.objid = f.fragment::integer)
			THEN 'moving' ELSE 'stable' END AS state,
	   f.version,
	   CASE WHEN f.owner = l.node
			THEN pg_catalog.pg_total_relation_size(f.leaf)
			ELSE COALESCE(s.bytes, f.bytes) END AS bytes,
	   f.table_id, f.owner AS owner_node, f.owner = l.node AS local,
	   EXISTS (SELECT FROM fragaffinity.pin p
				WHERE p.fragment = f.fragment) AS pinned
  FROM fragaffinity.fragment f
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.node n ON n.node = f.owner
  LEFT JOIN fragaffinity.fragment_size s ON s.fragment = f.fragment
 CROSS JOIN fragaffinity.local_node l;

GRANT SELECT ON fragaffinity.tables, fragaffinity.fragments TO pg_monitor;

-- ---------------------------------------------------------------------
-- Capture
-- ---------------------------------------------------------------------

-- Counted on this node and not in the tables yet.
CREATE FUNCTION fragaffinity.pending_access(
	OUT fragment bigint, OUT calls bigint, OUT remote_calls bigint,
	OUT rows_read bigint, OUT rows_written bigint,
	OUT elapsed_ms double precision, OUT remote_elapsed_ms double precision,
	OUT last_access timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_pending_access' LANGUAGE C STRICT VOLATILE;

-- Events of sessions on this server: how many, and how many were overwritten
-- before they were read (fragaffinity.event_ring_size).
CREATE FUNCTION fragaffinity.event_stats(OUT recorded bigint, OUT lost bigint)
AS 'MODULE_PATHNAME', 'fa_sql_event_stats' LANGUAGE C STRICT VOLATILE;

-- Writes what was counted into the tables; seen by the next statement.
CREATE FUNCTION fragaffinity.flush_stats() RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_flush_stats' LANGUAGE C STRICT VOLATILE;

-- Sets the sums of this node's clients to zero; history stays.
CREATE FUNCTION fragaffinity.reset_stats() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM fragaffinity.flush_stats();
	UPDATE fragaffinity.access_total t
	   SET calls = 0, remote_calls = 0, rows_read = 0, rows_written = 0,
		   elapsed_ms = 0, remote_elapsed_ms = 0, last_access = NULL,
		   changed = clock_timestamp()
	  FROM fragaffinity.local_node l
	 WHERE t.node = l.node;
END
$$;

-- History and transitions of this node from its csvlog or jsonlog; statements
-- are planned, not run.  Returns how many accesses were read.
CREATE FUNCTION fragaffinity.import_log(path text) RETURNS bigint
AS 'MODULE_PATHNAME', 'fa_sql_import_log' LANGUAGE C VOLATILE;

-- Fragments that a statement would touch, by planning it.
CREATE FUNCTION fragaffinity.statement_fragments(statement text)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'fa_sql_statement_fragments' LANGUAGE C STRICT VOLATILE;

REVOKE ALL ON FUNCTION fragaffinity.import_log(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.statement_fragments(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.pending_access() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.event_stats() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.flush_stats() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.reset_stats() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.pending_access() TO pg_monitor;
GRANT EXECUTE ON FUNCTION fragaffinity.event_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION fragaffinity.flush_stats() TO pg_monitor;

-- Own node: up to now; others, on the coordinator: as collected last.
CREATE VIEW fragaffinity.access_stats AS
SELECT t.rel AS table_name, a.fragment, n.name::text AS node,
	   a.calls, a.remote_calls, a.rows_read, a.rows_written,
	   a.elapsed_ms / nullif(a.calls, 0) AS mean_ms,
	   (a.elapsed_ms - a.remote_elapsed_ms)
		/ nullif(a.calls - a.remote_calls, 0) AS local_mean_ms,
	   a.remote_elapsed_ms / nullif(a.remote_calls, 0) AS remote_mean_ms,
	   a.last_access, f.bucket, o.name::text AS owner
  FROM (SELECT u.node, u.fragment,
			   pg_catalog.sum(u.calls)::bigint AS calls,
			   pg_catalog.sum(u.remote_calls)::bigint AS remote_calls,
			   pg_catalog.sum(u.rows_read)::bigint AS rows_read,
			   pg_catalog.sum(u.rows_written)::bigint AS rows_written,
			   pg_catalog.sum(u.elapsed_ms) AS elapsed_ms,
			   pg_catalog.sum(u.remote_elapsed_ms) AS remote_elapsed_ms,
			   pg_catalog.max(u.last_access) AS last_access
		  FROM (SELECT node, fragment, calls, remote_calls, rows_read,
					   rows_written, elapsed_ms, remote_elapsed_ms, last_access
				  FROM fragaffinity.access_total
				 UNION ALL
				SELECT l.node, p.fragment, p.calls, p.remote_calls, p.rows_read,
					   p.rows_written, p.elapsed_ms, p.remote_elapsed_ms,
					   p.last_access
				  FROM fragaffinity.local_node l
				 CROSS JOIN fragaffinity.pending_access() p) u
		 GROUP BY u.node, u.fragment) a
  JOIN fragaffinity.fragment f ON f.fragment = a.fragment
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.node n ON n.node = a.node
  JOIN fragaffinity.node o ON o.node = f.owner
 WHERE a.calls > 0;

-- complete: the step is over and was watched from start to end; of a coarser
-- row, which parts were is not kept (null).
CREATE VIEW fragaffinity.access_history AS
SELECT h.step, h.width, t.rel AS table_name, h.fragment,
	   COALESCE(n.name::text, h.node::text) AS node,
	   h.calls, h.remote_calls, h.rows_read, h.rows_written,
	   h.elapsed_ms / nullif(h.calls, 0) AS mean_ms,
	   h.remote_elapsed_ms / nullif(h.remote_calls, 0) AS remote_mean_ms,
	   CASE WHEN s.node IS NOT NULL THEN true
			WHEN h.step >= (SELECT pg_catalog.min(m.step)
							  FROM fragaffinity.history_step m
							 WHERE m.node = h.node) THEN false
	   END AS complete
  FROM fragaffinity.history h
  LEFT JOIN fragaffinity.history_step s ON s.step = h.step AND s.node = h.node
  LEFT JOIN fragaffinity.fragment f ON f.fragment = h.fragment
  LEFT JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  LEFT JOIN fragaffinity.node n ON n.node = h.node;

-- Weights as of now; from_fragment is null where a session arrives.
CREATE VIEW fragaffinity.transitions AS
SELECT n.name::text AS node, x.role, x.application,
	   nullif(x.from_fragment, 0) AS from_fragment, x.to_fragment,
	   x.weight * pg_catalog.power(0.5::double precision,
		GREATEST(0, extract(epoch FROM pg_catalog.now() - x.updated)
			* 1000 / c.half_life_ms)::double precision) AS weight,
	   x.updated
  FROM fragaffinity.transition x
  JOIN fragaffinity.node n ON n.node = x.node
 CROSS JOIN (SELECT extract(epoch FROM value::interval) * 1000 AS half_life_ms
			   FROM fragaffinity.settings
			  WHERE name = 'transition_half_life' AND table_name IS NULL) c;

-- Fragments of two tables that sessions use together, and on what evidence.
CREATE VIEW fragaffinity.co_access AS
SELECT p.fragment, t.rel AS table_name, n.name::text AS owner,
	   p.other, u.rel AS other_table, m.name::text AS other_owner,
	   p.share, p.weight, p.found, p.updated
  FROM fragaffinity.co_access_pair p
  JOIN fragaffinity.fragment f ON f.fragment = p.fragment
  JOIN fragaffinity.fragment g ON g.fragment = p.other
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.distributed_table u ON u.table_id = g.table_id
  JOIN fragaffinity.node n ON n.node = f.owner
  JOIN fragaffinity.node m ON m.node = g.owner;
GRANT SELECT ON fragaffinity.co_access TO pg_monitor;

-- Finds them anew.  Of the sessions of one node, role and application: how many
-- of the times that they came to a fragment did they go on to the other, or come
-- from it?  That is the part of their accesses to it that the other is beside;
-- accesses of sessions that do not use both count against it.  In one direction
-- only: with few fragments, any is often next to any other.  What was found
-- before stays until it is clearly below.
CREATE FUNCTION fragaffinity.find_co_access(least_share double precision,
	least_weight double precision, half_life_ms double precision,
	tables integer[])
RETURNS void
LANGUAGE sql STRICT SET search_path = pg_catalog, pg_temp
-- nothing is known of how many rows there are: join by hash, in this order
SET enable_nestloop = off SET join_collapse_limit = 1
AS $$
WITH step AS NOT MATERIALIZED (
	SELECT t.node, t.role, t.application, t.from_fragment AS a, t.to_fragment AS b,
		   t.weight * power(0.5::double precision, greatest(0,
			date_part('epoch', now() - t.updated) * 1000 / half_life_ms)) AS w
	  FROM fragaffinity.transition t
), visit AS MATERIALIZED (
	SELECT s.node, s.role, s.application, s.b AS fragment, f.table_id,
		   sum(s.w) AS accesses, sum(s.w) FILTER (WHERE s.a <> s.b) AS arrivals,
		   sum(sum(s.w)) OVER (PARTITION BY s.b) AS of_all
	  FROM step s
	  JOIN fragaffinity.fragment f ON f.fragment = s.b
	 GROUP BY s.node, s.role, s.application, s.b, f.table_id
), beside AS (
	SELECT s.node, s.role, s.application, least(s.a, s.b) AS a,
		   greatest(s.a, s.b) AS b, max(s.w) AS w
	  FROM step s
	 WHERE s.a <> s.b AND s.a <> 0
	   AND s.w >= least_weight / 100
	 GROUP BY s.node, s.role, s.application, least(s.a, s.b), greatest(s.a, s.b)
), pair AS MATERIALIZED (
	SELECT p.a, p.b, least(
			sum(x.accesses * least(1, p.w / x.arrivals)) / max(x.of_all),
			sum(y.accesses * least(1, p.w / y.arrivals)) / max(y.of_all)) AS share,
		   sum(p.w) AS weight
	  FROM beside p
	  JOIN visit x ON (x.node, x.role, x.application, x.fragment)
					= (p.node, p.role, p.application, p.a) AND x.arrivals > 0
	  JOIN visit y ON (y.node, y.role, y.application, y.fragment)
					= (p.node, p.role, p.application, p.b) AND y.arrivals > 0
	 WHERE x.table_id <> y.table_id
	   AND x.table_id = ANY (tables) AND y.table_id = ANY (tables)
	 GROUP BY p.a, p.b
), found AS MATERIALIZED (
	SELECT p.a, p.b, p.share, p.weight
	  FROM pair p
	  LEFT JOIN fragaffinity.co_access_pair o ON o.fragment = p.a AND o.other = p.b
	 WHERE p.share >= least_share - CASE WHEN o.fragment IS NULL THEN 0 ELSE 0.1 END
	   AND p.weight >= least_weight * CASE WHEN o.fragment IS NULL THEN 1 ELSE 0.5 END
), gone AS (
	DELETE FROM fragaffinity.co_access_pair o
	 WHERE NOT EXISTS (SELECT FROM found p WHERE p.a = o.fragment AND p.b = o.other)
)
INSERT INTO fragaffinity.co_access_pair AS o (fragment, other, share, weight)
SELECT p.a, p.b, p.share, p.weight FROM found p
ON CONFLICT ON CONSTRAINT co_access_pair_pkey DO UPDATE
   SET share = excluded.share, weight = excluded.weight,
	   updated = clock_timestamp()
 WHERE abs(o.share - excluded.share) > 0.01
	OR abs(o.weight - excluded.weight) > 0.05 * o.weight
$$;
REVOKE ALL ON FUNCTION fragaffinity.find_co_access(double precision,
	double precision, double precision, integer[]) FROM PUBLIC;

-- The keys that this node's clients asked for most in heat_window, and what
-- share of their accesses to the fragment that was.
CREATE VIEW fragaffinity.heat AS
SELECT t.rel AS table_name, s.fragment, s.key, s.weight, s.weight / s.total AS share,
	   s.samples, s.last_sample, n.name::text AS owner
  FROM (SELECT k.fragment, k.key, pg_catalog.sum(k.weight) AS weight,
			   pg_catalog.count(*) AS samples, pg_catalog.max(k.sampled) AS last_sample,
			   pg_catalog.sum(pg_catalog.sum(k.weight))
				OVER (PARTITION BY k.fragment) AS total
		  FROM fragaffinity.key_sample k
		 GROUP BY k.fragment, k.key) s
  JOIN fragaffinity.fragment f ON f.fragment = s.fragment
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.node n ON n.node = f.owner;
GRANT SELECT ON fragaffinity.heat TO pg_monitor;

CREATE VIEW fragaffinity.node_metrics AS
SELECT m.sampled, n.name::text AS node, m.active, m.idle_in_transaction,
	   m.waiting, m.waits, m.commits, m.rollbacks, m.blocks_read, m.blocks_hit,
	   m.local_calls, m.remote_calls,
	   m.local_ms / nullif(m.local_calls, 0) AS local_mean_ms,
	   m.remote_ms / nullif(m.remote_calls, 0) AS remote_mean_ms
  FROM fragaffinity.metric m
  JOIN fragaffinity.node n ON n.node = m.node;

GRANT SELECT ON fragaffinity.access_stats, fragaffinity.access_history,
	fragaffinity.transitions, fragaffinity.node_metrics TO pg_monitor;

-- ---------------------------------------------------------------------
-- Report
-- ---------------------------------------------------------------------

-- With its owner's rights: who may read it need not read the catalog.
CREATE FUNCTION fragaffinity.report(
	"from" timestamptz DEFAULT pg_catalog.now() - '1 day'::pg_catalog.interval,
	"to" timestamptz DEFAULT pg_catalog.now()) RETURNS text
AS 'MODULE_PATHNAME', 'fa_sql_report'
LANGUAGE C STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1;
REVOKE ALL ON FUNCTION fragaffinity.report(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.report(timestamptz, timestamptz) TO pg_monitor;

-- ---------------------------------------------------------------------
-- Moves
-- ---------------------------------------------------------------------

CREATE FUNCTION fragaffinity.move_fragment(
	fragment bigint, destination name, wait boolean DEFAULT true)
RETURNS bigint
AS 'MODULE_PATHNAME', 'fa_sql_move_fragment' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.cancel_move(move bigint) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_cancel_move' LANGUAGE C VOLATILE;

CREATE FUNCTION fragaffinity.request_move(
	fragment bigint, destination name, trigger text, reason text,
	expected_benefit double precision) RETURNS bigint
AS 'MODULE_PATHNAME', 'fa_sql_request_move' LANGUAGE C STRICT VOLATILE;

-- What movers ask of a fragment's owner, and tell the other nodes.
CREATE FUNCTION fragaffinity.check_fragment(fragment bigint, version bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_check_fragment' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.give_way(table_id integer, fragments bigint[], claims boolean)
RETURNS bigint
AS 'MODULE_PATHNAME', 'fa_sql_give_way' LANGUAGE C VOLATILE;
CREATE FUNCTION fragaffinity.claim_fragment(
	fragment bigint, version bigint, OUT leaf_name text,
	OUT bucket_name text, OUT bytes bigint)
AS 'MODULE_PATHNAME', 'fa_sql_claim_fragment' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.publish_fragment(fragment bigint, move bigint)
RETURNS text
AS 'MODULE_PATHNAME', 'fa_sql_publish_fragment' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.page_layout(rel regclass, OUT kind text,
	OUT relation oid, OUT description text, OUT problem text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_page_layout' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.open_pages(move bigint, xid bigint, toast oid,
	relations oid[]) RETURNS bigint[]
AS 'MODULE_PATHNAME', 'fa_sql_open_pages' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.send_pages(round integer, received integer,
	most bigint)
RETURNS SETOF bytea
AS 'MODULE_PATHNAME', 'fa_sql_send_pages' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.resend_pages(relations integer[], blocks bigint[])
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_resend_pages' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.transport_secret() RETURNS bytea
AS 'MODULE_PATHNAME', 'fa_sql_transport_secret' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.open_transport(name text, address bytea,
	max_message integer) RETURNS text
AS 'MODULE_PATHNAME', 'fa_sql_open_transport' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.messages_sent(OUT messages bigint,
	OUT gathered bigint, OUT writes bigint, OUT completions bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'fa_sql_messages_sent' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.check_transports(node name,
	messages integer DEFAULT 1000, size integer DEFAULT 262144,
	transport text DEFAULT 'all',
	OUT name text, OUT usable boolean, OUT reason text,
	OUT mb_per_second double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_check_transports' LANGUAGE C VOLATILE;
CREATE FUNCTION fragaffinity.transport_counters(
	OUT transport text, OUT channels bigint, OUT refused bigint,
	OUT broken bigint, OUT messages_sent bigint, OUT bytes_sent bigint,
	OUT gathered bigint, OUT writes bigint, OUT completions bigint,
	OUT messages_received bigint, OUT bytes_received bigint, OUT waits bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_transport_counters' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.rdma_counters(
	OUT device text, OUT port integer, OUT counter text, OUT value bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_rdma_counters' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.send_test_messages(messages integer, size integer)
RETURNS SETOF bytea
AS 'MODULE_PATHNAME', 'fa_sql_send_test_messages' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.release_fragment(fragment bigint, move bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_release_fragment' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.table_statistics(relations oid[],
	OUT relation integer, OUT attnum integer, OUT kind integer,
	OUT numbers bytea, OUT "values" bytea)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_table_statistics' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.statement_times(
	OUT local_calls bigint, OUT local_ms double precision,
	OUT remote_calls bigint, OUT remote_ms double precision)
AS 'MODULE_PATHNAME', 'fa_sql_statement_times' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.gate_fragment(fragment bigint, closed boolean)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_gate_fragment' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.swap_out(
	fragment bigint, version bigint, destination integer, move bigint,
	lock_timeout bigint) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_swap_out' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.fragment_moved(
	fragment bigint, owner integer, version bigint, move text)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_fragment_moved' LANGUAGE C VOLATILE;
CREATE FUNCTION fragaffinity.map_generation() RETURNS bigint
AS 'MODULE_PATHNAME', 'fa_sql_map_generation' LANGUAGE C STRICT VOLATILE;
CREATE FUNCTION fragaffinity.mover_progress(
	OUT move bigint, OUT fragment bigint, OUT pid integer, OUT phase text,
	OUT bytes_done bigint, OUT bytes_total bigint, OUT rounds integer,
	OUT rate double precision, OUT allowed_rate double precision,
	OUT source_slower double precision, OUT destination_slower double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'fa_sql_mover_progress' LANGUAGE C STRICT VOLATILE;

REVOKE ALL ON FUNCTION fragaffinity.move_fragment(bigint, name, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.cancel_move(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.request_move(bigint, name, text, text, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.check_fragment(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.give_way(integer, bigint[], boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.claim_fragment(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.publish_fragment(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.page_layout(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.open_pages(bigint, bigint, oid, oid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.send_pages(integer, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.resend_pages(integer[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.transport_secret() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.open_transport(text, bytea, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.messages_sent() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.check_transports(name, integer, integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.send_test_messages(integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.transport_counters() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.rdma_counters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.transport_counters() TO pg_monitor;
GRANT EXECUTE ON FUNCTION fragaffinity.rdma_counters() TO pg_monitor;
REVOKE ALL ON FUNCTION fragaffinity.release_fragment(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.table_statistics(oid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.statement_times() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.gate_fragment(bigint, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.swap_out(bigint, bigint, integer, bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.fragment_moved(bigint, integer, bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.map_generation() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.mover_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.mover_progress() TO pg_monitor;

CREATE VIEW fragaffinity.moves AS
SELECT m.move, m.fragment, s.name AS source, d.name AS destination, m.trigger,
	   m.path, m.transport, COALESCE(p.phase, m.state) AS state,
	   COALESCE(p.bytes_done, m.bytes) AS bytes,
	   COALESCE(p.rounds, m.rounds) AS rounds, m.pause_ms, m.lead_ms,
	   m.requested, m.started, m.finished, m.reason, m.error,
	   m.expected_benefit, m.observed_benefit, m.transport_reason,
	   m.transport_counters
  FROM fragaffinity.move m
  LEFT JOIN fragaffinity.node s ON s.node = m.source
  LEFT JOIN fragaffinity.node d ON d.node = m.destination
  LEFT JOIN fragaffinity.mover_progress() p
	   ON p.move = m.move AND m.state NOT IN ('done', 'failed', 'cancelled');

-- What pages of moves came by lately, from node to node.
CREATE VIEW fragaffinity.transports AS
SELECT DISTINCT ON (m.source, m.destination) s.name AS source,
	   d.name AS destination, m.transport, m.transport_reason AS reason, m.move,
	   m.started
  FROM fragaffinity.move m
  JOIN fragaffinity.node s ON s.node = m.source
  JOIN fragaffinity.node d ON d.node = m.destination
 WHERE m.path = 'page' AND m.transport IS NOT NULL
 ORDER BY m.source, m.destination, m.move DESC;

-- Of this server, since its start, and of its devices.
CREATE VIEW fragaffinity.transport_stats AS
SELECT * FROM fragaffinity.transport_counters();
CREATE VIEW fragaffinity.rdma_stats AS
SELECT * FROM fragaffinity.rdma_counters();

CREATE VIEW fragaffinity.stat_progress_move AS
SELECT p.pid, p.move, p.fragment, s.name AS source, p.phase,
	   p.bytes_done, p.bytes_total, p.rounds, m.started, m.path, m.transport,
	   p.rate,		-- bytes a second
	   CASE WHEN p.rate > 0 THEN pg_catalog.clock_timestamp() +
			pg_catalog.make_interval(
				secs => GREATEST(p.bytes_total - p.bytes_done, 0) / p.rate)
	   END AS estimated_end,
	   p.allowed_rate,		-- by latency_guard; null: any
	   -- what clients' statements take, as a multiple of what is usual
	   p.source_slower, p.destination_slower
  FROM fragaffinity.mover_progress() p
  JOIN fragaffinity.move m ON m.move = p.move
  LEFT JOIN fragaffinity.node s ON s.node = m.source;

GRANT SELECT ON fragaffinity.moves, fragaffinity.stat_progress_move,
	fragaffinity.transports, fragaffinity.transport_stats,
	fragaffinity.rdma_stats TO pg_monitor;

-- ---------------------------------------------------------------------
-- Predictions and placement
-- ---------------------------------------------------------------------

-- Of the coordinator.  Fragments without evidence, and the nodes that have
-- no row, share equally what is left.
CREATE VIEW fragaffinity.predictions AS
WITH horizons AS (
	SELECT h.h::integer AS horizon
	  FROM fragaffinity.settings s
	 CROSS JOIN LATERAL pg_catalog.string_to_table(s.value, ',') h(h)
	 WHERE s.name = 'prediction_horizons' AND s.table_name IS NULL
), stored AS (
	SELECT p.fragment, p.horizon, pg_catalog.sum(p.affinity) AS affinity,
		   pg_catalog.count(*) AS nodes, pg_catalog.max(p.evidence) AS evidence,
		   pg_catalog.max(p.made_at) AS made_at,
		   (pg_catalog.array_agg(p.weights))[1] AS weights
	  FROM fragaffinity.prediction p
	  JOIN fragaffinity.node n ON n.node = p.node
	 GROUP BY p.fragment, p.horizon
), total AS (
	SELECT pg_catalog.count(*) AS nodes FROM fragaffinity.node
)
SELECT f.fragment, t.rel AS table_name, n.name AS node, h.horizon,
	   h.horizon * i.value::interval AS ahead,
	   COALESCE(p.affinity,
				(1 - COALESCE(s.affinity, 0)) / (c.nodes - COALESCE(s.nodes, 0)))
		   AS affinity,
	   COALESCE(p.access_probability, 0) AS access_probability,
	   COALESCE(p.expected_rate, 0) AS expected_rate,
	   COALESCE(s.evidence, 0) AS evidence, s.weights, s.made_at
  FROM fragaffinity.fragment f
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.local_node l ON l.node = l.coordinator
 CROSS JOIN horizons h
 CROSS JOIN fragaffinity.node n
 CROSS JOIN total c
  JOIN fragaffinity.settings i
	ON i.name = 'history_interval' AND i.table_name IS NULL
  LEFT JOIN stored s ON s.fragment = f.fragment AND s.horizon = h.horizon
  LEFT JOIN fragaffinity.prediction p
	ON p.fragment = f.fragment AND p.horizon = h.horizon AND p.node = n.node;

-- Calibration error of a set of scores: distance between predicted and
-- observed in each tenth of probability, weighted.
CREATE FUNCTION fragaffinity.calibration_error(bins jsonb[])
RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sum(abs(p - hit)) / NULLIF(sum(n), 0)
	  FROM (SELECT ordinality, sum((bin->>'n')::float8) AS n,
				   sum((bin->>'p')::float8) AS p,
				   sum((bin->>'hit')::float8) AS hit
			  FROM unnest(bins) AS one(array_of_bins)
			 CROSS JOIN LATERAL jsonb_array_elements(array_of_bins)
				   WITH ORDINALITY AS b(bin, ordinality)
			 GROUP BY ordinality) AS merged
$$;

CREATE VIEW fragaffinity.prediction_quality AS
WITH scored AS (
	SELECT w.name AS "window", s.horizon, s.model,
		   pg_catalog.count(*) AS steps, pg_catalog.sum(s.accesses) AS accesses,
		   pg_catalog.sum(s.log_loss * s.accesses) / pg_catalog.sum(s.accesses) AS log_loss,
		   pg_catalog.sum(s.brier * s.accesses) / pg_catalog.sum(s.accesses) AS brier,
		   pg_catalog.sum(s.top1 * s.accesses) / pg_catalog.sum(s.accesses) AS top1,
		   pg_catalog.avg(s.rate_msle) AS rate_msle,
		   pg_catalog.array_agg(s.bins) AS bins
	  FROM fragaffinity.prediction_score s
	  JOIN (VALUES ('hour', interval '1 hour'), ('day', '1 day'),
				   ('week', '7 days'), ('all', '1000 years')) w(name, width)
		ON s.scored_at > pg_catalog.now() - w.width
	 WHERE s.accesses > 0
	 GROUP BY w.name, s.horizon, s.model
)
SELECT s."window", s.horizon, s.model, s.steps, s.accesses, s.log_loss,
	   b.log_loss - s.log_loss AS gain_on_static, s.brier, s.top1,
	   fragaffinity.calibration_error(s.bins) AS ece, s.rate_msle
  FROM scored s
  LEFT JOIN scored b
	ON b."window" = s."window" AND b.horizon = s.horizon AND b.model = 'static';

-- The same, hour by hour.
CREATE VIEW fragaffinity.prediction_quality_history AS
WITH scored AS (
	SELECT pg_catalog.date_trunc('hour', s.scored_at) AS hour, s.horizon, s.model,
		   pg_catalog.sum(s.accesses) AS accesses,
		   pg_catalog.sum(s.log_loss * s.accesses) / pg_catalog.sum(s.accesses) AS log_loss,
		   pg_catalog.sum(s.top1 * s.accesses) / pg_catalog.sum(s.accesses) AS top1,
		   pg_catalog.avg(s.rate_msle) AS rate_msle,
		   pg_catalog.array_agg(s.bins) AS bins
	  FROM fragaffinity.prediction_score s
	 WHERE s.accesses > 0
	 GROUP BY 1, s.horizon, s.model
)
SELECT s.hour, s.horizon, s.model, s.accesses, s.log_loss,
	   b.log_loss - s.log_loss AS gain_on_static, s.top1,
	   fragaffinity.calibration_error(s.bins) AS ece, s.rate_msle
  FROM scored s
  LEFT JOIN scored b
	ON b.hour = s.hour AND b.horizon = s.horizon AND b.model = 'static';

-- What learning takes of this node: the predictor on the coordinator, and on
-- every node the part that follows its sessions.
CREATE VIEW fragaffinity.learning AS
SELECT s.part, s.bytes, s.step_ms, s.share, s.updated
  FROM fragaffinity.learning_state s;

CREATE VIEW fragaffinity.recommendations AS
SELECT r.fragment, t.rel AS table_name, s.name AS source,
	   d.name AS destination, r.trigger, r.affinity, r.expected_benefit,
	   r.cost, r.verdict, r.reason, r.made_at
  FROM fragaffinity.recommendation r
  JOIN fragaffinity.fragment f ON f.fragment = r.fragment
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.node s ON s.node = r.source
  JOIN fragaffinity.node d ON d.node = r.destination
 UNION ALL
SELECT v.fragment, t.rel, s.name, COALESCE(d.name, s.name), v.kind, NULL,
	   v.expected_benefit, v.cost, v.verdict, v.reason, v.made_at
  FROM fragaffinity.division v
  JOIN fragaffinity.fragment f ON f.fragment = v.fragment
  JOIN fragaffinity.distributed_table t ON t.table_id = f.table_id
  JOIN fragaffinity.node s ON s.node = f.owner
  LEFT JOIN fragaffinity.node d ON d.node = v.destination;

-- What the controller knows of a fragment, what it decided last, and what its
-- limits are.  Complete on the coordinator, where decisions are made.
CREATE FUNCTION fragaffinity.explain_decision(fragment bigint)
RETURNS TABLE (item text, detail text)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.item, i.detail
  FROM fragaffinity.fragments f
 CROSS JOIN LATERAL (
	SELECT 1 AS part, 0 AS place, 'fragment' AS item,
		   format('%s of %s on %s, %s, version %s%s', f.fragment, f.table_name,
				  f.owner, pg_size_pretty(f.bytes), f.version,
				  CASE WHEN f.pinned THEN ', pinned' ELSE '' END) AS detail
	UNION ALL
	SELECT 2, (row_number() OVER (ORDER BY p.affinity DESC, p.node))::integer, 'forecast',
		   format('%s: %s of the accesses within %s, %s a step; evidence of %s accesses',
				  p.node, round(p.affinity::numeric, 3), p.ahead,
				  round(p.expected_rate::numeric, 2), round(p.evidence::numeric, 1))
	  FROM fragaffinity.predictions p
	 WHERE p.fragment = f.fragment
	   AND p.horizon = (SELECT max(h.horizon) FROM fragaffinity.predictions h
						 WHERE h.fragment = f.fragment)
	UNION ALL
	SELECT 3, 0, 'decision', COALESCE(
		(SELECT format('%s %s, %s: %s (%s)', r.trigger, r.destination, r.verdict,
					   r.reason, r.made_at)
		   FROM fragaffinity.recommendations r WHERE r.fragment = f.fragment
			AND r.trigger NOT IN ('split', 'merge')),
		CASE WHEN (SELECT l.node <> l.coordinator FROM fragaffinity.local_node l)
			 THEN 'made on the coordinator, ' ||
				(SELECT n.name FROM fragaffinity.nodes n WHERE n.coordinator)
			 ELSE 'stay: no other node is expected to be a better place' END)
	UNION ALL
	SELECT 3, 1, r.trigger, format('%s: %s (%s)', r.verdict, r.reason, r.made_at)
	  FROM fragaffinity.recommendations r
	 WHERE r.fragment = f.fragment AND r.trigger IN ('split', 'merge')
	UNION ALL
	SELECT 4, (row_number() OVER (ORDER BY c.share DESC, c.fragment, c.other))::integer,
		   'used together', format('with %s of %s on %s: %s of the accesses to both, %s times of late',
			CASE WHEN c.fragment = f.fragment THEN c.other ELSE c.fragment END,
			CASE WHEN c.fragment = f.fragment THEN c.other_table ELSE c.table_name END,
			CASE WHEN c.fragment = f.fragment THEN c.other_owner ELSE c.owner END,
			round(c.share::numeric, 2), round(c.weight::numeric))
	  FROM fragaffinity.co_access c
	 WHERE f.fragment IN (c.fragment, c.other)
	UNION ALL
	SELECT 5, (row_number() OVER (ORDER BY s.name))::integer, 'limit',
		   format('%s = %s', s.name, s.value)
	  FROM fragaffinity.settings s
	 WHERE s.name IN ('benefit_learning', 'co_access', 'doubt', 'hysteresis',
			'max_concurrent_moves', 'max_move_bytes_per_hour',
			'max_moves_per_hour', 'max_moves_per_node', 'migration_threshold',
			'min_residency', 'mode', 'move_window', 'predictive', 'reactive')
	   AND (s.table_name = f.table_name
			OR s.table_name IS NULL AND NOT EXISTS (
				SELECT FROM fragaffinity.settings o
				 WHERE o.name = s.name AND o.table_name = f.table_name))
	UNION ALL
	SELECT 6, (row_number() OVER (ORDER BY m.finished DESC))::integer, 'move',
		   format('%s: %s -> %s, %s, %s; expected %s ms, brought %s',
				  m.finished, m.source, m.destination, m.trigger, m.state,
				  COALESCE(round(m.expected_benefit)::text, 'nothing in'),
				  COALESCE(round(m.observed_benefit) || ' ms', 'not known yet'))
	  FROM (SELECT * FROM fragaffinity.moves l
			 WHERE l.fragment = f.fragment AND l.finished IS NOT NULL
			 ORDER BY l.finished DESC LIMIT 5) m
	) i
 WHERE f.fragment = explain_decision.fragment
 ORDER BY i.part, i.place
$$;

REVOKE ALL ON FUNCTION fragaffinity.explain_decision(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.explain_decision(bigint) TO pg_monitor;

-- The controller leaves a pinned fragment where it is.
CREATE FUNCTION fragaffinity.pin_fragment(fragment bigint, pinned boolean DEFAULT true)
RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_pin_fragment';

REVOKE ALL ON FUNCTION fragaffinity.pin_fragment(bigint, boolean) FROM PUBLIC;

-- Nodes that are being emptied, and how far that is.
CREATE VIEW fragaffinity.stat_progress_drain AS
SELECT n.name AS node,
	   (SELECT pg_catalog.count(*) FROM fragaffinity.fragment f
		 WHERE f.owner = n.node) AS fragments_left,
	   (SELECT pg_catalog.count(*) FROM fragaffinity.move m
		 WHERE m.source = n.node
		   AND m.state NOT IN ('done', 'failed', 'cancelled')) AS moving,
	   (SELECT pg_catalog.count(*) FROM fragaffinity.move m
		 WHERE m.source = n.node AND m.trigger = 'drain'
		   AND m.state = 'done') AS moved,
	   (SELECT m.error FROM fragaffinity.move m
		 WHERE m.source = n.node AND m.error IS NOT NULL
		 ORDER BY m.changed DESC LIMIT 1) AS last_error
  FROM fragaffinity.node n
 WHERE n.state = 'draining';

-- The last rebalance, and how far it is; one row, on the coordinator.
CREATE VIEW fragaffinity.stat_progress_rebalance AS
SELECT pg_catalog.min(p.planned) AS started,
	   pg_catalog.count(*) AS fragments_total,
	   pg_catalog.count(p.done) AS fragments_done,
	   (SELECT pg_catalog.count(*) FROM fragaffinity.move m
		 WHERE m.trigger = 'rebalance'
		   AND m.state NOT IN ('done', 'failed', 'cancelled')) AS moving,
	   pg_catalog.sum(p.bytes)::bigint AS bytes_total,
	   COALESCE(pg_catalog.sum(p.bytes) FILTER (WHERE p.done IS NOT NULL),
				0)::bigint AS bytes_done,
	   (SELECT m.error FROM fragaffinity.move m
		 WHERE m.trigger = 'rebalance' AND m.error IS NOT NULL
		 ORDER BY m.changed DESC LIMIT 1) AS last_error
  FROM fragaffinity.planned_move p
HAVING pg_catalog.count(*) > 0;

GRANT SELECT ON fragaffinity.predictions, fragaffinity.prediction_quality,
	fragaffinity.prediction_quality_history, fragaffinity.learning,
	fragaffinity.recommendations, fragaffinity.stat_progress_drain,
	fragaffinity.stat_progress_rebalance TO pg_monitor;

-- Forgets what the predictor has learned and learns anew from recorded
-- history, all of it or what came after a time.
CREATE FUNCTION fragaffinity.reset_predictions(
	since timestamptz DEFAULT '-infinity') RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_reset_predictions';

-- The networks of this node's worker begin anew, with all else that was
-- learned kept: on the coordinator the predictor's, on every node the one that
-- reads sessions.
CREATE FUNCTION fragaffinity.reset_network() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO fragaffinity.network_reset (called) VALUES (clock_timestamp())
	ON CONFLICT (one) DO UPDATE SET called = EXCLUDED.called
$$;

-- Has every fragment moved off a node; with wait, returns when it is empty.
CREATE FUNCTION fragaffinity.drain_node(name name, wait boolean DEFAULT true)
RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_drain_node';

-- Has fragments moved so that nodes hold like amounts, where they are used
-- most; tells which.  On the coordinator.
CREATE FUNCTION fragaffinity.rebalance(
	rel regclass DEFAULT NULL, slack double precision DEFAULT 0.1,
	dry_run boolean DEFAULT false,
	OUT fragment bigint, OUT source name, OUT destination name,
	OUT bytes bigint)
RETURNS SETOF record
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_rebalance';
REVOKE ALL ON FUNCTION fragaffinity.rebalance(regclass, double precision, boolean) FROM PUBLIC;

-- Ends it; moves under way go on.  Returns how many fragments stay.
CREATE FUNCTION fragaffinity.cancel_rebalance() RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ WITH gone AS (DELETE FROM fragaffinity.planned_move
	   WHERE done IS NULL RETURNING 1)
	  SELECT count(*) FROM gone $$;
REVOKE ALL ON FUNCTION fragaffinity.cancel_rebalance() FROM PUBLIC;

CREATE FUNCTION fragaffinity.mark_node(name name, state text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_mark_node';

-- Ends a drain: the node takes fragments again.
CREATE FUNCTION fragaffinity.resume_node(name name) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT fragaffinity.mark_node(name, 'active') $$;

-- Fragments drawn to a node: always (lasting null) or in windows.
CREATE VIEW fragaffinity.hint_pull AS
SELECT h.hint, u.fragment, h.node, h.weight, h.starting, h.lasting, h.every
  FROM fragaffinity.hint h
 CROSS JOIN LATERAL pg_catalog.unnest(h.fragments) u(fragment)
 WHERE h.kind = 'schedule'
 UNION ALL
SELECT h.hint, x.to_fragment, h.node, h.weight * x.share, NULL, NULL, NULL
  FROM fragaffinity.hint h
 CROSS JOIN LATERAL (
	SELECT t.to_fragment,
		   pg_catalog.sum(t.weight) FILTER (
			WHERE (h.role IS NULL OR t.role = h.role)
			  AND (h.application IS NULL OR t.application = h.application))
			/ pg_catalog.sum(t.weight) AS share
	  FROM fragaffinity.transition t
	 WHERE t.weight > 0
	 GROUP BY t.to_fragment) x
 WHERE h.kind = 'profile' AND x.share > 0;

-- Fragments used from where others are.  Two tables' fragments belong together
-- when they are of the same bucket of the hash and, where that is split, have
-- the same keys, or the one has keys that the other does not set apart.
CREATE VIEW fragaffinity.hint_link AS
WITH place AS (
	SELECT f.table_id, f.fragment, pg_catalog.dense_rank()
			OVER (PARTITION BY f.table_id ORDER BY b.fragment) AS place,
		   CASE WHEN f.key_from IS NOT NULL OR f.key_to IS NOT NULL
				THEN ROW(f.key_from, f.key_to)::text END AS bounds,
		   ARRAY(SELECT ROW(s.key_from, s.key_to)::text
				   FROM fragaffinity.fragment s
				  WHERE s.home = f.home
					AND (s.key_from IS NOT NULL OR s.key_to IS NOT NULL)) AS set_apart
	  FROM fragaffinity.fragment f
	  JOIN fragaffinity.fragment b ON b.home = f.home
	   AND b.key_from IS NULL AND b.key_to IS NULL
)
SELECT h.hint, a.fragment AS from_fragment, b.fragment AS to_fragment, h.weight
  FROM fragaffinity.hint h
  JOIN place a ON a.table_id = h.table_id
  JOIN place b
	ON b.table_id = h.to_table AND b.place = a.place
   AND (a.bounds = b.bounds
		OR (a.bounds IS NULL AND b.bounds <> ALL (a.set_apart))
		OR (b.bounds IS NULL AND a.bounds <> ALL (b.set_apart))
		OR (a.bounds IS NULL AND b.bounds IS NULL))
 WHERE h.kind = 'dependency'
 UNION ALL
SELECT h.hint, h.fragments[i], h.fragments[i + 1], h.weight
  FROM fragaffinity.hint h
 CROSS JOIN LATERAL pg_catalog.generate_series(1, pg_catalog.cardinality(h.fragments) - 1) i
 WHERE h.kind = 'sequence' AND h.fragments[i] <> h.fragments[i + 1];

CREATE VIEW fragaffinity.hints AS
SELECT h.hint, h.kind, t.rel AS table_name, f.rel AS to_table, n.name AS node,
	   h.role, h.application, h.key_from, h.key_to, h.keys, h.fragments,
	   h.every, h.starting, h.lasting, h.weight, h.created
  FROM fragaffinity.hint h
  LEFT JOIN fragaffinity.distributed_table t ON t.table_id = h.table_id
  LEFT JOIN fragaffinity.distributed_table f ON f.table_id = h.to_table
  LEFT JOIN fragaffinity.node n ON n.node = h.node;

GRANT SELECT ON fragaffinity.hints, fragaffinity.hint_pull,
	fragaffinity.hint_link TO pg_monitor;

-- Refuses a hint on another node than the coordinator, and what is no weight.
CREATE FUNCTION fragaffinity.check_hint(weight double precision) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text := (SELECT n.name FROM fragaffinity.node n
					JOIN fragaffinity.local_node l ON l.coordinator = n.node);
BEGIN
	IF NOT EXISTS (SELECT FROM fragaffinity.local_node
					WHERE node = coordinator) THEN
		RAISE EXCEPTION 'hints are kept on the coordinator'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = COALESCE('Call it on node "' || name || '".',
								  'Call add_node() first.');
	END IF;
	IF weight IS NULL OR NOT (weight > 0 AND weight <= 1) THEN
		RAISE EXCEPTION 'weight must be above 0 and at most 1'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It is the belief in the hint: 0.9 leaves a tenth to what is seen.';
	END IF;
END
$$;
REVOKE ALL ON FUNCTION fragaffinity.check_hint(double precision) FROM PUBLIC;

-- Table of a hint; refuses what no hint can be about.
CREATE FUNCTION fragaffinity.hint_table(rel regclass, weight double precision)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer;
BEGIN
	PERFORM fragaffinity.check_hint(weight);
	IF rel IS NULL THEN
		RAISE EXCEPTION 'the table of a hint must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT table_id INTO id FROM fragaffinity.distributed_table t
	 WHERE t.rel = hint_table.rel;
	IF id IS NULL THEN
		RAISE EXCEPTION '"%" is not a distributed table',
			(SELECT c.relname FROM pg_class c WHERE c.oid = rel)
			USING ERRCODE = 'wrong_object_type',
				  HINT = 'Call distribute_table() first.';
	END IF;
	RETURN id;
END
$$;

CREATE FUNCTION fragaffinity.hint_node(node name) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := (SELECT n.node FROM fragaffinity.node n
					WHERE n.name = hint_node.node);
BEGIN
	IF node IS NULL THEN
		RAISE EXCEPTION 'node must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF id IS NULL THEN
		RAISE EXCEPTION 'node "%" does not exist', node
			USING ERRCODE = 'undefined_object',
				  HINT = 'See the view fragaffinity.nodes.';
	END IF;
	RETURN id;
END
$$;

-- Fragments of the keys from one to another; of a table divided by hash alone,
-- a range is known for integers.
CREATE FUNCTION fragaffinity.fragments_of_keys(
	table_id integer, key_from text, key_to text) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t fragaffinity.distributed_table;
	condition text;
	type regtype;
BEGIN
	SELECT * INTO t FROM fragaffinity.distributed_table d
	 WHERE d.table_id = fragments_of_keys.table_id;
	SELECT a.atttypid INTO type FROM pg_attribute a
	 WHERE a.attrelid = t.rel AND a.attname = t.key;
	IF key_from IS NULL AND key_to IS NULL THEN
		RETURN ARRAY(SELECT f.fragment FROM fragaffinity.fragment f
					  WHERE f.table_id = t.table_id ORDER BY 1);
	END IF;
	IF key_from IS NULL OR key_to IS NULL THEN
		RAISE EXCEPTION 'a range of keys needs both its ends'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Leave out both for all keys.';
	END IF;
	condition := format('BETWEEN %L AND %L', key_from, key_to);
	IF key_from = key_to THEN
		condition := format('= %L', key_from);
	ELSIF type IN ('smallint', 'integer', 'bigint')
		AND key_to::numeric - key_from::numeric BETWEEN 0 AND 10000 THEN
		condition := format('= ANY (%L)', ARRAY(
			SELECT generate_series(key_from::bigint, key_to::bigint)));
	END IF;
	RETURN fragaffinity.statement_fragments(
		format('SELECT FROM %s WHERE %I %s', t.rel, t.key, condition));
END
$$;

CREATE FUNCTION fragaffinity.add_dependency(from_rel regclass, to_rel regclass,
	weight double precision DEFAULT 0.8) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leads integer := fragaffinity.hint_table(from_rel, weight);
	follows integer := fragaffinity.hint_table(to_rel, weight);
	id bigint;
BEGIN
	IF leads = follows OR NOT (
		SELECT a.colocation = b.colocation
		  FROM fragaffinity.distributed_table a, fragaffinity.distributed_table b
		 WHERE a.table_id = leads AND b.table_id = follows) THEN
		RAISE EXCEPTION '"%" and "%" are not divided alike',
			(SELECT c.relname FROM pg_class c WHERE c.oid = from_rel),
			(SELECT c.relname FROM pg_class c WHERE c.oid = to_rel)
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Distribute one with colocate_with the other.';
	END IF;
	PERFORM fragaffinity.drop_dependency(from_rel, to_rel);
	INSERT INTO fragaffinity.hint (kind, table_id, to_table, weight)
	VALUES ('dependency', leads, follows, weight) RETURNING hint INTO id;
	RETURN id;
END
$$;

CREATE FUNCTION fragaffinity.drop_dependency(from_rel regclass, to_rel regclass)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leads integer := fragaffinity.hint_table(from_rel, 1);
	follows integer := fragaffinity.hint_table(to_rel, 1);
BEGIN
	DELETE FROM fragaffinity.hint h
	 WHERE h.kind = 'dependency' AND h.table_id = leads AND h.to_table = follows;
	RETURN FOUND;
END
$$;

-- every null: once.
CREATE FUNCTION fragaffinity.add_schedule(rel regclass, node name,
	key_from text DEFAULT NULL, key_to text DEFAULT NULL,
	every interval DEFAULT '1 day', starting timestamptz DEFAULT now(),
	lasting interval DEFAULT '1 hour', weight double precision DEFAULT 0.9)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := fragaffinity.hint_table(rel, weight);
	target integer := fragaffinity.hint_node(node);
	made bigint;
BEGIN
	IF starting IS NULL OR lasting IS NULL THEN
		RAISE EXCEPTION 'starting and lasting must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF extract(months FROM every) <> 0 OR extract(years FROM every) <> 0
		OR extract(months FROM lasting) <> 0 OR extract(years FROM lasting) <> 0
		OR every <= interval '0' OR lasting <= interval '0' OR lasting > every
		OR NOT isfinite(starting) THEN
		RAISE EXCEPTION 'a schedule lasts for some time and comes again after no less'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give every and lasting in days or less, lasting at most every.';
	END IF;
	INSERT INTO fragaffinity.hint (kind, table_id, node, key_from, key_to,
		fragments, every, starting, lasting, weight)
	VALUES ('schedule', id, target, key_from, key_to,
		fragaffinity.fragments_of_keys(id, key_from, key_to), every, starting,
		lasting, weight) RETURNING hint INTO made;
	RETURN made;
END
$$;

-- Sessions touch these keys in turn.
CREATE FUNCTION fragaffinity.add_sequence(rel regclass, keys text[],
	weight double precision DEFAULT 0.5) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := fragaffinity.hint_table(rel, weight);
	made bigint;
BEGIN
	IF keys IS NULL OR cardinality(keys) < 2
		OR array_position(keys, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'a sequence needs two or more keys, none of them null'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	INSERT INTO fragaffinity.hint (kind, table_id, keys, fragments, weight)
	SELECT 'sequence', id, keys, array_agg(
			(fragaffinity.fragments_of_keys(id, k.k, k.k))[1] ORDER BY k.n), weight
	  FROM unnest(keys) WITH ORDINALITY k(k, n)
	RETURNING hint INTO made;
	RETURN made;
END
$$;

-- After a split or merge: the fragments of the keys that hints are about.
CREATE FUNCTION fragaffinity.renew_hints(table_id integer) RETURNS void
LANGUAGE sql STRICT SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE fragaffinity.hint h
	   SET fragments = fragaffinity.fragments_of_keys(h.table_id, h.key_from, h.key_to)
	 WHERE h.table_id = renew_hints.table_id AND h.kind = 'schedule';
	UPDATE fragaffinity.hint h
	   SET fragments = ARRAY(
			SELECT (fragaffinity.fragments_of_keys(h.table_id, k.k, k.k))[1]
			  FROM unnest(h.keys) WITH ORDINALITY k(k, n) ORDER BY k.n)
	 WHERE h.table_id = renew_hints.table_id AND h.kind = 'sequence';
$$;
REVOKE ALL ON FUNCTION fragaffinity.renew_hints(integer) FROM PUBLIC;

CREATE FUNCTION fragaffinity.drop_hint(hint bigint, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF hint IS NULL THEN
		RAISE EXCEPTION '% must not be null', kind
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	DELETE FROM fragaffinity.hint h
	 WHERE h.hint = drop_hint.hint AND h.kind = drop_hint.kind;
	IF NOT FOUND THEN
		RAISE EXCEPTION '% % does not exist', kind, hint
			USING ERRCODE = 'undefined_object',
				  HINT = 'See the view fragaffinity.hints on the coordinator.';
	END IF;
END
$$;

CREATE FUNCTION fragaffinity.drop_schedule(schedule bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT fragaffinity.drop_hint(schedule, 'schedule') $$;

CREATE FUNCTION fragaffinity.drop_sequence(sequence bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT fragaffinity.drop_hint(sequence, 'sequence') $$;

-- Null: any role, any application.
CREATE FUNCTION fragaffinity.drop_profile(role name, application text)
RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
	WITH gone AS (
		DELETE FROM fragaffinity.hint h
		 WHERE h.kind = 'profile'
		   AND h.role IS NOT DISTINCT FROM drop_profile.role
		   AND h.application IS NOT DISTINCT FROM drop_profile.application
		RETURNING 1)
	SELECT count(*) > 0 FROM gone
$$;

CREATE FUNCTION fragaffinity.set_profile(role name, application text,
	node name, weight double precision DEFAULT 0.8) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target integer := fragaffinity.hint_node(node);
	made bigint;
BEGIN
	PERFORM fragaffinity.check_hint(weight);
	IF role IS NULL AND application IS NULL THEN
		RAISE EXCEPTION 'a profile is of a role, an application, or both'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM fragaffinity.drop_profile(role, application);
	INSERT INTO fragaffinity.hint (kind, node, role, application, weight)
	VALUES ('profile', target, role, application, weight)
	RETURNING hint INTO made;
	RETURN made;
END
$$;

-- Keys of a fragment of this node that another wants: their share of its
-- accesses to the fragment, its share of all accesses to them, their share of
-- the rows.  Null: none that stand out.
CREATE FUNCTION fragaffinity.hot_range(fragment bigint, node name,
	OUT key_from text, OUT key_to text, OUT share double precision,
	OUT purity double precision, OUT rows double precision,
	OUT accesses double precision)
AS 'MODULE_PATHNAME', 'fa_sql_hot_range' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION fragaffinity.hot_range(bigint, name) FROM PUBLIC;

-- The coordinator's way; a process of the owner does it.
CREATE FUNCTION fragaffinity.request_division(fragment bigint, destination name,
	benefit double precision) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_request_division' LANGUAGE C STRICT VOLATILE;
-- For its size alone, unless its rows have no more than so many bytes.
CREATE FUNCTION fragaffinity.request_size_division(fragment bigint,
	share double precision, above double precision) RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_request_size_division' LANGUAGE C STRICT VOLATILE;
REVOKE ALL ON FUNCTION fragaffinity.request_size_division(bigint,
	double precision, double precision) FROM PUBLIC;
CREATE FUNCTION fragaffinity.request_union(fragment bigint, other bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'fa_sql_request_union' LANGUAGE C STRICT VOLATILE;
REVOKE ALL ON FUNCTION fragaffinity.request_division(bigint, name, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.request_union(bigint, bigint) FROM PUBLIC;

-- The owner's way of telling the coordinator how one ended; error null: well.
CREATE FUNCTION fragaffinity.note_division(fragment bigint, kind text, error text)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM fragaffinity.division_failure d
 WHERE (d.fragment, d.kind) = (note_division.fragment, note_division.kind)
   AND note_division.error IS NULL;
INSERT INTO fragaffinity.division_failure AS d (fragment, kind, failures, failed, error)
SELECT note_division.fragment, note_division.kind, 1, clock_timestamp(), note_division.error
 WHERE note_division.error IS NOT NULL
ON CONFLICT ON CONSTRAINT division_failure_pkey DO UPDATE
   SET failures = d.failures + 1, failed = excluded.failed, error = excluded.error
$$;
REVOKE ALL ON FUNCTION fragaffinity.note_division(bigint, text, text) FROM PUBLIC;
-- And of asking whether one has failed so that it is not to be tried yet.
CREATE FUNCTION fragaffinity.division_rests(fragment bigint, kind text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'fa_sql_division_rests' LANGUAGE C STRICT VOLATILE;
REVOKE ALL ON FUNCTION fragaffinity.division_rests(bigint, text) FROM PUBLIC;

-- Recorded history replayed against other settings; nothing is moved.
CREATE FUNCTION fragaffinity.simulate(
	"from" timestamptz, "to" timestamptz, settings jsonb DEFAULT '{}',
	OUT variant text, OUT table_name regclass, OUT accesses double precision,
	OUT remote_share double precision, OUT moves bigint, OUT bytes bigint,
	OUT expected_ms double precision, OUT cost_ms double precision)
RETURNS SETOF record
LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fa_sql_simulate';
REVOKE ALL ON FUNCTION fragaffinity.simulate(timestamptz, timestamptz, jsonb) FROM PUBLIC;

-- Which models and which facts carry a fragment's forecasts.
CREATE FUNCTION fragaffinity.explain_prediction(fragment bigint)
RETURNS TABLE (horizon integer, kind text, name text, node name,
	value double precision, fact text)
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM fragaffinity.fragment f
					WHERE f.fragment = explain_prediction.fragment) THEN
		RAISE EXCEPTION 'fragment % does not exist', fragment
			USING ERRCODE = 'undefined_object',
				  HINT = 'See the view fragaffinity.fragments.';
	END IF;
	RETURN QUERY
	WITH p AS (
		SELECT * FROM fragaffinity.predictions x
		 WHERE x.fragment = explain_prediction.fragment
	), quality AS (
		SELECT q.horizon, q.model, q.log_loss, q.gain_on_static
		  FROM fragaffinity.prediction_quality q WHERE q."window" = 'day'
	)
	SELECT p.horizon, 'forecast', NULL, p.node, p.affinity,
		   format('%s accesses expected in the step %s ahead, %s that there is one; on the evidence of %s accesses',
				  round(p.expected_rate::numeric, 2), p.ahead,
				  round(p.access_probability::numeric, 3), round(p.evidence::numeric))
	  FROM p
	 UNION ALL
	SELECT m.horizon, 'model', w.key, NULL, w.value::float8,
		   format('carries %s %% of what sets the nodes apart; log loss of the last day %s, gain on the long-run shares %s',
				  round(100 * w.value::numeric),
				  COALESCE(round(q.log_loss::numeric, 3)::text, 'not known'),
				  COALESCE(round(q.gain_on_static::numeric, 3)::text, 'not known'))
	  FROM (SELECT DISTINCT p.horizon, p.weights FROM p) m
	 CROSS JOIN LATERAL jsonb_each_text(m.weights) w
	  LEFT JOIN quality q ON q.horizon = m.horizon AND q.model = w.key
	 UNION ALL
	SELECT NULL, 'fact', 'accesses', n.name, sum(h.calls)::float8,
		   format('%s in the last hour, %s in the last day, %s in all history',
				  COALESCE(sum(h.calls) FILTER (WHERE h.step > now() - interval '1 hour'), 0),
				  COALESCE(sum(h.calls) FILTER (WHERE h.step > now() - interval '1 day'), 0),
				  sum(h.calls))
	  FROM fragaffinity.history h
	  JOIN fragaffinity.node n ON n.node = h.node
	 WHERE h.fragment = explain_prediction.fragment
	 GROUP BY n.name
	 UNION ALL
	SELECT NULL, 'fact', 'sessions', n.name, s.accesses,
		   format('%s accesses expected of the node''s open sessions in the step after %s',
				  round(s.accesses::numeric, 2), s.step)
	  FROM fragaffinity.session_forecast s
	  JOIN fragaffinity.node n ON n.node = s.node
	 WHERE s.fragment = explain_prediction.fragment
	   AND s.step = (SELECT max(l.step) FROM fragaffinity.session_forecast l)
	 UNION ALL
	SELECT NULL, 'hint', h.kind || ' ' || h.hint, n.name, u.weight,
		   COALESCE(format('from %s for %s', h.starting, h.lasting)
					|| ', every ' || h.every, 'always')
	  FROM fragaffinity.hint_pull u
	  JOIN fragaffinity.hint h ON h.hint = u.hint
	  JOIN fragaffinity.node n ON n.node = u.node
	 WHERE u.fragment = explain_prediction.fragment
	 UNION ALL
	SELECT NULL, 'hint', h.kind || ' ' || h.hint, NULL, u.weight,
		   format('used from where fragment %s is', u.from_fragment)
	  FROM fragaffinity.hint_link u
	  JOIN fragaffinity.hint h ON h.hint = u.hint
	 WHERE u.to_fragment = explain_prediction.fragment
	 ORDER BY 2, 1 NULLS FIRST, 5 DESC;
END
$$;

REVOKE ALL ON FUNCTION fragaffinity.hint_table(regclass, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.hint_node(name) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.fragments_of_keys(integer, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.add_dependency(regclass, regclass, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drop_dependency(regclass, regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.add_schedule(regclass, name, text, text, interval, timestamptz, interval, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drop_schedule(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.add_sequence(regclass, text[], double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drop_sequence(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drop_hint(bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.set_profile(name, text, name, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drop_profile(name, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.explain_prediction(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fragaffinity.explain_prediction(bigint) TO pg_monitor;
REVOKE ALL ON FUNCTION fragaffinity.reset_predictions(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.reset_network() FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.drain_node(name, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.mark_node(name, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION fragaffinity.resume_node(name) FROM PUBLIC;

-- ---------------------------------------------------------------------
-- What pg_dump must carry to restore a node
-- ---------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('fragaffinity.node', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.local_node', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.distributed_table', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.fragment', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.fragment_number', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.setting', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.pin', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.hint', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.hint_hint_seq', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.move', '');
SELECT pg_catalog.pg_extension_config_dump('fragaffinity.move_id_seq', '');

-- Keep this statement last.
SELECT fragaffinity.start_worker();
