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

/* Step i is over: its events are known, and nothing later. */
void
fa_bin_tell_sessions(TraceSessions *s, const Trace *t, int64_t i,
					 FaPredictor *p)
{
	int64_t		end = t->t0 + (i + 1) * t->step;
	int			n;

	for (; s->at < t->nevents && t->event[s->at].time < end; s->at++)
		fa_sessions_observe(s->sessions, &t->event[s->at], 0);
	fa_sessions_step(s->sessions, 1);
	n = fa_sessions_expected(s->sessions, LEAST_EXPECTED, s->cell,
							 t->nnodes * t->nfragments);
	fa_predictor_expect(p, i, s->cell, n);
}
