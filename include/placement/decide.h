/*
 * decide.h
 *	  Whether a fragment should move, where to, and what that would bring.
 *
 * Plain C on plain structs, no server header, no global state: the worker,
 * the simulator and the unit tests drive the same code.  Nodes are dense
 * indexes; time is counted in steps from now, money in milliseconds of
 * clients' waiting.
 */
#ifndef FA_PLACEMENT_DECIDE_H
#define FA_PLACEMENT_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FA_PLACE_MAX_HORIZONS 4
#define FA_PLACE_MAX_CELLS 32	/* time grid of one decision */
#define FA_PLACE_MAX_CANDIDATES 16	/* destinations weighed per fragment */

/* One node as a place for fragments. */
typedef struct FaPlaceNode
{
	bool		alive;
	bool		draining;		/* takes nothing, gives everything */
	double		capacity;		/* bytes; 0: no limit */
	double		used;			/* bytes of the fragments it owns */
	double		kept;			/* bytes of others that are to follow */
	int			incoming;		/* moves in flight to it */
	int			outgoing;		/* and from it */
} FaPlaceNode;

/* A fragment of a group. */
typedef struct FaPlaceMember
{
	int64_t		id;
	int			owner;			/* -1: gone */
	int			heading;		/* where its move goes; -1: it does not move */
	bool		arrived;		/* its last move was not longer ago than others
								 * are waited for */
	double		since_move_ms;	/* then */
	double		bytes;
	bool		may_follow;
} FaPlaceMember;

/*
 * Fragments that come to a node one after the other: once the first has begun
 * to, there is room kept for the others (keep_room.c).
 */
typedef struct FaPlaceGroup
{
	int			n;				/* 0: any that have this group's number */
	FaPlaceMember *member;
	int			node;			/* where they go */
	double		bytes;			/* kept there for it, part of the node's kept */
} FaPlaceGroup;

typedef struct FaPlaceCluster
{
	int			nnodes;
	FaPlaceNode *node;
	FaPlaceGroup *group;		/* from 1 on; NULL: all are alone */
	/* ms that an access from i costs more when j owns: [i * nnodes + j] */
	const double *extra_ms;
	double		step_ms;		/* length of a step */
	double		elapsed_steps;	/* of the forecast's first step, by now */
	double		again_steps;	/* until the next decision: moves for then can
								 * be asked for now; 0: they begin at once */
	int			max_moves;		/* at once, in the cluster */
	int			max_moves_node; /* at once, into or out of one node */
	double		max_moves_hour; /* 0: no limit */
	double		max_bytes_hour; /* likewise */
	double		moves_hour;		/* begun within the last hour */
	double		bytes_hour;		/* their sizes */
} FaPlaceCluster;

/* What a table's owner may turn. */
typedef struct FaPlacePolicy
{
	double		threshold;		/* least affinity of a destination */
	double		hysteresis;		/* by which it must exceed the owner's; twice
								 * that to go back where it came from */
	double		min_residency_ms;	/* between two moves of a fragment */
	double		doubt;			/* accesses of evidence that halve a benefit */
	double		unpaid;			/* part of an expected benefit that the table's
								 * moves did not bring in the past; 0: all came */
	bool		closed;			/* not the time for moves */
	bool		reactive;
	double		reactive_threshold; /* share of the recent accesses */
	int			reactive_steps; /* that it must have lasted */
} FaPlacePolicy;

/*
 * One fragment, or several that must stay together (sums then).  Only nodes
 * that are expected to touch it are listed; rates of the others are zero.
 */
typedef struct FaPlaceItem
{
	int64_t		id;
	int			owner;
	int			previous_owner; /* -1: none known */
	double		bytes;
	int			group;			/* it is of; 0: alone */
	double		since_move_ms;	/* INFINITY: never moved */
	bool		moving;
	bool		pinned;			/* stays, but for a drain */
	bool		advised;		/* a move would only be recommended */
	double		move_ms;		/* expected duration of a move */
	double		cost_ms;		/* and what it costs clients */
	int			nactive;
	const int  *active;			/* node indexes */
	int			nhorizons;		/* 0: no forecast */
	const int  *horizons;		/* steps from now, ascending */
	const double *rate;			/* accesses a step: [horizon * nactive + i] */
	double		evidence;		/* effective accesses behind the forecast */
	int			nrecent;		/* newest steps, newest first */
	const double *recent;		/* accesses: [step * nactive + i] */
} FaPlaceItem;

typedef enum FaVerdict
{
	FA_VERDICT_STAY,			/* the owner is the best place */
	FA_VERDICT_MOVE,
	FA_VERDICT_LATER,			/* better moved at a later step */
	FA_VERDICT_COST,			/* would not pay */
	FA_VERDICT_THRESHOLD,		/* affinity too low */
	FA_VERDICT_HYSTERESIS,		/* too little better than the owner */
	FA_VERDICT_RESIDENCY,		/* moved too recently */
	FA_VERDICT_PINNED,			/* the administrator wants it where it is */
	FA_VERDICT_WINDOW,			/* not the time for moves */
	FA_VERDICT_MOVING,			/* a move is under way */
	FA_VERDICT_CAPACITY,		/* no room at the destination */
	FA_VERDICT_BUSY,			/* too many moves at once */
	FA_VERDICT_BUDGET,			/* too many moves within an hour */
	FA_VERDICT_DOWN,			/* destination does not answer */
	FA_VERDICT_DRAINING,		/* destination is being emptied */
	FA_NVERDICTS
} FaVerdict;

typedef enum FaTrigger
{
	FA_TRIGGER_PREDICTIVE,
	FA_TRIGGER_REACTIVE,
	FA_TRIGGER_DRAIN,
	FA_TRIGGER_REBALANCE
} FaTrigger;

typedef struct FaDecision
{
	FaVerdict	verdict;
	FaTrigger	trigger;
	int			destination;	/* -1: none worth naming */
	double		affinity;		/* of the destination while it would own */
	double		owner_affinity; /* of the owner in the same time */
	double		accesses;		/* expected from the destination */
	double		access_ms;		/* what each costs more than locally */
	double		benefit_ms;		/* saved, after the discount for doubt */
	double		cost_ms;
	double		hold_steps;		/* how long the move is meant to last */
	double		wait_steps;		/* until the move should begin */
	double		limit;			/* the limit that held it back */
} FaDecision;

extern const char *fa_verdict_name(FaVerdict verdict);
extern const char *fa_trigger_name(FaTrigger trigger);

/* What should happen to one fragment, as if it were alone. */
extern void fa_decide_item(const FaPlaceCluster *cluster,
						   const FaPlacePolicy *policy,
						   const FaPlaceItem *item, FaDecision *out);

/*
 * Best destination of a fragment that has to leave its owner: toward, or (-1)
 * any.
 */
extern void fa_decide_drain(const FaPlaceCluster *cluster,
							const FaPlaceItem *item, int toward,
							FaDecision *out);

/* A fragment that a plan for all of them wants at destination. */
extern void fa_decide_planned(const FaPlaceCluster *cluster,
							  const FaPlaceItem *item, int destination,
							  FaDecision *out);

/*
 * Admits as many of the wanted moves as the cluster's limits allow, drains
 * first, then the most profitable; the others become BUSY, BUDGET or
 * CAPACITY.  Drains are not held to the budget of the hour, but use it.
 * Counts the admitted ones into cluster and its nodes.  With the first of a
 * group, room is kept for those that are to come along.  inflight: moves
 * under way that are not in the nodes' counts yet.  Returns how many were
 * admitted.
 */
extern int	fa_decide_admit(FaPlaceCluster *cluster, const FaPlaceItem *items,
							FaDecision *decisions, int n, int inflight);

/*
 * One readable line: why.  Returns what snprintf would.  Names are of the
 * decision's destination and the item's owner.
 */
extern int	fa_decide_reason(const FaPlaceCluster *cluster,
							 const FaPlacePolicy *policy,
							 const FaPlaceItem *item,
							 const FaDecision *decision,
							 const char *destination, const char *owner,
							 char *buf, size_t size);

#endif							/* FA_PLACEMENT_DECIDE_H */
