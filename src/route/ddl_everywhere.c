/*
 * ddl_everywhere.c
 *	  DDL on a distributed table, on all nodes in one cluster transaction.
 *
 * The statement has run here, with the user's own rights.  The others get its
 * text, under the same search_path and role, so that nobody may do there what
 * he may not do here.  A lock_timeout is in force: clients' transactions may
 * wait for us on one node while we wait for them on another.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"
#include "route/ddl_guard.h"

PG_FUNCTION_INFO_V1(fa_sql_set_rights);

void
fa_ddl_everywhere_begin(void)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_xact_lock_cluster();
	fa_ddl_end(&state);
}

/* The schemas that unqualified names are looked up in now. */
static char *
current_search_path(void)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, fetch_search_path(false))
	{
		char	   *name = get_namespace_name(lfirst_oid(lc));

		if (name)
			appendStringInfo(&buf, "%s%s", buf.len ? ", " : "",
							 quote_identifier(name));
	}
	if (buf.len == 0)
		appendStringInfoString(&buf, "pg_catalog");
	return buf.data;
}

void
fa_ddl_reshape_begin(Oid root)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_table_lock_everywhere(root, "change");
	fa_ddl_end(&state);
}

void
fa_ddl_check_reshaped(Oid root)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_refuse_sequences(root, NIL);
	fa_ddl_end(&state);
}

void
fa_ddl_check_constants(const FaDdlPlan *plan)
{
	FaDdlState	state;
	ListCell   *lc;

	fa_ddl_begin(&state);
	foreach(lc, plan->owned)
	{
		Oid			root = fa_ddl_root(lfirst_oid(lc));

		if (OidIsValid(root))
			fa_refuse_constants(root);
	}
	if (OidIsValid(plan->other))
		fa_refuse_constants(plan->other);
	fa_ddl_end(&state);
}

void
fa_ddl_everywhere(const char *query_string, PlannedStmt *pstmt)
{
	/* -1: unknown; a length of 0: the rest of the string */
	const char *text = query_string + Max(pstmt->stmt_location, 0);

	fa_ddl_everywhere_text(pnstrdup(text, pstmt->stmt_len > 0 ? pstmt->stmt_len :
									strlen(text)));
}

void
fa_ddl_everywhere_text(const char *sql)
{
	char	   *path = current_search_path();
	const char *role = quote_literal_cstr(GetUserNameFromId(GetUserId(), false));
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_xact_exec_all("SET LOCAL lock_timeout = %d; "
					 "SET LOCAL search_path = %s; "
					 "SET LOCAL fragaffinity.run_as = %s", LockTimeout, path, role);
	fa_xact_exec_all("%s", sql);
	fa_xact_exec_all("SET LOCAL fragaffinity.run_as = ''; "
					 "SET LOCAL search_path = pg_catalog; "
					 "SET LOCAL lock_timeout = 0");
	fa_ddl_end(&state);
}

void
fa_ddl_show_unique(Oid root, bool shown)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	if (shown)
		fa_unique_show(root);
	else
		fa_unique_hide(root);
	fa_xact_exec_all("SELECT fragaffinity.show_unique(%s::pg_catalog.regclass, %s)",
					 quote_literal_cstr(fa_table_qualified_name(root)),
					 shown ? "true" : "false");
	fa_ddl_end(&state);
}

void
fa_ddl_put_leaves(Oid root, bool back)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	if (back)
		fa_table_leaves_back(root);
	else
		fa_table_leaves_aside(root);
	fa_xact_exec_all("SELECT fragaffinity.put_leaves(%s::pg_catalog.regclass, %s)",
					 quote_literal_cstr(fa_table_qualified_name(root)),
					 back ? "true" : "false");
	fa_ddl_end(&state);
}

/* Statements that leave a relation with no grants but its owner's. */
static List *
revoke_all(Oid rel, const char *name)
{
	List	   *list = NIL;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE"
					   "  pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END "
					   "FROM (SELECT grantee FROM pg_catalog.pg_class c,"
					   "        pg_catalog.aclexplode(c.relacl) WHERE c.oid = %u"
					   "      UNION"
					   "      SELECT grantee FROM pg_catalog.pg_attribute a,"
					   "        pg_catalog.aclexplode(a.attacl) WHERE a.attrelid = %u) x",
					   rel, rel);
	for (int i = 0; i < rows->nrows; i++)
		list = lappend(list, psprintf("REVOKE ALL ON %s FROM %s CASCADE", name,
									  rows->value[i][0]));
	return list;
}

/*
 * Makes the grants of a relation on this node those that the statements say;
 * also called on peers, see fa_sql_set_rights.
 */
static void
set_grants(Oid rel, List *grants)
{
	char	   *name = fa_table_qualified_name(rel);
	ListCell   *lc;

	fa_ddl_run(revoke_all(rel, name));
	if (grants == NIL)			/* never granted: as the owner has it */
		fa_spi_exec("GRANT ALL ON %s TO %s", name,
					fa_spi_value("SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(relowner)) "
								 "FROM pg_catalog.pg_class WHERE oid = %u", rel));
	foreach(lc, grants)
		fa_spi_exec("%s", (char *) lfirst(lc));
}

static void
copy_to_parts(Oid root)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT f.bucket::pg_catalog.oid, f.leaf::pg_catalog.oid,"
					   "  f.home::pg_catalog.oid "
					   "FROM fragaffinity.fragment f "
					   "JOIN fragaffinity.distributed_table t USING (table_id) "
					   "WHERE t.rel = %u", root);
	for (int i = 0; i < rows->nrows; i++)
	{
		Oid			bucket = atooid(rows->value[i][0]);
		Oid			leaf = atooid(rows->value[i][1]);
		Oid			home = atooid(rows->value[i][2]);
		char	   *name = fa_table_qualified_name(bucket);

		fa_ddl_run(fa_text_owner(root, name));
		fa_ddl_run(fa_text_owner(root, fa_table_qualified_name(leaf)));
		set_grants(bucket, fa_text_grants(root, name));
		/* nobody comes in by it, but DDL on the table goes through it */
		if (home != bucket)
			fa_ddl_run(fa_text_owner(root, fa_table_qualified_name(home)));
	}
	fa_table_secure_buckets(root);
}

/* set_rights(root, statements): from the node where they were changed. */
Datum
fa_sql_set_rights(PG_FUNCTION_ARGS)
{
	Oid			root = PG_GETARG_OID(0);
	FaDdlState	state;
	FaRows	   *rows;
	List	   *grants = NIL;

	if (!superuser() || fa_map_table(root) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to set the grants of a distributed table")));
	fa_ddl_begin(&state);
	rows = fa_spi_rows("SELECT x FROM pg_catalog.jsonb_array_elements_text(%s) x",
					   quote_literal_cstr(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	for (int i = 0; i < rows->nrows; i++)
		grants = lappend(grants, rows->value[i][0]);
	set_grants(root, grants);
	copy_to_parts(root);
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

void
fa_ddl_copy_rights(Oid root)
{
	FaDdlState	state;
	StringInfoData array;
	char	   *name;
	ListCell   *lc;

	fa_ddl_begin(&state);
	fa_xact_lock_cluster();
	foreach(lc, fa_xact_conn_all())
		fa_refuse_peer_roles(lfirst(lc), root);
	name = fa_table_qualified_name(root);
	initStringInfo(&array);
	foreach(lc, fa_text_grants(root, name))
		appendStringInfo(&array, "%s%s", array.len ? ", " : "",
						 quote_literal_cstr(lfirst(lc)));
	copy_to_parts(root);
	fa_xact_exec_all("SELECT fragaffinity.set_rights(%s::pg_catalog.regclass,"
					 " pg_catalog.to_jsonb(ARRAY[%s]::pg_catalog.text[])::pg_catalog.text)",
					 quote_literal_cstr(name), array.data);
	fa_ddl_end(&state);
}
