/*
 * test_memory.c
 *	  Memory: sparse, bounded, accounted, and given back after a longjmp.
 */
#include "unit.h"

typedef struct Arena
{
	size_t		bytes;
	int			blocks;
	int			left;			/* allocations until it gives up */
	jmp_buf		out;
} Arena;

typedef struct Header
{
	size_t		size;
	size_t		pad;
} Header;

static void *
arena_alloc(void *arg, size_t size)
{
	Arena	   *a = arg;
	Header	   *h;

	if (a->left-- == 0)
		longjmp(a->out, 1);
	h = calloc(1, sizeof(Header) + size);
	if (h == NULL)
		abort();
	h->size = size;
	a->bytes += size;
	a->blocks++;
	return h + 1;
}

static void
arena_release(void *arg, void *ptr)
{
	Arena	   *a = arg;
	Header	   *h = (Header *) ptr - 1;

	a->bytes -= h->size;
	a->blocks--;
	free(h);
}

static FaPredictor *
create(Arena *a, int nnodes, int nfragments, size_t kept)
{
	FaAllocator allocator = {arena_alloc, arena_release, a};
	FaPredictorConfig config = {0};

	config.nhorizons = 2;
	config.horizons[0] = 1;
	config.horizons[1] = 10;
	config.max_season = 50;
	config.kept_bytes = kept;
	return fa_predictor_create(&config, nnodes, nfragments, &allocator);
}

static void
feed(FaPredictor *p, int64_t from, int64_t to, int nfragments, int nnodes)
{
	static FaCell c[MAX_CELLS];

	for (int64_t t = from; t < to; t++)
	{
		for (int f = 0; f < nfragments; f++)
			c[f] = (FaCell) {(int) ((t + f) % 3) % nnodes, f, 2};
		assert_true(fa_predictor_observe(p, t, c, nfragments, NULL));
	}
}

static void
every_byte_is_accounted(void **state)
{
	Arena		a = {.left = -1};
	FaPredictor *p = create(&a, 4, 50, 0);

	(void) state;
	for (int i = 0; i < 10; i++)
	{
		feed(p, i * 20, i * 20 + 20, 50, 4);
		assert_int_equal(fa_predictor_memory(p), a.bytes);
	}
	fa_predictor_resize(p, 9, 80);
	assert_int_equal(fa_predictor_memory(p), a.bytes);
	fa_predictor_destroy(p);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.blocks, 0);
}

/* What was never touched takes next to nothing. */
static void
untouched_is_cheap(void **state)
{
	Arena		a = {.left = -1};
	FaPredictor *p = create(&a, 64, 100000, 0);

	(void) state;
	feed(p, 0, 60, 10, 64);
	assert_true(fa_predictor_memory(p) < (size_t) 20 << 20);
	assert_true(fa_predictor_save(p, NULL, 0) < (size_t) 2 << 20);
	fa_predictor_destroy(p);
}

/* 2000 fragments with 3 cells each: below 3 kB a cell, steady in the end. */
static void
bounded_by_cells(void **state)
{
	Arena		a = {.left = -1};
	FaPredictor *p = create(&a, 8, 2000, (size_t) 4 << 20);
	size_t		half;

	(void) state;
	feed(p, 0, 450, 2000, 8);
	half = fa_predictor_memory(p);
	feed(p, 450, 650, 2000, 8);
	assert_true(half < (size_t) 60 << 20);
	assert_true(fa_predictor_memory(p) < half + half / 10);
	fa_predictor_destroy(p);
}

static void
leave_after(int allocations)
{
	Arena		a = {.left = -1};
	FaPredictor *p = create(&a, 3, 5, 0);

	feed(p, 0, 40, 4, 3);
	if (setjmp(a.out) == 0)
	{
		a.left = allocations;
		feed(p, 40, 60, 5, 3);
		fa_predictor_resize(p, 7, 12);
		feed(p, 60, 70, 12, 7);
	}
	a.left = -1;
	fa_predictor_destroy(p);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.blocks, 0);
}

/* An allocator that leaves at any point leaves something destroyable. */
static void
survives_longjmp(void **state)
{
	(void) state;
	for (int n = 0; n < 400; n += 3)
		leave_after(n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_is_accounted),
		cmocka_unit_test(untouched_is_cheap),
		cmocka_unit_test(bounded_by_cells),
		cmocka_unit_test(survives_longjmp),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
