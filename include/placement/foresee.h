/*
 * foresee.h
 *	  What this node's open sessions and roles are about to do.
 *
 * On every node, in the database's worker.  A row in session_forecast for each
 * fragment that the sessions are expected to touch in the coming step, one in
 * profile_use for what each role did in the step that is over; the coordinator
 * collects both with the history and tells its predictor.
 */
#ifndef FA_PLACEMENT_FORESEE_H
#define FA_PLACEMENT_FORESEE_H

#include "datatype/timestamp.h"
#include "utils/hsearch.h"

#include "placement/numbering.h"
#include "predict/sessions.h"

typedef struct FaForesight
{
	MemoryContext context;		/* of all below; deleted to start anew */
	FaSessions *sessions;		/* NULL: not made yet */
	bool		busy;			/* at work: an error spoils it */
	int64		width_us;		/* length of a step */
	int64		step;			/* that runs */
	uint64		position;		/* in the ring of events */
	FaNumbering fragments;
	HTAB	   *visitor;		/* what each process slot did last */
	HTAB	   *use;			/* by role, application, fragment: of the step */
	double		share;			/* of the sessions that are followed */
	int64		spent_us;		/* on learning, since the step began */
	bool		unsaved;
	TimestampTz network_since;	/* its weights were made or restored */
} FaForesight;

/* in foresee.c */

/* About each second and at the ends of steps, outside a transaction. */
extern void fa_foresee_step(void);
extern FaAllocator fa_foresee_allocator(FaForesight *f);

/* in foresee_rows.c; in a transaction */
extern void fa_foresee_count(FaForesight *f, Oid role, int application,
							 int64 fragment, double accesses, double arrivals);
/* Writes what is foreseen as of the end of the step. */
extern void fa_foresee_write(FaForesight *f, int self, int64 step);
extern void fa_foresee_tidy(const FaForesight *f);
extern void fa_foresee_save(FaForesight *f);
/* False when there is no state that fits. */
extern bool fa_foresee_restore(FaForesight *f, const FaSessionsConfig *config);

#endif							/* FA_PLACEMENT_FORESEE_H */
