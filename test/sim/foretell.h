/*
 * foretell.h
 *	  Forecasts for a trace: the predictor's, and simple ones beside it.
 */
#ifndef FA_SIM_FORETELL_H
#define FA_SIM_FORETELL_H

#include "policy.h"

/* The predictor's, made once for every step of [from - 1, nsteps). */
typedef struct Foretold
{
	const Trace *trace;
	int			from;
	float	   *rate;			/* [step - from + 1][fragment][ahead][node] */
	float	   *evidence;		/* [step - from + 1][fragment] */
	size_t		memory;			/* of the predictor at the end */
	double		seconds;
} Foretold;

extern void sim_foretell(Foretold *told, const Trace *trace, int from,
						 const int *horizons, int nhorizons, int max_season);
extern double sim_foretold(void *arg, int step, int fragment, int reach,
						   double *rate_p);

/*
 * Mean per slot of a season, exponentially weighted.  season 1: of the recent
 * past, the same for all steps to come.
 */
typedef struct Slots
{
	const Trace *trace;
	int			season;			/* steps */
	double		alpha;
	int			seen;			/* steps */
	float	   *mean;			/* [slot][fragment][node] */
	double	   *evidence;		/* by fragment */
} Slots;

extern void sim_slots_begin(Slots *slots, const Trace *trace, int season,
							double alpha);
extern void sim_slots_end(Slots *slots);
extern double sim_slots(void *arg, int step, int fragment, int reach,
						double *rate_p);

#endif							/* FA_SIM_FORETELL_H */
