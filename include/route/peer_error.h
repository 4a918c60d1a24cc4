/*
 * peer_error.h
 *	  Errors that a statement raises where it is executed, if it comes to that.
 *
 * What is sent to a peer cannot name functions of ours, on which users have no
 * rights.  So an error is raised by setting a variable, which refuses every value:
 * SQLSTATE and message.
 */
#ifndef FA_ROUTE_PEER_ERROR_H
#define FA_ROUTE_PEER_ERROR_H

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

extern void fa_peer_error_init(void);	/* from _PG_init, before router.c's */

/* Length of a SQLSTATE in the text of an error; the message follows. */
#define FA_PEER_ERROR_STATE 5

/*
 * An expression (boolean, never true) that raises the error whose text another
 * one gives.
 */
extern Node *fa_peer_error(Node *text);

/* Is the node one that raises such an error?  Its second argument is the text. */
extern bool fa_peer_error_is(Node *node);

#endif							/* FA_ROUTE_PEER_ERROR_H */
