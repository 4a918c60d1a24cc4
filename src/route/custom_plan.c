/*
 * custom_plan.c
 *	  Plans that are one custom scan of ours.
 *
 * The planner has no say in them, so everything that the executor and the
 * plan cache look for is put together here: relations with the rights that
 * the statement needs and the locks to take, and the columns it returns.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "core/fa_compat.h"
#include "route/route.h"

/*
 * A statement that locks rows is none that only reads: a function that is not volatile
 * must not have it.  The executor takes nothing else of such a mark, but for looking
 * up its entry: any one will do, and there is one at least, that of the columns.
 */
static void
custom_mark_locks(PlannedStmt *plan, Query *query)
{
	PlanRowMark *mark;

	if (query->rowMarks == NIL || plan->rowMarks != NIL)
		return;
	mark = makeNode(PlanRowMark);
	mark->rti = mark->prti = 1;
	mark->isParent = true;
	mark->strength = linitial_node(RowMarkClause, query->rowMarks)->strength;
	plan->rowMarks = list_make1(mark);
}

static bool
custom_collect_relations(Node *node, void *context)
{
	PlannedStmt *plan = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		custom_mark_locks(plan, query);
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);
			RangeTblEntry *copy = makeNode(RangeTblEntry);

			/* from 16 on, a view's rights are those of its subquery's entry */
			if (!OidIsValid(rte->relid) ||
				rte->relkind == RELKIND_COMPOSITE_TYPE)
				continue;
			*copy = *rte;
			copy->subquery = NULL;
			fa_plan_add_rte(plan, query, copyObject(copy));
			plan->relationOids = lappend_oid(plan->relationOids, rte->relid);
		}
		return query_tree_walker(query, custom_collect_relations, context, 0);
	}
	return expression_tree_walker(node, custom_collect_relations, context);
}

RangeTblEntry *
fa_custom_rte(Oid relid, LOCKMODE lockmode)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = relid;
	rte->relkind = get_rel_relkind(relid);
	rte->rellockmode = lockmode;
	rte->eref = makeAlias("", NIL); /* nobody sees it */
	return rte;
}

/*
 * The scan returns columns of a range table entry that is there for EXPLAIN
 * alone, to have names for them.
 */
static void
custom_set_columns(CustomScan *scan, PlannedStmt *plan, List *targets)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ListCell   *lc;

	rte->rtekind = RTE_VALUES;
	rte->eref = makeAlias("statement", NIL);
	plan->rtable = lappend(plan->rtable, rte);
	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = (Node *) entry->expr;
		AttrNumber	attno = list_length(scan->custom_scan_tlist) + 1;
		Var		   *var;

		if (entry->resjunk)
			continue;
		rte->eref->colnames = lappend(rte->eref->colnames,
									  makeString(entry->resname ? pstrdup(entry->resname) :
												 pstrdup("?column?")));
		var = makeVar(list_length(plan->rtable), attno, exprType(expr),
					  exprTypmod(expr), exprCollation(expr), 0);
		scan->custom_scan_tlist = lappend(scan->custom_scan_tlist,
										  makeTargetEntry((Expr *) var, attno, NULL, false));
		var = copyObject(var);
		var->varno = INDEX_VAR;
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist,
											 makeTargetEntry((Expr *) var, attno,
															 entry->resname, false));
	}
}

PlannedStmt *
fa_custom_plan(Query *parse, const CustomScanMethods *methods,
			   List *custom_private, List *custom_exprs, List *rtes)
{
	PlannedStmt *plan = makeNode(PlannedStmt);
	CustomScan *scan = makeNode(CustomScan);
	ListCell   *lc;

	plan->commandType = parse->commandType;
	plan->queryId = parse->queryId;
	plan->hasReturning = parse->returningList != NIL;
	plan->hasModifyingCTE = parse->hasModifyingCTE;
	plan->canSetTag = parse->canSetTag;
	plan->planTree = (Plan *) scan;
	plan->stmt_location = parse->stmt_location;
	plan->stmt_len = parse->stmt_len;
	(void) custom_collect_relations((Node *) parse, plan);
	foreach(lc, rtes)
	{
		RangeTblEntry *rte = lfirst(lc);

		plan->rtable = lappend(plan->rtable, rte);
		plan->relationOids = lappend_oid(plan->relationOids, rte->relid);
		scan->custom_relids = bms_add_member(scan->custom_relids,
											 list_length(plan->rtable));
	}
	scan->methods = methods;
	scan->custom_private = custom_private;
	scan->custom_exprs = custom_exprs;
	custom_set_columns(scan, plan, parse->commandType == CMD_SELECT ?
					   parse->targetList : parse->returningList);
	return plan;
}

CustomScan *
fa_custom_plan_part(PlannedStmt *plan, const CustomScanMethods *methods,
					List *custom_private, List *targets, ModifyTable *instead)
{
	CustomScan *scan = makeNode(CustomScan);

	scan->scan.plan = instead->plan;
	scan->scan.plan.type = T_CustomScan;
	scan->scan.plan.targetlist = NIL;
	scan->scan.plan.lefttree = NULL;
	scan->methods = methods;
	scan->custom_private = custom_private;
	scan->custom_plans = list_make1(outerPlan(instead));
	custom_set_columns(scan, plan, targets);
	return scan;
}

void
fa_custom_plan_depends(PlannedStmt *plan, List *parts)
{
	ListCell   *lc;
	ListCell   *r;

	foreach(lc, parts)
	{
		PlannedStmt *part = lfirst(lc);

		if (part == NULL)
			continue;
		foreach(r, part->rtable)
		{
			RangeTblEntry *rte = lfirst(r);

			if (rte->rtekind == RTE_RELATION && rte->rellockmode != NoLock)
				plan->rtable = lappend(plan->rtable,
									   fa_custom_rte(rte->relid, rte->rellockmode));
		}
		plan->relationOids = list_concat(plan->relationOids, part->relationOids);
		plan->invalItems = list_concat(plan->invalItems, part->invalItems);
	}
}
