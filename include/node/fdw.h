/*
 * fdw.h
 *	  The foreign data wrapper fragaffinity: postgres_fdw, watched.
 *
 * Foreign servers towards peers belong to it.  All work is postgres_fdw's own;
 * what it adds is that a transaction knows which of postgres_fdw's sessions at
 * peers it has used, and how, the moment that it does: by whatever statement,
 * routed rows, COPY, TRUNCATE or plan made by hand.
 */
#ifndef FA_NODE_FDW_H
#define FA_NODE_FDW_H

#include "access/xact.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "libpq-fe.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"

#include "node/remote.h"

/*
 * postgres_fdw's session for the user at the server, in the remote transaction
 * that belongs to the one here; both are opened when need be.  Idle, and left
 * idle.  Belongs to postgres_fdw.  NULL where its library hides the function
 * that answers this, as builds of 16 and later do.
 */
extern PGconn *fa_fdw_session(Oid user, Oid server);

/*
 * in fdw_base.c: postgres_fdw's own routines, a function of its library, and the
 * session.  What they read, they read by plain settings (core/plain_input.h).
 */
extern const struct FdwRoutine *fa_fdw_base(void);
extern PGFunction fa_fdw_function(const char *name);
extern PGconn *fa_fdw_mapping_session(UserMapping *mapping);

/*
 * in fdw_exec.c: the same session by other means, for a statement without a
 * result: as of 15, BeginDirectModify gets the session and IterateDirectModify
 * sends the text of a direct modification as it is.  Waits for the end; remote
 * errors are raised here.  In a transaction.  Not noted as a use of the session.
 * Returns the number of rows that it changed.  sql may be NULL: nothing is sent,
 * but rows that are on their way in the session are taken in.
 */
extern uint64 fa_fdw_exec(int node, Oid user, const char *sql);

/*
 * The same session as a connection, for the current user, with his settings,
 * and noted as written to.  NULL when it is not to be had (so always, where its
 * library hides the function) or busy.
 */
extern FaConn *fa_fdw_conn(Oid foreign_table);

/* Is that to be had at all? */
extern bool fa_fdw_has_conn(void);

/*
 * The same session for a modification whose result is not waited for: that is
 * the caller's, by fa_remote_last_result(), before anything else is done with
 * the session.  After an error before that, postgres_fdw cancels the statement.
 * As the current user; values as text (NULL: null).  NULL, and nothing is sent,
 * when the session is not to be had or busy.
 */
extern FaConn *fa_fdw_send(Oid foreign_table, const char *sql, int nparams,
						   const char *const *values);

/* Does a plan name a foreign table? */
extern bool fa_fdw_plan_has_foreign(PlannedStmt *plan);

/* The node that a foreign table leads to; 0: none. */
extern int	fa_fdw_node(Oid foreign_table);

/* Name of the foreign table, without schema, by which it finds the session. */
extern char *fa_fdw_session_table(int node);

/* in fdw_group.c: may a peer be asked for this grouping of UPPERREL_GROUP_AGG? */
extern bool fa_fdw_may_group(PlannerInfo *root, RelOptInfo *grouped_rel, void *extra);

/*
 * in fdw_settings.c: the client's lock_timeout, and how often the statement was
 * handed on, to the session that is about to be used, by the user, for a foreign
 * table.
 */
extern void fa_fdw_pass_settings(Oid foreign_table, Oid user);
/* Likewise, as of which mark (fdw_as_of.h) the session reads from now on. */
extern void fa_fdw_tell_as_of(int node, Oid user, int mark);
/* Likewise, whom the role's session acts as from now on (act_as.h): a role, or the node. */
#define FA_ACTS_AS_NODE ((Oid) 1)	/* no role has it */
extern void fa_fdw_tell_role(Oid foreign_table, Oid role, Oid user);
/* Does it act as the node?  And, when it has been told by other means: as itself. */
extern bool fa_fdw_acts_as_node(int node, Oid role);
extern void fa_fdw_acts_as_itself(int node, Oid role);

/* in fdw_callback.c */

/* RegisterXactCallback(callback, NULL), remembering where that is. */
extern void fa_fdw_register_before(XactCallback callback);

/*
 * Has postgres_fdw commit its remote transactions now, as it would before a
 * local commit; those that were prepared it finds ended.  Afterwards it does
 * not object to the local transaction being prepared.  False when its callback
 * is not to be found.
 */
extern bool fa_fdw_end_sessions(void);

#endif							/* FA_NODE_FDW_H */
