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

/*
 * Makes postgres_fdw close its session, in which no transaction is open any
 * more although postgres_fdw believes so.  Otherwise it refuses to let the
 * local transaction be prepared.  At the top level of a transaction.
 *
 * As of 15 to 18: SAVEPOINT, which a subtransaction needs, fails there; the
 * session then counts as unusable, and the next use closes it.
 */
extern void fa_fdw_break(int node);

/* Name of the foreign table, without schema, by which it finds the session. */
extern char *fa_fdw_session_table(int node);

#endif							/* FA_NODE_FDW_H */
