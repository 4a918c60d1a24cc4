/*
 * partitions.h
 *	  Partitions of distributed tables that come and go.
 *
 * A partition is of the user's own partitioning: below the root, above the
 * buckets.  The statement itself runs on this node, by PostgreSQL and as the user,
 * with all its checks.  What it takes to have all nodes agree is done here, around
 * it, in the cluster transaction; with the cluster's metadata locked.
 */
#ifndef FA_CATALOG_PARTITIONS_H
#define FA_CATALOG_PARTITIONS_H

#include "nodes/pg_list.h"

/* in partition_kind.c: of relations of a distributed table, by their OIDs */

/* Has it been divided into buckets?  Then it has no partitions but them. */
extern bool fa_partition_is_divided(Oid rel);
/* Below a root and above the buckets? */
extern bool fa_partition_is_users(Oid rel);
/* Partition of the table that tells best where this one's rows are wanted, or
 * InvalidOid. */
extern Oid	fa_partition_like(Oid root, Oid partition);

/* in reshape_lock.c */

/*
 * Locks what a partition belongs to, without the others below it, and unless it is
 * InvalidOid this partition with all below it, against everyone, on every node; as
 * fa_reshape_lock().  Not in a subtransaction.
 */
extern void fa_partition_lock(Oid parent, Oid partition, int table_id);

/* in partition_add.c */

/*
 * After CREATE TABLE ... PARTITION OF: on the other nodes, too.  divided: it is
 * PARTITION BY HASH of the key and gets buckets.  options: of its heaps, as they
 * are written inside WITH (), or NULL.
 */
extern void fa_partition_created(Oid root, Oid partition, bool divided,
								 const char *options);

/*
 * Around ATTACH PARTITION of an ordinary table, with its rows: raises for what
 * cannot be one, and takes away what the table has for all its partitions; then
 * divides it, with its rows to their owners.
 */
extern void fa_partition_attach(Oid root, Oid parent, Oid rel);
extern void fa_partition_attached(Oid root, Oid rel);

/* in undistribute.c, after fa_table_wait_for_moves() and fa_partition_lock() */

/* Before DROP TABLE of a partition: drops it on all other nodes. */
extern void fa_partition_drop(Oid root, Oid partition);
/* After it, once for each root. */
extern void fa_partition_dropped(Oid root);
/* After DETACH PARTITION: a plain table here, with all rows. */
extern void fa_partition_detached(Oid root, Oid partition);

/* in partition_add.c: hints about keys are kept by fragment */
extern void fa_partition_renew_hints(int table_id);

#endif							/* FA_CATALOG_PARTITIONS_H */
