/*
 * kept.h
 *	  Plans of statements that differ in their constants only; for kept*.c.
 */
#ifndef FA_ROUTE_KEPT_H
#define FA_ROUTE_KEPT_H

#include "fmgr.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"

#include "route/pin.h"

/* Statements with more constants are planned each time. */
#define FA_SHAPE_CONSTS 64

/*
 * A statement's constants that do not belong to its shape, in the order of a walk
 * through it.  A value is such a constant, or what PostgreSQL would compute of
 * some when it plans: the casts of an INSERT, say.
 */
typedef struct FaShapeScan
{
	uint32		hash;			/* of the shape, not of all that is in it */
	int			nconsts;
	Const	   *consts[FA_SHAPE_CONSTS];
	int			nvalues;
	Node	  **values[FA_SHAPE_CONSTS];	/* where they are in the query; only if
											 * asked for */
	bool		find_values;
	bool		failed;
} FaShapeScan;

/* in kept_shape.c */

/*
 * False when the statement is not of the simple kind whose plans are kept: one
 * distributed table, and nothing in it whose meaning is settled by planning but
 * constants.  Cheap, unless find_values.
 */
extern bool fa_shape_scan(Query *query, bool find_values, FaShapeScan *scan);

/* How a value is computed. */
typedef struct FaShapeValue
{
	Node	   *expr;			/* Const, or functions of Consts */
	FmgrInfo   *functions;		/* in the order in which expr names them */
} FaShapeValue;

/* In the current memory context; expr is not copied. */
extern void fa_shape_value_prepare(FaShapeValue *value, Node *expr);
extern Datum fa_shape_value_compute(FaShapeValue *value, bool *isnull);

/* in kept_fill.c */

/* A constant of a kept plan that is replaced for each execution. */
typedef struct FaKeptPlace
{
	Const	   *constant;
	int			value;			/* its number in the shape */
} FaKeptPlace;

/*
 * Is a plan, made for parameters in the place of values, as good as one for any of
 * their values: at most one row, found by a unique index, or one row that is
 * inserted?  And does it depend on nothing but its relations?
 */
extern bool fa_kept_suits(PlannedStmt *plan);

/* Exchanges the parameters for constants; list of FaKeptPlace. */
extern List *fa_kept_places(PlannedStmt *plan);

/* in kept_settings.c: of the planner, since it was asked last */
extern bool fa_kept_settings_changed(void);

/* in kept.c */
extern void fa_kept_init(void);	/* from fa_router_init() */

/*
 * A plan for a statement with this one pin, which is resolved; NULL: it is to be
 * planned.  The plan is for one execution, as long as the current memory context
 * lives.  Does not change the query.
 */
extern PlannedStmt *fa_kept_plan(Query *parse, FaPin *pin,
								 const char *query_string, int cursor_options);

#endif							/* FA_ROUTE_KEPT_H */
