/*
 * test_sessions.c
 *	  What the open sessions are expected to access next.
 */
#include "unit.h"

#include "predict/sessions.h"

#define FRAGMENTS	8
#define SESSIONS	5

static FaSessions *
create(int nnodes, int sessions, uint32_t models)
{
	FaSessionsConfig config = {.nnodes = nnodes,
	.next = {.nfragments = FRAGMENTS,.seed = 3,.sessions = sessions,
	.models = models}};

	return fa_sessions_create(&config, &unit_allocator);
}

/* Sessions that go from fragment to fragment, one a step, at their node. */
static void
walk(FaSessions *s, int64_t from, int64_t to, int nnodes)
{
	for (int64_t t = from; t < to; t++)
	{
		for (int i = 0; i < SESSIONS; i++)
		{
			FaNextEvent e = {.session = (uint64_t) (100 + i),
			.node = i % nnodes,.fragment = (int) ((t + i) % FRAGMENTS),
			.time = t * 60};

			fa_sessions_observe(s, &e, 0);
		}
		fa_sessions_step(s, 1);
	}
}

static double
expected(const FaSessions *s, int node, int fragment)
{
	FaCell		cells[FRAGMENTS * 4];
	int			n = fa_sessions_expected(s, 1e-6, cells, FRAGMENTS * 4);
	double		sum = 0;

	for (int i = 0; i < n; i++)
	{
		assert_true(cells[i].count > 0 && isfinite(cells[i].count));
		if (cells[i].node == node && cells[i].fragment == fragment)
			sum += cells[i].count;
	}
	return sum;
}

/* "This session has just touched f": its next fragment is expected. */
static void
foresees_the_next(void **state)
{
	FaSessions *s = create(2, 0, 0);

	(void) state;
	walk(s, 0, 300, 2);
	for (int i = 0; i < SESSIONS; i++)
	{
		int			f = (300 + i) % FRAGMENTS;

		assert_true(fabs(expected(s, i % 2, f) - 1) < 0.3);
		assert_true(expected(s, 1 - i % 2, f) < 0.1);
	}
	fa_sessions_destroy(s);
}

static double
total(const FaSessions *s)
{
	FaCell		cells[FRAGMENTS];
	int			n = fa_sessions_expected(s, 1e-9, cells, FRAGMENTS);
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += cells[i].count;
	return sum;
}

/* Sessions that have ended fade; scale makes up for those not shown. */
static void
fades(void **state)
{
	FaSessions *s = create(1, 0, 0);
	FaSessions *sampled = create(1, 0, 0);
	double		sum[40];

	(void) state;
	walk(s, 0, 100, 1);
	walk(sampled, 0, 100, 1);
	for (int t = 0; t < 40; t++)
	{
		fa_sessions_step(s, 1);
		fa_sessions_step(sampled, 4);
		sum[t] = total(s);
		assert_true(fabs(total(sampled) - 4 * sum[t]) < 1e-6);
	}
	assert_true(sum[10] < sum[0] / 4);
	assert_true(sum[39] < sum[10]);
	fa_sessions_destroy(sampled);
	fa_sessions_destroy(s);
}

/* An access that was repeated makes for more than one the next time. */
static void
counts_repeats(void **state)
{
	FaSessions *s = create(1, 0, 0);

	(void) state;
	for (int64_t t = 0; t < 200; t++)
	{
		FaNextEvent e = {.session = 1,.fragment = (int) (t % 2),.time = t};

		/* of the fragment that it was at before */
		fa_sessions_observe(s, &e, t % 2 == 1 ? 9 : 0);
		fa_sessions_step(s, 1);
	}
	assert_true(expected(s, 0, 0) > 5);
	fa_sessions_destroy(s);
}

/* The largest only, within the room given; bad events are ignored. */
static void
is_bounded(void **state)
{
	FaSessions *s = create(2, 3, 0);
	FaCell		cells[2];
	FaNextEvent bad[] = {{.fragment = -1}, {.fragment = FRAGMENTS},
	{.node = 2}, {.node = -1}};
	size_t		memory;

	(void) state;
	for (int i = 0; i < 4; i++)
		fa_sessions_observe(s, &bad[i], 1);
	walk(s, 0, 50, 2);
	memory = fa_sessions_memory(s);
	assert_true(fa_sessions_expected(s, 1e-6, cells, 2) <= 2);
	fa_sessions_resize(s, 3 * FRAGMENTS);
	walk(s, 50, 400, 2);
	assert_true(fa_sessions_memory(s) < 4 * memory);
	fa_sessions_destroy(s);
}

/* What was learned outlives a restart; the sessions do not. */
static void
is_saved(void **state)
{
	for (int models = 0; models < 2; models++)
	{
		uint32_t	bits = models ? 0 : (1u << FA_NEXT_LSTM) - 1;
		FaSessions *s = create(1, 0, bits);
		FaSessions *r;
		FaSessionsConfig config = {.nnodes = 1,
		.next = {.nfragments = 1,.seed = 3,.models = bits}};
		size_t		size;
		uint8_t    *buf;

		(void) state;
		walk(s, 0, 300, 1);
		size = fa_sessions_save(s, NULL, 0);
		buf = malloc(size);
		assert_int_equal(fa_sessions_save(s, buf, size), size);
		r = fa_sessions_restore(buf, size, &config, &unit_allocator);
		assert_non_null(r);
		fa_sessions_step(r, 1);
		assert_true(expected(r, 0, 0) == 0);
		walk(r, 300, 301, 1);
		assert_true(fabs(expected(r, 0, 301 % FRAGMENTS) - 1) < 0.3);
		fa_sessions_destroy(r);
		/* a damaged byte, a cut end, another shape: no state */
		buf[size / 2] ^= 1;
		assert_null(fa_sessions_restore(buf, size, &config, &unit_allocator));
		buf[size / 2] ^= 1;
		assert_null(fa_sessions_restore(buf, size - 1, &config,
										&unit_allocator));
		config.nnodes = 2;
		assert_null(fa_sessions_restore(buf, size, &config, &unit_allocator));
		free(buf);
		fa_sessions_destroy(s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(foresees_the_next),
		cmocka_unit_test(fades),
		cmocka_unit_test(counts_repeats),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(is_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
