/*
 * metrics.c
 *	  The load of this node, once a second, into fragaffinity.metric.
 *
 * Sessions come from pg_stat_activity, transactions and blocks from
 * pg_stat_database (both of this database only), calls and their time from
 * the counters.  All but the sessions are differences to the sample before,
 * kept in the worker's memory: the first sample of a worker has none and is
 * not written.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "capture/tables.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"

#define PERIOD_US INT64CONST(1000000)
#define MARGIN_US INT64CONST(50000) /* of a worker's timer */

enum
{
	DB_COMMITS,
	DB_ROLLBACKS,
	DB_READ,
	DB_HIT,
	NDB
};

typedef struct Sample
{
	int64		db[NDB];
	FaCounts	counts;
} Sample;

static void
metrics_take(Sample *sample)
{
	FaRows	   *rows = fa_spi_rows(
		"SELECT pg_stat_get_db_xact_commit(d), pg_stat_get_db_xact_rollback(d), "
		" pg_stat_get_db_blocks_fetched(d) - pg_stat_get_db_blocks_hit(d), "
		" pg_stat_get_db_blocks_hit(d) FROM (VALUES (%u::oid)) v(d)",
		MyDatabaseId);

	for (int i = 0; i < NDB; i++)
		sample->db[i] = rows->value[0][i] ?
			strtoll(rows->value[0][i], NULL, 10) : 0;
	fa_counters_total(&sample->counts);
}

static void
metrics_write(int self, const Sample *old, const Sample *new)
{
	int64		db[NDB];
	int64		c[FA_NCOUNTS];

	/* the server's statistics can be reset */
	for (int i = 0; i < NDB; i++)
		db[i] = Max(new->db[i] - old->db[i], 0);
	for (int i = 0; i < FA_NCOUNTS; i++)
		c[i] = Max(new->counts.value[i] - old->counts.value[i], 0);

	/* waits for the client are not the server's; those for a peer are */
	fa_spi_exec(
		"INSERT INTO fragaffinity.metric (sampled, node, active, "
		" idle_in_transaction, waiting, waits, commits, rollbacks, "
		" blocks_read, blocks_hit, local_calls, remote_calls, local_ms, "
		" remote_ms) "
		"SELECT clock_timestamp(), %d, "
		" count(*) FILTER (WHERE state IN ('active', 'fastpath function call')), "
		" count(*) FILTER (WHERE state LIKE 'idle in transaction%%'), "
		" count(event), "
		" (SELECT jsonb_object_agg(w, n) FROM (SELECT w, count(*) AS n "
		"  FROM unnest(array_agg(event)) u(w) WHERE w IS NOT NULL "
		"  GROUP BY w) g), "
		INT64_FORMAT ", " INT64_FORMAT ", " INT64_FORMAT ", " INT64_FORMAT ", "
		INT64_FORMAT ", " INT64_FORMAT ", %.17g, %.17g "
		"FROM (SELECT state, CASE WHEN state = 'active' "
		"  AND wait_event_type NOT IN ('Client', 'Activity') "
		"  THEN wait_event_type || ':' || wait_event END AS event "
		" FROM pg_stat_activity WHERE datid = %u "
		" AND backend_type = 'client backend') a "
		"ON CONFLICT DO NOTHING",
		self, db[DB_COMMITS], db[DB_ROLLBACKS], db[DB_READ], db[DB_HIT],
		c[FA_COUNT_CALLS] - c[FA_COUNT_REMOTE_CALLS],
		c[FA_COUNT_REMOTE_CALLS],
		(c[FA_COUNT_NS] - c[FA_COUNT_REMOTE_NS]) / 1e6,
		c[FA_COUNT_REMOTE_NS] / 1e6, MyDatabaseId);
}

void
fa_capture_sample(void)
{
	static TimestampTz last = 0;
	static Sample old;
	static bool known = false;
	TimestampTz now = GetCurrentTimestamp();
	Sample		new;
	int			self;

	if (last != 0 && now >= last && now - last < PERIOD_US - MARGIN_US)
		return;
	last = now;
	fa_stats_begin();
	self = fa_extension_exists() ? fa_node_self() : 0;
	if (self != 0)
	{
		metrics_take(&new);
		if (known)
			metrics_write(self, &old, &new);
		old = new;
	}
	known = self != 0;
	fa_stats_commit();
}

PG_FUNCTION_INFO_V1(fa_sql_statement_times);

/*
 * statement_times(): clients' statements on fragments since the server started,
 * and their time; for a mover
 */
Datum
fa_sql_statement_times(PG_FUNCTION_ARGS)
{
	FaCounts	total;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	fa_shmem_require();
	fa_counters_total(&total);
	values[0] = Int64GetDatum(total.value[FA_COUNT_CALLS] -
							  total.value[FA_COUNT_REMOTE_CALLS]);
	values[1] = Float8GetDatum((total.value[FA_COUNT_NS] -
								total.value[FA_COUNT_REMOTE_NS]) / 1e6);
	values[2] = Int64GetDatum(total.value[FA_COUNT_REMOTE_CALLS]);
	values[3] = Float8GetDatum(total.value[FA_COUNT_REMOTE_NS] / 1e6);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
