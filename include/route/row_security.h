/*
 * row_security.h
 *	  Row security of distributed tables.
 *
 * Policies are on the table, on every node, and are applied where the client's
 * statement is planned, as PostgreSQL does.  Buckets have row security without
 * policies: who may only see some rows gets at them by the table alone, and
 * sessions that work for a peer by its word (node/vouch.h).
 */
#ifndef FA_ROUTE_ROW_SECURITY_H
#define FA_ROUTE_ROW_SECURITY_H

#include "nodes/parsenodes.h"

extern void fa_row_security_init(void); /* from _PG_init */

/* Is the statement that is planned, or started, part of a function? */
extern bool fa_row_security_is_in_function(void);

/*
 * Takes row security out of a query, whose lists are replaced, not changed: its
 * conditions may be conditions of WHERE as well, and the checks of new rows, of
 * WithCheckOption with a qual that needs no row, be made before.  Checks of rows in
 * conflict become part of the condition of DO UPDATE, where they raise their errors
 * (peer_error.h).  False when that
 * would not be the same: a function in WHERE could see rows that are hidden, a new
 * row is not known, or the query is more than rows of one table.
 */
extern bool fa_row_security_take(Query *query, List **quals_p, List **checks_p);

/* A case of an expression: its result when the condition is not true. */
extern CaseWhen *fa_row_security_unless(Node *condition, Node *result);

/* What is raised (INSUFFICIENT_PRIVILEGE) for those that fail, of String. */
extern List *fa_row_security_messages(List *checks);

#endif							/* FA_ROUTE_ROW_SECURITY_H */
