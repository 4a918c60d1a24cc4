/*
 * test_page.c
 *	  Page images: what settling makes of rows, and that nothing a peer may send
 *	  is let in that is not a page of the relation.
 */
#include "page_world.h"

#include "access/nbtree.h"

#define LIVE	(HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID)
#define DEAD	(HEAP_XMIN_COMMITTED | HEAP_XMAX_COMMITTED)
#define NEVER	(HEAP_XMIN_INVALID | HEAP_XMAX_INVALID)

/* A row in one state becomes another: its state, xmax and whether it fits. */
static void
one_row(TransactionId xmin, TransactionId xmax, uint16 infomask, uint16 want)
{
	PGAlignedBlock block;
	HeapTupleHeader row;
	bool		visible;

	page_make(block.data);
	row = page_add(block.data, xmin, xmax, infomask, HEAP_KEYS_UPDATED, 0, false);
	assert_int_equal(settle(block.data), FA_PAGE_GOOD);
	assert_int_equal(row->t_infomask & HEAP_XACT_MASK, want);
	assert_int_equal(HeapTupleHeaderGetRawXmin(row), want == NEVER ? 0 : T);
	assert_int_equal(HeapTupleHeaderGetRawXmax(row), want == DEAD ? T : 0);
	assert_int_equal(HeapTupleHeaderGetRawCommandId(row), 0);
	assert_int_equal(((PageHeader) block.data)->pd_prune_xid, want == LIVE ? 0 : T);
	assert_null(verify(block.data, &visible));
	assert_int_equal(visible, want == LIVE);
}

static void
test_states(void **state)
{
	(void) state;
	one_row(COMMITTED, 0, HEAP_XMAX_INVALID, LIVE);
	one_row(FrozenTransactionId, 0, HEAP_XMAX_INVALID, LIVE);
	one_row(ABORTED, 0, HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID, LIVE);	/* hint decides */
	one_row(PENDING, 0, HEAP_XMIN_FROZEN | HEAP_XMAX_INVALID, LIVE);	/* a number used again */
	one_row(ABORTED, 0, HEAP_XMAX_INVALID, NEVER);
	one_row(0, 0, HEAP_XMAX_INVALID, NEVER);	/* speculative, given up */
	one_row(COMMITTED, 0, HEAP_XMIN_INVALID | HEAP_XMAX_INVALID, NEVER);
	one_row(ABORTED, ABORTED, 0, NEVER);
	one_row(COMMITTED, COMMITTED + 1, 0, DEAD);
	one_row(COMMITTED, COMMITTED + 1, HEAP_COMBOCID, DEAD);
	one_row(COMMITTED, ABORTED, 0, LIVE);
	one_row(COMMITTED, ABORTED, HEAP_XMAX_COMMITTED, DEAD);
	one_row(COMMITTED, COMMITTED + 1, HEAP_XMAX_LOCK_ONLY | HEAP_XMAX_EXCL_LOCK, LIVE);
	one_row(COMMITTED, PENDING, HEAP_XMAX_LOCK_ONLY | HEAP_XMAX_KEYSHR_LOCK, LIVE);
	one_row(COMMITTED, MULTI, HEAP_XMAX_IS_MULTI | HEAP_XMAX_LOCK_ONLY, LIVE);
	one_row(COMMITTED, MULTI + COMMITTED, HEAP_XMAX_IS_MULTI, DEAD);
	one_row(COMMITTED, MULTI + ABORTED, HEAP_XMAX_IS_MULTI, LIVE);
	one_row(COMMITTED, MULTI, HEAP_XMAX_IS_MULTI, LIVE);
	one_row(COMMITTED, 0, HEAP_XMAX_INVALID | HEAP_MOVED_OFF, NEVER);
	one_row(COMMITTED, 0, HEAP_XMAX_INVALID | HEAP_MOVED_IN, LIVE);
}

static void
one_pending(TransactionId xmin, TransactionId xmax, uint16 infomask)
{
	PGAlignedBlock block;

	page_make(block.data);
	page_add(block.data, COMMITTED, 0, HEAP_XMAX_INVALID, 0, 0, false);
	page_add(block.data, xmin, xmax, infomask, 0, 0, false);
	assert_int_equal(settle(block.data), FA_PAGE_PENDING);
}

static void
test_pending(void **state)
{
	(void) state;
	one_pending(PENDING, 0, HEAP_XMAX_INVALID);
	one_pending(COMMITTED, PENDING, 0);
	one_pending(COMMITTED, MULTI + PENDING, HEAP_XMAX_IS_MULTI);
}

static void
test_chains(void **state)
{
	PGAlignedBlock block;
	HeapTupleHeader row;
	bool		visible;

	(void) state;
	row = chain(block.data, COMMITTED + 5, COMMITTED + 5, HEAP_ONLY_TUPLE);
	assert_true(row->t_infomask2 & HEAP_HOT_UPDATED);
	assert_int_equal(ItemPointerGetOffsetNumber(&row->t_ctid), 2);
	assert_null(verify(block.data, &visible));
	assert_false(visible);
	/* row 2 belongs to another chain: it has taken a freed line pointer */
	row = chain(block.data, COMMITTED + 5, COMMITTED + 6, HEAP_ONLY_TUPLE);
	assert_false(row->t_infomask2 & HEAP_HOT_UPDATED);
	assert_int_equal(ItemPointerGetOffsetNumber(&row->t_ctid), 1);
	assert_null(verify(block.data, &visible));
	row = chain(block.data, COMMITTED + 5, COMMITTED + 5, 0);
	assert_false(row->t_infomask2 & HEAP_HOT_UPDATED);
	/* the update was undone */
	row = chain(block.data, ABORTED, ABORTED, HEAP_ONLY_TUPLE);
	assert_false(row->t_infomask2 & HEAP_HOT_UPDATED);
	assert_int_equal(ItemPointerGetOffsetNumber(&row->t_ctid), 1);
	assert_null(verify(block.data, &visible));
}

static void
test_external(void **state)
{
	PGAlignedBlock block;
	struct varatt_external pointer;
	HeapTupleHeader row;
	bool		visible;
	char	   *value;

	(void) state;
	page_make(block.data);
	row = page_add(block.data, COMMITTED, 0, HEAP_XMAX_INVALID, 0, 0, true);
	value = (char *) row + row->t_hoff + 4;
	assert_int_equal(settle(block.data), FA_PAGE_GOOD);
	memcpy(&pointer, VARDATA_EXTERNAL(value), sizeof(pointer));
	assert_int_equal(pointer.va_toastrelid, TOAST_TO);
	assert_int_equal(pointer.va_valueid, 77);
	assert_null(verify(block.data, &visible));
	pointer.va_toastrelid = TOAST_FROM;
	memcpy(VARDATA_EXTERNAL(value), &pointer, sizeof(pointer));
	assert_non_null(verify(block.data, &visible));
	pointer.va_toastrelid = TOAST_TO;
	memcpy(VARDATA_EXTERNAL(value), &pointer, sizeof(pointer));
	row->t_infomask &= ~HEAP_HASEXTERNAL;
	assert_non_null(verify(block.data, &visible));
}

#define REFUSED(what) do { \
	HeapTupleHeader row = good_page(block.data); \
	(void) row; \
	what; \
	assert_non_null(verify(block.data, &visible)); \
} while (0)

static void
test_refused(void **state)
{
	PGAlignedBlock block;
	PageHeader	header = (PageHeader) block.data;
	bool		visible;

	(void) state;
	REFUSED(HeapTupleHeaderSetXmin(row, T + 1));
	REFUSED(HeapTupleHeaderSetXmax(row, T + 1));
	REFUSED(row->t_infomask |= HEAP_XMAX_IS_MULTI);
	REFUSED(row->t_infomask |= HEAP_XMIN_INVALID);
	REFUSED(row->t_infomask |= HEAP_COMBOCID);
	REFUSED(row->t_infomask |= HEAP_MOVED_IN);
	REFUSED(row->t_infomask |= HEAP_HASOID_OLD);
	REFUSED(row->t_infomask2 |= 0x1000);
	REFUSED(row->t_choice.t_heap.t_field3.t_cid = 1);
	REFUSED(ItemPointerSet(&row->t_ctid, BLOCK + 1, 2));
	REFUSED(ItemPointerSet(&row->t_ctid, BLOCK, 3));
	REFUSED(ItemPointerSet(&row->t_ctid, BLOCK, 1));
	REFUSED(ItemPointerSet(&row->t_ctid, BLOCK, 0));
	REFUSED(HeapTupleHeaderSetNatts(row, 4));
	REFUSED(row->t_hoff = 8);
	REFUSED(row->t_hoff = 248);
	REFUSED(SET_VARSIZE_SHORT((char *) row + row->t_hoff + 4, 100));
	REFUSED(header->pd_flags |= PD_ALL_VISIBLE);
	REFUSED(header->pd_prune_xid = T - 1);
	REFUSED(header->pd_lower += 1);
	REFUSED(header->pd_lower = header->pd_upper + 4);
	REFUSED(header->pd_special -= 8);
	REFUSED(PageGetItemId(block.data, 1)->lp_off += 4);
	REFUSED(PageGetItemId(block.data, 1)->lp_off = PageGetItemId(block.data, 2)->lp_off);
	REFUSED(PageGetItemId(block.data, 1)->lp_len = 8);
	REFUSED(PageGetItemId(block.data, 1)->lp_len = 5000);
	REFUSED(ItemIdSetRedirect(PageGetItemId(block.data, 1), 1));
	REFUSED(ItemIdSetRedirect(PageGetItemId(block.data, 1), 9));
	REFUSED(PageGetItemId(block.data, 1)->lp_flags = LP_DEAD);
	/* a ring of two */
	REFUSED((row->t_infomask2 |= HEAP_ONLY_TUPLE,
			 row = (HeapTupleHeader) PageGetItem(block.data, PageGetItemId(block.data, 2)),
			 row->t_infomask = (row->t_infomask & ~HEAP_XMAX_INVALID) | HEAP_XMAX_COMMITTED,
			 row->t_infomask2 |= HEAP_HOT_UPDATED,
			 HeapTupleHeaderSetXmax(row, T), ItemPointerSet(&row->t_ctid, BLOCK, 1)));
}

static void
btree_make(char *page, uint16 flags)
{
	PageHeader	header = (PageHeader) page;
	BTPageOpaque opaque;

	page_make(page);
	header->pd_flags = 0;
	header->pd_upper = header->pd_special = BLCKSZ - MAXALIGN(sizeof(BTPageOpaqueData));
	opaque = BTPageGetOpaque(page);
	opaque->btpo_flags = flags;
	opaque->btpo_cycleid = 9;
}

static void
test_btree(void **state)
{
	PGAlignedBlock block;
	PageHeader	header = (PageHeader) block.data;
	IndexTuple	entry;

	(void) state;
	btree_make(block.data, BTP_LEAF | BTP_HAS_GARBAGE | BTP_SPLIT_END);
	header->pd_upper -= 16;
	header->pd_lower += sizeof(ItemIdData);
	ItemIdSetNormal(PageGetItemId(block.data, 1), header->pd_upper, 16);
	ItemIdMarkDead(PageGetItemId(block.data, 1));
	entry = (IndexTuple) PageGetItem(block.data, PageGetItemId(block.data, 1));
	entry->t_info = 16;
	assert_null(fa_btree_verify(block.data, BLOCK));
	assert_true(ItemIdIsNormal(PageGetItemId(block.data, 1)));
	assert_int_equal(BTPageGetOpaque(block.data)->btpo_flags, BTP_LEAF);
	assert_int_equal(BTPageGetOpaque(block.data)->btpo_cycleid, 0);
	entry->t_info = 24;
	assert_non_null(fa_btree_verify(block.data, BLOCK));
	entry->t_info = 16 | INDEX_ALT_TID_MASK;
	ItemPointerSet(&entry->t_tid, 8, BT_IS_POSTING | 500);
	assert_non_null(fa_btree_verify(block.data, BLOCK));
	assert_non_null(fa_btree_verify(block.data, BTREE_METAPAGE));

	btree_make(block.data, BTP_LEAF);
	BTPageSetDeleted(block.data, FullTransactionIdFromEpochAndXid(3, 77777));
	assert_null(fa_btree_verify(block.data, BLOCK));
	assert_true(FullTransactionIdEquals(BTPageGetDeleteXid(block.data),
										FirstNormalFullTransactionId));
	header->pd_lower = SizeOfPageHeaderData;
	assert_non_null(fa_btree_verify(block.data, BLOCK));
	btree_make(block.data, 0x8000);
	assert_non_null(fa_btree_verify(block.data, BLOCK));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_external),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_btree),
	};

	return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
