/*
 * own_changes.c
 *	  Which statements may begin to scan a peer after it has been changed.
 *
 * They must not see the changes (fdw_as_of.h): those that read foreign leaves
 * other than the ones whose rows they change.  A scan of what is changed begins
 * before its changes, unless another part of the statement changes it, too.  Users'
 * functions may read anything; what those that are not volatile read, under the
 * statement's snapshot, is as of the same moment.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "node/fdw_as_of.h"
#include "route/hooks.h"

/* Is a table changed by more than one part of the statement? */
static bool
own_changes_twice(PlannedStmt *plan)
{
	List	   *leaves = NIL;
	List	   *tables = NIL;	/* that rows are inserted into */
	Oid			last = InvalidOid;
	ListCell   *lc;

	foreach(lc, plan->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(lc), plan->rtable)->relid;
		const FaTable *table = fa_map_table(relid);

		if (table)
			tables = lappend_int(tables, table->table_id);
		else if (fa_map_leaf(relid))
			leaves = lappend_oid(leaves, relid);
	}
	list_sort(leaves, list_oid_cmp);
	foreach(lc, leaves)
	{
		const FaFragment *leaf = fa_map_leaf(lfirst_oid(lc));

		if (lfirst_oid(lc) == last ||
			(leaf && list_member_int(tables, leaf->table_id)))
			return true;
		last = lfirst_oid(lc);
	}
	return false;
}

bool
fa_own_changes_may_be_read(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->invalItems)
	{
		if (lfirst_node(PlanInvalItem, lc)->cacheId == PROCOID)
			return true;
	}
	return false;
}

static bool
own_changes_reads(PlannedStmt *plan)
{
	bool		twice = plan->hasModifyingCTE && own_changes_twice(plan);
	Index		rti = 0;
	ListCell   *lc;

	if (plan->resultRelations != NIL && fa_own_changes_may_be_read(plan))
		return true;
	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if (rte->rtekind == RTE_RELATION &&
			rte->relkind == RELKIND_FOREIGN_TABLE &&
			(twice || !list_member_int(plan->resultRelations, rti)) &&
			fa_map_leaf(rte->relid) != NULL)
			return true;
	}
	return false;
}

void
fa_own_changes_started(QueryDesc *desc)
{
	PlannedStmt *plan = desc->plannedstmt;

	if (desc->snapshot && fa_as_of_is_used())
		fa_as_of_inherit(desc->estate, desc->snapshot);
	/* what is sent whole begins with its first row */
	if (IsA(plan->planTree, CustomScan) && plan->subplans == NIL)
		return;
	if (own_changes_reads(plan))
		fa_as_of_add(desc->estate);
}
