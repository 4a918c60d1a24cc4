/*
 * pending.c
 *	  Forecasts wait here for their step, are scored, and teach the pools.
 *
 * What is kept of a forecast are the signals and the weights they had, from
 * which every head's distribution follows.  A horizon of H steps has up to H
 * sets in flight; where the budget does not hold them, a set keeps a random
 * part of the fragments (chosen by a hash, before the outcome is known) and
 * origins are thinned out.
 */
#include <math.h>
#include <string.h>

#include "predict/pool.h"

#define MAX_SETS		512
#define TINY			1e-12
#define SALT			0x5afe	/* sampling to learn is not sampling to keep */
#define LEARN_FROM		1000	/* fragments a step; all are scored */
#define LOAD_FROM		256		/* the same of a step that is loaded */

typedef struct Entry
{
	int32_t		fragment;
	int32_t		ncells;
	size_t		local;			/* index of the first local signal */
	size_t		rate;
	float		accesses;		/* the fragment had had */
} Entry;

typedef struct Set
{
	struct Set *next;
	int64_t		origin;
	int64_t		target;
	bool		complete;		/* has every fragment alive at its origin */
	int32_t		nentries;
	size_t		nlocal;			/* numbers in local */
	size_t		nrate;
	FaPoolWeights pool;
	FaRateWeights rates;
	Entry	   *entry;
	float	   *site;			/* nnodes x nsite */
	float	   *prior;
	float	   *local;
	float	   *rate;
} Set;

struct FaPending
{
	Set		   *first;			/* by target, ascending */
	Set		   *last;
	int			nsets;
	int			stride;			/* keep one origin in stride */
	size_t		budget;			/* numbers in a set's local and rate */
};

FaPending *
fa_predict_pending_create(FaFrame *frame, int h)
{
	FaPending  *pd = fa_predict_alloc(frame, 1, sizeof(FaPending));
	int			steps = frame->config.horizons[h];
	int			sets;

	pd->stride = (steps + MAX_SETS - 1) / MAX_SETS;
	sets = (steps + pd->stride - 1) / pd->stride;
	pd->budget = frame->config.kept_bytes / frame->config.nhorizons / sets /
		sizeof(float);
	return pd;
}

static void
free_first(FaFrame *frame, FaPending *pd)
{
	Set		   *set = pd->first;

	pd->first = set->next;
	if (pd->first == NULL)
		pd->last = NULL;
	pd->nsets--;
	fa_predict_free(frame, set->entry);
	fa_predict_free(frame, set->site);
	fa_predict_free(frame, set->prior);
	fa_predict_free(frame, set->local);
	fa_predict_free(frame, set->rate);
	fa_predict_free(frame, set);
}

void
fa_predict_pending_drop(FaFrame *frame, int h)
{
	while (frame->pending[h]->first != NULL)
		free_first(frame, frame->pending[h]);
}

static void
alloc_set(FaFrame *frame, Set *set)
{
	set->entry = fa_predict_alloc(frame, set->nentries, sizeof(Entry));
	set->site = fa_predict_alloc(frame, (size_t) frame->nnodes * frame->nsite,
								 sizeof(float));
	set->prior = fa_predict_alloc(frame, frame->nnodes, sizeof(float));
	set->local = fa_predict_alloc(frame, set->nlocal, sizeof(float));
	set->rate = fa_predict_alloc(frame, set->nrate, sizeof(float));
}

static void
append_set(FaPending *pd, Set *set)
{
	if (pd->last != NULL)
		pd->last->next = set;
	else
		pd->first = set;
	pd->last = set;
	pd->nsets++;
}

/* Uniform in [0, 1) from the fragment and the step. */
static double
chance(const FaFrame *frame, int fragment, int64_t step)
{
	uint64_t	x = frame->config.seed ^ (uint64_t) step *
		UINT64_C(0x9E3779B97F4A7C15);

	x ^= (uint64_t) fragment * UINT64_C(0xD1B54A32D192ED03);
	x ^= x >> 32;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 29;
	x *= UINT64_C(0x94D049BB133111EB);
	x ^= x >> 32;
	return (double) (x >> 11) / 9007199254740992.0;
}

/* Keeps the forecasts made now for the horizon's target. */
void
fa_predict_pending_keep(FaFrame *frame, int h)
{
	FaPending  *pd = frame->pending[h];
	int			per_cell = frame->nlocal + frame->nrate;
	double		share = 1;
	size_t		want = 0;
	Set		   *set;

	if (frame->last_step % pd->stride != 0)
		return;
	for (int i = 0; i < frame->nactive; i++)
		want += (size_t) per_cell *
			(frame->fragment[frame->active[i]].ncells + 1);
	if (want > pd->budget)
		share = (double) pd->budget / (double) want;
	/* a loaded step's scores are nobody's */
	if (frame->last_step + frame->config.horizons[h] < frame->load_until)
		share = fmin(share, (double) LOAD_FROM / (frame->nactive + 1));

	set = fa_predict_alloc(frame, 1, sizeof(Set));
	set->origin = frame->last_step;
	set->target = frame->last_step + frame->config.horizons[h];
	set->complete = share >= 1;
	for (int pass = 0; pass < 2; pass++)
	{
		if (pass == 1)
			alloc_set(frame, set);
		set->nentries = 0;
		set->nlocal = set->nrate = 0;
		for (int i = 0; i < frame->nactive; i++)
		{
			int			f = frame->active[i];
			int			nc = frame->fragment[f].ncells;
			size_t		nl = (size_t) (nc + 1) * frame->nlocal;
			size_t		nr = (size_t) nc * frame->nrate;

			if (share < 1 && chance(frame, f, frame->last_step) >= share)
				continue;
			if (pass == 1)
			{
				FaView		view;

				fa_predict_view(frame, f, h, &view);
				for (size_t k = 0; k < nl; k++)
					set->local[set->nlocal + k] = (float) view.local[k];
				for (size_t k = 0; k < nr; k++)
					set->rate[set->nrate + k] = (float) view.rate[k];
				set->entry[set->nentries] = (Entry) {
					f, nc, set->nlocal, set->nrate,
					(float) frame->fragment[f].accesses
				};
			}
			set->nentries++;
			set->nlocal += nl;
			set->nrate += nr;
		}
	}
	for (size_t k = 0; k < (size_t) frame->nnodes * frame->nsite; k++)
		set->site[k] = (float) frame->site[h][k];
	for (int n = 0; n < frame->nnodes; n++)
		set->prior[n] = (float) frame->prior[n];
	set->pool = frame->pool[h]->now;
	set->rates = frame->rates[h]->now;
	append_set(pd, set);
}

/* One distribution against what came; arrays are by node. */
static void
score_shares(const FaFrame *frame, FaScore *s, const double *p,
			 const double *y, double total)
{
	int			top = 0;

	s->n += total;
	for (int n = 0; n < frame->nnodes; n++)
	{
		int			bin = (int) (p[n] * FA_PREDICT_CALIBRATION_BINS);

		if (!frame->known[n])
			continue;
		if (p[n] > p[top] || !frame->known[top])
			top = n;
		if (bin >= FA_PREDICT_CALIBRATION_BINS)
			bin = FA_PREDICT_CALIBRATION_BINS - 1;
		if (y[n] > 0)
			s->log_loss -= y[n] * log(p[n] > TINY ? p[n] : TINY);
		s->brier += total * p[n] * p[n] - 2 * y[n] * p[n];
		s->bin_n[bin] += total;
		s->bin_p[bin] += total * p[n];
		s->bin_hit[bin] += y[n];
	}
	s->brier += total;
	s->top1 += y[top];
}

/* What a set's fragments share while it is settled. */
typedef struct Settling
{
	const Set  *set;
	int			h;
	double	   *prior;			/* nnodes */
	double	   *factor;			/* 2 x FA_HEADS x nnodes: weights of then, now */
	FaRateTable rates;
} Settling;

/* local has ncells + 1 rows; accesses: what the fragment had had. */
static void
settle_shares(FaFrame *frame, const Settling *st, const FaFragment *fr,
			  const double *local, int ncells, double accesses, bool learn)
{
	FaPool	   *pool = frame->pool[st->h];
	double	   *p = frame->dense;
	double	   *y = frame->dense + frame->nnodes;
	double	   *flat = frame->dense + 2 * (size_t) frame->nnodes;
	double	   *mixed = frame->dense + 3 * (size_t) frame->nnodes;
	double		shrink = fa_predict_pool_shrink(accesses);

	memset(y, 0, sizeof(double) * frame->nnodes);
	for (int c = 0; c < fr->ncells; c++)
		y[fr->node[c]] = fr->y[c];
	for (int head = 0; head < FA_HEADS; head++)
	{
		const double *w = st->set->pool.w[head];
		const double *now = pool->now.w[head];
		FaScore    *score = &frame->score[st->h][head];

		for (int pass = 0; pass < 2; pass++)
		{
			fa_predict_pool_local(frame, w, local, ncells, frame->view_scratch);
			fa_predict_pool_spread(frame, st->factor + (size_t)
								   (2 * head + pass) * frame->nnodes,
								   frame->view_scratch, fr->node, ncells,
								   frame->known, st->prior, p);
			if (pass == 0 && head == FA_MODEL_MIXTURE && shrink > 0)
			{
				for (int n = 0; n < frame->nnodes; n++)
					mixed[n] = p[n] + shrink * (flat[n] - p[n]);
				score_shares(frame, score, mixed, y, fr->total);
			}
			else if (pass == 0)
				score_shares(frame, score, p, y, fr->total);
			/* learning is about the weights of today, not of the forecast */
			if (!learn || memcmp(w, now, sizeof(st->set->pool.w[head])) == 0)
				break;
			w = now;
		}
		if (head == FA_MODEL_STATIC)
			memcpy(flat, p, sizeof(double) * frame->nnodes);
		else if (learn)
			fa_predict_pool_learn(frame, pool, head, frame->site_scratch, local,
								  fr->node, ncells, p, y, fr->total);
	}
}

/* error_p: squared errors of ln(1 + accesses), by head, and their number. */
static void
settle_rates(FaFrame *frame, const Settling *st, const Entry *e,
			 const FaFragment *fr, bool learn, double *error_p, double *n_p)
{
	const Set  *set = st->set;

	for (int c = 0; c < e->ncells; c++)
	{
		const float *v = set->rate + e->rate + (size_t) c * frame->nrate;
		double		rate[FA_MAX_RATES];
		double		foretold[FA_RATE_LANES];
		double		came = fr->y[c] > 0 ? fa_predict_ln1p(fr->y[c]) : 0;

		if (!frame->known[fr->node[c]])
			continue;
		for (int k = 0; k < frame->nrate; k++)
			rate[k] = v[k];
		fa_predict_rates_heads(frame, &st->rates, rate, foretold);
		for (int head = 0; head < FA_HEADS; head++)
			error_p[head] += (came - foretold[head]) * (came - foretold[head]);
		*n_p += 1;
		if (learn)
			fa_predict_rates_learn(frame, frame->rates[st->h], rate, fr->y[c],
								   expm1(foretold[FA_MODEL_MIXTURE]));
	}
}

static void
start_settling(FaFrame *frame, int h, const Set *set, Settling *st)
{
	st->set = set;
	st->h = h;
	for (size_t k = 0; k < (size_t) frame->nnodes * frame->nsite; k++)
		frame->site_scratch[k] = set->site[k];
	fa_predict_rates_table(frame, &set->rates, &st->rates);
	st->prior = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	for (int n = 0; n < frame->nnodes; n++)
		st->prior[n] = set->prior[n];
	st->factor = fa_predict_alloc(frame, (size_t) 2 * FA_HEADS * frame->nnodes,
								  sizeof(double));
	for (int i = 0; i < 2 * FA_HEADS; i++)
		fa_predict_pool_site(frame, i % 2 == 0 ? set->pool.w[i / 2] :
							 frame->pool[h]->now.w[i / 2], frame->site_scratch,
							 st->factor + (size_t) i * frame->nnodes);
}

/* Scores and learns from the forecasts made for the frame's current step. */
void
fa_predict_pending_settle(FaFrame *frame, int h)
{
	FaPending  *pd = frame->pending[h];
	Set		   *set;
	double	   *local = frame->view_local;
	Settling	st;
	double		touched = 0;
	double		part;
	double		error[FA_HEADS] = {0};
	double		nrates = 0;

	while (pd->first != NULL && pd->first->target < frame->step)
		free_first(frame, pd);	/* its step was never seen */
	set = pd->first;
	if (set == NULL || set->target != frame->step)
		return;
	for (int i = 0; i < set->nentries; i++)
		touched += frame->fragment[set->entry[i].fragment].total > 0;
	part = LEARN_FROM / (touched + 1);
	start_settling(frame, h, set, &st);
	for (int i = 0; i < set->nentries; i++)
	{
		const Entry *e = &set->entry[i];
		const FaFragment *fr = &frame->fragment[e->fragment];
		double		u = chance(frame, e->fragment, frame->step ^ SALT);

		if (fr->total > 0)
		{
			for (size_t k = 0; k < (size_t) (e->ncells + 1) * frame->nlocal; k++)
				local[k] = set->local[e->local + k];
			settle_shares(frame, &st, fr, local, e->ncells, e->accesses, u < part);
		}
		settle_rates(frame, &st, e, fr, u * set->nentries < LEARN_FROM, error,
					 &nrates);
	}
	for (int head = 0; head < FA_HEADS; head++)
	{
		frame->score[h][head].rate_n += nrates;
		frame->score[h][head].rate_msle += error[head];
	}
	/* fragments that did not live yet had the prior as their forecast */
	for (int i = frame->nactive - 1; i >= 0; i--)
	{
		const FaFragment *fr = &frame->fragment[frame->active[i]];

		if (fr->born <= set->origin)
			break;
		memset(local, 0, sizeof(double) * frame->nlocal);
		if (fr->total > 0)
			settle_shares(frame, &st, fr, local, 0, 0, true);
	}
	fa_predict_free(frame, st.factor);
	fa_predict_free(frame, st.prior);
	fa_predict_pool_step(frame, frame->pool[h]);
	fa_predict_rates_step(frame, frame->rates[h]);
	free_first(frame, pd);
}

static void
archive_set(FaFrame *frame, Set *set, FaArchive *ar)
{
	uint32_t	complete = set->complete;

	fa_predict_ar_i64(ar, &set->origin);
	fa_predict_ar_i64(ar, &set->target);
	fa_predict_ar_u32(ar, &complete);
	set->complete = complete != 0;
	fa_predict_ar_i32(ar, &set->nentries);
	for (int head = 0; head < FA_HEADS; head++)
	{
		fa_predict_ar_doubles(ar, set->pool.w[head],
							  frame->nsite + frame->nlocal);
		fa_predict_ar_doubles(ar, set->rates.w[head], frame->nrate);
	}
	if (set->nentries < 0 || set->nentries > frame->nactive ||
		set->origin > frame->last_step || set->target <= frame->last_step)
		ar->failed = true;
	for (int pass = 0; pass < 2 && !ar->failed; pass++)
	{
		size_t		at = ar->at;

		/* the entries first: they tell the sizes */
		if (pass == 1 && ar->reading)
			alloc_set(frame, set);
		set->nlocal = set->nrate = 0;
		for (int i = 0; i < set->nentries && !ar->failed; i++)
		{
			Entry		e = ar->reading ? (Entry) {0} : set->entry[i];

			fa_predict_ar_i32(ar, &e.fragment);
			fa_predict_ar_i32(ar, &e.ncells);
			fa_predict_ar_floats(ar, &e.accesses, 1);
			if (e.fragment < 0 || e.fragment >= frame->nfragments ||
				e.ncells < 0 || e.accesses < 0 ||
				e.ncells > frame->fragment[e.fragment].ncells)
			{
				ar->failed = true;
				return;
			}
			e.local = set->nlocal;
			e.rate = set->nrate;
			set->nlocal += (size_t) (e.ncells + 1) * frame->nlocal;
			set->nrate += (size_t) e.ncells * frame->nrate;
			if (pass == 1 && ar->reading)
				set->entry[i] = e;
		}
		if (pass == 0)
			ar->at = at;
		if (pass == 0 && !fa_predict_ar_room(ar, set->nlocal + set->nrate, 4))
			return;
	}
	if (ar->failed)
		return;
	fa_predict_ar_floats(ar, set->site, (size_t) frame->nnodes * frame->nsite);
	fa_predict_ar_floats(ar, set->prior, frame->nnodes);
	fa_predict_ar_floats(ar, set->local, set->nlocal);
	fa_predict_ar_floats(ar, set->rate, set->nrate);
}

void
fa_predict_pending_archive(FaFrame *frame, int h, FaArchive *ar)
{
	FaPending  *pd = frame->pending[h];
	int32_t		n = pd->nsets;
	Set		   *set = pd->first;

	fa_predict_ar_i32(ar, &n);
	if (n < 0 || n > MAX_SETS + 1)
		ar->failed = true;
	for (int32_t i = 0; i < n && !ar->failed; i++)
	{
		if (ar->reading)
		{
			set = fa_predict_alloc(frame, 1, sizeof(Set));
			archive_set(frame, set, ar);
			if (pd->last != NULL && set->target <= pd->last->target)
				ar->failed = true;
			append_set(pd, set);
		}
		else
		{
			archive_set(frame, set, ar);
			set = set->next;
		}
	}
}
