/*
 * database.c
 *	  The worker of one database: calls each room's periodic work.
 *
 * Every task runs in transactions of its own.  An error in one is logged and
 * ends that run of the task only; what it left undone, it does at its next
 * run.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "capture/capture.h"
#include "catalog/membership.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "migrate/move.h"
#include "node/cluster_xact.h"
#include "node/deadlock.h"
#include "node/peer_pool.h"
#include "placement/foresee.h"
#include "placement/placement.h"
#include "worker/worker.h"

typedef struct Task
{
	const char *name;
	void		(*run) (void);
	int			interval_ms;
	TimestampTz due;
	int			(*tick_ms) (void);	/* a shorter interval, or NULL */
} Task;

static void
task_links(void)
{
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (fa_node_self() != 0)
	{
		(void) fa_link_sync_mappings();
		(void) fa_link_sync_costs();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void worker_sleep(void);

/* Answers of peers run callbacks, which can fail as tasks can. */
static Task sleep_task = {"serve peers", worker_sleep};

/* In the order in which they run when all are due. */
static Task tasks[] = {
	/* before the step's counts are marked complete */
	{"foresee sessions", fa_foresee_step, 1000, 0, fa_capture_tick_ms},
	{"count accesses", fa_capture_drain, 1000, 0, fa_capture_tick_ms},
	{"sample metrics", fa_capture_sample, 1000},
	{"connect to peers", fa_pool_sync_nodes, 1000},
	/* before larger questions, or they would count as distance */
	{"ask peers", fa_map_refresh, 1000},
	{"look for deadlocks", fa_deadlock_step, 500, 0, fa_deadlock_tick_ms},
	{"collect history", fa_capture_collect, 1000, 0, fa_capture_tick_ms},
	{"place fragments", fa_placement_step, 1000, 0, fa_placement_tick_ms},
	{"resolve transactions", fa_xact_resolve, 2000},
	{"clean up after moves", fa_move_cleanup, 2000},
	{"keep up links", task_links, 10000},
};

static bool
worker_extension_exists(void)
{
	bool		exists;

	StartTransactionCommand();
	exists = fa_extension_exists();
	CommitTransactionCommand();
	return exists;
}

static void
worker_run_task(Task *task, MemoryContext context)
{
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_RUNNING, task->name);
	PG_TRY();
	{
		task->run();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		HOLD_INTERRUPTS();
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		/* not worth a word while the extension is being dropped */
		if (worker_extension_exists())
		{
			error->elevel = LOG;
			ThrowErrorData(error);
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	MemoryContextReset(context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ms until the next task is due. */
static long
worker_nap(TimestampTz now)
{
	long		nap = 1000;

	for (int i = 0; i < lengthof(tasks); i++)
		nap = Min(nap, TimestampDifferenceMilliseconds(now, tasks[i].due));
	return nap;
}

static int
worker_interval(const Task *task)
{
	return task->tick_ms ? Min(task->tick_ms(), task->interval_ms) :
		task->interval_ms;
}

/* Serves the connections to peers until the next task is due. */
static void
worker_sleep(void)
{
	fa_pool_run(worker_nap(GetCurrentTimestamp()));
	if (fa_capture_flush_wanted())
		fa_capture_drain();
}

static void
worker_loop(MemoryContext context)
{
	for (;;)
	{
		for (int i = 0; i < lengthof(tasks); i++)
		{
			TimestampTz now = GetCurrentTimestamp();

			/* a clock set back must not silence a task */
			if (tasks[i].due > now &&
				tasks[i].due < TimestampTzPlusMilliseconds(now, 2 * tasks[i].interval_ms))
				continue;
			if (!worker_extension_exists())
				return;
			worker_run_task(&tasks[i], context);
			/* what it has found can be a reason to come back soon */
			if (tasks[i].tick_ms)
				now = GetCurrentTimestamp();
			tasks[i].due = TimestampTzPlusMilliseconds(now, worker_interval(&tasks[i]));
		}
		worker_run_task(&sleep_task, context);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

/* The extension is not here, or not any more. */
static void
worker_forget_all(Oid dbid)
{
	fa_slots_forget(dbid);
	fa_worker_forget(dbid);
}

void
fa_database_main(Datum arg)
{
	Oid			dbid = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dbid, InvalidOid, 0);
	fa_background_session();
	if (!worker_extension_exists())
	{
		worker_forget_all(dbid);
		proc_exit(0);
	}
	if (!fa_worker_attach(dbid))
		proc_exit(0);
	worker_loop(AllocSetContextCreate(TopMemoryContext, "fragaffinity worker",
									  ALLOCSET_DEFAULT_SIZES));
	worker_forget_all(dbid);
	proc_exit(0);
}

static bool wake_at_commit = false;

static void
wake_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && wake_at_commit)
		fa_worker_wake(MyDatabaseId);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		wake_at_commit = false;
}

PG_FUNCTION_INFO_V1(fa_sql_start_worker);

/* start_worker(): the launcher looks for this database once we commit. */
Datum
fa_sql_start_worker(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(wake_xact_callback, NULL);
	registered = true;
	wake_at_commit = true;
	PG_RETURN_VOID();
}
