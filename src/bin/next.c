/*
 * next.c
 *	  How well the next fragment of a session is foreseen: top-1, top-3 and
 *	  log loss over the last 30 % of the events.
 *
 * Before each event its fragment is forecast from all events before it and
 * the session it belongs to; neither its time nor its node are used.  A
 * session's first event has none before it; it is scored apart, too.
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

/*
 * Foretells the event and scores that; a first one once more by what a server
 * knows of a session that has just begun: its node and profile.
 */
static void
score_event(FaNext *next, const Trace *t, int64_t i, double *p, Score *score)
{
	const FaNextEvent *e = &t->event[i];

	fa_next_forecast(next, e->session, 0, -1, p);
	add_score(&score[0], p, t->nfragments, e->fragment);
	add_score(&score[t->opens[i] ? 2 : 1], p, t->nfragments, e->fragment);
	if (!t->opens[i])
		return;
	fa_next_forecast(next, e->session, e->profile, e->node, p);
	add_score(&score[3], p, t->nfragments, e->fragment);
}

void
fa_bin_next(const Trace *t, uint32_t models, uint64_t seed)
{
	static const char *const label[] = {"all", "but the first of each session",
	"the first of each session", "the same, their nodes known"};
	FaNextConfig config = {.nfragments = t->nfragments,.seed = seed,
	.models = models};
	FaNext	   *next = fa_next_create(&config, &fa_bin_allocator);
	double	   *p = fa_bin_alloc(sizeof(double) * t->nfragments);
	int64_t		from = (int64_t) ((1 - TEST_SHARE) * (double) t->nevents);
	Score		score[4] = {0};

	for (int64_t i = 0; i < t->nevents; i++)
	{
		if (i >= from)
			score_event(next, t, i, p, score);
		fa_next_observe(next, &t->event[i]);
	}
	printf("last %.0f %% of events %23s  top-1   top-3   log loss\n",
		   100 * TEST_SHARE, "events");
	for (int k = 0; k < 4; k++)
		print_score(label[k], &score[k]);
	fa_next_destroy(next);
	free(p);
}
