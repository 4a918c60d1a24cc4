/*
 * model_static.c
 *	  Long-run shares: what a fragment's accesses were like since it exists.
 *
 * It forgets nothing, so it is the floor to beat, and it gives the others
 * their base: a fragment's rate per node, shrunk towards the nodes' overall
 * shares as long as there is little evidence (Dirichlet, CONCENTRATION
 * accesses strong).  Time in which a node was unknown counts for nothing.
 */
#include <math.h>

#include "predict/frame.h"

#define CONCENTRATION	4.0
#define SITE_CONCENTRATION 2.0

typedef struct Static
{
	double	   *count;			/* accesses by node */
	double	   *steps;			/* steps known by node */
} Static;

static const double start[] = {1};

static void *
static_create(FaFrame *frame)
{
	Static	   *s = fa_predict_alloc(frame, 1, sizeof(Static));

	s->count = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	s->steps = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	return s;
}

/* Shares of the nodes, towards uniform with little evidence. */
static void
set_prior(FaFrame *frame, const Static *s)
{
	double		rate = 0;
	double		sum = 0;
	double		a = SITE_CONCENTRATION;

	for (int n = 0; n < frame->nnodes; n++)
	{
		if (s->steps[n] > 0)
			rate += s->count[n] / s->steps[n];
	}
	for (int n = 0; n < frame->nnodes; n++)
	{
		frame->prior[n] = rate > 0 ?
			(s->count[n] + a / frame->nnodes) / (s->steps[n] + a / rate) : 1;
		sum += frame->prior[n];
	}
	for (int n = 0; n < frame->nnodes; n++)
		frame->prior[n] /= sum;
}

static void
static_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Static	   *s = model;

	(void) old_nfragments;
	if (frame->nnodes == old_nnodes)
		return;
	s->count = fa_predict_grow(frame, s->count, old_nnodes, frame->nnodes,
							   sizeof(double));
	s->steps = fa_predict_grow(frame, s->steps, old_nnodes, frame->nnodes,
							   sizeof(double));
	set_prior(frame, s);
}

static void
static_skip(FaFrame *frame, void *model, int64_t steps)
{
	(void) frame;
	(void) model;
	(void) steps;
}

static void
static_observe(FaFrame *frame, void *model)
{
	Static	   *s = model;

	for (int n = 0; n < frame->nnodes; n++)
	{
		s->count[n] += frame->site_y[n];
		s->steps[n] += frame->known[n];
	}
	set_prior(frame, s);
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells && fr->total > 0; c++)
			fa_predict_cell(frame, fr, c, FA_MODEL_STATIC)[0] += fr->y[c];
	}
}

static void
static_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	(void) model;
	(void) h;
	(void) target;
	for (int n = 0; n < frame->nnodes; n++)
		signal[(size_t) n * frame->nsite] = log(frame->prior[n]);
}

/* The view's long-run rates alone. */
void
fa_predict_static_base(const FaFrame *frame, const void *model, FaView *view)
{
	const Static *s = model;
	const FaFragment *fr = &frame->fragment[view->fragment];
	double		age = (double) (frame->last_step - fr->born) + 1;
	double		all = (double) (frame->last_step - frame->first_step) + 1;
	double		total = 0;
	double		longest = 0;
	double		kappa;

	view->prior_seen = 0;
	for (int i = 0; i < fr->ncells; i++)
	{
		double		known = s->steps[fr->node[i]] * (age / all);
		double		c = fa_predict_cell(frame, fr, i, FA_MODEL_STATIC)[0];

		if (known < 1)
			known = 1;
		view->scratch[i] = known;
		total += c / known;
		if (known > longest)
			longest = known;
		view->prior_seen += frame->prior[fr->node[i]];
	}
	if (!(total > 0))
		total = 1e-12;
	if (view->prior_seen > 1)
		view->prior_seen = 1;
	kappa = CONCENTRATION / total;
	view->base_total = 0;
	for (int i = 0; i < fr->ncells; i++)
	{
		double		c = fa_predict_cell(frame, fr, i, FA_MODEL_STATIC)[0];
		double		prior = frame->prior[fr->node[i]];

		view->base[i] = (c + CONCENTRATION * prior) / (view->scratch[i] + kappa);
		view->base_total += view->base[i];
	}
	view->base_rest = CONCENTRATION / (longest + kappa);
	view->base_total += view->base_rest * (1 - view->prior_seen);
}

static void
static_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				double *rate)
{
	const FaFragment *fr = &frame->fragment[view->fragment];

	fa_predict_static_base(frame, model, view);
	for (int i = 0; i < fr->ncells; i++)
	{
		local[(size_t) i * frame->nlocal] =
			log(view->base[i] / frame->prior[fr->node[i]]);
		rate[(size_t) i * frame->nrate] = fa_predict_ln1p(view->base[i]);
	}
	local[(size_t) fr->ncells * frame->nlocal] = log(view->base_rest);
}

/* The nodes' long-run accesses per step, never zero once there are any. */
void
fa_predict_static_rates(const FaFrame *frame, const void *model,
						double *rate_p)
{
	const Static *s = model;
	double		total = 0;

	for (int n = 0; n < frame->nnodes; n++)
		total += s->steps[n] > 0 ? s->count[n] / s->steps[n] : 0;
	for (int n = 0; n < frame->nnodes; n++)
		rate_p[n] = total * frame->prior[n];
}

static void
static_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Static	   *s = model;

	fa_predict_ar_doubles(ar, s->count, frame->nnodes);
	fa_predict_ar_doubles(ar, s->steps, frame->nnodes);
	if (ar->reading && !ar->failed)
		set_prior(frame, s);
}

const FaModelOps fa_predict_static = {
	.name = "static",
	.cell_doubles = 1,
	.nsite = 1,
	.nlocal = 1,
	.nrate = 1,
	.site_start = start,
	.local_start = start,
	.rate_start = start,
	.create = static_create,
	.resize = static_resize,
	.skip = static_skip,
	.observe = static_observe,
	.site = static_site,
	.fragment = static_fragment,
	.archive = static_archive,
};
