/*
 * give_back.c
 *	  Slots of fragments that are gone are given back.
 *
 * A fragment is gone when no transaction that runs can have made it and yet its
 * row is not there.  Whoever has counted for it had a lock that its removal
 * waited for; so all of that is in the counters and rings when it is found gone:
 *
 *	1. the worker looks which slots belong to no fragment
 *	2. it drains, which takes what was counted for them until then
 *	3. after the commit they are given back
 *
 * A fragment of a transaction that has not ended is found by the number that the
 * slot was claimed at: such a transaction had its own before.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "capture/counters.h"
#include "capture/tables.h"
#include "core/shmem.h"
#include "core/spi.h"

/* While slots are free, to look takes more than what it finds is worth. */
#define LOOK_PERIOD_US INT64CONST(10000000)

typedef struct Gone
{
	int			slot;
	int64		fragment;
} Gone;

static Gone *gone = NULL;		/* found, and not yet given back */
static int	ngone = 0;

static int
compare_fragments(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* All transactions before it had ended when the snapshot was taken. */
static FullTransactionId
gone_horizon(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		since = XidFromFullTransactionId(next) - snapshot->xmin;

	return FullTransactionIdFromU64(U64FromFullTransactionId(next) - since);
}

/* Fills gone, which has room for n slots. */
static void
gone_find(int n)
{
	FullTransactionId horizon = gone_horizon(GetActiveSnapshot());
	FaRows	   *rows = fa_spi_rows("SELECT fragment FROM fragaffinity.fragment "
								   "ORDER BY fragment");
	int64	   *there = palloc(sizeof(int64) * Max(rows->nrows, 1));

	for (int i = 0; i < rows->nrows; i++)
		there[i] = strtoll(rows->value[i][0], NULL, 10);
	fa_slots_lock();
	for (int i = 0; i < n; i++)
	{
		const FaFragmentSlot *slot = fa_slot_get(i);

		if (slot->dbid != MyDatabaseId ||
			!FullTransactionIdPrecedesOrEquals(slot->claimed, horizon) ||
			bsearch(&slot->fragment, there, rows->nrows, sizeof(int64),
					compare_fragments))
			continue;
		gone[ngone].slot = i;
		gone[ngone++].fragment = slot->fragment;
	}
	fa_slots_unlock();
}

void
fa_gone_look(void)
{
	static TimestampTz last_look = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			n = fa_slot_count();

	if (n == 0 || ngone > 0 || RecoveryInProgress() ||
		(fa_slot_any_free() && now >= last_look && now - last_look < LOOK_PERIOD_US))
		return;
	last_look = now;
	if (gone)
		pfree(gone);
	gone = NULL;
	gone = MemoryContextAllocHuge(TopMemoryContext, sizeof(Gone) * n);
	fa_stats_begin();
	gone_find(n);
	fa_stats_commit();
}

/* After a commit; must not fail. */
void
fa_gone_give_back(void)
{
	for (int i = 0; i < ngone; i++)
		fa_slot_give_back(gone[i].slot, gone[i].fragment);
	ngone = 0;
}
