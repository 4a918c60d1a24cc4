/*
 * wait_graph.h
 *	  Circles of waits over several nodes.  No server header.
 */
#ifndef FA_NODE_WAIT_GRAPH_H
#define FA_NODE_WAIT_GRAPH_H

#include <stdint.h>

#define FA_WAIT_MAX_BLOCKERS 64

/* A session in a transaction, as its node saw it. */
typedef struct FaWaitSession
{
	int			node;
	int			pid;
	int			origin_node;	/* for whom it works; 0: a client */
	int			origin_pid;
	int64_t		xact_start;		/* microseconds, by its node's clock */
	int64_t		wait_start;		/* for a lock; 0: does not wait */
	int			nblockers;		/* who keeps it waiting, at the same node */
	int			blockers[FA_WAIT_MAX_BLOCKERS];
} FaWaitSession;

/* Numbers are places in the array of sessions. */
typedef struct FaWaitEdge
{
	int			root;			/* client's session ... */
	int			waiter;			/* ... whose session here (or itself) waits */
	int			next_root;		/* for this client's */
} FaWaitEdge;

/*
 * Sorts the sessions by node and pid, and finds one circle: the same one for
 * the same sessions, whoever looks.  Returns the number of its edges, written
 * to edges (room for n), or 0.
 */
extern int	fa_wait_graph_cycle(FaWaitSession *sessions, int n,
								FaWaitEdge *edges);

/* Which edge's root is to be cancelled: the transaction that began last. */
extern int	fa_wait_graph_victim(const FaWaitSession *sessions,
								 const FaWaitEdge *edges, int nedges);

#endif							/* FA_NODE_WAIT_GRAPH_H */
