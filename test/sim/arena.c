/*
 * arena.c
 *	  The predictor and the decisions, on a world's demand.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "placement/keep_room.h"
#include "trace.h"

#define LONG_AGO (-1000000)

/* A decision that wants a move, until the limits have had their say. */
typedef struct Wants
{
	int			n;
	int			room;
	FaPlaceItem *item;
	FaDecision *decision;
} Wants;

static double
seconds_since(clock_t began)
{
	return (double) (clock() - began) / CLOCKS_PER_SEC;
}

/* Every step near by, fewer far away. */
static void
choose_horizons(Arena *a)
{
	int			at = 1;

	a->nhorizons = 0;
	while (at < a->horizon && a->nhorizons < ARENA_AHEAD - 1)
	{
		a->horizons[a->nhorizons++] = at;
		at += at < 4 ? 1 : at / 2;
	}
	a->horizons[a->nhorizons++] = a->horizon;
}

/* A fragment's users and, at the end, its first owner, among themselves. */
static void
local_extra(const Arena *a, int f, double *extra_p)
{
	int			node[WORLD_USERS + 1];
	int			i,
				j;

	for (i = 0; i < WORLD_USERS; i++)
		node[i] = world_user(a->world, f, i);
	node[WORLD_USERS] = a->first[f];
	for (i = 0; i <= WORLD_USERS; i++)
		for (j = 0; j <= WORLD_USERS; j++)
			extra_p[i * (WORLD_USERS + 1) + j] =
				a->cluster.extra_ms[(size_t) node[i] * a->cluster.nnodes + node[j]];
}

/* The optimum starts from the owners as they are. */
static void
begin_hindsight(Arena *a)
{
	int			f,
				k;

	for (f = 0; f < a->world->nfragments; f++)
	{
		a->first[f] = a->owner[f];
		for (k = 0; k < WORLD_USERS; k++)
			if (world_user(a->world, f, k) == a->owner[f])
				break;
		fa_hindsight_begin(a->way + (size_t) f * (WORLD_USERS + 1),
						   WORLD_USERS + 1, k);
	}
}

void
arena_restart(Arena *a)
{
	memset(&a->tally, 0, sizeof(a->tally));
	if (a->way)
		begin_hindsight(a);
}

void
arena_begin(Arena *a, const World *world, ArenaKind kind, const int *owner,
			uint32_t models, bool hindsight)
{
	FaPredictorConfig config = {.nhorizons = 3,
	.horizons = {1, 4, world->season / 2 > 5 ? world->season / 2 : 6},
	.max_season = world->season * 2,.models = models};
	int			nf = world->nfragments;
	int			f,
				n;

	memset(a, 0, sizeof(*a));
	a->world = world;
	a->kind = kind;
	a->cluster = (FaPlaceCluster) {.nnodes = world->nnodes,
	.extra_ms = world_extra_ms(world),.step_ms = 60000,
	.max_moves = 1 << 30,.max_moves_node = 1 << 30};
	a->cluster.node = sim_alloc(world->nnodes, sizeof(FaPlaceNode));
	a->policy = (FaPlacePolicy) {.threshold = 0.3,.hysteresis = 0.05,
	.doubt = 5,.reactive = true,.reactive_threshold = 0.7,.reactive_steps = 3};
	a->move_fixed_ms = 250;
	a->move_byte_ms = 1e-5;
	a->residency = 5;
	a->horizon = config.horizons[2];
	a->owner = memcpy(sim_alloc(nf, sizeof(int)), owner, sizeof(int) * nf);
	a->first = memcpy(sim_alloc(nf, sizeof(int)), owner, sizeof(int) * nf);
	a->previous = sim_alloc(nf, sizeof(int));
	a->moved = sim_alloc(nf, sizeof(int));
	a->saved_ms = sim_alloc(nf, sizeof(double));
	a->cells = sim_alloc((size_t) nf * WORLD_USERS, sizeof(FaCell));
	a->recent = sim_alloc((size_t) nf * ARENA_RECENT * WORLD_USERS,
						  sizeof(float));
	for (n = 0; n < world->nnodes; n++)
		a->cluster.node[n].alive = true;
	if (world->group > 1)
	{
		a->cluster.group = sim_alloc(nf / world->group + 2,
									 sizeof(FaPlaceGroup));
		a->members = sim_alloc(nf, sizeof(FaPlaceMember));
		for (f = 0; f < nf; f += world->group)
			a->cluster.group[1 + f / world->group].member = a->members + f;
	}
	if (kind == ARENA_PREDICTIVE)
		a->predictor = fa_predictor_create(&config, world->nnodes, nf,
										   &sim_heap);
	if (hindsight)
		a->way = sim_alloc((size_t) nf * (WORLD_USERS + 1), sizeof(FaWay));
	for (f = 0; f < nf; f++)
	{
		a->previous[f] = -1;
		a->moved[f] = LONG_AGO;
		a->cluster.node[owner[f]].used += world_bytes(world, f);
	}
	if (hindsight)
		begin_hindsight(a);
}

void
arena_end(Arena *a)
{
	if (a->predictor)
		fa_predictor_destroy(a->predictor);
	free((void *) a->cluster.extra_ms);
	free(a->cluster.node);
	free(a->cluster.group);
	free(a->members);
	free(a->owner);
	free(a->first);
	free(a->previous);
	free(a->moved);
	free(a->saved_ms);
	free(a->cells);
	free(a->recent);
	free(a->way);
}

static double
move_cost(const Arena *a, int f)
{
	return a->move_fixed_ms + a->move_byte_ms * world_bytes(a->world, f);
}

/* The step's accesses of one fragment: n cells from cell on. */
static void
count_fragment(Arena *a, const FaCell *cell, int n, int64_t step)
{
	int			f = cell->fragment;
	float	   *recent = a->recent + (size_t) f * ARENA_RECENT * WORLD_USERS;
	int			local[WORLD_USERS];
	double		count[WORLD_USERS];
	double		extra[(WORLD_USERS + 1) * (WORLD_USERS + 1)];
	const double *extra_ms;
	int			i,
				k;

	for (i = 0; i < n; i++)
	{
		for (k = 0; world_user(a->world, f, k) != cell[i].node; k++)
			;
		local[i] = k;
		count[i] = cell[i].count;
		recent[k] = cell[i].count;
		if (!world_alive(a->world, a->owner[f], step))
			continue;			/* nobody can reach it, wherever he is */
		a->tally.accesses += count[i];
		a->tally.remote += cell[i].node != a->owner[f] ? count[i] : 0;
		extra_ms = a->cluster.extra_ms + (size_t) cell[i].node * a->cluster.nnodes;
		a->tally.waiting_ms += count[i] * extra_ms[a->owner[f]];
		if (a->previous[f] >= 0)
			a->saved_ms[f] += count[i] *
				(extra_ms[a->previous[f]] - extra_ms[a->owner[f]]);
	}
	if (a->way == NULL || !world_alive(a->world, a->owner[f], step))
		return;
	local_extra(a, f, extra);
	fa_hindsight_step(a->way + (size_t) f * (WORLD_USERS + 1),
					  WORLD_USERS + 1, extra, local, count, n, move_cost(a, f),
					  NULL);
}

static void
count_step(Arena *a, int ncells, int64_t step)
{
	int			f,
				i,
				j;

	for (f = 0; f < a->world->nfragments; f++)
	{
		float	   *r = a->recent + (size_t) f * ARENA_RECENT * WORLD_USERS;

		memmove(r + WORLD_USERS, r, sizeof(float) * WORLD_USERS * (ARENA_RECENT - 1));
		memset(r, 0, sizeof(float) * WORLD_USERS);
	}
	for (i = 0; i < ncells; i = j)
	{
		for (j = i; j < ncells && a->cells[j].fragment == a->cells[i].fragment; j++)
			;
		count_fragment(a, a->cells + i, j - i, step);
	}
}

/* What a decision is told of demand; lives until the next fragment's. */
typedef struct Demand
{
	int			active[WORLD_USERS];
	int			seen[WORLD_USERS];
	double		rate[ARENA_AHEAD * WORLD_USERS];
	double		recent[ARENA_RECENT * WORLD_USERS];
} Demand;

/* What no forecast can know better: counts are a matter of chance. */
static void
tell_truth(const Arena *a, int f, FaPlaceItem *item, Demand *d)
{
	int			h,
				k;

	for (h = 0; h < a->nhorizons; h++)
		for (k = 0; k < WORLD_USERS; k++)
			d->rate[h * WORLD_USERS + k] =
				world_rate(a->world, f, k, a->step + a->horizons[h]);
	item->evidence = 1e9;
	item->nhorizons = a->nhorizons;
	item->horizons = a->horizons;
	item->rate = d->rate;
}

/* False when nobody but the owner uses it. */
static bool
fill_demand(Arena *a, int f, FaPlaceItem *item, Demand *d)
{
	const float *recent = a->recent + (size_t) f * ARENA_RECENT * WORLD_USERS;
	bool		others = false;
	int			k,
				i;

	item->active = d->active;
	if (a->kind == ARENA_PREDICTIVE)
	{
		/* the nodes seen are the first of those that the predictor writes */
		item->nactive = fa_predictor_profile_seen(a->predictor, f, a->horizons,
												  a->nhorizons, d->seen,
												  d->rate, &item->evidence);
		item->nhorizons = a->nhorizons;
		item->horizons = a->horizons;
		item->rate = d->rate;
		memcpy(d->active, d->seen, sizeof(d->active));
	}
	else
	{
		item->nactive = WORLD_USERS;
		for (k = 0; k < WORLD_USERS; k++)
			d->active[k] = world_user(a->world, f, k);
	}
	if (a->kind == ARENA_TOLD)
		tell_truth(a, f, item, d);
	for (i = 0; i < item->nactive; i++)
		others |= d->active[i] != item->owner;
	/* in a group, the owner's accesses count against those to the others */
	if (!others && a->cluster.group == NULL)
		return false;
	memset(d->recent, 0, sizeof(d->recent));
	for (i = 0; i < item->nactive; i++)
	{
		int			at = 0;

		while (world_user(a->world, f, at) != d->active[i])
			at++;
		for (k = 0; k < ARENA_RECENT; k++)
			d->recent[k * item->nactive + i] = recent[k * WORLD_USERS + at];
	}
	item->recent = d->recent;
	item->nrecent = ARENA_RECENT;
	return others;
}

/* Fragments of f's group, and where it ends. */
static int
group_end(const Arena *a, int lead)
{
	int			end = lead + a->world->group;

	return end < a->world->nfragments ? end : a->world->nfragments;
}

/* What all of a group are used for, by user; false: by nobody else. */
static bool
fill_group(Arena *a, int lead, FaPlaceItem *item, Demand *sum)
{
	bool		others = false;
	int			f,
				i,
				k,
				at;

	memset(sum, 0, sizeof(*sum));
	item->evidence = 0;
	for (f = lead; f < group_end(a, lead); f++)
	{
		FaPlaceItem one = {.owner = a->owner[f]};
		Demand		d;

		others |= fill_demand(a, f, &one, &d);
		item->evidence += one.evidence;
		for (i = 0; i < one.nactive; i++)
		{
			for (at = 0; world_user(a->world, lead, at) != d.active[i]; at++)
				;
			for (k = 0; k < one.nhorizons; k++)
				sum->rate[k * WORLD_USERS + at] += d.rate[k * one.nactive + i];
			for (k = 0; k < one.nrecent; k++)
				sum->recent[k * WORLD_USERS + at] += d.recent[k * one.nactive + i];
		}
	}
	for (k = 0; k < WORLD_USERS; k++)
		sum->active[k] = world_user(a->world, lead, k);
	return others;
}

/* A fragment's part of that. */
static void
take_part(Arena *a, int f, const Demand *sum, FaPlaceItem *item, Demand *d)
{
	int			lead = world_lead(a->world, f);
	double		all = 0;
	double		part;
	int			i;

	item->group = 1 + lead / a->world->group;
	for (i = lead; i < group_end(a, lead); i++)
		all += move_cost(a, i);
	part = move_cost(a, f) / all;
	*d = *sum;
	for (i = 0; i < ARENA_AHEAD * WORLD_USERS; i++)
		d->rate[i] *= part;
	for (i = 0; i < ARENA_RECENT * WORLD_USERS; i++)
		d->recent[i] *= part;
	item->nactive = WORLD_USERS;
	item->active = d->active;
	item->recent = d->recent;
	item->nrecent = ARENA_RECENT;
	if (a->kind < ARENA_PREDICTIVE)
		return;
	item->nhorizons = a->nhorizons;
	item->horizons = a->horizons;
	item->rate = d->rate;
}

/* Room for those whose group has gone ahead; true: it is in parts. */
static bool
keep_room(Arena *a, int lead, int64_t step)
{
	int			number = 1 + lead / a->world->group;
	FaPlaceGroup *group = &a->cluster.group[number];
	bool		apart = false;
	int			f;

	group->bytes = 0;
	group->n = 0;
	for (f = lead; f < group_end(a, lead); f++)
	{
		group->member[group->n++] = (FaPlaceMember) {.id = f,
			.owner = a->owner[f],.heading = -1,
			.arrived = step - a->moved[f] <= (a->residency > FA_FOLLOW_STEPS ?
											  a->residency : FA_FOLLOW_STEPS),
			.since_move_ms = (step - a->moved[f]) * a->cluster.step_ms,
		.bytes = world_bytes(a->world, f),.may_follow = true};
		apart |= a->owner[f] != a->owner[lead];
	}
	fa_keep_for_group(&a->cluster, number);
	return apart;
}

static void
keep_rooms(Arena *a, int64_t step)
{
	int			lead;

	a->tally.apart = 0;
	if (a->cluster.group == NULL)
		return;
	fa_keep_nothing(&a->cluster);
	for (lead = 0; lead < a->world->nfragments; lead += a->world->group)
		a->tally.apart += keep_room(a, lead, step);
	if (a->tally.apart > a->tally.most_apart)
		a->tally.most_apart = a->tally.apart;
}

static void
keep(Wants *w, const FaPlaceItem *item, const FaDecision *decision)
{
	if (w->n == w->room)
	{
		w->room = w->room ? w->room * 2 : 1024;
		w->item = realloc(w->item, sizeof(FaPlaceItem) * w->room);
		w->decision = realloc(w->decision, sizeof(FaDecision) * w->room);
		if (w->item == NULL || w->decision == NULL)
			exit(3);
	}
	w->item[w->n] = *item;
	w->decision[w->n++] = *decision;
}

/* Looks at every fragment. */
static void
decide_all(Arena *a, int64_t step, Wants *wants)
{
	bool		grouped = a->cluster.group != NULL;
	bool		used = false;
	FaPlaceItem group = {0};
	Demand		sum;
	int			f;

	for (f = 0; f < a->world->nfragments; f++)
	{
		double		bytes = world_bytes(a->world, f);
		FaPlaceItem item = {.id = f,.owner = a->owner[f],
			.previous_owner = a->previous[f],.bytes = bytes,
			.since_move_ms = (step - a->moved[f]) * a->cluster.step_ms,
			.move_ms = bytes / 1e5,.cost_ms = move_cost(a, f)};
		FaDecision	decision;
		Demand		demand;

		if (grouped && f == world_lead(a->world, f))
			used = fill_group(a, f, &group, &sum);
		if (grouped ? !used : !fill_demand(a, f, &item, &demand))
			continue;
		if (grouped)
		{
			item.evidence = group.evidence;
			take_part(a, f, &sum, &item, &demand);
		}
		fa_decide_item(&a->cluster, &a->policy, &item, &decision);
		a->tally.decided++;
		a->tally.no_room += decision.verdict == FA_VERDICT_CAPACITY;
		if (decision.verdict == FA_VERDICT_MOVE)
			keep(wants, &item, &decision);
	}
}

/* How far a step is from the nearest turn of a fragment with a season. */
static void
count_turn(Arena *a, int f, int64_t step)
{
	int			half = a->world->season / 2;
	int			after = (step + world_phase(a->world, f)) % half;

	if (after > half / 2)
		after -= half;
	if (abs(after) <= ARENA_TURNS / 2)
		a->tally.turned[after + ARENA_TURNS / 2]++;
}

static void
carry_out(Arena *a, const FaPlaceItem *item, const FaDecision *decision,
		  int64_t step)
{
	int			f = item->id;
	WorldKind	kind = world_kind(a->world, f);
	bool		returns = decision->destination == a->previous[f] &&
		step - a->moved[f] <= 2 * a->residency;

	a->tally.moves++;
	a->tally.moves_of[kind]++;
	a->tally.returns_of[kind] += returns;
	a->tally.reactive += decision->trigger == FA_TRIGGER_REACTIVE;
	a->tally.returns += returns;
	if (returns)
	{
		double		net = a->saved_ms[f] - 2 * item->cost_ms;

		a->tally.paid += net > 0;
		a->tally.paid_of[kind] += net > 0;
		a->tally.paid_ms += fmax(net, 0);
		a->tally.thrash_ms += fmax(-net, 0);
	}
	if (kind == WORLD_SEASON)
		count_turn(a, f, step + 1);
	a->saved_ms[f] = 0;
	a->tally.bytes += item->bytes;
	a->tally.moving_ms += item->cost_ms;
	a->cluster.node[item->owner].used -= item->bytes;
	a->previous[f] = item->owner;
	a->owner[f] = decision->destination;
	a->moved[f] = step;
}

static void
decide_step(Arena *a, int64_t step)
{
	Wants		wants = {0};
	FaPlaceCluster *c = &a->cluster;
	int			admitted;
	int			i;

	a->step = step;
	a->policy.min_residency_ms = a->residency * c->step_ms;
	choose_horizons(a);
	for (i = 0; i < c->nnodes; i++)
	{
		c->node[i].alive = world_alive(a->world, i, step);
		c->node[i].incoming = c->node[i].outgoing = 0;
	}
	keep_rooms(a, step);
	decide_all(a, step, &wants);
	admitted = fa_decide_admit(c, wants.item, wants.decision, wants.n, 0);
	for (i = 0; i < c->nnodes; i++)
	{
		double		over = c->node[i].used - c->node[i].capacity;

		if (c->node[i].capacity > 0 && over > a->tally.overfull)
			a->tally.overfull = over;
	}
	for (i = 0; i < wants.n; i++)
	{
		if (wants.decision[i].verdict == FA_VERDICT_MOVE)
			carry_out(a, &wants.item[i], &wants.decision[i], step);
	}
	if (admitted > a->tally.most_moves)
		a->tally.most_moves = admitted;
	free(wants.item);
	free(wants.decision);
}

void
arena_step(Arena *a, int64_t step)
{
	int			ncells = world_cells(a->world, step, a->cells);
	clock_t		began;
	double		took;

	count_step(a, ncells, step);
	if (a->predictor)
	{
		bool	   *known = sim_alloc(a->world->nnodes, sizeof(bool));
		int			n;

		for (n = 0; n < a->world->nnodes; n++)
			known[n] = world_alive(a->world, n, step);
		began = clock();
		fa_predictor_observe(a->predictor, step, a->cells, ncells, known);
		a->tally.observe_s += seconds_since(began);
		free(known);
	}
	if (a->kind == ARENA_NEVER)
		return;
	began = clock();
	decide_step(a, step);
	took = seconds_since(began);
	a->tally.decide_s += took;
	if (took > a->tally.most_decide_s)
		a->tally.most_decide_s = took;
}

void
arena_optimum(const Arena *a, double *cost_ms_p, double *remote_p)
{
	int			f;

	*cost_ms_p = *remote_p = 0;
	for (f = 0; f < a->world->nfragments; f++)
	{
		const FaWay *way = a->way + (size_t) f * (WORLD_USERS + 1);

		way += fa_hindsight_best(way, WORLD_USERS + 1);
		*cost_ms_p += way->cost_ms;
		*remote_p += way->remote;
	}
}
