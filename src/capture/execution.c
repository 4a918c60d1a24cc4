/*
 * execution.c
 *	  Which fragments the statements of this server's clients touch.
 *
 * Called by the hooks for statements that name a distributed table.  The nodes
 * of the plan where fragments are met are found once, after ExecutorStart
 * (touch.c), and at ExecutorEnd those that were really executed are counted:
 * one call for each fragment and statement.
 *
 * Counted is what this node's own clients do, wherever the rows are; what a
 * peer forwards to us was counted there.  Not counted: EXPLAIN without
 * ANALYZE, parallel workers (the leader counts), checks of foreign keys (part
 * of the statement that fires them), statements that fail, and our own
 * workers.  A statement inside a function counts by itself; its time is taken
 * off the statement around it.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "capture/capture.h"
#include "capture/counters.h"
#include "capture/touch.h"
#include "core/settings.h"

/* Above this a statement says nothing about the order of fragments. */
#define MAX_SEQUENCE 4

static FaExecution *current = NULL; /* the one inside ExecutorRun or Finish */

/* Our own background workers are not clients. */
static bool
capture_is_own_worker(void)
{
	static int	own = -1;

	if (own < 0)
		own = MyBgworkerEntry != NULL &&
			strcmp(MyBgworkerEntry->bgw_library_name, "fragaffinity") == 0;
	return own;
}

bool
fa_capture_counts(void)
{
	return fa_capture && fa_origin == 0 && !fa_maintenance &&
		!IsParallelWorker() && !capture_is_own_worker();
}

/*
 * The server's own statements for foreign keys run without triggers, inside
 * one.
 */
static bool
capture_is_internal(int eflags)
{
	return (eflags & EXEC_FLAG_SKIP_TRIGGERS) &&
		DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0;
}

bool
fa_capture_wants(QueryDesc *query, int eflags, bool foreign,
				 int64 *started_ns_p)
{
	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) || !fa_capture_counts() ||
		capture_is_internal(eflags))
		return false;
	/* connecting to the owner is part of what it costs to be elsewhere */
	*started_ns_p = foreign ? fa_clock_ns() : 0;
	/* parallel workers report what their nodes did only if told from the start */
	if (query->plannedstmt->parallelModeNeeded)
		query->instrument_options |= INSTRUMENT_ROWS;
	return true;
}

bool
fa_capture_begin(FaExecution *ex, QueryDesc *query, int64 started_ns)
{
	MemoryContext caller = MemoryContextSwitchTo(query->estate->es_query_cxt);
	bool		touches;

	memset(ex, 0, sizeof(*ex));
	touches = fa_touch_collect(query, &ex->touches);
	if (touches && started_ns != 0)
		ex->elapsed_ns = fa_clock_ns() - started_ns;
	MemoryContextSwitchTo(caller);
	return touches;
}

void
fa_capture_enter(FaExecution *ex, FaCaptureSpan *span)
{
	span->outer = current;
	if (ex == NULL)
		return;
	span->started_ns = fa_clock_ns();
	current = ex;
}

void
fa_capture_leave(FaExecution *ex, FaCaptureSpan *span)
{
	int64		took;

	current = span->outer;
	if (ex == NULL)
		return;
	ex->last_ns = fa_clock_ns();
	took = ex->last_ns - span->started_ns;
	ex->elapsed_ns += took;
	if (span->outer)
		span->outer->nested_ns += took;
}

void
fa_capture_fail(FaCaptureSpan *span)
{
	current = span->outer;
}

void
fa_capture_ran(FaExecution *ex, QueryDesc *query)
{
	ex->ran = true;
	ex->processed += query->estate->es_processed;
}

void
fa_capture_record(const FaAccess *access, int n, TimestampTz when)
{
	for (int i = 0; i < n; i++)
	{
		fa_counters_add(&access[i], when);
		if (n <= MAX_SEQUENCE)
			fa_events_append(access[i].slot, access[i].written, when);
	}
}

void
fa_capture_end(FaExecution *ex, QueryDesc *query)
{
	FaAccess	one;
	FaAccess   *access = &one;
	MemoryContext caller;
	int			n;

	if (!ex->ran || !IsTransactionState())
		return;
	caller = MemoryContextSwitchTo(query->estate->es_query_cxt);
	n = fa_touch_result(query, &ex->touches, ex->processed,
						Max(ex->elapsed_ns - ex->nested_ns, 0), &access);
	if (n > 0)
		fa_capture_record(access, n, fa_clock_timestamp(ex->last_ns));
	MemoryContextSwitchTo(caller);
}
