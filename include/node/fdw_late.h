/*
 * fdw_late.h
 *	  Scans at peers that have been started, but have not begun.
 *
 * postgres_fdw opens a scan's cursor when its first row is asked for.  By then
 * the client, or a function, may have set a savepoint, and the session at the
 * peer have it, too: then the cursor ends with the savepoint when that is
 * undone, as if it had been declared in it.  Or rows may have been changed that a
 * statement sent whole must not see.  So what has not begun does before that:
 *
 *	- when a cursor has been declared (not WITH HOLD), and before the client sets a
 *	  savepoint: everything
 *	- when any savepoint begins, of a function's EXCEPTION as well: scans that
 *	  need nothing evaluated
 *	- before a change: statements that are sent whole
 *
 * A scan whose parameters come from other rows of its plan begins when they do.  In a
 * savepoint that its executor is older than, it fetches all of its rows at once.
 */
#ifndef FA_NODE_FDW_LATE_H
#define FA_NODE_FDW_LATE_H

#include "nodes/execnodes.h"

typedef enum FaLateKind
{
	FA_LATE_SCAN,
	FA_LATE_STATEMENT			/* sent whole; needs its parameters evaluated */
} FaLateKind;

/* Begins a scan, with a call of fa_late_begun(), unless it cannot yet. */
typedef void (*FaLateBegin) (void *scan);

/* Notes one that has been started; until its executor's memory is freed. */
extern void fa_late_add(EState *estate, void *scan, FaLateKind kind,
						FaLateBegin begin);
/*
 * It has begun, or is about to: true when it had not before.  Cheap when called
 * for each row.
 */
extern bool fa_late_begun(void *scan);

/*
 * Did it begin in a savepoint that has been undone?  Then its cursor may be gone, and
 * cannot be closed.  Rows that it has fetched can still be read.
 */
extern bool fa_late_is_lost(void *scan);
/* It has begun in a savepoint that it may survive. */
extern bool fa_late_may_be_lost(void *scan);
/* It is going to begin again. */
extern void fa_late_anew(void *scan);

/* Begins those that have not, of any kind or one.  Raises what they do. */
extern void fa_late_begin_all(void);
extern void fa_late_begin_kind(FaLateKind kind);

/*
 * Rows that an asynchronous scan has asked for, in a savepoint, are dropped by
 * postgres_fdw when that is undone, although the cursor has moved past them.  So
 * they are taken in before the statement's run ends: noted where they are asked
 * for, by node and user of the session, and settled then.
 */
extern void fa_late_fetching(int node, Oid user);
extern void fa_late_settle(void);

/* A foreign scan of the wrapper, after BeginForeignScan. */
extern void fa_late_add_scan(ForeignScanState *node);

#endif							/* FA_NODE_FDW_LATE_H */
