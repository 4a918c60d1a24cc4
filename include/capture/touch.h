/*
 * touch.h
 *	  Where in a plan fragments are met, and what became of it.
 */
#ifndef FA_CAPTURE_TOUCH_H
#define FA_CAPTURE_TOUCH_H

#include "executor/execdesc.h"
#include "nodes/execnodes.h"

#include "capture/counters.h"

/* One fragment at one node of a plan. */
typedef struct FaTouch
{
	PlanState  *node;
	int			slot;
	bool		remote;
	bool		written;		/* result relation of an UPDATE, DELETE, MERGE */
	bool		inserted;		/* node is the ModifyTable that inserts into it */
	int			sharing;		/* fragments that the node stands for (a join that
								 * was pushed down has several) */
} FaTouch;

typedef struct FaTouchList
{
	FaTouch    *touch;
	int			n;
	int			size;
	FaTouch		first;			/* most plans have one */
	bool		modifies;		/* has a ModifyTable: rows may be routed */
	List	   *sources;		/* of PlanState: give rows to INSERTs inside the
								 * statement that route them */
	bool		inserts;		/* the statement itself is an INSERT */
	bool		simple;			/* one fragment, whose rows are the statement's */
} FaTouchList;

/*
 * Fills *list (zeroed) from the plan's state; false when there is nothing to
 * watch.  Adds instrumentation to nodes if the statement's own figures will
 * not do.  Memory: the query's.
 */
extern bool fa_touch_collect(QueryDesc *query, FaTouchList *list);

/*
 * What was really touched, one entry a fragment.  processed: rows of the
 * statement; elapsed_ns: its time.  *access_p has room for one entry, and is
 * replaced by a longer array if needed.
 */
extern int	fa_touch_result(QueryDesc *query, FaTouchList *list,
							uint64 processed, int64 elapsed_ns,
							FaAccess **access_p);

#endif							/* FA_CAPTURE_TOUCH_H */
