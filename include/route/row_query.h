/*
 * row_query.h
 *	  Queries of one row, which are run as part of a statement.
 *
 * What a statement evaluates that has subqueries, or that is about a row that is
 * here only for the moment, becomes a query of its own, SELECT without FROM; and
 * what is done with such a row, a statement of its own.  PostgreSQL plans them, once,
 * with the statement, and executes them for each row, with the row's columns as
 * parameters.
 */
#ifndef FA_ROUTE_ROW_QUERY_H
#define FA_ROUTE_ROW_QUERY_H

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/params.h"
#include "nodes/plannodes.h"

/*
 * The plan of a query that gives one row of these expressions, which have no
 * columns, but may have external parameters and subqueries; or of entries of a target
 * list, without those that are junk.
 */
extern PlannedStmt *fa_row_query_plan(List *exprs);

/*
 * Executes a plan under the statement's snapshot, with these parameters.  Returns
 * its first row; NULL: it has none.  Memory: the current context.
 */
extern TupleTableSlot *fa_row_query_run(PlannedStmt *plan, EState *estate,
										ParamListInfo params);

/*
 * The same for a part of the statement that changes or locks rows: under a new
 * snapshot, which sees what parts before have changed.  The number of rows
 * that it changed, or gave, is in processed_p, unless that is NULL.
 */
extern TupleTableSlot *fa_row_query_change(PlannedStmt *plan, EState *estate,
										   ParamListInfo params,
										   uint64 *processed_p);

/*
 * The same for a part of WITH, which is beside others that change rows: it belongs to
 * the statement's command.  It neither locks nor changes what that has changed
 * already, but passes it over, as the others do with its rows.
 */
extern TupleTableSlot *fa_row_query_change_beside(PlannedStmt *plan, EState *estate,
												  ParamListInfo params,
												  uint64 *processed_p);

#endif							/* FA_ROUTE_ROW_QUERY_H */
