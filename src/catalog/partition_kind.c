/*
 * partition_kind.c
 *	  The user's own partitions of a distributed table, and which of them are
 *	  alike.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/partition.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "catalog/partitions.h"
#include "catalog/table_ddl.h"
#include "core/spi.h"

bool
fa_partition_is_divided(Oid rel)
{
	return fa_spi_value("SELECT '' FROM fragaffinity.fragment f "
						"JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home "
						"WHERE i.inhparent = %u LIMIT 1", rel) != NULL;
}

bool
fa_partition_is_users(Oid rel)
{
	return get_rel_relispartition(rel) && fa_table_is_managed(rel) &&
		fa_spi_value("SELECT '' FROM fragaffinity.fragment "
					 "WHERE %u IN (home, bucket, leaf) LIMIT 1", rel) == NULL;
}

/*
 * The partition before this one, or else after it, in the order of a RANGE;
 * InvalidOid for partitions of other kinds, and for DEFAULT.
 */
static Oid
neighbour(Oid parent, Oid partition)
{
	Relation	rel = relation_open(parent, AccessShareLock);
	Oid			found = InvalidOid;

	if (RelationGetPartitionKey(rel)->strategy == PARTITION_STRATEGY_RANGE)
	{
		PartitionDesc desc = RelationGetPartitionDesc(rel, true);
		Oid			fallback = get_default_oid_from_partdesc(desc);
		bool		passed = false;

		for (int i = 0; i < desc->nparts && partition != fallback; i++)
		{
			if (desc->oids[i] == partition)
				passed = true;
			else if (desc->oids[i] != fallback &&
					 (!passed || !OidIsValid(found)))
				found = desc->oids[i];
			if (passed && OidIsValid(found))
				break;
		}
	}
	relation_close(rel, NoLock);
	return found;
}

/* The one beside it, or of the same bound in the partition beside its parent. */
static Oid
sibling(Oid root, Oid partition)
{
	Oid			parent = get_partition_parent(partition, false);
	Oid			found = neighbour(parent, partition);
	char	   *oid;

	if (OidIsValid(found) || parent == root)
		return found;
	found = sibling(root, parent);
	oid = fa_spi_value("SELECT c.oid FROM pg_catalog.pg_inherits i "
					   "JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid "
					   "WHERE i.inhparent = %u"
					   "  AND pg_catalog.pg_get_expr(c.relpartbound, c.oid) = %s",
					   found, quote_literal_cstr(fa_table_bound(partition)));
	return oid ? atooid(oid) : InvalidOid;
}

/*
 * A partition of a co-located table: of the same bound if there is one, whose rows
 * go with this one's; else, when it need not be, the newest one.
 */
static Oid
colocated(Oid root, Oid partition, bool same_bound)
{
	const FaTable *table = fa_map_table(root);
	char	   *oid;

	oid = fa_spi_value("SELECT i.inhparent FROM fragaffinity.fragment f "
					   "JOIN fragaffinity.distributed_table t USING (table_id) "
					   "JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home "
					   "JOIN pg_catalog.pg_class c ON c.oid = i.inhparent "
					   "WHERE t.colocation = %d AND t.table_id <> %d"
					   "  AND (%s OR pg_catalog.pg_get_expr(c.relpartbound, c.oid) = %s) "
					   "ORDER BY f.fragment DESC LIMIT 1",
					   table->colocation, table->table_id,
					   same_bound ? "false" : "true",
					   quote_literal_cstr(fa_table_bound(partition)));
	return oid ? atooid(oid) : InvalidOid;
}

/*
 * Of a RANGE, which is of time as a rule, the partition before: whoever uses a key's
 * rows of the last month will use those of the next, and moves have brought these to
 * him.  Of a LIST no partition says anything about another one.
 */
Oid
fa_partition_like(Oid root, Oid partition)
{
	Oid			like = colocated(root, partition, true);

	if (!OidIsValid(like))
		like = sibling(root, partition);
	if (!OidIsValid(like))
		like = colocated(root, partition, false);
	return like;
}
