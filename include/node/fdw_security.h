/*
 * fdw_security.h
 *	  Conditions that a peer must not be asked, as they could see hidden rows.
 */
#ifndef FA_NODE_FDW_SECURITY_H
#define FA_NODE_FDW_SECURITY_H

#include "nodes/pathnodes.h"

/*
 * Makes those of a relation's conditions (RestrictInfo) that must stay here look as if
 * the peer could not do them; returns what fa_fdw_conditions_kept() needs.
 */
extern List *fa_fdw_keep_conditions(PlannerInfo *root, RelOptInfo *rel, List *rinfos);

/* Makes them what they are again, in a plan's conditions, too. */
extern void fa_fdw_conditions_kept(List *kept, List *quals);

/* May a peer be asked for a join by these conditions? */
extern bool fa_fdw_may_join(PlannerInfo *root, List *rinfos);

#endif							/* FA_NODE_FDW_SECURITY_H */
