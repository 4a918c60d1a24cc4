/*
 * ddl_rename.c
 *	  RENAME and SET SCHEMA of a distributed table, and of what belongs to one.
 *
 * A table gets its new name or schema on all nodes.  Its buckets keep theirs: statements
 * on the way to a peer name them, and it may hear of the commit a moment later.
 */
#include "postgres.h"

#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "route/ddl_guard.h"

#define HINT_UNDISTRIBUTE \
	"Use fragaffinity.undistribute_table first, and distribute the table again afterwards."

static void
check_rename_schema(RenameStmt *stmt)
{
	List	   *tables;

	tables = fa_ddl_catalog_values(psprintf("SELECT t.rel FROM fragaffinity.fragment f "
											"JOIN fragaffinity.distributed_table t USING (table_id) "
											"JOIN pg_catalog.pg_class c ON c.oid IN (f.bucket, t.rel) "
											"WHERE c.relnamespace = %u LIMIT 1",
											get_namespace_oid(stmt->subname, true)));
	if (tables)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("schema \"%s\" cannot be renamed: it holds distributed table \"%s\"",
						stmt->subname, (char *) linitial(tables)),
				 errhint(HINT_UNDISTRIBUTE)));
}

/* What the table shows is kept by its name, too. */
static FaDdlAction
check_rename_index(Oid index, RenameStmt *stmt, Oid root, FaDdlPlan *plan)
{
	plan->reshaped = root;
	plan->index_was = get_rel_name(index);
	plan->index_now = stmt->newname;
	return FA_DDL_EVERYWHERE;
}

static FaDdlAction
check_rename_constraint(RenameStmt *stmt, Oid root, FaDdlPlan *plan)
{
	Oid			constraint = get_relation_constraint_oid(root, stmt->subname, true);
	Oid			index;

	if (!stmt->relation->inh)
		fa_ddl_refuse("ALTER TABLE ONLY", root, "Leave out ONLY.");
	plan->reshaped = root;
	if (!OidIsValid(constraint))
	{
		/* if it is not one of those that cannot be shown, PostgreSQL says so */
		plan->unique = plan->elsewhere = fa_ddl_is_exclusion(stmt->subname, root);
		return plan->elsewhere ? FA_DDL_RESHAPE : FA_DDL_PASS;
	}
	index = get_constraint_index(constraint);
	return OidIsValid(index) ? check_rename_index(index, stmt, root, plan) :
		FA_DDL_RESHAPE;
}

static bool
is_index_of(Oid rel, Oid root)
{
	return get_rel_relkind(rel) == RELKIND_PARTITIONED_INDEX &&
		IndexGetRelation(rel, true) == root;
}

FaDdlAction
fa_ddl_check_rename(RenameStmt *stmt, FaDdlPlan *plan)
{
	Oid			rel = stmt->relation ?
		RangeVarGetRelid(stmt->relation, NoLock, true) : InvalidOid;
	Oid			root;

	if (stmt->renameType == OBJECT_POLICY)
		return fa_ddl_check_policy(stmt->relation, plan);
	if (stmt->renameType == OBJECT_SCHEMA)
		check_rename_schema(stmt);
	root = fa_ddl_root(rel);
	if (!OidIsValid(root))
		return FA_DDL_PASS;
	plan->owned = list_make1_oid(rel);
	if (rel == root && stmt->renameType == OBJECT_COLUMN)
	{
		plan->reshaped = root;
		return fa_ddl_check_rename_column(stmt, root);
	}
	if (rel == root && stmt->renameType == OBJECT_TABCONSTRAINT)
		return check_rename_constraint(stmt, root, plan);
	/* each may name the other, too */
	if (stmt->renameType != OBJECT_TABLE && stmt->renameType != OBJECT_INDEX)
		fa_ddl_refuse("RENAME", root, NULL);
	if (is_index_of(rel, root))
		return check_rename_index(rel, stmt, root, plan);
	if (rel == root)
	{
		plan->reshaped = root;
		plan->was = fa_table_qualified_name(root);
		return FA_DDL_RESHAPE;
	}
	fa_ddl_refuse("RENAME", root, NULL);
	return FA_DDL_PASS;
}

FaDdlAction
fa_ddl_check_set_schema(AlterObjectSchemaStmt *stmt, FaDdlPlan *plan)
{
	Oid			rel = stmt->relation ?
		RangeVarGetRelid(stmt->relation, NoLock, true) : InvalidOid;
	Oid			root = fa_ddl_root(rel);

	if (!OidIsValid(root))
		return FA_DDL_PASS;
	if (rel != root || stmt->objectType != OBJECT_TABLE)
		fa_ddl_refuse("SET SCHEMA of a part or sequence", root,
					  "Its sequences, and indexes, go with the table itself.");
	plan->owned = list_make1_oid(root);
	/* as PostgreSQL does it, but before anybody waits */
	if (fa_owns_relation(root, GetUserId()))
		(void) LookupCreationNamespace(stmt->newschema);
	plan->reshaped = root;
	plan->was = fa_table_qualified_name(root);
	plan->schema_now = stmt->newschema;
	return FA_DDL_RESHAPE;
}

void
fa_ddl_set_schema_begin(const FaDdlPlan *plan)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_refuse_peers_schema(plan->schema_now);
	fa_ddl_end(&state);
}

/* Nobody needs it for partitions of one server; peers ask for buckets by their names. */
static void
warn_usage(Oid root)
{
	static const char missing[] =
	"SELECT DISTINCT pg_catalog.format(%s, u.name, n.nspname) FROM ("
	"  SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid = %u"
	"  UNION"
	"  SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(x.grantee) END"
	"    FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x WHERE c.oid = %u"
	"  UNION"
	"  SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(x.grantee) END"
	"    FROM pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) x WHERE a.attrelid = %u"
	") u(name), fragaffinity.distributed_table t"
	"  JOIN fragaffinity.fragment f USING (table_id)"
	"  JOIN pg_catalog.pg_class b ON b.oid = f.bucket"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = b.relnamespace "
	"WHERE t.rel = %u AND NOT pg_catalog.has_schema_privilege(u.name, n.oid, 'USAGE') "
	"ORDER BY 1 LIMIT 1";
	List	   *found = fa_ddl_catalog_values(psprintf(missing,
													   "'role \"%s\" may not use schema \"%s\", where the table''s parts stay'",
													   root, root, root, root));

	if (found)
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg_internal("%s", (char *) linitial(found)),
				 errdetail("It cannot use the table's rows on other nodes."),
				 errhint("Use GRANT USAGE ON SCHEMA on all nodes.")));
}

void
fa_ddl_rename_end(FaDdlPlan *plan)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	if (plan->was)
		fa_table_renamed(plan->reshaped, plan->was);
	if (plan->index_was)
		fa_table_index_renamed(plan->reshaped, plan->index_was, plan->index_now);
	fa_ddl_end(&state);
	if (plan->schema_now)
		warn_usage(plan->reshaped);
}
