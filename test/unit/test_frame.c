/*
 * test_frame.c
 *	  Frames of pages: that nothing a peer may send is read or let in beyond its
 *	  bounds.
 */
#include "page_world.h"

#include "catalog/pg_am_d.h"
#include "common/pg_prng.h"
#include "page/frame.h"
#include "page/verdict.h"

static const Oid methods[] = {BTREE_AM_OID, HASH_AM_OID, GIN_AM_OID,
GIST_AM_OID, SPGIST_AM_OID, BRIN_AM_OID};

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_fuzz),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
