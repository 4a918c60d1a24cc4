/*
 * ddl_guard.c
 *	  Hooks that keep DDL from breaking distributed tables.
 *
 * A statement that would leave the nodes with different tables is refused,
 * or runs on all of them in one cluster transaction; ddl_check.c knows which.
 * What a CASCADE reaches shows only when it is dropped, so there is a hook
 * for that too.  Our own DDL runs with fragaffinity.maintenance on, and is let
 * through.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_statistic_ext.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/cluster_join.h"
#include "route/ddl_guard.h"
#include "route/hooks.h"

void		(*fa_guard_stop_database) (Oid dbid) = NULL;

static object_access_hook_type prev_object_access = NULL;

static Oid	dropped_database = InvalidOid;	/* by the running DROP DATABASE */

static void
stop_database(const char *name)
{
	Oid			dbid = get_database_oid(name, true);

	/* Not for whoever will be refused anyway. */
	if (fa_guard_stop_database && OidIsValid(dbid) &&
		(superuser() || fa_owns_database(dbid, GetUserId())))
		fa_guard_stop_database(dbid);
}

/* Databases that must have no other session: ours leave. */
static void
release_database(Node *statement)
{
	ListCell   *lc;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			stop_database(castNode(DropdbStmt, statement)->dbname);
			break;
		case T_CreatedbStmt:
			foreach(lc, castNode(CreatedbStmt, statement)->options)
			{
				DefElem    *option = lfirst(lc);

				if (strcmp(option->defname, "template") == 0 && option->arg)
					stop_database(defGetString(option));
			}
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				stop_database(castNode(RenameStmt, statement)->subname);
			break;
		case T_AlterDatabaseStmt:
			foreach(lc, castNode(AlterDatabaseStmt, statement)->options)
			{
				DefElem    *option = lfirst(lc);

				if (strcmp(option->defname, "tablespace") == 0)
					stop_database(castNode(AlterDatabaseStmt, statement)->dbname);
			}
			break;
		default:
			break;
	}
}

/*
 * Raises, as PostgreSQL would, for who may not do it: before he holds any lock that
 * others' DDL waits for.
 */
static void
guard_check_rights(const FaDdlPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->owned)
	{
		Oid			rel = lfirst_oid(lc);

		if (!fa_owns_relation(rel, GetUserId()) &&
			!(plan->drops && fa_owns_schema(get_rel_namespace(rel), GetUserId())))
			aclcheck_error(ACLCHECK_NOT_OWNER,
						   get_relkind_objtype(get_rel_relkind(rel)),
						   get_rel_name(rel));
	}
	foreach(lc, plan->owned_statistics)
	{
		ObjectAddress object = {StatisticExtRelationId, lfirst_oid(lc), 0};
		Oid			schema = get_object_namespace(&object);

		if (!fa_owns_statistics(object.objectId, GetUserId()) &&
			!fa_owns_schema(schema, GetUserId()))
			aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_STATISTIC_EXT,
						   getObjectIdentity(&object, true));
	}
}

static void
guard_check(Node *statement, FaDdlPlan *plan)
{
	memset(plan, 0, sizeof(FaDdlPlan));
	fa_ddl_check(statement, plan);
	guard_check_rights(plan);
}

/* What changes heaps, or makes them go, cannot be while they are copied. */
static void
guard_wait_for_moves(const FaDdlPlan *plan, bool cluster_locked)
{
	FaDdlState	state;
	ListCell   *lc;

	fa_ddl_begin(&state);
	if (plan->action == FA_DDL_RESHAPE)
		fa_table_wait_for_moves(plan->reshaped, plan->reshaped, cluster_locked);
	foreach(lc, plan->dropped)
		fa_table_wait_for_moves(lfirst_oid(lc), lfirst_oid(lc), cluster_locked);
	if (plan->action == FA_DDL_PARTITION && plan->change == FA_PARTITION_DETACH)
		fa_table_wait_for_moves(plan->reshaped, plan->partition, cluster_locked);
	foreach(lc, plan->parted)
		fa_table_wait_for_moves(fa_ddl_root(lfirst_oid(lc)), lfirst_oid(lc),
								cluster_locked);
	fa_ddl_end(&state);
}

/* Is the statement all of its transaction, as far as can be known? */
static bool
guard_is_alone(void)
{
	return !IsTransactionBlock() && fa_hooks_in_commands() == 1 && fa_hooks_begun() == 1;
}

static void
guard_join(void)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_xact_join();
	fa_ddl_end(&state);
}

/*
 * Finds out what is to be done, and if it concerns other nodes, once more when the
 * cluster is ours: others' DDL may have been waited for, and have gathered or dropped
 * the table, or made or dropped the partition.  Nobody can change it now.
 */
static void
guard_begin(Node *statement, FaDdlPlan *plan)
{
	bool		alone = guard_is_alone();	/* before statements of our own */

	guard_check(statement, plan);
	if (plan->action == FA_DDL_PASS && plan->dropped == NIL && plan->rights == NIL)
		return;
	if (!alone)
		guard_join();
	guard_wait_for_moves(plan, false);
	fa_ddl_everywhere_begin();
	AcceptInvalidationMessages();
	guard_check(statement, plan);
	guard_wait_for_moves(plan, true);
}

void
fa_guard_before(Node *statement, bool part, FaDdlPlan *plan)
{
	memset(plan, 0, sizeof(FaDdlPlan));
	plan->action = FA_DDL_PASS;
	dropped_database = InvalidOid;
	if (!fa_maintenance && !part)
	{
		release_database(statement);
		if (IsTransactionState())
		{
			fa_ddl_note_drop(NULL);
			guard_begin(statement, plan);
			if (plan->action == FA_DDL_PASS && IsA(statement, DropStmt))
				fa_ddl_note_drop((DropStmt *) statement);
			fa_ddl_roles_before(statement);
			fa_ddl_drop_servers(statement);
		}
	}
	/* of CREATE SCHEMA: the only one that has other statements for its parts */
	else if (!fa_maintenance && IsA(statement, CreateStmt))
	{
		fa_ddl_check(statement, plan);
		if (plan->action != FA_DDL_PASS)
			fa_ddl_refuse("a partition within CREATE SCHEMA", plan->reshaped,
						  "Create it by a statement of its own.");
	}
	if (plan->dropped)
		fa_ddl_drop_begin(plan);
	if (plan->action == FA_DDL_PASS)
		return;
	plan->guc_level = NewGUCNestLevel();
	(void) set_config_option("fragaffinity.maintenance", "on", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (LockTimeout == 0)
		(void) set_config_option("lock_timeout",
								 CppAsString2(FA_TABLE_LOCK_TIMEOUT_MS), PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	if (plan->action == FA_DDL_PARTITION)
	{
		/* a heap gets none, and what it belongs to must not have one to give */
		(void) set_config_option("default_tablespace", "", PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		/* other nodes' rows of a DEFAULT partition are checked there */
		(void) set_config_option("client_min_messages", "error", PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		fa_ddl_partition_before(plan);
	}
	if (plan->action != FA_DDL_RESHAPE)
		return;
	if (plan->unique || plan->retyped)
		fa_table_check_isolation();
	if (plan->schema_now)
		fa_ddl_set_schema_begin(plan);
	fa_ddl_reshape_begin(plan->reshaped);
	if (plan->unique)
		fa_ddl_unique_begin(statement, plan);
	/* PostgreSQL would make them anew, and on the partitions, too */
	if (plan->retyped)
		fa_ddl_show_unique(plan->reshaped, false);
	if (plan->converted)
		fa_ddl_put_leaves(plan->reshaped, false);
}

PlannedStmt *
fa_guard_statement(PlannedStmt *pstmt, const FaDdlPlan *plan)
{
	return plan->only || plan->elsewhere ?
		fa_ddl_unique_statement(pstmt, plan) : pstmt;
}

void
fa_guard_after(const char *query_string, PlannedStmt *pstmt, FaDdlPlan *plan)
{
	ListCell   *lc;

	/* its files are gone, so it does not come back */
	if (OidIsValid(dropped_database) && IsA(pstmt->utilityStmt, DropdbStmt))
		fa_shmem_forget_database(dropped_database);
	dropped_database = InvalidOid;
	if (plan->action == FA_DDL_PARTITION)
	{
		CommandCounterIncrement();
		fa_ddl_partition_after(plan);
		AtEOXact_GUC(true, plan->guc_level);
	}
	else if (plan->action != FA_DDL_PASS)
	{
		CommandCounterIncrement();
		if (plan->action == FA_DDL_RESHAPE)
			fa_ddl_check_reshaped(plan->reshaped);
		fa_ddl_check_constants(plan);
		if (!plan->only && !plan->elsewhere)
			fa_ddl_everywhere(query_string, pstmt);
		if (plan->was || plan->index_was)
			fa_ddl_rename_end(plan);
		if (plan->converted)
			fa_ddl_put_leaves(plan->reshaped, true);
		if (plan->retyped)
			fa_ddl_show_unique(plan->reshaped, true);
		if (OidIsValid(plan->reshaped))
			fa_ddl_unique_end(plan);
		AtEOXact_GUC(true, plan->guc_level);
	}
	fa_ddl_note_drop(NULL);
	if (OidIsValid(plan->named))
		fa_ddl_check_waited(pstmt->utilityStmt, plan->named);
	if (plan->dropped)
		fa_ddl_drop_end(plan);
	if (IsTransactionState())
		fa_ddl_roles_after(pstmt->utilityStmt);
	if (plan->rights)
		CommandCounterIncrement();
	foreach(lc, plan->rights)
		fa_ddl_copy_rights(lfirst_oid(lc));
	/* not of what is part of another one, for which peers may be at work */
	if (!fa_maintenance)
		fa_join_end();
}

static void
guard_object_access(ObjectAccessType access, Oid classId, Oid objectId,
					int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (access == OAT_DROP && classId == DatabaseRelationId)
		dropped_database = objectId;
	if (access != OAT_DROP || subId != 0 || fa_maintenance ||
		(classId != RelationRelationId && classId != PolicyRelationId))
		return;
	/* Transient heaps and the like. */
	if (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL)
		return;
	if (classId == PolicyRelationId)
		fa_ddl_check_drop_policy(objectId);
	else
		fa_ddl_check_drop(objectId);
}

void
fa_guard_init(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = guard_object_access;
}
