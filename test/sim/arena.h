/*
 * arena.h
 *	  The predictor and the decisions, on a world's demand.
 *
 * Each step: accesses are counted against the owners, the predictor learns
 * them, every fragment that other nodes than its owner have used is decided
 * about, the cluster's limits admit what they let, and what is admitted has
 * moved before the next step.  Groups are decided about as the controller does
 * (src/placement/group.c): each of its fragments by its part of the whole
 * group's demand.
 */
#ifndef FA_SIM_ARENA_H
#define FA_SIM_ARENA_H

#include "placement/decide.h"
#include "placement/hindsight.h"
#include "world.h"

#define ARENA_RECENT 4			/* steps of the past that a decision sees */
#define ARENA_AHEAD 12			/* points of a plan in time */
#define ARENA_TURNS 7			/* early and late by up to 3 steps */

typedef enum ArenaKind
{
	ARENA_NEVER, ARENA_REACTIVE, ARENA_PREDICTIVE,
	ARENA_TOLD					/* the true means, in place of forecasts */
} ArenaKind;

typedef struct ArenaTally
{
	double		accesses;
	double		remote;
	double		waiting_ms;
	double		moving_ms;
	double		bytes;
	long		moves;
	long		reactive;		/* of the moves */
	long		returns;		/* back within twice the residency */
	long		moves_of[WORLD_NKINDS];
	long		returns_of[WORLD_NKINDS];
	long		paid_of[WORLD_NKINDS];	/* of the returns: saved more than both moves
										 * cost; the others are thrash */
	long		paid;			/* all of them */
	double		paid_ms;		/* what these saved beyond that */
	double		thrash_ms;		/* and what the others lost */
	long		no_room;		/* decisions that ended so */
	long		decided;		/* fragments looked at */
	long		turned[ARENA_TURNS];	/* moves of what has seasons, by how many
									 * steps after the turn they were there */
	int			most_moves;		/* begun in a step */
	double		overfull;		/* bytes above a capacity, at most */
	long		apart;			/* groups that are not on one node, now */
	long		most_apart;		/* and at most */
	double		observe_s;		/* CPU time of the predictor */
	double		decide_s;		/* and of forecasts, decisions, admission */
	double		most_decide_s;	/* in a step */
} ArenaTally;

typedef struct Arena
{
	const World *world;
	ArenaKind	kind;
	FaPlaceCluster cluster;
	FaPlacePolicy policy;
	double		move_fixed_ms;	/* cost of a move */
	double		move_byte_ms;
	int			residency;		/* steps */
	int			horizon;		/* steps, of a plan */
	FaPredictor *predictor;
	int64_t		step;
	int			nhorizons;
	int			horizons[ARENA_AHEAD];
	int		   *owner;
	int		   *previous;
	int		   *moved;			/* step of the last move */
	double	   *saved_ms;		/* since then, against the previous owner */
	float	   *recent;			/* [fragment][ARENA_RECENT][user] */
	FaWay	   *way;			/* [fragment][WORLD_USERS + 1], or NULL */
	int		   *first;			/* owners at the start */
	FaCell	   *cells;
	FaPlaceMember *members;		/* of groups, by fragment */
	ArenaTally	tally;
} Arena;

/*
 * Owners are given; all else has defaults that may be changed before the first
 * step: the server's settings, no capacity, no limit on moves.
 */
extern void arena_begin(Arena *a, const World *world, ArenaKind kind,
						const int *owner, uint32_t models, bool hindsight);
extern void arena_step(Arena *a, int64_t step);
/* Counts anew, and so does the optimum; what was learned stays. */
extern void arena_restart(Arena *a);
/* What the best moves in hindsight would have cost, and the remote share. */
extern void arena_optimum(const Arena *a, double *cost_ms_p, double *remote_p);
extern void arena_end(Arena *a);

#endif							/* FA_SIM_ARENA_H */
