/*
 * unit.h
 *	  What the predictor's unit tests share.
 */
#ifndef FA_UNIT_H
#define FA_UNIT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "predict/predict.h"

#define MAX_CELLS	65536

/* Makes the cells of one step; returns how many. */
typedef int (*Source) (int64_t step, FaCell *cells, void *arg);

/* in unit.c */
extern const FaAllocator unit_allocator;
extern FaPredictor *unit_create(int nnodes, int nfragments, int nhorizons,
								const int *horizons, int max_season);
extern void unit_feed(FaPredictor *p, int64_t from, int64_t to, Source source,
					  void *arg);
extern double unit_uniform(uint64_t *state);
extern int	unit_poisson(uint64_t *state, double mean);
extern FaForecast unit_forecast(FaPredictor *p, int nnodes, int fragment,
								int h);
extern void unit_free_forecast(FaForecast *fc);
extern void unit_check_forecast(const FaForecast *fc, int nnodes);
extern double unit_log_loss(FaPredictor *p, int h, FaModel model);

#endif							/* FA_UNIT_H */
