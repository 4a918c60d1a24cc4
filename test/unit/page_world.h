/*
 * page_world.h
 *	  Pages of a heap made by hand, and what is known of their transactions.
 */
#ifndef PAGE_WORLD_H
#define PAGE_WORLD_H

#include "postgres.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "page/image.h"

#define T				9000	/* owner of the rows at the destination */
#define COMMITTED		1000	/* and above */
#define ABORTED			2000
#define PENDING			3000
#define MULTI			4000	/* plus the number of its updater, if it has one */
#define BLOCK			7
#define TOAST_FROM		16390
#define TOAST_TO		20000

static FaAttribute columns[] = {{4, 'i'}, {-1, 'i'}, {8, 'd'}};
static const FaRowShape shape = {3, columns};

static inline FaXidState
judge_state(FaXidJudge *judge, TransactionId xid)
{
	(void) judge;
	return xid >= PENDING ? FA_XID_PENDING :
		xid >= ABORTED ? FA_XID_ABORTED : FA_XID_COMMITTED;
}

static inline TransactionId
judge_updater(FaXidJudge *judge, TransactionId multi)
{
	(void) judge;
	return multi == MULTI ? InvalidTransactionId : multi - MULTI;
}

static FaXidJudge judge = {judge_state, judge_updater};

static inline void
page_make(Page page)
{
	PageHeader	header = (PageHeader) page;

	memset(page, 0, BLCKSZ);
	header->pd_lower = SizeOfPageHeaderData;
	header->pd_upper = header->pd_special = BLCKSZ;
	PageSetPageSizeAndVersion(page, BLCKSZ, PG_PAGE_LAYOUT_VERSION);
	PageSetAllVisible(page);
}

/* Adds a row; returns it.  Its varlena is short, or out of line. */
static inline HeapTupleHeader
page_add(Page page, TransactionId xmin, TransactionId xmax, uint16 infomask,
		 uint16 infomask2, OffsetNumber next, bool external)
{
	PageHeader	header = (PageHeader) page;
	Size		len = MAXALIGN(SizeofHeapTupleHeader) + 48;
	OffsetNumber off = PageGetMaxOffsetNumber(page) + 1;
	HeapTupleHeader row;
	char	   *data;

	header->pd_upper -= MAXALIGN(len);
	header->pd_lower += sizeof(ItemIdData);
	ItemIdSetNormal(PageGetItemId(page, off), header->pd_upper, len);
	row = (HeapTupleHeader) (page + header->pd_upper);
	row->t_hoff = MAXALIGN(SizeofHeapTupleHeader);
	HeapTupleHeaderSetNatts(row, 3);
	row->t_infomask = infomask | HEAP_HASVARWIDTH |
		(external ? HEAP_HASEXTERNAL : 0);
	row->t_infomask2 |= infomask2;
	HeapTupleHeaderSetXmin(row, xmin);
	HeapTupleHeaderSetXmax(row, xmax);
	row->t_choice.t_heap.t_field3.t_cid = 5;
	ItemPointerSet(&row->t_ctid, BLOCK, next ? next : off);
	data = (char *) row + row->t_hoff;
	if (external)
	{
		struct varatt_external pointer = {3000, 1000, 77, TOAST_FROM};

		SET_VARTAG_EXTERNAL(data + 4, VARTAG_ONDISK);
		memcpy(VARDATA_EXTERNAL(data + 4), &pointer, sizeof(pointer));
	}
	else
		SET_VARSIZE_SHORT(data + 4, 12);
	return row;
}

static inline FaPageResult
settle(Page page)
{
	const char *why = NULL;
	FaPageResult result = fa_heap_settle(page, BLOCK, &judge, T, &shape,
										 TOAST_FROM, TOAST_TO, &why);

	if (result == FA_PAGE_BROKEN)
		assert_non_null(why);
	return result;
}

static inline const char *
verify(Page page, bool *visible_p)
{
	return fa_heap_verify(page, BLOCK, T, &shape, TOAST_TO, visible_p);
}

/* Row 1 was updated and leads to row 2. */
static inline HeapTupleHeader
chain(char *page, TransactionId updater, TransactionId xmin2, uint16 next_flags)
{
	HeapTupleHeader row;

	page_make(page);
	row = page_add(page, COMMITTED, updater, 0, HEAP_HOT_UPDATED, 2, false);
	page_add(page, xmin2, 0, HEAP_XMAX_INVALID | HEAP_UPDATED, next_flags, 0, false);
	assert_int_equal(settle(page), FA_PAGE_GOOD);
	return row;
}

/* A good page, whose change must be noticed. */
static inline HeapTupleHeader
good_page(char *page)
{
	HeapTupleHeader row = chain(page, COMMITTED + 5, COMMITTED + 5, HEAP_ONLY_TUPLE);
	bool		visible;

	assert_null(verify(page, &visible));
	return row;
}

#endif							/* PAGE_WORLD_H */
