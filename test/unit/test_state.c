/*
 * test_state.c
 *	  Save and restore.
 */
#include "unit.h"

#define NODES		4
#define FRAGMENTS	12

static int
daily(int64_t step, FaCell *cells, void *arg)
{
	uint64_t	rng = (uint64_t) step * 31 + 5;
	int			n = 0;

	(void) arg;
	for (int f = 0; f < FRAGMENTS; f++)
	{
		for (int i = 0; i < NODES; i++)
		{
			double		swing = 1 + cos((step % 24 - 6 * i) * 0.2618);
			int			y = unit_poisson(&rng, swing * (f % 3) * 0.8);

			if (y > 0)
				cells[n++] = (FaCell) {i, f, y};
		}
	}
	return n;
}

static FaPredictor *
make(int64_t until)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, (int[]) {1, 24}, 60);

	unit_feed(p, 1000, until, daily, NULL);
	return p;
}

static void *
save(const FaPredictor *p, size_t *size_p)
{
	size_t		size = fa_predictor_save(p, NULL, 0);
	void	   *buf = malloc(size);

	assert_int_equal(fa_predictor_save(p, buf, size), size);
	*size_p = size;
	return buf;
}

static void
check_same(FaPredictor *a, FaPredictor *b)
{
	for (int h = 0; h < 2; h++)
	{
		for (int f = 0; f < FRAGMENTS; f++)
		{
			FaForecast	x = unit_forecast(a, NODES, f, h);
			FaForecast	y = unit_forecast(b, NODES, f, h);

			assert_memory_equal(x.affinity, y.affinity, sizeof(double) * NODES);
			assert_memory_equal(x.expected_rate, y.expected_rate,
								sizeof(double) * NODES);
			assert_memory_equal(x.access_probability, y.access_probability,
								sizeof(double) * NODES);
			assert_memory_equal(x.weight, y.weight, sizeof(x.weight));
			assert_true(x.evidence == y.evidence);
			unit_check_forecast(&x, NODES);
			unit_free_forecast(&x);
			unit_free_forecast(&y);
		}
	}
}

static void
restored_goes_on_alike(void **state)
{
	int64_t		until[] = {1000, 1001, 1020, 1120, 1400};

	(void) state;
	for (int i = 0; i < 5; i++)
	{
		FaPredictor *p = make(until[i]);
		size_t		size;
		void	   *buf = save(p, &size);
		FaPredictor *q = fa_predictor_restore(buf, size, &unit_allocator);
		size_t		again;
		void	   *copy;

		assert_non_null(q);
		check_same(p, q);
		copy = save(q, &again);
		assert_int_equal(size, again);
		assert_memory_equal(buf, copy, size);
		unit_feed(p, until[i], until[i] + 100, daily, NULL);
		unit_feed(q, until[i], until[i] + 100, daily, NULL);
		check_same(p, q);
		assert_true(unit_log_loss(p, 1, FA_MODEL_MIXTURE) ==
					unit_log_loss(q, 1, FA_MODEL_MIXTURE));
		free(buf);
		free(copy);
		fa_predictor_destroy(p);
		fa_predictor_destroy(q);
	}
}

static void
short_buffer_is_left_alone(void **state)
{
	FaPredictor *p = make(1100);
	size_t		size = fa_predictor_save(p, NULL, 0);
	unsigned char *buf = malloc(size);

	(void) state;
	memset(buf, 0x5a, size);
	assert_int_equal(fa_predictor_save(p, buf, size - 1), size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(buf[i], 0x5a);
	free(buf);
	fa_predictor_destroy(p);
}

static void
truncated_is_refused(void **state)
{
	FaPredictor *p = make(1060);
	size_t		size;
	unsigned char *buf = save(p, &size);

	(void) state;
	assert_null(fa_predictor_restore(NULL, 0, &unit_allocator));
	for (size_t n = 0; n < size; n += n < 300 ? 1 : 997)
	{
		void	   *part = malloc(n);	/* so that ASan sees a read past it */

		memcpy(part, buf, n);
		assert_null(fa_predictor_restore(part, n, &unit_allocator));
		free(part);
	}
	free(buf);
	fa_predictor_destroy(p);
}

/* The checksum as state.c computes it. */
static void
seal(unsigned char *buf, size_t size)
{
	uint64_t	x = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < size - 8; i++)
		x = (x ^ buf[i]) * UINT64_C(0x100000001b3);
	for (int i = 0; i < 8; i++)
		buf[size - 8 + i] = (unsigned char) (x >> (56 - 8 * i));
}

/* Damage is refused; with a forged checksum it at least does no harm. */
static void
damaged_does_no_harm(void **state)
{
	FaPredictor *p = make(1120);
	size_t		size;
	unsigned char *buf = save(p, &size);
	unsigned char *bad = malloc(size);
	uint64_t	rng = 11;
	int			accepted = 0;

	(void) state;
	for (int i = 0; i < 1500; i++)
	{
		/* mostly the head and the structures, where counts are */
		size_t		span = i % 3 == 0 ? size - 8 : i % 3 == 1 ? 200 : 4000;
		FaPredictor *q;

		memcpy(bad, buf, size);
		for (int k = 0; k < 1 + i % 4; k++)
		{
			size_t		at = (size_t) (unit_uniform(&rng) * (double) span);

			bad[at] = i % 2 == 0 ? (unsigned char) (unit_uniform(&rng) * 256) :
				bad[at] ^ (unsigned char) (1 << (i / 2 % 8));
		}
		if (memcmp(bad, buf, size) == 0)
			continue;
		assert_null(fa_predictor_restore(bad, size, &unit_allocator));
		seal(bad, size);
		q = fa_predictor_restore(bad, size, &unit_allocator);
		if (q == NULL)
			continue;
		accepted++;
		if (i % 4 == 0)
		{
			FaCell		c[] = {{0, 0, 3}, {1, 1, 2}};

			for (int h = 0; h < 2; h++)
			{
				double		v[4][64];
				FaForecast	fc = {v[0], v[1], v[2], v[3], 0, {0}};

				fa_predictor_forecast(q, 0, h, &fc);
				assert_true(fc.affinity[0] >= 0);
			}
			fa_predictor_observe(q, 1200, c, 2, NULL);
		}
		fa_predictor_destroy(q);
	}
	assert_true(accepted > 0);
	free(bad);
	free(buf);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restored_goes_on_alike),
		cmocka_unit_test(short_buffer_is_left_alone),
		cmocka_unit_test(truncated_is_refused),
		cmocka_unit_test(damaged_does_no_harm),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
