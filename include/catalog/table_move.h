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
/* The same for the way back; on a peer, or here when conn is NULL. */
extern void fa_refuse_back(const char *root, FaConn *conn);
extern void fa_refuse_key(Oid rel, const char *key);
extern void fa_refuse_keyless(Oid rel, const char *key);
/* in refuse_peers.c */
extern void fa_refuse_sequences(Oid rel, List *sequences);
extern void fa_refuse_peer(FaConn *conn, Oid rel, List *tree,
						   List *sequences);
/* Those that own the relation or its parts, or were granted something. */
extern void fa_refuse_peer_roles(FaConn *conn, Oid rel);
extern void fa_refuse_peers(Oid rel, List *tree, List *sequences);

/* in placement.c */

/* Fragments that each partition is divided into when the user does not say. */
extern int	fa_place_count(List *tree);

/*
 * Owner of every fragment, partition by partition: node ids, count for each
 * of npartitions.  like: table_id of the table to go along with, or 0.
 */
extern int *fa_place_owners(const char *placement, int npartitions, int count,
							int like);

/* in distribute.c */

/* Raises unless the current user owns the table, and in a transaction whose
 * snapshot could be older than the lock that follows. */
extern void fa_table_check_owner(Oid rel);
/* The same statement on every node, at the same time; wants fa_ddl_begin(). */
extern void fa_table_run_everywhere(const char *sql);

/* in table_lock.c */

/* Nobody waits for ever; lock_timeout, if it is set. */
#define FA_TABLE_LOCK_TIMEOUT "30s"

/*
 * Locks the table with all below it against everyone, on this node or on all.  The
 * second wants the cluster's metadata locked, and raises while one of its fragments
 * moves, or when it is no longer distributed.  action: "cannot %s ...".  Both want
 * fa_ddl_begin().
 */
extern void fa_table_lock(Oid rel, const char *action);
extern void fa_table_lock_everywhere(Oid root, const char *action);

/* Raises while a fragment moves, as a peer or we know. */
extern void fa_refuse_moving(int table_id, FaConn *conn);

/* in undistribute.c */

/*
 * Drops heaps that moves have retired and that wait for it: their defaults still
 * use the table's sequences.  Here, or on a peer.
 */
extern void fa_table_drop_retired(int table_id, FaConn *conn);
/* Statements by which a node forgets the table, when it is dropped. */
extern char *fa_table_forget(int table_id);

/* in copy_rows.c */

/* Rows of old into partition, wherever its fragments are. */
extern void fa_rows_spread(Oid old, Oid partition, const char *key,
						   const int *owners, int nowners);
/* Rows of a fragment, wherever it is, into a table of this node. */
extern void fa_rows_gather(Oid target, Oid bucket, int owner,
						   const char *bucket_name);

#endif							/* FA_CATALOG_TABLE_MOVE_H */
