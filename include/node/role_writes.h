/*
 * role_writes.h
 *	  Roles that a transaction uses another node's rows as.
 *
 * postgres_fdw has a session at a peer for each role that statements run as: the
 * user, the owner of a view or of a SECURITY DEFINER function.  One does not see what
 * another has changed in the same transaction, and would wait for its locks forever.
 */
#ifndef FA_NODE_ROLE_WRITES_H
#define FA_NODE_ROLE_WRITES_H

#include "node/cluster_xact.h"

/*
 * A foreign table is about to be used by the session of this user mapping.  Raises
 * 0A000 if this transaction has changed rows of it, or locked some and wants to lock
 * or change others, by another one.  What an undone savepoint has changed does not
 * count.  Cheap enough for each row.
 */
extern void fa_role_writes_note(Oid foreign_table, Oid mapping, FaUse use);

/* The transaction has ended. */
extern void fa_role_writes_forget(void);

#endif							/* FA_NODE_ROLE_WRITES_H */
