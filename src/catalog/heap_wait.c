/*
 * heap_wait.c
 *	  Waiting for those who hold the locks of a bucket's heaps.
 *
 * Statements about one fragment lock its heap, but not its bucket
 * (route/pin_resolve.c).  Who locks a bucket with all below it and has to wait for
 * a heap would hold the bucket meanwhile, against the very client he waits for,
 * should that go on to use all of the table.  So the heaps are waited for before.
 *
 * The locks that follow are part of the same wait: what this one has taken is taken
 * off the transaction's lock_timeout.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "catalog/reshape.h"

/* Takes the time since then off lock_timeout, until the transaction ends. */
static void
heap_wait_spend(TimestampTz begun)
{
	long		spent_ms = TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp());

	if (LockTimeout == 0 || spent_ms == 0)
		return;
	(void) set_config_option("lock_timeout",
							 psprintf("%ld", Max(LockTimeout - spent_ms, 1)),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

static void
heap_wait_for(const FaFragment *f, LOCKMODE mode)
{
	TimestampTz begun = GetCurrentTimestamp();
	Oid			leaf;

	if (f == NULL || !f->local)
		return;
	/* what the map says may be another when the lock is there */
	leaf = f->leaf;
	LockRelationOid(leaf, mode);
	UnlockRelationOid(leaf, mode);
	heap_wait_spend(begun);
}

void
fa_heap_wait(Oid bucket, LOCKMODE mode)
{
	List	   *fragments = fa_map_fragments_of(bucket);
	ListCell   *lc;

	if (fragments == NIL)
		heap_wait_for(fa_map_bucket(bucket), mode);
	foreach(lc, fragments)
		heap_wait_for(lfirst(lc), mode);
}

PG_FUNCTION_INFO_V1(fa_sql_heap_wait);

/* heap_wait(bucket, exclusive): fa_heap_wait() for SHARE or ACCESS EXCLUSIVE */
Datum
fa_sql_heap_wait(PG_FUNCTION_ARGS)
{
	fa_shmem_require();
	fa_heap_wait(PG_GETARG_OID(0),
				 PG_GETARG_BOOL(1) ? AccessExclusiveLock : ShareLock);
	PG_RETURN_VOID();
}
