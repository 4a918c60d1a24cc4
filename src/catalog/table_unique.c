/*
 * table_unique.c
 *	  Primary keys, unique and exclusion constraints, unique indexes.
 *
 * A partitioned table with foreign leaves may not have any, so they live on
 * the heap leaves only.  That is enough: they all contain the distribution
 * key, so equal keys meet in one leaf.  Their definitions are kept in
 * distributed_table.definition, from where a new heap gets them.
 *
 * The table itself shows them, though: as indexes of the table ONLY, which
 * PostgreSQL keeps as invalid.  Nothing enforces or infers by them.  But their
 * names are taken, DROP and COMMENT find them, clients that read the catalog
 * (JDBC, object-relational mappers) see them, and the columns that depend on a
 * primary key may stand beside GROUP BY.  Exclusion constraints are not shown:
 * up to 16 no partitioned table may have one.
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
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_show_unique);
PG_FUNCTION_INFO_V1(fa_sql_set_unique);
PG_FUNCTION_INFO_V1(fa_sql_unlink_unique);

/* One of them, as fa_text_unique() writes it. */
typedef struct UniqueIndex
{
	char	   *name;
	bool		constraint;
	bool		primary;
	char	   *definition;
	char	   *comment;		/* or NULL */
} UniqueIndex;

static List *
unique_parse(const char *unique)
{
	List	   *list = NIL;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT name, \"constraint\", \"primary\", definition, comment "
					   "FROM pg_catalog.jsonb_to_recordset(%s) AS u(name name,"
					   "  \"constraint\" boolean, \"primary\" boolean,"
					   "  definition text, comment text)",
					   quote_literal_cstr(unique));
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		UniqueIndex *u = palloc(sizeof(UniqueIndex));

		u->name = row[0];
		u->constraint = row[1][0] == 't';
		u->primary = row[2][0] == 't';
		u->definition = row[3];
		u->comment = row[4];
		list = lappend(list, u);
	}
	return list;
}

static bool
unique_is_exclusion(const UniqueIndex *u)
{
	return u->constraint && strncmp(u->definition, "EXCLUDE", 7) == 0;
}

/* Is one that does the same in the list?  Under the same name, if it matters. */
static bool
unique_member(List *list, const UniqueIndex *u, bool named)
{
	ListCell   *lc;

	foreach(lc, list)
	{
		UniqueIndex *other = lfirst(lc);

		if (other->constraint == u->constraint &&
			strcmp(other->definition, u->definition) == 0 &&
			(!named || strcmp(other->name, u->name) == 0))
			return true;
	}
	return false;
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

/* Rows that break it are the user's, who knows it by the name that he gave. */
static void
unique_raise(const UniqueIndex *u, MemoryContext caller)
{
	ErrorData  *edata;

	if (geterrcode() != ERRCODE_UNIQUE_VIOLATION &&
		geterrcode() != ERRCODE_EXCLUSION_VIOLATION)
		PG_RE_THROW();
	MemoryContextSwitchTo(caller);
	edata = CopyErrorData();
	FlushErrorState();
	edata->message = psprintf(unique_is_exclusion(u) ?
							  _("could not create exclusion constraint \"%s\"") :
							  _("could not create unique index \"%s\""), u->name);
	edata->constraint_name = u->name;
	ReThrowError(edata);
}

/* only: "ONLY " for the table itself, which shows it */
static void
unique_make(Oid rel, const char *only, const UniqueIndex *u, const char *name)
{
	char	   *qualified = fa_table_qualified_name(rel);
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		if (u->constraint)
			fa_spi_exec("ALTER TABLE %s%s ADD CONSTRAINT %s %s", only, qualified,
						quote_identifier(name), u->definition);
		else
			fa_spi_exec("CREATE UNIQUE INDEX %s ON %s%s USING %s",
						quote_identifier(name), only, qualified, u->definition);
	}
	PG_CATCH();
	{
		unique_raise(u, caller);
	}
	PG_END_TRY();
	if (u->comment && u->constraint)
		fa_spi_exec("COMMENT ON CONSTRAINT %s ON %s IS %s",
					quote_identifier(name), qualified,
					quote_literal_cstr(u->comment));
	else if (u->comment)
		fa_spi_exec("COMMENT ON INDEX %s IS %s",
					fa_table_sibling_name(rel, name),
					quote_literal_cstr(u->comment));
}

static void
unique_drop(Oid rel, const char *only, const UniqueIndex *u)
{
	if (u->constraint)
		fa_spi_exec("ALTER TABLE %s%s DROP CONSTRAINT %s", only,
					fa_table_qualified_name(rel), quote_identifier(u->name));
	else
		fa_spi_exec("DROP INDEX %s", fa_table_sibling_name(rel, u->name));
}

void
fa_unique_create(Oid rel, const char *unique, const char *stem)
{
	List	   *have = unique_parse(fa_text_unique(rel));
	ListCell   *lc;

	foreach(lc, unique_parse(unique))
	{
		UniqueIndex *u = lfirst(lc);

		/* two that do the same are one in a heap */
		if (stem && unique_member(have, u, false))
			continue;
		have = lappend(have, u);
		unique_make(rel, "", u, stem == NULL ? u->name :
					leaf_index_name(rel, stem, u->primary ? NULL : u->name));
	}
}

/* What distributed_table says of a root. */
static char *
unique_kept(Oid root)
{
	return fa_spi_value("SELECT definition->'unique' "
						"FROM fragaffinity.distributed_table WHERE rel = %u", root);
}

void
fa_unique_show(Oid root)
{
	List	   *shown = unique_parse(fa_text_unique(root));
	ListCell   *lc;

	foreach(lc, unique_parse(unique_kept(root)))
	{
		UniqueIndex *u = lfirst(lc);

		if (!unique_is_exclusion(u) && !unique_member(shown, u, true))
			unique_make(root, "ONLY ", u, u->name);
	}
}

void
fa_unique_hide(Oid root)
{
	ListCell   *lc;

	foreach(lc, unique_parse(fa_text_unique(root)))
		unique_drop(root, "ONLY ", lfirst(lc));
}

char *
fa_unique_exclusions(Oid root)
{
	return fa_spi_value("SELECT coalesce(pg_catalog.jsonb_agg(u), '[]') "
						"FROM pg_catalog.jsonb_array_elements(%s) u "
						"WHERE u->>'definition' LIKE 'EXCLUDE%%'"
						"  AND (u->>'constraint')::boolean",
						quote_literal_cstr(unique_kept(root)));
}

char *
fa_unique_changed(Oid root, const char *exclusions)
{
	return fa_spi_value("SELECT u FROM (SELECT coalesce(pg_catalog.jsonb_agg(x"
						"    ORDER BY (x->>'primary')::boolean DESC, x->>'name'), '[]') AS u "
						"  FROM pg_catalog.jsonb_array_elements(%s::pg_catalog.jsonb || %s::pg_catalog.jsonb) x) y "
						"WHERE u <> (SELECT coalesce(pg_catalog.jsonb_agg(x"
						"    ORDER BY (x->>'primary')::boolean DESC, x->>'name'), '[]') "
						"  FROM pg_catalog.jsonb_array_elements(%s) x)",
						quote_literal_cstr(fa_text_unique(root)),
						quote_literal_cstr(exclusions),
						quote_literal_cstr(unique_kept(root)));
}

/* What undistribute_table would say of an index that is gone by then is forgotten. */
static void
unique_keep(Oid root, const char *unique)
{
	fa_spi_exec("UPDATE fragaffinity.distributed_table"
				" SET definition = definition || pg_catalog.jsonb_build_object('unique', u,"
				"   'identities', (SELECT coalesce(pg_catalog.jsonb_agg(i), '[]')"
				"     FROM pg_catalog.jsonb_array_elements(definition->'identities') i"
				"    WHERE NOT EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(definition->'unique') gone,"
				"         LATERAL (SELECT ' USING INDEX ' || pg_catalog.quote_ident(gone->>'name')) x(index)"
				"       WHERE pg_catalog.right(i #>> '{}', pg_catalog.length(x.index)) = x.index"
				"         AND gone->>'name' NOT IN (SELECT x->>'name'"
				"           FROM pg_catalog.jsonb_array_elements(u) x)))) "
				"FROM (SELECT %s::pg_catalog.jsonb) w(u) WHERE rel = %u",
				quote_literal_cstr(unique), root);
}

/* Are its rows known by something that is there?  Its index may have been dropped. */
static bool
unique_has_identity(Oid heap)
{
	return fa_spi_value("SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = %u"
						"  AND (c.relreplident = 'f' OR EXISTS"
						"    (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid"
						"      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary"
						"          ELSE i.indisreplident END))", heap) != NULL;
}

/*
 * Makes the unique indexes of a heap those that are wanted.  When it has them, as
 * after COMMENT, it is not even locked.
 */
static void
unique_set_heap(Oid heap, const char *unique)
{
	List	   *wanted = unique_parse(unique);
	List	   *have = unique_parse(fa_text_unique(heap));
	bool		same = true;
	ListCell   *lc;

	foreach(lc, have)
	{
		if (unique_member(wanted, lfirst(lc), false))
			continue;
		unique_drop(heap, "", lfirst(lc));
		same = false;
	}
	foreach(lc, wanted)
		same = same && unique_member(have, lfirst(lc), false);
	if (same && unique_has_identity(heap))
		return;
	fa_unique_create(heap, unique, get_rel_name(heap));
	fa_unique_set_identity(heap);
}

void
fa_unique_set(Oid root, const char *unique)
{
	List	   *wanted = unique_parse(unique);
	FaRows	   *heaps;
	ListCell   *lc;

	unique_keep(root, unique);
	foreach(lc, unique_parse(fa_text_unique(root)))
	{
		if (!unique_member(wanted, lfirst(lc), true))
			unique_drop(root, "ONLY ", lfirst(lc));
	}
	fa_unique_show(root);
	heaps = fa_spi_rows("SELECT f.leaf::pg_catalog.oid FROM fragaffinity.fragment f "
						"JOIN fragaffinity.distributed_table t USING (table_id) "
						"WHERE t.rel = %u AND f.owner = %d ORDER BY f.fragment",
						root, fa_node_self());
	for (int i = 0; i < heaps->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		unique_set_heap(atooid(heaps->value[i][0]), unique);
	}
}

static void
unique_check_superuser(void)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to change what is unique in a distributed table")));
}

/* show_unique(root, shown): what peers ask of each other */
Datum
fa_sql_show_unique(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	unique_check_superuser();
	fa_ddl_begin(&state);
	if (PG_GETARG_BOOL(1))
		fa_unique_show(PG_GETARG_OID(0));
	else
		fa_unique_hide(PG_GETARG_OID(0));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

/* set_unique(root, unique): likewise */
Datum
fa_sql_set_unique(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	unique_check_superuser();
	fa_ddl_begin(&state);
	fa_unique_set(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

void
fa_unique_unlink(Oid partition)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT i.indexrelid, c.oid, pg_catalog.quote_ident(c.conname), x.relname "
					   "FROM pg_catalog.pg_index i "
					   "JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.indexrelid "
					   "JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid "
					   "LEFT JOIN pg_catalog.pg_constraint c"
					   "  ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u') "
					   "WHERE i.indrelid = %u AND i.indisunique", partition);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		Relation	index = index_open(atooid(row[0]), AccessExclusiveLock);

		/* as DETACH does */
		IndexSetParentIndex(index, InvalidOid);
		if (row[1])
			ConstraintSetParentConstraint(atooid(row[1]), InvalidOid, InvalidOid);
		index_close(index, NoLock);
		CommandCounterIncrement();
		if (row[1])
			fa_spi_exec("ALTER TABLE ONLY %s DROP CONSTRAINT %s",
						fa_table_qualified_name(partition), row[2]);
		else
			fa_spi_exec("DROP INDEX %s", fa_table_sibling_name(partition, row[3]));
	}
}

/* unlink_unique(partition): likewise */
Datum
fa_sql_unlink_unique(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	unique_check_superuser();
	fa_ddl_begin(&state);
	fa_unique_unlink(PG_GETARG_OID(0));
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
	{
		if (fa_spi_value("SELECT 1 FROM pg_catalog.pg_class "
						 "WHERE oid = %u AND relreplident <> 'd'", heap))
			fa_spi_exec("ALTER TABLE %s REPLICA IDENTITY DEFAULT", qualified);
		return;
	}
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
