/*
 * row_image.h
 *	  A row that a statement works at, as parameters of queries; for row_*.c.
 *
 * Parameters are those of the statement itself, then the columns of three images
 * of a row of the target (as it is inserted; as it is; as it becomes), each in the
 * table's order, then columns of the source of a MERGE.
 */
#ifndef FA_ROUTE_ROW_IMAGE_H
#define FA_ROUTE_ROW_IMAGE_H

#include "nodes/execnodes.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "utils/hsearch.h"
#include "utils/relcache.h"

typedef enum FaRowImage
{
	FA_ROW_NEW,
	FA_ROW_OLD,
	FA_ROW_CHANGED
} FaRowImage;
#define FA_ROW_IMAGES 3

/* While it is planned. */
typedef struct FaRowPlan
{
	Query	   *query;
	Relation	rel;			/* target, locked */
	Index		excluded;		/* range table entry of that name; 0: none */
	int			first;			/* parameters of the statement itself */
	List	   *source;			/* Vars of other entries, as parameters */
	FaRowImage	image;			/* that the target's columns are of */
	Bitmapset  *set;			/* columns that get values in FA_ROW_CHANGED */
	Bitmapset  *old;			/* columns of FA_ROW_OLD that are used */
	Index		depth;			/* of subqueries */
	bool		beside;			/* others in the statement change rows */
	bool		failed;			/* something has no place in another query */
} FaRowPlan;

/* While it is executed. */
typedef struct FaRowState
{
	EState	   *estate;			/* the statement's */
	TupleDesc	desc;			/* of the target */
	int			first;
	ParamListInfo params;
	HTAB	   *changed;		/* keys of rows that the statement has changed */
	PlanState  *rows;			/* beside others that change rows: gives its own; NULL:
								 * alone */
	bool		counts;			/* in the statement's number of rows */
	MemoryContext context;		/* of all this; the current one is the row's */
} FaRowState;

/* in row_image.c */

/* Begins to plan; false when the statement is not one for this. */
extern bool fa_row_plan_begin(FaRowPlan *plan, Query *query);
/* The number of the parameter that a column is. */
extern int	fa_row_parameter(FaRowPlan *plan, FaRowImage image, AttrNumber attno);
/* A copy of an expression, or a list, with parameters in the place of columns. */
extern Node *fa_row_expr(FaRowPlan *plan, FaRowImage image, Node *expr);
/* Plan of a query that gives these; NULL for NIL. */
extern PlannedStmt *fa_row_exprs_plan(FaRowPlan *plan, FaRowImage image, List *exprs);
/*
 * What fa_row_meet_checks() looks at: the checks of the kind; NIL: there are none.
 */
extern List *fa_row_checks_plan(FaRowPlan *plan, FaRowImage image, WCOKind kind);

extern void fa_row_state_begin(FaRowState *state, EState *estate, Oid relid,
							   int first, int nsource);
extern ParamExternData *fa_row_value(FaRowState *state, FaRowImage image,
									 AttrNumber attno);
/* All columns of all images become null. */
extern void fa_row_clear(FaRowState *state);
/* Puts a row's values into these columns of an image. */
extern void fa_row_store(FaRowState *state, FaRowImage image, List *columns,
						 TupleTableSlot *row);
/* FA_ROW_CHANGED is FA_ROW_OLD but for these columns. */
extern void fa_row_change(FaRowState *state, List *columns, TupleTableSlot *row);
/* Is what a plan gives true?  NULL is. */
extern bool fa_row_test(FaRowState *state, PlannedStmt *test);
/* Raises what is to be raised for the first check that is not met. */
extern void fa_row_meet_checks(FaRowState *state, List *checks);
/* Notes that the row with this key is changed; false when it has been before. */
extern bool fa_row_note(FaRowState *state, FaRowImage image, List *key);
/* Has it been? */
extern bool fa_row_is_noted(FaRowState *state, FaRowImage image, List *key);
/* Changes or locks the row by one of the plans of row_statement.c (row_query.h). */
extern TupleTableSlot *fa_row_execute(FaRowState *state, PlannedStmt *plan,
									  uint64 *processed_p);

/* in row_statement.c: plans of statements about one row; columns are attnos */

/* Inserts FA_ROW_NEW.  arbiter: does nothing when these have such values. */
extern PlannedStmt *fa_row_insert_plan(FaRowPlan *plan, List *columns, List *arbiter);
/* Locks the row whose key is that of the image, and gives columns of it. */
extern PlannedStmt *fa_row_lock_plan(FaRowPlan *plan, FaRowImage image, List *key,
									 List *columns);
/* Sets columns of the row with the key of FA_ROW_OLD as in FA_ROW_CHANGED. */
extern PlannedStmt *fa_row_update_plan(FaRowPlan *plan, List *key, List *columns);
extern PlannedStmt *fa_row_delete_plan(FaRowPlan *plan, List *key);

/*
 * in row_by_row.c: the rows that a SELECT of the statement gives.  All at once if it
 * reads tables, which must not be changed meanwhile, else one after the other.  plan:
 * NULL for those that state->rows gives.
 */
typedef struct FaRowSource FaRowSource;
extern FaRowSource *fa_row_source_begin(FaRowState *state, PlannedStmt *plan);
/* It lasts until the next one; NULL at the end. */
extern TupleTableSlot *fa_row_source_next(FaRowSource *source);
extern void fa_row_source_end(FaRowSource *source);

/* in row_upsert.c and row_merge.c: custom_private; NIL when it is not to be had */
extern List *fa_row_upsert_plan(FaRowPlan *plan);
extern List *fa_row_merge_plan(FaRowPlan *plan);

/* Does all of it.  RETURNING goes into the store, which may be NULL. */
extern void fa_row_upsert_run(FaRowState *state, List *private,
							  Tuplestorestate *returned, MemoryContext row_context);
/* What EXPLAIN says of it. */
struct ExplainState;
extern void fa_row_upsert_explain(List *private, Oid relid, struct ExplainState *es);
extern void fa_row_merge_run(FaRowState *state, List *private,
							 MemoryContext row_context);

#endif							/* FA_ROUTE_ROW_IMAGE_H */
