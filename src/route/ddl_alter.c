/*
 * ddl_alter.c
 *	  Which commands of ALTER TABLE a distributed table can take.
 *
 * They run on the root of every node and reach its buckets and leaves, heaps
 * and foreign tables, through PostgreSQL's own recursion.  What must stay:
 *
 *	- the key, which every bucket is partitioned by, and its NOT NULL
 *	- the columns of unique indexes, which are templates by name
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

/* Named by a unique index's template, or fed by a sequence. */
static bool
is_kept_by_name(const char *column, Oid root)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM fragaffinity.distributed_table t "
										  "WHERE t.rel = %u AND (EXISTS"
										  "  (SELECT FROM pg_catalog.jsonb_array_elements(t.definition->'unique') u"
										  "    WHERE u->'columns' ? %s)"
										  " OR EXISTS"
										  "  (SELECT FROM pg_catalog.jsonb_array_elements(t.definition->'sequences') s"
										  "    WHERE s->>'column' = %s))",
										  root, quote_literal_cstr(column),
										  quote_literal_cstr(column))) != NIL;
}

static bool
is_primary_key(const char *constraint, Oid root)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM pg_catalog.pg_constraint "
										  "WHERE conrelid = %u AND contype = 'p'"
										  "  AND conname = %s",
										  root, quote_literal_cstr(constraint))) != NIL;
}

bool
fa_ddl_in_primary_key(const char *column, Oid root)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM pg_catalog.pg_index i "
										  "JOIN pg_catalog.pg_attribute a"
										  "  ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
										  "WHERE i.indrelid = %u AND i.indisprimary"
										  "  AND a.attname = %s",
										  root, quote_literal_cstr(column))) != NIL;
}

static void
check_constraint(Constraint *constraint, Oid root)
{
	switch (constraint->contype)
	{
		case CONSTR_NULL:
		case CONSTR_NOTNULL:
		case CONSTR_DEFAULT:
		case CONSTR_GENERATED:
			return;
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
			fa_ddl_refuse("a new unique constraint", root, NULL);
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
		case AT_SetNotNull:
			return FA_DDL_RESHAPE;
		case AT_DropConstraint:
			if (is_primary_key(cmd->name, root))
				fa_ddl_refuse("DROP of the primary key", root, NULL);
			return FA_DDL_RESHAPE;
		case AT_ColumnDefault:
		case AT_AlterColumnType:
		case AT_DropColumn:
		case AT_DropNotNull:
			if (is_key(cmd->name, root) && cmd->subtype != AT_ColumnDefault)
				fa_ddl_refuse("this change of the key's column", root, NULL);
			if (is_kept_by_name(cmd->name, root) &&
				cmd->subtype != AT_AlterColumnType)
				fa_ddl_refuse("this change of a column with a unique index or a sequence",
							  root, NULL);
			if (cmd->behavior == DROP_CASCADE)
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
	if (is_key(stmt->subname, root) || is_kept_by_name(stmt->subname, root))
		fa_ddl_refuse("RENAME of the key or a column with a unique index or a sequence",
					  root, NULL);
	return FA_DDL_RESHAPE;
}
