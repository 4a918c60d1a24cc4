/*
 * leaf_columns.c
 *	  Statements whose leaf has its columns at other places than its table.
 *
 * A leaf that came with a move, and a bucket that came with a split, lack the
 * columns that their table had dropped by then, so numbers differ where names do
 * not.
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "route/route.h"

typedef struct ColumnContext
{
	Index		rti;
	int			sublevels_up;
	AttrMap    *map;			/* NULL: only look for whole rows */
	bool		whole_row;
} ColumnContext;

static bool
column_walker(Node *node, void *context)
{
	ColumnContext *cx = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno != cx->rti || var->varlevelsup != cx->sublevels_up)
			return false;
		if (var->varattno == 0)
			cx->whole_row = true;
		else if (var->varattno > 0 && cx->map)
		{
			if (var->varnosyn == cx->rti && var->varattnosyn == var->varattno)
				var->varattnosyn = cx->map->attnums[var->varattno - 1];
			var->varattno = cx->map->attnums[var->varattno - 1];
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		cx->sublevels_up++;
		result = query_tree_walker((Query *) node, column_walker, context, 0);
		cx->sublevels_up--;
		return result;
	}
	return expression_tree_walker(node, column_walker, context);
}

static void
columns_walk(Query *query, ColumnContext *cx)
{
	(void) query_tree_walker(query, column_walker, cx, 0);
}

/*
 * From the table's numbers to the leaf's; NULL unless every column is there,
 * of the same type and in the same order.
 */
static AttrMap *
columns_map(Oid table_oid, Oid leaf_oid)
{
	Relation	table = relation_open(table_oid, NoLock);
	Relation	leaf = relation_open(leaf_oid, NoLock);
	TupleDesc	from = RelationGetDescr(table);
	TupleDesc	to = RelationGetDescr(leaf);
	AttrMap    *map = make_attrmap(from->natts);
	int			j = 0;

	for (int i = 0; i < from->natts && map; i++)
	{
		Form_pg_attribute a = TupleDescAttr(from, i);

		if (a->attisdropped)
			continue;
		while (j < to->natts && TupleDescAttr(to, j)->attisdropped)
			j++;
		if (j < to->natts &&
			strcmp(NameStr(a->attname), NameStr(TupleDescAttr(to, j)->attname)) == 0 &&
			a->atttypid == TupleDescAttr(to, j)->atttypid &&
			a->atttypmod == TupleDescAttr(to, j)->atttypmod &&
			a->attcollation == TupleDescAttr(to, j)->attcollation)
			map->attnums[i] = ++j;
		else
			map = NULL;
	}
	while (j < to->natts && TupleDescAttr(to, j)->attisdropped)
		j++;
	if (j < to->natts)
		map = NULL;
	relation_close(leaf, NoLock);
	relation_close(table, NoLock);
	return map;
}

bool
fa_leaf_has_columns(Oid table, Oid leaf)
{
	return fa_leaf_same_columns(table, leaf) || columns_map(table, leaf) != NULL;
}

bool
fa_leaf_fits(FaPin *pin)
{
	ColumnContext cx = {pin->rti};

	pin->same_columns = fa_leaf_same_columns(pin->relid, pin->leaf);
	if (pin->same_columns)
		return true;
	if (columns_map(pin->relid, pin->leaf) == NULL)
		return false;
	columns_walk(pin->query, &cx);
	if (pin->query->onConflict)
	{
		/* made anew, and always with a whole row */
		List	   *excluded = pin->query->onConflict->exclRelTlist;

		pin->query->onConflict->exclRelTlist = NIL;
		cx.rti = pin->query->onConflict->exclRelIndex;
		columns_walk(pin->query, &cx);
		pin->query->onConflict->exclRelTlist = excluded;
	}
	return !cx.whole_row;
}

static void
columns_map_targets(List *targets, AttrMap *map)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);

		if (!entry->resjunk)
			entry->resno = map->attnums[entry->resno - 1];
	}
}

static Bitmapset *
columns_map_set(Bitmapset *columns, AttrMap *map)
{
	Bitmapset  *mapped = NULL;
	int			i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
	{
		AttrNumber	attno = i + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0 && attno <= map->maplen)
			attno = map->attnums[attno - 1];
		mapped = bms_add_member(mapped, attno - FirstLowInvalidHeapAttributeNumber);
	}
	return mapped;
}

typedef struct JoinContext
{
	Query	   *query;
	Index		rti;
	AttrMap    *map;
} JoinContext;

static void
columns_map_list(Node *side, List *columns, JoinContext *cx)
{
	ListCell   *lc;

	if (IsA(side, RangeTblRef) && ((RangeTblRef *) side)->rtindex == cx->rti)
		foreach(lc, columns)
			lfirst_int(lc) = cx->map->attnums[lfirst_int(lc) - 1];
}

/* Joins number the columns of their sides; only who makes text of them asks. */
static bool
join_walker(Node *node, void *context)
{
	JoinContext *cx = context;

	if (node && IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		RangeTblEntry *rte = rt_fetch(join->rtindex, cx->query->rtable);

		columns_map_list(join->larg, rte->joinleftcols, cx);
		columns_map_list(join->rarg, rte->joinrightcols, cx);
	}
	return expression_tree_walker(node, join_walker, context);
}

void
fa_leaf_map_columns(Query *query, Index rti, Oid table, Oid leaf_oid)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	AttrMap    *map = columns_map(table, leaf_oid);
	ColumnContext cx = {rti, 0, map};
	OnConflictExpr *conflict = query->onConflict;
	Relation	leaf = relation_open(leaf_oid, NoLock);
	Bitmapset **sets[FA_RTE_COLUMN_SETS];
	int			n = fa_rte_column_sets(query, rte, sets);
	ListCell   *lc;

	columns_walk(query, &cx);
	(void) join_walker((Node *) query->jointree, &(JoinContext) {query, rti, map});
	rte->eref = copyObject(rte->eref);
	rte->eref->colnames = NIL;
	for (int i = 0; i < RelationGetNumberOfAttributes(leaf); i++)
	{
		Form_pg_attribute a = TupleDescAttr(RelationGetDescr(leaf), i);

		rte->eref->colnames = lappend(rte->eref->colnames,
									  makeString(a->attisdropped ? pstrdup("") :
												 pstrdup(NameStr(a->attname))));
	}
	for (int i = 0; i < n; i++)
		*sets[i] = columns_map_set(*sets[i], map);
	if (query->resultRelation == rti)
	{
		if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
			columns_map_targets(query->targetList, map);
		foreach(lc, query->mergeActionList)
			columns_map_targets(((MergeAction *) lfirst(lc))->targetList, map);
		if (conflict)
		{
			cx.rti = conflict->exclRelIndex;
			columns_walk(query, &cx);
			columns_map_targets(conflict->onConflictSet, map);
			if (conflict->exclRelIndex != 0)
			{
				RangeTblEntry *excluded = rt_fetch(conflict->exclRelIndex,
												   query->rtable);

				excluded->relid = leaf_oid;
				fa_rte_check_nothing(query, excluded);
				excluded->eref->colnames = copyObject(rte->eref->colnames);
				conflict->exclRelTlist =
					BuildOnConflictExcludedTargetlist(leaf, conflict->exclRelIndex);
			}
		}
	}
	relation_close(leaf, NoLock);
}

Oid
fa_leaf_bucket(FaPin *pin)
{
	return pin->parents == NIL ? pin->relid : llast_oid(pin->parents);
}

Query *
fa_leaf_put_buckets(Query *query, Query *copy, List *pins)
{
	ListCell   *lc;

	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);
		Oid			bucket = fa_leaf_bucket(pin);

		if (pin->query != query)
			continue;
		if (!fa_leaf_same_columns(pin->relid, bucket))
		{
			copy = copyObject(copy);
			fa_leaf_map_columns(copy, pin->rti, pin->relid, bucket);
		}
		rt_fetch(pin->rti, copy->rtable)->relid = bucket;
	}
	return copy;
}
