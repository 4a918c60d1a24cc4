/*
 * plan.h
 *	  The cheapest sequence of owners of one fragment, as expected: what the
 *	  decision rests on.
 *
 * Plain C like decide.h.
 */
#ifndef FA_PLACEMENT_PLAN_H
#define FA_PLACEMENT_PLAN_H

#include "placement/decide.h"

#define FA_PLAN_CANDIDATES (FA_PLACE_MAX_CANDIDATES + 1)	/* and the owner */
#define FA_PLAN_EPSILON 1e-9

typedef struct FaPlan
{
	int			ncells;
	double		start[FA_PLACE_MAX_CELLS + 1];	/* steps; now is the first */
	int			ncand;			/* the owner is candidate 0 */
	int			cand[FA_PLAN_CANDIDATES];	/* node index */
	int			rank[FA_PLAN_CANDIDATES];	/* its place in the item's active, or -1 */
	/* integrals from now to a cell's start, by candidate as owner */
	double		loss[FA_PLACE_MAX_CELLS + 1][FA_PLAN_CANDIDATES];	/* ms, discounted */
	double		access[FA_PLACE_MAX_CELLS + 1][FA_PLAN_CANDIDATES];	/* made by it */
	double		total[FA_PLACE_MAX_CELLS + 1];	/* made by all */
	/* of a move begun at a cell: where it leaves the fragment free again */
	int			free[FA_PLACE_MAX_CELLS];
	double		arrival[FA_PLACE_MAX_CELLS][FA_PLAN_CANDIDATES]; /* loss when it is there */
	bool		allowed[FA_PLACE_MAX_CELLS][FA_PLAN_CANDIDATES]; /* by the threshold */
	/* best sum from a cell's start on, and where to go there */
	double		value[FA_PLACE_MAX_CELLS + 1][FA_PLAN_CANDIDATES];
	int			go[FA_PLACE_MAX_CELLS + 1][FA_PLAN_CANDIDATES];
	bool		ahead;			/* moves can be asked for before their cell */
	double		move_steps;
	double		bind_steps;		/* no other move before that */
	double		cost;
	double		trust;			/* discount for doubt */
	double		threshold;
} FaPlan;

/*
 * Lays the grid to the item's last horizon and sums up what is expected; the
 * item has horizons.  False when no node would at any time be a better owner:
 * then there is no plan to make.
 */
extern bool fa_plan_begin(FaPlan *plan, const FaPlaceCluster *cluster,
						  const FaPlacePolicy *policy,
						  const FaPlaceItem *item);
/* Finds the best sequences. */
extern void fa_plan_make(FaPlan *plan);

/* Of candidates, from a cell's start on; larger is better. */
extern double fa_plan_value_of_move(const FaPlan *plan, int k, int from,
									int to);
extern double fa_plan_value_of_staying(const FaPlan *plan, int k, int c);

/* Fills out for a move of the owner's fragment to candidate d at cell k. */
extern void fa_plan_describe(const FaPlan *plan, const FaPlaceCluster *cluster,
							 int k, int d, FaDecision *out);

/* in keep_room.c */

/* Bytes that an item needs on a node, with those of its group that follow. */
extern double fa_place_room(const FaPlaceCluster *cluster,
							const FaPlaceItem *item, int node);
/* Bytes there that it finds taken. */
extern double fa_place_taken(const FaPlaceCluster *cluster,
							 const FaPlaceItem *item, int node);

static inline bool
fa_place_may_receive(const FaPlaceCluster *cluster, const FaPlaceItem *item,
					 int node)
{
	const FaPlaceNode *p = &cluster->node[node];

	return p->alive && !p->draining &&
		(p->capacity <= 0 ||
		 fa_place_taken(cluster, item, node) +
		 fa_place_room(cluster, item, node) <= p->capacity);
}

static inline double
fa_place_extra(const FaPlaceCluster *cluster, int from, int owner)
{
	return cluster->extra_ms[(size_t) from * cluster->nnodes + owner];
}

#endif							/* FA_PLACEMENT_PLAN_H */
