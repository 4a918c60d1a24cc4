/*
 * table_bound.c
 *	  Attaching a leaf, and a heap's promise to hold only rows of its bucket, so
 *	  that ATTACH does not read them all.
 *
 * ATTACH skips its scan when a valid CHECK constraint is, as an expression,
 * the same as the partition's.  The text of that expression does not come
 * back as the same one: constants of a type with collations get another. So
 * the constraint is made from the text, and then holds the expression itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/spi.h"

/* The bucket's partition constraint, with the heap's column numbers. */
static char *
bound_expression(Oid heap, Oid bucket)
{
	Relation	from = table_open(bucket, AccessShareLock);
	Relation	to = table_open(heap, AccessShareLock);
	List	   *qual = copyObject(RelationGetPartitionQual(from));
	char	   *text;

	qual = map_partition_varattnos(qual, 1, to, from);
	text = nodeToString(make_ands_explicit(qual));
	table_close(to, NoLock);
	table_close(from, NoLock);
	return text;
}

void
fa_table_promise_bound(Oid heap, Oid bucket)
{
	Relation	catalog;
	HeapTuple	tuple;
	HeapTuple	changed;
	Datum		values[Natts_pg_constraint] = {0};
	bool		nulls[Natts_pg_constraint] = {false};
	bool		replace[Natts_pg_constraint] = {false};
	Oid			oid;

	fa_spi_exec("ALTER TABLE %s ADD CONSTRAINT " FA_TABLE_BOUND_CHECK
				" CHECK (%s) NOT VALID", fa_table_qualified_name(heap),
				fa_spi_value("SELECT pg_catalog.pg_get_partition_constraintdef(%u)",
							 bucket));
	oid = get_relation_constraint_oid(heap, FA_TABLE_BOUND_CHECK, false);
	catalog = table_open(ConstraintRelationId, RowExclusiveLock);
	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u", oid);
	values[Anum_pg_constraint_convalidated - 1] = BoolGetDatum(true);
	replace[Anum_pg_constraint_convalidated - 1] = true;
	values[Anum_pg_constraint_conbin - 1] =
		CStringGetTextDatum(bound_expression(heap, bucket));
	replace[Anum_pg_constraint_conbin - 1] = true;
	changed = heap_modify_tuple(tuple, RelationGetDescr(catalog), values,
								nulls, replace);
	CatalogTupleUpdate(catalog, &changed->t_self, changed);
	ReleaseSysCache(tuple);
	table_close(catalog, RowExclusiveLock);
	CacheInvalidateRelcacheByRelid(heap);
	CommandCounterIncrement();
}

/*
 * PostgreSQL computes what in checks and indexes holds no column when it
 * attaches.  That is the owner's code, so he attaches.  ALTER TABLE looks names
 * up as him, too; when he may not do so in the schema, and there is no such
 * code, we do it.
 */
static bool
attach_as_ourselves(Oid child)
{
	return fa_spi_value("SELECT '' FROM pg_catalog.pg_class c WHERE oid = %u "
						"AND NOT pg_catalog.has_schema_privilege(relowner, relnamespace, 'USAGE') "
						"AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint"
						"  WHERE conrelid = c.oid AND contype = 'c'"
						"  AND conname <> '" FA_TABLE_BOUND_CHECK "') "
						"AND NOT EXISTS (SELECT FROM pg_catalog.pg_index"
						"  WHERE indrelid = c.oid"
						"  AND (indexprs IS NOT NULL OR indpred IS NOT NULL))",
						child) != NULL;
}

void
fa_table_attach(Oid parent, Oid child, const char *bound)
{
	char	   *sql = psprintf("ALTER TABLE %s ATTACH PARTITION %s %s",
							   fa_table_qualified_name(parent),
							   fa_table_qualified_name(child), bound);

	if (attach_as_ourselves(child))
		fa_spi_exec("%s", sql);
	else
		fa_ddl_write(parent, sql);
}

/* With either of them, CREATE TABLE ... PARTITION OF computes expressions, too. */
static bool
has_indexes_or_default(Oid parent)
{
	return fa_spi_value("SELECT '' FROM pg_catalog.pg_index WHERE indrelid = %u "
						"UNION ALL SELECT '' FROM pg_catalog.pg_partitioned_table "
						"WHERE partrelid = %u AND partdefid <> 0 LIMIT 1",
						parent, parent) != NULL;
}

void
fa_table_create_partition(Oid parent, const char *qualified, const char *bound,
						  const char *rest)
{
	char	   *parent_q = fa_table_qualified_name(parent);

	if (!has_indexes_or_default(parent))
	{
		fa_spi_exec("CREATE TABLE %s PARTITION OF %s %s%s", qualified, parent_q,
					bound, rest);
		fa_ddl_run(fa_text_owner(parent, qualified));
		return;
	}
	fa_spi_exec("CREATE TABLE %s (" FA_TABLE_LIKE ")%s", qualified, parent_q, rest);
	fa_ddl_run(fa_text_owner(parent, qualified));
	fa_table_attach(parent, fa_table_oid(qualified), bound);
}

void
fa_table_forget_bound(Oid heap)
{
	fa_spi_exec("ALTER TABLE %s DROP CONSTRAINT IF EXISTS " FA_TABLE_BOUND_CHECK,
				fa_table_qualified_name(heap));
}
