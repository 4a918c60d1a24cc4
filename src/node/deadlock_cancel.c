/*
 * deadlock_cancel.c
 *	  Waits for locks as shared memory shows them, and how one is ended.
 *
 * A victim's wait ends as the server's own search for deadlocks ends one: the
 * process is taken out of the lock's queue, and finds that the lock cannot be
 * had.  lmgr is written for that to be done by another process, too (see
 * CheckDeadLock() and LockErrorCleanup()).  So the victim raises the server's
 * own 40P01, which a client's program or an exception block can catch, and the
 * server counts it in pg_stat_database.  If it is a session of postgres_fdw,
 * its origin raises the same error for the client.
 *
 * Who waits for whom is not known to the victim: that stands in shared memory,
 * and becomes the error's detail.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/fa_compat.h"
#include "node/deadlock.h"
#include "node/xact_stats.h"

#define NVICTIMS 64
#define VICTIM_MS 5000			/* by then it has raised its error */
#define UNIX_EPOCH_US \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct Victim
{
	int			pid;			/* 0: unused */
	TimestampTz since;
	char		detail[1024];
} Victim;

typedef struct FaVictims
{
	slock_t		lock;			/* protects all fields */
	int			next;
	Victim		victim[NVICTIMS];
} FaVictims;

static FaVictims *victims = NULL;
static emit_log_hook_type prev_emit_log = NULL;

static Size
victims_size(void)
{
	return sizeof(FaVictims);
}

static void
victims_init(void *ptr, bool found)
{
	victims = ptr;
	if (!found)
	{
		memset(victims, 0, sizeof(FaVictims));
		SpinLockInit(&victims->lock);
	}
}

const FaShmemPart fa_deadlock_part = {
	"fragaffinity deadlocks", victims_size, victims_init
};

/* The process whose transaction it is that this one works for: itself, or a leader. */
static int
proc_session(PGPROC *proc)
{
	PGPROC	   *leader = proc->lockGroupLeader;

	return leader ? leader->pid : proc->pid;
}

/* When the process's wait for a lock began; 0: it does not wait. */
static TimestampTz
proc_wait_start(PGPROC *proc)
{
	return (TimestampTz) pg_atomic_read_u64(&proc->waitStart);
}

/*
 * The process that waits, for this one's transaction, since then (in Unix time):
 * itself or a parallel worker; NULL when it has changed.
 */
static PGPROC *
proc_waiting(int pid, int64 wait_start)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];

		if (proc->pid != 0 && proc_session(proc) == pid &&
			proc_wait_start(proc) + UNIX_EPOCH_US == wait_start)
			return proc;
	}
	return NULL;
}

TimestampTz
fa_deadlock_newest_wait(int64 age_ms)
{
	TimestampTz limit = GetCurrentTimestamp() - age_ms * 1000;
	TimestampTz newest = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		TimestampTz start = proc_wait_start(proc);

		if (start != 0 && proc->pid != 0 && proc->databaseId == MyDatabaseId &&
			start <= limit && start > newest)
			newest = start;
	}
	return newest;
}

static void
victim_note(int pid, const char *detail)
{
	Victim	   *v;

	SpinLockAcquire(&victims->lock);
	v = &victims->victim[victims->next];
	victims->next = (victims->next + 1) % NVICTIMS;
	v->pid = pid;
	v->since = GetCurrentTimestamp();
	strlcpy(v->detail, detail, sizeof(v->detail));
	SpinLockRelease(&victims->lock);
}

bool
fa_deadlock_end_wait(int pid, int64 wait_start, const char *detail)
{
	PGPROC	   *proc = proc_waiting(pid, wait_start);
	int			waiter = proc ? proc->pid : 0;
	bool		ended = false;

	if (proc == NULL)
		return false;

	/* All partitions, in their order: which is the lock's, only they say. */
	for (int i = 0; i < NUM_LOCK_PARTITIONS; i++)
		LWLockAcquire(LockHashPartitionLockByIndex(i), LW_EXCLUSIVE);
	if (proc->pid == waiter && proc->waitLock != NULL &&
		proc->waitStatus == PROC_WAIT_STATUS_WAITING &&
		proc_wait_start(proc) + UNIX_EPOCH_US == wait_start)
	{
		victim_note(waiter, detail);
		RemoveFromWaitQueue(proc, LockTagHashCode(&proc->waitLock->tag));
		ended = true;
	}
	for (int i = NUM_LOCK_PARTITIONS; --i >= 0;)
		LWLockRelease(LockHashPartitionLockByIndex(i));
	if (!ended)
		return false;
	SetLatch(&proc->procLatch);
	fa_xact_count(FA_XACT_DEADLOCKS);
	ereport(LOG,
			(errmsg("ending a deadlock over several nodes: process %d gives way",
					pid),
			 errdetail_internal("%s", detail)));
	return true;
}

PG_FUNCTION_INFO_V1(fa_sql_end_lock_wait);

/* end_lock_wait(pid, wait_start, detail): asked by a node that found a circle */
Datum
fa_sql_end_lock_wait(PG_FUNCTION_ARGS)
{
	fa_shmem_require();
	PG_RETURN_BOOL(fa_deadlock_end_wait(PG_GETARG_INT32(0),
										PG_GETARG_INT64(1),
										text_to_cstring(PG_GETARG_TEXT_PP(2))));
}

/* Has this process been taken out of a queue?  Takes the record out. */
static bool
victim_take(char *detail, size_t size)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		found = false;

	SpinLockAcquire(&victims->lock);
	for (int i = 0; i < NVICTIMS; i++)
	{
		Victim	   *v = &victims->victim[i];

		if (v->pid != MyProcPid)
			continue;
		v->pid = 0;
		if (now > TimestampTzPlusMilliseconds(v->since, VICTIM_MS))
			continue;
		found = true;
		strlcpy(detail, v->detail, size);
	}
	SpinLockRelease(&victims->lock);
	return found;
}

/*
 * The detail has a line for each session of the circle.  With one alone, the
 * transaction's parts on a node wait for each other: DDL runs there in another
 * session than statements on rows.  No retry will help.
 */
static bool
victim_waits_for_itself(const char *detail)
{
	return strchr(detail, '\n') == NULL;
}

#define ITSELF_MESSAGE "this transaction waits for itself on another node"
#define ITSELF_HINT "Change a table's definition in a transaction of its own, " \
	"apart from statements on its rows."
#define RETRY_HINT "The transaction might succeed if retried."

void
fa_deadlock_error_context(void *arg)
{
	char		detail[1024];

	if (geterrcode() != ERRCODE_T_R_DEADLOCK_DETECTED ||
		!victim_take(detail, sizeof(detail)))
		return;
	errdetail_internal("%s", detail);
	errdetail_log("%s", detail);
	if (victim_waits_for_itself(detail))
	{
		errcode(ERRCODE_OBJECT_IN_USE);
		errmsg(ITSELF_MESSAGE);
		errhint(ITSELF_HINT);
	}
	else
		errhint(RETRY_HINT);
}

/* Locks are waited for outside the executor, too: the last chance. */
static void
victim_emit_log(ErrorData *edata)
{
	char		detail[1024];
	bool		itself;

	if (edata->elevel == ERROR &&
		edata->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED && victims &&
		victim_take(detail, sizeof(detail)))
	{
		edata->detail = MemoryContextStrdup(edata->assoc_context, detail);
		edata->detail_log = NULL;	/* the log shows the detail then */
		itself = victim_waits_for_itself(detail);
		edata->hint = MemoryContextStrdup(edata->assoc_context,
										  itself ? ITSELF_HINT : RETRY_HINT);
		if (itself)
		{
			edata->sqlerrcode = ERRCODE_OBJECT_IN_USE;
			edata->message = MemoryContextStrdup(edata->assoc_context,
												 ITSELF_MESSAGE);
		}
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

void
fa_deadlock_init(void)
{
	prev_emit_log = emit_log_hook;
	emit_log_hook = victim_emit_log;
}

PG_FUNCTION_INFO_V1(fa_sql_lock_waiters);

/*
 * lock_waiters(OUT pid, OUT wait_start): sessions of this database, one also for
 * each of its parallel workers that waits
 */
Datum
fa_sql_lock_waiters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		TimestampTz start = proc_wait_start(proc);
		Datum		values[2] = {Int32GetDatum(proc_session(proc)),
		TimestampTzGetDatum(start)};
		bool		nulls[2] = {false, false};

		if (start != 0 && proc->pid != 0 && proc->databaseId == MyDatabaseId)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 nulls);
	}
	return (Datum) 0;
}
