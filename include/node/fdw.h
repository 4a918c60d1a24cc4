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

/*
 * Runs a statement without a result on the session that postgres_fdw has at
 * the node for the current user, opening session and remote transaction as
 * postgres_fdw would.  In a transaction; remote errors are raised here.  Not
 * noted as a use of the session.
 *
 * As of 15: BeginDirectModify gets the session and IterateDirectModify sends
 * the text of a direct modification as it is.
 */
extern void fa_fdw_exec(int node, const char *sql);

/* Name of the foreign table, without schema, by which it finds the session. */
extern char *fa_fdw_session_table(int node);

/*
 * in fdw_settings.c: the client's lock_timeout to the session that is about to
 * be used, by the user, for a foreign table.
 */
extern void fa_fdw_pass_settings(Oid foreign_table, Oid user);

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
