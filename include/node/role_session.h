/*
 * role_session.h
 *	  One session at a peer for all roles of a transaction that changes its rows.
 *
 * postgres_fdw has a session at a peer for each role that statements run as: the
 * user, the owner of a view or of a SECURITY DEFINER function.  One would not see what
 * another has changed in the same transaction, and wait for its locks forever.  So
 * from the first change or row lock on, all roles use the session in which that is
 * (fa_role_session()), and before a command for another than the one before, the peer
 * is told whose it is (act_as.h).  Until then each reads in its own.
 */
#ifndef FA_NODE_ROLE_SESSION_H
#define FA_NODE_ROLE_SESSION_H

#include "nodes/execnodes.h"

/*
 * The role whose session at a server the user uses: the one that this transaction
 * has locked or changed rows in, by any role, or is about to; else his own; that of
 * the session's user when he has none and may not log in.  Another's session acts
 * as him.
 */
extern Oid	fa_role_session(Oid server, Oid user);
/* Who the user is at the server, by his mapping if he has one. */
extern const char *fa_role_mapped(Oid server, Oid user);

/* Has any session acted as another role in this transaction?  Cheap. */
extern bool fa_roles_act(void);

/*
 * The role's session at the foreign table's node is open, and about to be sent a
 * command for the user: has it act as him.  Cheap while each has his own.
 */
extern void fa_role_act(Oid foreign_table, Oid session, Oid user);

/* Likewise, for work of our own: has it act as the node. */
extern void fa_role_act_node(Oid foreign_table, Oid session);

/* A scan for the user has begun in the role's session; or begins again in it. */
extern void fa_role_scan_begin(ForeignScanState *node, Oid session, Oid user);
/* Whose session it is in; the user's own, unless that has been said. */
extern Oid	fa_role_scan_session(ForeignScanState *node, Oid user);
/*
 * Before it returns a row: the session acts as the user, unless all rows that are
 * asked for next are here already (not any: a request may be sent).
 */
extern void fa_role_before_row(ForeignScanState *node, Oid foreign_table, Oid user,
							   bool any);
extern void fa_role_scan_again(ForeignScanState *node);
extern void fa_role_scan_end(ForeignScanState *node);

/* Else it has no session of its own at a peer, unless a mapping for PUBLIC has. */
extern bool fa_role_may_log_in(Oid role);

/* The transaction has ended. */
extern void fa_role_session_forget(void);

#endif							/* FA_NODE_ROLE_SESSION_H */
