/*
 * heap.c
 *	  Heap pages, from the transactions of one server to those of another.
 *
 * T is the transaction that made the new heap.  At the source, when
 * everything that a page names has ended:
 *
 *	inserted by			becomes
 *	committed			xmin T, committed
 *	aborted				xmin 0, invalid; nothing else is left of it
 *
 *	updated, deleted by	becomes
 *	nobody, aborted		no xmax; so do all locks
 *	committed			xmax T, committed
 *
 * T has committed, and amcheck asks about a row's transaction whatever its hints
 * say, so what was aborted gets what a speculative insertion that was given up
 * leaves.  A multixact counts as its one member that updated.  Command numbers, the
 * bits of old VACUUM FULL and hints are cleared, as no snapshot at the
 * destination is older than T.
 *
 * Now that many rows have the same xmin and xmax, a chain of updates can no
 * longer be told by them from a row that took a freed line pointer.  So that
 * is decided here, while it can be: a HOT chain goes on only where the
 * source's own rule (xmax of one is xmin of the next, which is heap-only)
 * holds; every other dead row becomes an end.
 *
 * Rows are not frozen: freezing would break the links of HOT chains, and
 * VACUUM does it in its own time.
 */
#include "postgres.h"

#include "page/image.h"

#define PAGE_FLAGS_KEPT		PD_HAS_FREE_LINES
#define MAX_ITEMS			((BLCKSZ - SizeOfPageHeaderData) / sizeof(ItemIdData))

typedef enum RowState
{
	ROW_NONE,					/* not a row */
	ROW_LIVE,
	ROW_ABORTED,
	ROW_DELETED
} RowState;

/* What is found on a page before any of it is changed. */
typedef struct Findings
{
	RowState	state[MAX_ITEMS + 1];
	TransactionId updater[MAX_ITEMS + 1];	/* of a deleted row */
	OffsetNumber next[MAX_ITEMS + 1];	/* in its HOT chain, or invalid */
} Findings;

static HeapTupleHeader
page_row(Page page, OffsetNumber off)
{
	ItemId		lp = PageGetItemId(page, off);

	return ItemIdIsNormal(lp) ? (HeapTupleHeader) PageGetItem(page, lp) : NULL;
}

static FaXidState
judge_xid(FaXidJudge *judge, TransactionId xid)
{
	/* 0 is left by a speculative insertion that was given up */
	if (!TransactionIdIsNormal(xid))
		return TransactionIdIsValid(xid) ? FA_XID_COMMITTED : FA_XID_ABORTED;
	return judge->state(judge, xid);
}

static FaXidState
judge_xmin(FaXidJudge *judge, HeapTupleHeader row)
{
	FaXidState	state;

	if (HeapTupleHeaderXminCommitted(row))
		return FA_XID_COMMITTED;
	if (HeapTupleHeaderXminInvalid(row))
		return FA_XID_ABORTED;
	if ((row->t_infomask & HEAP_MOVED) == 0)
		return judge_xid(judge, HeapTupleHeaderGetRawXmin(row));
	/* VACUUM FULL before 9.0: the row is here if that moved it in, or not away */
	state = judge_xid(judge, HeapTupleHeaderGetXvac(row));
	if (state == FA_XID_PENDING)
		return state;
	return (state == FA_XID_COMMITTED) ==
		((row->t_infomask & HEAP_MOVED_IN) != 0) ?
		FA_XID_COMMITTED : FA_XID_ABORTED;
}

/* Who updated or deleted the row, if that was not undone: *updater_p. */
static FaXidState
judge_xmax(FaXidJudge *judge, HeapTupleHeader row, TransactionId *updater_p)
{
	TransactionId xid = HeapTupleHeaderGetRawXmax(row);

	if ((row->t_infomask & HEAP_XMAX_INVALID) ||
		HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask))
		return FA_XID_ABORTED;
	if (row->t_infomask & HEAP_XMAX_IS_MULTI)
		xid = judge->updater(judge, xid);
	*updater_p = xid;
	if ((row->t_infomask & HEAP_XMAX_COMMITTED) &&
		!(row->t_infomask & HEAP_XMAX_IS_MULTI))
		return FA_XID_COMMITTED;
	return judge_xid(judge, xid);
}

/* False when a transaction has not ended. */
static bool
settle_judge(Page page, FaXidJudge *judge, Findings *found)
{
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		HeapTupleHeader row = page_row(page, off);
		FaXidState	state;

		found->state[off] = ROW_NONE;
		found->next[off] = InvalidOffsetNumber;
		if (row == NULL)
			continue;
		state = judge_xmin(judge, row);
		if (state == FA_XID_COMMITTED)
		{
			state = judge_xmax(judge, row, &found->updater[off]);
			found->state[off] = state == FA_XID_COMMITTED ?
				ROW_DELETED : ROW_LIVE;
		}
		else
			found->state[off] = ROW_ABORTED;
		if (state == FA_XID_PENDING)
			return false;
	}
	return true;
}

/* Next row of the HOT chain of a deleted one, by the source's own rule. */
static OffsetNumber
settle_next(Page page, BlockNumber block, OffsetNumber off,
			const Findings *found)
{
	HeapTupleHeader row = page_row(page, off);
	HeapTupleHeader next;
	OffsetNumber to = ItemPointerGetOffsetNumberNoCheck(&row->t_ctid);

	if ((row->t_infomask2 & HEAP_HOT_UPDATED) == 0 ||
		ItemPointerGetBlockNumberNoCheck(&row->t_ctid) != block ||
		to < FirstOffsetNumber || to > PageGetMaxOffsetNumber(page) ||
		to == off)
		return InvalidOffsetNumber;
	next = page_row(page, to);
	if (next == NULL || !HeapTupleHeaderIsHeapOnly(next) ||
		HeapTupleHeaderGetXmin(next) != found->updater[off] ||
		found->state[to] == ROW_ABORTED)
		return InvalidOffsetNumber;
	return to;
}

static void
settle_stamp(HeapTupleHeader row, BlockNumber block, OffsetNumber off,
			 TransactionId xid, RowState state, OffsetNumber next)
{
	uint16		keep2 = HEAP_NATTS_MASK | HEAP_ONLY_TUPLE;

	row->t_infomask &= ~(HEAP_XACT_MASK & ~HEAP_UPDATED);
	row->t_infomask |= state == ROW_ABORTED ?
		HEAP_XMIN_INVALID : HEAP_XMIN_COMMITTED;
	row->t_infomask |= state == ROW_DELETED ?
		HEAP_XMAX_COMMITTED : HEAP_XMAX_INVALID;
	if (state == ROW_DELETED)
		keep2 |= HEAP_KEYS_UPDATED;
	if (next != InvalidOffsetNumber)
		keep2 |= HEAP_HOT_UPDATED;
	row->t_infomask2 &= keep2;
	HeapTupleHeaderSetXmin(row, state == ROW_ABORTED ? InvalidTransactionId : xid);
	HeapTupleHeaderSetXmax(row, state == ROW_DELETED ? xid :
						   InvalidTransactionId);
	row->t_choice.t_heap.t_field3.t_cid = FirstCommandId;
	ItemPointerSet(&row->t_ctid, block,
				   next != InvalidOffsetNumber ? next : off);
}

static const char *
settle_rows(Page page, BlockNumber block, TransactionId xid,
			const FaRowShape *shape, Oid toast_from, Oid toast_to,
			const Findings *found, bool *dead_p)
{
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		HeapTupleHeader row = page_row(page, off);

		if (row == NULL)
			continue;
		settle_stamp(row, block, off, xid, found->state[off],
					 found->next[off]);
		if (found->state[off] != ROW_LIVE)
			*dead_p = true;
		if (row->t_infomask & HEAP_HASEXTERNAL)
		{
			const char *why = fa_row_check(row, ItemIdGetLength(PageGetItemId(page, off)),
										   shape, toast_from, toast_to);

			if (why)
				return why;
		}
	}
	return NULL;
}

FaPageResult
fa_heap_survey(Page page, FaXidJudge *judge, const char **why_p)
{
	Findings	found;

	if (PageIsNew(page))
		return FA_PAGE_GOOD;
	*why_p = fa_items_check(page, 0, SizeofHeapTupleHeader);
	if (*why_p)
		return FA_PAGE_BROKEN;
	return settle_judge(page, judge, &found) ? FA_PAGE_GOOD : FA_PAGE_PENDING;
}

FaPageResult
fa_heap_settle(Page page, BlockNumber block, FaXidJudge *judge,
			   TransactionId xid, const FaRowShape *shape, Oid toast_from,
			   Oid toast_to, const char **why_p)
{
	PageHeader	header = (PageHeader) page;
	Findings	found;
	bool		dead = false;

	if (PageIsNew(page))
		return FA_PAGE_GOOD;
	*why_p = fa_items_check(page, 0, SizeofHeapTupleHeader);
	if (*why_p)
		return FA_PAGE_BROKEN;
	if (!settle_judge(page, judge, &found))
		return FA_PAGE_PENDING;
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		if (found.state[off] == ROW_DELETED)
			found.next[off] = settle_next(page, block, off, &found);
	}
	*why_p = settle_rows(page, block, xid, shape, toast_from, toast_to, &found,
						 &dead);
	if (*why_p)
		return FA_PAGE_BROKEN;
	fa_page_forget_log(page);
	header->pd_flags &= PAGE_FLAGS_KEPT;
	header->pd_prune_xid = dead ? xid : InvalidTransactionId;
	return FA_PAGE_GOOD;
}

static const char *
verify_row(Page page, BlockNumber block, OffsetNumber off, HeapTupleHeader row,
		   TransactionId xid, bool *live_p)
{
	uint16		mask = row->t_infomask & (HEAP_XACT_MASK & ~HEAP_UPDATED);
	bool		hot = (row->t_infomask2 & HEAP_HOT_UPDATED) != 0;
	OffsetNumber next = ItemPointerGetOffsetNumberNoCheck(&row->t_ctid);
	HeapTupleHeader to;
	bool		deleted = mask == (HEAP_XMIN_COMMITTED | HEAP_XMAX_COMMITTED);

	*live_p = mask == (HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID);
	if (!*live_p && !deleted &&
		mask != (HEAP_XMIN_INVALID | HEAP_XMAX_INVALID))
		return "row has the state of another server";
	if (HeapTupleHeaderGetRawXmin(row) !=
		(*live_p || deleted ? xid : InvalidTransactionId) ||
		HeapTupleHeaderGetRawXmax(row) != (deleted ? xid : InvalidTransactionId) ||
		HeapTupleHeaderGetRawCommandId(row) != FirstCommandId)
		return "row belongs to a transaction of another server";
	if ((row->t_infomask2 & ~(HEAP_NATTS_MASK | HEAP_ONLY_TUPLE |
							  HEAP_HOT_UPDATED | HEAP_KEYS_UPDATED)) != 0 ||
		(hot && !deleted))
		return "row has wrong flags";
	if (ItemPointerGetBlockNumberNoCheck(&row->t_ctid) != block)
		return "row leads to another page";
	if (!hot)
		return next == off ? NULL : "row leads to another";
	if (next == off || next < FirstOffsetNumber ||
		next > PageGetMaxOffsetNumber(page) ||
		(to = page_row(page, next)) == NULL || !HeapTupleHeaderIsHeapOnly(to))
		return "chain of updates leads nowhere";
	return NULL;
}

static const char *
verify_pointer(Page page, ItemId lp)
{
	HeapTupleHeader row;

	if (!ItemIdIsRedirected(lp))
		return ItemIdHasStorage(lp) ? "dead row has kept its space" : NULL;
	if (ItemIdGetRedirect(lp) < FirstOffsetNumber ||
		ItemIdGetRedirect(lp) > PageGetMaxOffsetNumber(page) ||
		(row = page_row(page, ItemIdGetRedirect(lp))) == NULL ||
		!HeapTupleHeaderIsHeapOnly(row))
		return "line pointer is redirected to nothing";
	return NULL;
}

/* A chain that comes back to itself would hang who follows it. */
static const char *
verify_chains(Page page)
{
	OffsetNumber max = PageGetMaxOffsetNumber(page);
	bool		reached[MAX_ITEMS + 1] = {false};
	bool		walked[MAX_ITEMS + 1] = {false};

	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		HeapTupleHeader row = page_row(page, off);
		OffsetNumber next;

		if (row == NULL || (row->t_infomask2 & HEAP_HOT_UPDATED) == 0)
			continue;
		next = ItemPointerGetOffsetNumberNoCheck(&row->t_ctid);
		if (reached[next])
			return "chains of updates meet";
		reached[next] = true;
	}
	/* each is reached once at most; what no walk from a start meets are rings */
	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		HeapTupleHeader row = page_row(page, off);

		if (row == NULL || reached[off])
			continue;
		while (row->t_infomask2 & HEAP_HOT_UPDATED)
		{
			OffsetNumber next = ItemPointerGetOffsetNumberNoCheck(&row->t_ctid);

			walked[next] = true;
			row = page_row(page, next);
		}
	}
	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		if (reached[off] && !walked[off])
			return "chain of updates is a ring";
	}
	return NULL;
}

const char *
fa_heap_verify(Page page, BlockNumber block, TransactionId xid,
			   const FaRowShape *shape, Oid toast, bool *all_visible_p)
{
	PageHeader	header = (PageHeader) page;
	bool		all_visible = true;
	const char *why = fa_items_check(page, 0, SizeofHeapTupleHeader);

	if (why)
		return why;
	if ((header->pd_flags & ~PAGE_FLAGS_KEPT) != 0 ||
		(header->pd_prune_xid != InvalidTransactionId &&
		 header->pd_prune_xid != xid))
		return "page header has the state of another server";
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page) && why == NULL; off++)
	{
		ItemId		lp = PageGetItemId(page, off);
		HeapTupleHeader row = page_row(page, off);
		bool		live = false;

		if (row == NULL)
		{
			why = verify_pointer(page, lp);
			if (ItemIdIsDead(lp))
				all_visible = false;
			continue;
		}
		why = verify_row(page, block, off, row, xid, &live);
		if (why == NULL)
			why = fa_row_check(row, ItemIdGetLength(lp), shape, toast, toast);
		if (!live)
			all_visible = false;
	}
	if (why == NULL)
		why = verify_chains(page);
	if (why == NULL)
		*all_visible_p = all_visible;
	return why;
}
