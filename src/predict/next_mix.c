/*
 * next_mix.c
 *	  The mixture of what the contexts say of an event.
 *
 * A log-linear pool: p(fragment) ~ base share x exp(sum of weight x signal).  A
 * signal has one weight for each level of evidence behind it, so that what a
 * context seen once is worth is learned apart from what one seen often is, and
 * one more each for how long the session has been going as foreseen, how old it
 * is, and how long it has paused.  After each event the weights follow the
 * gradient of the log likelihood, each divided by the information (variance of
 * its signal under the forecast) that it has had of late: a Newton step along
 * the diagonal.  So a weight that is rarely used learns as much from its first
 * events as a frequent one did from its own.
 *
 * A pool smooths what one context alone is sure of.  So a part of the forecast
 * is plain back-off from the longest of the session's last fragments to none
 * (prediction by partial matching, escape C), as large as it has been right of
 * late where the pool was not.
 */
#include <math.h>
#include <string.h>

#include "predict/next_parts.h"

#define STEP			0.3		/* part of a Newton step: signals are alike */
#define STEP_STATE		0.1		/* of the weights by state */
#define INFORMATION		10.0	/* belief in the weights to begin with */
#define KEEP			0.998	/* of the information, each use of the weight */
#define FLOOR			1e-4	/* of the long-run share in every forecast */
#define POOL_WON		20.0	/* before anything was learned */
#define BACKOFF_WON		1.0
#define KEEP_WON		0.9998
#define LEAST_WON		0.5		/* else the loser would never come back */
#define MOST_WON		1e4		/* more than all that is kept */
#define LSTM_START		0.1
#define MOST_WEIGHT		10.0

/* Where the weights lie: by level, of the network, by rank, by state. */
#define AT_LSTM			(2 * FA_NEXT_NKINDS * FA_NEXT_LEVELS)
#define AT_RANK			(AT_LSTM + 1)
#define AT_STATE		(AT_RANK + FA_NEXT_PAUSES * FA_NEXT_RANKS)
#define NWEIGHTS		(AT_STATE + FA_NEXT_SIGNALS * STATES)

/* A session is in three states at once: a run's, an age's and a pause's. */
#define STATES			(FA_NEXT_RUNS + AGES + FA_NEXT_PAUSES)
#define AGES			8

void
fa_next_mix_init(FaNext *next)
{
	next->weight = fa_memory_alloc(&next->memory, NWEIGHTS, sizeof(double));
	next->information = fa_memory_alloc(&next->memory, NWEIGHTS, sizeof(double));
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		for (int l = 0; l < FA_NEXT_LEVELS; l++)
			next->weight[2 * k * FA_NEXT_LEVELS + l] = fa_next_kinds[k].start;
	}
	next->weight[AT_LSTM] = LSTM_START;
	next->pool_won = POOL_WON;
	next->backoff_won = BACKOFF_WON;
}

/* The session's states; none yet: it begins. */
void
fa_next_set_states(FaNext *next, const FaSession *s)
{
	static const int64_t most[AGES - 1] = {0, 1, 2, 4, 8, 16, 64};
	int		   *state = next->view.state_of;
	int			age = 0;

	while (age < AGES - 1 && (s ? s->events : 0) > most[age])
		age++;
	state[0] = s ? s->run : 0;
	state[1] = FA_NEXT_RUNS + age;
	state[2] = FA_NEXT_RUNS + AGES + (s ? fa_next_pause(next, s) : 0);
}

/* Shares of the candidates and the others by the log-linear pool. */
static void
mix_pool(FaNext *next)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	bool		ranks = (next->config.models >> FA_NEXT_CACHE & 1) != 0;
	double		w[FA_NEXT_SIGNALS];
	double		top = -HUGE_VAL;
	double		sum = 0;

	fa_next_signals(next);
	view->slot[FA_NEXT_SIGNALS - 1] = next->network != NULL ? AT_LSTM : -1;
	for (int i = 0; i < n && next->network != NULL; i++)
		next->signal[(size_t) i * FA_NEXT_SIGNALS + FA_NEXT_SIGNALS - 1] =
			fa_next_lstm_signal(next, next->candidate[i]);
	for (int k = 0; k < FA_NEXT_SIGNALS; k++)
	{
		w[k] = view->slot[k] < 0 ? 0 : next->weight[view->slot[k]];
		for (int i = 0; i < FA_NEXT_STATES && view->slot[k] >= 0; i++)
			w[k] += next->weight[AT_STATE + k * STATES + view->state_of[i]];
	}
	for (int i = 0; i < n + view->others; i++)
	{
		const double *x = next->signal + (size_t) i * FA_NEXT_SIGNALS;
		double		v = log(next->base_share[i]);

		for (int k = 0; k < FA_NEXT_SIGNALS; k++)
			v += w[k] * x[k];
		if (ranks)
			v += next->weight[AT_RANK + view->pause * FA_NEXT_RANKS + next->rank[i]];
		next->pooled[i] = v;
		top = v > top ? v : top;
	}
	for (int i = 0; i < n + view->others; i++)
		sum += next->pooled[i] = exp(next->pooled[i] - top);
	for (int i = 0; i < n + view->others; i++)
		next->pooled[i] = (1 - FLOOR) * next->pooled[i] / sum +
			FLOOR * next->base_share[i];
	if (!view->others)
		next->pooled[n] = 0;
}

/* The same by plain back-off, from no fragment before to the longest context. */
static void
back_off(FaNext *next)
{
	static const FaNextKind by_length[] = {FA_NEXT_ORDER0, FA_NEXT_ORDER1,
		FA_NEXT_ORDER2, FA_NEXT_ORDER3, FA_NEXT_ORDER4, FA_NEXT_ORDER6};
	int			n = next->view.ncandidates;

	memcpy(next->backoff, next->base_share, sizeof(double) * (n + 1));
	if (!next->view.others)
		next->backoff[n] = 0;
	for (int k = 0; k < 6; k++)
	{
		const FaContext *c = next->view.context[by_length[k]];
		double		all;

		if (c == NULL || !(c->slow > 0))
			continue;
		all = c->slow + c->n;
		for (int i = 0; i <= n; i++)
			next->backoff[i] *= c->n / all;
		for (int i = 0; i < c->n; i++)
			next->backoff[next->place[c->follower[i].fragment]] +=
				c->follower[i].slow / all;
	}
}

static double
backoff_part(const FaNext *next)
{
	if ((next->config.models >> FA_NEXT_MARKOV & 1) == 0)
		return 0;
	return next->backoff_won / (next->backoff_won + next->pool_won);
}

/* The forecast of the view, as shares of the candidates and the others. */
void
fa_next_mix(FaNext *next)
{
	double		part = backoff_part(next);

	mix_pool(next);
	back_off(next);
	for (int i = 0; i <= next->view.ncandidates; i++)
		next->share[i] = next->pooled[i] +
			part * (next->backoff[i] - next->pooled[i]);
}

/* Which of the two foresaw it? */
static void
learn_part(FaNext *next, int at)
{
	double		backoff = backoff_part(next) * next->backoff[at];

	if (!(next->share[at] > 0))
		return;
	backoff /= next->share[at];
	next->backoff_won = fmax(next->backoff_won * KEEP_WON + backoff, LEAST_WON);
	next->pool_won = fmax(next->pool_won * KEEP_WON + 1 - backoff, LEAST_WON);
}

/* One weight's step; variance: of its signal, under the forecast. */
static void
adjust(FaNext *next, int slot, double gradient, double variance, double step)
{
	double	   *known = &next->information[slot];
	double	   *w = &next->weight[slot];

	*known = KEEP * *known + fmax(variance, 0);
	*w += step * gradient / (INFORMATION + *known);
	*w = *w > MOST_WEIGHT ? MOST_WEIGHT : *w < -MOST_WEIGHT ? -MOST_WEIGHT : *w;
}

/* Learns that the fragment came, of which the view was made. */
void
fa_next_mix_learn(FaNext *next, int fragment)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	int			at = next->place[fragment] >= 0 ? next->place[fragment] : n;
	const double *came = next->signal + (size_t) at * FA_NEXT_SIGNALS;
	double		mean[FA_NEXT_SIGNALS] = {0};
	double		square[FA_NEXT_SIGNALS] = {0};
	double		ranks[FA_NEXT_RANKS] = {0};

	learn_part(next, at);
	for (int i = 0; i <= n; i++)
	{
		const double *x = next->signal + (size_t) i * FA_NEXT_SIGNALS;
		double		p = next->pooled[i];

		for (int k = 0; k < FA_NEXT_SIGNALS; k++)
		{
			mean[k] += p * x[k];
			square[k] += p * x[k] * x[k];
		}
		ranks[next->rank[i]] += p;
	}
	for (int k = 0; k < FA_NEXT_SIGNALS; k++)
	{
		double		gradient = came[k] - mean[k];
		double		variance = square[k] - mean[k] * mean[k];

		if (view->slot[k] < 0)
			continue;
		adjust(next, view->slot[k], gradient, variance, STEP);
		for (int i = 0; i < FA_NEXT_STATES; i++)
			adjust(next, AT_STATE + k * STATES + view->state_of[i], gradient,
				   variance, STEP_STATE);
	}
	for (int r = 0; r < FA_NEXT_RANKS; r++)
		adjust(next, AT_RANK + view->pause * FA_NEXT_RANKS + r,
			   (r == next->rank[at]) - ranks[r], ranks[r] * (1 - ranks[r]), STEP);
}

/* Was the fragment what the longest context had seen most of late? */
bool
fa_next_foreseen(const FaNext *next, int fragment)
{
	static const FaNextKind by_length[] = {FA_NEXT_ORDER6, FA_NEXT_ORDER4,
	FA_NEXT_ORDER3, FA_NEXT_ORDER2, FA_NEXT_ORDER1};

	for (int i = 0; i < 5; i++)
	{
		const FaContext *c = next->view.context[by_length[i]];
		int			top = 0;

		if (c == NULL)
			continue;
		for (int j = 1; j < c->n; j++)
		{
			if (c->follower[j].fast > c->follower[top].fast)
				top = j;
		}
		return c->follower[top].fragment == fragment;
	}
	return false;
}

void
fa_next_mix_archive(FaNext *next, FaArchive *ar)
{
	fa_predict_ar_doubles(ar, next->weight, NWEIGHTS);
	fa_predict_ar_doubles(ar, next->information, NWEIGHTS);
	fa_predict_ar_double(ar, &next->pool_won);
	fa_predict_ar_double(ar, &next->backoff_won);
	if (!(next->pool_won >= LEAST_WON && next->pool_won <= MOST_WON) ||
		!(next->backoff_won >= LEAST_WON && next->backoff_won <= MOST_WON))
		ar->failed = true;
	for (int i = 0; i < NWEIGHTS && ar->reading; i++)
	{
		if (fabs(next->weight[i]) > MOST_WEIGHT || next->information[i] < 0)
			ar->failed = true;
	}
}
