/*
 * counters.c
 *	  Counters of accesses in shared memory.
 *
 * A backend adds to the cell of (fragment, current time step) with atomic
 * additions; two backends meet only when they use one fragment at the same
 * time.  The worker reads the cells, writes what has grown since the last
 * time into tables, and only after its commit remembers it as drained.  The
 * memory of a server that crashed is gone, and with it what was not drained.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "capture/counters.h"
#include "core/settings.h"

#define MAX_DATABASES 64
#define DEFAULT_INTERVAL_US INT64CONST(60000000)

typedef struct CaptureShared
{
	slock_t		lock;			/* protects the claim of a database and its
								 * worker's latch */
	FaCaptureDatabase database[MAX_DATABASES];
	/* fa_max_fragments counters follow, then the drained counts */
} CaptureShared;

typedef FaCounts Drained[FA_BANKS];

static CaptureShared *shared = NULL;
static FaCounter *counters = NULL;
static Drained *drained = NULL; /* written by workers only */
static FaCaptureDatabase *my_database = NULL;

static Size
counters_size(void)
{
	Size		size = CACHELINEALIGN(sizeof(CaptureShared));

	size = add_size(size, mul_size(fa_max_fragments, sizeof(FaCounter)));
	return add_size(size, mul_size(fa_max_fragments, sizeof(Drained)));
}

/* Belongs to nobody yet, or no more. */
static void
database_init(FaCaptureDatabase *db)
{
	memset(db, 0, sizeof(FaCaptureDatabase));
	pg_atomic_init_u64(&db->interval_us, DEFAULT_INTERVAL_US);
	pg_atomic_init_u64(&db->event_tail, 0);
	pg_atomic_init_u64(&db->events_lost, 0);
	pg_atomic_init_u64(&db->flush_requested, 0);
	pg_atomic_init_u64(&db->flush_served, 0);
	ConditionVariableInit(&db->flushed);
}

static void
counters_init(void *ptr, bool found)
{
	shared = ptr;
	counters = (FaCounter *) ((char *) ptr + CACHELINEALIGN(sizeof(CaptureShared)));
	drained = (Drained *) &counters[fa_max_fragments];
	if (found)
		return;

	/*
	 * New shared memory is zero, which is the initial state of the counters;
	 * writing it would only make the memory resident.  Where 64-bit atomics
	 * are simulated they need more than zeroes.
	 */
	memset(shared, 0, sizeof(CaptureShared));
	SpinLockInit(&shared->lock);
	for (int i = 0; i < MAX_DATABASES; i++)
		database_init(&shared->database[i]);
#ifdef PG_HAVE_ATOMIC_U64_SIMULATION
	for (int i = 0; i < fa_max_fragments; i++)
	{
		for (int b = 0; b < FA_BANKS; b++)
		{
			FaCounterCell *cell = &counters[i].bank[b];

			pg_atomic_init_u64(&cell->last_access, 0);
			for (int c = 0; c < FA_NCOUNTS; c++)
				pg_atomic_init_u64(&cell->count[c], 0);
		}
	}
#endif
}

/* They are drained, or nobody wants them; totals keep them. */
static void
counters_forget_slot(int slot)
{
	FaCaptureDatabase *db = NULL;

	for (int i = 0; i < MAX_DATABASES && db == NULL; i++)
	{
		if (shared->database[i].dbid == fa_slot_get(slot)->dbid)
			db = &shared->database[i];
	}
	for (int b = 0; b < FA_BANKS; b++)
	{
		FaCounterCell *cell = &counters[slot].bank[b];

		for (int c = 0; c < FA_NCOUNTS; c++)
		{
			if (db)
				db->given_back.value[c] += pg_atomic_read_u64(&cell->count[c]);
			pg_atomic_write_u64(&cell->count[c], 0);
			drained[slot][b].value[c] = 0;
		}
		pg_atomic_write_u64(&cell->last_access, 0);
	}
}

static void
counters_forget_database(Oid dbid)
{
	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (shared->database[i].dbid == dbid)
			database_init(&shared->database[i]);
	}
	SpinLockRelease(&shared->lock);
}

const FaShmemPart fa_counters_part = {
	"fragaffinity counters", counters_size, counters_init,
	.forget_slot = counters_forget_slot,
	.forget_database = counters_forget_database
};

FaCaptureDatabase *
fa_capture_database(void)
{
	FaCaptureDatabase *unused = NULL;

	if (my_database || shared == NULL || !OidIsValid(MyDatabaseId))
		return my_database;
	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < MAX_DATABASES && my_database == NULL; i++)
	{
		FaCaptureDatabase *db = &shared->database[i];

		if (db->dbid == MyDatabaseId)
			my_database = db;
		else if (unused == NULL && !OidIsValid(db->dbid))
			unused = db;
	}
	if (my_database == NULL && unused)
	{
		my_database = unused;
		my_database->dbid = MyDatabaseId;
	}
	SpinLockRelease(&shared->lock);
	return my_database;
}

void
fa_capture_set_worker(FaCaptureDatabase *db, Latch *latch)
{
	SpinLockAcquire(&shared->lock);
	db->worker = latch;
	SpinLockRelease(&shared->lock);
}

/* A latch belongs to a process slot, which outlives the process. */
bool
fa_capture_wake_worker(FaCaptureDatabase *db)
{
	Latch	   *latch;

	SpinLockAcquire(&shared->lock);
	latch = db->worker;
	SpinLockRelease(&shared->lock);
	if (latch)
		SetLatch(latch);
	return latch != NULL;
}

TimestampTz
fa_clock_timestamp(int64 clock_ns)
{
	static int64 compared_ns = 0;
	static int64 offset_us = 0;

	/* once a second is enough for clocks that drift apart */
	if (compared_ns == 0 || clock_ns - compared_ns > FA_CLOCK_CHECK_US * 1000)
	{
		compared_ns = fa_clock_ns();
		offset_us = GetCurrentTimestamp() - compared_ns / 1000;
	}
	return offset_us + clock_ns / 1000;
}

void
fa_counters_add(const FaAccess *a, TimestampTz when)
{
	FaCaptureDatabase *db = fa_capture_database();
	FaCounterCell *cell;
	uint64		step;

	if (db == NULL || a->slot < 0)
		return;
	step = (uint64) when / pg_atomic_read_u64(&db->interval_us);
	cell = &counters[a->slot].bank[step % FA_BANKS];
	pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_CALLS], 1);
	if (a->rows_read)
		pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_ROWS_READ], a->rows_read);
	if (a->rows_written)
		pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_ROWS_WRITTEN], a->rows_written);
	pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_NS], a->elapsed_ns);
	if (a->remote)
	{
		pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_REMOTE_CALLS], 1);
		pg_atomic_fetch_add_u64(&cell->count[FA_COUNT_REMOTE_NS], a->elapsed_ns);
	}
	pg_atomic_write_u64(&cell->last_access, when);
}

TimestampTz
fa_counters_last_access(int slot)
{
	TimestampTz last = 0;

	for (int b = 0; b < FA_BANKS; b++)
	{
		TimestampTz when = pg_atomic_read_u64(&counters[slot].bank[b].last_access);

		last = Max(last, when);
	}
	return last;
}

bool
fa_counters_delta(int slot, int bank, FaCounts *delta_p)
{
	pg_atomic_uint64 *cell = counters[slot].bank[bank].count;
	const FaCounts *old = &drained[slot][bank];
	bool		any = false;

	/* the cheap question first: it is asked of every cell */
	if (pg_atomic_read_u64(&cell[FA_COUNT_CALLS]) == old->value[FA_COUNT_CALLS])
		return false;
	for (int c = 0; c < FA_NCOUNTS; c++)
	{
		delta_p->value[c] = pg_atomic_read_u64(&cell[c]) - old->value[c];
		any |= delta_p->value[c] != 0;
	}
	return any;
}

void
fa_counters_drained(int slot, int bank, const FaCounts *delta)
{
	for (int c = 0; c < FA_NCOUNTS; c++)
		drained[slot][bank].value[c] += delta->value[c];
}

void
fa_counters_total(FaCounts *total_p)
{
	FaCaptureDatabase *db = fa_capture_database();
	int			n = fa_slot_count();

	memset(total_p, 0, sizeof(*total_p));
	if (db == NULL)
		return;
	fa_slots_lock();
	*total_p = db->given_back;
	for (int i = 0; i < n; i++)
	{
		if (fa_slot_get(i)->dbid != MyDatabaseId)
			continue;
		for (int b = 0; b < FA_BANKS; b++)
			for (int c = 0; c < FA_NCOUNTS; c++)
				total_p->value[c] +=
					pg_atomic_read_u64(&counters[i].bank[b].count[c]);
	}
	fa_slots_unlock();
}
