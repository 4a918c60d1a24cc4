/*
 * fuzz_page.c
 *	  libFuzzer's way into what is done with a peer's frames and pages.
 *
 *	make -C test/unit fuzz FUZZ_SECONDS=60
 *
 * The first byte says what the rest is: a frame, or the head and the tail of a
 * page (checksums would keep the fuzzer from ever getting to one).
 */
#include "postgres.h"

#include "catalog/pg_am_d.h"
#include "page/frame.h"
#include "page/image.h"
#include "page/verdict.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

#define T 9000

static FaAttribute columns[] = {{4, 'i'}, {-1, 'i'}, {8, 'd'}, {-1, 'd'}, {1, 'c'}};
static const FaRowShape shape = {5, columns};
static const Oid methods[] = {BTREE_AM_OID, HASH_AM_OID, GIN_AM_OID,
GIST_AM_OID, SPGIST_AM_OID, BRIN_AM_OID};

static FaXidState
judge_state(FaXidJudge *judge, TransactionId xid)
{
	return (FaXidState) (xid % 5 == 0 ? FA_XID_PENDING : xid % 2);
}

static TransactionId
judge_updater(FaXidJudge *judge, TransactionId multi)
{
	return multi / 2;
}

static void
one_frame(const char *data, size_t size)
{
	FaFrameReader reader;
	FaFrameHeader header;
	FaFrameRaw	raw[FA_FRAME_PAGES];
	static FaVerdicts verdicts;
	PGAlignedBlock page;
	BlockNumber block;
	uint32		left;

	if (fa_frame_open(&reader, data, size, &header))
		return;
	for (int i = 0; i < header.entries; i++)
	{
		if (header.kind == FA_FRAME_END_KIND ?
			fa_frame_get_relation(&reader, &block, &left) :
			header.kind == FA_FRAME_RAW_KIND ?
			fa_frame_get_raw(&reader, &raw[i]) :
			fa_frame_get_page(&reader, &block, page.data))
			return;
	}
	if (header.kind == FA_FRAME_RAW_KIND)
	{
		fa_verdicts_init(&verdicts, NULL);
		if (fa_verdicts_get(&verdicts, &reader, &header))
			return;
		for (int i = 0; i < header.entries; i++)
		{
			const char *why;
			bool		torn;
			bool		visible;

			if (fa_frame_get_bytes(&reader, &raw[i], page.data, &torn))
				return;
			/* torn or not: a checksum that fits is easily made */
			if (fa_heap_settle(page.data, 7, &verdicts.judge, T, &shape, 16390, 20000, &why) == FA_PAGE_GOOD &&
				!PageIsNew(page.data))
				(void) fa_heap_verify(page.data, 7, T, &shape, 20000, &visible);
		}
	}
	(void) fa_frame_close(&reader);
}

/* What was settled must be let in; what is let in stays so. */
static void
one_heap(Page page)
{
	FaXidJudge	judge = {judge_state, judge_updater};
	PGAlignedBlock copy;
	const char *why = NULL;
	bool		visible;

	memcpy(copy.data, page, BLCKSZ);
	(void) fa_heap_verify(page, 7, T, &shape, 20000, &visible);
	if (fa_heap_settle(copy.data, 7, &judge, T, &shape, 16390, 20000, &why) == FA_PAGE_GOOD &&
		!PageIsNew(copy.data))
		(void) fa_heap_verify(copy.data, 7, T, &shape, 20000, &visible);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	PGAlignedBlock page;
	size_t		head;

	if (size < 3 || size > BLCKSZ)
		return 0;
	if (data[0] % 8 == 0)
	{
		one_frame((const char *) data + 1, size - 1);
		return 0;
	}
	head = Min((size_t) data[1], size - 2);
	memset(page.data, 0, BLCKSZ);
	memcpy(page.data, data + 2, head);
	memcpy(page.data + BLCKSZ - (size - 2 - head), data + 2 + head, size - 2 - head);
	if (data[0] % 8 == 1)
		one_heap(page.data);
	else
		(void) fa_index_verify(page.data, data[0] / 8 % 2 * 7, methods[data[0] % 8 - 2], T);
	return 0;
}
