/*
 * test_skill.c
 *	  No skill is invented where there is none; some is had where there is.
 */
#include "unit.h"

#define NODES		8
#define FRAGMENTS	20

/* The node of an access is drawn from fixed shares of its fragment. */
static int
by_chance(int64_t step, FaCell *cells, void *arg)
{
	uint64_t   *rng = arg;
	int			n = 0;

	for (int f = 0; f < FRAGMENTS; f++)
	{
		double		swing = 1 + 0.6 * cos((double) (step % 24) * 0.2618);

		for (int i = 0; i < NODES; i++)
		{
			double		share = (1 + (i * 3 + f) % 5) / 24.0;
			int			y = unit_poisson(rng, 3 * swing * share);

			if (y > 0)
				cells[n++] = (FaCell) {i, f, y};
		}
	}
	return n;
}

static void
pure_chance_costs_nothing(void **state)
{
	(void) state;
	for (uint64_t seed = 1; seed <= 3; seed++)
	{
		FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, (int[]) {1, 24}, 200);
		uint64_t	rng = seed;

		unit_feed(p, 0, 600, by_chance, &rng);
		for (int h = 0; h < 2; h++)
		{
			unit_log_loss(p, h, FA_MODEL_STATIC);
			unit_log_loss(p, h, FA_MODEL_MIXTURE);
		}
		unit_feed(p, 600, 2000, by_chance, &rng);
		for (int h = 0; h < 2; h++)
		{
			double		flat = unit_log_loss(p, h, FA_MODEL_STATIC);
			double		mixed = unit_log_loss(p, h, FA_MODEL_MIXTURE);

			assert_true(mixed < flat + 0.002);
		}
		fa_predictor_destroy(p);
	}
}

/* All nodes alike: nothing is to be said for any of them. */
static int
alike(int64_t step, FaCell *cells, void *arg)
{
	int			n = 0;

	(void) step;
	for (int f = 0; f < FRAGMENTS; f++)
	{
		for (int i = 0; i < NODES; i++)
		{
			int			y = unit_poisson(arg, 0.3);

			if (y > 0)
				cells[n++] = (FaCell) {i, f, y};
		}
	}
	return n;
}

static void
all_alike_stays_near_uniform(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 1, (int[]) {1}, 100);
	uint64_t	rng = 5;

	(void) state;
	unit_feed(p, 0, 1000, alike, &rng);
	for (int f = 0; f < FRAGMENTS; f++)
	{
		FaForecast	fc = unit_forecast(p, NODES, f, 0);

		for (int n = 0; n < NODES; n++)
			assert_true(fc.affinity[n] > 0.08 && fc.affinity[n] < 0.18);
		unit_free_forecast(&fc);
	}
	fa_predictor_destroy(p);
}

/* Every fragment goes to the next node at step 300. */
static int
moves_on(int64_t step, FaCell *cells, void *arg)
{
	int			n = 0;

	(void) arg;
	for (int f = 0; f < FRAGMENTS; f++)
		cells[n++] = (FaCell) {(f + (step >= 300)) % NODES, f, 4};
	return n;
}

static void
follows_a_change(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 1, (int[]) {1}, 50);
	double		flat,
				mixed;

	(void) state;
	unit_feed(p, 0, 330, moves_on, NULL);
	unit_log_loss(p, 0, FA_MODEL_STATIC);
	unit_log_loss(p, 0, FA_MODEL_MIXTURE);
	unit_feed(p, 330, 360, moves_on, NULL);
	flat = unit_log_loss(p, 0, FA_MODEL_STATIC);
	mixed = unit_log_loss(p, 0, FA_MODEL_MIXTURE);
	assert_true(flat > 1.5);
	assert_true(mixed < 0.1);
	fa_predictor_destroy(p);
}

/* Rates: mean, typical and any-access agree with Poisson cells of mean 0.5. */
static int
poisson(int64_t step, FaCell *cells, void *arg)
{
	int			n = 0;

	(void) step;
	for (int f = 0; f < FRAGMENTS; f++)
		for (int i = 0; i < 4; i++)
			cells[n++] = (FaCell) {i, f, unit_poisson(arg, 0.5)};
	return n;
}

static void
rates_are_calibrated(void **state)
{
	FaPredictor *p = unit_create(4, FRAGMENTS, 1, (int[]) {1}, 50);
	uint64_t	rng = 3;
	double		mean = 0,
				any = 0,
				typical = 0;

	(void) state;
	unit_feed(p, 0, 1500, poisson, &rng);
	for (int f = 0; f < FRAGMENTS; f++)
	{
		FaForecast	fc = unit_forecast(p, 4, f, 0);

		for (int n = 0; n < 4; n++)
		{
			mean += fc.expected_rate[n] / 4 / FRAGMENTS;
			any += fc.access_probability[n] / 4 / FRAGMENTS;
			typical += fc.typical_rate[n] / 4 / FRAGMENTS;
		}
		unit_free_forecast(&fc);
	}
	assert_true(fabs(mean - 0.5) < 0.03);
	assert_true(fabs(any - 0.393) < 0.03);	/* 1 - exp(-0.5) */
	assert_true(fabs(typical - 0.366) < 0.03);	/* E ln(1 + y) = 0.312 */
	fa_predictor_destroy(p);
}

/* New fragments begin where the others are. */
static void
cold_start_from_the_others(void **state)
{
	FaPredictor *p = unit_create(4, 30, 1, (int[]) {1}, 50);
	uint64_t	rng = 6;
	FaForecast	fc;

	(void) state;
	for (int64_t t = 0; t < 200; t++)
	{
		FaCell		c[20];

		for (int f = 0; f < 20; f++)
			c[f] = (FaCell) {unit_uniform(&rng) < 0.8 ? 2 : f % 4, f, 2};
		assert_true(fa_predictor_observe(p, t, c, 20, NULL));
	}
	fc = unit_forecast(p, 4, 25, 0);
	assert_true(fc.affinity[2] > 0.7);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pure_chance_costs_nothing),
		cmocka_unit_test(all_alike_stays_near_uniform),
		cmocka_unit_test(follows_a_change),
		cmocka_unit_test(rates_are_calibrated),
		cmocka_unit_test(cold_start_from_the_others),
	};

	return cmocka_run_group_tests_name("skill", tests, NULL, NULL);
}
