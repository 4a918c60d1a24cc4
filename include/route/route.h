/*
 * route.h
 *	  Statements that are about one fragment go straight to it.
 *
 *	pin.c			which relations of a statement are on one fragment
 *	pin_resolve.c	which fragment that is
 *	leaf.c			the statement on the fragment's leaf instead of its table
 *	kept.c			... with the plan of one that differed in its constants
 *	whole.c			... or as text for the fragment's owner
 *	remote_scan.c	runs that text there
 *	split.c			an INSERT of several fragments' rows, taken apart
 *	copy.c			COPY into a table whose fragments are on several nodes
 *	row_by_row.c	an upsert or MERGE whose rows have to come here
 *	deferred.c		all of it, for plans that are made before values are known
 *	function.c		... of functions' statements, too
 *	scan_keys.c		... started with the values in them
 *	router.c		the planner hook, where they meet
 *	hooks.c			what happens around the execution
 */
#ifndef FA_ROUTE_ROUTE_H
#define FA_ROUTE_ROUTE_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

#include "route/pin.h"

/* in router.c */
extern void fa_router_init(void);	/* from _PG_init; the last of our hooks */

/*
 * Plans a statement (and changes it), with what its pins allow.  final: the
 * plan is executed now, with these parameters; they are then only used to
 * find fragments, unless custom.
 */
extern PlannedStmt *fa_route_plan(Query *parse, const char *query_string,
								  int cursor_options, ParamListInfo params,
								  bool final, bool custom);

/*
 * Its ways: to the fragments of its pins, all of them resolved; and by
 * PostgreSQL's plan over the partitions.  They change the query.
 */
extern PlannedStmt *fa_route_plan_pinned(Query *parse, List *pins,
										 const char *query_string,
										 int cursor_options,
										 ParamListInfo params);
extern PlannedStmt *fa_route_plan_unpinned(Query *parse,
										   const char *query_string,
										   int cursor_options,
										   ParamListInfo params);

/* in leaf.c */

/* Have two relations the same columns at the same places? */
extern bool fa_leaf_same_columns(Oid one, Oid other);

/* in leaf_columns.c: can the leaf stand for the table in the query? */
extern bool fa_leaf_fits(FaPin *pin);
/* Has the leaf, or bucket, the table's columns in its order, by name and type? */
extern bool fa_leaf_has_columns(Oid table, Oid leaf);
/*
 * Where the leaf, which has them, has taken the table's place as rti: the leaf's
 * column numbers.  Changes nodes of the query.
 */
extern void fa_leaf_map_columns(Query *query, Index rti, Oid table, Oid leaf_oid);
/* What peers know the pin's fragment by. */
extern Oid	fa_leaf_bucket(FaPin *pin);
/*
 * Puts the pins' buckets in the place of their tables in the copy of a query,
 * which may have nodes of the query itself; they stay as they are.
 */
extern Query *fa_leaf_put_buckets(Query *query, Query *copy, List *pins);

/*
 * Puts the leaf in the place of the table, and when the query has been planned,
 * what is needed of the tables of all pins back: permissions are still those on
 * them, and a cached plan locks them and all relations on the way, in this order,
 * and is invalidated by them.
 */
extern void fa_leaf_substitute(FaPin *pin);
extern void fa_leaf_keep_tables(PlannedStmt *plan, List *pins);

/*
 * in leaf_check.c: the partition constraint of a relation that is locked, for a
 * statement with this memory; NULL: it has none
 */
extern ExprState *fa_leaf_check(Relation leaf, MemoryContext query);

/* in custom_plan.c */

/*
 * A plan that is one custom scan, which returns what the statement does.  It
 * has all relations of the statement in its range table, for locks and
 * permissions, after them those given (as custom_relids).
 */
extern PlannedStmt *fa_custom_plan(Query *parse,
								   const CustomScanMethods *methods,
								   List *custom_private, List *custom_exprs,
								   List *rtes);

/*
 * Such a scan for one modification of a plan that is made: it has the place, and as
 * its child the rows, of that.  targets: what it returns.
 */
extern CustomScan *fa_custom_plan_part(PlannedStmt *plan,
									   const CustomScanMethods *methods,
									   List *custom_private, List *targets,
									   ModifyTable *instead);

/* Locks and watches, with a plan, what others that are run as parts of it do. */
extern void fa_custom_plan_depends(PlannedStmt *plan, List *parts);

/* A range table entry that only stands for a relation and its lock. */
extern RangeTblEntry *fa_custom_rte(Oid relid, LOCKMODE lockmode);

/* in whole.c */

/*
 * A plan that sends the statement, as text, to the node that owns all of its
 * fragments (pins, all of them resolved); NULL when it must be taken apart,
 * because some relation is elsewhere or something in it would mean another
 * thing there.  Several pins of one relation, the statement's only one, mean
 * that its rows are in these fragments.
 */
extern PlannedStmt *fa_whole_plan(Query *parse, List *pins, int cursor_options);

/* in split.c */

/*
 * A plan for an INSERT of VALUES that belong to several fragments: one statement
 * for each node, in the transaction.  NULL when PostgreSQL does as well, or
 * when they are not known yet.  Arguments as of fa_route_plan().
 */
extern PlannedStmt *fa_split_plan(Query *parse, const char *query_string,
								  int cursor_options, ParamListInfo params,
								  bool final, bool custom);

/* in split_scan.c: runs the parts that split.c makes */

/*
 * parts: of PlannedStmt; order: for each row the place of its part, if every
 * row comes back, so that they can come in their order; else NIL.
 */
extern PlannedStmt *fa_split_scan_plan(Query *parse, List *parts, List *order,
									   List *rtes);
extern void fa_split_scan_init(void);

/* in remote_scan.c */

/* custom_private of a plan made by whole.c, by position. */
typedef enum FaRemotePrivate
{
	FA_REMOTE_SQL,				/* String */
	FA_REMOTE_NODE,				/* Integer */
	FA_REMOTE_LEAF,				/* oid, of a foreign table of that node */
	FA_REMOTE_FEW_ROWS,			/* Boolean: its result fits in memory */
	FA_REMOTE_LABEL,			/* String: fragments, for EXPLAIN */
	FA_REMOTE_VERSION,			/* String: of the first one in the map */
	FA_REMOTE_CHECKS,			/* List of String: what is raised when one of the
								 * last custom_exprs, as many, is not true */
	FA_REMOTE_FALLIBLE,			/* List of int: custom_exprs whose error is the next
								 * one's value, instead of being raised */
	FA_REMOTE_QUERIES			/* List of PlannedStmt or NULL: what gives the value of
								 * a custom_expr that has a subquery; NIL: none has */
} FaRemotePrivate;

extern const CustomScanMethods fa_remote_scan_methods;
extern void fa_remote_scan_init(void);

/* Is the plan one of them? */
extern bool fa_remote_scan_is(PlannedStmt *plan);
/*
 * Steps that such a plan, a modification that has been started as part of
 * another, can take before it is run: its parameters, which may need any
 * session; the statement, if its session need not be waited for; its result.
 * Between the last two nothing else may be done with sessions of the transaction.
 * What the peer raised is raised when the plan is run.
 */
extern void fa_remote_scan_evaluate(PlanState *node);
extern void fa_remote_scan_send(PlanState *node);
extern void fa_remote_scan_receive(PlanState *node);

/* in peer_scan.c: a statement over postgres_fdw's own connection */
typedef struct FaPeerScan FaPeerScan;

/*
 * leaf: a foreign table of the node; values: parameters as text; columns: of
 * the result; few: it is fetched at once, in one round trip.  Memory: the
 * current context.
 */
extern FaPeerScan *fa_peer_scan_begin(Oid leaf, const char *sql, int nparams,
									  char **values, List *columns,
									  bool few, bool returns, EState *outer);
/* Next row, or an empty slot. */
extern TupleTableSlot *fa_peer_scan_next(FaPeerScan *scan);
/* Rows that a statement without rows says it has changed. */
extern uint64 fa_peer_scan_processed(FaPeerScan *scan);
extern void fa_peer_scan_end(FaPeerScan *scan);

/* in async.c: of a plan that PostgreSQL has made; returns it */
extern PlannedStmt *fa_async_settle(PlannedStmt *plan);

/* in alone.c */

/*
 * Will the statement that runs now be all that its transaction has done when
 * it commits, and is it the client's own?  parts: queries that it has run itself, and
 * that only read.
 */
extern bool fa_statement_is_alone(int parts);
/* The same for a utility command that is about to run. */
extern bool fa_command_is_alone(void);
/* May others come between its start and its first row, as of a cursor?  Cheap. */
extern bool fa_statement_may_be_interrupted(void);

/* in deferred.c */
extern void fa_deferred_init(void);

/* Stands for a statement's plan until ExecutorStart. */
extern PlannedStmt *fa_deferred_plan(Query *parse, const char *query_string,
									 int cursor_options);

#endif							/* FA_ROUTE_ROUTE_H */
