/*
 * test_load.c
 *	  History that is loaded at once.
 */
#include "unit.h"

#include "predict/pool.h"

#define NODES		4
#define FEW			12			/* fragments */
#define MANY		1000

typedef struct Demand
{
	int			fragments;
	int			one_in;			/* so many fragments are touched in a step */
} Demand;

/* Follows a day of 24 steps, at each node at another hour. */
static int
daily(int64_t step, FaCell *cells, void *arg)
{
	const Demand *d = arg;
	uint64_t	rng = (uint64_t) step * 31 + 5;
	int			n = 0;

	for (int f = 0; f < d->fragments; f++)
	{
		if ((f + step) % d->one_in != 0)
			continue;
		for (int i = 0; i < NODES; i++)
		{
			double		swing = 1 + cos((step % 24 - 6 * i - f) * 0.2618);
			int			y = unit_poisson(&rng, swing * (1 + f % 3) * 0.8);

			if (y > 0)
				cells[n++] = (FaCell) {i, f, y};
		}
	}
	return n;
}

static FaPredictor *
make(Demand *d, int64_t steps, bool load)
{
	FaPredictor *p = unit_create(NODES, d->fragments, 2, (int[]) {1, 24}, 60);

	if (load)
		fa_predictor_load(p, steps - 1);
	unit_feed(p, 0, steps, daily, d);
	return p;
}

static void
drop_scores(FaPredictor *p)
{
	for (int h = 0; h < 2; h++)
	{
		for (int m = 0; m < FA_NMODELS; m++)
		{
			FaScore		s = {0};

			fa_predictor_take_score(p, h, m, &s);
		}
	}
}

/* All of what is remembered of few fragments is learned as ever. */
static void
short_history_is_lived(void **state)
{
	Demand		d = {FEW, 1};
	FaPredictor *lived = make(&d, FA_PREDICT_LOAD_LEARNS, false);
	FaPredictor *loaded = make(&d, FA_PREDICT_LOAD_LEARNS, true);
	size_t		size = fa_predictor_save(lived, NULL, 0);
	void	   *a = malloc(size);
	void	   *b = malloc(size);

	(void) state;
	assert_int_equal(fa_predictor_save(loaded, NULL, 0), size);
	fa_predictor_save(lived, a, size);
	fa_predictor_save(loaded, b, size);
	assert_memory_equal(a, b, size);
	free(a);
	free(b);
	fa_predictor_destroy(lived);
	fa_predictor_destroy(loaded);
}

/* Counts are complete, and forecasts about as good, after a longer one. */
static void
long_history_is_counted(void **state)
{
	Demand		d = {FEW, 1};
	int64_t		steps = 3 * FA_PREDICT_LOAD_LEARNS;
	FaPredictor *p[2] = {make(&d, steps, false), make(&d, steps, true)};
	int			season = 0;

	(void) state;
	assert_int_equal(fa_predictor_seasons(p[1], &season, 1), 1);
	assert_int_equal(season, 24);
	for (int f = 0; f < FEW; f++)
	{
		FaForecast	x = unit_forecast(p[0], NODES, f, 0);
		FaForecast	y = unit_forecast(p[1], NODES, f, 0);

		assert_true(x.evidence == y.evidence);
		unit_check_forecast(&y, NODES);
		unit_free_forecast(&x);
		unit_free_forecast(&y);
	}
	for (int i = 0; i < 2; i++)
	{
		drop_scores(p[i]);
		unit_feed(p[i], steps, steps + 240, daily, &d);
	}
	for (int h = 0; h < 2; h++)
		assert_true(fabs(unit_log_loss(p[0], h, FA_MODEL_MIXTURE) -
						 unit_log_loss(p[1], h, FA_MODEL_MIXTURE)) < 0.003);
	fa_predictor_destroy(p[0]);
	fa_predictor_destroy(p[1]);
}

/* Accesses that were scored at horizon h since the last look. */
static double
scored(FaPredictor *p, int h)
{
	FaScore		s = {0};

	fa_predictor_take_score(p, h, FA_MODEL_MIXTURE, &s);
	return s.n;
}

/* Of many fragments some are scored meanwhile, and all afterwards. */
static void
load_scores_some(void **state)
{
	Demand		d = {MANY, 2};
	static FaCell cells[MANY * NODES];
	FaPredictor *p = unit_create(NODES, MANY, 2, (int[]) {1, 24}, 60);
	double		came = 0;

	(void) state;
	fa_predictor_load(p, 50);
	for (int64_t t = 0; t < 80; t++)
	{
		int			n = daily(t, cells, &d);
		double		all = 0;
		double		near;
		double		far;

		for (int i = 0; i < n; i++)
			all += cells[i].count;
		assert_true(fa_predictor_observe(p, t, cells, n, NULL));
		near = scored(p, 0) / all;
		far = scored(p, 1) / all;
		/* forecasts for steps that are lived are kept whole before */
		if (t >= 50)
		{
			assert_true(fabs(near - 1) < 1e-6);
			assert_true(fabs(far - 1) < 1e-6);
			continue;
		}
		/* from when on all fragments have had an access */
		if (t > 2)
			came += near;
		if (t > 25)
			assert_true(far < 0.5);
	}
	assert_true(came / 47 > 0.2 && came / 47 < 0.32);	/* 256 of 1000 */
	fa_predictor_destroy(p);
}

/* All heads at once say what each says. */
static void
heads_at_once(void **state)
{
	FaPredictor *p = unit_create(NODES, FEW, 1, (int[]) {1}, 60);
	FaFrame    *frame = &p->frame;
	FaRateWeights weights;
	FaRateTable table;
	uint64_t	rng = 3;

	(void) state;
	for (int i = 0; i < 200; i++)
	{
		double		rate[FA_MAX_RATES];
		double		foretold[FA_RATE_LANES];

		for (int k = 0; k < frame->nrate; k++)
		{
			rate[k] = 3 * unit_uniform(&rng);
			for (int head = 0; head < FA_HEADS; head++)
				weights.w[head][k] = (i % 5) * (unit_uniform(&rng) - 0.4);
		}
		fa_predict_rates_table(frame, &weights, &table);
		fa_predict_rates_heads(frame, &table, rate, foretold);
		for (int head = 0; head < FA_HEADS; head++)
		{
			double		typical = fa_predict_rates_typical(frame, weights.w[head],
														   rate);

			assert_true(fabs(log1p(typical) - foretold[head]) < 1e-12);
		}
	}
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_history_is_lived),
		cmocka_unit_test(long_history_is_counted),
		cmocka_unit_test(load_scores_some),
		cmocka_unit_test(heads_at_once),
	};

	return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
