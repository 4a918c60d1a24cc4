/*
 * act_as.h
 *	  A peer's session that acts as one role after another.
 *
 * A transaction may use a peer's rows as several roles: the client's, those of the
 * owners of views and of SECURITY DEFINER functions.  What one of them has changed
 * the others see, and all of it is one transaction, so it is one session there; its
 * statements run as whoever they are for.  The origin says so between two of them by
 *
 *	  SET fragaffinity.act_as = 'role'
 *	  SET fragaffinity.act_as TO DEFAULT
 *	  SET fragaffinity.act_as = ''			as the node: a superuser's maintenance
 *
 * which is no setting, and holds for the rest of the transaction, or until the
 * savepoint is undone in which it was said.
 */
#ifndef FA_NODE_ACT_AS_H
#define FA_NODE_ACT_AS_H

#include "tcop/utility.h"

#define FA_ACT_AS "fragaffinity.act_as"

/*
 * Before a SET or SHOW: true when it was this one, at top level, and is done.  Raises
 * 42501 unless a node vouches for the session (vouch.h).  As in a SECURITY DEFINER
 * function, the role's code can become nobody else.
 */
extern bool fa_act_as(Node *statement, ProcessUtilityContext context);

/* Before what ends a transaction: the session is its own role's again. */
extern void fa_act_as_end(void);

/* Has this session acted as others in this transaction? */
extern bool fa_act_as_used(void);

#endif							/* FA_NODE_ACT_AS_H */
