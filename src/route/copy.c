/*
 * copy.c
 *	  COPY into a table whose fragments are on several nodes.
 *
 * The work is in node/fdw_copy.c.  What is known here is which COPY it is for,
 * and whether that is alone in its transaction.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/fdw_copy.h"
#include "route/refusal.h"
#include "route/route.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

/* COPY FROM into a distributed table, or a part of one above its leaves? */
static Oid
copy_table(Node *statement)
{
	CopyStmt   *copy = (CopyStmt *) statement;
	Oid			relid;
	List	   *ancestors;

	if (!IsA(copy, CopyStmt) || !copy->is_from || copy->relation == NULL ||
		fa_maintenance || !fa_routing || !fa_shmem_available())
		return InvalidOid;
	/* the statement itself locks it, after the same look-up */
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relid) ||
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return InvalidOid;
	ancestors = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;
	return fa_map_table(ancestors ? llast_oid(ancestors) : relid) ?
		relid : InvalidOid;
}

static void
copy_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			table = copy_table(pstmt->utilityStmt);
	MemoryContext caller = CurrentMemoryContext;

	if (!OidIsValid(table))
	{
		prev_process_utility(pstmt, query_string, read_only_tree, context,
							 params, env, dest, qc);
		return;
	}
	fa_fdw_copy_begin(table, fa_command_is_alone());
	PG_TRY();
	{
		prev_process_utility(pstmt, query_string, read_only_tree, context,
							 params, env, dest, qc);
		fa_fdw_copy_end();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		fa_fdw_copy_forget();
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		fa_refusal_of_row(edata, false);
		ReThrowError(edata);
	}
	PG_END_TRY();
}

void
fa_copy_init(void)
{
	prev_process_utility = ProcessUtility_hook ? ProcessUtility_hook :
		standard_ProcessUtility;
	ProcessUtility_hook = copy_utility;
}
