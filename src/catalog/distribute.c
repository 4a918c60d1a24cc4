/*
 * distribute.c
 *	  distribute_table: a table's rows to all nodes.
 *
 * One cluster transaction:
 *
 *	1. lock the cluster's metadata and the table, reach every node
 *	2. refuse what cannot be kept
 *	3. write the text of the new tables, move the old one out of the way,
 *	   make the new ones, everywhere
 *	4. rows of distributed_table and fragment, buckets and leaves, everywhere
 *	5. rows to their owners; then unique indexes on the heaps
 *	6. views and the like of the old table to the new one; drop the old one;
 *	   secondary indexes and statistics
 *
 * An error anywhere leaves everything as it was.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/dependents.h"
#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define MAX_FRAGMENTS 65536

PG_FUNCTION_INFO_V1(fa_sql_distribute_table);

typedef struct Distribution
{
	Oid			rel;			/* the old table, then the new one */
	char	   *key;
	int			count;			/* fragments of each partition; 0: choose */
	char	   *placement;
	Oid			like;			/* co-located table, or InvalidOid */
	int			table_id;
	int			colocation;
	List	   *tree;
	List	   *sequences;
	int			npartitions;
	int		   *owners;			/* count for each partition */
	int64		first_fragment;
} Distribution;

void
fa_table_check_owner(Oid rel)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", rel)));
	if (!fa_owns_relation(rel, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(rel)),
					   get_rel_name(rel));
	fa_table_check_isolation();
}

void
fa_table_check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a table cannot be distributed, gathered or changed like this in a transaction at this isolation level"),
				 errhint("Use READ COMMITTED: here the snapshot could be older than the lock on the table.")));
}

/* Same key, same number of fragments: then equal keys stay together. */
static void
check_colocation(Distribution *d)
{
	const FaTable *like = fa_map_table(d->like);
	AttrNumber	attno = get_attnum(d->rel, d->key);
	Oid			type[2];
	Oid			collation[2];
	int32		typmod;
	int			count;

	if (like == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a distributed table",
						get_rel_name(d->like))));
	get_atttypetypmodcoll(d->rel, attno, &type[0], &typmod, &collation[0]);
	get_atttypetypmodcoll(d->like, like->key, &type[1], &typmod, &collation[1]);
	if (getBaseType(type[0]) != getBaseType(type[1]) ||
		collation[0] != collation[1])
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("tables with keys of type %s and %s cannot be co-located",
						format_type_be(type[0]), format_type_be(type[1]))));
	count = atoi(fa_spi_value("SELECT definition->>'fragments' "
							  "FROM fragaffinity.distributed_table "
							  "WHERE table_id = %d", like->table_id));
	if (d->count != 0 && d->count != count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("co-located tables need the same number of fragments: %d, not %d",
						count, d->count),
				 errhint("Leave out the number of fragments.")));
	d->count = count;
	d->colocation = like->colocation;
}

static void
plan_fragments(Distribution *d)
{
	ListCell   *lc;

	d->table_id = atoi(fa_spi_value("SELECT coalesce(max(table_id), 0) + 1 "
									"FROM fragaffinity.distributed_table"));
	d->colocation = d->table_id;
	foreach(lc, d->tree)
		if (((FaTreeRel *) lfirst(lc))->leaf)
			d->npartitions++;
	if (OidIsValid(d->like))
		check_colocation(d);
	if (d->count == 0)
		d->count = fa_place_count(d->tree);
	d->first_fragment = fa_place_number((int64) d->count * d->npartitions);
	d->owners = fa_place_owners(d->placement, d->npartitions, d->count,
								OidIsValid(d->like) ?
								fa_map_table(d->like)->table_id : 0);
}

void
fa_table_run_everywhere(const char *sql)
{
	List	   *conns = fa_xact_conn_all();
	ListCell   *lc;

	foreach(lc, conns)
		fa_remote_send(lfirst(lc), sql);
	fa_spi_exec("%s", sql);
	foreach(lc, conns)
		fa_remote_receive(lfirst(lc), 0, sql);
}

/* Step 3.  Returns the schema that holds the old tree. */
static char *
make_tables(Distribution *d)
{
	int			self = fa_node_self();
	List	   *local = fa_tree_create(d->tree, d->sequences, self, d->key, NULL);
	char	   *schema;
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);
		ListCell   *sc;

		if (node->id == self)
			continue;
		foreach(sc, fa_tree_create(d->tree, d->sequences, node->id, d->key, NULL))
			fa_remote_exec(fa_xact_conn(node->id), 0, "%s", (char *) lfirst(sc));
	}
	schema = fa_tree_move_away(d->tree);
	fa_ddl_run(local);
	return schema;
}

/* Step 4: fragments of a partition. */
void
fa_table_make_fragments(int table_id, const char *partition, const char *key,
						int64 first_fragment, const int *owners, int count)
{
	Oid			rel = fa_table_oid(partition);
	StringInfoData fragments;
	StringInfoData nodes;

	initStringInfo(&fragments);
	initStringInfo(&nodes);
	for (int i = 0; i < count; i++)
	{
		appendStringInfo(&fragments, "%s" INT64_FORMAT, i ? "," : "",
						 first_fragment + i);
		appendStringInfo(&nodes, "%s%d", i ? "," : "", owners[i]);
	}
	fa_table_run_everywhere(psprintf("SELECT fragaffinity.create_fragments(%d, %s::pg_catalog.regclass, %s, '{%s}', '{%s}', %s, %s)",
									 table_id, quote_literal_cstr(partition),
									 quote_literal_cstr(key), fragments.data,
									 nodes.data,
									 quote_literal_cstr(get_namespace_name(get_rel_namespace(rel))),
									 quote_literal_cstr(fa_table_new_stem(rel))));
}

/* Steps 3 to 6. */
static void
distribute(Distribution *d)
{
	FaTreeRel  *root = linitial(d->tree);
	List	   *finish = fa_tree_finish(d->tree, true);
	List	   *dependents = fa_dependents_read(d->tree);
	char	   *definition;
	char	   *schema;
	int			n = 0;
	ListCell   *lc;

	definition = psprintf("{\"unique\": %s, \"options\": %s, \"sequences\": %s,"
						  " \"identities\": %s, \"fragments\": %d}",
						  fa_text_unique(d->rel), fa_tree_options(d->rel),
						  fa_sequence_json(d->sequences),
						  fa_tree_identities(d->rel), d->count);
	schema = make_tables(d);
	fa_table_run_everywhere(psprintf("INSERT INTO fragaffinity.distributed_table"
							"  (table_id, rel, key, colocation, placement, definition) "
							"VALUES (%d, %s::pg_catalog.regclass, %s, %d, %s, %s)",
							d->table_id, quote_literal_cstr(root->qualified),
							quote_literal_cstr(d->key), d->colocation,
							quote_literal_cstr(d->placement),
							quote_literal_cstr(definition)));
	fa_map_invalidate(fa_table_oid(root->qualified));
	foreach(lc, d->tree)
	{
		FaTreeRel  *r = lfirst(lc);

		if (!r->leaf)
			continue;
		fa_table_make_fragments(d->table_id, r->qualified, d->key,
								d->first_fragment + n * d->count,
								d->owners + n * d->count, d->count);
		fa_rows_spread(r->rel, fa_table_oid(r->qualified), d->key,
					   d->owners + n * d->count, d->count);
		n++;
	}
	fa_table_run_everywhere(psprintf("SELECT fragaffinity.create_leaf_indexes(%d, 0)",
							d->table_id));
	fa_dependents_renew(dependents);
	fa_spi_exec("DROP TABLE %s.old_%u", schema, d->rel);
	fa_spi_exec("DROP SCHEMA %s", schema);
	foreach(lc, finish)
		fa_table_run_everywhere(lfirst(lc));
	fa_table_run_everywhere(psprintf("SELECT fragaffinity.analyze_leaves(%d, 0)",
							d->table_id));
}

static void
null_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name)));
}

/* distribute_table(rel, key, fragments, placement, colocate_with) */
Datum
fa_sql_distribute_table(PG_FUNCTION_ARGS)
{
	Distribution d = {0};
	FaDdlState	state;

	if (PG_ARGISNULL(0))
		null_argument("rel");
	if (PG_ARGISNULL(1))
		null_argument("key");
	if (PG_ARGISNULL(3))
		null_argument("placement");
	d.rel = PG_GETARG_OID(0);
	d.key = pstrdup(NameStr(*PG_GETARG_NAME(1)));
	d.placement = text_to_cstring(PG_GETARG_TEXT_PP(3));
	d.like = PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4);
	if (!PG_ARGISNULL(2))
	{
		d.count = PG_GETARG_INT32(2);
		if (d.count < 1 || d.count > MAX_FRAGMENTS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("number of fragments %d is out of range", d.count),
					 errhint("It must be between 1 and %d; null chooses it by size.",
							 MAX_FRAGMENTS)));
	}
	fa_shmem_require();
	(void) fa_node_require_cluster();
	fa_table_check_owner(d.rel);

	fa_ddl_begin(&state);
	fa_xact_lock_cluster();
	fa_table_lock_timeout();
	fa_dependents_lock(d.rel);
	fa_table_lock(d.rel, "distribute");
	fa_refuse_table(d.rel);
	fa_refuse_key(d.rel, d.key);
	fa_refuse_keyless(d.rel, d.key);
	d.sequences = fa_sequence_list(d.rel);
	fa_refuse_sequences(d.rel, d.sequences);
	d.tree = fa_tree_read(d.rel);
	plan_fragments(&d);
	/* now: better than after half of the work */
	(void) fa_xact_conn_all();
	fa_refuse_peers(d.rel, d.tree, d.sequences);
	fa_sequence_add_values(d.sequences, d.rel);
	distribute(&d);
	fa_ddl_end(&state);
	PG_RETURN_INT32(d.count * d.npartitions);
}
