/*
 * scale.c
 *	  A large cluster: how long decisions take, and what they are worth.
 *
 * A world of steady, seasonal, drifting, uniform and alternating demand and of
 * flash crowds is lived through under several policies, one after the other;
 * a node is away for a while in the middle.  The first season (-w steps) is
 * for learning and does not count.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "arena.h"
#include "trace.h"

typedef struct Options
{
	World		world;
	int			steps;
	int			learn;			/* of them, not counted */
	int			max_moves;		/* in a step */
	int			max_moves_node;
	double		capacity;		/* times the mean; 0: none */
	uint32_t	models;
	bool		skip_reactive;
	bool		told;
} Options;

static const char *const kind_names[WORLD_NKINDS] = {
	[WORLD_STEADY] = "steady",[WORLD_SEASON] = "seasonal",
	[WORLD_DRIFT] = "drifting",[WORLD_FLASH] = "flash crowds",
	[WORLD_UNIFORM] = "uniform",[WORLD_ALTERNATE] = "alternating",
};
static const char *const names[] = {"never", "reactive", "predictive", "told"};

static void
usage(void)
{
	fprintf(stderr, "usage: scale [-n nodes] [-f fragments] [-t steps]"
			" [-w steps of learning] [-s season] [-a accesses a fragment and step]"
			" [-m moves in a step] [-p moves of a node in a step]"
			" [-c capacity, in mean loads] [-r seed] [-g fragments used together]"
			" [-l with lstm] [-x without the reactive policy]"
			" [-o with the decisions told the true means]\n");
	exit(2);
}

static void
parse_options(int argc, char **argv, Options *o)
{
	int			c;

	while ((c = getopt(argc, argv, "n:f:t:w:s:a:m:p:c:r:g:lxo")) != -1)
		switch (c)
		{
			case 'n': o->world.nnodes = atoi(optarg); break;
			case 'f': o->world.nfragments = atoi(optarg); break;
			case 't': o->steps = atoi(optarg); break;
			case 'w': o->learn = atoi(optarg); break;
			case 's': o->world.season = atoi(optarg); break;
			case 'a': o->world.per_step = atof(optarg); break;
			case 'm': o->max_moves = atoi(optarg); break;
			case 'p': o->max_moves_node = atoi(optarg); break;
			case 'c': o->capacity = atof(optarg); break;
			case 'r': o->world.seed = atoi(optarg); break;
			case 'g': o->world.group = atoi(optarg); break;
			case 'l': o->models = 0; break;
			case 'x': o->skip_reactive = true; break;
			case 'o': o->told = true; break;
			default: usage();
		}
	if (o->world.nnodes < WORLD_USERS + 1 || o->world.nfragments < 1 ||
		o->world.season < 4 || o->learn < 0 || o->steps <= o->learn)
		usage();
	o->world.drift = 2 * o->world.season;
	o->world.lost = 1;
	o->world.lost_from = o->learn + (o->steps - o->learn) / 3;
	o->world.lost_to = o->learn + (o->steps - o->learn) / 2;
}

/* Nine of ten where they are used most, the others anywhere. */
static void
place(const World *w, int *owner_p)
{
	int			f;

	for (f = 0; f < w->nfragments; f++)
	{
		int			lead = world_lead(w, f);

		owner_p[f] = world_random(w->seed, 99, lead, 0) < 0.9 ?
			world_user(w, f, 0) : world_random(w->seed, 98, lead, 0) * w->nnodes;
	}
}

static void
live(const Options *o, ArenaKind kind, const int *owner, double *never_ms)
{
	Arena		a;
	ArenaTally	t;
	struct rusage usage;
	double		mean = 0;
	double		cost;
	double		best_cost;
	double		best_remote;
	int			n,
				s;

	arena_begin(&a, &o->world, kind, owner, o->models, true);
	a.cluster.max_moves = o->max_moves;
	a.cluster.max_moves_node = o->max_moves_node;
	for (n = 0; n < o->world.nnodes; n++)
		mean += a.cluster.node[n].used / o->world.nnodes;
	for (n = 0; n < o->world.nnodes; n++)
		a.cluster.node[n].capacity = o->capacity * mean;
	for (s = 0; s < o->learn; s++)
		arena_step(&a, s);
	arena_restart(&a);
	for (; s < o->steps; s++)
		arena_step(&a, s);
	t = a.tally;
	arena_optimum(&a, &best_cost, &best_remote);
	getrusage(RUSAGE_SELF, &usage);
	cost = t.waiting_ms + t.moving_ms;
	if (kind == ARENA_NEVER)
		*never_ms = cost;
	s = o->steps - o->learn;
	printf("%-10s local %.4f  waiting %.3f ms an access, with moves %.3f, of"
		   " never's %.3f; optimum from there: local %.4f, %.3f ms\n",
		   names[kind], 1 - t.remote / t.accesses, t.waiting_ms / t.accesses,
		   cost / t.accesses, cost / *never_ms,
		   1 - best_remote / t.accesses, best_cost / t.accesses);
	printf("%-10s moves %ld (%.2f per 1000 fragments and step, %d at most in"
		   " one), reactive %ld, back within twice the residency %ld, no room"
		   " %ld, overfull %.0f bytes\n", "", t.moves,
		   1000.0 * t.moves / s / o->world.nfragments, t.most_moves,
		   t.reactive, t.returns, t.no_room, t.overfull);
	for (n = 0; n < WORLD_NKINDS && kind != ARENA_NEVER; n++)
		printf("%s%s %ld, back paid %ld, thrash %ld%s",
			   n == 0 ? "           moves of " : "; ", kind_names[n],
			   t.moves_of[n], t.paid_of[n], t.returns_of[n] - t.paid_of[n],
			   n == WORLD_NKINDS - 1 ? "\n" : "");
	for (n = 0; n < ARENA_TURNS && t.moves_of[WORLD_SEASON] > 0; n++)
		printf("%s%+d %ld%s", n == 0 ? "           of the seasonal, so many steps"
			   " after the turn: " : ", ", n - ARENA_TURNS / 2, t.turned[n],
			   n == ARENA_TURNS - 1 ? "\n" : "");
	if (o->world.group > 1 && kind != ARENA_NEVER)
		printf("%-10s groups of %d that are in parts: %ld, %ld at most\n", "",
			   o->world.group, t.apart, t.most_apart);
	if (t.returns > 0)
		printf("%-10s of those that went back, %ld had paid for both moves and"
			   " saved %.1f s beyond that; %ld had not (thrash), and lost"
			   " %.1f s\n", "", t.paid, t.paid_ms / 1000,
			   t.returns - t.paid, t.thrash_ms / 1000);
	if (kind != ARENA_NEVER)
		printf("%-10s a step: learn %.2f s, forecast and decide %.2f s (most"
			   " %.2f), %.1f us a fragment decided about (%ld a step); predictor"
			   " %.0f MB, process at most %.0f MB\n", "", t.observe_s / s,
			   t.decide_s / s, t.most_decide_s,
			   1e6 * t.decide_s / (t.decided + 1), t.decided / s,
			   a.predictor ? fa_predictor_memory(a.predictor) / 1e6 : 0,
			   usage.ru_maxrss / 1e3);
	fflush(stdout);
	arena_end(&a);
}

int
main(int argc, char **argv)
{
	Options		o = {.steps = 144,.learn = 72,.max_moves = 1000,
		.max_moves_node = 4,.capacity = 2,
		.models = (1 << FA_MODEL_STATIC) | (1 << FA_MODEL_RECENT) |
		(1 << FA_MODEL_SEASONAL),
		.world = {.nnodes = 100,.nfragments = 10000,.nregions = 5,
			.season = 24,.per_step = 2,.seed = 1,
			.share = {[WORLD_STEADY] = 0.5,[WORLD_SEASON] = 0.2,
				[WORLD_DRIFT] = 0.1,[WORLD_FLASH] = 0.1,
	[WORLD_UNIFORM] = 0.05,[WORLD_ALTERNATE] = 0.05}}};
	double		never_ms = 0;
	int		   *owner;
	int			kind;

	parse_options(argc, argv, &o);
	owner = sim_alloc(o.world.nfragments, sizeof(int));
	place(&o.world, owner);
	printf("%d nodes, %d fragments, %d steps counted after %d of learning,"
		   " season %d\n", o.world.nnodes, o.world.nfragments,
		   o.steps - o.learn, o.learn, o.world.season);
	for (kind = ARENA_NEVER; kind <= (o.told ? ARENA_TOLD : ARENA_PREDICTIVE); kind++)
	{
		if (kind != ARENA_REACTIVE || !o.skip_reactive)
			live(&o, kind, owner, &never_ms);
	}
	free(owner);
	return 0;
}
