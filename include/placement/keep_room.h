/*
 * keep_room.h
 *	  Room for fragments that are to follow others to their new node.
 *
 * Plain C like decide.h.
 */
#ifndef FA_PLACEMENT_KEEP_ROOM_H
#define FA_PLACEMENT_KEEP_ROOM_H

#include "placement/decide.h"

#define FA_FOLLOW_STEPS 10		/* that others have, at least, to follow in */

/* Before groups are anew kept room for. */
extern void fa_keep_nothing(FaPlaceCluster *cluster);
extern void fa_keep_room(FaPlaceCluster *cluster, int number, int node,
						 double bytes);
/*
 * Where one of the group is on its way to, or has arrived, there is room kept
 * for the others.
 */
extern void fa_keep_for_group(FaPlaceCluster *cluster, int number);
/* An item goes to a node: no more room is kept for it, but for its like. */
extern void fa_keep_for_others(FaPlaceCluster *cluster,
							   const FaPlaceItem *item, int node);

#endif							/* FA_PLACEMENT_KEEP_ROOM_H */
