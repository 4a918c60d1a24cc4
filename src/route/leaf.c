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
 * takes longer than the write.  Where the pin has shown that the constraint
 * holds, the plan carries that in the leaf's entry, and the check is replaced by
 * one that is always true; else by one that is compiled already.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/hooks.h"
#include "route/route.h"

/* Of the leaf in a plan: means nothing else for a relation. */
#define RTE_PROVEN(rte) ((rte)->funcordinality)

static bool
leaf_compare_columns(Oid one, Oid other)
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

bool
fa_leaf_same_columns(Oid one, Oid other)
{
	FaMapMemo  *memo = fa_map_memo(one, other);

	if (*memo == FA_MEMO_UNKNOWN)
	{
		bool		same = leaf_compare_columns(one, other);

		/* asked again: opening relations may have changed what is known */
		memo = fa_map_memo(one, other);
		*memo = same ? FA_MEMO_YES : FA_MEMO_NO;
	}
	return *memo == FA_MEMO_YES;
}

/*
 * The leaf takes the table's place in the range table, so that nothing that
 * points there changes.
 */
void
fa_leaf_substitute(FaPin *pin)
{
	Query	   *query = pin->query;
	RangeTblEntry *leaf = rt_fetch(pin->rti, query->rtable);
	RangeTblEntry *table = makeNode(RangeTblEntry);

	*table = *leaf;
	table->inh = false;
	table->inFromCl = false;
	table->securityQuals = NIL; /* its rows are the leaf's */
	leaf->relid = pin->leaf;
	leaf->relkind = fa_map_leaf(pin->leaf)->local ? RELKIND_RELATION :
		get_rel_relkind(pin->leaf);
	leaf->inh = false;
	if (leaf->alias == NULL)
	{
		leaf->alias = makeNode(Alias);
		leaf->alias->aliasname = leaf->eref->aliasname;
	}
	fa_rte_check_nothing(query, leaf);
	if (pin->proven && pin->rti == query->resultRelation)
		RTE_PROVEN(leaf) = true;
	pin->table = table;
	if (!pin->same_columns)
		fa_leaf_map_columns(query, pin->rti, pin->relid, pin->leaf);
}

void
fa_leaf_keep_tables(PlannedStmt *plan, List *pins)
{
	ListCell   *lc;
	ListCell   *parent;

	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);

		if (pin->table == NULL)
			continue;
		fa_plan_add_rte(plan, pin->query, pin->table);
		plan->relationOids = lappend_oid(plan->relationOids, pin->relid);
		foreach(parent, pin->parents)
		{
			plan->rtable = lappend(plan->rtable,
								   fa_custom_rte(lfirst_oid(parent), pin->lockmode));
			plan->relationOids = lappend_oid(plan->relationOids,
											 lfirst_oid(parent));
		}
	}
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
	ModifyTable *modify = (ModifyTable *) desc->plannedstmt->planTree;
	ResultRelInfo *rri;
	RangeTblEntry *rte;

	if (modify == NULL || !IsA(modify, ModifyTable) ||
		!IsA(desc->planstate, ModifyTableState) ||
		list_length(modify->resultRelations) != 1)
		return;
	rte = rt_fetch(linitial_int(modify->resultRelations), desc->plannedstmt->rtable);
	rri = castNode(ModifyTableState, desc->planstate)->resultRelInfo;
	if (rte->rtekind != RTE_RELATION)
		return;
	if (RTE_PROVEN(rte))
		rri->ri_PartitionCheckExpr = leaf_true();
	else if (modify->operation != CMD_DELETE && rte->relkind == RELKIND_RELATION &&
			 fa_map_leaf(rte->relid))
		rri->ri_PartitionCheckExpr = fa_leaf_check(rri->ri_RelationDesc,
												   desc->estate->es_query_cxt);
}
