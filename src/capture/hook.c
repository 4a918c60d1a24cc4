/*
 * hook.c
 *	  Notices which fragments the statements of this server's clients touch.
 *
 * ExecutorStart looks whether the plan names a distributed table at all; if
 * not, nothing else is done.  If so, the nodes of the plan where fragments
 * are met are found once (touch.c), and at ExecutorEnd those that were really
 * executed are counted: one call for each fragment and statement.
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
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "capture/counters.h"
#include "capture/touch.h"
#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"

/* Above this a statement says nothing about the order of fragments. */
#define MAX_SEQUENCE 4

/* A running statement that may touch fragments; in its query's memory. */
typedef struct Execution
{
	struct Execution *next;
	QueryDesc  *query;
	FaTouchList touches;
	bool		ran;
	uint64		processed;		/* rows, over all runs (a cursor has several) */
	int64		elapsed_ns;
	int64		nested_ns;		/* of that, in statements counted by themselves */
	int64		last_ns;		/* when it ran last */
	MemoryContextCallback forget;
} Execution;

static Execution *executions = NULL;	/* all that are open, cursors too */
static Execution *current = NULL;	/* the one inside ExecutorRun or Finish */

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;
static ExecutorEnd_hook_type prev_executor_end = NULL;

/* Our own background workers are not clients. */
static bool
hook_is_own_worker(void)
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
		!IsParallelWorker() && !hook_is_own_worker();
}

/* Does the plan name a distributed table or a part of one? */
static bool
hook_plan_is_managed(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		/* the table comes before its parts, so that one look-up is enough */
		if (rte->rtekind == RTE_RELATION && fa_map_is_managed(rte->relid))
			return true;
	}
	return false;
}

static bool
hook_plan_has_foreign(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		if (((RangeTblEntry *) lfirst(lc))->relkind == RELKIND_FOREIGN_TABLE)
			return true;
	}
	return false;
}

/*
 * The server's own statements for foreign keys run without triggers, inside
 * one.
 */
static bool
hook_is_internal(int eflags)
{
	return (eflags & EXEC_FLAG_SKIP_TRIGGERS) &&
		DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0;
}

static void
execution_forget(void *arg)
{
	Execution  *ex = arg;

	for (Execution **link = &executions; *link; link = &(*link)->next)
	{
		if (*link == ex)
		{
			*link = ex->next;
			break;
		}
	}
	if (current == ex)
		current = NULL;
}

static Execution *
execution_find(QueryDesc *query)
{
	for (Execution *ex = executions; ex; ex = ex->next)
	{
		if (ex->query == query)
			return ex;
	}
	return NULL;
}

/* After ExecutorStart of a plan with fragments. */
static void
execution_begin(QueryDesc *query, int64 started_ns)
{
	MemoryContext old = MemoryContextSwitchTo(query->estate->es_query_cxt);
	Execution  *ex = palloc0(sizeof(Execution));

	if (fa_touch_collect(query, &ex->touches))
	{
		ex->query = query;
		/* connecting to the owner is part of what it costs to be elsewhere */
		if (started_ns != 0)
			ex->elapsed_ns = fa_clock_ns() - started_ns;
		ex->forget.func = execution_forget;
		ex->forget.arg = ex;
		MemoryContextRegisterResetCallback(CurrentMemoryContext, &ex->forget);
		ex->next = executions;
		executions = ex;
	}
	else
		pfree(ex);
	MemoryContextSwitchTo(old);
}

static void
execution_took(Execution *ex, Execution *outer, int64 started_ns)
{
	int64		took;

	ex->last_ns = fa_clock_ns();
	took = ex->last_ns - started_ns;
	ex->elapsed_ns += took;
	if (outer)
		outer->nested_ns += took;
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

/* At ExecutorEnd, before the plan's state goes. */
static void
execution_count(Execution *ex)
{
	FaAccess	one;
	FaAccess   *access = &one;
	MemoryContext old = MemoryContextSwitchTo(ex->query->estate->es_query_cxt);
	int			n = fa_touch_result(ex->query, &ex->touches, ex->processed,
									Max(ex->elapsed_ns - ex->nested_ns, 0),
									&access);

	if (n > 0)
		fa_capture_record(access, n, fa_clock_timestamp(ex->last_ns));
	MemoryContextSwitchTo(old);
}

static void
hook_executor_start(QueryDesc *queryDesc, int eflags)
{
	bool		wanted = !(eflags & EXEC_FLAG_EXPLAIN_ONLY) &&
		fa_capture_counts() &&
		hook_plan_is_managed(queryDesc->plannedstmt) &&
		!hook_is_internal(eflags);
	int64		started_ns = 0;

	if (wanted && hook_plan_has_foreign(queryDesc->plannedstmt))
		started_ns = fa_clock_ns();

	/* parallel workers report what their nodes did only if told from the start */
	if (wanted && queryDesc->plannedstmt->parallelModeNeeded)
		queryDesc->instrument_options |= INSTRUMENT_ROWS;
	if (prev_executor_start)
		prev_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
	if (wanted)
		execution_begin(queryDesc, started_ns);
}

static void
hook_call_run(FA_EXECUTOR_RUN_PARAMS)
{
	if (prev_executor_run)
		prev_executor_run(FA_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(FA_EXECUTOR_RUN_ARGS);
}

static void
hook_executor_run(FA_EXECUTOR_RUN_PARAMS)
{
	Execution  *ex = execution_find(queryDesc);
	Execution  *outer = current;
	int64		started_ns;

	if (ex == NULL)
	{
		hook_call_run(FA_EXECUTOR_RUN_ARGS);
		return;
	}
	started_ns = fa_clock_ns();
	current = ex;
	PG_TRY();
	{
		hook_call_run(FA_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		current = outer;
	}
	PG_END_TRY();
	ex->ran = true;
	ex->processed += queryDesc->estate->es_processed;
	execution_took(ex, outer, started_ns);
}

static void
hook_call_finish(QueryDesc *queryDesc)
{
	if (prev_executor_finish)
		prev_executor_finish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);
}

static void
hook_executor_finish(QueryDesc *queryDesc)
{
	Execution  *ex = queryDesc->operation == CMD_SELECT ? NULL :
		execution_find(queryDesc);
	Execution  *outer = current;
	int64		started_ns;

	/* a query that only reads has nothing to finish */
	if (ex == NULL)
	{
		hook_call_finish(queryDesc);
		return;
	}
	started_ns = fa_clock_ns();
	current = ex;
	PG_TRY();
	{
		hook_call_finish(queryDesc);
	}
	PG_FINALLY();
	{
		current = outer;
	}
	PG_END_TRY();
	execution_took(ex, outer, started_ns);
}

static void
hook_executor_end(QueryDesc *queryDesc)
{
	Execution  *ex = execution_find(queryDesc);

	if (ex)
	{
		if (ex->ran && IsTransactionState())
			execution_count(ex);
		execution_forget(ex);
	}
	if (prev_executor_end)
		prev_executor_end(queryDesc);
	else
		standard_ExecutorEnd(queryDesc);
}

void
fa_hook_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = hook_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = hook_executor_run;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = hook_executor_finish;
	prev_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = hook_executor_end;
}
