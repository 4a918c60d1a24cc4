/*
 * route.h
 *	  Statements that are about one fragment go straight to it.
 *
 *	pin.c			which relations of a statement are on one fragment
 *	pin_resolve.c	which fragment that is
 *	leaf.c			the statement on the fragment's leaf instead of its table
 *	whole.c			... or as text for the fragment's owner
 *	remote_scan.c	runs that text there
 *	deferred.c		both, for plans that are made before values are known
 *	router.c		the planner hook, where they meet
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

/* in leaf.c */

/* Can the pin's leaf stand for its table? */
extern bool fa_leaf_fits(FaPin *pin);

/*
 * Puts the leaf in the place of the table.  Permissions are still those on
 * the table, which stays in the range table, as do all relations on the way:
 * they are what a cached plan locks, in this order, and is invalidated by.
 */
extern void fa_leaf_substitute(FaPin *pin);

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

/* A range table entry that only stands for a relation and its lock. */
extern RangeTblEntry *fa_custom_rte(Oid relid, LOCKMODE lockmode);

/* in deferred.c */
extern void fa_deferred_init(void);

/* Stands for a statement's plan until ExecutorStart. */
extern PlannedStmt *fa_deferred_plan(Query *parse, int cursor_options);

#endif							/* FA_ROUTE_ROUTE_H */
