/*
 * model_lstm.c
 *	  One recurrent network over the cells of the busiest fragments.
 *
 * Each step it reads, for every cell, what the other models say of it (their
 * signals at the first horizon, which hold slot means, levels and the node's
 * totals), and has a score for each horizon.  Scores correct the sum of the
 * others' signals: shares ~ exp(sum + score), and the likelihood of what came
 * is what they are trained on, a sample of fragments a step, each through the
 * last WINDOW steps before the forecast.
 *
 * Memory and time are bounded: MOST_CELLS cells are followed, those of the
 * fragments that were first to have LEAST_ACCESSES, and horizons up to
 * MOST_AHEAD steps: farther ahead it did not help on any trace.  All others
 * have score 0, which says nothing.
 */
#include <math.h>
#include <string.h>

#include "predict/lstm.h"

#define MOST_CELLS		1024
#define LEAST_ACCESSES	64
#define MOST_AHEAD		8
#define WINDOW			4
#define RATE			0.002
#define RING			(MOST_AHEAD + WINDOW)
#define MOST_SCORE		4.0
#define NDENSE			(FA_MAX_SIGNALS + 2)

/* What a cell's forecast of one step was made from. */
typedef struct Past
{
	int64_t		step;
	float		base;			/* sum of the others' signals */
	float		dense[NDENSE];
	FaLstmState before;
} Past;

typedef struct Cell
{
	FaLstmState state;
	float		score[FA_PREDICT_MAX_HORIZONS];
	Past		past[RING];		/* by step, modulo */
} Cell;

typedef struct Tracked
{
	int32_t		fragment;
	int32_t		ncells;
	int64_t		since;			/* first step that it read */
	Cell	   *cell;
} Tracked;

typedef struct Series
{
	FaLstm	   *lstm;
	int			ninputs;
	int32_t		ntracked;
	int32_t		ncells;
	Tracked    *tracked;		/* MOST_CELLS */
	int32_t    *place;			/* by fragment: tracked + 1, 0 for none */
	int64_t		draws;			/* state of the sampling */
	int			sample;			/* fragments learned from, each step */
	float		dout[WINDOW * FA_PREDICT_MAX_HORIZONS];
} Series;

static const double start[] = {0.5};

static void *
lstm_create(FaFrame *frame)
{
	Series	   *s = fa_predict_alloc(frame, 1, sizeof(Series));

	s->ninputs = frame->nsite + frame->nlocal + 2;
	s->sample = FA_PREDICT_TRAINING;
	if (fa_predict_model_on(frame, FA_MODEL_LSTM))
	{
		s->lstm = fa_lstm_create(&frame->memory, s->ninputs, 0,
								 frame->config.nhorizons, frame->config.seed);
		s->tracked = fa_predict_alloc(frame, MOST_CELLS, sizeof(Tracked));
		s->place = fa_predict_alloc(frame, frame->nfragments, sizeof(int32_t));
	}
	return s;
}

void
fa_predict_lstm_train(void *model, int fragments)
{
	Series	   *s = model;

	s->sample = fragments < 0 ? 0 : fragments < FA_PREDICT_TRAINING ?
		fragments : FA_PREDICT_TRAINING;
}

/* New weights; the cells are followed anew. */
void
fa_predict_lstm_reset(FaFrame *frame, void *model)
{
	Series	   *s = model;

	if (s->lstm == NULL)
		return;
	fa_lstm_reset(s->lstm, frame->config.seed);
	for (int i = 0; i < s->ntracked; i++)
	{
		Tracked    *t = &s->tracked[i];

		s->place[t->fragment] = 0;
		fa_predict_free(frame, t->cell);
		t->cell = NULL;
	}
	s->ntracked = s->ncells = 0;
}

static void
lstm_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Series	   *s = model;

	(void) old_nnodes;
	if (s->lstm != NULL && frame->nfragments > old_nfragments)
		s->place = fa_predict_grow(frame, s->place, old_nfragments,
								   frame->nfragments, sizeof(int32_t));
}

static void
lstm_skip(FaFrame *frame, void *model, int64_t steps)
{
	(void) frame;
	(void) model;
	(void) steps;
}

/* Follows the fragment's cells, from nothing when they have become more. */
static void
track(FaFrame *frame, Series *s, int fragment)
{
	const FaFragment *fr = &frame->fragment[fragment];
	Tracked    *t;
	int			had = 0;

	if (s->place[fragment] == 0)
	{
		if (fr->accesses < LEAST_ACCESSES ||
			s->ncells + fr->ncells > MOST_CELLS)
			return;
		s->tracked[s->ntracked] = (Tracked) {.fragment = fragment};
		s->place[fragment] = ++s->ntracked;
	}
	t = &s->tracked[s->place[fragment] - 1];
	had = t->ncells;
	if (had == fr->ncells || s->ncells + fr->ncells - had > MOST_CELLS)
		return;
	t->cell = fa_predict_grow(frame, t->cell, had, fr->ncells, sizeof(Cell));
	t->ncells = fr->ncells;
	t->since = frame->last_step;
	s->ncells += fr->ncells - had;
}

static Past *
past_of(Cell *cell, int64_t step)
{
	int64_t		at = step % RING;

	return &cell->past[at < 0 ? at + RING : at];
}

/* Reads the step that was just taken. */
static void
lstm_advance(FaFrame *frame, void *model)
{
	Series	   *s = model;
	int			others = frame->local_at[FA_MODEL_LSTM];

	for (int i = 0; i < frame->nactive && s->ncells < MOST_CELLS; i++)
		track(frame, s, frame->active[i]);
	for (int i = 0; i < s->ntracked; i++)
	{
		Tracked    *t = &s->tracked[i];
		const FaFragment *fr = &frame->fragment[t->fragment];
		FaView		view;

		fa_predict_view(frame, t->fragment, 0, &view);
		for (int c = 0; c < t->ncells; c++)
		{
			Cell	   *cell = &t->cell[c];
			Past	   *p = past_of(cell, frame->last_step);
			const double *local = view.local + (size_t) c * frame->nlocal;
			const double *site = frame->site[0] +
				(size_t) fr->node[c] * frame->nsite;
			const double *rate = view.rate + (size_t) c * frame->nrate;
			double		sum = 0;
			int			n = 0;

			for (int k = 0; k < frame->nsite; k++)
			{
				sum += k < frame->site_at[FA_MODEL_RECENT] ||
					(k >= frame->site_at[FA_MODEL_SEASONAL] &&
					 k < frame->site_at[FA_MODEL_SEASONAL + 1]) ? site[k] : 0;
				p->dense[n++] = (float) (site[k] / 2);
			}
			for (int k = 0; k < frame->nlocal; k++)
			{
				sum += k < frame->local_at[FA_MODEL_RECENT] ||
					(k >= frame->local_at[FA_MODEL_SEASONAL] &&
					 k < frame->local_at[FA_MODEL_SEASONAL + 1]) ?
					local[k] : 0;
				p->dense[n++] = k < others ? (float) (local[k] / 2) : 0;
			}
			p->dense[n++] = (float) (rate[frame->rate_at[FA_MODEL_STATIC]] / 4);
			p->dense[n++] = (float) (log1p(view.base_total) / 4);
			p->step = frame->last_step;
			p->base = (float) sum;
			p->before = cell->state;
			fa_lstm_forward(s->lstm, 0, &cell->state, p->dense, NULL,
							&cell->state);
			fa_lstm_out(s->lstm, &cell->state, cell->score);
		}
	}
}

/*
 * The cell's scores at step origin, as the network would have them now; the
 * window is left for learning.
 */
static bool
look_back(Series *s, Cell *cell, int64_t origin, float *score, float *base_p)
{
	FaLstmState state = {{0}, {0}};

	for (int t = 0; t < WINDOW; t++)
	{
		Past	   *p = past_of(cell, origin - WINDOW + 1 + t);

		if (p->step != origin - WINDOW + 1 + t)
			return false;
		if (t == 0)
			state = p->before;
		fa_lstm_forward(s->lstm, t, &state, p->dense, NULL, &state);
		*base_p = p->base;
	}
	fa_lstm_out(s->lstm, &state, score);
	return true;
}

/* Learns what came of a fragment's forecast for horizon h. */
static bool
learn(FaFrame *frame, Series *s, Tracked *t, int h)
{
	const FaFragment *fr = &frame->fragment[t->fragment];
	int64_t		origin = frame->step - frame->config.horizons[h];
	int			n = t->ncells < fr->ncells ? t->ncells : fr->ncells;
	double	   *p = frame->dense;
	double		top = -HUGE_VAL;
	double		sum = 0;
	double		total = 0;
	double		weight;

	if (origin - WINDOW + 1 < t->since)
		return false;
	for (int c = 0; c < n; c++)
	{
		float		score[FA_PREDICT_MAX_HORIZONS];
		float		base = 0;

		p[c] = -HUGE_VAL;
		if (!frame->known[fr->node[c]])
			continue;
		if (!look_back(s, &t->cell[c], origin, score, &base))
			return false;
		p[c] = base + score[h];
		top = p[c] > top ? p[c] : top;
		total += fr->y[c];
	}
	if (!(total > 0))
		return false;
	for (int c = 0; c < n; c++)
		sum += p[c] = exp(p[c] - top);
	weight = 1 / (1 + total / 16);
	for (int c = 0; c < n; c++)
	{
		float		score[FA_PREDICT_MAX_HORIZONS];
		float		base;
		double		d = (total * p[c] / sum - fr->y[c]) * weight;

		if (!frame->known[fr->node[c]] || d == 0)
			continue;
		(void) look_back(s, &t->cell[c], origin, score, &base);
		memset(s->dout, 0, sizeof(s->dout));
		s->dout[(WINDOW - 1) * s->lstm->nout + h] = (float) d;
		fa_lstm_backward(s->lstm, WINDOW, s->dout);
	}
	return true;
}

static void
lstm_observe(FaFrame *frame, void *model)
{
	Series	   *s = model;
	bool		any = false;

	for (int h = 0; h < frame->config.nhorizons && s->ntracked > 0 &&
		 frame->learning; h++)
	{
		int			n = s->sample < s->ntracked ? s->sample : s->ntracked;

		if (frame->config.horizons[h] > MOST_AHEAD)
			continue;
		for (int i = 0; i < n; i++)
		{
			uint64_t	x = (uint64_t) ++s->draws *
				UINT64_C(0x9E3779B97F4A7C15) + frame->config.seed;

			x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
			x ^= x >> 29;
			any |= learn(frame, s, &s->tracked[n == s->ntracked ? i :
											   (int) (x % (uint64_t) s->ntracked)], h);
		}
	}
	if (any)
		fa_lstm_update(s->lstm, RATE);
}

static void
lstm_site(FaFrame *frame, void *model, int h, int64_t target, double *signal)
{
	(void) frame;
	(void) model;
	(void) h;
	(void) target;
	(void) signal;
}

static void
lstm_fragment(FaFrame *frame, void *model, FaView *view, double *local,
			  double *rate)
{
	Series	   *s = model;
	int			h = fa_predict_nearest_horizon(frame, view->target -
											   frame->last_step);
	const Tracked *t;

	(void) rate;
	if (frame->config.horizons[h] > MOST_AHEAD ||
		s->place[view->fragment] == 0)
		return;
	t = &s->tracked[s->place[view->fragment] - 1];
	for (int c = 0; c < t->ncells && c < view->ncells; c++)
	{
		double		v = t->cell[c].score[h];

		local[(size_t) c * frame->nlocal] = v > MOST_SCORE ? MOST_SCORE :
			v < -MOST_SCORE ? -MOST_SCORE : v == v ? v : 0;
	}
}

static void
archive_cell(Series *s, Cell *cell, FaArchive *ar)
{
	fa_predict_ar_floats(ar, cell->state.h, FA_LSTM_HIDDEN);
	fa_predict_ar_floats(ar, cell->state.c, FA_LSTM_HIDDEN);
	fa_predict_ar_floats(ar, cell->score, FA_PREDICT_MAX_HORIZONS);
	for (int i = 0; i < RING && !ar->failed; i++)
	{
		Past	   *p = &cell->past[i];

		fa_predict_ar_i64(ar, &p->step);
		fa_predict_ar_floats(ar, &p->base, 1);
		fa_predict_ar_floats(ar, p->dense, s->ninputs);
		fa_predict_ar_floats(ar, p->before.h, FA_LSTM_HIDDEN);
		fa_predict_ar_floats(ar, p->before.c, FA_LSTM_HIDDEN);
	}
}

static void
lstm_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Series	   *s = model;
	int32_t		n = s->ntracked;

	if (s->lstm == NULL)
		return;
	fa_lstm_archive(s->lstm, ar);
	fa_predict_ar_i64(ar, &s->draws);
	fa_predict_ar_i32(ar, &n);
	if (n < 0 || n > MOST_CELLS)
		ar->failed = true;
	for (int i = 0; i < n && !ar->failed; i++)
	{
		Tracked    *t = &s->tracked[i];
		int32_t		fragment = t->fragment;
		int32_t		ncells = t->ncells;

		fa_predict_ar_i32(ar, &fragment);
		fa_predict_ar_i32(ar, &ncells);
		fa_predict_ar_i64(ar, &t->since);
		if (fragment < 0 || fragment >= frame->nfragments || ncells < 1 ||
			ncells > frame->fragment[fragment].ncells ||
			(ar->reading && (s->place[fragment] != 0 ||
							 s->ncells + ncells > MOST_CELLS)) ||
			!fa_predict_ar_room(ar, ncells, sizeof(float) * FA_LSTM_HIDDEN * RING))
		{
			ar->failed = true;
			return;
		}
		if (ar->reading)
		{
			t->fragment = fragment;
			t->cell = fa_predict_alloc(frame, ncells, sizeof(Cell));
			t->ncells = ncells;
			s->ntracked = s->place[fragment] = i + 1;
			s->ncells += ncells;
		}
		for (int c = 0; c < t->ncells && !ar->failed; c++)
			archive_cell(s, &t->cell[c], ar);
	}
}

const FaModelOps fa_predict_lstm = {
	.name = "lstm",
	.cell_doubles = 0,
	.nsite = 0,
	.nlocal = 1,
	.nrate = 0,
	.site_start = start,
	.local_start = start,
	.rate_start = start,
	.create = lstm_create,
	.resize = lstm_resize,
	.skip = lstm_skip,
	.observe = lstm_observe,
	.site = lstm_site,
	.fragment = lstm_fragment,
	.advance = lstm_advance,
	.archive = lstm_archive,
};
