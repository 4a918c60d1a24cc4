/*
 * launcher.c
 *	  Starts a worker in each database that has the extension.
 *
 * Which databases have it can only be seen from inside, so the launcher
 * tries every database once: the worker looks and leaves at once when there
 * is nothing for it.  CREATE EXTENSION asks for another round.  A worker
 * that died is started again; one that left because the extension is gone is
 * not.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/background.h"
#include "core/shmem.h"
#include "worker/worker.h"

#define MAX_WORKERS 64
#define LAUNCHER_NAP_MS 5000
#define STOPPED_MS 60000		/* how long a stopped database is left alone */

typedef struct WorkerEntry
{
	Oid			dbid;			/* invalid: free */
	int			pid;			/* 0: not running */
	Latch	   *latch;
	TimestampTz stopped_until;	/* do not start before; 0: no */
} WorkerEntry;

typedef struct FaWorkers
{
	slock_t		lock;			/* protects all fields */
	Latch	   *launcher;
	bool		rescan;			/* look into all databases again */
	WorkerEntry entry[MAX_WORKERS];
} FaWorkers;

static FaWorkers *workers = NULL;

static Size
workers_size(void)
{
	return sizeof(FaWorkers);
}

static void
workers_init(void *ptr, bool found)
{
	workers = ptr;
	if (!found)
	{
		memset(workers, 0, sizeof(FaWorkers));
		SpinLockInit(&workers->lock);
	}
}

static void
workers_forget_database(Oid dbid)
{
	SpinLockAcquire(&workers->lock);
	for (int i = 0; i < MAX_WORKERS; i++)
	{
		if (workers->entry[i].dbid == dbid)
			memset(&workers->entry[i], 0, sizeof(WorkerEntry));
	}
	SpinLockRelease(&workers->lock);
}

const FaShmemPart fa_worker_part = {
	"fragaffinity workers", workers_size, workers_init,
	.forget_database = workers_forget_database
};

/*
 * Caller holds the spinlock.  An entry is claimed for a database that has none:
 * one that is free, or whose database was stopped and the launcher has not come
 * to, as for a template.  That of a worker that died stays, or nobody would start
 * it again.
 */
static WorkerEntry *
worker_entry(Oid dbid, bool claim)
{
	TimestampTz old = claim ?
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -3 * LAUNCHER_NAP_MS) : 0;
	WorkerEntry *unused = NULL;

	for (int i = 0; i < MAX_WORKERS; i++)
	{
		WorkerEntry *e = &workers->entry[i];

		if (e->dbid == dbid)
			return e;
		if (e->dbid == InvalidOid)
		{
			if (unused == NULL || unused->dbid != InvalidOid)
				unused = e;
		}
		else if (unused == NULL && e->pid == 0 && e->stopped_until != 0 &&
				 e->stopped_until < old)
			unused = e;
	}
	if (claim && unused)
	{
		memset(unused, 0, sizeof(WorkerEntry));
		unused->dbid = dbid;
		return unused;
	}
	return NULL;
}

static void
worker_detach(int code, Datum arg)
{
	WorkerEntry *e;

	SpinLockAcquire(&workers->lock);
	e = worker_entry(DatumGetObjectId(arg), false);
	if (e && e->pid == MyProcPid)
	{
		e->pid = 0;
		e->latch = NULL;
	}
	SpinLockRelease(&workers->lock);
}

void
fa_worker_forget(Oid dbid)
{
	WorkerEntry *e;

	SpinLockAcquire(&workers->lock);
	e = worker_entry(dbid, false);
	if (e && (e->pid == MyProcPid ||
			  (e->pid == 0 && e->stopped_until < GetCurrentTimestamp())))
		memset(e, 0, sizeof(WorkerEntry));
	SpinLockRelease(&workers->lock);
}

bool
fa_worker_attach(Oid dbid)
{
	WorkerEntry *e;
	bool		ok = false;

	SpinLockAcquire(&workers->lock);
	e = worker_entry(dbid, true);
	if (e && e->pid == 0 && (e->stopped_until == 0 ||
							 e->stopped_until < GetCurrentTimestamp()))
	{
		e->pid = MyProcPid;
		e->latch = MyLatch;
		e->stopped_until = 0;
		ok = true;
	}
	SpinLockRelease(&workers->lock);
	if (ok)
		before_shmem_exit(worker_detach, ObjectIdGetDatum(dbid));
	return ok;
}

void
fa_worker_wake(Oid dbid)
{
	WorkerEntry *e;
	Latch	   *latch = NULL;

	if (workers == NULL)
		return;
	SpinLockAcquire(&workers->lock);
	e = worker_entry(dbid, false);
	if (e && e->pid != 0)
		latch = e->latch;
	else
	{
		workers->rescan = true;
		latch = workers->launcher;
	}
	SpinLockRelease(&workers->lock);
	if (latch)
		SetLatch(latch);
}

void
fa_worker_stop_database(Oid dbid)
{
	if (workers == NULL)
		return;
	for (int tries = 0; tries < 500; tries++)
	{
		WorkerEntry *e;
		int			pid = 0;

		SpinLockAcquire(&workers->lock);
		e = worker_entry(dbid, true);
		if (e)
		{
			pid = e->pid;
			e->stopped_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														   STOPPED_MS);
		}
		SpinLockRelease(&workers->lock);
		if (pid == 0)
			return;
		if (tries == 0)
			(void) kill(pid, SIGTERM);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
fa_worker_register_launcher(void)
{
	BackgroundWorker worker;

	fa_background_describe(&worker, "fa_launcher_main", "fragaffinity launcher",
						   (Datum) 0);
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/* Starts a worker and waits until it stays or is gone. */
static void
launcher_start(Oid dbid, const char *dbname)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	fa_background_describe(&worker, "fa_database_main", "fragaffinity worker",
						   ObjectIdGetDatum(dbid));
	snprintf(worker.bgw_name, BGW_MAXLEN, "fragaffinity worker for %s", dbname);
	if (!fa_background_start(&worker, &handle))
	{
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no worker process left for database \"%s\"", dbname),
				 errhint("Increase max_worker_processes.")));
		return;
	}
	while (GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED)
	{
		WorkerEntry *e;
		bool		attached;

		SpinLockAcquire(&workers->lock);
		e = worker_entry(dbid, false);
		attached = e && e->pid == pid;
		SpinLockRelease(&workers->lock);
		if (attached)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(handle);
}

typedef struct KnownDatabase
{
	Oid			dbid;
	char		name[NAMEDATALEN];
} KnownDatabase;

/* Databases that accept connections; palloc'd list. */
static List *
launcher_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *list = NIL;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		if (form->datallowconn && !form->datistemplate)
		{
			KnownDatabase *db = palloc(sizeof(KnownDatabase));

			db->dbid = form->oid;
			strlcpy(db->name, NameStr(form->datname), NAMEDATALEN);
			list = lappend(list, db);
		}
		MemoryContextSwitchTo(old);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return list;
}

/*
 * One round.  all: every database; else only those whose worker has been
 * here and died.
 */
static void
launcher_round(bool all)
{
	ListCell   *lc;

	foreach(lc, launcher_databases())
	{
		KnownDatabase *db = lfirst(lc);
		WorkerEntry *e;
		bool		start;

		SpinLockAcquire(&workers->lock);
		e = worker_entry(db->dbid, false);
		if (e == NULL)
			start = all;
		else
			start = e->pid == 0 && (e->stopped_until == 0 ||
									e->stopped_until < GetCurrentTimestamp());
		SpinLockRelease(&workers->lock);
		if (start)
			launcher_start(db->dbid, db->name);
	}
}

void
fa_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	context = AllocSetContextCreate(TopMemoryContext, "fragaffinity launcher",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	SpinLockAcquire(&workers->lock);
	workers->launcher = MyLatch;
	workers->rescan = true;
	SpinLockRelease(&workers->lock);
	for (;;)
	{
		bool		all;

		SpinLockAcquire(&workers->lock);
		all = workers->rescan;
		workers->rescan = false;
		SpinLockRelease(&workers->lock);
		launcher_round(all);
		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LAUNCHER_NAP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
