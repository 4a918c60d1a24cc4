/*
 * cluster_xact.h
 *	  One transaction over several nodes, decided by the local commit.
 *
 *	1. fa_xact_conn(n) opens a connection to n and a transaction there.
 *	2. before the local commit: PREPARE TRANSACTION on each; a row in
 *	   fragaffinity.decision is written by the local transaction
 *	3. the local commit decides
 *	4. after it: COMMIT PREPARED on each; after an abort: ROLLBACK
 *	5. whatever a crash or a lost link left is finished by
 *	   fa_xact_resolve(): committed where the decision row is, else rolled
 *	   back once the local transaction is over.
 */
#ifndef FA_NODE_CLUSTER_XACT_H
#define FA_NODE_CLUSTER_XACT_H

#include "node/remote.h"

/* in cluster_xact.c */
extern void fa_xact_init(void); /* from _PG_init */

/* Connection to a node inside the current cluster transaction. */
extern FaConn *fa_xact_conn(int node);

/*
 * Enlists a connection of the caller's that is in a transaction already.  It
 * must stay open until the cluster transaction has ended, and is idle then.
 */
extern void fa_xact_enlist(FaConn *conn);

/* Runs a statement on every other node (not here). */
extern void fa_xact_exec_all(const char *fmt,...) pg_attribute_printf(1, 2);

/* Serialises changes of metadata over the cluster until commit: an advisory
 * lock on the coordinator.  Raises when the coordinator cannot be reached. */
extern void fa_xact_lock_cluster(void);

/* First fields of the names of our prepared parts; palloc'd. */
extern char *fa_xact_gid_prefix(void);

/* in resolver.c: outside a transaction, from the worker.  Returns how many
 * remote parts were finished; unreachable nodes are left for later. */
extern int	fa_xact_resolve(void);

#endif							/* FA_NODE_CLUSTER_XACT_H */
