/*
 * sessions_parts.h
 *	  Inside of what is expected of the open sessions.
 */
#ifndef FA_PREDICT_SESSIONS_PARTS_H
#define FA_PREDICT_SESSIONS_PARTS_H

#include "predict/next_parts.h"
#include "predict/sessions.h"

#define FA_SESSION_IDLES	10	/* levels of steps since the last event */
#define FA_SESSION_BUSYS	12	/* levels of events a step */
#define FA_SESSION_STATES	(FA_SESSION_IDLES * FA_SESSION_BUSYS)

/* What sessions in a like state did in the step after. */
typedef struct FaSessionState
{
	double		n;				/* session-steps */
	double		events;
} FaSessionState;

struct FaSessions
{
	FaMemory	memory;
	int			nnodes;
	FaNext	   *next;
	int64_t		step;			/* steps ended */
	FaSessionState state[FA_SESSION_STATES];
	double		stays;			/* belief that the node stays */
	/* by fragment */
	double	   *visits;			/* events, forgotten */
	double	   *accesses;		/* of these events */
	double	   *follows;		/* x nnodes: nodes of the events after; NULL */
	double	   *after;			/* scratch, zero between calls */
	int32_t    *after_set;
	/* expected of the coming step: nfragments x nnodes, and which are set */
	double	   *expected;
	int32_t    *set;
	int			nset;
};

#endif							/* FA_PREDICT_SESSIONS_PARTS_H */
