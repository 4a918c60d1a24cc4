/*
 * table_move.h
 *	  Steps of distribute_table and undistribute_table.
 */
#ifndef FA_CATALOG_TABLE_MOVE_H
#define FA_CATALOG_TABLE_MOVE_H

#include "node/remote.h"
#include "nodes/pg_list.h"

/* in refuse.c: raise what cannot be kept, changing nothing */
extern void fa_refuse_table(Oid rel);
/* The same of a table that has just become a partition of a distributed one. */
extern void fa_refuse_partition(Oid rel);
/* A partition key, of it or of what is below, that calls what a user has written. */
extern void fa_refuse_partition_key(Oid rel);
/* The same for the way back; on a peer, or here when conn is NULL. */
extern void fa_refuse_back(const char *root, FaConn *conn);

/*
 * in refuse_constant.c: constants whose text may run what a user has written when it is
 * read, in what belongs to the relation.
 */
extern void fa_refuse_constants(Oid rel);

/* in refuse.c */
extern void fa_refuse_key(Oid rel, const char *key);
extern void fa_refuse_keyless(Oid rel, const char *key);
/* in refuse_peers.c */
extern void fa_refuse_sequences(Oid rel, List *sequences);
extern void fa_refuse_peer(FaConn *conn, Oid rel, List *tree,
						   List *sequences);
/* Those that own the relation or its parts, or were granted something. */
extern void fa_refuse_peer_roles(FaConn *conn, Oid rel);
extern void fa_refuse_peers(Oid rel, List *tree, List *sequences);
/* Raises when another node has not this schema. */
extern void fa_refuse_peers_schema(const char *schema);

/* in placement.c */

/* Fragments that each partition is divided into when the user does not say. */
extern int	fa_place_count(List *tree);

/*
 * Owner of every fragment, partition by partition: node ids, count for each
 * of npartitions.  like: table_id of the table to go along with, or 0.
 */
extern int *fa_place_owners(const char *placement, int npartitions, int count,
							int like);

/*
 * Of one more partition, whose fragments are to be found where another's are:
 * owners by remainder of "like", which has so many fragments; what lies on a node
 * that drains is placed anew.  NULL when it has not so many.
 */
extern int *fa_place_owners_like(Oid like, int count);

/*
 * First of so many numbers for new fragments, with the cluster's metadata locked.
 * Raises when fragaffinity.max_fragments leaves no room for them.
 */
extern int64 fa_place_number(int64 n);

/* in distribute.c */

/* Raises in a transaction whose snapshot could be older than the lock that
 * follows; the first also unless the current user owns the table. */
extern void fa_table_check_owner(Oid rel);
extern void fa_table_check_isolation(void);
/* The same statement on every node, at the same time; wants fa_ddl_begin(). */
extern void fa_table_run_everywhere(const char *sql);
/* Divides a partition, which is there and empty on all nodes, on all of them. */
extern void fa_table_make_fragments(int table_id, const char *partition,
									const char *key, int64 first_fragment,
									const int *owners, int count);

/* in table_lock.c */

/* Nobody waits for ever; lock_timeout, if it is set. */
#define FA_TABLE_LOCK_TIMEOUT_MS 30000
extern void fa_table_lock_timeout(void);	/* until fa_ddl_end() */

/*
 * Locks the table with all below it against everyone, on this node or on all.  The
 * second wants the cluster's metadata locked and fa_table_wait_for_moves(), and raises
 * when the table is no longer distributed.  action: "cannot %s ...".  Both want
 * fa_ddl_begin().
 */
extern void fa_table_lock(Oid rel, const char *action);
extern void fa_table_lock_everywhere(Oid root, const char *action);

/* in table_wait.c */

/*
 * No fragment of the root, or of a partition of it, moves from then until the end of
 * the transaction, once the cluster's metadata is locked; to be called before that,
 * too.  Waits as for a lock, and raises LOCK_NOT_AVAILABLE; or OBJECT_IN_USE at once,
 * when this transaction itself keeps the move from ending.  Nothing to do for a table
 * that is no longer distributed.  Wants fa_ddl_begin().
 */
extern void fa_table_wait_for_moves(Oid root, Oid rel, bool cluster_locked);

/*
 * Does this transaction hold locks on a table, or on what is below it?  At a peer, or
 * here when conn is NULL; this_session: also in the session that is asked.
 */
extern bool fa_table_is_used(Oid root, FaConn *conn, bool this_session);

/* in undistribute.c */

/*
 * Drops heaps that moves have retired and that wait for it: their defaults still
 * use the table's sequences.  Here, or on a peer.
 */
extern void fa_table_drop_retired(int table_id, FaConn *conn);
/* Statements by which a node forgets the table, when it is dropped. */
extern char *fa_table_forget(int table_id);

/*
 * in table_rename.c: after RENAME on all nodes, of the table, whose name was this
 * (qualified), or one of its indexes.  Both want fa_ddl_begin().
 */
extern void fa_table_renamed(Oid root, const char *was);
extern void fa_table_index_renamed(Oid root, const char *was, const char *name);

/* in copy_rows.c */

/* Rows of old into partition, wherever its fragments are. */
extern void fa_rows_spread(Oid old, Oid partition, const char *key,
						   const int *owners, int nowners);
/* Rows of a fragment, wherever it is, into a table of this node. */
extern void fa_rows_gather(Oid target, Oid bucket, int owner,
						   const char *bucket_name);

#endif							/* FA_CATALOG_TABLE_MOVE_H */
