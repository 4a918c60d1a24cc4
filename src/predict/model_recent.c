/*
 * model_recent.c
 *	  The recent past: exponentially forgetting levels on several scales.
 *
 * Each level is a pair (accesses, steps known), both forgotten at the same
 * pace, so that an unknown step ages the evidence and changes no rate.  A
 * level with little evidence falls back on the next slower one, the slowest
 * on the long-run base.  Differences between the levels are what the mixture
 * sees: it learns from them how much of a change lasts, which is a trend.
 *
 * How much evidence a step's accesses are of the nodes' shares is learned for
 * each level (trust.h): where most are those of one client, they are little.
 */
#include <math.h>
#include <string.h>

#include "predict/trust.h"

#define NLEVELS			5
#define CONCENTRATION	6.0		/* accesses of a slower level's weight */
#define SITE_CONCENTRATION 10.0
#define SATURATION		64.0	/* accesses of a step that count */
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
	double		accesses;		/* of all nodes, ever */
	double		squares;		/* of those of each step, summed up */
	FaTrust		trust[NLEVELS]; /* in the nodes' levels */
} Recent;

static void *
recent_create(FaFrame *frame)
{
	Recent	   *r = fa_predict_alloc(frame, 1, sizeof(Recent));

	for (int k = 0; k < NLEVELS; k++)
	{
		r->keep[k] = exp2(-1 / half_life[k]);
		fa_trust_init(&r->trust[k]);
	}
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
	r->accesses += frame->site_total;
	r->squares += frame->site_total * frame->site_total;
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

/*
 * A level of the nodes' totals, over the rates prev that sum to total; returns
 * what they sum to then.
 */
static double
site_level(const FaFrame *frame, const Recent *r, int k, double rho,
		   const double *prev, double total, double *v_p)
{
	double		clump = r->accesses > 0 ? r->squares / r->accesses : 1;
	double		kappa = SITE_CONCENTRATION * fa_trust_effect(rho, clump) / total;
	double		sum = 0;

	for (int n = 0; n < frame->nnodes; n++)
	{
		size_t		i = (size_t) n * NLEVELS + k;

		v_p[n] = (r->count[i] + kappa * prev[n]) / (r->steps[i] + kappa);
		sum += v_p[n];
	}
	return sum;
}

/* The nodes' long-run rates, and their sum, by the slowest level's steps. */
static double
site_base(const FaFrame *frame, const Recent *r, double *v_p)
{
	double		total = 0;

	for (int n = 0; n < frame->nnodes; n++)
	{
		double		steps = r->steps[(size_t) n * NLEVELS];

		if (steps > 1e-9)
			total += r->count[(size_t) n * NLEVELS] / steps;
	}
	for (int n = 0; n < frame->nnodes; n++)
		v_p[n] = frame->prior[n] * total;
	return total;
}

/* Chain of the nodes' totals, as for a fragment. */
static void
recent_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	const Recent *r = model;
	double	   *prev = frame->dense;
	double	   *v = frame->dense + frame->nnodes;
	double		total = site_base(frame, r, prev);

	(void) h;
	(void) target;
	for (int k = 0; k < NLEVELS; k++)
	{
		if (total > 0)
			total = site_level(frame, r, k, r->trust[k].rho, prev, total, v);
		for (int n = 0; n < frame->nnodes; n++)
		{
			signal[(size_t) n * frame->nsite + k] = total > 0 ?
				log(v[n] / prev[n]) : 0;
			prev[n] = v[n];
		}
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
			rate[(size_t) i * frame->nrate + k] = fa_predict_ln1p(v);
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

		rate[(size_t) i * frame->nrate + NLEVELS] = fa_predict_ln1p(v[NLEVELS]);
		rate[(size_t) i * frame->nrate + NLEVELS + 1] = fa_predict_ln1p(total);
		for (int k = 3; k < NLEVELS; k++)
			rate[(size_t) i * frame->nrate + NLEVELS - 1 + k] =
				fa_predict_ln1p(mid[i] * exp(surge(r, fr->node[i], k))) - fa_predict_ln1p(mid[i]);
	}
}

/* Learns from the nodes' totals of the step how far to trust in the levels. */
static void
recent_judge(FaFrame *frame, void *model)
{
	Recent	   *r = model;
	double	   *prev = frame->dense;
	double	   *v = frame->dense + frame->nnodes;
	double		total = site_base(frame, r, prev);
	double		weight = 1 / (1 + frame->site_total / SATURATION);

	for (int k = 0; k < NLEVELS && total > 0; k++)
	{
		double		loss[FA_TRUST_VALUES] = {0};

		for (int j = 0; j < FA_TRUST_VALUES; j++)
		{
			double		known = 0;

			site_level(frame, r, k, fa_trust_values[j], prev, total, v);
			for (int n = 0; n < frame->nnodes; n++)
				known += frame->known[n] ? v[n] : 0;
			for (int n = 0; n < frame->nnodes; n++)
			{
				if (frame->site_y[n] > 0)
					loss[j] -= weight * frame->site_y[n] * log(v[n] / known);
			}
		}
		total = site_level(frame, r, k, r->trust[k].rho, prev, total, v);
		memcpy(prev, v, sizeof(double) * frame->nnodes);
		fa_trust_learn(&r->trust[k], loss);
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
	fa_predict_ar_double(ar, &r->accesses);
	fa_predict_ar_double(ar, &r->squares);
	for (int k = 0; k < NLEVELS; k++)
		fa_trust_archive(&r->trust[k], ar);
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
	.judge = recent_judge,
	.observe = recent_observe,
	.site = recent_site,
	.fragment = recent_fragment,
	.archive = recent_archive,
};
