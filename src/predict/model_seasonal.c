/*
 * model_seasonal.c
 *	  Slot means over the seasons found in the data.
 *
 * A season of P steps is cut into at most MAX_SLOTS slots.  For each slot the
 * accesses and the steps known are kept, forgotten at each return of the
 * slot.  Rates form a chain: the long-run base, tilted by what the nodes'
 * totals do in this slot of the shortest season, is the prior of the
 * fragment's own mean in that slot, which tilted again is the prior for the
 * next longer season.  So a fragment with little evidence swings with the
 * nodes, and one with much goes its own way.
 *
 * Beside that, accesses are compared with what the chain expected, on two
 * scales: a level relative to the season (Holt-Winters' multiplicative form).
 *
 * Seasons are searched for at growing intervals; when the set changes, the
 * slots are filled again from the history kept.
 */
#include <math.h>
#include <string.h>

#include "predict/history.h"

#define MAX_SEASONS		3
#define MAX_SLOTS		336
#define NLEVELS			2
#define NSIGNALS		(MAX_SEASONS + NLEVELS)
#define NRATES			(MAX_SEASONS + 2)
#define CONCENTRATION	8.0
#define SITE_CONCENTRATION 20.0
#define LEVEL_CONCENTRATION 3.0
#define FORGETTING		0.9		/* kept from one return to the next */
#define MIN_ACCESSES	16		/* of a fragment, to have slots of its own */
#define FIRST_SEARCH	32

static const double half_life[NLEVELS] = {24, 3};
static const double start[NSIGNALS] = {1, 1, 1, 0.3, 0.1};
static const double rate_start[NRATES] = {0, 0, 1, 0, 0};

/* Slots of one fragment, for the cells it had when they were made or grew. */
typedef struct Slots
{
	int32_t		capacity;		/* cells */
	int64_t		since;			/* step from which on it counted */
	float	   *count[MAX_SEASONS]; /* nslots x capacity */
} Slots;

typedef struct Season
{
	int			period;
	int			width;			/* steps in a slot */
	int			nslots;
	double		keep;			/* per step in the slot */
	double	   *count;			/* nslots x nnodes, accesses */
	double	   *steps;			/* nslots x nnodes, steps known */
} Season;

typedef struct Seasonal
{
	int			nseasons;
	Season		season[MAX_SEASONS];	/* shortest first */
	Slots	   *slots;			/* by fragment */
	double		keep[NLEVELS];
	double	   *level;			/* nnodes x NLEVELS x {accesses, expected} */
	double	   *tilt[FA_PREDICT_MAX_HORIZONS + 1];	/* nnodes x MAX_SEASONS;
													 * last: current step */
	double	   *site_rate;		/* nnodes: mean rate */
	double	   *scratch;		/* nnodes */
	FaHistory	history;
	int64_t		next_search;	/* steps observed */
	int			nempty;			/* searches in a row without a season */
} Seasonal;

static int
slot_of(const Season *s, int64_t step)
{
	int64_t		phase = step % s->period;

	if (phase < 0)
		phase += s->period;
	return (int) (phase / s->width);
}

static void
alloc_nodes(FaFrame *frame, Seasonal *s, int old_n)
{
	size_t		n = frame->nnodes;

	s->level = fa_predict_grow(frame, s->level, (size_t) old_n * NLEVELS * 2,
							   n * NLEVELS * 2, sizeof(double));
	for (int h = 0; h <= FA_PREDICT_MAX_HORIZONS; h++)
	{
		s->tilt[h] = fa_predict_grow(frame, s->tilt[h],
									 (size_t) old_n * MAX_SEASONS,
									 n * MAX_SEASONS, sizeof(double));
	}
	s->site_rate = fa_predict_grow(frame, s->site_rate, old_n, n,
								   sizeof(double));
	s->scratch = fa_predict_grow(frame, s->scratch, old_n, n, sizeof(double));
}

static void *
seasonal_create(FaFrame *frame)
{
	Seasonal   *s = fa_predict_alloc(frame, 1, sizeof(Seasonal));

	alloc_nodes(frame, s, 0);
	s->slots = fa_predict_alloc(frame, frame->nfragments, sizeof(Slots));
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
	int			n = frame->nnodes;

	if (frame->nfragments > old_nfragments)
		s->slots = fa_predict_grow(frame, s->slots, old_nfragments,
								   frame->nfragments, sizeof(Slots));
	if (n == old_nnodes)
		return;
	alloc_nodes(frame, s, old_nnodes);
	for (int k = 0; k < s->nseasons; k++)
	{
		Season	   *se = &s->season[k];
		double	   *count = fa_predict_alloc(frame, (size_t) se->nslots * n,
											 sizeof(double));
		double	   *steps = fa_predict_alloc(frame, (size_t) se->nslots * n,
											 sizeof(double));

		for (int i = 0; i < se->nslots; i++)
		{
			memcpy(count + (size_t) i * n,
				   se->count + (size_t) i * old_nnodes,
				   sizeof(double) * old_nnodes);
			memcpy(steps + (size_t) i * n,
				   se->steps + (size_t) i * old_nnodes,
				   sizeof(double) * old_nnodes);
		}
		fa_predict_free(frame, se->count);
		fa_predict_free(frame, se->steps);
		se->count = count;
		se->steps = steps;
	}
}

/* Room for all cells of a fragment in its slots. */
static void
fit_slots(FaFrame *frame, Seasonal *s, const FaFragment *fr, Slots *sl,
		  int64_t step)
{
	int			cap = fr->capacity;

	if (sl->capacity == 0)
		sl->since = step;
	for (int k = 0; k < s->nseasons; k++)
	{
		Season	   *se = &s->season[k];
		float	   *fresh;

		if (sl->count[k] != NULL && sl->capacity >= cap)
			continue;
		fresh = fa_predict_alloc(frame, (size_t) se->nslots * cap,
								 sizeof(float));
		for (int i = 0; i < se->nslots && sl->count[k] != NULL; i++)
			memcpy(fresh + (size_t) i * cap,
				   sl->count[k] + (size_t) i * sl->capacity,
				   sizeof(float) * sl->capacity);
		fa_predict_free(frame, sl->count[k]);
		sl->count[k] = fresh;
	}
	sl->capacity = cap;
}

/* Learns one step's y into the slots, now or in a replay. */
static void
fill_slots(FaFrame *frame, void *arg, int64_t step, const bool *known)
{
	Seasonal   *s = arg;

	for (int k = 0; k < s->nseasons; k++)
	{
		Season	   *se = &s->season[k];
		size_t		at = (size_t) slot_of(se, step) * frame->nnodes;

		for (int n = 0; n < frame->nnodes; n++)
		{
			if (!known[n])
				continue;
			se->count[at + n] = se->count[at + n] * se->keep + frame->site_y[n];
			se->steps[at + n] = se->steps[at + n] * se->keep + 1;
		}
	}
	for (int i = 0; i < frame->nactive; i++)
	{
		int			f = frame->active[i];
		FaFragment *fr = &frame->fragment[f];
		Slots	   *sl = &s->slots[f];

		if (s->nseasons == 0 || fr->accesses < MIN_ACCESSES ||
			step < fr->born)
			continue;
		if (sl->capacity < fr->ncells || sl->count[s->nseasons - 1] == NULL)
			fit_slots(frame, s, fr, sl, step);
		for (int k = 0; k < s->nseasons; k++)
		{
			Season	   *se = &s->season[k];
			float	   *c = sl->count[k] +
				(size_t) slot_of(se, step) * sl->capacity;

			for (int j = 0; j < fr->ncells; j++)
			{
				if (known[fr->node[j]])
					c[j] = (float) (c[j] * se->keep + fr->y[j]);
			}
		}
	}
}

static void
set_seasons(FaFrame *frame, Seasonal *s, const int *period, int nseasons)
{
	double		keep = frame->config.forgetting > 0 ?
		frame->config.forgetting : FORGETTING;

	for (int f = 0; f < frame->nfragments; f++)
	{
		for (int k = 0; k < MAX_SEASONS; k++)
		{
			fa_predict_free(frame, s->slots[f].count[k]);
			s->slots[f].count[k] = NULL;
		}
		s->slots[f].capacity = 0;
	}
	for (int k = 0; k < s->nseasons; k++)
	{
		fa_predict_free(frame, s->season[k].count);
		fa_predict_free(frame, s->season[k].steps);
		s->season[k].count = s->season[k].steps = NULL;
	}
	s->nseasons = 0;
	for (int k = 0; k < nseasons; k++)
	{
		Season	   *se = &s->season[k];
		size_t		n;

		se->period = period[k];
		se->width = (period[k] + MAX_SLOTS - 1) / MAX_SLOTS;
		se->nslots = (period[k] + se->width - 1) / se->width;
		se->keep = pow(keep, 1.0 / se->width);
		n = (size_t) se->nslots * frame->nnodes;
		se->count = fa_predict_alloc(frame, n, sizeof(double));
		se->steps = fa_predict_alloc(frame, n, sizeof(double));
		s->nseasons = k + 1;
	}
}

static void
search_seasons(FaFrame *frame, Seasonal *s)
{
	int			period[MAX_SEASONS];
	int			n;
	bool		same;
	int64_t		wait = (int64_t) (frame->nsteps / 8);

	if (wait > frame->config.max_season)
		wait = frame->config.max_season;
	s->next_search = (int64_t) frame->nsteps + (wait < 8 ? 8 : wait);
	n = fa_predict_history_seasons(frame, &s->history, period, MAX_SEASONS);
	same = n == s->nseasons;
	for (int k = 0; k < n && same; k++)
		same = period[k] == s->season[k].period;
	if (same)
	{
		s->nempty = 0;
		return;
	}
	/* keep a season that one search alone does not see any more */
	if (n < s->nseasons && ++s->nempty < 2)
		return;
	s->nempty = 0;
	set_seasons(frame, s, period, n);
	fa_predict_history_replay(frame, &s->history, fill_slots, s);
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

/*
 * The nodes' totals at a step: how each season's slot tilts what came before
 * it (nnodes x MAX_SEASONS), and the rate in the end.
 */
static void
site_chain(FaFrame *frame, Seasonal *s, int64_t target, double *tilt,
		   double *rate)
{
	double		total = 0;

	for (int n = 0; n < frame->nnodes; n++)
	{
		rate[n] = s->site_rate[n];
		total += rate[n];
		for (int k = 0; k < MAX_SEASONS; k++)
			tilt[(size_t) n * MAX_SEASONS + k] = 1;
	}
	for (int k = 0; k < s->nseasons && total > 0; k++)
	{
		const Season *se = &s->season[k];
		size_t		at = (size_t) slot_of(se, target) * frame->nnodes;
		double		kappa = SITE_CONCENTRATION / total;

		total = 0;
		for (int n = 0; n < frame->nnodes; n++)
		{
			double		v = (se->count[at + n] + kappa * rate[n]) /
				(se->steps[at + n] + kappa);

			tilt[(size_t) n * MAX_SEASONS + k] = v > 0 ? v / rate[n] : 1;
			rate[n] = v;
			total += v;
		}
	}
}

/* The fragment's rates along the chain, cell by cell; see the file's head. */
static void
chain(FaFrame *frame, const Seasonal *s, const FaView *view,
	  const double *tilt, double *v, double *local, double *rate)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	const Slots *sl = &s->slots[view->fragment];
	int			nc = fr->ncells;
	double		total = view->base_total;

	for (int i = 0; i < nc; i++)
		v[i] = view->base[i];
	for (int k = 0; k < s->nseasons; k++)
	{
		const Season *se = &s->season[k];
		size_t		slot = slot_of(se, view->target);
		const float *c = sl->count[k] == NULL ? NULL :
			sl->count[k] + slot * sl->capacity;
		double		returns = (double) (view->target - sl->since) / se->period *
			se->width;
		double		most = (1 - pow(se->keep, returns)) / (1 - se->keep);
		double		prior = 0;
		double		kappa;

		/* the unseen nodes' part follows the total */
		for (int i = 0; i < nc; i++)
			prior += v[i] * tilt[(size_t) fr->node[i] * MAX_SEASONS + k];
		if (!(prior > 0))
			prior = total;
		kappa = CONCENTRATION / prior;
		total = 0;
		for (int i = 0; i < nc; i++)
		{
			double		before = v[i] *
				tilt[(size_t) fr->node[i] * MAX_SEASONS + k];
			double		steps = se->steps[slot * frame->nnodes + fr->node[i]];

			v[i] = before;
			if (c != NULL && i < sl->capacity)
			{
				if (steps > most)
					steps = most;
				v[i] = (c[i] + kappa * before) / (steps + kappa);
			}
			if (!(v[i] > 1e-30))
				v[i] = 1e-30;
			if (local != NULL && before > 0)
				local[(size_t) i * frame->nlocal + k] = log(v[i] / before);
			if (rate != NULL)
				rate[(size_t) i * frame->nrate + k] = log1p(v[i]);
			total += v[i];
		}
		if (local != NULL && c != NULL)
		{
			double		steps = 0;

			for (int n = 0; n < frame->nnodes; n++)
			{
				double		st = se->steps[slot * frame->nnodes + n];

				steps = st > steps ? st : steps;
			}
			if (steps > most)
				steps = most;
			local[(size_t) nc * frame->nlocal + k] = log(kappa / (steps + kappa));
		}
	}
	for (int k = s->nseasons; k < MAX_SEASONS && rate != NULL; k++)
		for (int i = 0; i < nc; i++)
			rate[(size_t) i * frame->nrate + k] = log1p(v[i]);
}

static void
learn_levels(FaFrame *frame, Seasonal *s)
{
	double	   *tilt = s->tilt[FA_PREDICT_MAX_HORIZONS];
	FaView		view;

	site_chain(frame, s, frame->step, tilt, s->scratch);
	for (int n = 0; n < frame->nnodes; n++)
	{
		double	   *l = s->level + (size_t) n * NLEVELS * 2;

		for (int k = 0; k < NLEVELS; k++)
		{
			l[2 * k] = l[2 * k] * s->keep[k] +
				(frame->known[n] ? frame->site_y[n] : 0);
			l[2 * k + 1] = l[2 * k + 1] * s->keep[k] +
				(frame->known[n] ? s->scratch[n] : 0);
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
		fa_predict_static.fragment(frame, frame->model[FA_MODEL_STATIC], &view,
								   frame->view_local, frame->view_rate);
		chain(frame, s, &view, tilt, expected, NULL, NULL);
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

	fa_predict_static_rates(frame, frame->model[FA_MODEL_STATIC],
							s->site_rate);
	learn_levels(frame, s);
	fill_slots(frame, s, frame->step, frame->known);
	fa_predict_history_add(frame, &s->history);
}

static void
seasonal_site(FaFrame *frame, void *model, int h, int64_t target,
			  double *signal)
{
	Seasonal   *s = model;

	if (frame->nsteps >= s->next_search && frame->config.max_season >= 2)
		search_seasons(frame, s);
	site_chain(frame, s, target, s->tilt[h], s->scratch);
	for (int n = 0; n < frame->nnodes; n++)
	{
		const double *l = s->level + (size_t) n * NLEVELS * 2;
		double	   *v = signal + (size_t) n * frame->nsite;

		for (int k = 0; k < MAX_SEASONS; k++)
			v[k] = log(s->tilt[h][(size_t) n * MAX_SEASONS + k]);
		for (int k = 0; k < NLEVELS; k++)
			v[MAX_SEASONS + k] = log((l[2 * k] + SITE_CONCENTRATION) /
									 (l[2 * k + 1] + SITE_CONCENTRATION));
	}
}

static void
seasonal_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				  double *rate)
{
	Seasonal   *s = model;
	const FaFragment *fr = &frame->fragment[view->fragment];
	double	   *v = view->scratch + (fr->ncells + 1);

	chain(frame, s, view, s->tilt[view->h], v, local, rate);
	for (int i = 0; i < fr->ncells; i++)
	{
		const double *l = fa_predict_cell(frame, fr, i, FA_MODEL_SEASONAL);
		const double *site = frame->site[view->h] +
			(size_t) fr->node[i] * frame->nsite +
			frame->site_at[FA_MODEL_SEASONAL];
		double		slow = 0;

		for (int k = 0; k < NLEVELS; k++)
		{
			double		e = log((l[2 * k] + LEVEL_CONCENTRATION) /
								(l[2 * k + 1] + LEVEL_CONCENTRATION));

			local[(size_t) i * frame->nlocal + MAX_SEASONS + k] = e;
			if (k == 0)
				slow = e;
		}
		rate[(size_t) i * frame->nrate + MAX_SEASONS] =
			log1p(v[i] * exp(slow)) - log1p(v[i]);
		rate[(size_t) i * frame->nrate + MAX_SEASONS + 1] =
			log1p(v[i] * exp(site[MAX_SEASONS + 1])) - log1p(v[i]);
	}
}

int
fa_predict_seasonal_list(const FaFrame *frame, const void *model, int *seasons,
						 int max)
{
	const Seasonal *s = model;
	int			n = 0;

	(void) frame;
	for (int k = s->nseasons - 1; k >= 0 && n < max; k--)
		seasons[n++] = s->season[k].period;
	return n;
}

static void
seasonal_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Seasonal   *s = model;
	int			period[MAX_SEASONS] = {0};
	int32_t		v = s->nseasons;

	fa_predict_ar_i64(ar, &s->next_search);
	fa_predict_ar_i32(ar, &s->nempty);
	fa_predict_ar_i32(ar, &v);
	if (v < 0 || v > MAX_SEASONS)
		ar->failed = true;
	for (int k = 0; k < v && !ar->failed; k++)
	{
		period[k] = s->season[k].period;
		fa_predict_ar_i32(ar, &period[k]);
		if (period[k] < 2 || period[k] > frame->config.max_season)
			ar->failed = true;
	}
	if (ar->failed)
		return;
	if (ar->reading)
		set_seasons(frame, s, period, v);
	for (int k = 0; k < s->nseasons && !ar->failed; k++)
	{
		size_t		n = (size_t) s->season[k].nslots * frame->nnodes;

		fa_predict_ar_doubles(ar, s->season[k].count, n);
		fa_predict_ar_doubles(ar, s->season[k].steps, n);
	}
	fa_predict_ar_doubles(ar, s->level, (size_t) frame->nnodes * NLEVELS * 2);
	fa_predict_ar_doubles(ar, s->site_rate, frame->nnodes);
	for (int i = 0; i < frame->nactive && !ar->failed; i++)
	{
		Slots	   *sl = &s->slots[frame->active[i]];
		FaFragment *fr = &frame->fragment[frame->active[i]];
		int32_t		cap = sl->capacity;

		fa_predict_ar_i32(ar, &cap);
		if (cap == 0)
			continue;
		fa_predict_ar_i64(ar, &sl->since);
		if (cap < 0 || cap > fr->capacity || s->nseasons == 0)
			ar->failed = true;
		for (int k = 0; k < s->nseasons && !ar->failed; k++)
		{
			size_t		n = (size_t) s->season[k].nslots * cap;

			if (!fa_predict_ar_room(ar, n, 4))
				break;
			if (ar->reading)
				sl->count[k] = fa_predict_alloc(frame, n, sizeof(float));
			fa_predict_ar_floats(ar, sl->count[k], n);
		}
		if (ar->reading && !ar->failed)
			sl->capacity = cap;
	}
	if (!ar->failed)
		fa_predict_history_archive(frame, &s->history, ar);
}

const FaModelOps fa_predict_seasonal = {
	.name = "seasonal",
	.cell_doubles = NLEVELS * 2,
	.nsite = NSIGNALS,
	.nlocal = NSIGNALS,
	.nrate = NRATES,
	.site_start = start,
	.local_start = start,
	.rate_start = rate_start,
	.create = seasonal_create,
	.resize = seasonal_resize,
	.skip = seasonal_skip,
	.observe = seasonal_observe,
	.site = seasonal_site,
	.fragment = seasonal_fragment,
	.archive = seasonal_archive,
};
