/*
 * next.h
 *	  Which fragment will a session touch next: the public face.
 *
 * Plain C on plain structs like predict.h, and as deterministic: the same
 * events and seed give the same forecasts.  It learns event by event, across
 * all sessions; a forecast uses only events that were observed before it.
 *
 * Memory comes from the allocator given at creation, which returns memory or
 * does not return (longjmp); the engine then remains destroyable.  What it
 * holds is bounded by the configuration, whatever is observed.
 */
#ifndef FA_PREDICT_NEXT_H
#define FA_PREDICT_NEXT_H

#include "predict/predict.h"

/* What can be switched off, to see what it is worth. */
typedef enum FaNextModel
{
	FA_NEXT_MARKOV,				/* what followed the last fragments */
	FA_NEXT_HABIT,				/* of this session, its role, its node */
	FA_NEXT_CLOCK,				/* at this time of the day and week */
	FA_NEXT_CACHE,				/* what the session touched lately */
	FA_NEXT_LSTM,				/* recurrent network over all sessions */
	FA_NEXT_NMODELS
} FaNextModel;

typedef struct FaNextConfig
{
	int			nfragments;		/* >= 1 */
	uint64_t	seed;
	uint32_t	models;			/* bits 1 << FaNextModel; 0: all */
	size_t		bytes;			/* for counts; 0: 64 MB */
	int			sessions;		/* remembered at a time; 0: 16384 */
} FaNextConfig;

typedef struct FaNextEvent
{
	uint64_t	session;		/* key, any number */
	uint64_t	profile;		/* of its role and application; 0: not known */
	int32_t		node;			/* whose client it is; -1: not known */
	int32_t		fragment;
	int64_t		time;			/* seconds since 1970-01-01 UTC */
} FaNextEvent;

typedef struct FaNext FaNext;

extern const char *fa_next_model_name(FaNextModel model);

extern FaNext *fa_next_create(const FaNextConfig *config,
							  const FaAllocator *allocator);
extern void fa_next_destroy(FaNext *next);

/* Grows only. */
extern void fa_next_resize(FaNext *next, int nfragments);

/*
 * Probability of each fragment to be the session's next one, given that it
 * goes on; p_p has nfragments entries and sums to 1.  "Now" is the time of
 * the last event observed, of any session.  profile and node matter for a
 * session that is not known yet.
 */
extern void fa_next_forecast(FaNext *next, uint64_t session, uint64_t profile,
							 int node, double *p_p);

/* Learns one event.  One of a fragment out of range is ignored. */
extern void fa_next_observe(FaNext *next, const FaNextEvent *event);

/* Bytes held. */
extern size_t fa_next_memory(const FaNext *next);

#endif							/* FA_PREDICT_NEXT_H */
