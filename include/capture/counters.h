/*
 * counters.h
 *	  Counters of accesses in shared memory, and the capture's own state there.
 *
 * A fragment has a cell for each of the last FA_BANKS time steps, so that an
 * access counts for the step in which it ended although the worker comes
 * later.  Cells only grow; what has been drained of them is remembered beside
 * them.  Counting takes no lock.
 */
#ifndef FA_CAPTURE_COUNTERS_H
#define FA_CAPTURE_COUNTERS_H

#include <time.h>

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"

#include "core/shmem.h"

#define FA_BANKS 8

typedef enum FaCount
{
	FA_COUNT_CALLS,
	FA_COUNT_REMOTE_CALLS,		/* among the calls */
	FA_COUNT_ROWS_READ,
	FA_COUNT_ROWS_WRITTEN,
	FA_COUNT_NS,				/* elapsed */
	FA_COUNT_REMOTE_NS,			/* of that, of the remote calls */
	FA_NCOUNTS
} FaCount;

typedef struct FaCounts
{
	int64		value[FA_NCOUNTS];
} FaCounts;

/* What one access changes, in one cache line. */
typedef union FaCounterCell
{
	struct
	{
		pg_atomic_uint64 count[FA_NCOUNTS];
		pg_atomic_uint64 last_access;	/* TimestampTz */
	};
	char		pad[64];
} FaCounterCell;

typedef struct FaCounter
{
	FaCounterCell bank[FA_BANKS]; /* by time step modulo FA_BANKS */
} FaCounter;

/* One for each database with the extension; given back when it is dropped. */
typedef struct FaCaptureDatabase
{
	Oid			dbid;			/* guarded by the lock; invalid: free */
	pg_atomic_uint64 interval_us;	/* length of a step; written by the worker */
	pg_atomic_uint64 event_tail;	/* events before it were read or lost */
	pg_atomic_uint64 events_lost;	/* overwritten before they were read */
	/* flush_stats() asks the worker and waits until served >= its request */
	pg_atomic_uint64 flush_requested;
	pg_atomic_uint64 flush_served;
	ConditionVariable flushed;
	Latch	   *worker;			/* guarded by the lock; NULL: none runs */
	FaCounts	given_back;		/* of slots that were; guarded by their lock */

	/* The rest is the worker's alone; here, so that it outlives it. */
	int64		last_step;		/* step of the last drain; 0: none yet */
	int64		last_complete;	/* no more counts for this step or before */
	int64		observed_from;	/* all of the time since was watched */
} FaCaptureDatabase;

/* What a statement did to one fragment. */
typedef struct FaAccess
{
	int			slot;
	bool		remote;
	bool		written;
	int64		rows_read;
	int64		rows_written;
	int64		elapsed_ns;
} FaAccess;

/* in counters.c */
extern const FaShmemPart fa_counters_part;
/* This database's entry; NULL without shared memory or when all are taken. */
extern FaCaptureDatabase *fa_capture_database(void);
extern void fa_capture_set_worker(FaCaptureDatabase *db, Latch *latch);
/* Asks the database's worker to drain; false when there is none. */
extern bool fa_capture_wake_worker(FaCaptureDatabase *db);
extern void fa_counters_add(const FaAccess *access, TimestampTz when);
extern TimestampTz fa_counters_last_access(int slot);
/* Undrained counts of one bank; false when there are none. */
extern bool fa_counters_delta(int slot, int bank, FaCounts *delta_p);
/* They are in the tables now. */
extern void fa_counters_drained(int slot, int bank, const FaCounts *delta);
/* Totals of this database since the server started; they only grow. */
extern void fa_counters_total(FaCounts *total_p);

/* Monotonic time; cheap. */
static inline int64
fa_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * INT64CONST(1000000000) + ts.tv_nsec;
}

/*
 * The time of day of a monotonic time that was read just now.  When the clock
 * is set, it is noticed within FA_CLOCK_CHECK_US.
 */
#define FA_CLOCK_CHECK_US INT64CONST(1000000)
extern TimestampTz fa_clock_timestamp(int64 clock_ns);

/* in events.c */
typedef struct FaEvent
{
	uint64		session;		/* unique while the server runs */
	int			proc;			/* process slot of the session */
	TimestampTz time;
	int			slot;			/* of the fragment */
	Oid			role;
	int			application;	/* see fa_event_application */
	uint32		repeats;		/* further accesses to the fragment before */
	bool		written;
} FaEvent;

/* After such a pause a session's next access is an arrival. */
#define FA_SESSION_PAUSE_US INT64CONST(300000000)

extern const FaShmemPart fa_events_part;
extern void fa_events_append(int slot, bool written, TimestampTz when);
/*
 * Next event of any database at or after *position; advances *position and
 * adds what was overwritten to *lost.  False when there is none yet.
 */
extern bool fa_events_next(uint64 *position, uint64 *lost, FaEvent *event_p);
extern uint64 fa_events_head(void);
extern const char *fa_event_application(int application);

/*
 * in give_back.c; for the worker, outside a transaction: looks now and then for
 * slots whose fragment is gone.  After a drain was written that began later: gives
 * them back.
 */
extern void fa_gone_look(void);
extern void fa_gone_give_back(void);

/* in execution.c */
extern bool fa_capture_counts(void);	/* does this session count? */
extern void fa_capture_record(const FaAccess *access, int n, TimestampTz when);

#endif							/* FA_CAPTURE_COUNTERS_H */
