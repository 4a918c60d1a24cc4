/*
 * pin.h
 *	  Which fragment each relation of a statement is about.
 *
 * A relation of a query is pinned when its conditions admit rows of one
 * fragment only: the columns that its table is partitioned by are equal to
 * values that are known before the statement runs.
 */
#ifndef FA_ROUTE_PIN_H
#define FA_ROUTE_PIN_H

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

/*
 * What a column of a range table entry is known to be: equal to one of
 * exprs, or (array) to an element of the one expr.  Expressions are of the
 * column's type, without variables, and not volatile.
 */
typedef struct FaKnown
{
	List	   *exprs;			/* NIL: nothing known */
	bool		array;
} FaKnown;

typedef struct FaPin
{
	Query	   *query;			/* level of the statement */
	Index		rti;			/* range table entry there */
	Oid			relid;			/* distributed table, or one bucket of it */
	LOCKMODE	lockmode;
	int			natts;
	FaKnown    *known;			/* by attno - 1 */
	Bitmapset  *written;		/* attnos that get values of which nothing is known */
	List	  **becomes;		/* by attno - 1: expressions, as in known, that
								 * rows are given; NULL: none at all */

	/* set by fa_pin_resolve() when it answers FA_PIN_HERE */
	Oid			leaf;
	List	   *parents;		/* OIDs between relid and leaf that are locked; of a
								 * leaf elsewhere, the bucket is the last */
	bool		proven;			/* of a modified relation, by its key: no row leaves
								 * or misses the leaf */

	/* set by fa_leaf_fits() when it can */
	bool		same_columns;	/* leaf's and relid's, at the same places */

	/* set by fa_leaf_substitute(): the entry that the leaf has taken; else NULL */
	RangeTblEntry *table;
} FaPin;

typedef enum FaPinResult
{
	FA_PIN_HERE,				/* on one fragment */
	FA_PIN_LATER,				/* not known before execution */
	FA_PIN_NONE,				/* on several, or on none */
	FA_PIN_NOWHERE				/* of an INSERT: its rows have no partition */
} FaPinResult;

/* in pin.c */

/*
 * Relations that are pinned, or will be when parameters are known: list of
 * FaPin, palloc'd.  The same statement gives them in the same order.
 */
extern List *fa_pin_collect(Query *query);

/* in pin_possible.c */

/* Could a statement with this query have pins?  Cheap. */
extern bool fa_pin_possible(Query *query);

/* in pin_resolve.c */

/*
 * Finds a pin's fragment, and locks the leaf and what is between its table and it
 * as the statement will; not the bucket of a heap.  params may be NULL.  Unless final, values that may
 * change until the plan is executed are not looked at (FA_PIN_LATER).  Waits
 * while the fragment is cut over.
 */
extern FaPinResult fa_pin_resolve(FaPin *pin, ParamListInfo params, bool final);

/*
 * For a pin that is on several fragments, as its key has alternatives: one for
 * each of them, resolved.  NIL when there are no such.
 */
extern List *fa_pin_resolve_each(FaPin *pin, ParamListInfo params, bool final);

/*
 * For check_functions_in_node(): not built in, or not always the same.  Other
 * nodes need not have it, and it may answer otherwise when asked again.
 */
extern bool fa_function_is_foreign(Oid function, void *context);

#endif							/* FA_ROUTE_PIN_H */
