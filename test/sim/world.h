/*
 * world.h
 *	  Made-up demand of many nodes for many fragments.
 *
 * What a fragment is used for follows from its number and the seed alone, so
 * that a world of any size takes no memory and every step can be made anew.
 */
#ifndef FA_SIM_WORLD_H
#define FA_SIM_WORLD_H

#include "predict/predict.h"

#define WORLD_USERS 4			/* nodes that use a fragment */

typedef enum WorldKind
{
	WORLD_STEADY,				/* one node makes most accesses */
	WORLD_SEASON,				/* two take turns, half a season each */
	WORLD_DRIFT,				/* one, for so many steps; then the next */
	WORLD_FLASH,				/* steady, but for crowds from elsewhere */
	WORLD_UNIFORM,				/* all users alike */
	WORLD_ALTERNATE,			/* two take turns, a step each */
	WORLD_NKINDS
} WorldKind;

typedef struct World
{
	int			nnodes;
	int			nfragments;
	int			nregions;
	int			group;			/* fragments that are used together; 0: each
								 * is alone */
	int			season;			/* steps */
	int			drift;			/* steps */
	double		per_step;		/* mean accesses of a fragment in a step */
	double		share[WORLD_NKINDS];	/* of the fragments; sum 1 */
	int			lost;			/* node that is away; -1: none */
	int			lost_from;		/* steps */
	int			lost_to;
	uint64_t	seed;
} World;

/* The first of the fragment's group: kind, users and times are its. */
extern int	world_lead(const World *w, int fragment);
extern WorldKind world_kind(const World *w, int fragment);
/* The k-th user; all differ. */
extern int	world_user(const World *w, int fragment, int k);
extern double world_bytes(const World *w, int fragment);
/* Of a season: steps that it has before the first. */
extern int	world_phase(const World *w, int fragment);
/* Mean accesses of the k-th user in a step. */
extern double world_rate(const World *w, int fragment, int k, int64_t step);
extern bool world_alive(const World *w, int node, int64_t step);
/* Accesses in a step; cells has room for WORLD_USERS a fragment. */
extern int	world_cells(const World *w, int64_t step, FaCell *cells);
/* ms that a remote access costs more, [from * nnodes + to]; to be freed. */
extern double *world_extra_ms(const World *w);
/* In [0, 1), the same for the same arguments. */
extern double world_random(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

#endif							/* FA_SIM_WORLD_H */
