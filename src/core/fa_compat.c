/*
 * fa_compat.c
 *	  What is too long for fa_compat.h.
 *
 * Entries of a plan that ask for no permission
 *
 * A statement on a fragment is checked by its table's entry; the fragment's own
 * asks for nothing.  From 16 on there is no such thing: every RTEPermissionInfo of a
 * plan has to ask for something, and one cannot do without, as the executor looks
 * there for a target's columns and for whose user mapping is used.  So an execution
 * has infos of its own, which ask, while they are checked, for what the bootstrap
 * superuser is always allowed to do: there he cannot lose that attribute.  The hook
 * that ends the check makes them what they were, before anybody else looks at them.
 * Parallel workers do the same with what they are sent.
 *
 * The snapshot of an execution
 *
 * 18 wants it to be the active one when it starts.  Of a statement that got a newer
 * one, or one as of a mark, or is a part of such, it is not.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "utils/snapmgr.h"

#include "core/fa_compat.h"

#ifdef FA_HAS_PERMINFO

/* Infos of the execution that starts, and of its plan; none: NIL. */
typedef struct StartedRights
{
	List	   *shown;
	List	   *plan;
} StartedRights;

static StartedRights started = {NIL, NIL};

static ExecutorCheckPerms_hook_type next_check_perms = NULL;

static bool
rights_have_none(List *infos)
{
	ListCell   *lc;

	foreach(lc, infos)
	{
		if (lfirst_node(RTEPermissionInfo, lc)->requiredPerms == 0)
			return true;
	}
	return false;
}

static List *
rights_to_show(List *infos)
{
	List	   *shown = NIL;
	ListCell   *lc;

	foreach(lc, infos)
	{
		RTEPermissionInfo *info = makeNode(RTEPermissionInfo);

		*info = *lfirst_node(RTEPermissionInfo, lc);
		if (info->requiredPerms == 0)
		{
			info->requiredPerms = ACL_SELECT;
			info->checkAsUser = BOOTSTRAP_SUPERUSERID;
		}
		shown = lappend(shown, info);
	}
	return shown;
}

static bool
rights_checked(List *rtes, List *infos, bool raise)
{
	ListCell   *lc;
	ListCell   *own;

	if (infos != NIL && infos == started.shown)
	{
		forboth(lc, infos, own, started.plan)
			*(RTEPermissionInfo *) lfirst(lc) = *lfirst_node(RTEPermissionInfo, own);
	}
	return next_check_perms == NULL || next_check_perms(rtes, infos, raise);
}

static void
rights_start(ExecutorStart_hook_type next, QueryDesc *desc, int eflags)
{
	StartedRights outer = started;
	PlannedStmt *kept = desc->plannedstmt;
	/* until the execution ends: a function in SQL has one QueryDesc after the other */
	MemoryContext context = AllocSetContextCreate(GetMemoryChunkContext(desc),
												  "fragaffinity permissions",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PlannedStmt *plan = makeNode(PlannedStmt);

	/* it may be the plan cache's */
	*plan = *kept;
	plan->permInfos = rights_to_show(kept->permInfos);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		started.shown = plan->permInfos;
		started.plan = kept->permInfos;
		desc->plannedstmt = plan;
		next(desc, eflags);
	}
	PG_FINALLY();
	{
		started = outer;
		if (desc->plannedstmt == plan)
			desc->plannedstmt = kept;
	}
	PG_END_TRY();
	/* else rows would be written as the superuser */
	if (!rights_have_none(plan->permInfos))
		elog(ERROR, "the check of permissions has not called its hook");
	MemoryContextSetParent(context, desc->estate->es_query_cxt);
}

#endif							/* FA_HAS_PERMINFO */

static void
start_next(ExecutorStart_hook_type next, QueryDesc *desc, int eflags)
{
#ifdef FA_HAS_PERMINFO
	if (rights_have_none(desc->plannedstmt->permInfos))
	{
		rights_start(next, desc, eflags);
		return;
	}
#endif
	next(desc, eflags);
}

void
fa_executor_start(ExecutorStart_hook_type next, QueryDesc *desc, int eflags)
{
	if (desc->snapshot == InvalidSnapshot || !ActiveSnapshotSet() ||
		GetActiveSnapshot() == desc->snapshot)
	{
		start_next(next, desc, eflags);
		return;
	}
	PushActiveSnapshot(desc->snapshot);
	start_next(next, desc, eflags);
	PopActiveSnapshot();
}

void
fa_executor_start_init(void)
{
#ifdef FA_HAS_PERMINFO
	next_check_perms = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = rights_checked;
#endif
}
