/*
 * kept.h
 *	  Plans of statements that differ in their constants only; for kept*.c.
 */
#ifndef FA_ROUTE_KEPT_H
#define FA_ROUTE_KEPT_H

#include "fmgr.h"
#include "lib/ilist.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"

#include "route/pin.h"

/* Statements with more constants and parameters are planned each time. */
#define FA_SHAPE_CONSTS 64

/*
 * A statement's constants that do not belong to its shape, in the order of a walk
 * through it.  A value is such a constant, a parameter, or what PostgreSQL would
 * compute of some when it plans: the casts of an INSERT, say.
 */
typedef struct FaShapeScan
{
	ParamListInfo params;		/* that the statement is planned for */
	int			nparams;		/* that it names */
	int			nexact;			/* nodes whose constants belong to the shape */
	int			depth;			/* of expressions around the node it is at */
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
extern bool fa_shape_scan(Query *query, ParamListInfo params, bool find_values,
						  FaShapeScan *scan);

/* How a value is computed. */
typedef struct FaShapeValue
{
	Node	   *expr;			/* Const, Param, or functions of them */
	FmgrInfo   *functions;		/* in the order in which expr names them */
} FaShapeValue;

/* In the current memory context; expr is not copied. */
extern void fa_shape_value_prepare(FaShapeValue *value, Node *expr);
extern Datum fa_shape_value_compute(FaShapeValue *value, ParamListInfo params,
									bool *isnull);

/* in kept_shapes.c */

/*
 * When there is no room, what was used among the last so many statements stays:
 * making one takes longer than it saves the next.
 */
#define FA_KEPT_MIN_AGE 16384

/* A shape that has come more than once. */
typedef struct FaShape
{
	uint32		hash;			/* hash key */
	int			id;				/* of no shape before */
	MemoryContext context;		/* of the following */
	Query	   *query;			/* with the constants of the last that came */
	int			nconsts;
	Const	  **consts;			/* in query */
	int			nvalues;
	FaShapeValue *values;
	Query	   *generic;		/* with parameters in the place of values */
	Oid			relid;
	int			strangers;
	int			unfit_for;		/* statements; 0: its plans suit */
	uint64		unfit_until;	/* by number of look-ups */
	bool		stale;			/* the relation has changed */
	Size		bytes;
	uint64		last_use;		/* likewise */
	dlist_node	used;			/* in shape_order */
} FaShape;

/*
 * What may be the shape of a statement with this scan; NULL when it comes for the
 * first time, plans of it did not suit lately, or there is no room.  Lives until
 * the next call.  now: number of the look-up.
 */
extern FaShape *fa_shapes_find(Query *parse, FaShapeScan *scan, uint64 now);

/*
 * Is it?  Then the shape's query has the statement's constants, as long as they
 * live; else the shape may be gone.
 */
extern bool fa_shape_take(FaShape *shape, Query *parse, FaShapeScan *scan,
						  uint64 now);

/* Did a plan of it suit, that was made for any values? */
extern void fa_shape_suits(FaShape *shape, bool suits, uint64 now);

/* Of a table, or InvalidOid, all: their shapes go, not at once. */
extern void fa_shapes_note_change(Oid relid);

/* Has this come before, or something like it lately instead?  It has now. */
extern bool fa_shapes_seen_before(uint32 what);

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

/* in kept_settings.c: of the planner, and those that plans are kept for */
typedef enum FaKeptSettings
{
	FA_SETTINGS_SAME,
	FA_SETTINGS_OTHER,			/* perhaps for this statement only */
	FA_SETTINGS_NEW				/* from now on, they are for these */
} FaKeptSettings;

extern FaKeptSettings fa_kept_settings(void);

/* in kept.c */
extern void fa_kept_init(void);	/* from fa_router_init() */

/* A shape goes, and with it its plans; those that are lent when they are back. */
extern void fa_kept_forget_shape(int id);

/*
 * A plan for a statement with this one pin, which is resolved; NULL: it is to be
 * planned.  The plan is for one execution, as long as the current memory context
 * lives.  Does not change the query.
 */
extern PlannedStmt *fa_kept_plan(Query *parse, FaPin *pin,
								 const char *query_string, int cursor_options,
								 ParamListInfo params);

#endif							/* FA_ROUTE_KEPT_H */
