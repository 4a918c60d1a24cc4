/*
 * sessions.c
 *	  The sessions of a trace, told to the predictor step by step.
 */
#include <stdlib.h>

#include "bin/trace.h"
#include "predict/sessions.h"

#define LEAST_EXPECTED	0.001	/* accesses of a cell */

struct TraceSessions
{
	FaSessions *sessions;
	FaCell	   *cell;
	FaProfileUse *use;			/* of the step's events */
	int64_t		use_room;
	int64_t		at;				/* events taken in */
};

TraceSessions *
fa_bin_sessions(const Trace *t, uint64_t seed)
{
	TraceSessions *s = fa_bin_alloc(sizeof(TraceSessions));
	FaSessionsConfig config = {.nnodes = t->nnodes};

	/* the network would take most of the time; it has few sequences to read */
	config.next.nfragments = t->nfragments;
	config.next.seed = seed;
	config.next.models = (1u << FA_NEXT_NMODELS) - 1 - (1u << FA_NEXT_LSTM);
	s->sessions = fa_sessions_create(&config, &fa_bin_allocator);
	s->cell = fa_bin_alloc(sizeof(FaCell) * t->nnodes * t->nfragments);
	return s;
}

/* What profiles did in the events from, up to to. */
static void
tell_use(TraceSessions *s, const Trace *t, int64_t step, int64_t from,
		 int64_t to, FaPredictor *p)
{
	if (to - from > s->use_room)
	{
		free(s->use);
		s->use_room = 2 * (to - from);
		s->use = fa_bin_alloc(s->use_room * sizeof(FaProfileUse));
	}
	for (int64_t i = from; i < to; i++)
	{
		const FaNextEvent *e = &t->event[i];

		s->use[i - from] = (FaProfileUse) {
			.profile = e->profile,.node = e->node,.fragment = e->fragment,
			.accesses = 1,.arrivals = t->opens[i]
		};
	}
	fa_predictor_use(p, step, s->use, (int) (to - from));
}

/* Step i is over: its events are known, and nothing later. */
void
fa_bin_tell_sessions(TraceSessions *s, const Trace *t, int64_t i,
					 FaPredictor *p)
{
	int64_t		end = t->t0 + (i + 1) * t->step;
	int64_t		from = s->at;
	int			n;

	for (; s->at < t->nevents && t->event[s->at].time < end; s->at++)
		fa_sessions_observe(s->sessions, &t->event[s->at], 0);
	fa_sessions_step(s->sessions, 1);
	n = fa_sessions_expected(s->sessions, LEAST_EXPECTED, s->cell,
							 t->nnodes * t->nfragments);
	fa_predictor_expect(p, i, s->cell, n);
	if (t->profiles)
		tell_use(s, t, i, from, s->at, p);
}
