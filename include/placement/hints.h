/*
 * hints.h
 *	  Hints of the catalog, as the predictor numbers nodes and fragments.
 */
#ifndef FA_PLACEMENT_HINTS_H
#define FA_PLACEMENT_HINTS_H

#include "placement/forecast.h"
#include "predict/hints.h"

/*
 * In a transaction; palloc'd; NULL when there are none.  New nodes and
 * fragments are not made: hints about what was never touched wait.
 */
extern FaHints *fa_hints_load(FaForecaster *f);

/* Mixes the hints into a fragment's forecast at horizon h. */
extern void fa_hints_forecast(FaForecaster *f, const FaHints *hints,
							  int fragment, int h, FaForecast *forecast);

/*
 * And into its rates over the coming steps, as fa_predictor_profile() gives
 * them: rate is nahead x nnodes.
 */
extern void fa_hints_profile(FaForecaster *f, const FaHints *hints,
							 int fragment, const int *ahead, int nahead,
							 double *rate);

#endif							/* FA_PLACEMENT_HINTS_H */
