/*
 * async.c
 *	  Which foreign scans of a plan must not run asynchronously.
 *
 * While several of them run, postgres_fdw makes rows of what has come, in the
 * middle of preparing to wait for the rest.  If a row's condition or output then
 * needs the same session, because it has a subquery or calls a function that
 * has, the session is prepared for twice, and the statement fails ("epoll_ctl()
 * failed: File exists"; seen with 15).  So such scans run one after the other.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"

#include "route/route.h"

typedef struct AsyncContext
{
	Bitmapset  *params;			/* that are set by subqueries when first used */
	bool		settle;			/* second round: they are known */
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
		(async_needs_sessions((Node *) plan->qual, cx->params) ||
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
	foreach(lc, cx->settle ? NIL : plan->initPlan)
	{
		foreach(p, lfirst_node(SubPlan, lc)->setParam)
			cx->params = bms_add_member(cx->params, lfirst_int(p));
	}
	switch (nodeTag(plan))
	{
		case T_Append:
			foreach(lc, cx->settle ? ((Append *) plan)->appendplans : NIL)
				async_settle_child(lfirst(lc), cx);
			async_walk_list(((Append *) plan)->appendplans, cx);
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

	for (int round = 0; round < 2; round++)
	{
		cx.settle = round > 0;
		async_walk_list(plan->subplans, &cx);
		async_walk(plan->planTree, &cx);
	}
	bms_free(cx.params);
	return plan;
}
