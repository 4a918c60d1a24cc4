/*
 * refusal.h
 *	  PostgreSQL's errors about partitions, in the words of the user's table.
 */
#ifndef FA_ROUTE_REFUSAL_H
#define FA_ROUTE_REFUSAL_H

#include "nodes/parsenodes.h"

/*
 * Changes a caught error (of CopyErrorData(), in its memory) when it is about a
 * row that does not fit into a bucket or leaf.  changes: rows were changed, not
 * only inserted.
 */
extern void fa_refusal_of_row(ErrorData *edata, bool changes);

/* Why has an upsert or MERGE, or one in its WITH, no plan? */
typedef enum FaRefusal
{
	FA_REFUSAL_KEY,				/* changes what rows' fragments go by */
	FA_REFUSAL_SENT,			/* gives rows, but cannot be sent to their owners */
	FA_REFUSAL_ROWS,			/* its rows are of several fragments */
	FA_REFUSAL_WITH,			/* an upsert in WITH is not sent to owners */
	FA_REFUSAL_NONE				/* there is none that could be refused */
} FaRefusal;

/* Asked before it is planned, which changes it. */
extern FaRefusal fa_refusal_why(Query *query);

/*
 * As fa_refusal_of_row() for an error of the planner about a statement without
 * pins.
 */
extern void fa_refusal_of_plan(ErrorData *edata, Query *query, FaRefusal why);

/*
 * in standby.c: before planning; raises on a hot standby for a statement that reads
 * what of ours is not replicated.
 */
extern void fa_refuse_on_standby(Query *query);

#endif							/* FA_ROUTE_REFUSAL_H */
