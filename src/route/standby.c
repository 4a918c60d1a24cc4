/*
 * standby.c
 *	  What a hot standby cannot read, in the words of who asks for it.
 *
 * What is learned, expected and recommended is made anew from step to step and is
 * kept in unlogged tables, which a standby does not get.  PostgreSQL says so of
 * "temporary or unlogged relations", of which nobody who reads a view knows.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "route/refusal.h"

static bool
standby_walker(Node *node, void *context)
{
	Oid		   *nsp = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, standby_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_RELATION &&
			get_rel_namespace(rte->relid) == *nsp &&
			get_rel_persistence(rte->relid) == RELPERSISTENCE_UNLOGGED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a standby does not have what the controller expects and recommends"),
					 errdetail("\"%s.%s\" is not replicated.",
							   get_namespace_name(*nsp), get_rel_name(rte->relid)),
					 errhint("Ask the primary of the coordinator.")));
		return false;
	}
	return expression_tree_walker(node, standby_walker, context);
}

void
fa_refuse_on_standby(Query *query)
{
	Oid			nsp;

	if (!RecoveryInProgress())
		return;
	nsp = get_namespace_oid("fragaffinity", true);
	if (OidIsValid(nsp))
		(void) standby_walker((Node *) query, &nsp);
}
