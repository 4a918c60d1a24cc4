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
 *
 * They move one after the other.  From the first on room is kept at their
 * destination for those that have not begun to (FaPlaceGroup), and so it is for
 * what a rebalance has planned; or others would take it meanwhile, and a group
 * would end in two halves.
 */
#ifndef FA_PLACEMENT_GROUP_H
#define FA_PLACEMENT_GROUP_H

#include "placement/controller.h"
#include "placement/hints.h"

#define FA_GROUP_MAX 16			/* further fragments are left alone */

struct FaGroup
{
	int			number;			/* in the cluster's group */
	int			n;
	FaPlaceRow *member[FA_GROUP_MAX];
	double		cost_ms;		/* of moving them all */
	int			place;			/* chosen for those that must leave; -1 */
};

/* in co_access.c; in a transaction: looks for such pairs, when it is time */
extern void fa_co_access_look(const FaForecaster *f);

/* in group.c */

/*
 * In a transaction, once rows are complete: finds the groups, makes each
 * member's recent past its part of the group's, and keeps room for those of
 * which others have gone ahead.
 */
extern void fa_group_gather(FaPlaceInput *input);
/*
 * The same for groups found before, when owners have changed; the members'
 * accesses are in seen, which has the rows' order.  Palloc'd.
 */
extern void fa_group_refresh(FaPlaceInput *input, const FaPlaceRow *seen);

/* The group, in the cluster's numbers, that room is kept for; 0: none. */
extern int	fa_group_number(const FaPlaceInput *input, const FaPlaceRow *row);

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
