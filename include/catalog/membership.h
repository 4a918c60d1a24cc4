/*
 * membership.h
 *	  Nodes that join, change and leave.
 */
#ifndef FA_CATALOG_MEMBERSHIP_H
#define FA_CATALOG_MEMBERSHIP_H

#include "node/node.h"

/* in links.c: this node's foreign servers and user mappings. */
extern void fa_link_create(const FaNode *node);
extern void fa_link_alter(const FaNode *node);
extern void fa_link_drop(int node);
/* Before the extension goes: leaves the server to plain postgres_fdw. */
extern void fa_link_release(int node);

/*
 * Gives every login role that lacks one a mapping for every peer; returns how
 * many were made.  Called by the worker, as roles come and go.
 */
extern int	fa_link_sync_mappings(void);

/*
 * Tells the planner how far the peers are, and how fast rows come, as was
 * measured: fdw_startup_cost and fdw_tuple_cost of a server, when one of them is
 * off by a factor of two.  Returns how many were changed.  Called by the worker.
 */
extern int	fa_link_sync_costs(void);

#endif							/* FA_CATALOG_MEMBERSHIP_H */
