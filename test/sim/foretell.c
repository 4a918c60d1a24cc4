/*
 * foretell.c
 *	  Forecasts for a trace: the predictor's, and simple ones beside it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "foretell.h"

double
sim_foretold(void *arg, int step, int fragment, int reach, double *rate_p)
{
	const Foretold *told = arg;
	int			nn = told->trace->nnodes;
	size_t		at = (size_t) (step - told->from + 1) *
		told->trace->nfragments + fragment;
	int			i;

	for (i = 0; i < reach * nn; i++)
		rate_p[i] = told->rate[at * SIM_MAX_AHEAD * nn + i];
	return told->evidence[at];
}

static void
foretell_step(Foretold *told, FaPredictor *predictor, int step, double *rate)
{
	const Trace *trace = told->trace;
	int			ahead[SIM_MAX_AHEAD];
	int			f,
				i;

	for (i = 0; i < SIM_MAX_AHEAD; i++)
		ahead[i] = i + 1;
	for (f = 0; f < trace->nfragments; f++)
	{
		size_t		at = (size_t) (step - told->from + 1) *
			trace->nfragments + f;

		told->evidence[at] = fa_predictor_profile(predictor, f, ahead,
												  SIM_MAX_AHEAD, rate);
		for (i = 0; i < SIM_MAX_AHEAD * trace->nnodes; i++)
			told->rate[at * SIM_MAX_AHEAD * trace->nnodes + i] = rate[i];
	}
}

void
sim_foretell(Foretold *told, const Trace *trace, int from,
			 const int *horizons, int nhorizons, int max_season)
{
	size_t		rows = (size_t) (trace->nsteps - from + 1) * trace->nfragments;
	FaPredictorConfig config = {.nhorizons = nhorizons,
	.max_season = max_season};
	FaPredictor *predictor;
	FaCell	   *cells = sim_alloc((size_t) trace->nfragments * trace->nnodes,
								  sizeof(FaCell));
	double	   *rate = sim_alloc((size_t) SIM_MAX_AHEAD * trace->nnodes,
								 sizeof(double));
	clock_t		began = clock();
	int			s,
				f,
				n;

	memcpy(config.horizons, horizons, sizeof(int) * nhorizons);
	told->trace = trace;
	told->from = from;
	told->rate = sim_alloc(rows * SIM_MAX_AHEAD * trace->nnodes, sizeof(float));
	told->evidence = sim_alloc(rows, sizeof(float));
	predictor = fa_predictor_create(&config, trace->nnodes,
									trace->nfragments, &sim_heap);
	for (s = 0; s < trace->nsteps; s++)
	{
		int			ncells = 0;

		for (f = 0; f < trace->nfragments; f++)
			for (n = 0; n < trace->nnodes; n++)
				if (sim_cell(trace, s, f)[n] > 0)
					cells[ncells++] = (FaCell) {n, f, sim_cell(trace, s, f)[n]};
		fa_predictor_observe(predictor, s, cells, ncells, NULL);
		if (s >= from - 1)
			foretell_step(told, predictor, s, rate);
	}
	told->memory = fa_predictor_memory(predictor);
	told->seconds = (double) (clock() - began) / CLOCKS_PER_SEC;
	fa_predictor_destroy(predictor);
	free(cells);
	free(rate);
}

void
sim_slots_begin(Slots *slots, const Trace *trace, int season, double alpha)
{
	slots->trace = trace;
	slots->season = season;
	slots->alpha = alpha;
	slots->seen = 0;
	slots->mean = sim_alloc((size_t) season * trace->nfragments *
							trace->nnodes, sizeof(float));
	slots->evidence = sim_alloc(trace->nfragments, sizeof(double));
}

void
sim_slots_end(Slots *slots)
{
	free(slots->mean);
	free(slots->evidence);
}

static float *
slot_of(const Slots *slots, int step, int fragment)
{
	return slots->mean + (((size_t) step % slots->season) *
						  slots->trace->nfragments + fragment) *
		slots->trace->nnodes;
}

static void
slots_observe(Slots *slots, int step)
{
	const Trace *trace = slots->trace;
	double		a = fmax(slots->alpha, 1.0 / (step / slots->season + 1));
	int			f,
				n;

	for (f = 0; f < trace->nfragments; f++)
		for (n = 0; n < trace->nnodes; n++)
		{
			float	   *m = &slot_of(slots, step, f)[n];
			double		y = sim_cell(trace, step, f)[n];

			*m += a * (y - *m);
			slots->evidence[f] += y;
		}
}

double
sim_slots(void *arg, int step, int fragment, int reach, double *rate_p)
{
	Slots	   *slots = arg;
	int			nn = slots->trace->nnodes;
	int			k,
				n;

	for (; slots->seen <= step; slots->seen++)
		slots_observe(slots, slots->seen);
	for (k = 0; k < reach; k++)
		for (n = 0; n < nn; n++)
			rate_p[k * nn + n] = slot_of(slots, step + k + 1, fragment)[n];
	return slots->evidence[fragment];
}
