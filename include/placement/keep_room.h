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

/* A fragment of a group, now. */
typedef struct FaFollower
{
	int			owner;			/* -1: gone */
	int			heading;		/* where its move goes; -1: it does not move */
	bool		arrived;		/* its last move was not longer ago than others
								 * are waited for */
	double		since_move_ms;	/* then */
	double		bytes;
	bool		may_follow;
} FaFollower;

/* Before groups are anew kept room for. */
extern void fa_keep_nothing(FaPlaceCluster *cluster);
extern void fa_keep_room(FaPlaceCluster *cluster, int number, int node,
						 double bytes);
/*
 * Where one of the group is on its way to, or has arrived, there is room kept
 * for the others.
 */
extern void fa_keep_for_group(FaPlaceCluster *cluster, int number,
							  const FaFollower *member, int n);

#endif							/* FA_PLACEMENT_KEEP_ROOM_H */
