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

/*
 * Takes the conditions of row security out of a query, whose lists are replaced,
 * not changed: they may be conditions of WHERE as well.  False when that would
 * not be the same: a function in WHERE could see rows that they hide, a new row
 * needs a check, or the query is more than rows of one table.
 */
extern bool fa_row_security_take(Query *query, List **quals_p);

#endif							/* FA_ROUTE_ROW_SECURITY_H */
