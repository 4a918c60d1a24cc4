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

/* Does an upsert or MERGE change what its rows' fragments go by? */
extern bool fa_refusal_changes_key(Query *query);

/*
 * As fa_refusal_of_row() for an error of the planner about a statement without
 * pins; changes_key: as it was before it was planned.
 */
extern void fa_refusal_of_plan(ErrorData *edata, Query *query,
							   bool changes_key);

#endif							/* FA_ROUTE_REFUSAL_H */
