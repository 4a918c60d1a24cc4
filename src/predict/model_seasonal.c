/*
 * model_seasonal.c
 *	  Slot means over the seasons found in the data, and levels against them.
 *
 * Slots and the chain of rates over them are in slots.c and chain.c.  Beside
 * that, accesses are compared with what the chain expected, on two scales: a
 * level relative to the season (Holt-Winters' multiplicative form).
 *
 * Seasons are searched for at growing intervals; when the set changes, the
 * slots are filled again from the history kept.
 */
#include <math.h>
#include <string.h>

#include "predict/seasonal.h"

#define NLEVELS			2
#define NSITE			(FA_MAX_SEASONS + NLEVELS)
#define NLOCAL			(FA_MAX_STAGES + NLEVELS)
#define NRATES			(FA_MAX_STAGES + 2)
#define SITE_LEVEL_CONCENTRATION 20.0
#define LEVEL_CONCENTRATION 3.0
#define FIRST_SEARCH	48

static const double half_life[NLEVELS] = {24, 3};
static const double site_start[NSITE] = {1, 1, 1, 0.3, 0.1};
static const double local_start[NLOCAL] = {1, 1, 1, 1, 1, 1, 1, 1, 0.3, 0.1};
static const double rate_start[NRATES] = {0, 0, 0, 0, 0, 1, 0, 0, 0, 0};

typedef struct Seasonal
{
	FaSeasons	seasons;
	double		keep[NLEVELS];
	double	   *level;			/* nnodes x NLEVELS x {accesses, expected} */
	FaPlan		plan[FA_MAX_VIEWS];	/* a profile's made when first needed */
	FaPlan		current;		/* of the step being learned */
	FaHistory	history;
	int64_t		next_search;	/* steps observed */
	int32_t		nfewer;			/* searches in a row that saw fewer seasons */
	bool		blank;			/* levels are zero */
} Seasonal;

static void
alloc_nodes(FaFrame *frame, Seasonal *s, int old_n)
{
	size_t		n = frame->nnodes;

	s->level = fa_predict_grow(frame, s->level, (size_t) old_n * NLEVELS * 2,
							   n * NLEVELS * 2, sizeof(double));
	for (int h = 0; h < FA_MAX_VIEWS; h++)
	{
		if (h < frame->config.nhorizons || s->plan[h].tilt != NULL)
			fa_predict_plan_alloc(frame, &s->plan[h]);
	}
	fa_predict_plan_alloc(frame, &s->current);
}

static void *
seasonal_create(FaFrame *frame)
{
	Seasonal   *s = fa_predict_alloc(frame, 1, sizeof(Seasonal));

	fa_predict_slots_resize(frame, &s->seasons, 0, 0);
	alloc_nodes(frame, s, 0);
	for (int k = 0; k < NLEVELS; k++)
		s->keep[k] = exp2(-1 / half_life[k]);
	s->next_search = FIRST_SEARCH;
	return s;
}

static void
seasonal_resize(FaFrame *frame, void *model, int old_nnodes,
				int old_nfragments)
{
	Seasonal   *s = model;

	fa_predict_slots_resize(frame, &s->seasons, old_nnodes, old_nfragments);
	if (frame->nnodes != old_nnodes)
		alloc_nodes(frame, s, old_nnodes);
}

static void
search_seasons(FaFrame *frame, Seasonal *s)
{
	int			period[FA_MAX_SEASONS];
	int			n;
	bool		same;
	int64_t		wait = (int64_t) (frame->nsteps / 8);

	if (wait > frame->config.max_season)
		wait = frame->config.max_season;
	s->next_search = (int64_t) frame->nsteps + (wait < 8 ? 8 : wait);
	n = fa_predict_history_seasons(frame, &s->history, period, FA_MAX_SEASONS);
	same = n == s->seasons.n;
	for (int k = 0; k < n && same; k++)
		same = period[k] == s->seasons.season[k].period;
	if (same)
	{
		s->nfewer = 0;
		return;
	}
	/* keep a season that one search alone does not see any more */
	if (n < s->seasons.n && ++s->nfewer < 2)
		return;
	s->nfewer = 0;
	fa_predict_slots_set(frame, &s->seasons, period, n);
	fa_predict_history_replay(frame, &s->history, fa_predict_slots_fill,
							  &s->seasons);
	if (s->seasons.ndays > 0)
		fa_predict_slots_compare(frame, &s->seasons);
}

static void
seasonal_skip(FaFrame *frame, void *model, int64_t steps)
{
	Seasonal   *s = model;
	double		keep[NLEVELS];

	for (int k = 0; k < NLEVELS; k++)
		keep[k] = pow(s->keep[k], (double) steps);
	for (int n = 0; n < frame->nnodes; n++)
		for (int k = 0; k < NLEVELS * 2; k++)
			s->level[(size_t) n * NLEVELS * 2 + k] *= keep[k / 2];
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells; c++)
		{
			double	   *v = fa_predict_cell(frame, fr, c, FA_MODEL_SEASONAL);

			for (int k = 0; k < NLEVELS * 2; k++)
				v[k] *= keep[k / 2];
		}
	}
}

static void
learn_levels(FaFrame *frame, Seasonal *s)
{
	FaView		view;

	fa_predict_plan_make(frame, &s->seasons, frame->step, &s->current);
	for (int n = 0; n < frame->nnodes; n++)
	{
		double	   *l = s->level + (size_t) n * NLEVELS * 2;

		for (int k = 0; k < NLEVELS; k++)
		{
			l[2 * k] = l[2 * k] * s->keep[k] +
				(frame->known[n] ? frame->site_y[n] : 0);
			l[2 * k + 1] = l[2 * k + 1] * s->keep[k] +
				(frame->known[n] ? s->current.rate[n] : 0);
		}
	}
	memset(&view, 0, sizeof(view));
	view.target = frame->step;
	view.base = frame->view_base;
	view.scratch = frame->view_scratch;
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];
		double	   *expected = view.scratch + (fr->ncells + 1);

		view.fragment = frame->active[i];
		fa_predict_static_base(frame, frame->model[FA_MODEL_STATIC], &view);
		fa_predict_chain(frame, &s->seasons, &s->current, &view, expected,
						 NULL, NULL);
		for (int c = 0; c < fr->ncells; c++)
		{
			double	   *v = fa_predict_cell(frame, fr, c, FA_MODEL_SEASONAL);
			bool		known = frame->known[fr->node[c]];

			for (int k = 0; k < NLEVELS; k++)
			{
				v[2 * k] = v[2 * k] * s->keep[k] + (known ? fr->y[c] : 0);
				v[2 * k + 1] = v[2 * k + 1] * s->keep[k] +
					(known ? expected[c] : 0);
			}
		}
	}
}

static void
seasonal_observe(FaFrame *frame, void *model)
{
	Seasonal   *s = model;
	FaSeasons  *se = &s->seasons;

	fa_predict_static_rates(frame, frame->model[FA_MODEL_STATIC],
							se->site_rate);
	if (frame->learning)
		learn_levels(frame, s);
	else if (!s->blank)
		seasonal_skip(frame, s, INT64_MAX);
	/* what levels were before so many steps is nothing to them */
	s->blank = !frame->learning;
	fa_predict_slots_fill(frame, se, frame->step, frame->known);
	fa_predict_history_add(frame, &s->history);
	if (se->ndays > 0 &&
		frame->step % (se->season[se->n - 1].period / se->ndays) == 0)
		fa_predict_slots_compare(frame, se);
}

static void
seasonal_site(FaFrame *frame, void *model, int h, int64_t target,
			  double *signal)
{
	Seasonal   *s = model;

	if (frame->nsteps >= s->next_search && frame->config.max_season >= 2)
		search_seasons(frame, s);
	if (s->plan[h].tilt == NULL)
		fa_predict_plan_alloc(frame, &s->plan[h]);
	fa_predict_plan_make(frame, &s->seasons, target, &s->plan[h]);
	for (int n = 0; n < frame->nnodes; n++)
	{
		const double *l = s->level + (size_t) n * NLEVELS * 2;
		double	   *v = signal + (size_t) n * frame->nsite;

		for (int k = 0; k < FA_MAX_SEASONS; k++)
			v[k] = log(s->plan[h].tilt[(size_t) n * FA_MAX_SEASONS + k]);
		for (int k = 0; k < NLEVELS; k++)
			v[FA_MAX_SEASONS + k] = log((l[2 * k] + SITE_LEVEL_CONCENTRATION) /
										(l[2 * k + 1] + SITE_LEVEL_CONCENTRATION));
	}
}

static void
seasonal_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				  double *rate)
{
	Seasonal   *s = model;
	const FaFragment *fr = &frame->fragment[view->fragment];
	double	   *v = view->scratch + (fr->ncells + 1);

	fa_predict_chain(frame, &s->seasons, &s->plan[view->h], view, v, local,
					 rate);
	for (int i = 0; i < fr->ncells; i++)
	{
		const double *l = fa_predict_cell(frame, fr, i, FA_MODEL_SEASONAL);
		const double *site = frame->site[view->h] +
			(size_t) fr->node[i] * frame->nsite +
			frame->site_at[FA_MODEL_SEASONAL];
		double	   *r = rate + (size_t) i * frame->nrate + FA_MAX_STAGES;
		double		slow = 0;

		for (int k = 0; k < NLEVELS; k++)
		{
			double		e = log((l[2 * k] + LEVEL_CONCENTRATION) /
								(l[2 * k + 1] + LEVEL_CONCENTRATION));

			local[(size_t) i * frame->nlocal + FA_MAX_STAGES + k] = e;
			if (k == 0)
				slow = e;
		}
		r[0] = fa_predict_ln1p(v[i] * exp(slow)) - fa_predict_ln1p(v[i]);
		r[1] = fa_predict_ln1p(v[i] * exp(site[FA_MAX_SEASONS + 1])) - fa_predict_ln1p(v[i]);
	}
}

int
fa_predict_seasonal_list(const FaFrame *frame, const void *model, int *seasons,
						 int max)
{
	const Seasonal *s = model;
	int			n = 0;

	(void) frame;
	for (int k = s->seasons.n - 1; k >= 0 && n < max; k--)
		seasons[n++] = s->seasons.season[k].period;
	return n;
}

/* The history kept, for a model that must learn a new season from it. */
void
fa_predict_seasonal_replay(FaFrame *frame, void *model,
						   void (*take) (FaFrame *, void *, int64_t,
										 const bool *), void *arg)
{
	Seasonal   *s = model;

	fa_predict_history_replay(frame, &s->history, take, arg);
}

static void
seasonal_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Seasonal   *s = model;
	size_t		n = (size_t) frame->nnodes * NLEVELS * 2;

	fa_predict_ar_i64(ar, &s->next_search);
	fa_predict_ar_i32(ar, &s->nfewer);
	fa_predict_ar_doubles(ar, s->level, n);
	for (size_t i = 0; i < n && ar->reading; i++)
	{
		if (s->level[i] < 0)
			ar->failed = true;
	}
	if (!ar->failed)
		fa_predict_slots_archive(frame, &s->seasons, ar);
	if (!ar->failed)
		fa_predict_history_archive(frame, &s->history, ar);
}

const FaModelOps fa_predict_seasonal = {
	.name = "seasonal",
	.cell_doubles = NLEVELS * 2,
	.nsite = NSITE,
	.nlocal = NLOCAL,
	.nrate = NRATES,
	.site_start = site_start,
	.local_start = local_start,
	.rate_start = rate_start,
	.create = seasonal_create,
	.resize = seasonal_resize,
	.skip = seasonal_skip,
	.observe = seasonal_observe,
	.site = seasonal_site,
	.fragment = seasonal_fragment,
	.archive = seasonal_archive,
};
