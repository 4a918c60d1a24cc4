/*
 * peer_pool.h
 *	  One lasting connection to each peer, for a background worker: many
 *	  questions at once, none of which waits for another peer's.
 *
 * A question is a statement and a callback.  The callback is called exactly
 * once, from fa_pool_run(), outside a transaction: with a result (which may be
 * an error; the pool clears it), or with NULL when the peer could not be
 * reached, did not answer in time, or is no longer a peer.
 *
 * Backends that need an answer in their transaction use node/remote.h.
 */
#ifndef FA_NODE_PEER_POOL_H
#define FA_NODE_PEER_POOL_H

#include "libpq-fe.h"

typedef void (*FaPeerCallback) (int node, PGresult *res, void *arg);

#define FA_POOL_CONNECT_TIMEOUT_MS 5000
#define FA_POOL_QUERY_TIMEOUT_MS 10000

/*
 * Makes the pool's peers those of the catalog, with the options that their
 * servers have now; closes what has changed.  Outside a transaction, not from
 * a callback.  Cheap enough for each round of a worker.
 */
extern void fa_pool_sync_nodes(void);

/* Node ids of the peers; returns their number, at most max. */
extern int	fa_pool_peers(int *nodes, int max);

/* Is there an open connection right now? */
extern bool fa_pool_connected(int node);

/*
 * Queues a statement (copied; several, separated by semicolons, give the last
 * one's result or the first error).  Never blocks, never calls back.  Also
 * from a callback.
 */
extern void fa_pool_submit(int node, const char *sql, FaPeerCallback callback,
						   void *arg);

/* Questions without an answer yet, of one peer or (node 0) of all. */
extern int	fa_pool_pending(int node);

/*
 * Serves connections and callbacks for timeout_ms: a worker's way to sleep.
 * Returns early, leaving the latch set, when the latch is set.  Serves
 * interrupts, so it may raise; what a callback raises passes through.
 */
extern void fa_pool_run(int timeout_ms);

/*
 * As fa_pool_run, but returns as soon as nothing is pending.  True when so;
 * false after the timeout or when the latch is set.
 */
extern bool fa_pool_finish(int timeout_ms);

/* Closes all connections; pending callbacks are called with NULL. */
extern void fa_pool_close(void);

#endif							/* FA_NODE_PEER_POOL_H */
