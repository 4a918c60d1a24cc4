/*
 * fdw_group.c
 *	  Which groupings a peer can do.
 *
 * A distributed table shows its primary key (catalog/table_unique.c), so a column
 * that it determines may stand beside GROUP BY of the key, and PostgreSQL leaves
 * such columns out of GROUP BY.  The bucket that a peer is asked for shows none:
 * there the statement would be an error.  Then the rows come, and are grouped here.
 *
 * Nor is a peer asked for one group of which nothing is wanted, as of a subquery
 * whose aggregates nobody reads: in what postgres_fdw writes, nothing would say that
 * the rows are to become one.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"

#include "core/fa_compat.h"
#include "node/fdw.h"

/* Has the expression a column that is neither grouped by nor aggregated? */
static bool
group_walker(Node *node, void *grouped)
{
	if (node == NULL || IsA(node, Aggref) || list_member(grouped, node))
		return false;
	if (IsA(node, Var))
		return true;
	return expression_tree_walker(node, group_walker, grouped);
}

bool
fa_fdw_may_group(PlannerInfo *root, RelOptInfo *grouped_rel, void *extra)
{
	PathTarget *target = grouped_rel->reltarget;
	List	   *clauses = fa_group_clause(root);
	List	   *grouped = NIL;
	Node	   *having = ((GroupPathExtraData *) extra)->havingQual;
	ListCell   *lc;

	if (root->parse->groupClause == NIL &&
		!contain_agg_clause((Node *) target->exprs) && !contain_agg_clause(having))
		return false;
	foreach(lc, target->exprs)
	{
		Index		ref = get_pathtarget_sortgroupref(target, foreach_current_index(lc));

		if (ref && get_sortgroupref_clause_noerr(ref, clauses))
			grouped = lappend(grouped, lfirst(lc));
	}
	return !group_walker((Node *) target->exprs, grouped) &&
		!group_walker(having, grouped);
}
