/*
 * model_pooled.c
 *	  One regression for all cells, read as shares.
 *
 * The ridge regression of rates.c foretells ln(1 + accesses) of a cell from
 * its slot means, levels, last values and its node's and fragment's totals,
 * with the same weights for all cells: what few accesses cannot teach about
 * one cell, all teach together.  This model is that regression's word on a
 * fragment's shares: the mean that goes with what it foretells, against the
 * long-run rate.  It keeps nothing of its own beside the regression.
 */
#include <math.h>

#include "predict/pool.h"

#define LEAST			0.01	/* accesses that make no difference */

static const double start[] = {0.3};

static void *
pooled_create(FaFrame *frame)
{
	(void) frame;
	return NULL;
}

static void
pooled_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	(void) frame;
	(void) model;
	(void) old_nnodes;
	(void) old_nfragments;
}

static void
pooled_skip(FaFrame *frame, void *model, int64_t steps)
{
	(void) frame;
	(void) model;
	(void) steps;
}

static void
pooled_observe(FaFrame *frame, void *model)
{
	(void) frame;
	(void) model;
}

static void
pooled_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	(void) frame;
	(void) model;
	(void) h;
	(void) target;
	(void) signal;
}

/* Comes after the models whose rate signals it reads. */
static void
pooled_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				double *rate)
{
	int			h = fa_predict_nearest_horizon(frame, view->target -
											   frame->last_step);
	const FaRates *rates = frame->rates[h];

	(void) model;
	(void) rate;
	for (int c = 0; c < view->ncells; c++)
	{
		double		typical;
		double		mean;
		double		any;

		typical = fa_predict_rates_typical(frame, rates->now.w[FA_MODEL_POOLED],
										   view->rate + (size_t) c * frame->nrate);
		fa_predict_rates_expand(rates, typical, &mean, &any);
		local[(size_t) c * frame->nlocal] =
			log((mean + LEAST) / (view->base[c] + LEAST));
	}
}

static void
pooled_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	(void) frame;
	(void) model;
	(void) ar;
}

const FaModelOps fa_predict_pooled = {
	.name = "pooled",
	.cell_doubles = 0,
	.nsite = 0,
	.nlocal = 1,
	.nrate = 0,
	.site_start = start,
	.local_start = start,
	.rate_start = start,
	.create = pooled_create,
	.resize = pooled_resize,
	.skip = pooled_skip,
	.observe = pooled_observe,
	.site = pooled_site,
	.fragment = pooled_fragment,
	.archive = pooled_archive,
};
