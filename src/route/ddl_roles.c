/*
 * ddl_roles.c
 *	  Roles come and go together with their mappings on our servers, and the
 *	  servers go together with the extension.
 *
 * Every role that may log in needs a user mapping for each peer, and may not
 * be dropped while it has one.  Roles belong to the whole server; in other
 * databases the worker adds mappings, and DROP ROLE names what is in the way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "catalog/membership.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "route/ddl_guard.h"

/* Runs statements that a query on servers (s) and roles (r) makes. */
static void
run_for_servers(const char *statement, const char *condition, const char *role)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT pg_catalog.format(%s, r.rolname, s.srvname) "
					   "FROM pg_catalog.pg_foreign_server s"
					   " CROSS JOIN pg_catalog.pg_roles r "
					   "LEFT JOIN pg_catalog.pg_user_mapping m"
					   "  ON m.umserver = s.oid AND m.umuser = r.oid "
					   "WHERE s.srvname IN (SELECT 'fragaffinity_' || node"
					   "                    FROM fragaffinity.node)"
					   "  AND r.rolname = %s AND %s",
					   quote_literal_cstr(statement), quote_literal_cstr(role),
					   condition);
	for (int i = 0; i < rows->nrows; i++)
		fa_spi_exec("%s", rows->value[i][0]);
}

static bool
concerned(void)
{
	return !creating_extension && fa_extension_exists() && fa_node_self() != 0;
}

void
fa_ddl_roles_before(Node *statement)
{
	FaDdlState	state;
	ListCell   *lc;

	if (!IsA(statement, DropRoleStmt) || !concerned())
		return;
	fa_ddl_begin(&state);
	foreach(lc, castNode(DropRoleStmt, statement)->roles)
	{
		RoleSpec   *role = lfirst_node(RoleSpec, lc);

		if (role->roletype == ROLESPEC_CSTRING)
			run_for_servers("DROP USER MAPPING FOR %I SERVER %I",
							"m.oid IS NOT NULL", role->rolename);
	}
	fa_ddl_end(&state);
}

/* A role that may log in has a mapping for each server. */
static void
add_mappings(const char *name)
{
	run_for_servers("CREATE USER MAPPING FOR %1$I SERVER %2$I"
					" OPTIONS (user %1$L, password_required 'false')",
					"m.oid IS NULL AND r.rolcanlogin", name);
}

/* DROP OWNED takes its mappings from a role, as they are its own. */
static List *
names_of(List *roles)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, roles)
		names = lappend(names, get_rolespec_name(lfirst(lc)));
	return names;
}

void
fa_ddl_roles_after(Node *statement)
{
	FaDdlState	state;
	const char *name = NULL;
	List	   *disowned = NIL;	/* names */
	bool		renamed = false;
	ListCell   *lc;

	if (IsA(statement, CreateRoleStmt))
		name = castNode(CreateRoleStmt, statement)->role;
	else if (IsA(statement, AlterRoleStmt))
	{
		RoleSpec   *role = castNode(AlterRoleStmt, statement)->role;

		if (role->roletype == ROLESPEC_CSTRING)
			name = role->rolename;
	}
	else if (IsA(statement, RenameStmt) &&
			 castNode(RenameStmt, statement)->renameType == OBJECT_ROLE)
	{
		name = castNode(RenameStmt, statement)->newname;
		renamed = true;
	}
	else if (IsA(statement, DropOwnedStmt))
		disowned = names_of(castNode(DropOwnedStmt, statement)->roles);
	if ((name == NULL && disowned == NIL) || !concerned())
		return;
	CommandCounterIncrement();
	fa_ddl_begin(&state);
	if (renamed)
		run_for_servers("ALTER USER MAPPING FOR %1$I SERVER %2$I OPTIONS (SET user %1$L)",
						"m.oid IS NOT NULL", name);
	else if (name)
		add_mappings(name);
	foreach(lc, disowned)
		add_mappings(lfirst(lc));
	fa_ddl_end(&state);
}

/*
 * Before DROP EXTENSION: the servers are not members of it, as then nobody
 * could change them, and would be in the way of the next CREATE EXTENSION.
 * Those that tables left behind by CASCADE need stay.
 */
void
fa_ddl_drop_servers(Node *statement)
{
	FaDdlState	state;
	FaRows	   *rows;
	bool		ours = false;
	ListCell   *lc;

	if (!IsA(statement, DropStmt) ||
		castNode(DropStmt, statement)->removeType != OBJECT_EXTENSION)
		return;
	foreach(lc, castNode(DropStmt, statement)->objects)
		ours = ours || strcmp(strVal(lfirst(lc)), "fragaffinity") == 0;
	if (!ours || !concerned())
		return;
	/* before any other lock of the drop, see fa_background_begin() */
	LockDatabaseObject(ExtensionRelationId,
					   get_extension_oid("fragaffinity", false), 0,
					   AccessExclusiveLock);
	fa_ddl_begin(&state);
	rows = fa_spi_rows("SELECT n.node, EXISTS"
					   "  (SELECT FROM pg_catalog.pg_foreign_table t,"
					   "               pg_catalog.pg_class c"
					   "    WHERE t.ftserver = s.oid AND c.oid = t.ftrelid"
					   "      AND c.relname <> 'session_' || n.node) "
					   "FROM pg_catalog.pg_foreign_server s, fragaffinity.node n "
					   "WHERE s.srvname = 'fragaffinity_' || n.node");
	for (int i = 0; i < rows->nrows; i++)
	{
		int			node = atoi(rows->value[i][0]);

		if (rows->value[i][1][0] == 't')
			fa_link_release(node);
		else
			fa_link_drop(node);
	}
	fa_ddl_end(&state);
}
