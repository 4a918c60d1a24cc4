/*
 * hops.c
 *	  How often a statement is handed on.
 *
 * A node that has not heard of a move sends statements to the old owner, which
 * hands them on.  Each knows of a later move than the one before, so that ends at
 * the owner; unless a node has lost what it knew, as one that was restored from an
 * older backup.  Two such nodes would hand a statement to each other until neither
 * has a session left.  So each tells the next how many have had it.
 *
 * A session works for one other session all its life, and so is always as far
 * from the client.
 */
#include "postgres.h"

#include "core/settings.h"
#include "node/node.h"

/* More than any fragment moves in the time that news of it takes. */
#define MAX_HOPS 8

int
fa_hops_next(void)
{
	if (fa_origin == 0)
		return 0;
	if (fa_hops >= MAX_HOPS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nodes do not agree which of them owns a fragment"),
				 errdetail("The statement has been handed on %d times without reaching the owner.",
						   fa_hops),
				 errhint("A node that was restored from an older backup does not have what has moved to it since; see the node's log.")));
	return Max(fa_hops, 1) + 1;
}
