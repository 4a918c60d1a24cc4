/*
 * next_mix.c
 *	  What the contexts say of an event, and the mixture of it.
 *
 * p(fragment) ~ base share x exp(sum of weight x signal).  A context gives two
 * signals: the logarithms of the ratio of its estimate to its parent's, and of
 * its recent counts to its estimate.  A signal has one weight for each level
 * of evidence behind it, so that what a context seen once is worth is learned
 * apart from what one seen often is, and one more each for how long the session
 * has been going as foreseen, how old it is, and how long it has paused.  After each event the weights follow the gradient of
 * the log likelihood, in steps of a size that its own past gradients give
 * (RMSProp), smaller as more events have been seen.
 */
#include <math.h>
#include <string.h>

#include "predict/next_parts.h"

#define ESCAPE			4.0		/* parent's weight, per follower counted */
#define ESCAPE_LEAST	0.2
#define FAST_CONCENTRATION 8.0
#define RATE_START		0.02
#define RATE_END		0.002
#define RATE_EVENTS		3000.0
#define RATE_STATE		0.2		/* of the weights by state, to the others' */
#define KEEP_MOMENT		0.998
#define FLOOR			1e-4	/* of the long-run share in every forecast */
#define LEVELS			12		/* of evidence, by its amount */
#define RANKS			(FA_NEXT_RECENT + 1)
#define LSTM_START		0.1
#define MOST_WEIGHT		10.0

/* Where the weights lie: by level, of the network, by rank, by state. */
#define AT_LSTM			(2 * FA_NEXT_NKINDS * FA_NEXT_LEVELS)
#define AT_RANK			(AT_LSTM + 1)
#define AT_STATE		(AT_RANK + FA_NEXT_PAUSES * RANKS)
#define NWEIGHTS		(AT_STATE + FA_NEXT_SIGNALS * STATES)

/* A session is in three states at once: a run's, an age's and a pause's. */
#define STATES			(FA_NEXT_RUNS + AGES + FA_NEXT_PAUSES)
#define AGES			8

void
fa_next_mix_init(FaNext *next)
{
	next->weight = fa_memory_alloc(&next->memory, NWEIGHTS, sizeof(double));
	next->moment = fa_memory_alloc(&next->memory, NWEIGHTS, sizeof(double));
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		for (int l = 0; l < FA_NEXT_LEVELS; l++)
			next->weight[2 * k * FA_NEXT_LEVELS + l] = fa_next_kinds[k].start;
	}
	next->weight[AT_LSTM] = LSTM_START;
}

static void
add_candidate(FaNext *next, int fragment)
{
	if (next->place[fragment] < 0)
	{
		next->place[fragment] = next->view.ncandidates;
		next->candidate[next->view.ncandidates++] = fragment;
	}
}

/* The session's states; none yet: it begins. */
static void
set_states(const FaNext *next, const FaSession *s, int *state_p)
{
	static const int64_t most[AGES - 1] = {0, 1, 2, 4, 8, 16, 64};
	int			age = 0;

	while (age < AGES - 1 && (s ? s->events : 0) > most[age])
		age++;
	state_p[0] = s ? s->run : 0;
	state_p[1] = FA_NEXT_RUNS + age;
	state_p[2] = FA_NEXT_RUNS + AGES + (s ? fa_next_pause(next, s) : 0);
}

/* Room for as many candidates as there may be. */
static void
fit_candidates(FaNext *next)
{
	FaMemory   *m = &next->memory;
	void	  **array[] = {(void **) &next->candidate, (void **) &next->rank,
		(void **) &next->share, (void **) &next->base_share,
	(void **) &next->signal, (void **) &next->estimate};
	size_t		size[] = {sizeof(int32_t), sizeof(int32_t), sizeof(double),
		sizeof(double), FA_NEXT_SIGNALS * sizeof(double),
	FA_NEXT_NKINDS * sizeof(double)};
	size_t		n = FA_NEXT_RECENT;

	for (int k = 0; k < FA_NEXT_NKINDS; k++)
		n += next->view.context[k] ? next->view.context[k]->n : 0;
	if (n > (size_t) next->config.nfragments)
		n = next->config.nfragments;
	if (n <= next->room)
		return;
	n += n / 2;
	for (int i = 0; i < 6; i++)
	{
		void	   *old = *array[i];

		*array[i] = NULL;
		next->room = 0;			/* until all are there */
		fa_memory_free(m, old);
		*array[i] = fa_memory_alloc(m, n + 1, size[i]);
	}
	next->room = n;
}

void
fa_next_look(FaNext *next, const FaSession *s, uint64_t profile, int node)
{
	FaNextView *view = &next->view;

	for (int i = 0; i < view->ncandidates; i++)
		next->place[next->candidate[i]] = -1;
	view->ncandidates = 0;
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		bool		on = k == FA_NEXT_ORDER0 ||
			(next->config.models >> fa_next_kinds[k].model & 1) != 0;

		view->key[k] = on ? fa_next_key(next, k, s, profile, node) : 0;
		view->context[k] = view->key[k] ?
			fa_next_find(&next->table, view->key[k]) : NULL;
	}
	fit_candidates(next);
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		const FaContext *c = view->context[k];

		for (int i = 0; c != NULL && i < c->n; i++)
			add_candidate(next, c->follower[i].fragment);
	}
	for (int i = 0; s != NULL && i < s->nrecent; i++)
		add_candidate(next, s->recent[i]);
	for (int i = 0; i <= view->ncandidates; i++)
		next->rank[i] = RANKS - 1;
	for (int i = s ? s->nrecent - 1 : -1; i >= 0; i--)
		next->rank[next->place[s->recent[i]]] = i;
	view->pause = s ? fa_next_pause(next, s) : 0;
	set_states(next, s, view->state_of);
	if (next->network != NULL)
		fa_next_lstm_look(next, s);
}

/* Evidence behind a context: its amount, and whether it is of one mind. */
static int
level_of(const FaContext *c)
{
	int			level = (int) (1.5 * log2(c->slow + 0.5) + 1);

	level = level < 0 ? 0 : level >= LEVELS ? LEVELS - 1 : level;
	return level + LEVELS * (c->n == 1 ? 2 : c->n * 4 < c->slow ? 1 : 0);
}

/* Estimates of one context, and its two signals. */
static void
add_signals(FaNext *next, int k)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	const FaContext *c = view->context[k];
	int			above = fa_next_kinds[k].parent;
	const double *parent = above < 0 ? next->base_share :
		next->estimate + (size_t) above * (next->room + 1);
	double	   *mine = next->estimate + (size_t) k * (next->room + 1);
	double		kappa;
	double		fast;

	view->slot[2 * k] = view->slot[2 * k + 1] = -1;
	memcpy(mine, parent, sizeof(double) * (n + 1));
	if (c == NULL || !(c->slow > 0))
		return;
	kappa = ESCAPE * c->n + ESCAPE_LEAST;
	fast = log(FAST_CONCENTRATION / (c->fast + FAST_CONCENTRATION));
	for (int i = 0; i <= n; i++)
		mine[i] *= kappa / (c->slow + kappa);
	for (int i = 0; i < c->n; i++)
		mine[next->place[c->follower[i].fragment]] +=
			c->follower[i].slow / (c->slow + kappa);
	for (int i = 0; i <= n; i++)
	{
		double	   *x = next->signal + (size_t) i * FA_NEXT_SIGNALS + 2 * k;

		x[0] = log(mine[i] / parent[i]);
		x[1] = fast;
	}
	for (int i = 0; i < c->n; i++)
	{
		int			at = next->place[c->follower[i].fragment];

		next->signal[(size_t) at * FA_NEXT_SIGNALS + 2 * k + 1] =
			log((c->follower[i].fast / mine[at] + FAST_CONCENTRATION) /
				(c->fast + FAST_CONCENTRATION));
	}
	view->slot[2 * k] = 2 * k * FA_NEXT_LEVELS + level_of(c);
	view->slot[2 * k + 1] = (2 * k + 1) * FA_NEXT_LEVELS + level_of(c);
}

/* Long-run shares of the candidates, and of all others together. */
static void
set_base(FaNext *next)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	double		left = next->base_sum;

	for (int i = 0; i < n; i++)
	{
		next->base_share[i] = next->base[next->candidate[i]] / next->base_sum;
		left -= next->base[next->candidate[i]];
	}
	view->others = n < next->config.nfragments && left > 1e-9;
	next->base_share[n] = view->others ? left / next->base_sum : 1e-9;
}

/* The forecast of the view, as shares of the candidates and the others. */
void
fa_next_mix(FaNext *next)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	bool		ranks = (next->config.models >> FA_NEXT_CACHE & 1) != 0;
	double		w[FA_NEXT_SIGNALS];
	double		top = -HUGE_VAL;
	double		sum = 0;

	memset(next->signal, 0,
		   sizeof(double) * (size_t) (n + 1) * FA_NEXT_SIGNALS);
	set_base(next);
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
		add_signals(next, k);
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
			v += next->weight[AT_RANK + view->pause * RANKS + next->rank[i]];
		next->share[i] = v;
		top = v > top ? v : top;
	}
	for (int i = 0; i < n + view->others; i++)
		sum += next->share[i] = exp(next->share[i] - top);
	for (int i = 0; i < n + view->others; i++)
		next->share[i] = (1 - FLOOR) * next->share[i] / sum +
			FLOOR * next->base_share[i];
	if (!view->others)
		next->share[n] = 0;
}

static void
adjust(FaNext *next, int slot, double gradient, double rate)
{
	double	   *m = &next->moment[slot];
	double	   *w = &next->weight[slot];

	*m = *m == 0 ? gradient * gradient :
		KEEP_MOMENT * *m + (1 - KEEP_MOMENT) * gradient * gradient;
	*w += rate * gradient / (sqrt(*m) + 1e-3);
	*w = *w > MOST_WEIGHT ? MOST_WEIGHT : *w < -MOST_WEIGHT ? -MOST_WEIGHT : *w;
}

/* Learns that the fragment came, of which the view was made. */
void
fa_next_mix_learn(FaNext *next, int fragment)
{
	FaNextView *view = &next->view;
	int			n = view->ncandidates;
	int			at = next->place[fragment] >= 0 ? next->place[fragment] : n;
	double		gradient[FA_NEXT_SIGNALS] = {0};
	double		ranks[RANKS] = {0};
	double		rate = RATE_END + (RATE_START - RATE_END) /
		(1 + (double) next->events / RATE_EVENTS);

	for (int i = 0; i <= n; i++)
	{
		const double *x = next->signal + (size_t) i * FA_NEXT_SIGNALS;
		double		d = (i == at) - next->share[i];

		for (int k = 0; k < FA_NEXT_SIGNALS; k++)
			gradient[k] += d * x[k];
		ranks[next->rank[i]] += d;
	}
	for (int k = 0; k < FA_NEXT_SIGNALS; k++)
	{
		if (view->slot[k] < 0)
			continue;
		adjust(next, view->slot[k], gradient[k], rate);
		for (int i = 0; i < FA_NEXT_STATES; i++)
			adjust(next, AT_STATE + k * STATES + view->state_of[i], gradient[k],
				   rate * RATE_STATE);
	}
	for (int r = 0; r < RANKS; r++)
		adjust(next, AT_RANK + view->pause * RANKS + r, ranks[r], rate);
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

/* Counts the fragment after every context of the view. */
void
fa_next_learn_contexts(FaNext *next, int fragment)
{
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		if (next->view.key[k] != 0)
			fa_next_count(next, next->view.key[k], fragment,
						  fa_next_kinds[k].slow_most, fa_next_kinds[k].fast_most);
	}
}

void
fa_next_mix_archive(FaNext *next, FaArchive *ar)
{
	fa_predict_ar_doubles(ar, next->weight, NWEIGHTS);
	fa_predict_ar_doubles(ar, next->moment, NWEIGHTS);
	for (int i = 0; i < NWEIGHTS && ar->reading; i++)
	{
		if (fabs(next->weight[i]) > MOST_WEIGHT || next->moment[i] < 0)
			ar->failed = true;
	}
}
