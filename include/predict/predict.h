/*
 * predict.h
 *	  Who will touch which fragment next: the predictor's public face.
 *
 * Plain C on plain structs, no server header, no I/O, no global state: the
 * server, the simulator and the unit tests drive the same code.  Time is
 * counted in steps (int64, one history interval each); a step that was not
 * observed for a node (node down) is unknown, which is not zero.
 *
 * Nodes and fragments are dense indexes [0, nnodes) and [0, nfragments) that
 * the caller maps to its own ids; both may grow with fa_predictor_resize().
 *
 * Memory comes from the allocator given at creation.  An allocator either
 * returns memory or does not return (longjmp); the predictor then remains
 * destroyable.
 */
#ifndef FA_PREDICT_PREDICT_H
#define FA_PREDICT_PREDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FA_PREDICT_MAX_HORIZONS 4
#define FA_PREDICT_MAX_PROFILE 32
#define FA_PREDICT_CALIBRATION_BINS 10
#define FA_PREDICT_TRAINING 16	/* see fa_predictor_train() */
#define FA_PREDICT_LOAD_LEARNS 480	/* see fa_predictor_load() */

/* One entry a model; the mixture comes last.  New models go before it. */
typedef enum FaModel
{
	FA_MODEL_STATIC,			/* long-run shares, the floor to beat */
	FA_MODEL_RECENT,			/* level and trend of the recent past */
	FA_MODEL_SEASONAL,			/* slot means over the seasons found */
	FA_MODEL_HOLT,				/* Holt-Winters */
	FA_MODEL_POOLED,			/* regression over all cells */
	FA_MODEL_SESSION,			/* what open sessions will do next */
	FA_MODEL_PROFILE,			/* what roles use, and where they work now */
	FA_MODEL_LSTM,				/* network over what the others say */
	FA_MODEL_MIXTURE,			/* what is published */
	FA_NMODELS
} FaModel;

typedef struct FaAllocator
{
	void	   *(*alloc) (void *arg, size_t size);	/* zeroed */
	void		(*release) (void *arg, void *ptr);
	void	   *arg;
} FaAllocator;

typedef struct FaPredictorConfig
{
	int			nhorizons;		/* 1 .. FA_PREDICT_MAX_HORIZONS */
	int			horizons[FA_PREDICT_MAX_HORIZONS];	/* in steps, ascending */
	int			max_season;		/* longest season looked for, in steps */
	double		forgetting;		/* 0: library's choice */
	uint64_t	seed;
	uint32_t	models;			/* bits 1 << FaModel to use; 0: all */
	size_t		kept_bytes;		/* for forecasts not yet scored; 0: 64 MB */
} FaPredictorConfig;

/* One non-zero cell of a step. */
typedef struct FaCell
{
	int32_t		node;
	int32_t		fragment;
	double		count;			/* accesses in the step */
} FaCell;

/* What a role with an application did at a node in one step. */
typedef struct FaProfileUse
{
	uint64_t	profile;		/* any number but 0 */
	int32_t		node;
	int32_t		fragment;
	double		accesses;
	double		arrivals;		/* sessions that began with the fragment */
} FaProfileUse;

/* Forecast of one fragment at one horizon.  Arrays have nnodes entries. */
typedef struct FaForecast
{
	double	   *affinity;		/* share of accesses by node; sums to 1 */
	double	   *access_probability; /* P(at least one access in the step) */
	double	   *expected_rate;	/* accesses per step, the mean */
	double	   *typical_rate;	/* exp(E ln(1 + accesses)) - 1; may be NULL */
	double		evidence;		/* effective number of accesses behind it */
	double		weight[FA_NMODELS]; /* of each model; mixture's entry is 0 */
} FaForecast;

/* Scores accumulated since the last take, per horizon and model. */
typedef struct FaScore
{
	double		n;				/* accesses scored (weights) */
	double		log_loss;		/* sums; divide by n */
	double		brier;
	double		top1;
	double		bin_n[FA_PREDICT_CALIBRATION_BINS];
	double		bin_p[FA_PREDICT_CALIBRATION_BINS];	/* sum of predicted */
	double		bin_hit[FA_PREDICT_CALIBRATION_BINS];	/* sum of observed */
	double		rate_n;			/* cells scored for the rate */
	double		rate_msle;		/* sum of squared log1p error */
} FaScore;

typedef struct FaPredictor FaPredictor;

extern const char *fa_model_name(FaModel model);

/* config is copied; nnodes, nfragments >= 1.  Returns a predictor with no
 * history: every affinity is uniform. */
extern FaPredictor *fa_predictor_create(const FaPredictorConfig *config,
										int nnodes, int nfragments,
										const FaAllocator *allocator);
extern void fa_predictor_destroy(FaPredictor *p);

/* Grows only; new nodes and fragments start from the averages. */
extern void fa_predictor_resize(FaPredictor *p, int nnodes, int nfragments);

/*
 * Feeds one step.  Steps must ascend; an earlier or repeated step is refused
 * (returns false, nothing changed).  Steps skipped in between are unknown.
 * known is NULL (all nodes known) or nnodes flags; cells of unknown nodes are
 * ignored, cells out of range or not finite or negative too.  Scores every
 * forecast whose target step this is, before learning from it.
 */
extern bool fa_predictor_observe(FaPredictor *p, int64_t step,
								 const FaCell *cells, int ncells,
								 const bool *known);

/*
 * Steps before this one are history that is loaded at once: nobody asks for a
 * forecast before it is observed.  Of the last FA_PREDICT_LOAD_LEARNS of them
 * forecasts are made, scored and learned from as ever, but for some fragments
 * only, chosen by chance; those before are counted, and no more, as weights
 * remember little of them.
 */
extern void fa_predictor_load(FaPredictor *p, int64_t until);

/*
 * What else is known when a step is over, told before that step is observed;
 * may be called several times.  expect: what the sessions open at the end of
 * the step will access in the step after (sessions.h).  use: what roles did in
 * the step.  A step of which nothing is told has no word of these models.
 */
extern void fa_predictor_expect(FaPredictor *p, int64_t step,
								const FaCell *cells, int ncells);
extern void fa_predictor_use(FaPredictor *p, int64_t step,
							 const FaProfileUse *use, int n);

/*
 * Forecast for step (last observed + horizons[h]) of one fragment.  out's
 * arrays are the caller's, nnodes each.
 */
extern void fa_predictor_forecast(FaPredictor *p, int fragment, int h,
								  FaForecast *out);

/*
 * Accesses expected of one fragment in each of the steps (last observed +
 * ahead[i]), ascending, n <= FA_PREDICT_MAX_PROFILE: a plan over time needs
 * more steps than the horizons.  A step is weighed as the nearest horizon is.
 * rate_p: n x nnodes.  Returns the evidence.  Cheapest when all fragments are
 * asked for the same steps.
 */
extern double fa_predictor_profile(FaPredictor *p, int fragment,
								   const int *ahead, int n, double *rate_p);

/*
 * The same for the nodes that have used the fragment, which are written to
 * node_p, alone: rate_p is n x their number, which is returned; both arrays
 * must have room for all nodes that may have used it.  Its time does not
 * depend on the number of nodes.  What the others are expected to make is left
 * out; it is little.
 */
extern int	fa_predictor_profile_seen(FaPredictor *p, int fragment,
									  const int *ahead, int n, int *node_p,
									  double *rate_p, double *evidence_p);

/*
 * Fragments that the network learns from in each step and horizon: bounds the
 * time of a step.  0 .. FA_PREDICT_TRAINING, which is where it begins.
 */
extern void fa_predictor_train(FaPredictor *p, int fragments);

/*
 * The network forgets everything, the models beside it nothing.  For weights
 * that went astray.
 */
extern void fa_predictor_reset_network(FaPredictor *p);

/* Adds what has been scored since the last call into *out and resets it. */
extern void fa_predictor_take_score(FaPredictor *p, int h, FaModel model,
									FaScore *out);

/* Seasons in use, longest first; returns how many were written (<= max). */
extern int	fa_predictor_seasons(const FaPredictor *p, int *seasons, int max);

/* Bytes held. */
extern size_t fa_predictor_memory(const FaPredictor *p);

/*
 * State as a portable, versioned byte string (magic, version, big-endian).
 * save: returns the size needed and writes when size suffices.
 * restore: NULL when the bytes are not a valid state of this version.
 */
extern size_t fa_predictor_save(const FaPredictor *p, void *buf, size_t size);
extern FaPredictor *fa_predictor_restore(const void *buf, size_t size,
										 const FaAllocator *allocator);

#endif							/* FA_PREDICT_PREDICT_H */
