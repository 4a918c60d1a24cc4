/*
 * unit.c
 *	  What the predictor's unit tests share.
 */
#include "unit.h"

static void *
unit_alloc(void *arg, size_t size)
{
	void	   *p = calloc(1, size);

	(void) arg;
	if (p == NULL)
		abort();
	return p;
}

static void
unit_release(void *arg, void *ptr)
{
	(void) arg;
	free(ptr);
}

const FaAllocator unit_allocator = {unit_alloc, unit_release, NULL};

FaPredictor *
unit_create(int nnodes, int nfragments, int nhorizons, const int *horizons,
			int max_season)
{
	FaPredictorConfig config = {0};

	config.nhorizons = nhorizons;
	memcpy(config.horizons, horizons, sizeof(int) * nhorizons);
	config.max_season = max_season;
	config.seed = 7;
	return fa_predictor_create(&config, nnodes, nfragments, &unit_allocator);
}

/* Steps [from, to). */
void
unit_feed(FaPredictor *p, int64_t from, int64_t to, Source source, void *arg)
{
	static FaCell cells[MAX_CELLS];

	for (int64_t t = from; t < to; t++)
	{
		int			n = source(t, cells, arg);

		assert_true(n <= MAX_CELLS);
		assert_true(fa_predictor_observe(p, t, cells, n, NULL));
	}
}

double
unit_uniform(uint64_t *state)
{
	uint64_t	x = *state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return (double) ((x ^ x >> 31) >> 11) / 9007199254740992.0;
}

int
unit_poisson(uint64_t *state, double mean)
{
	double		limit = exp(-mean);
	double		p = unit_uniform(state);
	int			n = 0;

	while (p > limit)
	{
		p *= unit_uniform(state);
		n++;
	}
	return n;
}

FaForecast
unit_forecast(FaPredictor *p, int nnodes, int fragment, int h)
{
	FaForecast	fc = {0};

	fc.affinity = calloc(nnodes, sizeof(double));
	fc.access_probability = calloc(nnodes, sizeof(double));
	fc.expected_rate = calloc(nnodes, sizeof(double));
	fc.typical_rate = calloc(nnodes, sizeof(double));
	fa_predictor_forecast(p, fragment, h, &fc);
	return fc;
}

void
unit_free_forecast(FaForecast *fc)
{
	free(fc->affinity);
	free(fc->access_probability);
	free(fc->expected_rate);
	free(fc->typical_rate);
}

/* What must hold of every forecast, whatever was fed. */
void
unit_check_forecast(const FaForecast *fc, int nnodes)
{
	double		sum = 0;
	double		weights = 0;

	for (int n = 0; n < nnodes; n++)
	{
		assert_true(isfinite(fc->affinity[n]));
		assert_true(fc->affinity[n] >= 0 && fc->affinity[n] <= 1 + 1e-12);
		assert_true(isfinite(fc->expected_rate[n]) && fc->expected_rate[n] >= 0);
		assert_true(isfinite(fc->typical_rate[n]) && fc->typical_rate[n] >= 0);
		assert_true(fc->access_probability[n] >= 0 &&
					fc->access_probability[n] <= 1);
		sum += fc->affinity[n];
	}
	for (int m = 0; m < FA_NMODELS; m++)
	{
		assert_true(fc->weight[m] >= 0 && fc->weight[m] <= 1 + 1e-12);
		weights += fc->weight[m];
	}
	assert_true(fabs(sum - 1) < 1e-9);
	assert_true(fabs(weights - 1) < 1e-9);
	assert_true(isfinite(fc->evidence) && fc->evidence >= 0);
}

/* Per access since the last call. */
double
unit_log_loss(FaPredictor *p, int h, FaModel model)
{
	FaScore		s = {0};

	fa_predictor_take_score(p, h, model, &s);
	return s.n > 0 ? s.log_loss / s.n : NAN;
}
