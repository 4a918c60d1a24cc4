/*
 * model_recent.c
 *	  The recent past: exponentially forgetting levels on several scales.
 *
 * Each level is a pair (accesses, steps known), both forgotten at the same
 * pace, so that an unknown step ages the evidence and changes no rate.  A
 * level with little evidence falls back on the next slower one, the slowest
 * on the long-run base.  Differences between the levels are what the mixture
 * sees: it learns from them how much of a change lasts, which is a trend.
 */
#include <math.h>

#include "predict/frame.h"

#define NLEVELS			5
#define CONCENTRATION	6.0		/* accesses of a slower level's weight */
#define SITE_CONCENTRATION 10.0
#define SURGE_OVER		2		/* level that a node's surge is measured by */
#define NRATES			(NLEVELS + 4)

static const double half_life[NLEVELS] = {256, 64, 16, 4, 1};
static const double start[NLEVELS] = {0.8, 0.6, 0.4, 0.2, 0};
static const double rate_start[NRATES] = {0, 0, 1, 0, 0, 0, 0, 0, 0};

typedef struct Recent
{
	double		keep[NLEVELS];	/* what is kept of the past per step */
	double	   *count;			/* nnodes x NLEVELS, accesses */
	double	   *steps;			/* nnodes x NLEVELS, steps known */
} Recent;

static void *
recent_create(FaFrame *frame)
{
	Recent	   *r = fa_predict_alloc(frame, 1, sizeof(Recent));

	for (int k = 0; k < NLEVELS; k++)
		r->keep[k] = exp2(-1 / half_life[k]);
	r->count = fa_predict_alloc(frame, (size_t) frame->nnodes * NLEVELS,
								sizeof(double));
	r->steps = fa_predict_alloc(frame, (size_t) frame->nnodes * NLEVELS,
								sizeof(double));
	return r;
}

static void
recent_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Recent	   *r = model;

	(void) old_nfragments;
	if (frame->nnodes == old_nnodes)
		return;
	r->count = fa_predict_grow(frame, r->count, (size_t) old_nnodes * NLEVELS,
							   (size_t) frame->nnodes * NLEVELS,
							   sizeof(double));
	r->steps = fa_predict_grow(frame, r->steps, (size_t) old_nnodes * NLEVELS,
							   (size_t) frame->nnodes * NLEVELS,
							   sizeof(double));
}

static void
age(FaFrame *frame, Recent *r, const double *keep)
{
	for (size_t i = 0; i < (size_t) frame->nnodes * NLEVELS; i++)
	{
		r->count[i] *= keep[i % NLEVELS];
		r->steps[i] *= keep[i % NLEVELS];
	}
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells; c++)
		{
			double	   *v = fa_predict_cell(frame, fr, c, FA_MODEL_RECENT);

			for (int k = 0; k < NLEVELS; k++)
				v[k] *= keep[k];
		}
	}
}

static void
recent_skip(FaFrame *frame, void *model, int64_t steps)
{
	Recent	   *r = model;
	double		keep[NLEVELS];

	for (int k = 0; k < NLEVELS; k++)
		keep[k] = pow(r->keep[k], (double) steps);
	age(frame, r, keep);
}

static void
recent_observe(FaFrame *frame, void *model)
{
	Recent	   *r = model;

	age(frame, r, r->keep);
	for (int n = 0; n < frame->nnodes; n++)
	{
		for (int k = 0; k < NLEVELS && frame->known[n]; k++)
		{
			r->count[(size_t) n * NLEVELS + k] += frame->site_y[n];
			r->steps[(size_t) n * NLEVELS + k] += 1;
		}
	}
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells; c++)
		{
			double	   *v = fa_predict_cell(frame, fr, c, FA_MODEL_RECENT);

			/* last known value, and its like one step earlier */
			if (frame->known[fr->node[c]])
				v[NLEVELS] = fr->y[c];
			if (fr->y[c] > 0)
				for (int k = 0; k < NLEVELS; k++)
					v[k] += fr->y[c];
		}
	}
}

/* Chain of the nodes' totals, as for a fragment. */
static void
recent_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	const Recent *r = model;
	double	   *share = frame->dense;
	double		total = 0;

	(void) h;
	(void) target;
	for (int n = 0; n < frame->nnodes; n++)
	{
		double		steps = r->steps[(size_t) n * NLEVELS];

		share[n] = frame->prior[n];
		if (steps > 1e-9)
			total += r->count[(size_t) n * NLEVELS] / steps;
	}
	for (int k = 0; k < NLEVELS; k++)
	{
		double		kappa = total > 0 ? SITE_CONCENTRATION / total : 0;
		double		sum = 0;

		for (int n = 0; n < frame->nnodes; n++)
		{
			size_t		i = (size_t) n * NLEVELS + k;
			double		v;

			signal[(size_t) n * frame->nsite + k] = 0;
			if (!(total > 0))
				continue;
			v = (r->count[i] + SITE_CONCENTRATION * share[n]) /
				(r->steps[i] + kappa);
			signal[(size_t) n * frame->nsite + k] = log(v / (share[n] * total));
			frame->dense[frame->nnodes + n] = v;
			sum += v;
		}
		if (!(sum > 0))
			continue;
		for (int n = 0; n < frame->nnodes; n++)
			share[n] = frame->dense[frame->nnodes + n] / sum;
		total = sum;
	}
}

/* ln(a node's accesses of late / its level over a longer time). */
static double
surge(const Recent *r, int node, int level)
{
	const double *count = r->count + (size_t) node * NLEVELS;
	const double *steps = r->steps + (size_t) node * NLEVELS;
	double		rate = steps[SURGE_OVER] > 1e-9 ? count[SURGE_OVER] / steps[SURGE_OVER] : 0;

	return log((count[level] + SITE_CONCENTRATION) /
			   (steps[level] * rate + SITE_CONCENTRATION));
}

static void
recent_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				double *rate)
{
	const Recent *r = model;
	const FaFragment *fr = &frame->fragment[view->fragment];
	int			nc = fr->ncells;
	double	   *prev = view->scratch;	/* rates of the slower level */
	double	   *mid = view->scratch + (nc + 1);
	double		total = view->base_total;
	double		rest = view->base_rest;

	for (int i = 0; i < nc; i++)
		prev[i] = view->base[i];
	for (int k = 0; k < NLEVELS; k++)
	{
		double		kappa = CONCENTRATION / total;
		double		longest = 0;
		double		sum = 0;
		double		fresh;

		for (int i = 0; i < nc; i++)
		{
			double		c = fa_predict_cell(frame, fr, i, FA_MODEL_RECENT)[k];
			double		steps = r->steps[(size_t) fr->node[i] * NLEVELS + k];
			double		v = (c + kappa * prev[i]) / (steps + kappa);

			if (steps > longest)
				longest = steps;
			local[(size_t) i * frame->nlocal + k] = log(v / prev[i]);
			rate[(size_t) i * frame->nrate + k] = log1p(v);
			prev[i] = v;
			if (k == SURGE_OVER)
				mid[i] = v;
			sum += v;
		}
		fresh = kappa / (longest + kappa);
		local[(size_t) nc * frame->nlocal + k] = log(fresh);
		rest *= fresh;
		total = sum + rest * (1 - view->prior_seen);
	}
	for (int i = 0; i < nc; i++)
	{
		double	   *v = fa_predict_cell(frame, fr, i, FA_MODEL_RECENT);

		rate[(size_t) i * frame->nrate + NLEVELS] = log1p(v[NLEVELS]);
		rate[(size_t) i * frame->nrate + NLEVELS + 1] = log1p(total);
		for (int k = 3; k < NLEVELS; k++)
			rate[(size_t) i * frame->nrate + NLEVELS - 1 + k] =
				log1p(mid[i] * exp(surge(r, fr->node[i], k))) - log1p(mid[i]);
	}
}

/* Accesses behind a fragment's slowest level. */
double
fa_predict_recent_evidence(const FaFrame *frame, const void *model,
						   const FaFragment *fr)
{
	double		sum = 0;

	(void) model;
	for (int i = 0; i < fr->ncells; i++)
		sum += fa_predict_model_on(frame, FA_MODEL_RECENT) ?
			fa_predict_cell(frame, fr, i, FA_MODEL_RECENT)[0] :
			fa_predict_cell(frame, fr, i, FA_MODEL_STATIC)[0];
	return sum;
}

static void
recent_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Recent	   *r = model;

	fa_predict_ar_doubles(ar, r->count, (size_t) frame->nnodes * NLEVELS);
	fa_predict_ar_doubles(ar, r->steps, (size_t) frame->nnodes * NLEVELS);
}

const FaModelOps fa_predict_recent = {
	.name = "recent",
	.cell_doubles = NLEVELS + 1,
	.nsite = NLEVELS,
	.nlocal = NLEVELS,
	.nrate = NRATES,
	.site_start = start,
	.local_start = start,
	.rate_start = rate_start,
	.create = recent_create,
	.resize = recent_resize,
	.skip = recent_skip,
	.observe = recent_observe,
	.site = recent_site,
	.fragment = recent_fragment,
	.archive = recent_archive,
};
