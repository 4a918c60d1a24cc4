/*
 * ddl_drop.c
 *	  Distributed tables that are dropped: by DROP TABLE, or with their schema or
 *	  owner.
 *
 *	1. the tables are locked on all nodes; none of their fragments moves
 *	2. the statement runs here, with the user's own rights; meanwhile what
 *	   belongs to these tables may go, and nothing of others
 *	3. DROP TABLE on the others, with the user's rights, too; all nodes forget
 *	   the tables
 *
 * All of it is one cluster transaction.  A schema or role is each node's own: with
 * its last table there, it still is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "route/ddl_guard.h"

/* Roots that the statement under way may drop, in the transaction's memory. */
static List *dropped = NIL;
static LocalTransactionId dropped_in = InvalidLocalTransactionId;
/* Where it runs: once that is undone, nothing is dropped any more. */
static SubTransactionId dropped_below = InvalidSubTransactionId;

bool
fa_ddl_is_dropped(Oid root)
{
	return dropped_in == fa_my_lxid() &&
		dropped_below == GetCurrentSubTransactionId() &&
		list_member_oid(dropped, root);
}

void
fa_ddl_check_drop_table(Oid root, DropStmt *stmt, FaDdlPlan *plan)
{
	if (fa_owns_relation(root, GetUserId()) ||
		fa_owns_schema(get_rel_namespace(root), GetUserId()))
		plan->dropped = list_append_unique_oid(plan->dropped, root);
	plan->cascade = stmt->behavior == DROP_CASCADE;
}

/* Those of which a condition on c, their row of pg_class, holds. */
static void
drop_add(FaDdlPlan *plan, const char *condition)
{
	ListCell   *lc;

	foreach(lc, fa_ddl_catalog_values(psprintf("SELECT t.rel::pg_catalog.oid "
											   "FROM fragaffinity.distributed_table t "
											   "JOIN pg_catalog.pg_class c ON c.oid = t.rel "
											   "WHERE %s ORDER BY t.table_id", condition)))
		plan->dropped = list_append_unique_oid(plan->dropped, atooid(lfirst(lc)));
}

void
fa_ddl_check_drop_schema(DropStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;

	/* otherwise PostgreSQL says that the schema is not empty */
	if (stmt->behavior != DROP_CASCADE)
		return;
	plan->cascade = true;
	foreach(lc, stmt->objects)
	{
		Oid			schema = get_namespace_oid(strVal(lfirst(lc)), true);

		if (OidIsValid(schema) && fa_owns_schema(schema, GetUserId()))
			drop_add(plan, psprintf("c.relnamespace = %u", schema));
	}
}

static Oid
owner_of(Oid rel)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(rel));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Has the role been granted anything of it? */
static bool
is_granted(Oid root, Oid role)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM pg_catalog.pg_shdepend d "
										  "JOIN pg_catalog.pg_database b ON b.oid = d.dbid "
										  "WHERE b.datname = pg_catalog.current_database()"
										  "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
										  "  AND d.objid = %u"
										  "  AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass"
										  "  AND d.refobjid = %u", root, role)) != NIL;
}

/*
 * Of tables that stay, DROP OWNED takes grants away, which is copied to all nodes,
 * and would take the role out of policies here alone.
 */
static void
check_drop_owned(DropOwnedStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;
	ListCell   *rc;

	plan->cascade = stmt->behavior == DROP_CASCADE;
	foreach(rc, stmt->roles)
	{
		Oid			role = get_rolespec_oid(lfirst(rc), false);

		if (has_privs_of_role(GetUserId(), role))
			drop_add(plan, psprintf("c.relowner = %u", role));
	}
	foreach(lc, fa_ddl_catalog_values("SELECT rel::pg_catalog.oid "
									  "FROM fragaffinity.distributed_table"))
	{
		Oid			root = atooid(lfirst(lc));

		if (list_member_oid(plan->dropped, root))
			continue;
		foreach(rc, stmt->roles)
		{
			Oid			role = get_rolespec_oid(lfirst(rc), false);

			fa_ddl_check_policy_role(root, role);
			if (has_privs_of_role(GetUserId(), role) && is_granted(root, role))
				plan->rights = list_append_unique_oid(plan->rights, root);
		}
	}
}

void
fa_ddl_check_owned(Node *statement, FaDdlPlan *plan)
{
	ListCell   *lc;

	if (IsA(statement, DropOwnedStmt))
	{
		check_drop_owned((DropOwnedStmt *) statement, plan);
		return;
	}
	/* REASSIGN OWNED would change owners here alone */
	foreach(lc, fa_ddl_catalog_values("SELECT rel::pg_catalog.oid "
									  "FROM fragaffinity.distributed_table"))
	{
		Oid			root = atooid(lfirst(lc));
		ListCell   *rc;

		foreach(rc, castNode(ReassignOwnedStmt, statement)->roles)
			if (owner_of(root) == get_rolespec_oid(lfirst(rc), false))
				fa_ddl_refuse("REASSIGN OWNED", root,
							  "Use ALTER TABLE ... OWNER TO on it first.");
	}
}

void
fa_ddl_drop_begin(FaDdlPlan *plan)
{
	FaDdlState	state;
	MemoryContext old;
	ListCell   *lc;

	/* fragments that are newer than a snapshot would be left in the catalog */
	fa_table_check_isolation();
	fa_ddl_begin(&state);
	fa_xact_lock_cluster();
	foreach(lc, plan->dropped)
	{
		Oid			root = lfirst_oid(lc);
		int			table_id;
		ListCell   *cc;

		fa_table_lock_everywhere(root, "drop");
		table_id = fa_map_table(root)->table_id;
		plan->dropped_names = lappend(plan->dropped_names,
									  fa_table_qualified_name(root));
		plan->dropped_ids = lappend_int(plan->dropped_ids, table_id);
		fa_table_drop_retired(table_id, NULL);
		foreach(cc, fa_xact_conn_all())
			fa_table_drop_retired(table_id, lfirst(cc));
	}
	fa_ddl_end(&state);
	old = MemoryContextSwitchTo(TopTransactionContext);
	dropped = list_copy(plan->dropped);
	dropped_in = fa_my_lxid();
	dropped_below = GetCurrentSubTransactionId();
	MemoryContextSwitchTo(old);
}

void
fa_ddl_drop_end(FaDdlPlan *plan)
{
	FaDdlState	state;
	ListCell   *lc;

	dropped = NIL;
	CommandCounterIncrement();
	foreach(lc, plan->dropped_names)
		fa_ddl_everywhere_text(psprintf("DROP TABLE %s%s", (char *) lfirst(lc),
										plan->cascade ? " CASCADE" : ""));
	fa_ddl_begin(&state);
	foreach(lc, plan->dropped_ids)
	{
		char	   *forget = fa_table_forget(lfirst_int(lc));

		fa_spi_exec("%s", forget);
		fa_xact_exec_all("%s", forget);
	}
	fa_ddl_end(&state);
}
