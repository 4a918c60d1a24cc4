/*
 * vouch.h
 *	  Sessions of a role at a peer that this node vouches for.
 *
 * Row security is applied where the client's statement is planned, under the
 * client's settings.  The peer's bucket must give all its rows to the session
 * that works for that statement, but not to one that the same role has opened
 * itself and calls a peer's.  Likewise with a right to insert into some columns: the
 * values of others may be the defaults that the client's node has evaluated.
 */
#ifndef FA_NODE_VOUCH_H
#define FA_NODE_VOUCH_H

#include "core/shmem.h"
#include "node/remote.h"

/*
 * Has the foreign table's bucket row security that holds for the role, or may that
 * insert into some of its columns only?
 */
extern bool fa_vouch_is_needed(Oid foreign_table, Oid user);

/*
 * Vouches for the session that postgres_fdw has for the user, if that has not been
 * done.  Connects to the peer as a superuser for that.  The session is idle, and left
 * idle.
 */
extern void fa_vouch_for_session(Oid server, Oid user);

/* The same before the role's session is used for a foreign table for the user, if needed. */
extern void fa_vouch_for_fdw(Oid foreign_table, Oid session, Oid user);

/* The same for a session of our own, which the caller remembers. */
extern void fa_vouch_for_conn(FaConn *conn);

/* Does a peer vouch for this session? */
extern bool fa_vouch_is_given(void);

extern const FaShmemPart fa_vouch_part;
extern void fa_vouch_init(void);	/* from _PG_init */

#endif							/* FA_NODE_VOUCH_H */
