/*
 * test_score.c
 *	  Forecasts are scored when their step has come, as they were made.
 */
#include "unit.h"

#define FLOOR		1e-4		/* of every distribution, as the prior */

static bool
near(double a, double b, double tolerance)
{
	return fabs(a - b) <= tolerance * (1 + fabs(b));
}

/*
 * Two nodes, one fragment, 3 + 1 accesses in the first step.  By hand: the
 * nodes' prior is (3 + 1)/(4 + 2) = 2/3, the fragment's share of node 0
 * (3 + 4 x 2/3)/(4 + 4) = 17/24.
 */
static void
static_model_by_hand(void **state)
{
	FaPredictor *p = unit_create(2, 1, 2, (int[]) {1, 3}, 0);
	FaCell		first[] = {{0, 0, 3}, {1, 0, 1}};
	FaCell		second[] = {{0, 0, 2}, {1, 0, 5}};
	double		p0 = (1 - FLOOR) * 17 / 24 + FLOOR * 2 / 3;
	double		p1 = 1 - p0;
	FaScore		s = {0};

	(void) state;
	assert_true(fa_predictor_observe(p, 0, first, 2, NULL));
	fa_predictor_take_score(p, 0, FA_MODEL_STATIC, &s);
	assert_true(s.n == 0);		/* nothing was forecast for step 0 */

	assert_true(fa_predictor_observe(p, 1, second, 2, NULL));
	fa_predictor_take_score(p, 0, FA_MODEL_STATIC, &s);
	assert_true(s.n == 7);
	assert_true(near(s.log_loss, -2 * log(p0) - 5 * log(p1), 1e-6));
	assert_true(near(s.brier, 2 * (p1 * p1 + p1 * p1) +
					 5 * (p0 * p0 + p0 * p0), 1e-6));
	assert_true(s.top1 == 2);	/* node 0 was expected */
	assert_true(s.bin_n[7] == 7 && s.bin_n[2] == 7);
	assert_true(near(s.bin_p[7], 7 * p0, 1e-6));
	assert_true(s.bin_hit[7] == 2 && s.bin_hit[2] == 5);
	assert_true(s.rate_n == 2);

	/* rates: (3 + 8/3)/2 and (1 + 4/3)/2 were expected, 2 and 5 came */
	assert_true(near(s.rate_msle, pow(log(3.0) - log1p(17.0 / 6), 2) +
					 pow(log(6.0) - log1p(7.0 / 6), 2), 1e-6));

	/* taken is gone; the second horizon is not due yet */
	memset(&s, 0, sizeof(s));
	fa_predictor_take_score(p, 0, FA_MODEL_STATIC, &s);
	fa_predictor_take_score(p, 1, FA_MODEL_STATIC, &s);
	assert_true(s.n == 0);

	/* due at step 3, with what step 0 knew; step 2 in between is not seen */
	assert_true(fa_predictor_observe(p, 3, second, 2, NULL));
	fa_predictor_take_score(p, 1, FA_MODEL_STATIC, &s);
	assert_true(s.n == 7);
	assert_true(near(s.log_loss, -2 * log(p0) - 5 * log(p1), 1e-6));
	memset(&s, 0, sizeof(s));
	fa_predictor_take_score(p, 0, FA_MODEL_STATIC, &s);
	assert_true(s.n == 0);		/* its target was step 2 */
	fa_predictor_destroy(p);
}

typedef struct Kept
{
	double		p[8][4];
} Kept;

/* The mixture's score is that of what fa_predictor_forecast() said. */
static void
mixture_as_published(void **state)
{
	enum
	{
		N = 3, F = 4, H = 5, STEPS = 160
	};
	FaPredictor *p = unit_create(N, F, 2, (int[]) {1, H}, 40);
	Kept	   *kept = calloc(STEPS + H + 1, sizeof(Kept));
	uint64_t	rng = 4;
	double		loss = 0;
	double		brier = 0;
	double		top = 0;
	double		n = 0;
	FaScore		s = {0};

	(void) state;
	for (int64_t t = 0; t < STEPS; t++)
	{
		FaCell		c[N * F];
		int			nc = 0;

		for (int f = 0; f < F; f++)
		{
			double		y[N];
			int			best = 0;

			for (int i = 0; i < N; i++)
			{
				y[i] = unit_poisson(&rng, 1 + cos((double) (t + 4 * i + f) * 0.5236));
				c[nc++] = (FaCell) {i, f, y[i]};
				if (kept[t].p[f][i] > kept[t].p[f][best])
					best = i;
			}
			for (int i = 0; i < N && t >= H; i++)
			{
				double		rest = 0;

				for (int o = 0; o < N; o++)
					rest += pow(kept[t].p[f][o] - (o == i), 2);
				loss -= y[i] * log(kept[t].p[f][i]);
				brier += y[i] * rest;
				top += i == best ? y[i] : 0;
				n += y[i];
			}
		}
		assert_true(fa_predictor_observe(p, t, c, nc, NULL));
		for (int f = 0; f < F; f++)
		{
			FaForecast	fc = unit_forecast(p, N, f, 1);

			memcpy(kept[t + H].p[f], fc.affinity, sizeof(double) * N);
			unit_free_forecast(&fc);
		}
	}
	fa_predictor_take_score(p, 1, FA_MODEL_MIXTURE, &s);
	assert_true(s.n == n);
	assert_true(near(s.log_loss, loss, 1e-5));
	assert_true(near(s.brier, brier, 1e-5));
	assert_true(near(s.top1, top, 1e-2));	/* ties in float */
	free(kept);
	fa_predictor_destroy(p);
}

/* A fragment's first accesses are scored against the prior. */
static void
first_access_is_scored(void **state)
{
	FaPredictor *p = unit_create(2, 2, 1, (int[]) {1}, 0);
	FaCell		first[] = {{0, 0, 8}, {1, 0, 2}};
	FaCell		second = {1, 1, 3};
	FaForecast	fc;
	FaScore		s = {0};

	(void) state;
	assert_true(fa_predictor_observe(p, 0, first, 2, NULL));
	fc = unit_forecast(p, 2, 1, 0);
	assert_true(fa_predictor_observe(p, 1, &second, 1, NULL));
	fa_predictor_take_score(p, 0, FA_MODEL_MIXTURE, &s);
	assert_true(s.n == 3);
	assert_true(near(s.log_loss, -3 * log(fc.affinity[1]), 1e-6));
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

/* Accesses of nodes that are not known are neither scored nor learned. */
static void
only_known_nodes_are_scored(void **state)
{
	FaPredictor *p = unit_create(3, 1, 1, (int[]) {1}, 0);
	FaCell		c[] = {{0, 0, 2}, {1, 0, 2}, {2, 0, 4}};
	bool		known[] = {true, true, false};
	FaForecast	fc;
	FaScore		s = {0};

	(void) state;
	assert_true(fa_predictor_observe(p, 0, c, 3, NULL));
	fc = unit_forecast(p, 3, 0, 0);
	assert_true(fa_predictor_observe(p, 1, c, 3, known));
	fa_predictor_take_score(p, 0, FA_MODEL_MIXTURE, &s);
	assert_true(s.n == 4);
	assert_true(near(s.log_loss, -4 * log(fc.affinity[0] / (fc.affinity[0] +
														   fc.affinity[1])),
					 1e-3));
	assert_true(s.rate_n == 2);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

static void
sums_of_bins(void **state)
{
	FaPredictor *p = unit_create(3, 3, 1, (int[]) {1}, 0);
	uint64_t	rng = 8;

	(void) state;
	for (int64_t t = 0; t < 60; t++)
	{
		FaCell		c[9];

		for (int i = 0; i < 9; i++)
			c[i] = (FaCell) {i % 3, i / 3, unit_poisson(&rng, i % 3)};
		assert_true(fa_predictor_observe(p, t, c, 9, NULL));
	}
	for (int m = 0; m < FA_NMODELS; m++)
	{
		FaScore		s = {0};
		double		n = 0,
					sum = 0,
					hit = 0;

		fa_predictor_take_score(p, 0, m, &s);
		for (int b = 0; b < FA_PREDICT_CALIBRATION_BINS; b++)
		{
			n += s.bin_n[b];
			sum += s.bin_p[b];
			hit += s.bin_hit[b];
		}
		assert_true(near(n, 3 * s.n, 1e-9));
		assert_true(near(sum, s.n, 1e-6));
		assert_true(near(hit, s.n, 1e-9));
	}
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(static_model_by_hand),
		cmocka_unit_test(mixture_as_published),
		cmocka_unit_test(first_access_is_scored),
		cmocka_unit_test(only_known_nodes_are_scored),
		cmocka_unit_test(sums_of_bins),
	};

	return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
