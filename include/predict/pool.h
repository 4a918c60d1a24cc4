/*
 * pool.h
 *	  What turns the models' signals into forecasts, learned online.
 *
 * A pool exists per horizon.  It has a head for each model (the model's own
 * signals over the static base) and one for the mixture (all signals).
 */
#ifndef FA_PREDICT_POOL_H
#define FA_PREDICT_POOL_H

#include "predict/frame.h"

typedef struct FaPoolWeights
{
	double		w[FA_HEADS][FA_MAX_SIGNALS];	/* site signals, then local */
} FaPoolWeights;

/*
 * What a step adds: gradient of the log likelihood, information, accesses.  By
 * the signals that the head learns, one after the other.
 */
typedef struct FaPoolSums
{
	double		gradient[FA_MAX_SIGNALS];
	double		fisher[FA_MAX_SIGNALS][FA_MAX_SIGNALS];
	double		n;
} FaPoolSums;

struct FaPool
{
	FaPoolWeights now;
	bool		on[FA_HEADS][FA_MAX_SIGNALS];
	double		precision[FA_HEADS][FA_MAX_SIGNALS][FA_MAX_SIGNALS];
	FaPoolSums	sums[FA_HEADS]; /* of the step being learned */
};

typedef struct FaRateWeights
{
	double		w[FA_HEADS][FA_MAX_RATES];
} FaRateWeights;

#define FA_RATE_BINS	24
#define FA_RATE_LANES	((FA_HEADS + 3) / 4 * 4)

/* Weights by signal, for all heads at once. */
typedef struct FaRateTable
{
	double		w[FA_MAX_RATES][FA_RATE_LANES];
} FaRateTable;

struct FaRates
{
	FaRateWeights now;
	FaRateWeights start;
	bool		fresh;			/* something to learn from since the last step */
	bool		on[FA_HEADS][FA_MAX_RATES];
	double		moment[FA_MAX_RATES][FA_MAX_RATES];
	double		target[FA_MAX_RATES];
	/* by typical rate: cells, typical rates, accesses, cells with any */
	double		bin[FA_RATE_BINS][4];
};

/* in pool.c */
extern FaPool *fa_predict_pool_create(FaFrame *frame);
extern void fa_predict_pool_site(const FaFrame *frame, const double *w,
								 const double *site, double *factor_p);
extern void fa_predict_pool_local(const FaFrame *frame, const double *w,
								  const double *local, int ncells,
								  double *factor_p);
extern void fa_predict_pool_spread(const FaFrame *frame,
								   const double *site_factor,
								   const double *local_factor,
								   const int32_t *node, int ncells,
								   const bool *known, const double *prior,
								   double *p_p);
extern double fa_predict_pool_shrink(double accesses);
extern double fa_predict_pool_total(const FaFrame *frame,
									const double *site_factor,
									double *top_p);
extern double fa_predict_pool_mix_seen(FaFrame *frame, const FaView *view,
									   const double *site_factor, double top,
									   double sum, double *p_p);
extern double fa_predict_pool_mix(FaFrame *frame, const FaView *view,
								  const double *site_factor, double *p_p);
extern void fa_predict_pool_learn(FaFrame *frame, FaPool *pool, int head,
								  const double *site, const double *local,
								  const int32_t *node, int ncells,
								  const double *p, const double *y,
								  double total);
extern void fa_predict_pool_step(FaFrame *frame, FaPool *pool);
extern void fa_predict_pool_archive(FaFrame *frame, FaPool *pool,
									FaArchive *ar);

/* in profile.c */
extern void fa_predict_profile_prepare(FaFrame *frame, const int *ahead,
									   int n);
extern double fa_predict_profile_sum(FaFrame *frame, const FaView *view,
									 int h);

/* in rates.c */
extern FaRates *fa_predict_rates_create(FaFrame *frame);
extern double fa_predict_rates_typical(const FaFrame *frame, const double *w,
									   const double *rate);
extern void fa_predict_rates_table(const FaFrame *frame,
								   const FaRateWeights *weights,
								   FaRateTable *table_p);
extern void fa_predict_rates_heads(const FaFrame *frame,
								   const FaRateTable *table,
								   const double *rate, double *log_p);
extern void fa_predict_rates_expand(const FaRates *rates, double typical,
									double *mean_p, double *any_p);
extern void fa_predict_rates_learn(FaFrame *frame, FaRates *rates,
								   const double *rate, double y,
								   double typical);
extern void fa_predict_rates_step(FaFrame *frame, FaRates *rates);
extern void fa_predict_rates_archive(FaFrame *frame, FaRates *rates,
									 FaArchive *ar);

/* in linear.c */
extern bool fa_predict_solve(const double *a, size_t stride, const bool *on,
							 int n, const double *b, double *x_p);

#endif							/* FA_PREDICT_POOL_H */
