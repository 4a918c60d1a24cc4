/*
 * ddl_alter.c
 *	  Which commands of ALTER TABLE a distributed table can take.
 *
 * They run on the root of every node and reach its buckets and leaves, heaps
 * and foreign tables, through PostgreSQL's own recursion.  What must stay:
 *
 *	- the key, which every bucket is partitioned by, and its NOT NULL
 *	- the columns of exclusion constraints, which are templates by name
 *	- unique values from sequences, which differ from node to node
 *	- heaps that moves have begun: see fa_ddl_check_reshaped()
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "route/ddl_guard.h"

static bool
is_key(const char *column, Oid root)
{
	return column && strcmp(column, get_attname(root, fa_map_table(root)->key,
												false)) == 0;
}

static bool
is_fed_by_sequence(const char *column, Oid root)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM fragaffinity.distributed_table t,"
										  "  pg_catalog.jsonb_array_elements(t.definition->'sequences') s "
										  "WHERE t.rel = %u AND s->>'column' = %s",
										  root, quote_literal_cstr(column))) != NIL;
}

static void
check_constraint(Constraint *constraint, Oid root)
{
	switch (constraint->contype)
	{
		case CONSTR_NULL:
		case CONSTR_DEFAULT:
		case CONSTR_GENERATED:
			return;
		case CONSTR_NOTNULL:
		case CONSTR_CHECK:
			if (constraint->skip_validation)
				fa_ddl_refuse("a constraint that is NOT VALID", root,
							  "Leave out NOT VALID.");
			return;
		case CONSTR_IDENTITY:
			fa_ddl_refuse("a new identity column", root, NULL);
			break;
		case CONSTR_FOREIGN:
		case CONSTR_ATTR_DEFERRABLE:
		case CONSTR_ATTR_NOT_DEFERRABLE:
		case CONSTR_ATTR_DEFERRED:
		case CONSTR_ATTR_IMMEDIATE:
			fa_ddl_refuse("a foreign key", root,
						  "The rows it refers to may be on another node.");
			break;
		default:
			fa_ddl_refuse("a unique constraint of a new column", root,
						  "Add the column, then the constraint by ALTER TABLE ... ADD.");
	}
}

static void
check_add_column(ColumnDef *column, Oid root)
{
	static const char *const serials[] = {
		"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial"
	};
	const char *type = column->typeName && column->typeName->names ?
		strVal(llast(column->typeName->names)) : "";
	ListCell   *lc;

	for (int i = 0; i < lengthof(serials); i++)
		if (strcmp(type, serials[i]) == 0)
			fa_ddl_refuse("a new serial column", root, NULL);
	foreach(lc, column->constraints)
		check_constraint(lfirst_node(Constraint, lc), root);
}

/*
 * Does anything depend on the column that DROP without CASCADE would not take?  Of the
 * table, so alike on all nodes: generated columns and policies; and views and the
 * like on this one.
 */
static bool
has_dependents(const char *column, Oid root)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM pg_catalog.pg_depend d "
										  "JOIN pg_catalog.pg_attribute a"
										  "  ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
										  "LEFT JOIN pg_catalog.pg_constraint c"
										  "  ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass"
										  "  AND c.oid = d.objid "
										  "LEFT JOIN pg_catalog.pg_attrdef v"
										  "  ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
										  "  AND v.oid = d.objid "
										  "WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
										  "  AND d.refobjid = %u AND a.attname = %s AND d.deptype = 'n'"
										  "  AND c.conrelid IS DISTINCT FROM a.attrelid"
										  "  AND (v.adrelid, v.adnum) IS DISTINCT FROM (a.attrelid, a.attnum)",
										  root, quote_literal_cstr(column))) != NIL;
}

static void
check_column_change(const char *column, AlterTableType change, Oid root)
{
	if (change != AT_ColumnDefault && is_key(column, root))
		fa_ddl_refuse("this change of the key's column", root, NULL);
	if (change == AT_AlterColumnType)
		return;
	if (is_fed_by_sequence(column, root))
		fa_ddl_refuse("this change of a column with a sequence", root, NULL);
	/* heaps may know their rows by it */
	if (change != AT_ColumnDefault &&
		fa_ddl_in_unique(column, root, change == AT_DropNotNull))
		fa_ddl_refuse(change == AT_DropNotNull ?
					  "this change of a column with a unique index" :
					  "this change of a column with an exclusion constraint", root,
					  "Drop the index or constraint first.");
}

/* From 18 on NOT NULL is a constraint with a name, and can be dropped by it. */
static void
check_drop_constraint(const char *name, Oid root)
{
	List	   *columns = fa_ddl_catalog_values(psprintf("SELECT a.attname FROM pg_catalog.pg_constraint c "
														 "JOIN pg_catalog.pg_attribute a"
														 "  ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
														 "WHERE c.conrelid = %u AND c.contype = 'n' AND c.conname = %s",
														 root, quote_literal_cstr(name)));

	if (columns != NIL)
		check_column_change(linitial(columns), AT_DropNotNull, root);
}

FaDdlAction
fa_ddl_check_alter(AlterTableCmd *cmd, Oid root)
{
	switch (cmd->subtype)
	{
		case AT_ChangeOwner:
		case AT_EnableRowSecurity:
		case AT_DisableRowSecurity:
		case AT_ForceRowSecurity:
		case AT_NoForceRowSecurity:
		case AT_SetStatistics:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_SetOptions:
		case AT_ResetOptions:
			return FA_DDL_EVERYWHERE;
		case AT_AddColumn:
			check_add_column(castNode(ColumnDef, cmd->def), root);
			return FA_DDL_RESHAPE;
		case AT_AddConstraint:
			check_constraint(castNode(Constraint, cmd->def), root);
			return FA_DDL_RESHAPE;
		case AT_DropConstraint:
			check_drop_constraint(cmd->name, root);
			return FA_DDL_RESHAPE;
		case AT_SetNotNull:
			return FA_DDL_RESHAPE;
		case AT_ColumnDefault:
		case AT_AlterColumnType:
		case AT_DropColumn:
		case AT_DropNotNull:
			check_column_change(cmd->name, cmd->subtype, root);
			/* object-relational mappers always say so */
			if (cmd->behavior == DROP_CASCADE &&
				(cmd->subtype != AT_DropColumn || has_dependents(cmd->name, root)))
				fa_ddl_refuse("CASCADE", root, "Drop what depends on it first.");
			return FA_DDL_RESHAPE;
		default:
			fa_ddl_refuse("this form of ALTER TABLE", root, NULL);
			return FA_DDL_PASS;
	}
}

FaDdlAction
fa_ddl_check_rename_column(RenameStmt *stmt, Oid root)
{
	if (!stmt->relation->inh)
		fa_ddl_refuse("ALTER TABLE ONLY", root, "Leave out ONLY.");
	if (is_key(stmt->subname, root) || is_fed_by_sequence(stmt->subname, root))
		fa_ddl_refuse("RENAME of the key or a column with a sequence", root, NULL);
	if (fa_ddl_in_unique(stmt->subname, root, false))
		fa_ddl_refuse("RENAME of a column with an exclusion constraint", root,
					  "Drop the constraint first.");
	return FA_DDL_RESHAPE;
}
