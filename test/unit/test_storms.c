/*
 * test_storms.c
 *	  Demand that a controller must not run after, and limits that it must
 *	  keep, over some hundred steps: the predictor and the decisions together.
 */
#include "unit.h"

#include "arena.h"

#define NODES 8
#define FRAGMENTS 120
#define ALL ((1 << FA_MODEL_STATIC) | (1 << FA_MODEL_RECENT) | \
			 (1 << FA_MODEL_SEASONAL))

static World
make_world(WorldKind kind)
{
	World		w = {.nnodes = NODES,.nfragments = FRAGMENTS,.nregions = 3,
		.season = 24,.drift = 48,.per_step = 8,.lost = -1,.seed = 11};

	w.share[kind] = 1;
	return w;
}

/* Where the first user is, or all on one node. */
static void
place(const World *w, int node, int *owner_p)
{
	for (int f = 0; f < w->nfragments; f++)
		owner_p[f] = node >= 0 ? node : world_user(w, f, 0);
}

static ArenaTally
run(Arena *a, int from, int to)
{
	for (int t = from; t < to; t++)
		arena_step(a, t);
	return a->tally;
}

static ArenaTally
run_world(const World *w, ArenaKind kind, int steps, Arena *a)
{
	int			owner[FRAGMENTS];

	place(w, -1, owner);
	arena_begin(a, w, kind, owner, ALL, true);
	return run(a, 0, steps);
}

/* Nothing to gain, so nothing moves but at the very beginning. */
static void
test_uniform(void **state)
{
	World		w = make_world(WORLD_UNIFORM);
	Arena		a;
	ArenaTally	t;

	(void) state;
	w.nregions = 1;				/* no node in the middle either */
	t = run_world(&w, ARENA_PREDICTIVE, 200, &a);
	assert_true(t.accesses > 1e5);
	assert_true(t.moves < FRAGMENTS / 10);
	assert_int_equal(t.returns, 0);
	arena_end(&a);
}

/* Every other step: a move costs more than a step brings. */
static void
test_alternating(void **state)
{
	World		w = make_world(WORLD_ALTERNATE);
	Arena		a;
	ArenaTally	never = run_world(&w, ARENA_NEVER, 200, &a);
	ArenaTally	t;
	double		cost;
	double		remote;

	(void) state;
	arena_end(&a);
	t = run_world(&w, ARENA_PREDICTIVE, 200, &a);
	arena_optimum(&a, &cost, &remote);
	assert_true(t.returns <= FRAGMENTS / 20);
	assert_true(t.moves <= FRAGMENTS);
	assert_true(t.waiting_ms + t.moving_ms < 1.02 * never.waiting_ms);
	assert_true(cost <= t.waiting_ms + t.moving_ms);
	arena_end(&a);
}

/* Where moves pay they are made, and ahead of demand is better than after it. */
static void
test_seasons_pay(void **state)
{
	World		w = make_world(WORLD_SEASON);
	Arena		a;
	ArenaTally	never = run_world(&w, ARENA_NEVER, 240, &a);
	ArenaTally	reactive;
	ArenaTally	t;
	double		cost;
	double		remote;

	(void) state;
	arena_end(&a);
	reactive = run_world(&w, ARENA_REACTIVE, 240, &a);
	arena_end(&a);
	t = run_world(&w, ARENA_PREDICTIVE, 240, &a);
	arena_optimum(&a, &cost, &remote);
	assert_true(t.accesses == never.accesses && t.accesses == reactive.accesses);
	assert_true(t.waiting_ms + t.moving_ms <
				reactive.waiting_ms + reactive.moving_ms);
	assert_true(t.waiting_ms + t.moving_ms <
				0.75 * never.waiting_ms);
	assert_true(t.remote < reactive.remote);
	assert_true(cost <= t.waiting_ms + t.moving_ms && remote <= t.remote);
	assert_true(t.returns < t.moves / 10);
	arena_end(&a);
}

/* A node that wants everything gets what it has room for. */
static void
test_capacity(void **state)
{
	World		w = make_world(WORLD_STEADY);
	int			owner[FRAGMENTS];
	double		all = 0;
	Arena		a;
	ArenaTally	t;

	(void) state;
	w.nnodes = 5;
	place(&w, -1, owner);
	/* all start on nodes 1 to 4; node 0 is small, node 4 large */
	for (int f = 0; f < FRAGMENTS; f++)
	{
		all += world_bytes(&w, f);
		owner[f] = 1 + f % 4;
	}
	arena_begin(&a, &w, ARENA_PREDICTIVE, owner, ALL, false);
	for (int n = 0; n < 5; n++)
		a.cluster.node[n].capacity = n == 0 ? all / 40 : n == 4 ? 0 : all / 3;
	t = run(&a, 0, 100);
	assert_true(t.overfull == 0);
	assert_true(t.moves > FRAGMENTS / 3);
	assert_true(t.moves < 2 * FRAGMENTS);
	assert_true(a.cluster.node[0].used > all / 80);
	for (int n = 0; n < 5; n++)
	{
		double		used = 0;

		for (int f = 0; f < FRAGMENTS; f++)
			used += a.owner[f] == n ? world_bytes(&w, f) : 0;
		assert_float_equal(used, a.cluster.node[n].used, 1);
		assert_true(a.cluster.node[n].capacity == 0 ||
					used <= a.cluster.node[n].capacity);
	}
	arena_end(&a);
}

/* Everything on one node at first: it leaves at the pace of the limits. */
static void
test_no_storm(void **state)
{
	World		w = make_world(WORLD_STEADY);
	int			owner[FRAGMENTS];
	Arena		a;
	ArenaTally	t;

	(void) state;
	place(&w, 3, owner);
	arena_begin(&a, &w, ARENA_PREDICTIVE, owner, ALL, false);
	a.cluster.max_moves = 4;
	a.cluster.max_moves_node = 2;
	t = run(&a, 0, 120);
	assert_int_equal(t.most_moves, 2);	/* all from one node */
	assert_true(t.moves > FRAGMENTS / 2 && t.moves < FRAGMENTS * 1.2);
	assert_int_equal(t.returns, 0);
	arena_end(&a);
}

/* Groups come to their nodes whole, with little room to spare. */
static void
test_groups(void **state)
{
	World		w = make_world(WORLD_STEADY);
	int			owner[FRAGMENTS];
	double		all = 0;
	Arena		a;
	ArenaTally	t;

	(void) state;
	w.group = 3;
	place(&w, 3, owner);
	for (int f = 0; f < FRAGMENTS; f++)
		all += world_bytes(&w, f);
	arena_begin(&a, &w, ARENA_PREDICTIVE, owner, ALL, false);
	a.cluster.max_moves = 6;
	a.cluster.max_moves_node = 4;
	for (int n = 0; n < NODES; n++)
		a.cluster.node[n].capacity = n == 3 ? 0 : all / NODES * 0.8;
	t = run(&a, 0, 160);
	assert_true(t.moves > FRAGMENTS / 3);
	assert_true(t.most_apart > 0);	/* on their way */
	assert_int_equal(t.apart, 0);
	assert_true(t.overfull == 0);
	assert_int_equal(t.returns, 0);
	arena_end(&a);
}

/* A node is away for a while: nothing leaves or reaches it, no storm after. */
static void
test_node_lost_and_back(void **state)
{
	World		w = make_world(WORLD_STEADY);
	int			owner[FRAGMENTS];
	Arena		a;
	long		before;
	long		away;
	long		back;
	int			on_it = 0;
	int			on_it_later = 0;

	(void) state;
	w.lost = 2;
	w.lost_from = 100;
	w.lost_to = 140;
	place(&w, -1, owner);
	arena_begin(&a, &w, ARENA_PREDICTIVE, owner, ALL, false);
	before = run(&a, 0, 100).moves;
	for (int f = 0; f < FRAGMENTS; f++)
		on_it += a.owner[f] == 2;
	away = run(&a, 100, 140).moves - before;
	for (int f = 0; f < FRAGMENTS; f++)
		on_it_later += a.owner[f] == 2;
	assert_int_equal(on_it, on_it_later);
	assert_true(on_it > FRAGMENTS / NODES / 2);
	back = run(&a, 140, 240).moves - away - before;
	assert_true(away <= FRAGMENTS / 20);
	assert_true(back <= FRAGMENTS / 20);
	assert_int_equal(a.tally.returns, 0);
	arena_end(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_alternating),
		cmocka_unit_test(test_seasons_pay),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_no_storm),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_node_lost_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
