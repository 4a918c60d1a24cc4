/*
 * pin_possible.c
 *	  Does a statement name a distributed table?
 *
 * It is asked of every statement of the server, before anything else is done
 * for it.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"

#include "catalog/map.h"
#include "route/pin_level.h"

bool
fa_pin_is_distributed(Query *query, Index rti, RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION &&
		rte->relkind == RELKIND_PARTITIONED_TABLE &&
		(rte->inh || (rti == query->resultRelation &&
					  query->commandType == CMD_INSERT)) &&
		rte->tablesample == NULL &&
		(fa_map_table(rte->relid) != NULL || fa_map_is_bucket(rte->relid));
}

static bool
pin_possible_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, Query) ? fa_pin_possible((Query *) node) :
		expression_tree_walker(node, pin_possible_walker, context);
}

bool
fa_pin_possible(Query *query)
{
	Index		rti = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if (rte->rtekind == RTE_SUBQUERY ?
			fa_pin_possible(rte->subquery) :
			fa_pin_is_distributed(query, rti, rte))
			return true;
	}
	foreach(lc, query->cteList)
	{
		if (fa_pin_possible((Query *) ((CommonTableExpr *) lfirst(lc))->ctequery))
			return true;
	}
	return query->hasSubLinks &&
		query_tree_walker(query, pin_possible_walker, NULL,
						  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
}
