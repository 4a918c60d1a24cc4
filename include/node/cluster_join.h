/*
 * cluster_join.h
 *	  Work of our own in the sessions that a transaction's statements have.
 *
 * DDL runs on peers over connections of our own (fa_xact_conn()).  In a transaction
 * that has other statements, it would wait for their locks there, and not see their
 * rows, nor they what it has changed.  So it joins them: it is done in the session that
 * postgres_fdw has for one of them, or will have, which acts as the node meanwhile
 * (act_as.h).
 *
 * Not where postgres_fdw's library hides its sessions (fa_fdw_has_conn()), nor where
 * more sessions would have to be opened than FA_JOIN_OPEN_MAX, which takes one after
 * the other.
 */
#ifndef FA_NODE_CLUSTER_JOIN_H
#define FA_NODE_CLUSTER_JOIN_H

#include "node/remote.h"

#define FA_JOIN_OPEN_MAX 8

/*
 * Before the first work for a DDL statement that may not be all of its transaction, as
 * superuser: from now on, fa_xact_conn() joins the sessions of this transaction, unless
 * it has other connections already.
 */
extern void fa_xact_join(void);

/* When the statement is done: these sessions act as themselves, while nothing is. */
extern void fa_join_end(void);

/* The joined session of a node, acting as the node, idle; NULL: there is none. */
extern FaConn *fa_join_conn(int node);

#endif							/* FA_NODE_CLUSTER_JOIN_H */
