/*
 * frame.h
 *	  Inside of the predictor: what models share and how they plug in.
 *
 * A model is a file and an entry in fa_predict_models[].  Once a step it
 * learns (observe); for a coming step it gives *signals*:
 *
 * - site signals: one number per node, the same for every fragment;
 * - fragment signals: one number per cell of the fragment (a node that has
 *	 touched it), and one for all nodes that have not (the "rest" row);
 * - rate signals: ln(1 + accesses expected) by the model, per cell.
 *
 * The first two are differences of logarithms of shares: the mixture is a
 * log-linear pool, p(node) ~ exp(sum of weight x signal), whose weights are
 * learned online (pool.c).  A cell that never had an access is thereby exact
 * and costs nothing: it differs from its neighbours by site signals only.
 */
#ifndef FA_PREDICT_FRAME_H
#define FA_PREDICT_FRAME_H

#include <math.h>

#include "predict/memory.h"
#include "predict/predict.h"

/* target steps in view at once: of the horizons, then of a profile */
#define FA_MAX_VIEWS		(FA_PREDICT_MAX_HORIZONS + FA_PREDICT_MAX_PROFILE)
#define FA_HEADS			FA_NMODELS	/* one per model, then the mixture */
#define FA_MAX_SITE			20	/* site signals of all models */
#define FA_MAX_LOCAL		24	/* fragment signals of all models */
#define FA_MAX_SIGNALS		(FA_MAX_SITE + FA_MAX_LOCAL)
#define FA_MAX_RATES		32	/* rate signals of all models, constant first */

typedef struct FaFrame FaFrame;
typedef struct FaPending FaPending;
typedef struct FaPool FaPool;
typedef struct FaRates FaRates;

/* A fragment that has been touched; cells in order of their first access. */
typedef struct FaFragment
{
	int32_t		ncells;
	int32_t		capacity;
	int32_t	   *node;			/* by position */
	double	   *y;				/* accesses in the current step, by position */
	double	   *state;			/* capacity x frame->cell_doubles */
	double		total;			/* sum of y */
	double		accesses;		/* ever */
	int64_t		born;			/* step of the first access */
} FaFragment;

/*
 * What the models say about one fragment at one target step.  The static
 * model comes first and fills base_*, which the others fall back on.
 */
typedef struct FaView
{
	int			h;				/* horizon index, or beyond: of a profile */
	int64_t		target;
	int			fragment;
	int			ncells;
	double	   *local;			/* (ncells + 1) x frame->nlocal; last: rest */
	double	   *rate;			/* ncells x frame->nrate */
	double	   *base;			/* long-run accesses per step, by cell */
	double		base_rest;		/* the same for node n unseen: base_rest *
								 * prior[n] */
	double		base_total;		/* over all nodes */
	double		prior_seen;		/* sum of prior over the cells */
	double	   *scratch;		/* 4 x (ncells + 1), for the model at work */
} FaView;

/* Reads or writes a byte string; see archive.c. */
typedef struct FaArchive
{
	bool		reading;
	bool		failed;			/* reading: the bytes are not a state */
	const uint8_t *in;
	uint8_t    *out;			/* NULL: only count */
	size_t		size;
	size_t		at;
} FaArchive;

typedef struct FaModelOps
{
	const char *name;
	int			cell_doubles;	/* of state per cell, kept by the frame */
	int			nsite;
	int			nlocal;
	int			nrate;
	const double *site_start;	/* weights before anything was learned */
	const double *local_start;
	const double *rate_start;

	void	   *(*create) (FaFrame *frame);
	void		(*resize) (FaFrame *frame, void *model,
						   int old_nnodes, int old_nfragments);
	void		(*skip) (FaFrame *frame, void *model, int64_t steps);
	/* before anything is learned of the step observed; may be NULL */
	void		(*judge) (FaFrame *frame, void *model);
	void		(*observe) (FaFrame *frame, void *model);
	/* site signals of all nodes, frame->nsite apart */
	void		(*site) (FaFrame *frame, void *model, int h, int64_t target,
						 double *signal);
	/* local and rate point at the model's own first column */
	void		(*fragment) (FaFrame *frame, void *model, FaView *view,
							 double *local, double *rate);
	/* after a step, when the others' signals are new; may be NULL */
	void		(*advance) (FaFrame *frame, void *model);
	void		(*archive) (FaFrame *frame, void *model, FaArchive *ar);
} FaModelOps;

struct FaFrame
{
	FaMemory	memory;

	FaPredictorConfig config;
	int			nnodes;
	int			nfragments;
	bool		started;		/* has seen a step */
	int64_t		first_step;
	int64_t		last_step;
	double		nsteps;			/* observed */

	FaFragment *fragment;		/* by fragment */
	int32_t    *active;			/* fragments with cells, in order of birth */
	int			nactive;
	int			active_capacity;

	/* the step being observed */
	int64_t		step;
	const bool *known;			/* by node; never NULL inside */
	bool	   *known_buf;
	double	   *site_y;			/* accesses by node */
	int64_t		load_until;		/* steps before it are loaded at once */
	bool		learning;		/* more is done in this step than to count */
	double		site_total;

	double	   *prior;			/* long-run share of each node, sums to 1 */

	/* columns of the models */
	int			cell_doubles;
	int			nsite;
	int			nlocal;
	int			nrate;
	int			cell_at[FA_NMODELS];
	int			site_at[FA_NMODELS];
	int			local_at[FA_NMODELS];
	int			rate_at[FA_NMODELS];
	void	   *model[FA_NMODELS];

	/* for the coming target of each horizon */
	double	   *site[FA_MAX_VIEWS];	/* nnodes x nsite */
	double	   *site_part[FA_PREDICT_MAX_HORIZONS]; /* FA_NMODELS x nnodes:
													 * what each model adds to
													 * the mixture's log odds,
													 * and the sum */
	FaPending  *pending[FA_PREDICT_MAX_HORIZONS];
	FaPool	   *pool[FA_PREDICT_MAX_HORIZONS];
	FaRates    *rates[FA_PREDICT_MAX_HORIZONS];
	FaScore		score[FA_PREDICT_MAX_HORIZONS][FA_NMODELS];

	/* the steps last asked of fa_predictor_profile() */
	double	   *profile_site;	/* their weighed site signals: n x nnodes */
	double		profile_top[FA_PREDICT_MAX_PROFILE];	/* largest of a step's */
	double		profile_sum[FA_PREDICT_MAX_PROFILE];	/* of exp(it - top) */
	int			profile_h[FA_PREDICT_MAX_PROFILE];	/* whose weights a step has */
	int			profile_ahead[FA_PREDICT_MAX_PROFILE];
	int			profile_n;
	int			profile_nnodes; /* for so many nodes */
	int64_t		profile_step;	/* and seen from this step */

	/* scratch, sized for a fragment that every node has touched */
	double	   *view_local;
	double	   *view_rate;
	double	   *view_base;
	double	   *view_scratch;
	double	   *dense;			/* 8 x nnodes */
	double	   *site_scratch;	/* nnodes x nsite */
};

struct FaPredictor
{
	FaFrame		frame;
};

/* in frame.c */
extern const FaModelOps *const fa_predict_models[FA_NMODELS];
extern void *fa_predict_alloc(FaFrame *frame, size_t n, size_t size);
extern void *fa_predict_grow(FaFrame *frame, void *ptr, size_t old_n,
							 size_t n, size_t size);
extern void fa_predict_free(FaFrame *frame, void *ptr);
extern bool fa_predict_model_on(const FaFrame *frame, int model);
extern bool fa_predict_model_runs(const FaFrame *frame, int model);
extern int	fa_predict_nearest_horizon(const FaFrame *frame, int64_t ahead);
extern int	fa_predict_find_cell(const FaFragment *fr, int node);
extern int	fa_predict_add_cell(FaFrame *frame, int fragment, int node);
extern void fa_predict_site(FaFrame *frame);
extern void fa_predict_site_at(FaFrame *frame, int h, int64_t target);
extern void fa_predict_view(FaFrame *frame, int fragment, int h, FaView *view);
extern void fa_predict_view_at(FaFrame *frame, int fragment, int h,
							   int64_t target, FaView *view);

/* ln(1 + v) to 1e-16, which is enough for a signal and much faster than log1p */
static inline double
fa_predict_ln1p(double v)
{
	return log(1 + v);
}

static inline double *
fa_predict_cell(const FaFrame *frame, const FaFragment *fr, int pos, int model)
{
	return fr->state + (size_t) pos * frame->cell_doubles +
		frame->cell_at[model];
}

/* in archive.c */
extern void fa_predict_ar_bytes(FaArchive *ar, void *p, size_t n);
extern void fa_predict_ar_u32(FaArchive *ar, uint32_t *v);
extern void fa_predict_ar_i32(FaArchive *ar, int32_t *v);
extern void fa_predict_ar_i64(FaArchive *ar, int64_t *v);
extern void fa_predict_ar_double(FaArchive *ar, double *v);
extern void fa_predict_ar_doubles(FaArchive *ar, double *v, size_t n);
extern void fa_predict_ar_floats(FaArchive *ar, float *v, size_t n);
extern bool fa_predict_ar_room(FaArchive *ar, uint64_t n, size_t size);

/*
 * A whole string: magic, version, length, content, checksum (FNV-1a, 64 bits).
 * The first returns its length, and writes it if there is room for it; content
 * is walked twice then.  The second leaves ar before the content, and its size
 * at the end of that; false when it is another string, or damaged.
 */
typedef void (*FaArchiveContent) (void *of, FaArchive *ar);
extern size_t fa_predict_ar_save(uint32_t magic, uint32_t version,
								 FaArchiveContent content, void *of, void *buf,
								 size_t size);
extern bool fa_predict_ar_open(FaArchive *ar, uint32_t magic, uint32_t version,
							   const void *buf, size_t size);

/* in pending.c */
extern FaPending *fa_predict_pending_create(FaFrame *frame, int h);
extern void fa_predict_pending_drop(FaFrame *frame, int h);
extern void fa_predict_pending_keep(FaFrame *frame, int h);
extern void fa_predict_pending_settle(FaFrame *frame, int h);
extern void fa_predict_pending_archive(FaFrame *frame, int h, FaArchive *ar);

/* in season.c */
extern int	fa_predict_find_seasons(FaFrame *frame, float *series,
									int nseries, int nsums, int n,
									int max_season, int *seasons, int max);

/* in model_*.c */
extern const FaModelOps fa_predict_static;
extern const FaModelOps fa_predict_recent;
extern const FaModelOps fa_predict_seasonal;
extern const FaModelOps fa_predict_holt;
extern const FaModelOps fa_predict_pooled;
extern const FaModelOps fa_predict_session;
extern const FaModelOps fa_predict_profile;
extern const FaModelOps fa_predict_lstm;
extern void fa_predict_lstm_train(void *model, int fragments);
extern void fa_predict_lstm_reset(FaFrame *frame, void *model);
extern void fa_predict_session_tell(FaFrame *frame, void *model, int64_t step,
									const FaCell *cells, int ncells);
extern void fa_predict_profile_tell(FaFrame *frame, void *model, int64_t step,
									const FaProfileUse *use, int n);
extern void fa_predict_static_base(const FaFrame *frame, const void *model,
								   FaView *view);
extern void fa_predict_static_rates(const FaFrame *frame, const void *model,
									double *rate_p);
extern double fa_predict_recent_evidence(const FaFrame *frame,
										 const void *model,
										 const FaFragment *fr);
extern int	fa_predict_seasonal_list(const FaFrame *frame, const void *model,
									 int *seasons, int max);
extern void fa_predict_seasonal_replay(FaFrame *frame, void *model,
									   void (*take) (FaFrame *, void *,
													 int64_t step,
													 const bool *known),
									   void *arg);

#endif							/* FA_PREDICT_FRAME_H */
