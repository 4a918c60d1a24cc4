/*
 * table_unique.c
 *	  Primary keys, unique and exclusion constraints, unique indexes.
 *
 * A partitioned table with foreign leaves may not have any, so they live on
 * the heap leaves only.  That is enough: they all contain the distribution
 * key, so equal keys meet in one leaf.  Their definitions are kept in
 * distributed_table.definition, from where a new heap gets them.
 *
 * The table itself shows its primary key, though: as one of the table ONLY, which
 * PostgreSQL keeps as invalid.  Nothing enforces or infers by it.  But the columns
 * that depend on it may stand beside GROUP BY, and clients that read the catalog
 * (JDBC, object-relational mappers) find it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_constraint.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/spi.h"

PG_FUNCTION_INFO_V1(fa_sql_show_primary_key);
PG_FUNCTION_INFO_V1(fa_sql_unlink_primary_key);

/* Does the table have an index of this definition? */
static bool
index_exists(Oid rel, bool constraint, const char *definition)
{
	FaRows	   *rows;
	char	   *have = fa_text_unique(rel);

	rows = fa_spi_rows("SELECT FROM pg_catalog.jsonb_to_recordset(%s)"
					   "  AS u(\"constraint\" boolean, definition text) "
					   "WHERE u.\"constraint\" = %s AND u.definition = %s",
					   quote_literal_cstr(have), constraint ? "true" : "false",
					   quote_literal_cstr(definition));
	return rows->nrows > 0;
}

/* <stem>_pkey, or <stem>_<name of the template>, with a number when taken. */
static char *
leaf_index_name(Oid rel, const char *stem, const char *template)
{
	char	   *base = template ? pstrdup(template) : NULL;
	char	   *suffix = base ? strrchr(base, '_') : NULL;
	const char *label = "key";

	if (base == NULL)
		label = "pkey";
	else if (suffix && suffix > base)
	{
		*suffix = '\0';
		label = suffix + 1;
	}
	return ChooseRelationName(stem, base, label, get_rel_namespace(rel), true);
}

void
fa_unique_create(Oid rel, const char *unique, const char *stem)
{
	char	   *qualified = fa_table_qualified_name(rel);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT name, \"constraint\", \"primary\", definition, comment "
					   "FROM pg_catalog.jsonb_to_recordset(%s) AS u(name name,"
					   "  \"constraint\" boolean, \"primary\" boolean,"
					   "  definition text, comment text)",
					   quote_literal_cstr(unique));
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		bool		constraint = row[1][0] == 't';
		bool		primary = row[2][0] == 't';
		char	   *name = row[0];

		if (index_exists(rel, constraint, row[3]))
			continue;
		if (stem)
			name = leaf_index_name(rel, stem, primary ? NULL : row[0]);
		if (constraint)
			fa_spi_exec("ALTER TABLE %s ADD CONSTRAINT %s %s", qualified,
						quote_identifier(name), row[3]);
		else
			fa_spi_exec("CREATE UNIQUE INDEX %s ON %s USING %s",
						quote_identifier(name), qualified, row[3]);
		if (row[4] && constraint)
			fa_spi_exec("COMMENT ON CONSTRAINT %s ON %s IS %s",
						quote_identifier(name), qualified,
						quote_literal_cstr(row[4]));
		else if (row[4])
			fa_spi_exec("COMMENT ON INDEX %s IS %s",
						fa_table_sibling_name(rel, name),
						quote_literal_cstr(row[4]));
	}
}

void
fa_unique_show_primary(Oid root)
{
	char	   *qualified = fa_table_qualified_name(root);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT pg_catalog.quote_ident(u.name), u.definition, u.comment "
					   "FROM fragaffinity.distributed_table t,"
					   "  pg_catalog.jsonb_to_recordset(t.definition->'unique')"
					   "    AS u(name name, \"primary\" boolean, definition text, comment text) "
					   "WHERE t.rel = %u AND u.\"primary\" AND NOT EXISTS"
					   "  (SELECT FROM pg_catalog.pg_constraint"
					   "    WHERE conrelid = t.rel AND contype = 'p')", root);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];

		fa_spi_exec("ALTER TABLE ONLY %s ADD CONSTRAINT %s %s", qualified, row[0],
					row[1]);
		if (row[2])
			fa_spi_exec("COMMENT ON CONSTRAINT %s ON %s IS %s", row[0], qualified,
						quote_literal_cstr(row[2]));
	}
}

void
fa_unique_hide_primary(Oid root)
{
	char	   *name = fa_spi_value("SELECT pg_catalog.quote_ident(conname) "
									"FROM pg_catalog.pg_constraint "
									"WHERE conrelid = %u AND contype = 'p'", root);

	if (name)
		fa_spi_exec("ALTER TABLE ONLY %s DROP CONSTRAINT %s",
					fa_table_qualified_name(root), name);
}

/* show_primary_key(root, shown): what peers ask of each other */
Datum
fa_sql_show_primary_key(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to show or hide the primary key of a distributed table")));
	fa_ddl_begin(&state);
	if (PG_GETARG_BOOL(1))
		fa_unique_show_primary(PG_GETARG_OID(0));
	else
		fa_unique_hide_primary(PG_GETARG_OID(0));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

void
fa_unique_unlink_primary(Oid partition)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT oid, conindid, pg_catalog.quote_ident(conname) "
					   "FROM pg_catalog.pg_constraint "
					   "WHERE conrelid = %u AND contype = 'p' AND conparentid <> 0",
					   partition);
	for (int i = 0; i < rows->nrows; i++)
	{
		Relation	index = index_open(atooid(rows->value[i][1]),
									   AccessExclusiveLock);

		/* as DETACH does */
		IndexSetParentIndex(index, InvalidOid);
		ConstraintSetParentConstraint(atooid(rows->value[i][0]), InvalidOid,
									  InvalidOid);
		index_close(index, NoLock);
		CommandCounterIncrement();
		fa_spi_exec("ALTER TABLE ONLY %s DROP CONSTRAINT %s",
					fa_table_qualified_name(partition), rows->value[i][2]);
	}
}

/* unlink_primary_key(partition): what peers ask of each other */
Datum
fa_sql_unlink_primary_key(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to unlink the primary key of a partition")));
	fa_ddl_begin(&state);
	fa_unique_unlink_primary(PG_GETARG_OID(0));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

/*
 * Changes of a heap must name the row they changed: by the primary key, else
 * by a unique index that PostgreSQL accepts, else by the whole row.
 */
void
fa_unique_set_identity(Oid heap)
{
	char	   *qualified = fa_table_qualified_name(heap);
	char	   *index;

	if (fa_spi_value("SELECT 1 FROM pg_catalog.pg_index "
					 "WHERE indrelid = %u AND indisprimary AND indimmediate", heap))
		return;
	index = fa_spi_value("SELECT c.relname FROM pg_catalog.pg_index i "
						 "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
						 "WHERE i.indrelid = %u AND i.indisunique AND i.indimmediate"
						 "  AND i.indpred IS NULL AND i.indexprs IS NULL"
						 "  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a"
						 "    WHERE a.attrelid = i.indrelid AND NOT a.attnotnull"
						 "      AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) "
						 "ORDER BY i.indisreplident DESC, i.indnkeyatts, c.relname LIMIT 1",
						 heap);
	if (index)
		fa_spi_exec("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s",
					qualified, quote_identifier(index));
	else
		fa_spi_exec("ALTER TABLE %s REPLICA IDENTITY FULL", qualified);
}
