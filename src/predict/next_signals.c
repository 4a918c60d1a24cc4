/*
 * next_signals.c
 *	  What the contexts of an event say, as signals of the mixture.
 *
 * A context gives two signals: the logarithms of the ratio of its estimate to
 * its parent's, and of its recent counts to its estimate.  Which of its last
 * fragments a session comes back to is estimated in the same way, of ranks.
 * What is touched together with each of the last fragments gives the logarithm
 * of the mean of the ratios to the long run, and the mean of the logarithms.
 */
#include <math.h>
#include <string.h>

#include "predict/next_parts.h"

#define ESCAPE			4.0		/* parent's weight, per follower counted */
#define ESCAPE_LEAST	0.2
#define FAST_CONCENTRATION 8.0
#define LEVELS			12		/* of evidence, by its amount */
#define TOGETHER_CONCENTRATION 20.0

static void
add_candidate(FaNext *next, int fragment)
{
	if (next->place[fragment] < 0)
	{
		next->place[fragment] = next->view.ncandidates;
		next->candidate[next->view.ncandidates++] = fragment;
	}
}

static void
add_followers(FaNext *next, const FaContext *c)
{
	for (int i = 0; c != NULL && i < c->n; i++)
		add_candidate(next, c->follower[i].fragment);
}

static bool
kind_on(const FaNext *next, FaNextKind kind)
{
	return (next->config.models >> fa_next_kinds[kind].model & 1) != 0;
}

/* Room for as many candidates as there may be. */
static void
fit_candidates(FaNext *next)
{
	FaMemory   *m = &next->memory;
	void	  **array[] = {(void **) &next->candidate, (void **) &next->rank,
		(void **) &next->share, (void **) &next->base_share,
		(void **) &next->pooled, (void **) &next->backoff,
	(void **) &next->signal, (void **) &next->estimate};
	size_t		size[] = {sizeof(int32_t), sizeof(int32_t), sizeof(double),
		sizeof(double), sizeof(double), sizeof(double),
		FA_NEXT_SIGNALS * sizeof(double),
	FA_NEXT_NKINDS * sizeof(double)};
	size_t		n = FA_NEXT_RECENT;

	for (int k = 0; k < FA_NEXT_NKINDS; k++)
		n += next->view.context[k] ? next->view.context[k]->n : 0;
	for (int j = 0; j < next->view.ntogether; j++)
		n += next->view.together[j] ? next->view.together[j]->n : 0;
	if (n > (size_t) next->config.nfragments)
		n = next->config.nfragments;
	if (n < FA_NEXT_RANKS)
		n = FA_NEXT_RANKS;		/* a row of estimates may be by rank */
	if (n <= next->room)
		return;
	n += n / 2;
	for (int i = 0; i < 8; i++)
	{
		void	   *old = *array[i];

		*array[i] = NULL;
		next->room = 0;			/* until all are there */
		fa_memory_free(m, old);
		*array[i] = fa_memory_alloc(m, n + 1, size[i]);
	}
	next->room = n;
}

/* The contexts of what is touched together with the last fragments. */
static void
look_together(FaNext *next, const FaSession *s)
{
	FaNextView *view = &next->view;

	view->ntogether = 0;
	if (s == NULL || !kind_on(next, FA_NEXT_TOGETHER))
		return;
	for (int i = 0; i < s->nrecent && i < FA_NEXT_TOGETHER_OF; i++)
	{
		uint64_t	key = fa_next_together_key(s->recent[i]);

		if (fa_next_rank(s, s->recent[i]) != i)
			continue;
		view->together_key[view->ntogether] = key;
		view->together[view->ntogether++] = fa_next_find(&next->table, key);
	}
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
		bool		on = k == FA_NEXT_ORDER0 || kind_on(next, k);

		view->key[k] = on ? fa_next_key(next, k, s, profile, node) : 0;
		view->context[k] = view->key[k] ?
			fa_next_find(&next->table, view->key[k]) : NULL;
	}
	look_together(next, s);
	fit_candidates(next);
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		if (fa_next_kinds[k].shape < 0)
			add_followers(next, view->context[k]);
	}
	for (int j = 0; j < view->ntogether; j++)
		add_followers(next, view->together[j]);
	for (int i = 0; s != NULL && i < s->nrecent; i++)
		add_candidate(next, s->recent[i]);
	for (int i = 0; i <= view->ncandidates; i++)
		next->rank[i] = FA_NEXT_RANKS - 1;
	for (int i = s ? s->nrecent - 1 : -1; i >= 0; i--)
		next->rank[next->place[s->recent[i]]] = i;
	view->pause = s ? fa_next_pause(next, s) : 0;
	fa_next_set_states(next, s);
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

/* The two signals of a context of ranks. */
static void
add_shape_signals(FaNext *next, int k)
{
	FaNextView *view = &next->view;
	const FaContext *c = view->context[k];
	int			above = fa_next_kinds[k].parent;
	double	   *mine = next->estimate + (size_t) k * (next->room + 1);
	double		signal[FA_NEXT_RANKS][2];
	double		fast[FA_NEXT_RANKS] = {0};
	double		kappa;

	view->slot[2 * k] = view->slot[2 * k + 1] = -1;
	for (int r = 0; r < FA_NEXT_RANKS; r++)
		mine[r] = above < 0 ? 1.0 / FA_NEXT_RANKS :
			next->estimate[(size_t) above * (next->room + 1) + r];
	if (c == NULL || !(c->slow > 0))
		return;
	kappa = ESCAPE * c->n + ESCAPE_LEAST;
	for (int r = 0; r < FA_NEXT_RANKS; r++)
	{
		signal[r][0] = -log(mine[r]);
		mine[r] *= kappa / (c->slow + kappa);
	}
	for (int i = 0; i < c->n; i++)
	{
		mine[c->follower[i].fragment] += c->follower[i].slow / (c->slow + kappa);
		fast[c->follower[i].fragment] = c->follower[i].fast;
	}
	for (int r = 0; r < FA_NEXT_RANKS; r++)
	{
		signal[r][0] += log(mine[r]);
		signal[r][1] = log((fast[r] / mine[r] + FAST_CONCENTRATION) /
						   (c->fast + FAST_CONCENTRATION));
	}
	for (int i = 0; i <= view->ncandidates; i++)
		memcpy(next->signal + (size_t) i * FA_NEXT_SIGNALS + 2 * k,
			   signal[next->rank[i]], sizeof(signal[0]));
	view->slot[2 * k] = 2 * k * FA_NEXT_LEVELS + level_of(c);
	view->slot[2 * k + 1] = (2 * k + 1) * FA_NEXT_LEVELS + level_of(c);
}

/*
 * The signals of what is touched together with the last fragments; the level
 * is how many of them have been met before.
 */
static void
add_together_signals(FaNext *next)
{
	FaNextView *view = &next->view;
	int			k = 2 * FA_NEXT_TOGETHER;
	double		rests = 0;		/* sum of what a fragment not met has */
	double		log_rests = 0;
	int			n = 0;

	view->slot[k] = view->slot[k + 1] = -1;
	for (int j = 0; j < view->ntogether; j++)
	{
		const FaContext *c = view->together[j];
		double		all;
		double		rest;

		if (c == NULL || !(c->slow > 0))
			continue;
		all = c->slow + TOGETHER_CONCENTRATION;
		rest = TOGETHER_CONCENTRATION / all;
		for (int i = 0; i < c->n; i++)
		{
			int			at = next->place[c->follower[i].fragment];
			double	   *x = next->signal + (size_t) at * FA_NEXT_SIGNALS + k;
			double		more = c->follower[i].slow / all / next->base_share[at];

			x[0] += more;
			x[1] += log1p(more / rest);
		}
		rests += rest;
		log_rests += log(rest);
		n++;
	}
	if (n == 0)
		return;
	for (int i = 0; i <= view->ncandidates; i++)
	{
		double	   *x = next->signal + (size_t) i * FA_NEXT_SIGNALS + k;

		x[0] = log((x[0] + rests) / n);
		x[1] = (x[1] + log_rests) / n;
	}
	view->slot[k] = k * FA_NEXT_LEVELS + n;
	view->slot[k + 1] = (k + 1) * FA_NEXT_LEVELS + n;
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

/* All signals of the contexts, for the view's candidates. */
void
fa_next_signals(FaNext *next)
{
	memset(next->signal, 0, sizeof(double) * FA_NEXT_SIGNALS *
		   (size_t) (next->view.ncandidates + 1));
	set_base(next);
	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		if (k == FA_NEXT_TOGETHER)
			add_together_signals(next);
		else if (fa_next_kinds[k].shape >= 0)
			add_shape_signals(next, k);
		else
			add_signals(next, k);
	}
}

/* Counts the fragment, or its rank, after every context of the view. */
void
fa_next_learn_contexts(FaNext *next, int fragment)
{
	const FaNextView *view = &next->view;
	const FaNextKindInfo *together = &fa_next_kinds[FA_NEXT_TOGETHER];
	int			at = next->place[fragment];
	int			rank = next->rank[at >= 0 ? at : view->ncandidates];

	for (int k = 0; k < FA_NEXT_NKINDS; k++)
	{
		const FaNextKindInfo *kind = &fa_next_kinds[k];

		if (view->key[k] != 0)
			fa_next_count(next, view->key[k], kind->shape >= 0 ? rank : fragment,
						  kind->slow_most, kind->fast_most);
	}
	/* a repetition says nothing of what goes together */
	for (int j = 0; j < view->ntogether && rank > 0; j++)
		fa_next_count(next, view->together_key[j], fragment,
					  together->slow_most, together->fast_most);
}
