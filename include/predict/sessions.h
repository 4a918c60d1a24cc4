/*
 * sessions.h
 *	  From "this session has just touched f" to accesses expected of its node.
 *
 * Events come in one by one, of one step after the other.  At the end of a
 * step every session that may go on is weighed: how many events it will have
 * in the coming step, by how long it has paused and how busy it was (learned
 * over all sessions); on which fragments, by the next-fragment engine
 * (next.h); and from which node.  The sum is what all of them are expected to
 * access: a short-term forecast that no series of counts holds.
 *
 * Plain C like predict.h; memory is bounded by the configuration.
 */
#ifndef FA_PREDICT_SESSIONS_H
#define FA_PREDICT_SESSIONS_H

#include "predict/next.h"

typedef struct FaSessionsConfig
{
	int			nnodes;			/* >= 1 */
	FaNextConfig next;
} FaSessionsConfig;

typedef struct FaSessions FaSessions;

extern FaSessions *fa_sessions_create(const FaSessionsConfig *config,
									  const FaAllocator *allocator);
extern void fa_sessions_destroy(FaSessions *s);

/* Grows only. */
extern void fa_sessions_resize(FaSessions *s, int nfragments);

/*
 * Learns one event of the running step.  repeats: further accesses of the
 * session to the fragment that it was at before.  An event of a fragment or
 * node out of range is ignored.
 */
extern void fa_sessions_observe(FaSessions *s, const FaNextEvent *event,
								double repeats);

/*
 * The running step is over; forecasts the next.  When scale is above 1, only
 * one session in so many was shown, chosen at random.
 */
extern void fa_sessions_step(FaSessions *s, double scale);

/*
 * What the sessions are expected to access in the coming step: the largest
 * cells, at most max and none below least accesses, in no order.  Returns how
 * many were written.
 */
extern int	fa_sessions_expected(const FaSessions *s, double least,
								 FaCell *cells, int max);

/* The network begins anew; counts are kept. */
extern void fa_sessions_reset_network(FaSessions *s);

/* Bytes held. */
extern size_t fa_sessions_memory(const FaSessions *s);

/*
 * What was learned (not the sessions themselves, which the caller's restart
 * ended) as a byte string; as fa_predictor_save() and _restore().
 */
extern size_t fa_sessions_save(const FaSessions *s, void *buf, size_t size);
extern FaSessions *fa_sessions_restore(const void *buf, size_t size,
									   const FaSessionsConfig *config,
									   const FaAllocator *allocator);

#endif							/* FA_PREDICT_SESSIONS_H */
