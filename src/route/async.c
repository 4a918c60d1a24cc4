/*
 * async.c
 *	  Which foreign scans of a plan must not run asynchronously.
 *
 * Two things that postgres_fdw does (seen with 15) do not go together with what
 * needs the same session meanwhile, a subquery, or a function that has one:
 *
 *	- while several scans run, it makes rows of what has come, in the middle of
 *	  preparing to wait for the rest.  If a row's condition or output needs the
 *	  session, that is prepared for twice ("epoll_ctl() failed: File exists").
 *	- it evaluates a statement's parameters when the session has been made idle
 *	  for it.  If a subquery that gives one leaves a scan running, the session is
 *	  not idle any more ("another command is already in progress").
 *
 * In the first case these scans run one after the other, in the second all those
 * in subqueries.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"

#include "node/fdw.h"
#include "route/route.h"

typedef enum AsyncRound
{
	ASYNC_COLLECT,				/* parameters that subqueries set when first used */
	ASYNC_SETTLE,				/* scans whose rows need sessions */
	ASYNC_NONE					/* all scans */
} AsyncRound;

typedef struct AsyncContext
{
	AsyncRound	round;
	Bitmapset  *params;
	bool		sent;			/* such a parameter is one of a scan's statement */
} AsyncContext;

static bool
async_is_foreign_function(Oid function, void *context)
{
	return function >= FirstUnpinnedObjectId;
}

/* May evaluating it run another statement, or part of this one? */
static bool
async_needs_sessions(Node *node, void *context)
{
	Bitmapset  *params = context;

	if (node == NULL)
		return false;
	if (IsA(node, SubPlan) || IsA(node, AlternativeSubPlan) ||
		(IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC &&
		 bms_is_member(((Param *) node)->paramid, params)) ||
		check_functions_in_node(node, async_is_foreign_function, NULL))
		return true;
	return expression_tree_walker(node, async_needs_sessions, context);
}

static void
async_settle_child(Plan *plan, AsyncContext *cx)
{
	if (plan->async_capable &&
		(cx->round == ASYNC_NONE ||
		 async_needs_sessions((Node *) plan->qual, cx->params) ||
		 async_needs_sessions((Node *) plan->targetlist, cx->params) ||
		 (IsA(plan, ForeignScan) &&
		  async_needs_sessions((Node *) ((ForeignScan *) plan)->fdw_exprs,
							   cx->params))))
		plan->async_capable = false;
}

static void async_walk(Plan *plan, AsyncContext *cx);

static void
async_walk_list(List *plans, AsyncContext *cx)
{
	ListCell   *lc;

	foreach(lc, plans)
		async_walk(lfirst(lc), cx);
}

static void
async_walk(Plan *plan, AsyncContext *cx)
{
	ListCell   *lc;
	ListCell   *p;

	if (plan == NULL)
		return;
	check_stack_depth();
	foreach(lc, cx->round == ASYNC_COLLECT ? plan->initPlan : NIL)
	{
		foreach(p, lfirst_node(SubPlan, lc)->setParam)
			cx->params = bms_add_member(cx->params, lfirst_int(p));
	}
	switch (nodeTag(plan))
	{
		case T_Append:
			foreach(lc, cx->round == ASYNC_COLLECT ? NIL : ((Append *) plan)->appendplans)
				async_settle_child(lfirst(lc), cx);
			async_walk_list(((Append *) plan)->appendplans, cx);
			break;
		case T_ForeignScan:
			cx->sent = cx->sent ||
				async_needs_sessions((Node *) ((ForeignScan *) plan)->fdw_exprs,
									 cx->params);
			break;
		case T_MergeAppend:
			async_walk_list(((MergeAppend *) plan)->mergeplans, cx);
			break;
		case T_SubqueryScan:
			async_walk(((SubqueryScan *) plan)->subplan, cx);
			break;
		case T_CustomScan:
			async_walk_list(((CustomScan *) plan)->custom_plans, cx);
			break;
		default:
			break;
	}
	async_walk(plan->lefttree, cx);
	async_walk(plan->righttree, cx);
}

PlannedStmt *
fa_async_settle(PlannedStmt *plan)
{
	AsyncContext cx = {0};

	if (!fa_fdw_plan_has_foreign(plan))
		return plan;
	for (cx.round = ASYNC_COLLECT; cx.round <= ASYNC_SETTLE; cx.round++)
	{
		async_walk_list(plan->subplans, &cx);
		async_walk(plan->planTree, &cx);
	}
	if (cx.sent)
		async_walk_list(plan->subplans, &cx);
	bms_free(cx.params);
	return plan;
}
