/*
 * xact_stats.c
 *	  Counters of transactions over several nodes.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"

#include "node/xact_stats.h"

typedef struct FaXactStats
{
	pg_atomic_uint64 counter[FA_XACT_NCOUNTERS];
} FaXactStats;

static FaXactStats *stats = NULL;

static Size
stats_size(void)
{
	return sizeof(FaXactStats);
}

static void
stats_init(void *ptr, bool found)
{
	stats = ptr;
	for (int i = 0; i < FA_XACT_NCOUNTERS && !found; i++)
		pg_atomic_init_u64(&stats->counter[i], 0);
}

const FaShmemPart fa_xact_stats_part = {
	"fragaffinity transaction counters", stats_size, stats_init
};

void
fa_xact_count(FaXactCounter counter)
{
	if (stats)
		pg_atomic_fetch_add_u64(&stats->counter[counter], 1);
}

PG_FUNCTION_INFO_V1(fa_sql_transaction_counters);

/* transaction_counters(OUT ...): one column for each, in their order */
Datum
fa_sql_transaction_counters(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[FA_XACT_NCOUNTERS];
	bool		nulls[FA_XACT_NCOUNTERS] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < FA_XACT_NCOUNTERS; i++)
		values[i] = Int64GetDatum(stats ?
								  (int64) pg_atomic_read_u64(&stats->counter[i]) : 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
