/*
 * leaf.c
 *	  A statement on a fragment's leaf instead of its table.
 *
 * Planned so, a statement on a local fragment is one on an ordinary table:
 * nothing is left to prune, ON CONFLICT finds the leaf's unique indexes, and
 * MERGE and row locks work.
 *
 * The executor checks a partition's constraint for every row that is written
 * to it otherwise than by routing, and compiles it for each statement, which
 * takes longer than the write.  The pin has shown that the constraint holds;
 * the plan carries that in the entry of the leaf's parent, and the check is
 * replaced by one that is always true.
 */
#include "postgres.h"

#include "access/relation.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "route/hooks.h"
#include "route/route.h"

/* Of the leaf's parent in a plan: means nothing else for a relation. */
#define RTE_PROVEN(rte) ((rte)->funcordinality)

bool
fa_leaf_same_columns(Oid one, Oid other)
{
	Relation	table = relation_open(one, NoLock);
	Relation	leaf = relation_open(other, NoLock);
	TupleDesc	a = RelationGetDescr(table);
	TupleDesc	b = RelationGetDescr(leaf);
	bool		fits = a->natts == b->natts;

	for (int i = 0; i < a->natts && fits; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		fits = x->attisdropped == y->attisdropped &&
			x->atttypid == y->atttypid && x->atttypmod == y->atttypmod &&
			strcmp(NameStr(x->attname), NameStr(y->attname)) == 0;
	}
	relation_close(leaf, NoLock);
	relation_close(table, NoLock);
	return fits;
}

void
fa_leaf_substitute(FaPin *pin)
{
	Query	   *query = pin->query;
	RangeTblEntry *table = rt_fetch(pin->rti, query->rtable);
	RangeTblEntry *leaf = copyObject(table);
	RangeTblEntry *parent = NULL;
	ListCell   *lc;

	leaf->relid = pin->leaf;
	leaf->relkind = get_rel_relkind(pin->leaf);
	leaf->inh = false;
	if (leaf->alias == NULL)
		leaf->alias = makeAlias(leaf->eref->aliasname, NIL);
	fa_rte_check_nothing(query, leaf);
	table->inh = false;
	table->inFromCl = false;
	foreach(lc, pin->parents)
	{
		parent = fa_custom_rte(lfirst_oid(lc), pin->lockmode);
		query->rtable = lappend(query->rtable, parent);
	}
	if (parent && pin->proven && pin->rti == query->resultRelation)
		RTE_PROVEN(parent) = true;
	query->rtable = lappend(query->rtable, leaf);
	ChangeVarNodes((Node *) query, pin->rti, list_length(query->rtable), 0);
	if (!fa_leaf_same_columns(pin->relid, pin->leaf))
		fa_leaf_map_columns(query, list_length(query->rtable), pin->relid,
							pin->leaf);
}

/* Is the plan's one result relation a leaf that its rows belong to? */
static bool
leaf_is_proven(PlannedStmt *plan)
{
	ModifyTable *modify = (ModifyTable *) plan->planTree;
	RangeTblEntry *parent;
	int			rti;

	if (modify == NULL || !IsA(modify, ModifyTable) ||
		list_length(modify->resultRelations) != 1)
		return false;
	rti = linitial_int(modify->resultRelations);
	if (rti < 2)
		return false;
	parent = rt_fetch(rti - 1, plan->rtable);
	return parent->rtekind == RTE_RELATION && RTE_PROVEN(parent);
}

/* A check that holds; compiled once. */
static ExprState *
leaf_true(void)
{
	static ExprState *state = NULL;

	if (state == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		state = ExecInitCheck(list_make1(makeBoolConst(true, false)), NULL);
		MemoryContextSwitchTo(caller);
	}
	return state;
}

void
fa_leaf_started(QueryDesc *desc)
{
	if (leaf_is_proven(desc->plannedstmt) &&
		IsA(desc->planstate, ModifyTableState))
		castNode(ModifyTableState, desc->planstate)->resultRelInfo->ri_PartitionCheckExpr =
			leaf_true();
}
