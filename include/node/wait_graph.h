/*
 * wait_graph.h
 *	  Circles of waits over several nodes.  No server header.
 */
#ifndef FA_NODE_WAIT_GRAPH_H
#define FA_NODE_WAIT_GRAPH_H

#include <stdint.h>

/* A session in a transaction, as its node saw it. */
typedef struct FaWaitSession
{
	int			node;
	int			pid;
	int			origin_node;	/* for whom it says to work; 0: nobody */
	int			origin_pid;
	int64_t		xact_start;		/* microseconds, by its node's clock */
	int64_t		wait_start;		/* for a lock; 0: does not wait */
	uint64_t	key;			/* fa_wait_key() of its node and role */
	const uint64_t *uses;		/* keys, of either kind, of those it uses */
	int			nuses;
	const int  *blockers;		/* who keeps it waiting, at the same node */
	int			nblockers;
} FaWaitSession;

/* Same on all machines: nodes compute them for each other. */
extern uint64_t fa_wait_key(int node, const char *role);
extern uint64_t fa_wait_pid_key(int node, int pid);

/* In uses: there are more than could be noted. */
#define FA_WAIT_KEY_ANY UINT64_C(0)

/* Numbers are places in the array of sessions. */
typedef struct FaWaitEdge
{
	int			root;			/* client's session ... */
	int			waiter;			/* ... whose session here (or itself) waits */
	int			next_root;		/* for this client's */
} FaWaitEdge;

/*
 * Sorts the sessions by node and pid, and finds one circle: the same one for
 * the same sessions, whoever looks.  Takes time in proportion to the sessions
 * and blockers.  Returns the number of its edges, written
 * to edges (room for n), or 0.
 */
extern int	fa_wait_graph_cycle(FaWaitSession *sessions, int n,
								FaWaitEdge *edges);

/* Which edge's root is to be cancelled: the transaction that began last. */
extern int	fa_wait_graph_victim(const FaWaitSession *sessions,
								 const FaWaitEdge *edges, int nedges);

#endif							/* FA_NODE_WAIT_GRAPH_H */
