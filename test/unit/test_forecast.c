/*
 * test_forecast.c
 *	  What must hold of every forecast: sums, extremes, symmetry, no peeking.
 */
#include "unit.h"

#define NODES		4
#define FRAGMENTS	10

static const int horizons[] = {1, 6};

/* Nodes in turn over a day of 12 steps, each fragment in its own way. */
static int
swings(int64_t step, FaCell *cells, void *arg)
{
	const int  *order = arg;	/* names of the nodes, NULL: as they are */
	int			n = 0;

	for (int f = 0; f < FRAGMENTS; f++)
	{
		for (int i = 0; i < NODES; i++)
		{
			uint64_t	rng = (uint64_t) (step * 1009 + f * 31 + i * 7);
			double		mean = 1.2 * (1 + cos((double) (step % 12 - 3 * i - f) *
											  0.5236)) * (f % 4);
			int			y = unit_poisson(&rng, mean);

			if (y > 0)
				cells[n++] = (FaCell) {order ? order[i] : i, f, y};
		}
	}
	return n;
}

static void
check_all(FaPredictor *p, int nnodes, int nfragments, int nhorizons)
{
	for (int h = 0; h < nhorizons; h++)
	{
		for (int f = 0; f < nfragments; f++)
		{
			FaForecast	fc = unit_forecast(p, nnodes, f, h);

			unit_check_forecast(&fc, nnodes);
			unit_free_forecast(&fc);
		}
	}
}

static void
no_history_is_uniform(void **state)
{
	FaPredictor *p = unit_create(5, 3, 2, horizons, 50);
	FaForecast	fc = unit_forecast(p, 5, 1, 0);

	(void) state;
	for (int n = 0; n < 5; n++)
	{
		assert_true(fabs(fc.affinity[n] - 0.2) < 1e-12);
		assert_true(fc.expected_rate[n] == 0);
		assert_true(fc.access_probability[n] == 0);
	}
	assert_true(fc.evidence == 0);
	unit_check_forecast(&fc, 5);
	unit_free_forecast(&fc);

	/* steps without an access change nothing of that */
	for (int t = 0; t < 100; t++)
		assert_true(fa_predictor_observe(p, t, NULL, 0, NULL));
	fc = unit_forecast(p, 5, 1, 1);
	for (int n = 0; n < 5; n++)
		assert_true(fabs(fc.affinity[n] - 0.2) < 1e-9);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

static void
one_access_is_no_certainty(void **state)
{
	FaPredictor *p = unit_create(4, 2, 1, horizons, 50);
	FaCell		c = {2, 0, 1};
	FaForecast	fc;

	(void) state;
	assert_true(fa_predictor_observe(p, 0, &c, 1, NULL));
	fc = unit_forecast(p, 4, 0, 0);
	unit_check_forecast(&fc, 4);
	assert_true(fc.affinity[2] > 0.25 && fc.affinity[2] < 0.9);
	unit_free_forecast(&fc);

	/* a fragment without any takes after the others */
	fc = unit_forecast(p, 4, 1, 0);
	unit_check_forecast(&fc, 4);
	assert_true(fc.affinity[2] > 0.25 && fc.affinity[2] < 0.9);
	assert_true(fc.evidence == 0);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

static void
sums_to_one_at_every_step(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaCell		cells[256];

	(void) state;
	for (int64_t t = 0; t < 150; t++)
	{
		int			n = swings(t, cells, NULL);

		assert_true(fa_predictor_observe(p, t, cells, n, NULL));
		check_all(p, NODES, FRAGMENTS, 2);
	}
	fa_predictor_destroy(p);
}

static void
permuting_nodes_permutes_forecasts(void **state)
{
	int			order[NODES] = {2, 0, 3, 1};
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaPredictor *q = unit_create(NODES, FRAGMENTS, 2, horizons, 40);

	(void) state;
	unit_feed(p, 0, 300, swings, NULL);
	unit_feed(q, 0, 300, swings, order);
	for (int h = 0; h < 2; h++)
	{
		for (int f = 0; f < FRAGMENTS; f++)
		{
			FaForecast	a = unit_forecast(p, NODES, f, h);
			FaForecast	b = unit_forecast(q, NODES, f, h);

			for (int n = 0; n < NODES; n++)
			{
				assert_true(fabs(a.affinity[n] - b.affinity[order[n]]) < 1e-5);
				assert_true(fabs(a.expected_rate[n] -
								 b.expected_rate[order[n]]) < 1e-4);
			}
			unit_free_forecast(&a);
			unit_free_forecast(&b);
		}
	}
	fa_predictor_destroy(p);
	fa_predictor_destroy(q);
}

/* Order of the cells in a step, and the same cell in parts. */
static void
order_of_cells_is_nothing(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 1, horizons, 40);
	FaPredictor *q = unit_create(NODES, FRAGMENTS, 1, horizons, 40);

	(void) state;
	for (int64_t t = 0; t < 120; t++)
	{
		FaCell		a[256],
					b[512];
		int			n = swings(t, a, NULL);
		int			m = 0;

		for (int i = n - 1; i >= 0; i--)
		{
			b[m] = a[i];
			b[m++].count = a[i].count / 2;
			b[m] = a[i];
			b[m++].count = a[i].count / 2;
		}
		assert_true(fa_predictor_observe(p, t, a, n, NULL));
		assert_true(fa_predictor_observe(q, t, b, m, NULL));
	}
	for (int f = 0; f < FRAGMENTS; f++)
	{
		FaForecast	a = unit_forecast(p, NODES, f, 0);
		FaForecast	b = unit_forecast(q, NODES, f, 0);

		for (int n = 0; n < NODES; n++)
			assert_true(fabs(a.affinity[n] - b.affinity[n]) < 1e-5);
		unit_free_forecast(&a);
		unit_free_forecast(&b);
	}
	fa_predictor_destroy(p);
	fa_predictor_destroy(q);
}

/* Two futures after one past: no forecast made before they part differs. */
static void
the_future_changes_no_earlier_forecast(void **state)
{
	const int	part = 200;
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaPredictor *q = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaCell		a[256],
				b[256];

	(void) state;
	for (int64_t t = 0; t < part + 20; t++)
	{
		int			n = swings(t, a, NULL);
		int			m = n;

		memcpy(b, a, sizeof(a));
		if (t >= part)
		{
			for (int i = 0; i < m; i++)
			{
				b[i].node = (b[i].node + 1) % NODES;
				b[i].count *= 100;
			}
		}
		if (t <= part)
		{
			/* what was last forecast saw nothing of step t */
			for (int h = 0; h < 2; h++)
			{
				for (int f = 0; f < FRAGMENTS; f++)
				{
					FaForecast	x = unit_forecast(p, NODES, f, h);
					FaForecast	y = unit_forecast(q, NODES, f, h);

					assert_memory_equal(x.affinity, y.affinity,
										sizeof(double) * NODES);
					assert_memory_equal(x.typical_rate, y.typical_rate,
										sizeof(double) * NODES);
					unit_free_forecast(&x);
					unit_free_forecast(&y);
				}
			}
		}
		assert_true(fa_predictor_observe(p, t, a, n, NULL));
		assert_true(fa_predictor_observe(q, t, b, m, NULL));
	}
	fa_predictor_destroy(p);
	fa_predictor_destroy(q);
}

static void
asking_changes_nothing(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaPredictor *q = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaForecast	a,
				b;

	(void) state;
	for (int64_t t = 0; t < 100; t++)
	{
		unit_feed(p, t, t + 1, swings, NULL);
		unit_feed(q, t, t + 1, swings, NULL);
		check_all(p, NODES, FRAGMENTS, 2);
	}
	a = unit_forecast(p, NODES, 3, 1);
	b = unit_forecast(q, NODES, 3, 1);
	assert_memory_equal(a.affinity, b.affinity, sizeof(double) * NODES);
	unit_free_forecast(&a);
	unit_free_forecast(&b);
	fa_predictor_destroy(p);
	fa_predictor_destroy(q);
}

static void
extremes_stay_numbers(void **state)
{
	static const double counts[] = {
		1e9, 0, 1, 1e15, 1e300, 5e-324, 1e-300, 0.5, 1e12, 3
	};
	FaPredictor *p = unit_create(3, 4, 2, horizons, 30);
	int64_t		t = 0;

	(void) state;
	for (int round = 0; round < 12; round++)
	{
		for (int i = 0; i < 10; i++)
		{
			FaCell		c[] = {
				{i % 3, 0, counts[i]},
				{(i + round) % 3, 1, 1e9},
				{round % 3, 2, i == 0 ? 1 : 0},
				{1, 3, counts[(i * 7 + round) % 10]},
				{-1, 0, 1}, {3, 0, 1}, {0, -5, 1}, {0, 4, 1}, {1, 1, NAN},
				{1, 1, INFINITY}, {1, 1, -3}, {INT32_MAX, INT32_MIN, 1}
			};

			assert_true(fa_predictor_observe(p, t++, c, 12, NULL));
			check_all(p, 3, 4, 2);
		}
		for (int i = 0; i < round * 10; i++)
			assert_true(fa_predictor_observe(p, t++, NULL, 0, NULL));
		check_all(p, 3, 4, 2);
	}
	for (int m = 0; m < FA_NMODELS; m++)
	{
		FaScore		s = {0};

		fa_predictor_take_score(p, 0, m, &s);
		assert_true(isfinite(s.log_loss) && isfinite(s.brier) &&
					isfinite(s.rate_msle) && s.n > 0);
	}
	fa_predictor_destroy(p);
}

static void
rates_of_a_billion(void **state)
{
	FaPredictor *p = unit_create(2, 1, 1, horizons, 30);
	FaForecast	fc;

	(void) state;
	for (int64_t t = 0; t < 200; t++)
	{
		FaCell		c[] = {{0, 0, 3e9}, {1, 0, 1e9}};

		assert_true(fa_predictor_observe(p, t, c, 2, NULL));
	}
	fc = unit_forecast(p, 2, 0, 0);
	unit_check_forecast(&fc, 2);
	assert_true(fabs(fc.affinity[0] - 0.75) < 0.01);
	assert_true(fc.expected_rate[0] > 2.7e9 && fc.expected_rate[0] < 3.3e9);
	assert_true(fc.access_probability[0] > 0.9);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

static void
a_single_node(void **state)
{
	FaPredictor *p = unit_create(1, 2, 2, horizons, 30);

	(void) state;
	for (int64_t t = 0; t < 100; t++)
	{
		FaCell		c = {0, 0, (double) (t % 3)};

		assert_true(fa_predictor_observe(p, t, &c, 1, NULL));
	}
	check_all(p, 1, 2, 2);
	assert_true(unit_log_loss(p, 0, FA_MODEL_MIXTURE) < 1e-9);
	fa_predictor_destroy(p);
}

static void
clock_jumps(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 30);
	FaForecast	before,
				after;
	FaCell		c = {0, 3, 5};

	(void) state;
	unit_feed(p, 1000, 1100, swings, NULL);
	before = unit_forecast(p, NODES, 3, 0);

	/* back, or the same again: refused, nothing changed */
	assert_false(fa_predictor_observe(p, 1099, &c, 1, NULL));
	assert_false(fa_predictor_observe(p, 5, &c, 1, NULL));
	assert_false(fa_predictor_observe(p, INT64_MIN, &c, 1, NULL));
	assert_false(fa_predictor_observe(p, INT64_MAX, &c, 1, NULL));
	after = unit_forecast(p, NODES, 3, 0);
	assert_memory_equal(before.affinity, after.affinity, sizeof(double) * NODES);
	unit_free_forecast(&before);
	unit_free_forecast(&after);

	/* forward: what lies between is unknown */
	unit_feed(p, 1500, 1510, swings, NULL);
	check_all(p, NODES, FRAGMENTS, 2);
	unit_feed(p, INT64_C(1) << 50, (INT64_C(1) << 50) + 20, swings, NULL);
	check_all(p, NODES, FRAGMENTS, 2);
	fa_predictor_destroy(p);

	/* the clock may start before its epoch */
	p = unit_create(NODES, FRAGMENTS, 2, horizons, 30);
	unit_feed(p, -1000005, -999700, swings, NULL);
	check_all(p, NODES, FRAGMENTS, 2);
	fa_predictor_destroy(p);
}

static void
strange_arguments(void **state)
{
	FaPredictorConfig config = {0};
	FaPredictor *p;
	FaForecast	fc;

	(void) state;
	config.nhorizons = 9;
	config.horizons[0] = -4;
	config.horizons[1] = -4;
	config.horizons[2] = 2000000000;
	config.max_season = -1;
	config.forgetting = NAN;
	p = fa_predictor_create(&config, 0, -3, &unit_allocator);
	for (int64_t t = 0; t < 60; t++)
	{
		FaCell		c = {0, 0, 1};

		assert_true(fa_predictor_observe(p, t, &c, 1, NULL));
	}
	fc = unit_forecast(p, 1, 77, 12);
	unit_check_forecast(&fc, 1);
	unit_free_forecast(&fc);
	fc = unit_forecast(p, 1, -1, -1);
	unit_check_forecast(&fc, 1);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
	fa_predictor_destroy(NULL);
}

static void
grows(void **state)
{
	FaPredictor *p = unit_create(2, 2, 2, horizons, 40);

	(void) state;
	for (int64_t t = 0; t < 150; t++)
	{
		FaCell		c[] = {{0, 0, 4}, {1, 1, (double) (t % 12 < 6 ? 5 : 0)}};

		assert_true(fa_predictor_observe(p, t, c, 2, NULL));
	}
	fa_predictor_resize(p, 1, 1);	/* never smaller */
	check_all(p, 2, 2, 2);
	fa_predictor_resize(p, NODES, FRAGMENTS);
	check_all(p, NODES, FRAGMENTS, 2);
	{
		FaForecast	fc = unit_forecast(p, NODES, 0, 0);

		assert_true(fc.affinity[0] > 0.8);
		unit_free_forecast(&fc);
	}
	unit_feed(p, 150, 320, swings, NULL);
	check_all(p, NODES, FRAGMENTS, 2);
	fa_predictor_destroy(p);
}

/* A profile is the forecast at a horizon, swings between, changes nothing. */
static void
profile_follows_the_season(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 2, horizons, 40);
	FaForecast	before,
				after;
	int			ahead[12];
	double		rate[12 * NODES];
	double		sum = 0;

	(void) state;
	unit_feed(p, 0, 480, swings, NULL);
	before = unit_forecast(p, NODES, 3, 1);
	for (int i = 0; i < 12; i++)
		ahead[i] = i + 1;
	assert_true(fa_predictor_profile(p, 3, ahead, 12, rate) > 0);
	for (int n = 0; n < NODES; n++)
		sum += rate[5 * NODES + n];
	for (int n = 0; n < NODES; n++)
		assert_true(fabs(rate[5 * NODES + n] / sum - before.affinity[n]) < 1e-9);

	/* step 479 + a is busiest at node i where (step - 3 i - 3) % 12 is 0 */
	for (int i = 0; i < NODES; i++)
	{
		int			top = 0;

		for (int a = 0; a < 12; a++)
		{
			if (rate[a * NODES + i] > rate[top * NODES + i])
				top = a;
		}
		assert_int_equal(abs((479 + ahead[top] - 3 * i - 3 + 18) % 12 - 6) <= 1, 1);
	}
	after = unit_forecast(p, NODES, 3, 1);
	assert_memory_equal(before.affinity, after.affinity, sizeof(double) * NODES);
	assert_memory_equal(before.typical_rate, after.typical_rate,
						sizeof(double) * NODES);
	unit_free_forecast(&before);
	unit_free_forecast(&after);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_history_is_uniform),
		cmocka_unit_test(one_access_is_no_certainty),
		cmocka_unit_test(sums_to_one_at_every_step),
		cmocka_unit_test(permuting_nodes_permutes_forecasts),
		cmocka_unit_test(order_of_cells_is_nothing),
		cmocka_unit_test(the_future_changes_no_earlier_forecast),
		cmocka_unit_test(asking_changes_nothing),
		cmocka_unit_test(extremes_stay_numbers),
		cmocka_unit_test(rates_of_a_billion),
		cmocka_unit_test(a_single_node),
		cmocka_unit_test(clock_jumps),
		cmocka_unit_test(strange_arguments),
		cmocka_unit_test(grows),
		cmocka_unit_test(profile_follows_the_season),
	};

	return cmocka_run_group_tests_name("forecast", tests, NULL, NULL);
}
