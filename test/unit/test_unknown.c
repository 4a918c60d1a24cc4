/*
 * test_unknown.c
 *	  Steps that nobody saw, and nodes that were down, are unknown, not zero.
 */
#include "unit.h"

#define NODES		3

/* A steady load of 4, 2 and 2 accesses a step. */
static int
steady(FaCell *cells)
{
	cells[0] = (FaCell) {0, 0, 4};
	cells[1] = (FaCell) {1, 0, 2};
	cells[2] = (FaCell) {2, 0, 2};
	return 3;
}

static FaPredictor *
warm(int64_t steps)
{
	FaPredictor *p = unit_create(NODES, 1, 1, (int[]) {1}, 50);
	FaCell		c[3];

	for (int64_t t = 0; t < steps; t++)
		assert_true(fa_predictor_observe(p, t, c, steady(c), NULL));
	return p;
}

static void
a_node_down_keeps_its_share(void **state)
{
	bool		known[] = {false, true, true};
	FaPredictor *p = warm(300);
	FaPredictor *q = warm(300);
	FaForecast	down,
				zero;
	FaCell		c[3];

	(void) state;
	for (int64_t t = 300; t < 400; t++)
	{
		assert_int_equal(steady(c), 3);
		c[0].count = 0;
		assert_true(fa_predictor_observe(p, t, c, 3, known));
		assert_true(fa_predictor_observe(q, t, c, 3, NULL));
	}
	down = unit_forecast(p, NODES, 0, 0);
	zero = unit_forecast(q, NODES, 0, 0);
	unit_check_forecast(&down, NODES);
	assert_true(fabs(down.affinity[0] - 0.5) < 0.05);
	assert_true(fabs(down.affinity[1] - 0.25) < 0.05);
	assert_true(down.expected_rate[0] > 3);
	assert_true(zero.affinity[0] < 0.1);
	unit_free_forecast(&down);
	unit_free_forecast(&zero);
	fa_predictor_destroy(p);
	fa_predictor_destroy(q);
}

static void
a_gap_changes_no_rate(void **state)
{
	FaPredictor *p = warm(300);
	FaForecast	before = unit_forecast(p, NODES, 0, 0);
	FaForecast	after;
	FaCell		c[3];

	(void) state;
	assert_int_equal(steady(c), 3);
	assert_true(fa_predictor_observe(p, 340, c, 3, NULL));
	after = unit_forecast(p, NODES, 0, 0);
	for (int n = 0; n < NODES; n++)
	{
		assert_true(fabs(before.affinity[n] - after.affinity[n]) < 0.01);
		assert_true(fabs(before.expected_rate[n] - after.expected_rate[n]) < 0.2);
	}
	/* but what is known is older */
	assert_true(after.evidence < before.evidence);
	unit_free_forecast(&before);
	unit_free_forecast(&after);
	fa_predictor_destroy(p);
}

/* All nodes unknown is as good as no step at all. */
static void
a_step_of_unknowns_is_a_gap(void **state)
{
	bool		none[] = {false, false, false};
	FaPredictor *p = warm(200);
	FaForecast	before = unit_forecast(p, NODES, 0, 0);
	FaForecast	after;

	(void) state;
	for (int64_t t = 200; t < 240; t++)
		assert_true(fa_predictor_observe(p, t, NULL, 0, none));
	after = unit_forecast(p, NODES, 0, 0);
	for (int n = 0; n < NODES; n++)
		assert_true(fabs(before.affinity[n] - after.affinity[n]) < 0.01);
	unit_free_forecast(&before);
	unit_free_forecast(&after);
	fa_predictor_destroy(p);
}

static void
a_node_never_known(void **state)
{
	bool		known[] = {true, true, false};
	FaPredictor *p = unit_create(NODES, 1, 1, (int[]) {1}, 50);
	FaForecast	fc;
	FaCell		c[3];

	(void) state;
	for (int64_t t = 0; t < 150; t++)
		assert_true(fa_predictor_observe(p, t, c, steady(c), known));
	fc = unit_forecast(p, NODES, 0, 0);
	unit_check_forecast(&fc, NODES);
	assert_true(fc.affinity[2] > 0);
	assert_true(fabs(fc.affinity[0] / fc.affinity[1] - 2) < 0.4);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

/* A season is found although a tenth of the steps is missing. */
static void
a_season_with_holes(void **state)
{
	FaPredictor *p = unit_create(NODES, 1, 1, (int[]) {1}, 60);
	uint64_t	rng = 2;
	int			season[4];

	(void) state;
	for (int64_t t = 0; t < 500; t++)
	{
		double		x = 5 * (1 + cos((double) (t % 24) * 0.2618));
		FaCell		c[] = {{0, 0, unit_poisson(&rng, x)},
		{1, 0, unit_poisson(&rng, 5)}};

		if (unit_uniform(&rng) > 0.1)
			assert_true(fa_predictor_observe(p, t, c, 2, NULL));
	}
	assert_true(fa_predictor_seasons(p, season, 4) >= 1);
	assert_int_equal(season[0], 24);
	fa_predictor_destroy(p);
}

/* Busy for a while, then never again: rate and evidence fade. */
static void
a_vanished_series_fades(void **state)
{
	FaPredictor *p = warm(300);
	FaForecast	before = unit_forecast(p, NODES, 0, 0);
	FaForecast	after;

	(void) state;
	for (int64_t t = 300; t < 1500; t++)
		assert_true(fa_predictor_observe(p, t, NULL, 0, NULL));
	after = unit_forecast(p, NODES, 0, 0);
	unit_check_forecast(&after, NODES);
	assert_true(after.expected_rate[0] < 0.1);
	assert_true(after.access_probability[0] < 0.1);
	assert_true(after.evidence < before.evidence / 10);
	unit_free_forecast(&before);
	unit_free_forecast(&after);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_node_down_keeps_its_share),
		cmocka_unit_test(a_gap_changes_no_rate),
		cmocka_unit_test(a_step_of_unknowns_is_a_gap),
		cmocka_unit_test(a_node_never_known),
		cmocka_unit_test(a_season_with_holes),
		cmocka_unit_test(a_vanished_series_fades),
	};

	return cmocka_run_group_tests_name("unknown", tests, NULL, NULL);
}
