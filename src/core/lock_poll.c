/*
 * lock_poll.c
 *	  A lock without a place in its queue; see lock_poll.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "core/lock_poll.h"

#define POLL_MS 2

/*
 * A conditional request fails as soon as somebody who conflicts waits for the
 * lock, be it for what we hold ourselves.  A request that may wait is granted
 * at once before those whom we block (ProcSleep()); it is made when nobody else
 * holds the lock, and ends soon should somebody come between.
 */
static bool
lock_before_queue(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;
	int			holders;
	int			nest;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	if (!fa_lock_held_by_me(&tag, ShareLock))
		return false;
	pfree(GetLockConflicts(&tag, mode, &holders));
	if (holders > 0)
		return false;
	nest = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", "1", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(relid, mode);
	AtEOXact_GUC(true, nest);
	return true;
}

/* All of them, or none. */
static bool
lock_now(const Oid *relids, int n, LOCKMODE mode)
{
	for (int i = 0; i < n; i++)
	{
		if (ConditionalLockRelationOid(relids[i], mode) ||
			lock_before_queue(relids[i], mode))
			continue;
		while (i-- > 0)
			UnlockRelationOid(relids[i], mode);
		return false;
	}
	return true;
}

bool
fa_lock_poll(const Oid *relids, int n, LOCKMODE mode, int64 timeout_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   timeout_ms);

	while (!lock_now(relids, n, mode))
	{
		if (GetCurrentTimestamp() >= deadline)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}
