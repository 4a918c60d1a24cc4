/*
 * session.h
 *	  A backend's own sessions on its peers, for statements of its client.
 *
 * One for each node and role, opened when first wanted and kept.  A statement
 * runs in a transaction of its own there, prepared when it comes again, in one
 * round trip.  Nothing in it belongs to the transaction here, so only
 * statements may come this way that are alone in theirs.
 */
#ifndef FA_NODE_SESSION_H
#define FA_NODE_SESSION_H

#include "libpq-fe.h"

typedef struct FaSession FaSession;

/*
 * The current user's session on a node, opened if need be; NULL while it is
 * in use.  Raises SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION.
 */
extern FaSession *fa_session_get(int node);

/* Vouches for it, see vouch.h; before anything is sent. */
extern void fa_session_vouch(FaSession *session);

/*
 * Sends a statement with its parameters as text (NULL: null).  shape: the same
 * for executions whose results have the same columns; what was prepared for
 * others is not used.  stream: rows
 * come one by one.  The session is in use until fa_session_finish().
 */
extern void fa_session_send(FaSession *session, const char *sql, uint64 shape,
							int nparams,
							const char *const *values, bool writes,
							bool stream);

/*
 * Next result: rows, or the end of the statement; never an error, which is
 * raised with its own SQLSTATE.  The caller clears it.  A cancel of the
 * statement here is passed on, and what became of it there decides: if it was
 * too late, the statement has succeeded.
 */
extern PGresult *fa_session_result(FaSession *session);

/* The caller wants no more; ends the connection if there is more. */
extern void fa_session_finish(FaSession *session);

extern void fa_session_init(void);	/* from _PG_init */

#endif							/* FA_NODE_SESSION_H */
