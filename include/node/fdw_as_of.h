/*
 * fdw_as_of.h
 *	  Scans at peers that begin after a change, and must not see it.
 *
 * A statement does not see what is changed after it has begun, by itself or by a
 * statement inside of it.  Here its snapshot sees to that; a peer takes a new one
 * whenever a scan begins, in the session that has the changes.  So before a
 * session changes anything while a statement is open that may scan there later, a
 * mark is set in it, and the scan is then told to read as of the mark:
 *
 *	1. origin: SET LOCAL fragaffinity.as_of = n		before the change
 *	2. peer: notes its command's number as mark n
 *	3. the change
 *	4. origin: SET LOCAL fragaffinity.as_of = n		unless it still is
 *	5. peer: SELECT under a snapshot that ends before mark n
 *	6. origin: SET LOCAL fragaffinity.as_of = 0		before a scan of any other
 *
 * What others commit meanwhile is seen as ever, in READ COMMITTED.
 */
#ifndef FA_NODE_FDW_AS_OF_H
#define FA_NODE_FDW_AS_OF_H

#include "executor/execdesc.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

/* ---- at the origin */

/* After ExecutorStart of a statement whose foreign scans may begin late. */
extern void fa_as_of_add(EState *estate);

/*
 * After ExecutorStart of a query that is part of another statement: it reads as of
 * the moment that that one does, if that has been added.
 */
extern void fa_as_of_continue(EState *estate, EState *outer);

/*
 * The same for a statement that nobody here has begun, a function's: as the statement
 * that it has its snapshot of, if any.
 */
extern void fa_as_of_inherit(EState *estate, Snapshot snapshot);

/* Has a mark been set by this transaction, in any session?  Cheap. */
extern bool fa_as_of_is_used(void);

/*
 * From the routines of the wrapper.  Before a scan that may begin now; and before
 * the user's session at the foreign table's node changes anything.
 */
extern void fa_as_of_before_scan(ForeignScanState *node, Oid foreign_table,
								 Oid user);
extern void fa_as_of_before_change(Oid foreign_table, Oid user);

/*
 * Does the statement change this table by WITH, too?  Then its rows are to be
 * found by a scan, not by what changes them.
 */
extern bool fa_as_of_changes_twice(PlannerInfo *root);

/* A scan is going to begin anew. */
extern void fa_as_of_rescan(ForeignScanState *node);

/* ---- at the peer */

extern void fa_as_of_init(void);	/* from _PG_init */

/* Before ExecutorStart: gives a SELECT the snapshot that its origin wants. */
extern void fa_as_of_apply(QueryDesc *desc);
/* After it: has the statement lock rows as of the same moment. */
extern void fa_as_of_started(QueryDesc *desc);

#endif							/* FA_NODE_FDW_AS_OF_H */
