/*
 * heap_lock.c
 *	  Keeps others off a heap while its pages are being replaced.
 *
 * VACUUM above all: it would remove index entries that a page which comes
 * later still counts on.  The lock is the session's, as a copy takes many
 * transactions.  An abort takes it nevertheless.  It is taken back at once;
 * who was waiting for it may have been first, and then the copy is of no use.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "core/background.h"
#include "core/spi.h"
#include "migrate/move.h"

/* Readers are let in: there is nothing to see, but much that asks for sizes. */
#define HEAP_LOCK	ExclusiveLock

/* The heap and its TOAST relation. */
static bool
heap_lock(FaMove *move, bool wait)
{
	Oid			rels[2] = {move->heap, move->toast};

	for (int i = 0; i < 2 && OidIsValid(rels[i]); i++)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, rels[i]);
		if (LockAcquire(&tag, HEAP_LOCK, true, !wait) == LOCKACQUIRE_NOT_AVAIL)
			return false;
	}
	move->locked_heap = true;
	return true;
}

/* How often the heap and its TOAST relation were vacuumed. */
static int64
heap_vacuums(FaMove *move)
{
	return strtoll(fa_spi_value("SELECT pg_catalog.sum(pg_catalog.pg_stat_get_vacuum_count(o) + "
								"pg_catalog.pg_stat_get_autovacuum_count(o)) "
								"FROM (VALUES (%u::pg_catalog.oid), (%u)) AS v(o)",
								move->heap, move->toast), NULL, 10);
}

void
fa_move_lock_heap(FaMove *move)
{
	Relation	rel;

	fa_background_begin();
	rel = table_open(move->heap, AccessShareLock);
	move->toast = rel->rd_rel->reltoastrelid;
	table_close(rel, AccessShareLock);
	(void) heap_lock(move, true);
	move->vacuums = heap_vacuums(move);
	CommitTransactionCommand();
}

void
fa_move_relock_heap(FaMove *move)
{
	bool		alone;

	if (move->locked_heap)
		return;
	fa_background_begin();
	alone = heap_lock(move, false) && heap_vacuums(move) == move->vacuums;
	CommitTransactionCommand();
	if (!alone)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("someone else was at work on the new heap of move " INT64_FORMAT,
						move->move),
				 errhint("Try again; do not VACUUM tables that belong to no table yet.")));
}

void
fa_move_unlock_heap(FaMove *move)
{
	Oid			rels[2] = {move->heap, move->toast};

	if (!move->locked_heap)
		return;
	for (int i = 0; i < 2 && OidIsValid(rels[i]); i++)
	{
		LockRelId	relid = {rels[i], MyDatabaseId};

		UnlockRelationIdForSession(&relid, HEAP_LOCK);
	}
	move->locked_heap = false;
}
