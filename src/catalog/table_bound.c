/*
 * table_bound.c
 *	  A heap's promise to hold only rows of its bucket, so that ATTACH does not
 *	  read them all.
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

void
fa_table_forget_bound(Oid heap)
{
	fa_spi_exec("ALTER TABLE %s DROP CONSTRAINT IF EXISTS " FA_TABLE_BOUND_CHECK,
				fa_table_qualified_name(heap));
}
