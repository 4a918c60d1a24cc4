/*
 * stats.c
 *	  SQL functions of capture, and its start.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "capture/capture.h"
#include "capture/counters.h"
#include "capture/heat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/node.h"

#define FLUSH_TIMEOUT_MS 10000

void
fa_capture_init(void)
{
	fa_shmem_register(&fa_counters_part);
	fa_shmem_register(&fa_events_part);
	fa_shmem_register(&fa_heat_part);
}

PG_FUNCTION_INFO_V1(fa_sql_pending_access);

/*
 * pending_access(): what was counted on this node and is not in the tables
 * yet.
 */
Datum
fa_sql_pending_access(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			nslots;

	InitMaterializedSRF(fcinfo, 0);
	nslots = fa_capture_database() ? fa_slot_count() : 0;
	for (int slot = 0; slot < nslots; slot++)
	{
		FaCounts	sum = {0};
		FaCounts	counts;
		Datum		values[8];
		bool		nulls[8] = {0};
		bool		any = false;

		if (fa_slot_get(slot)->dbid != MyDatabaseId)
			continue;
		for (int bank = 0; bank < FA_BANKS; bank++)
		{
			if (!fa_counters_delta(slot, bank, &counts))
				continue;
			any = true;
			for (int c = 0; c < FA_NCOUNTS; c++)
				sum.value[c] += counts.value[c];
		}
		if (!any)
			continue;
		values[0] = Int64GetDatum(fa_slot_get(slot)->fragment);
		values[1] = Int64GetDatum(sum.value[FA_COUNT_CALLS]);
		values[2] = Int64GetDatum(sum.value[FA_COUNT_REMOTE_CALLS]);
		values[3] = Int64GetDatum(sum.value[FA_COUNT_ROWS_READ]);
		values[4] = Int64GetDatum(sum.value[FA_COUNT_ROWS_WRITTEN]);
		values[5] = Float8GetDatum(sum.value[FA_COUNT_NS] / 1e6);
		values[6] = Float8GetDatum(sum.value[FA_COUNT_REMOTE_NS] / 1e6);
		values[7] = TimestampTzGetDatum(fa_counters_last_access(slot));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(fa_sql_event_stats);

/* event_stats(OUT recorded, OUT lost): sequence events, of this server */
Datum
fa_sql_event_stats(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	FaCaptureDatabase *db;

	fa_shmem_require();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	db = fa_capture_database();
	values[0] = Int64GetDatum(fa_events_head());
	values[1] = Int64GetDatum(db ? pg_atomic_read_u64(&db->events_lost) : 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

PG_FUNCTION_INFO_V1(fa_sql_flush_stats);

/*
 * flush_stats(): has the worker drain now and waits for it.  The caller's
 * next statement sees the result.
 */
Datum
fa_sql_flush_stats(PG_FUNCTION_ARGS)
{
	FaCaptureDatabase *db;
	int64		deadline_ns;
	uint64		request;

	fa_shmem_require();
	(void) fa_node_require_cluster();
	db = fa_capture_database();
	if (db == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases of this server use fragaffinity")));
	request = pg_atomic_fetch_add_u64(&db->flush_requested, 1) + 1;
	deadline_ns = fa_clock_ns() + FLUSH_TIMEOUT_MS * INT64CONST(1000000);
	ConditionVariablePrepareToSleep(&db->flushed);
	while (pg_atomic_read_u64(&db->flush_served) < request)
	{
		bool		worker = fa_capture_wake_worker(db);

		if (fa_clock_ns() >= deadline_ns)
		{
			ConditionVariableCancelSleep();
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("statistics were not written within %d s",
							FLUSH_TIMEOUT_MS / 1000),
					 worker ? errdetail("The database's worker is busy.") :
					 errdetail("The database's worker does not run."),
					 errhint("See the server's log for messages of \"fragaffinity worker\".")));
		}
		(void) ConditionVariableTimedSleep(&db->flushed, 200,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}
