/*
 * bench.c
 *	  Time of a step (observe, and forecast everything at three horizons) and
 *	  memory, over synthetic load.  Seconds are of CPU, on one core.
 *
 *	  bench FRAGMENTS NODES CELLS RATE [STEPS [full]]
 *
 * Each fragment is touched by CELLS nodes, a cell has RATE accesses a step on
 * average, more by day than by night (a day of 48 steps).  All models have
 * something to read: what open sessions are expected to do is each cell of the
 * step once more, and the accesses are of ROLES roles.
 *
 * First STEPS (1440: a day of minutes) are loaded as at a start; with full they
 * are taken one by one, as if each had been waited for.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "predict/predict.h"

#define MINUTES		1440
#define WEEK		10080		/* longest season that the server looks for */
#define STEPS		20
#define DAY			48
#define ROLES			100

static void *
zalloc(void *arg, size_t size)
{
	void	   *p = calloc(1, size);

	(void) arg;
	if (p == NULL)
		abort();
	return p;
}

static void
zfree(void *arg, void *ptr)
{
	(void) arg;
	free(ptr);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static double
uniform(uint64_t *state)
{
	uint64_t	x = *state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return (double) ((x ^ x >> 31) >> 11) / 9007199254740992.0;
}

static int
make_cells(int64_t step, int nfragments, int nnodes, int cells, double rate,
		   uint64_t *rng, FaCell *out)
{
	int			n = 0;

	for (int f = 0; f < nfragments; f++)
	{
		for (int c = 0; c < cells; c++)
		{
			int			node = (f * 7 + c) % nnodes;
			double		mean = rate * (1 + 0.8 * cos(6.2831853 *
													 (double) (step % DAY) / DAY + node));
			double		u = uniform(rng);

			/* a cell is touched or not; then a few times */
			if (u < -expm1(-mean))
				out[n++] = (FaCell) {node, f, 1 + floor(3 * uniform(rng))};
		}
	}
	return n;
}

/* What is told beside the counts, before the step is observed. */
static void
tell(FaPredictor *p, int64_t step, const FaCell *cell, int n, FaProfileUse *use)
{
	for (int i = 0; i < n; i++)
		use[i] = (FaProfileUse) {1 + (uint64_t) cell[i].fragment % ROLES,
			cell[i].node, cell[i].fragment, cell[i].count, i % 2};
	fa_predictor_expect(p, step, cell, n);
	fa_predictor_use(p, step, use, n);
}

int
main(int argc, char **argv)
{
	static const FaAllocator allocator = {zalloc, zfree, NULL};
	FaPredictorConfig config = {.nhorizons = 3,.horizons = {1, 10, 60},
	.max_season = WEEK,.seed = 1};
	FaForecast	fc = {0};
	int			nf,
				nn,
				cells;
	int			steps;
	double		rate;
	double		observe = 0,
				worst = 0,
				load = 0,
				forecast = 0;
	uint64_t	rng = 1;
	FaPredictor *p;
	FaCell	   *cell;
	FaProfileUse *use;

	if (argc < 5 || argc > 7)
	{
		fputs("usage: bench FRAGMENTS NODES CELLS RATE [STEPS [full]]\n", stderr);
		return 1;
	}
	nf = atoi(argv[1]);
	nn = atoi(argv[2]);
	cells = atoi(argv[3]);
	rate = atof(argv[4]);
	steps = argc > 5 ? atoi(argv[5]) : MINUTES;
	cell = malloc(sizeof(FaCell) * nf * cells);
	use = malloc(sizeof(FaProfileUse) * nf * cells);
	fc.affinity = malloc(sizeof(double) * nn);
	fc.access_probability = malloc(sizeof(double) * nn);
	fc.expected_rate = malloc(sizeof(double) * nn);
	p = fa_predictor_create(&config, nn, nf, &allocator);
	if (argc < 7)
		fa_predictor_load(p, steps - 1);
	for (int64_t t = 0; t < steps + STEPS; t++)
	{
		int			n = make_cells(t, nf, nn, cells, rate, &rng, cell);
		double		t0 = now();
		double		t1;

		tell(p, t, cell, n, use);
		fa_predictor_observe(p, t, cell, n, NULL);
		t1 = now();
		if (t < steps)
			load += t1 - t0;
		if (t >= steps)
		{
			observe += t1 - t0;
			if (t1 - t0 > worst)
				worst = t1 - t0;
			for (int h = 0; h < config.nhorizons; h++)
				for (int f = 0; f < nf; f++)
					fa_predictor_forecast(p, f, h, &fc);
			forecast += now() - t1;
		}
		else if (t == steps - 1)
			printf("%d x %d, %d cells each, %.3g accesses: %d steps loaded in %.1f s\n",
				   nf, nn, cells, rate, steps, load);
	}
	{
		int			season[4];
		int			n = fa_predictor_seasons(p, season, 4);

		printf("  step: observe %.3f s (worst %.3f), 3 x %d forecasts %.3f s\n",
			   observe / STEPS, worst, nf, forecast / STEPS);
		printf("  memory %.1f MB, state %.1f MB, seasons",
			   (double) fa_predictor_memory(p) / 1e6,
			   (double) fa_predictor_save(p, NULL, 0) / 1e6);
		for (int i = 0; i < n; i++)
			printf(" %d", season[i]);
		printf("\n");
	}
	fa_predictor_destroy(p);
	free(cell);
	free(use);
	return 0;
}
