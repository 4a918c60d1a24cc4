/*
 * table_leaf.c
 *	  Buckets and leaves: the relations that moves exchange.
 *
 * The catalog of the node they are made on says all that is needed, so a
 * peer is only told numbers: which partition, which owners.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_create_fragments);
PG_FUNCTION_INFO_V1(fa_sql_create_leaf_indexes);
PG_FUNCTION_INFO_V1(fa_sql_analyze_leaves);

/* " WITH (...)" of the heaps under a partition, or "". */
static char *
heap_options(int table_id, Oid partition)
{
	char	   *options;

	options = fa_spi_value("SELECT ' WITH (' || (definition->'options'->>%s) || ')' "
						   "FROM fragaffinity.distributed_table WHERE table_id = %d",
						   quote_literal_cstr(fa_table_qualified_name(partition)),
						   table_id);
	return options ? options : pstrdup("");
}

Oid
fa_table_parent(Oid rel)
{
	return atooid(fa_spi_value("SELECT inhparent FROM pg_catalog.pg_inherits "
							   "WHERE inhrelid = %u", rel));
}

char *
fa_table_server_options(Oid bucket, int owner)
{
	return psprintf("SERVER %s OPTIONS (schema_name %s, table_name %s)",
					quote_identifier(fa_node_server_name(owner)),
					quote_literal_cstr(get_namespace_name(get_rel_namespace(bucket))),
					quote_literal_cstr(get_rel_name(bucket)));
}

char *
fa_table_bound(Oid leaf)
{
	return fa_spi_value("SELECT pg_catalog.pg_get_expr(relpartbound, oid) "
						"FROM pg_catalog.pg_class WHERE oid = %u", leaf);
}

/*
 * LIKE locks the bucket, and its partition constraint what the bucket is part of.
 * TRUNCATE and DDL do so the other way round, which so is the order here, too.
 */
static void
lock_ancestors(Oid bucket)
{
	List	   *ancestors = get_partition_ancestors(bucket);

	for (int i = list_length(ancestors) - 1; i >= 0; i--)
		LockRelationOid(list_nth_oid(ancestors, i), AccessShareLock);
}

Oid
fa_table_create_heap(const FaFragment *f, const char *name, bool with_indexes)
{
	FaDdlState	state;
	char	   *qualified;
	Oid			heap;

	lock_ancestors(f->bucket);
	fa_ddl_begin(&state);
	qualified = fa_table_sibling_name(f->bucket, name);
	fa_spi_exec("CREATE TABLE %s (" FA_TABLE_LIKE ")%s",
				qualified, fa_table_qualified_name(f->bucket),
				heap_options(f->table_id, fa_table_parent(f->home)));
	fa_ddl_run(fa_text_owner(f->bucket, qualified));
	fa_ddl_run(fa_text_column_options(f->bucket, qualified, false));
	heap = fa_table_oid(qualified);
	fa_table_promise_bound(heap, f->bucket);
	if (with_indexes)
		fa_table_create_indexes(heap, f);
	fa_ddl_end(&state);
	return heap;
}

/* Indexes of a heap whose bucket is known. */
static void
create_indexes(Oid heap, Oid bucket, int table_id)
{
	char	   *unique;
	ListCell   *lc;

	unique = fa_spi_value("SELECT definition->>'unique' "
						  "FROM fragaffinity.distributed_table "
						  "WHERE table_id = %d", table_id);
	fa_unique_create(heap, unique, get_rel_name(heap));
	fa_unique_set_identity(heap);
	foreach(lc, fa_text_missing_indexes(bucket, heap))
		fa_spi_exec("CREATE INDEX ON %s USING %s",
					fa_table_qualified_name(heap), (char *) lfirst(lc));
}

void
fa_table_create_indexes(Oid heap, const FaFragment *f)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	create_indexes(heap, f->bucket, f->table_id);
	fa_ddl_end(&state);
}

Oid
fa_table_create_remote(const FaFragment *f, const char *name, int owner)
{
	FaDdlState	state;
	char	   *qualified;
	Oid			rel;

	fa_ddl_begin(&state);
	qualified = fa_table_sibling_name(f->bucket, name);
	/* LIKE does not exist for foreign tables. */
	fa_spi_exec("CREATE FOREIGN TABLE %s (%s%s) %s", qualified,
				fa_text_columns(f->bucket, true), fa_text_checks(f->bucket),
				fa_table_server_options(f->bucket, owner));
	fa_ddl_run(fa_text_owner(f->bucket, qualified));
	rel = fa_table_oid(qualified);
	fa_ddl_end(&state);
	return rel;
}

static bool
row_security_is_on(Oid rel)
{
	return fa_spi_value("SELECT '' FROM pg_catalog.pg_class "
						"WHERE oid = %u AND relrowsecurity", rel) != NULL;
}

void
fa_table_secure_buckets(Oid root)
{
	bool		on = row_security_is_on(root);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT b.oid FROM fragaffinity.fragment f "
					   "JOIN fragaffinity.distributed_table t USING (table_id) "
					   "JOIN pg_catalog.pg_class b ON b.oid = f.bucket "
					   "WHERE t.rel = %u AND b.relrowsecurity <> %s",
					   root, on ? "true" : "false");
	for (int i = 0; i < rows->nrows; i++)
		fa_spi_exec("ALTER TABLE %s %s ROW LEVEL SECURITY",
					fa_table_qualified_name(atooid(rows->value[i][0])),
					on ? "ENABLE" : "DISABLE");
}

PG_FUNCTION_INFO_V1(fa_sql_secure_buckets);

/* secure_buckets(root): what peers ask of each other */
Datum
fa_sql_secure_buckets(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to secure buckets")));
	fa_ddl_begin(&state);
	fa_table_secure_buckets(PG_GETARG_OID(0));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

void
fa_table_give_rights(Oid root, Oid partition, const char *bucket)
{
	/* Peers come in by the bucket, as the user who may use the root there. */
	fa_ddl_run(fa_text_owner(root, bucket));
	fa_ddl_run(fa_text_grants(root, bucket));
	if (row_security_is_on(root))
		fa_spi_exec("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", bucket);
	if (partition != root)
		fa_ddl_run(fa_text_grants(partition, bucket));
}

Oid
fa_table_create_leaf(const FaFragment *f)
{
	char	   *bucket = get_rel_name(f->bucket);
	char	   *bucket_q = fa_table_qualified_name(f->bucket);
	char	   *leaf_q;

	if (f->owner == fa_node_self())
	{
		leaf_q = fa_table_sibling_name(f->bucket, fa_table_heap_name(bucket));
		fa_table_create_partition(f->bucket, leaf_q, FA_TABLE_WHOLE_RANGE,
								  heap_options(f->table_id,
											   fa_table_parent(f->home)));
		fa_ddl_run(fa_text_column_options(f->bucket, leaf_q, false));
	}
	else
	{
		leaf_q = fa_table_sibling_name(f->bucket, fa_table_remote_name(bucket));
		fa_spi_exec("CREATE FOREIGN TABLE %s PARTITION OF %s "
					FA_TABLE_WHOLE_RANGE " %s", leaf_q, bucket_q,
					fa_table_server_options(f->bucket, f->owner));
		fa_ddl_run(fa_text_owner(f->bucket, leaf_q));
	}
	return fa_table_oid(leaf_q);
}

/*
 * Before each of many CREATE TABLE ... PARTITION OF: the server reads the bounds
 * of all partitions that are there, to see that the new one does not overlap
 * with one of them, and that takes hours for some ten thousand.  Remainders of
 * one modulus do not overlap.  So it is shown a partitioned table without
 * partitions, until it forgets what it knows of the table, as it does after
 * every one of these statements, and after an error.
 */
static void
hide_partitions(Oid partition)
{
	Relation	rel;
	MemoryContext context;
	PartitionDesc desc;

	/* an error before the first of them is to be no exception */
	CacheInvalidateRelcacheByRelid(partition);
	CommandCounterIncrement();
	rel = relation_open(partition, NoLock);
	if (rel->rd_partdesc == NULL)
	{
		context = AllocSetContextCreate(CacheMemoryContext,
										"fragaffinity no partitions",
										ALLOCSET_SMALL_SIZES);
		desc = MemoryContextAllocZero(context, sizeof(PartitionDescData));
		/* what it knew before goes when it is closed, as the server has it */
		if (rel->rd_pdcxt)
			MemoryContextSetParent(rel->rd_pdcxt, context);
		rel->rd_partdesc = desc;
		rel->rd_pdcxt = context;
	}
	relation_close(rel, NoLock);
}

/* One bucket with its leaf on this node, and the fragment's row. */
static void
create_fragment(int table_id, Oid root, Oid partition, const char *key,
				const char *schema, const char *stem, int modulus, int remainder, int64 fragment,
				int owner)
{
	char	   *bucket = fa_table_bucket_name(stem, remainder);
	char	   *bucket_q = quote_qualified_identifier(schema, bucket);
	FaFragment	f = {0};

	hide_partitions(partition);
	fa_table_create_partition(partition, bucket_q,
							  psprintf("FOR VALUES WITH (MODULUS %d, REMAINDER %d)",
									   modulus, remainder),
							  psprintf(" PARTITION BY RANGE (%s)",
									   quote_identifier(key)));
	fa_table_give_rights(root, partition, bucket_q);
	f.fragment = fragment;
	f.table_id = table_id;
	f.bucket = f.home = fa_table_oid(bucket_q);
	f.owner = owner;
	f.leaf = fa_table_create_leaf(&f);
	fa_spi_exec("INSERT INTO fragaffinity.fragment"
				"  (fragment, table_id, bucket, leaf, owner, home) "
				"VALUES (" INT64_FORMAT ", %d, %u, %u, %d, %u)",
				fragment, table_id, f.bucket, f.leaf, owner, f.home);
	fa_map_invalidate(f.bucket);
	fa_map_invalidate(f.leaf);
}

/*
 * create_fragments(table_id, partition, key, fragments, owners, schema, stem): divides
 * an empty partition of a distributed table; run on each node by the one that
 * distributes, so that the buckets' names are the same.
 */
Datum
fa_sql_create_fragments(PG_FUNCTION_ARGS)
{
	int			table_id = PG_GETARG_INT32(0);
	Oid			partition = PG_GETARG_OID(1);
	char	   *key = NameStr(*PG_GETARG_NAME(2));
	ArrayType  *fragment_array = PG_GETARG_ARRAYTYPE_P(3);
	ArrayType  *owner_array = PG_GETARG_ARRAYTYPE_P(4);
	char	   *schema = NameStr(*PG_GETARG_NAME(5));
	char	   *stem = text_to_cstring(PG_GETARG_TEXT_PP(6));
	Datum	   *fragments;
	Datum	   *owners;
	int			nfragments;
	int			nowners;
	Oid			root;
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to create fragments")));
	if (array_contains_nulls(fragment_array) || array_contains_nulls(owner_array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("fragments and owners must not contain nulls")));
	deconstruct_array(fragment_array, INT8OID, 8, FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &fragments, NULL, &nfragments);
	deconstruct_array(owner_array, INT4OID, 4, true, TYPALIGN_INT, &owners,
					  NULL, &nowners);
	if (nfragments != nowners)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("every fragment needs one owner")));
	fa_ddl_begin(&state);
	root = atooid(fa_spi_value("SELECT rel::pg_catalog.oid "
							   "FROM fragaffinity.distributed_table "
							   "WHERE table_id = %d", table_id));
	for (int i = 0; i < nowners; i++)
	{
		CHECK_FOR_INTERRUPTS();
		create_fragment(table_id, root, partition, key, schema, stem, nowners, i,
						DatumGetInt64(fragments[i]), DatumGetInt32(owners[i]));
	}
	fa_map_invalidate(partition);
	/* An older snapshot would miss the rows that come with them. */
	fa_map_note_change(GetTopFullTransactionId());
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

/*
 * Heaps of a table, or if it is not 0 of a partition, on this node: OIDs of leaf
 * and bucket.
 */
static FaRows *
local_leaves(int table_id, Oid partition)
{
	return fa_spi_rows("SELECT leaf::pg_catalog.oid, bucket::pg_catalog.oid "
					   "FROM fragaffinity.fragment "
					   "WHERE table_id = %d AND owner = %d AND (%u = 0 OR home IN"
					   "  (SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = %u)) "
					   "ORDER BY fragment",
					   table_id, fa_node_self(), partition, partition);
}

/*
 * create_leaf_indexes(table_id, partition): unique ones, on the heaps on this
 * node; and those that the table shows, once its partitions are there.
 */
Datum
fa_sql_create_leaf_indexes(PG_FUNCTION_ARGS)
{
	int			table_id = PG_GETARG_INT32(0);
	FaDdlState	state;
	FaRows	   *rows;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to create the indexes of fragments")));
	fa_ddl_begin(&state);
	rows = local_leaves(table_id, PG_GETARG_OID(1));
	for (int i = 0; i < rows->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		create_indexes(atooid(rows->value[i][0]), atooid(rows->value[i][1]),
					   table_id);
	}
	fa_unique_show(atooid(fa_spi_value("SELECT rel::pg_catalog.oid "
									   "FROM fragaffinity.distributed_table "
									   "WHERE table_id = %d", table_id)));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

/*
 * analyze_leaves(table_id, partition): heaps only; what is foreign cannot be read before
 * it is committed there.
 */
Datum
fa_sql_analyze_leaves(PG_FUNCTION_ARGS)
{
	FaDdlState	state;
	FaRows	   *rows;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to analyze fragments")));
	fa_ddl_begin(&state);
	rows = local_leaves(PG_GETARG_INT32(0), PG_GETARG_OID(1));
	for (int i = 0; i < rows->nrows; i++)
		fa_spi_exec("ANALYZE %s",
					fa_table_qualified_name(atooid(rows->value[i][0])));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}
