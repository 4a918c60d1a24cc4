/*
 * model_holt.c
 *	  Holt-Winters: a level, a damped trend and a season for every cell.
 *
 * In additive form (Winters 1960, with the damped trend of Gardner and
 * McKenzie 1985) on z = ln(1 + accesses), where it is multiplicative in effect
 * and a burst does not throw it.  The season is the longest that was found in
 * the data, in at most MOST_SLOTS slots; when it changes, the recent history
 * is gone through again.  Gains start as those of a mean and end as constants.
 *
 * A step in which a node is unknown moves the level along the trend and
 * teaches nothing.  Seasons have a budget of bytes: cells that came after it
 * was used up have a level and a trend only.
 */
#include <math.h>
#include <string.h>

#include "predict/seasonal.h"

#define MOST_SLOTS		168
#define MOST_FLOATS		((size_t) 16 << 20) /* of all cells' seasons */
#define MOST_REPLAYED	20000000.0	/* cells x steps, when a season is new */
#define LEVEL_GAIN		0.06
#define TREND_GAIN		0.003
#define SEASON_GAIN		0.12	/* at each return of a slot */
#define DAMPING			0.95	/* of the trend, a step */
#define MOST_LOG		45.0
#define LEAST			0.01	/* accesses that make no difference */

enum
{
	LEVEL, TREND, SEASON		/* where a series' numbers lie */
};

typedef struct Series
{
	int32_t		ncells;
	int32_t		nslots;			/* s->nslots, or 0: no season */
	float	   *v;				/* ncells x (SEASON + nslots) */
} Series;

typedef struct Holt
{
	int32_t		period;			/* 0: no season was found */
	int32_t		width;			/* steps in a slot */
	int32_t		nslots;
	int64_t		since;			/* steps taken with this season */
	size_t		floats;			/* used by the fragments' seasons */
	Series	   *series;			/* by fragment */
	Series		site;			/* nodes' totals; a cell each */
	double	   *rate;			/* scratch: nodes' long-run accesses per step */
} Holt;

static const double start[] = {0.3};
static const double rate_start[] = {1};

static void *
holt_create(FaFrame *frame)
{
	Holt	   *s = fa_predict_alloc(frame, 1, sizeof(Holt));

	s->series = fa_predict_alloc(frame, frame->nfragments, sizeof(Series));
	s->rate = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	return s;
}

static inline float *
cell_of(const Series *se, int c)
{
	return se->v + (size_t) c * (SEASON + se->nslots);
}

/* Room for n cells; the first access finds them at zero. */
static void
fit(FaFrame *frame, Holt *s, Series *se, int n, bool limited)
{
	size_t		more = (size_t) (n - se->ncells) * s->nslots;

	if (n <= se->ncells)
		return;
	if (se->ncells == 0)
		se->nslots = limited && s->floats + more > MOST_FLOATS ? 0 : s->nslots;
	se->v = fa_predict_grow(frame, se->v,
							(size_t) se->ncells * (SEASON + se->nslots),
							(size_t) n * (SEASON + se->nslots), sizeof(float));
	se->ncells = n;
	if (limited && se->nslots > 0)
		s->floats += more;
}

static void
holt_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Holt	   *s = model;

	s->series = fa_predict_grow(frame, s->series, old_nfragments,
								frame->nfragments, sizeof(Series));
	if (frame->nnodes == old_nnodes)
		return;
	s->rate = fa_predict_grow(frame, s->rate, old_nnodes, frame->nnodes,
							  sizeof(double));
	fit(frame, s, &s->site, frame->nnodes, false);
}

static int
slot_of(const Holt *s, int64_t step)
{
	int64_t		phase = s->period > 0 ? step % s->period : 0;

	return (int) ((phase < 0 ? phase + s->period : phase) /
				  (s->width > 0 ? s->width : 1));
}

/* What a cell is expected to have, as ln(1 + accesses), so many steps on. */
static double
ahead(const Series *se, int c, int slot, double steps)
{
	const float *v = cell_of(se, c);
	double		z = v[LEVEL] + v[TREND] * DAMPING *
		(1 - pow(DAMPING, steps)) / (1 - DAMPING);

	if (se->nslots > 0)
		z += v[SEASON + slot];
	return z < 0 ? 0 : z > MOST_LOG ? MOST_LOG : z;
}

/* Time goes on without a look. */
static void
drift(Series *se, int c, double steps)
{
	float	   *v = cell_of(se, c);
	double		keep = pow(DAMPING, steps);

	v[LEVEL] += (float) (v[TREND] * DAMPING * (1 - keep) / (1 - DAMPING));
	v[TREND] *= (float) keep;
}

static void
learn(Series *se, int c, int slot, double y, double level_gain,
	  double season_gain)
{
	float	   *v = cell_of(se, c);
	double		moved = v[LEVEL] + DAMPING * v[TREND];
	double		error = (y > 0 ? fa_predict_ln1p(y) : 0) - moved -
		(se->nslots > 0 ? v[SEASON + slot] : 0);

	v[LEVEL] = (float) (moved + level_gain * error);
	v[TREND] = (float) (DAMPING * v[TREND] + TREND_GAIN * error);
	if (se->nslots > 0)
		v[SEASON + slot] += (float) (season_gain * error);
}

/* Learns one step's y, now or in a replay. */
static void
take(FaFrame *frame, void *model, int64_t step, const bool *known)
{
	Holt	   *s = model;
	int			slot = slot_of(s, step);
	double		returns = s->period > 0 ?
		floor((double) s->since / s->period) : 0;
	double		season_gain = fmax(SEASON_GAIN, 1 / (returns + 2)) /
		(s->width > 0 ? s->width : 1);

	for (int n = 0; n < frame->nnodes; n++)
	{
		if (known[n])
			learn(&s->site, n, slot, frame->site_y[n],
				  fmax(LEVEL_GAIN, 1 / ((double) s->since + 1)), season_gain);
		else
			drift(&s->site, n, 1);
	}
	for (int i = 0; i < frame->nactive; i++)
	{
		const FaFragment *fr = &frame->fragment[frame->active[i]];
		Series	   *se = &s->series[frame->active[i]];
		double		age = (double) (step - fr->born);

		if (age < 0)
			continue;
		if (se->ncells < fr->ncells)
			fit(frame, s, se, fr->ncells, true);
		for (int c = 0; c < fr->ncells; c++)
		{
			if (known[fr->node[c]])
				learn(se, c, slot, fr->y[c],
					  fmax(LEVEL_GAIN, 1 / (age + 1)), season_gain);
			else
				drift(se, c, 1);
		}
	}
	s->since++;
}

/* A replay goes through the end of the history only, as far as it may. */
typedef struct Replay
{
	Holt	   *holt;
	int64_t		from;
} Replay;

static void
replay_take(FaFrame *frame, void *arg, int64_t step, const bool *known)
{
	Replay	   *replay = arg;

	if (step >= replay->from)
		take(frame, replay->holt, step, known);
}

/* Starts anew with the season found, from the history kept. */
static void
set_season(FaFrame *frame, Holt *s, int period)
{
	Replay		replay = {.holt = s};
	double		cells = frame->nnodes;
	double		steps;

	s->period = period;
	s->width = (period + MOST_SLOTS - 1) / MOST_SLOTS;
	s->nslots = period > 0 ? (period + s->width - 1) / s->width : 0;
	s->since = 0;
	s->floats = 0;
	for (int f = 0; f < frame->nfragments; f++)
	{
		float	   *old = s->series[f].v;

		cells += frame->fragment[f].ncells;
		s->series[f] = (Series) {0};
		fa_predict_free(frame, old);
	}
	fa_predict_free(frame, s->site.v);
	s->site = (Series) {0};
	fit(frame, s, &s->site, frame->nnodes, false);
	steps = fmin(MOST_REPLAYED / cells, 1e9);
	replay.from = frame->last_step - (int64_t) steps;
	fa_predict_seasonal_replay(frame, frame->model[FA_MODEL_SEASONAL],
							   replay_take, &replay);
}

static void
holt_skip(FaFrame *frame, void *model, int64_t steps)
{
	Holt	   *s = model;

	for (int n = 0; n < s->site.ncells; n++)
		drift(&s->site, n, (double) steps);
	for (int i = 0; i < frame->nactive; i++)
	{
		Series	   *se = &s->series[frame->active[i]];

		for (int c = 0; c < se->ncells; c++)
			drift(se, c, (double) steps);
	}
	s->since += steps;
}

static void
holt_observe(FaFrame *frame, void *model)
{
	Holt	   *s = model;

	if (s->site.ncells < frame->nnodes)
		fit(frame, s, &s->site, frame->nnodes, false);
	take(frame, s, frame->step, frame->known);
}

static void
holt_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	Holt	   *s = model;
	int			period = 0;
	int			slot;

	/* seasons are looked for when the seasonal model is asked, just before */
	(void) fa_predict_seasonal_list(frame, frame->model[FA_MODEL_SEASONAL],
									&period, 1);
	if (h == 0 && period != s->period)
		set_season(frame, s, period);
	if (s->site.ncells < frame->nnodes)
		return;
	slot = slot_of(s, target);
	fa_predict_static_rates(frame, frame->model[FA_MODEL_STATIC], s->rate);
	for (int n = 0; n < frame->nnodes; n++)
		signal[(size_t) n * frame->nsite] =
			log((expm1(ahead(&s->site, n, slot,
							 (double) (target - frame->last_step))) + LEAST) /
				(s->rate[n] + LEAST));
}

static void
holt_fragment(FaFrame *frame, void *model, FaView *view, double *local,
			  double *rate)
{
	Holt	   *s = model;
	const Series *se = &s->series[view->fragment];
	int			slot = slot_of(s, view->target);

	for (int c = 0; c < view->ncells && c < se->ncells; c++)
	{
		double		z = ahead(se, c, slot,
							  (double) (view->target - frame->last_step));

		local[(size_t) c * frame->nlocal] =
			log((expm1(z) + LEAST) / (view->base[c] + LEAST));
		rate[(size_t) c * frame->nrate] = z;
	}
}

static void
archive_series(FaFrame *frame, Holt *s, Series *se, int most, bool limited,
			   FaArchive *ar)
{
	int32_t		ncells = se->ncells;
	int32_t		nslots = se->nslots;

	fa_predict_ar_i32(ar, &ncells);
	fa_predict_ar_i32(ar, &nslots);
	if (ncells < 0 || ncells > most || (nslots != 0 && nslots != s->nslots) ||
		!fa_predict_ar_room(ar, (uint64_t) ncells * (SEASON + nslots), 4))
	{
		ar->failed = true;
		return;
	}
	if (ar->reading && ncells > 0)
	{
		fa_predict_free(frame, se->v);
		se->v = fa_predict_alloc(frame, (size_t) ncells * (SEASON + nslots),
								 sizeof(float));
		se->ncells = ncells;
		se->nslots = nslots;
		if (limited)
			s->floats += (size_t) ncells * nslots;
	}
	fa_predict_ar_floats(ar, se->v, (size_t) ncells * (SEASON + nslots));
}

static void
holt_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Holt	   *s = model;

	fa_predict_ar_i32(ar, &s->period);
	fa_predict_ar_i32(ar, &s->width);
	fa_predict_ar_i32(ar, &s->nslots);
	fa_predict_ar_i64(ar, &s->since);
	if (s->period < 0 || s->width < 0 || s->nslots < 0 ||
		s->nslots > MOST_SLOTS || s->since < 0 ||
		s->nslots * (int64_t) s->width < s->period)
		ar->failed = true;
	if (!ar->failed)
		archive_series(frame, s, &s->site, frame->nnodes, false, ar);
	for (int i = 0; i < frame->nactive && !ar->failed; i++)
	{
		int			f = frame->active[i];

		archive_series(frame, s, &s->series[f], frame->fragment[f].ncells,
					   true, ar);
	}
}

const FaModelOps fa_predict_holt = {
	.name = "holtwinters",
	.cell_doubles = 0,
	.nsite = 1,
	.nlocal = 1,
	.nrate = 1,
	.site_start = start,
	.local_start = start,
	.rate_start = rate_start,
	.create = holt_create,
	.resize = holt_resize,
	.skip = holt_skip,
	.observe = holt_observe,
	.site = holt_site,
	.fragment = holt_fragment,
	.archive = holt_archive,
};
