/*
 * decide_world.h
 *	  A small world to decide in: N nodes, each remote access 4 ms dearer, steps
 *	  of a second, and one fragment, which node 0 owns.
 */
#ifndef DECIDE_WORLD_H
#define DECIDE_WORLD_H

#include "placement/decide.h"

#define N 4						/* nodes */
#define H 12					/* steps looked ahead */

typedef struct World
{
	FaPlaceCluster cluster;
	FaPlaceNode node[N];
	double		extra[N * N];
	FaPlacePolicy policy;
	FaPlaceItem item;
	int			active[N];
	int			horizons[H];
	double		rate[H * N];
	double		recent[H * N];
} World;

static inline void
world_init(World *w)
{
	memset(w, 0, sizeof(*w));
	w->cluster.nnodes = N;
	w->cluster.node = w->node;
	w->cluster.extra_ms = w->extra;
	w->cluster.step_ms = 1000;
	w->cluster.max_moves = 2;
	w->cluster.max_moves_node = 2;
	for (int i = 0; i < N; i++)
	{
		w->node[i].alive = true;
		w->active[i] = i;
		for (int j = 0; j < N; j++)
			w->extra[i * N + j] = i == j ? 0 : 4;
	}
	for (int h = 0; h < H; h++)
		w->horizons[h] = h + 1;
	w->policy.threshold = 0.4;
	w->policy.hysteresis = 0.05;
	w->policy.reactive_threshold = 0.7;
	w->policy.reactive_steps = 3;
	w->item.id = 7;
	w->item.previous_owner = -1;
	w->item.bytes = 1000;
	w->item.since_move_ms = INFINITY;
	w->item.cost_ms = 100;
	w->item.nactive = N;
	w->item.active = w->active;
	w->item.nhorizons = H;
	w->item.horizons = w->horizons;
	w->item.rate = w->rate;
	w->item.evidence = 1000;
	w->item.recent = w->recent;
}

static inline FaDecision
decide(World *w)
{
	FaDecision	d;

	fa_decide_item(&w->cluster, &w->policy, &w->item, &d);
	return d;
}

#endif							/* DECIDE_WORLD_H */
