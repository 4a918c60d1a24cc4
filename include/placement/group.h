/*
 * group.h
 *	  Fragments that should be on one node, because they are used together:
 *	  dependencies that people have declared (add_dependency), and where a table
 *	  has co_access auto, what sessions were seen to do (co_access.c).
 *
 * Each is still decided about by itself, but all of a group by the demand for
 * the whole group, of which each has the part that its move would cost of the
 * moves of all.  So the figures that the decision compares stand in the same
 * proportion for each, and it comes out alike.
 */
#ifndef FA_PLACEMENT_GROUP_H
#define FA_PLACEMENT_GROUP_H

#include "placement/controller.h"
#include "placement/hints.h"

#define FA_GROUP_MAX 16			/* further fragments are left alone */

struct FaGroup
{
	int			n;
	FaPlaceRow *member[FA_GROUP_MAX];
	double		cost_ms;		/* of moving them all */
	int			place;			/* chosen for those that must leave; -1 */
};

/* in co_access.c; in a transaction: looks for such pairs, when it is time */
extern void fa_co_access_look(const FaForecaster *f);

/* in group.c */

/*
 * In a transaction, once rows are complete: finds the groups, and makes each
 * member's recent past its part of the group's.
 */
extern void fa_group_gather(FaPlaceInput *input);

/* Bytes of a member and of those that would leave its owner with it. */
extern double fa_group_room(const FaPlaceRow *row);
/*
 * Where members that must leave their node should go: where others are, or are
 * going, that need not leave; -1 when there are none.
 */
extern int	fa_group_place(const FaPlaceInput *input, const FaPlaceRow *row);

/*
 * Replaces a member's forecast ([ahead][predictor's node]) by its part of the
 * group's; returns the evidence behind that.
 */
extern double fa_group_profile(FaPlaceInput *input, const FaPlaceRow *row,
							   FaForecaster *f, FaHints *hints,
							   const int *ahead, int nahead, double *profile);

#endif							/* FA_PLACEMENT_GROUP_H */
