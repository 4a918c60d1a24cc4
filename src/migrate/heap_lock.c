/*
 * heap_lock.c
 *	  Keeps others off a heap while its pages are being replaced.
 *
 * VACUUM above all: it would remove index entries that a page which comes
 * later still counts on.  The lock is the session's, as a copy takes many
 * transactions, and an abort takes it; so what may fail and be tried again
 * runs in a subtransaction (cutover.c).
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/rel.h"

#include "core/background.h"
#include "migrate/move.h"

/* Readers are let in: there is nothing to see, but much that asks for sizes. */
#define HEAP_LOCK	ExclusiveLock

void
fa_move_lock_heap(FaMove *move)
{
	Relation	rel;

	fa_background_begin();
	rel = table_open(move->heap, AccessShareLock);
	move->toast = rel->rd_rel->reltoastrelid;
	for (int i = 0; i < lengthof(move->locked_heap); i++)
	{
		LockRelId  *lock = &move->locked_heap[i];

		lock->dbId = MyDatabaseId;
		lock->relId = i == 0 ? move->heap : move->toast;
		if (OidIsValid(lock->relId))
			LockRelationIdForSession(lock, HEAP_LOCK);
	}
	table_close(rel, NoLock);
	CommitTransactionCommand();
}

void
fa_move_unlock_heap(FaMove *move)
{
	for (int i = 0; i < lengthof(move->locked_heap); i++)
	{
		LockRelId  *lock = &move->locked_heap[i];

		if (OidIsValid(lock->relId))
			UnlockRelationIdForSession(lock, HEAP_LOCK);
		lock->relId = InvalidOid;
	}
}
