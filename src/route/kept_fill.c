/*
 * kept_fill.c
 *	  Plans whose constants are replaced for each execution.
 *
 * A plan is made for parameters in the place of constants, so that nothing in it
 * depends on their values, and then gets constants again: the executor has them
 * at hand where it would have to compute a parameter, and EXPLAIN shows them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "route/kept.h"

/* Do conditions say what each column of a unique index is equal to? */
static bool
suits_index(Oid indexid, List *quals)
{
	Relation	index = index_open(indexid, NoLock);
	Form_pg_index form = index->rd_index;
	Bitmapset  *fixed = NULL;
	bool		suits;
	ListCell   *lc;

	foreach(lc, quals)
	{
		OpExpr	   *op = lfirst(lc);
		Var		   *var;

		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		var = linitial(op->args);
		if (IsA(var, RelabelType))
			var = (Var *) ((RelabelType *) var)->arg;
		if (IsA(var, Var) && var->varattno > 0 &&
			get_op_opfamily_strategy(op->opno, index->rd_opfamily[var->varattno - 1]) ==
			BTEqualStrategyNumber)
			fixed = bms_add_member(fixed, var->varattno);
	}
	suits = form->indisunique && bms_num_members(fixed) == form->indnkeyatts;
	index_close(index, NoLock);
	return suits;
}

static bool
suits_scan(Plan *plan)
{
	if (IsA(plan, IndexScan))
		return suits_index(((IndexScan *) plan)->indexid,
						   ((IndexScan *) plan)->indexqual);
	return IsA(plan, IndexOnlyScan) &&
		suits_index(((IndexOnlyScan *) plan)->indexid,
					((IndexOnlyScan *) plan)->indexqual);
}

/* A row that is made of nothing. */
static bool
suits_result(Plan *plan)
{
	return IsA(plan, Result) && plan->lefttree == NULL && plan->qual == NIL &&
		((Result *) plan)->resconstantqual == NULL;
}

static bool
suits_modification(ModifyTable *plan)
{
	return list_length(plan->resultRelations) == 1 && plan->rootRelation == 0 &&
		(plan->operation == CMD_INSERT ? suits_result(outerPlan(plan)) :
		 suits_scan(outerPlan(plan)));
}

bool
fa_kept_suits(PlannedStmt *stmt)
{
	Plan	   *plan = stmt->planTree;

	if (stmt->transientPlan || stmt->dependsOnRole ||
		stmt->parallelModeNeeded || stmt->jitFlags != 0 ||
		stmt->subplans != NIL || stmt->invalItems != NIL)
		return false;
	if (IsA(plan, ModifyTable))
		return suits_modification((ModifyTable *) plan);
	while (plan && (IsA(plan, Limit) || IsA(plan, LockRows)))
		plan = outerPlan(plan);
	return plan && suits_scan(plan);
}

static Node *
fill_mutator(Node *node, void *context)
{
	List	  **places = context;
	Param	   *param = (Param *) node;
	FaKeptPlace *place;
	int16		len;
	bool		byval;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Param) || param->paramkind != PARAM_EXTERN)
		return expression_tree_mutator(node, fill_mutator, context);
	get_typlenbyval(param->paramtype, &len, &byval);
	place = palloc(sizeof(FaKeptPlace));
	place->value = param->paramid - 1;
	place->constant = makeConst(param->paramtype, param->paramtypmod,
								param->paramcollid, len, (Datum) 0, true, byval);
	*places = lappend(*places, place);
	return (Node *) place->constant;
}

/* Every field of the kinds of plans that suit in which a value can be. */
static void
fill_plan(Plan *plan, List **places)
{
#define FILL(field) \
	((field) = (void *) fill_mutator((Node *) (field), places))

	if (plan == NULL)
		return;
	FILL(plan->targetlist);
	FILL(plan->qual);
	if (IsA(plan, IndexScan))
	{
		FILL(((IndexScan *) plan)->indexqual);
		FILL(((IndexScan *) plan)->indexqualorig);
	}
	else if (IsA(plan, IndexOnlyScan))
	{
		FILL(((IndexOnlyScan *) plan)->indexqual);
		FILL(((IndexOnlyScan *) plan)->recheckqual);
	}
	else if (IsA(plan, ModifyTable))
	{
		FILL(((ModifyTable *) plan)->returningLists);
		FILL(((ModifyTable *) plan)->onConflictSet);
		FILL(((ModifyTable *) plan)->onConflictWhere);
	}
	fill_plan(plan->lefttree, places);
#undef FILL
}

List *
fa_kept_places(PlannedStmt *plan)
{
	List	   *places = NIL;

	fill_plan(plan->planTree, &places);
	return places;
}
