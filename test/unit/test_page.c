/*
 * test_page.c
 *	  Frames and page images: what settling makes of rows, and that nothing a
 *	  peer may send is read or let in beyond its bounds.
 */
#include "postgres.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "access/nbtree.h"
#include "access/transam.h"
#include "catalog/pg_am_d.h"
#include "common/pg_prng.h"
#include "page/frame.h"
#include "page/image.h"
#include "page/verdict.h"

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

static FaXidState
judge_state(FaXidJudge *judge, TransactionId xid)
{
	(void) judge;
	return xid >= PENDING ? FA_XID_PENDING :
		xid >= ABORTED ? FA_XID_ABORTED : FA_XID_COMMITTED;
}

static TransactionId
judge_updater(FaXidJudge *judge, TransactionId multi)
{
	(void) judge;
	return multi == MULTI ? InvalidTransactionId : multi - MULTI;
}

static const Oid methods[] = {BTREE_AM_OID, HASH_AM_OID, GIN_AM_OID,
GIST_AM_OID, SPGIST_AM_OID, BRIN_AM_OID};

static FaXidJudge judge = {judge_state, judge_updater};

static void
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
static HeapTupleHeader
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

static FaPageResult
settle(Page page)
{
	const char *why = NULL;
	FaPageResult result = fa_heap_settle(page, BLOCK, &judge, T, &shape,
										 TOAST_FROM, TOAST_TO, &why);

	if (result == FA_PAGE_BROKEN)
		assert_non_null(why);
	return result;
}

static const char *
verify(Page page, bool *visible_p)
{
	return fa_heap_verify(page, BLOCK, T, &shape, TOAST_TO, visible_p);
}

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

/* Row 1 was updated and leads to row 2. */
static HeapTupleHeader
chain(char *page, TransactionId updater, TransactionId xmin2, uint16 next_flags)
{
	HeapTupleHeader row;

	page_make(page);
	row = page_add(page, COMMITTED, updater, 0, HEAP_HOT_UPDATED, 2, false);
	page_add(page, xmin2, 0, HEAP_XMAX_INVALID | HEAP_UPDATED, next_flags, 0, false);
	assert_int_equal(settle(page), FA_PAGE_GOOD);
	return row;
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

/* A good page, whose change must be noticed. */
static HeapTupleHeader
good_page(char *page)
{
	HeapTupleHeader row = chain(page, COMMITTED + 5, COMMITTED + 5, HEAP_ONLY_TUPLE);
	bool		visible;

	assert_null(verify(page, &visible));
	return row;
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

static size_t
frame_make(char *buf, int n)
{
	FaFrameHeader header = {.kind = FA_FRAME_PAGES_KIND, .move = 1025,
		.round = 3, .number = 4, .relation = 1, .entries = n, .nblocks = 100};
	size_t		len = fa_frame_put_header(buf, &header);

	for (int i = 0; i < n; i++)
	{
		PGAlignedBlock block;

		if (i == 1)
			memset(block.data, 0, BLCKSZ);
		else
			good_page(block.data);
		len += fa_frame_put_page(buf + len, BLOCK + i, block.data, i != 2);
	}
	return len;
}

/* All of a frame: NULL or what is wrong. */
static const char *
frame_read(const char *data, size_t len)
{
	FaFrameReader reader;
	FaFrameHeader header;
	const char *why = fa_frame_open(&reader, data, len, &header);

	for (int i = 0; why == NULL && i < header.entries; i++)
	{
		PGAlignedBlock block;
		BlockNumber number;
		uint32		left;
		bool		visible;

		if (header.kind == FA_FRAME_END_KIND)
			why = fa_frame_get_relation(&reader, &number, &left);
		else
		{
			why = fa_frame_get_page(&reader, &number, block.data);
			if (why == NULL && !PageIsNew(block.data))
			{
				(void) fa_heap_verify(block.data, number, T, &shape, TOAST_TO, &visible);
				for (int i = 0; i < lengthof(methods); i++)
					(void) fa_index_verify(block.data, number, methods[i], T);
			}
		}
	}
	return why ? why : fa_frame_close(&reader);
}

static void
test_frames(void **state)
{
	char	   *buf = malloc(fa_frame_max(1));
	size_t		len = frame_make(buf, 3);
	FaFrameReader reader;
	FaFrameHeader header;
	PGAlignedBlock page;
	PGAlignedBlock want;
	BlockNumber block;

	(void) state;
	assert_null(frame_read(buf, len));
	assert_null(fa_frame_open(&reader, buf, len, &header));
	assert_int_equal(header.move, 1025);
	assert_int_equal(header.round, 3);
	assert_int_equal(header.number, 4);
	assert_int_equal(header.entries, 3);
	assert_null(fa_frame_get_page(&reader, &block, page.data));
	good_page(want.data);
	assert_int_equal(block, BLOCK);
	assert_memory_equal(page.data, want.data, BLCKSZ);
	assert_true(len < BLCKSZ + 1000);	/* of the first page the hole is not sent */
	/* cut anywhere, changed anywhere, longer: all is noticed */
	for (size_t i = 0; i < len; i++)
		assert_non_null(frame_read(buf, i));
	for (size_t i = 0; i < len; i++)
	{
		char	   *copy = malloc(len);

		/* of a copy of its own size, so that a sanitizer sees each step beyond */
		memcpy(copy, buf, len);
		copy[i] ^= 0x10;
		(void) frame_read(copy, len);
		/* of an entry's own bytes, the block alone is the receiver's to judge */
		if (i >= FA_FRAME_HEADER + 4 && i < FA_FRAME_HEADER + 100)
			assert_non_null(frame_read(copy, len));
		free(copy);
	}
	buf[len] = 0;
	assert_non_null(frame_read(buf, len + 1));
	free(buf);
}

/* A page that names transactions of every kind, as the source has it. */
static void
raw_page(char *page)
{
	page_make(page);
	page_add(page, COMMITTED + 1, 0, HEAP_XMAX_INVALID, 0, 0, false);
	page_add(page, ABORTED + 1, 0, HEAP_XMAX_INVALID, 0, 0, true);
	page_add(page, COMMITTED + 2, COMMITTED + 1, 0, HEAP_KEYS_UPDATED, 0, false);
	page_add(page, COMMITTED + 2, ABORTED + 2, 0, HEAP_KEYS_UPDATED, 0, true);
	page_add(page, COMMITTED + 2, MULTI + COMMITTED + 3, HEAP_XMAX_IS_MULTI, HEAP_KEYS_UPDATED, 0, false);
	page_add(page, COMMITTED + 1, MULTI, HEAP_XMAX_IS_MULTI, 0, 0, false);
}

/* A raw frame of one page; what settling by its verdicts makes of that. */
static size_t
raw_make(char *buf, char *page)
{
	FaFrameHeader header = {.kind = FA_FRAME_RAW_KIND, .entries = 1, .nblocks = 100};
	FaVerdicts *verdicts = malloc(sizeof(FaVerdicts));
	const char *why = NULL;
	FaFrameRaw	raw;
	size_t		len = FA_FRAME_HEADER;

	fa_verdicts_init(verdicts, &judge);
	assert_int_equal(fa_heap_survey(page, &verdicts->judge, &why), FA_PAGE_GOOD);
	assert_int_equal(verdicts->xids.n, 5);
	assert_int_equal(verdicts->multis.n, 2);
	len += fa_frame_put_raw(buf + len, BLOCK, page, true, &raw);
	len += fa_verdicts_put(verdicts, buf + len, &header);
	fa_frame_put_header(buf, &header);
	memcpy(buf + len, page, raw.lower);
	memcpy(buf + len + raw.lower, page + raw.upper, BLCKSZ - raw.upper);
	free(verdicts);
	return len + raw.lower + BLCKSZ - raw.upper;
}

static const char *
raw_read(const char *data, size_t len, char *page, bool *torn_p)
{
	FaVerdicts *verdicts = malloc(sizeof(FaVerdicts));
	FaFrameReader reader;
	FaFrameHeader header;
	FaFrameRaw	raw;
	bool		visible;
	const char *why = fa_frame_open(&reader, data, len, &header);

	fa_verdicts_init(verdicts, NULL);
	if (why == NULL && header.kind != FA_FRAME_RAW_KIND)
		why = "another kind";
	if (why == NULL)
		why = fa_frame_get_raw(&reader, &raw);
	if (why == NULL)
		why = fa_verdicts_get(verdicts, &reader, &header);
	if (why == NULL)
		why = fa_frame_get_bytes(&reader, &raw, page, torn_p);
	if (why == NULL)
		why = fa_frame_close(&reader);
	if (why == NULL && !*torn_p &&
		(fa_heap_settle(page, BLOCK, &verdicts->judge, T, &shape, TOAST_FROM,
						TOAST_TO, &why) != FA_PAGE_GOOD || verdicts->missing))
		why = why ? why : "no verdict";
	if (why == NULL && !*torn_p)
		why = verify(page, &visible);
	free(verdicts);
	return why;
}

static void
test_raw(void **state)
{
	char	   *buf = malloc(fa_frame_max(1) + 1);
	PGAlignedBlock page;
	PGAlignedBlock want;
	PGAlignedBlock got;
	const char *why = NULL;
	bool		torn = false;
	size_t		len;

	(void) state;
	raw_page(page.data);
	memcpy(want.data, page.data, BLCKSZ);
	len = raw_make(buf, page.data);
	assert_memory_equal(page.data, want.data, BLCKSZ);	/* it was only read */
	assert_int_equal(settle(want.data), FA_PAGE_GOOD);
	assert_null(raw_read(buf, len, got.data, &torn));
	assert_false(torn);
	assert_memory_equal(got.data, want.data, BLCKSZ);

	/* a page that changed on its way is noticed, and nothing else happens */
	buf[len - 1] ^= 1;
	assert_null(raw_read(buf, len, got.data, &torn));
	assert_true(torn);
	buf[len - 1] ^= 1;

	/* a verdict that is not there, or is none */
	for (size_t i = 0; i < len; i++)
		assert_non_null(raw_read(buf, i, got.data, &torn));
	for (int i = 0; i < 7; i++)
	{
		char	   *id = buf + FA_FRAME_HEADER + FA_FRAME_PAGE + i * FA_FRAME_VERDICT;

		id[3] ^= 0x20;			/* still in their order, of another id */
		why = raw_read(buf, len, got.data, &torn);
		assert_non_null(why);
		id[3] ^= 0x20;
		if (i < 5)
		{
			id[7] = FA_XID_PENDING;
			assert_non_null(raw_read(buf, len, got.data, &torn));
			id[7] = i < 3 ? FA_XID_COMMITTED : FA_XID_ABORTED;
		}
	}
	assert_null(raw_read(buf, len, got.data, &torn));

	/* a transaction that runs: not now */
	page_add(page.data, PENDING + 1, 0, HEAP_XMAX_INVALID, 0, 0, false);
	assert_int_equal(fa_heap_survey(page.data, &judge, &why), FA_PAGE_PENDING);
	free(buf);
}

/* Random changes to good pages and frames, with checksums that fit. */
static void
test_fuzz(void **state)
{
	const char *text = getenv("FA_FUZZ_ROUNDS");
	long		rounds = text ? atol(text) : 200000;
	pg_prng_state prng;
	long		let_in = 0;

	(void) state;
	pg_prng_seed(&prng, 42);
	for (long k = 0; k < rounds; k++)
	{
		PGAlignedBlock block;
		char		buf[FA_FRAME_HEADER + FA_FRAME_PAGE + BLCKSZ];
		FaFrameHeader header = {.kind = FA_FRAME_PAGES_KIND, .entries = 1};
		size_t		len;
		int			n = 1 + pg_prng_uint64(&prng) % 6;
		bool		visible;

		good_page(block.data);
		for (int i = 0; i < n; i++)
		{
			/* mostly where something is */
			unsigned	at = pg_prng_uint64(&prng) % 3 == 0 ?
				pg_prng_uint64(&prng) % 40 : BLCKSZ - 1 - pg_prng_uint64(&prng) % 160;

			block.data[at] = pg_prng_uint64(&prng);
		}
		if (fa_heap_verify(block.data, BLOCK, T, &shape, TOAST_TO, &visible) == NULL)
			let_in++;
		(void) settle(block.data);
		len = fa_frame_put_header(buf, &header);
		len += fa_frame_put_page(buf + len, BLOCK, block.data, true);
		buf[pg_prng_uint64(&prng) % len] ^= 1 << pg_prng_uint64(&prng) % 8;
		(void) frame_read(buf, pg_prng_uint64(&prng) % (len + 1));
	}
	assert_true(let_in < rounds);
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
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_btree),
		cmocka_unit_test(test_fuzz),
	};

	return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
