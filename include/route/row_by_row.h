/*
 * row_by_row.h
 *	  Upserts and MERGE that their rows' owners cannot do.
 *
 * What has to be evaluated for a row may need this node: its session's settings, its
 * tables, users' functions, as policies of row security may ask for.  Then the row
 * comes here, is locked where it is meanwhile, and goes back.
 */
#ifndef FA_ROUTE_ROW_BY_ROW_H
#define FA_ROUTE_ROW_BY_ROW_H

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

extern void fa_row_by_row_init(void);	/* with the router */

/*
 * A plan for an upsert or MERGE, that works wherever its rows are; NULL when there
 * is none.  The query stays as it is.
 */
extern PlannedStmt *fa_row_by_row_plan(Query *query);

/*
 * Where parts of WITH change rows, upserts are planned beside them.  The first takes
 * those of distributed tables out of the query, which then inserts their rows; the
 * second puts them into its plan.
 */
extern List *fa_row_by_row_take(Query *query);
extern void fa_row_by_row_put(PlannedStmt *plan, List *taken);

#endif							/* FA_ROUTE_ROW_BY_ROW_H */
