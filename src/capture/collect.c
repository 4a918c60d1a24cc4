/*
 * collect.c
 *	  The coordinator fetches what the other nodes have recorded.
 *
 * For each peer and each kind of record there is one statement for the peer,
 * which gives one row of arrays (or nothing new: nulls), and one statement
 * here, which stores these arrays.  What to ask for is derived from what is
 * stored: "later than the newest that I have".  So an answer that is lost is
 * asked for again, one that comes twice is stored once, and a coordinator
 * that was down goes on where it stopped, as far as the peers' retention
 * reaches.
 *
 * Nothing waits here: questions go to the pool of peers, and a peer that does
 * not answer keeps its own questions back and no one else's.  Steps of
 * history that a node has not delivered stay unknown: history_step has no row
 * for them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "capture/tables.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/peer_pool.h"

#define MAX_PEERS 1023
#define MAX_COLUMNS 16
#define SLOW_PERIOD_MS 10000
#define HISTORY 0				/* among the kinds */

typedef struct Kind
{
	const char *name;
	int			period_ms;		/* 0: with each step of history, or sooner */
	/* Here: the newest that is stored of node $1, as text for %2$s below. */
	const char *newest;
	/* There: %1$d the node, %2$s the newest that we have. */
	const char *ask;
	/* Here: parameters are the columns of the answer, then the node. */
	const char *store;
} Kind;

/*
 * "Newest" ignores times in the future: a peer whose clock was wrong once
 * must not keep us from hearing of it again.
 */
static const Kind kinds[] = {
	{
		"history", 0,
		"SELECT coalesce(max(step), '-infinity') "
		"FROM fragaffinity.history_step WHERE node = %d "
		"AND step < clock_timestamp() + interval '1 hour'",

		/* whole steps, but not too many rows for one answer */
		"WITH n AS (SELECT s.step, (SELECT count(*) FROM fragaffinity.history h "
		"  WHERE h.step = s.step AND h.node = %1$d) AS n "
		" FROM fragaffinity.history_step s "
		" WHERE s.node = %1$d AND s.step > '%2$s' ORDER BY s.step LIMIT 500), "
		"s AS (SELECT step FROM (SELECT step, sum(n) OVER w AS rows, "
		"  row_number() OVER w AS nth FROM n WINDOW w AS (ORDER BY step)) c "
		" WHERE rows <= 20000 OR nth = 1), "
		"h AS (SELECT h.* FROM fragaffinity.history h JOIN s USING (step) "
		" WHERE h.node = %1$d) "
		"SELECT (SELECT array_agg(step) FROM s), array_agg(step), "
		"array_agg(width), array_agg(fragment), array_agg(calls), "
		"array_agg(remote_calls), array_agg(rows_read), "
		"array_agg(rows_written), array_agg(elapsed_ms), "
		"array_agg(remote_elapsed_ms), "
		/* of the newest steps only: what was foreseen then */
		"(SELECT jsonb_agg(to_jsonb(x)) FROM fragaffinity.session_forecast x "
		" WHERE x.node = %1$d AND x.step IN (SELECT step FROM s "
		"  ORDER BY step DESC LIMIT 8)), "
		"(SELECT jsonb_agg(to_jsonb(x)) FROM fragaffinity.profile_use x "
		" WHERE x.node = %1$d AND x.step IN (SELECT step FROM s "
		"  ORDER BY step DESC LIMIT 8)) FROM h",

		"WITH s AS (INSERT INTO fragaffinity.history_step (step, node) "
		" SELECT s, $13::integer FROM unnest($1::timestamptz[]) s "
		" ON CONFLICT DO NOTHING), "
		"f AS (INSERT INTO fragaffinity.session_forecast SELECT x.* "
		" FROM jsonb_populate_recordset(NULL::fragaffinity.session_forecast, "
		"  $11::jsonb) x WHERE x.node = $13::integer ON CONFLICT DO NOTHING), "
		"u AS (INSERT INTO fragaffinity.profile_use SELECT x.* "
		" FROM jsonb_populate_recordset(NULL::fragaffinity.profile_use, "
		"  $12::jsonb) x WHERE x.node = $13::integer ON CONFLICT DO NOTHING) "
		"INSERT INTO fragaffinity.history AS h (step, width, node, fragment, "
		" calls, remote_calls, rows_read, rows_written, elapsed_ms, "
		" remote_elapsed_ms) "
		"SELECT s, w, $13::integer, f, c, rc, rr, rw, e, re FROM ROWS FROM ("
		" unnest($2::timestamptz[]), unnest($3::interval[]), "
		" unnest($4::bigint[]), unnest($5::bigint[]), unnest($6::bigint[]), "
		" unnest($7::bigint[]), unnest($8::bigint[]), "
		" unnest($9::double precision[]), unnest($10::double precision[])) "
		" AS u(s, w, f, c, rc, rr, rw, e, re) "
		"ON CONFLICT (step, node, fragment) DO UPDATE SET "
		" width = excluded.width, calls = excluded.calls, "
		" remote_calls = excluded.remote_calls, "
		" rows_read = excluded.rows_read, "
		" rows_written = excluded.rows_written, "
		" elapsed_ms = excluded.elapsed_ms, "
		" remote_elapsed_ms = excluded.remote_elapsed_ms "
		"WHERE h.width <= excluded.width"
	},
	{
		"totals", 0,
		"SELECT coalesce(max(changed), '-infinity') "
		"FROM fragaffinity.access_total WHERE node = %d "
		"AND changed < clock_timestamp() + interval '1 hour'",

		"SELECT array_agg(fragment), array_agg(calls), "
		"array_agg(remote_calls), array_agg(rows_read), "
		"array_agg(rows_written), array_agg(elapsed_ms), "
		"array_agg(remote_elapsed_ms), array_agg(last_access), "
		"array_agg(changed) FROM (SELECT * FROM fragaffinity.access_total "
		" WHERE node = %1$d AND changed > '%2$s' ORDER BY changed "
		" FETCH FIRST 5000 ROWS WITH TIES) t",

		"INSERT INTO fragaffinity.access_total (node, fragment, calls, "
		" remote_calls, rows_read, rows_written, elapsed_ms, "
		" remote_elapsed_ms, last_access, changed) "
		"SELECT $10::integer, u.* FROM ROWS FROM ("
		" unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[]), "
		" unnest($4::bigint[]), unnest($5::bigint[]), "
		" unnest($6::double precision[]), unnest($7::double precision[]), "
		" unnest($8::timestamptz[]), unnest($9::timestamptz[])) AS u "
		"ON CONFLICT (node, fragment) DO UPDATE SET calls = excluded.calls, "
		" remote_calls = excluded.remote_calls, "
		" rows_read = excluded.rows_read, "
		" rows_written = excluded.rows_written, "
		" elapsed_ms = excluded.elapsed_ms, "
		" remote_elapsed_ms = excluded.remote_elapsed_ms, "
		" last_access = excluded.last_access, changed = excluded.changed"
	},
	{
		"transitions", 0,
		"SELECT coalesce(max(updated), '-infinity') "
		"FROM fragaffinity.transition WHERE node = %d "
		"AND updated < clock_timestamp() + interval '1 hour'",

		"SELECT array_agg(role), array_agg(application), "
		"array_agg(from_fragment), array_agg(to_fragment), "
		"array_agg(weight), array_agg(updated) FROM "
		"(SELECT * FROM fragaffinity.transition WHERE node = %1$d "
		" AND updated > '%2$s' ORDER BY updated "
		" FETCH FIRST 5000 ROWS WITH TIES) t",

		"INSERT INTO fragaffinity.transition (node, role, application, "
		" from_fragment, to_fragment, weight, updated) "
		"SELECT $7::integer, u.* FROM ROWS FROM (unnest($1::name[]), "
		" unnest($2::text[]), unnest($3::bigint[]), unnest($4::bigint[]), "
		" unnest($5::double precision[]), unnest($6::timestamptz[])) AS u "
		"ON CONFLICT (node, role, application, from_fragment, to_fragment) "
		"DO UPDATE SET weight = excluded.weight, updated = excluded.updated"
	},
	{
		"metrics", 0,
		"SELECT coalesce(max(sampled), '-infinity') "
		"FROM fragaffinity.metric WHERE node = %d "
		"AND sampled < clock_timestamp() + interval '1 hour'",

		"SELECT jsonb_agg(to_jsonb(m)) FROM "
		"(SELECT * FROM fragaffinity.metric WHERE node = %1$d "
		" AND sampled > '%2$s' ORDER BY sampled LIMIT 600) m",

		"INSERT INTO fragaffinity.metric SELECT m.* "
		"FROM jsonb_populate_recordset(NULL::fragaffinity.metric, $1::jsonb) m "
		"WHERE m.node = $2::integer ON CONFLICT DO NOTHING"
	},
	{
		/*
		 * A move's row is changed by several processes, whose commits need
		 * not come in the order of "changed": look back a little.
		 */
		"moves", 0,
		"SELECT coalesce(max(changed) - interval '10 s', '-infinity') "
		"FROM fragaffinity.move WHERE destination = %d "
		"AND state IN ('done', 'failed', 'cancelled') "
		"AND changed < clock_timestamp() + interval '1 hour'",

		"SELECT jsonb_agg(to_jsonb(m)) FROM "
		"(SELECT * FROM fragaffinity.move WHERE destination = %1$d "
		" AND state IN ('done', 'failed', 'cancelled') "
		" AND changed > '%2$s' ORDER BY changed LIMIT 2000) m",

		"INSERT INTO fragaffinity.move AS m SELECT n.* "
		"FROM jsonb_populate_recordset(NULL::fragaffinity.move, $1::jsonb) n "
		"WHERE n.destination = $2::integer "
		"ON CONFLICT (move) DO UPDATE SET path = excluded.path, "
		" transport = excluded.transport, "
		" transport_reason = excluded.transport_reason, "
		" transport_counters = excluded.transport_counters, state = excluded.state, "
		" bytes = excluded.bytes, rounds = excluded.rounds, "
		" pause_ms = excluded.pause_ms, "
		" lead_ms = coalesce(m.lead_ms, excluded.lead_ms), "
		" started = excluded.started, finished = excluded.finished, "
		" reason = coalesce(excluded.reason, m.reason), "
		" error = excluded.error, "
		" expected_benefit = coalesce(m.expected_benefit, excluded.expected_benefit), "
		" observed_benefit = coalesce(m.observed_benefit, excluded.observed_benefit), "
		" changed = excluded.changed "
		"WHERE m.changed < excluded.changed OR m.state <> excluded.state"
	},
	{
		"sizes", 30000,
		"SELECT 'now'",

		"SELECT array_agg(fragment), "
		"array_agg(coalesce(pg_total_relation_size(leaf), 0)) "
		"FROM fragaffinity.fragment WHERE owner = %1$d",

		"INSERT INTO fragaffinity.fragment_size (fragment, bytes, sampled) "
		"SELECT fragment, b, clock_timestamp() FROM ROWS FROM ("
		" unnest($1::bigint[]), unnest($2::bigint[])) AS u(fragment, b) "
		"JOIN fragaffinity.fragment USING (fragment) "
		"WHERE owner = $3::integer "
		"ON CONFLICT (fragment) DO UPDATE SET bytes = excluded.bytes, "
		" sampled = excluded.sampled"
	}
};

/* What was asked of one peer, by kind. */
typedef struct PeerProgress
{
	bool		asked[lengthof(kinds)]; /* no answer yet */
	TimestampTz next[lengthof(kinds)];	/* not before */
	TimestampTz came;			/* the newest step of history */
} PeerProgress;

static PeerProgress *progress[MAX_PEERS + 1];	/* by node id */

static int
collect_period_ms(const Kind *kind)
{
	int			step_ms;

	if (kind->period_ms > 0)
		return kind->period_ms;
	step_ms = (int) Min(fa_setting_float("history_interval", 0), 1e6);
	return Max(Min(step_ms / 2, SLOW_PERIOD_MS), 100);
}

/*
 * When history is to be asked for again: as a step has ended, and until it has
 * come, for a moment, at each look.
 */
static TimestampTz
collect_history_next(const PeerProgress *p, TimestampTz now)
{
	int64		step_us = fa_setting_int("history_interval", 0) * INT64CONST(1000);
	TimestampTz over = now - now % step_us + FA_STEP_GRACE_MS * INT64CONST(1000);

	if (now < over)
		return over;
	if (p->came < over && now < over + FA_STEP_SOON_MS * INT64CONST(1000))
		return now;
	return Min(over + step_us, now + SLOW_PERIOD_MS * INT64CONST(1000));
}

/* Stores an answer.  After an error the same is asked for again. */
static void
collect_store(int node, const Kind *kind, PGresult *res)
{
	int			n = PQnfields(res);
	char	   *params[MAX_COLUMNS];

	if (n >= MAX_COLUMNS)
		return;
	fa_stats_begin();
	for (int i = 0; i < n; i++)
		params[i] = PQgetisnull(res, 0, i) ? NULL : PQgetvalue(res, 0, i);
	params[n] = psprintf("%d", node);
	/* the cluster may have changed since we asked */
	if (fa_extension_exists() && fa_node_find(node) != NULL)
		(void) fa_stats_exec(kind->store, n + 1, params);
	fa_stats_commit();
}

/* FaPeerCallback; arg: the kind. */
static void
collect_answer(int node, PGresult *res, void *arg)
{
	const Kind *kind = arg;
	PeerProgress *p = progress[node];
	int			k = kind - kinds;

	p->asked[k] = false;
	if (res == NULL)
		return;
	if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1)
	{
		ereport(LOG,
				(errmsg("could not collect %s from node %d: %s", kind->name,
						node, pchomp(PQresultErrorMessage(res)))));
		p->next[k] = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												 SLOW_PERIOD_MS);
		return;
	}
	if (PQgetisnull(res, 0, 0))
		return;
	collect_store(node, kind, res);
	if (k == HISTORY)
		p->came = GetCurrentTimestamp();
	/* there may be more; history comes in parts after a long pause */
	if (kind->period_ms == 0)
		p->next[k] = 0;
}

/* In a transaction. */
static void
collect_ask(int node, int k)
{
	const Kind *kind = &kinds[k];
	PeerProgress *p = progress[node];
	char	   *newest = fa_spi_value(kind->newest, node);
	MemoryContext old = CurrentMemoryContext;
	char	   *sql = psprintf(kind->ask, node, newest);

	p->next[k] = k == HISTORY ? collect_history_next(p, GetCurrentTimestamp()) :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									collect_period_ms(kind));
	p->asked[k] = true;
	fa_pool_submit(node, sql, collect_answer, (void *) kind);
	MemoryContextSwitchTo(old);
}

/* Our own leaves; in a transaction. */
static void
collect_own_sizes(int self)
{
	static TimestampTz next = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now < next && next - now < INT64CONST(60000000))
		return;
	next = TimestampTzPlusMilliseconds(now, 30000);
	fa_spi_exec("INSERT INTO fragaffinity.fragment_size (fragment, bytes, sampled) "
				"SELECT fragment, coalesce(pg_total_relation_size(leaf), 0), "
				" clock_timestamp() FROM fragaffinity.fragment WHERE owner = %d "
				"ON CONFLICT (fragment) DO UPDATE SET bytes = excluded.bytes, "
				" sampled = excluded.sampled", self);
}

static void
collect_from(int node)
{
	TimestampTz now = GetCurrentTimestamp();

	if (node < 1 || node > MAX_PEERS)
		return;
	if (progress[node] == NULL)
		progress[node] = MemoryContextAllocZero(TopMemoryContext,
												sizeof(PeerProgress));
	for (int k = 0; k < lengthof(kinds); k++)
	{
		TimestampTz next = progress[node]->next[k];

		/* "next" far ahead: the clock was set back */
		if (!progress[node]->asked[k] &&
			(now >= next || next - now > INT64CONST(120000000)))
			collect_ask(node, k);
	}
}

void
fa_capture_collect(void)
{
	int			nodes[MAX_PEERS];
	int			n = 0;
	int			self;

	fa_stats_begin();
	self = fa_extension_exists() ? fa_node_self() : 0;
	if (self != 0)
		collect_own_sizes(self);
	if (self != 0 && self == fa_node_coordinator())
		n = fa_pool_peers(nodes, MAX_PEERS);
	for (int i = 0; i < n; i++)
		collect_from(nodes[i]);
	fa_stats_commit();
}
