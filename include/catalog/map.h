/*
 * map.h
 *	  Which relation is a leaf or bucket of which fragment, and who owns it.
 *
 * A cache in each backend, filled from fragaffinity.fragment as relations
 * are met and emptied by relcache invalidation; so it is as transactional as
 * the catalog.  All functions need a transaction.
 */
#ifndef FA_CATALOG_MAP_H
#define FA_CATALOG_MAP_H

#include "access/attnum.h"
#include "access/transam.h"
#include "nodes/pg_list.h"

#include "core/shmem.h"

typedef struct FaFragment
{
	int64		fragment;
	int			table_id;
	Oid			bucket;
	Oid			leaf;
	Oid			home;			/* bucket of the hash; parent of bucket if split */
	int			owner;			/* node id */
	bool		local;			/* owner is this node */
	int64		version;
	FullTransactionId changed_xid;
	int			slot;			/* in shared memory; -1: none */
} FaFragment;

typedef struct FaTable
{
	int			table_id;
	Oid			rel;
	AttrNumber	key;			/* of rel */
	int			colocation;
} FaTable;

/*
 * Fragment whose leaf this relation is, or NULL.  Cheap for a relation seen
 * before, fragment or not.  The result lives until the next invalidation:
 * copy what outlasts a catalog access.
 */
extern const FaFragment *fa_map_leaf(Oid relid);

/* Distributed table by the OID of its root, or NULL. */
extern const FaTable *fa_map_table(Oid relid);

/*
 * Fragment whose bucket this relation is, or NULL.  Without the bucket's lock it
 * may have another leaf by now.
 */
extern const FaFragment *fa_map_bucket(Oid relid);
extern bool fa_map_is_bucket(Oid relid);

/* Is the relation a root, bucket or leaf of a distributed table? */
extern bool fa_map_is_managed(Oid relid);

/*
 * in map_bucket.c: how a partition (or table), which is locked, is divided into
 * buckets, without a look at all of them.  The modulus of its buckets' bounds; 0
 * when it has no buckets of ours.  The bucket of a key with this hash; InvalidOid
 * when it is not to be found so.  Cheap when asked again.
 */
extern int	fa_map_modulus(Oid partition);
/* What its buckets' names begin with, for fa_table_bucket_name(); palloc'd. */
extern char *fa_map_stem(Oid partition);
/* The schema they are in, unless it has none. */
extern Oid	fa_map_bucket_schema(Oid partition);
extern Oid	fa_map_find_bucket(Oid partition, uint64 hash);

/*
 * A number that a relation has until anything about it may have changed, columns
 * and partitions, too; never one that another relation has or had.
 */
extern uint64 fa_map_state(Oid relid);

/*
 * What is known about two relations, one of which has the other's columns or not;
 * kept until either changes.  The place lives until the next invalidation.
 */
typedef enum FaMapMemo
{
	FA_MEMO_UNKNOWN,
	FA_MEMO_YES,
	FA_MEMO_NO
} FaMapMemo;

extern FaMapMemo *fa_map_memo(Oid relid, Oid part);

/* By number, from the catalog; palloc'd; NULL when unknown. */
extern FaFragment *fa_map_fragment(int64 fragment);
extern FaTable *fa_map_table_by_id(int table_id);

/* All fragments of a table, by number; palloc'd list of FaFragment. */
extern List *fa_map_fragments(int table_id);
/* Likewise, of one bucket of the hash: one, unless it is split. */
extern List *fa_map_fragments_of(Oid home);

/* After changing a fragment's row: other backends forget the leaf. */
extern void fa_map_invalidate(Oid relid);

/*
 * Newest transaction on this server that changed an owner.  A snapshot whose
 * xmin is beyond it agrees with every leaf, which is the quick answer of
 * fa_map_snapshot_may_be_old().
 */
extern void fa_map_note_change(FullTransactionId xid);
extern bool fa_map_snapshot_may_be_old(TransactionId xmin);
extern const FaShmemPart fa_map_part;

/*
 * Arguments of the advisory lock that whoever moves, splits or merges a
 * fragment (%d) holds at its owner: SQL.
 */
#define FA_FRAGMENT_CLAIM \
	"'fragaffinity.fragment'::pg_catalog.regclass::pg_catalog.oid::integer, %d"

/*
 * The same of the one that whoever changes a table (%d) holds on every node, shared
 * with others who do: meanwhile nobody claims a fragment of it for a move.
 */
#define FA_TABLE_CLAIM \
	"'fragaffinity.distributed_table'::pg_catalog.regclass::pg_catalog.oid::integer, %d"

/* FROM and WHERE of a query on such locks that are held; of: the relation's name. */
#define FA_CLAIMS(of) \
	"FROM pg_catalog.pg_locks c WHERE c.locktype = 'advisory' AND c.objsubid = 2 " \
	"AND c.database = (SELECT d.oid FROM pg_catalog.pg_database d " \
	"                  WHERE d.datname = pg_catalog.current_database()) " \
	"AND c.classid = 'fragaffinity." of "'::pg_catalog.regclass AND c.granted"

extern void fa_map_init(void);	/* from _PG_init */

#endif							/* FA_CATALOG_MAP_H */
