/*
 * cost.c
 *	  What a remote access costs, how large fragments are, how fast they move.
 *
 * Only owners know the size of their fragments and only nodes know how far
 * their peers are, so each node is asked now and then, over the worker's pool
 * of connections; nobody waits for the answer.  What is not known yet is
 * assumed: fragment_size bytes, and a default round trip.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/peer_pool.h"
#include "placement/cost.h"
#include "placement/forecast.h"

#define REFRESH_MS 3000
#define MEASURED_FROM "1 hour"	/* history that latencies are taken from */
#define LEAST_CALLS 30			/* behind a measured latency */
/* of a remote access, when not measured: those that are alone take one */
#define ROUND_TRIPS 1
#define DEFAULT_ROUND_TRIP_MS 1.0
#define DEFAULT_BYTES_PER_MS (20.0 * 1024 * 1024 / 1000)
#define MOVE_OVERHEAD_MS 500.0	/* of a move of nothing, when not measured */
#define NEXT_TO_NOTHING 1000000 /* bytes */

/* Round trips between nodes, [from][to] in ms; 0: not known. */
static float (*round_trip)[FA_MAX_NODE_ID + 1] = NULL;
static TimestampTz refreshed = 0;
static double move_overhead_ms = MOVE_OVERHEAD_MS;

static const char *const ask_sql =
"SELECT n.node, h.round_trip_ms"
" FROM fragaffinity.node n, fragaffinity.node_health(n.node) h"
" WHERE h.round_trip_ms > 0";

static void
take_round_trip(int from, const char *to, const char *ms)
{
	int			node = atoi(to);

	if (from >= 1 && from <= FA_MAX_NODE_ID &&
		node >= 1 && node <= FA_MAX_NODE_ID)
		round_trip[from][node] = (float) atof(ms);
}

static void
peer_answered(int node, PGresult *res, void *arg)
{
	if (res == NULL || PQresultStatus(res) != PGRES_TUPLES_OK)
		return;
	for (int i = 0; i < PQntuples(res); i++)
		take_round_trip(node, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
}

void
fa_cost_refresh_own(void)
{
	FaRows	   *rows;
	int			self = fa_node_self();

	if (round_trip == NULL)
		round_trip = MemoryContextAllocZero(TopMemoryContext,
											sizeof(float) *
											(FA_MAX_NODE_ID + 1) *
											(FA_MAX_NODE_ID + 1));
	rows = fa_spi_rows("%s", ask_sql);
	for (int i = 0; i < rows->nrows; i++)
		take_round_trip(self, rows->value[i][0], rows->value[i][1]);
}

void
fa_cost_refresh(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			self = fa_node_self();
	ListCell   *lc;

	if (refreshed != 0 && refreshed <= now &&
		!TimestampDifferenceExceeds(refreshed, now, REFRESH_MS))
		return;
	refreshed = now;
	fa_cost_refresh_own();
	foreach(lc, fa_node_list())
	{
		int			id = ((FaNode *) lfirst(lc))->id;

		if (id != self)
			fa_pool_submit(id, ask_sql, peer_answered, NULL);
	}
}

/*
 * Both ends measure, and the way back is as long: the lesser one counts, as a
 * busy worker notices its answers late.
 */
static double
distance_ms(int from, int to)
{
	double		ms = 0;

	if (round_trip && from >= 1 && from <= FA_MAX_NODE_ID && to >= 1 && to <= FA_MAX_NODE_ID)
	{
		double		there = round_trip[from][to];
		double		back = round_trip[to][from];

		ms = there > 0 && back > 0 ? Min(there, back) : Max(there, back);
	}
	return ms > 0 ? ms : DEFAULT_ROUND_TRIP_MS;
}

/*
 * Measured in a part of history (an SQL condition): by how much a remote
 * access of this node's clients takes longer than a local one, on average; 0
 * when too few were seen.
 */
static double *
measured_extra(const int *nodes, int nnodes, const char *when)
{
	double	   *extra = palloc0(sizeof(double) * nnodes);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT node, sum(remote_elapsed_ms) / sum(remote_calls),"
					   " CASE WHEN sum(calls - remote_calls) >= %d THEN"
					   " sum(elapsed_ms - remote_elapsed_ms) / sum(calls - remote_calls) END"
					   " FROM fragaffinity.history"
					   " WHERE %s GROUP BY node HAVING sum(remote_calls) >= %d",
					   LEAST_CALLS, when, LEAST_CALLS);
	for (int i = 0; i < rows->nrows; i++)
	{
		int			id = atoi(rows->value[i][0]);
		double		remote = atof(rows->value[i][1]);

		for (int n = 0; n < nnodes; n++)
		{
			double		local = rows->value[i][2] ? atof(rows->value[i][2]) : 0;

			if (nodes[n] == id)
				extra[n] = Max(remote - local, 0);
		}
	}
	return extra;
}

static double *
extra_ms(const int *nodes, int nnodes, const double *measured)
{
	double	   *extra = palloc0(sizeof(double) * nnodes * nnodes);

	for (int i = 0; i < nnodes; i++)
	{
		double		mean = 0;

		for (int j = 0; j < nnodes; j++)
			mean += j == i ? 0 : distance_ms(nodes[i], nodes[j]) / (nnodes - 1);
		for (int j = 0; j < nnodes; j++)
		{
			double		trip = distance_ms(nodes[i], nodes[j]);

			if (j == i)
				continue;
			/* what was measured is a mean over peers near and far */
			extra[i * nnodes + j] = measured[i] > 0 ?
				Max(measured[i] * trip / mean, trip) : ROUND_TRIPS * trip;
		}
	}
	return extra;
}

double *
fa_cost_extra_ms(const int *nodes, int nnodes)
{
	return extra_ms(nodes, nnodes,
					measured_extra(nodes, nnodes, "step > pg_catalog.now() - interval '" MEASURED_FROM "'"));
}

double *
fa_cost_extra_between(const int *nodes, int nnodes, TimestampTz from,
					  TimestampTz to)
{
	char	   *a = pstrdup(timestamptz_to_str(from));

	return extra_ms(nodes, nnodes,
					measured_extra(nodes, nnodes,
								   psprintf("step >= '%s' AND step < '%s'", a,
											timestamptz_to_str(to))));
}

/* How long small moves took of late, from being asked for. */
static double
measured_overhead(void)
{
	char	   *ms = fa_spi_value("SELECT percentile_cont(0.5) WITHIN GROUP"
								  " (ORDER BY 1000 * extract(epoch FROM finished - requested))"
								  " FROM (SELECT requested, finished FROM fragaffinity.move"
								  "  WHERE state = 'done' AND bytes < %d"
								  "  ORDER BY finished DESC LIMIT 20) m",
								  NEXT_TO_NOTHING);

	return ms ? Max(atof(ms), 0) : MOVE_OVERHEAD_MS;
}

double
fa_cost_bytes_per_ms(void)
{
	char	   *rate = fa_spi_value("SELECT sum(bytes) / NULLIF(sum(1000 * extract(epoch FROM finished - started)), 0)"
									" FROM (SELECT bytes, started, finished FROM fragaffinity.move"
									"  WHERE state = 'done' AND bytes > 10000000"
									"  ORDER BY finished DESC LIMIT 20) m");
	double		bytes_per_ms = rate ? atof(rate) : 0;

	move_overhead_ms = measured_overhead();
	return bytes_per_ms > 0 ? bytes_per_ms : DEFAULT_BYTES_PER_MS;
}

double
fa_cost_move_ms(double bytes, double bytes_per_ms)
{
	return move_overhead_ms + bytes / bytes_per_ms;
}
