/*
 * next.c
 *	  How well the next fragment of a session is foreseen: top-1, top-3 and
 *	  log loss over the last 30 % of the events.
 *
 * Before each event its fragment is forecast from all events before it and
 * the session it belongs to; neither its time nor its node are used.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/trace.h"

#define TEST_SHARE		0.3

typedef struct Score
{
	double		n;
	double		top1;
	double		top3;
	double		log_loss;
} Score;

/* Ties count against the forecast. */
static void
add_score(Score *s, const double *p, int n, int fragment)
{
	int			rank = 0;

	for (int i = 0; i < n; i++)
		rank += i != fragment && p[i] >= p[fragment];
	s->n++;
	s->top1 += rank < 1;
	s->top3 += rank < 3;
	s->log_loss -= log(p[fragment]);
}

static void
print_score(const char *what, const Score *s)
{
	if (s->n > 0)
		printf("%-34s %9.0f  %.4f  %.4f   %.4f\n", what, s->n, s->top1 / s->n,
			   s->top3 / s->n, s->log_loss / s->n);
}

static int
compare_keys(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

/* The sessions that had an event before the first one scored. */
static uint64_t *
sorted_sessions(const Trace *t)
{
	uint64_t   *key = fa_bin_alloc(sizeof(uint64_t) * t->nevents);

	for (int64_t i = 0; i < t->nevents; i++)
		key[i] = t->event[i].session;
	qsort(key, t->nevents, sizeof(uint64_t), compare_keys);
	return key;
}

void
fa_bin_next(const Trace *t, uint32_t models, uint64_t seed)
{
	FaNextConfig config = {.nfragments = t->nfragments,.seed = seed,
	.models = models};
	FaNext	   *next = fa_next_create(&config, &fa_bin_allocator);
	double	   *p = fa_bin_alloc(sizeof(double) * t->nfragments);
	uint64_t   *key = sorted_sessions(t);
	bool	   *seen = fa_bin_alloc(t->nevents);
	int64_t		from = (int64_t) ((1 - TEST_SHARE) * (double) t->nevents);
	Score		all = {0};
	Score		going_on = {0};

	for (int64_t i = 0; i < t->nevents; i++)
	{
		const FaNextEvent *e = &t->event[i];
		uint64_t   *at = bsearch(&e->session, key, t->nevents,
								 sizeof(uint64_t), compare_keys);

		if (i >= from)
		{
			fa_next_forecast(next, e->session, 0, -1, p);
			add_score(&all, p, t->nfragments, e->fragment);
			if (seen[at - key])
				add_score(&going_on, p, t->nfragments, e->fragment);
		}
		seen[at - key] = true;
		fa_next_observe(next, e);
	}
	printf("last %.0f %% of events %23s  top-1   top-3   log loss\n",
		   100 * TEST_SHARE, "events");
	print_score("all", &all);
	print_score("but the first of each session", &going_on);
	fa_next_destroy(next);
	free(p);
	free(key);
	free(seen);
}
