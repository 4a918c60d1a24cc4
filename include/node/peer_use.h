/*
 * peer_use.h
 *	  Which sessions at peers work for a session here, said to all.
 *
 * Peers ask for it before they believe one of their sessions for whom it works
 * (wait_graph.c).
 */
#ifndef FA_NODE_PEER_USE_H
#define FA_NODE_PEER_USE_H

#include "core/shmem.h"

extern const FaShmemPart fa_peer_use_part;

/*
 * This backend's transaction has a session at the node, as this role and, if it
 * is known (else 0), process of the node's.  To be called before that session
 * can have to wait for a lock.
 */
extern void fa_peer_use_note(int node, const char *role, int pid);

/* The transaction is over.  Does not raise. */
extern void fa_peer_use_forget(void);

#endif							/* FA_NODE_PEER_USE_H */
