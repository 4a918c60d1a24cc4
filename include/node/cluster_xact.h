/*
 * cluster_xact.h
 *	  One transaction over several nodes, decided by the local commit.
 *
 *	1. fa_xact_conn(n) opens a connection to n and a transaction there; a
 *	   client's statements do so through postgres_fdw, which fdw.c notes here
 *	2. before the local commit: PREPARE TRANSACTION on each; a row in
 *	   fragaffinity.decision is written by the local transaction
 *	3. the local commit decides
 *	4. after it: COMMIT PREPARED on each; after an abort: ROLLBACK
 *	5. whatever a crash or a lost link left is finished by
 *	   fa_xact_resolve(): committed where the decision row is, else rolled
 *	   back once the local transaction is over.
 *
 * A client's transaction that wrote on one node alone, this one or a peer, is
 * that node's business and none of this; so is one that only read.
 */
#ifndef FA_NODE_CLUSTER_XACT_H
#define FA_NODE_CLUSTER_XACT_H

#include "core/shmem.h"
#include "node/remote.h"

/* in cluster_xact.c */
extern void fa_xact_init(void); /* from _PG_init */

/* Connection to a node inside the current cluster transaction. */
extern FaConn *fa_xact_conn(int node);
/* To all other nodes, opened at once: FaConns, by node. */
extern List *fa_xact_conn_all(void);

/*
 * Enlists a connection of the caller's that is in a transaction already.  It
 * must stay open until the cluster transaction has ended, and is idle then.
 */
extern void fa_xact_enlist(FaConn *conn);

/* How postgres_fdw's session at a peer was used; the stronger one counts. */
typedef enum FaUse
{
	FA_USE_READ,
	FA_USE_LOCK,				/* of rows; kept until the decision is made */
	FA_USE_WRITE
} FaUse;

/*
 * This transaction has used the session that postgres_fdw has for the user at
 * the server of this foreign table; after it was opened.  Cheap enough for
 * each row.  A use in a subtransaction that is rolled back counts, too.
 *
 * Called by the routines of the foreign data wrapper (fdw.c), so whoever uses
 * them for a plan of his own need not call it.  A transaction on a connection
 * of the caller's own is enlisted instead.
 */
extern void fa_xact_note_use(Oid foreign_table, Oid user, FaUse use);

/* After the session was opened: rows are about to be changed in it. */
extern void fa_xact_claim(Oid foreign_table, Oid user);

/* Has this transaction used other nodes?  Also in a subtransaction that has ended. */
extern bool fa_xact_has_parts(void);

/* Runs a statement on every other node (not here), on all at once. */
extern void fa_xact_exec_all(const char *fmt,...) pg_attribute_printf(1, 2);

/* First column of the first row of a statement that the coordinator runs. */
extern char *fa_xact_ask_coordinator(const char *sql);

/* Serialises changes of metadata over the cluster until commit: an advisory
 * lock on the coordinator.  Raises when the coordinator cannot be reached. */
extern void fa_xact_lock_cluster(void);

#define FA_GID_PREFIX "fragaffinity:"

/* First fields of the names of our prepared parts; palloc'd. */
extern char *fa_xact_gid_prefix(void);

/* in finish.c: connections that live as long as the session, by which parts
 * that postgres_fdw's sessions prepared are finished.  In a transaction; may
 * connect, and raise when that fails. */
extern FaConn *fa_finish_conn(int node, Oid user);
/* After a failure: closes it.  Does not raise, also outside a transaction. */
extern void fa_finish_drop(FaConn *conn);

/*
 * Before PREPARE TRANSACTION in a session that works for a peer: where the
 * session's work went on to other nodes, they prepare it under the same name.
 */
extern void fa_xact_forward_prepare(const char *gid);

/* in forward.c */
extern const FaShmemPart fa_forward_part;

/* Remembers where a part named gid went on to. */
extern void fa_forward_note(const char *gid, int node);
/*
 * Before COMMIT PREPARED or ROLLBACK PREPARED: finishes what went on to other
 * nodes.  In a transaction.
 */
extern void fa_forward_finish(const char *gid, bool commit);

/* in peer_session.c: before such a statement; true when it needs no more */
extern bool fa_peer_transaction(TransactionStmt *stmt, QueryCompletion *qc);

/*
 * Before any statement of a session with an origin: lets the server end it when
 * it is idle for fragaffinity.peer_idle_timeout.
 */
extern void fa_peer_session_begin(void);

/* in resolver.c */

/* Node that decides on a part; 0 when it is none of ours. */
extern int	fa_gid_origin(const char *gid);

typedef enum FaDecision
{
	FA_DECISION_UNKNOWN,		/* not this node's to make */
	FA_DECISION_OPEN,			/* the transaction still runs */
	FA_DECISION_COMMITTING,		/* commit, just decided */
	FA_DECISION_COMMIT,
	FA_DECISION_ROLLBACK
} FaDecision;

/* What this node has decided on a part.  In a transaction. */
extern FaDecision fa_xact_decision(const char *gid);

/*
 * A step of the worker, outside a transaction; never waits.  Unreachable nodes
 * are left for later.
 */
extern void fa_xact_resolve(void);

#endif							/* FA_NODE_CLUSTER_XACT_H */
