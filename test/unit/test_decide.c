/*
 * test_decide.c
 *	  Decisions about fragments: src/placement/decide.c and admit.c.
 */
#include "unit.h"

#include "decide_world.h"
#include "placement/keep_room.h"

/* Node expects so many accesses a step in steps [from, to). */
static void
expect(World *w, int node, int from, int to, double rate)
{
	for (int h = from; h < to; h++)
		w->rate[h * N + node] = rate;
}

static void
test_moves_to_demand(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	expect(&w, 0, 0, H, 2);
	expect(&w, 2, 0, H, 18);
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.trigger, FA_TRIGGER_PREDICTIVE);
	assert_int_equal(d.destination, 2);
	assert_float_equal(d.affinity, 0.9, 1e-6);
	assert_float_equal(d.owner_affinity, 0.1, 1e-6);
	assert_float_equal(d.accesses, 18 * H, 1e-6);
	/* 16 accesses a step more at 4 ms */
	assert_float_equal(d.benefit_ms, 16 * 4 * H, 1e-3);
	assert_float_equal(d.hold_steps, H, 1e-9);
}

static void
test_stays_with_owner(void **state)
{
	World		w;

	(void) state;
	world_init(&w);
	expect(&w, 0, 0, H, 18);
	expect(&w, 2, 0, H, 2);
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
	/* no forecast, no evidence, nobody expected */
	w.item.evidence = 0;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
	w.item.nhorizons = 0;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
	w.item.nactive = 0;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
}

static void
test_cost_and_doubt_hold_back(void **state)
{
	World		w;

	(void) state;
	world_init(&w);
	expect(&w, 2, 0, H, 18);
	w.item.cost_ms = 18 * 4 * H + 1;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_COST);
	w.item.cost_ms = 18 * 4 * H - 1;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	/* half believed, half saved */
	w.policy.doubt = 1000;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_COST);
	w.item.cost_ms = 18 * 4 * H / 2 - 1;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	/* and half of that did not come in the past */
	w.policy.unpaid = 0.5;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_COST);
	w.item.cost_ms = 18 * 4 * H / 4 - 1;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

static void
test_limits(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	expect(&w, 0, 0, H, 2);
	expect(&w, 1, 0, H, 9);
	expect(&w, 2, 0, H, 10);
	w.policy.threshold = 0.55;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_THRESHOLD);
	assert_float_equal(d.limit, 0.55, 1e-9);
	w.policy.threshold = 0.4;

	w.policy.hysteresis = 0.45;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_HYSTERESIS);
	/* going back needs twice the margin: the second best is taken */
	w.policy.hysteresis = 0.25;
	w.item.previous_owner = 2;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_HYSTERESIS);
	w.policy.hysteresis = 0.05;
	w.item.previous_owner = -1;

	w.policy.min_residency_ms = 3000;
	w.item.since_move_ms = 2999;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_RESIDENCY);
	w.item.since_move_ms = 3000;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);

	w.item.pinned = true;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_PINNED);
	w.item.pinned = false;
	w.policy.closed = true;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_WINDOW);
	w.policy.closed = false;

	w.item.moving = true;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVING);
	w.item.moving = false;

	/* no room at the best: the next best that passes */
	w.node[2].capacity = 500;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.destination, 1);
	w.node[1].capacity = 500;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_CAPACITY);
}

static void
test_nodes_that_cannot(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	expect(&w, 2, 0, H, 18);
	w.node[2].alive = false;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_DOWN);
	assert_int_equal(d.destination, 2);
	w.node[2].alive = true;
	w.node[2].draining = true;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_DRAINING);
	w.node[2].draining = false;
	w.node[0].alive = false;	/* the source */
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
}

/* A rise is waited for, and begun just early enough. */
static void
test_rise_is_met(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	w.item.move_ms = 1500;
	expect(&w, 0, 0, 6, 5);
	expect(&w, 2, 6, H, 50);
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_LATER);
	assert_int_equal(d.destination, 2);
	assert_float_equal(d.wait_steps, 4, 1e-9);

	/* four steps on: two before the rise, the move takes one and a half */
	memset(w.rate, 0, sizeof(w.rate));
	expect(&w, 0, 0, 2, 5);
	expect(&w, 2, 2, H, 50);
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

/* A peak that a move could not outlast, or that ends before it pays. */
static void
test_peak_is_left_alone(void **state)
{
	World		w;

	(void) state;
	world_init(&w);
	expect(&w, 0, 0, H, 10);
	expect(&w, 2, 0, 2, 40);
	/* 2 x 30 x 4 = 240 ms saved, two moves cost 200 */
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	w.item.cost_ms = 130;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_COST);
	/* bound for longer than the peak lasts */
	w.item.cost_ms = 100;
	w.policy.min_residency_ms = 8000;
	assert_int_not_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	/* a move as long as the peak */
	w.policy.min_residency_ms = 0;
	w.item.move_ms = 2000;
	assert_int_not_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

/* What the threshold would bar as a way back is no way back. */
static void
test_no_trap(void **state)
{
	World		w;

	(void) state;
	world_init(&w);
	for (int n = 0; n < N; n++)
		expect(&w, n, 0, H, 10);
	expect(&w, 0, 0, H, 14);	/* home: 14 of 44, below the threshold */
	expect(&w, 2, 0, 2, 60);
	w.item.cost_ms = 10;
	w.policy.threshold = 0.3;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	for (int h = 2; h < H; h++)
		w.rate[h * N] = 60 / 1.2;
	w.policy.threshold = 0.65;
	assert_int_not_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

static void
test_reactive(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	w.policy.reactive = true;
	w.item.nrecent = H;
	expect(&w, 0, 0, H, 3);		/* forecast: the owner */
	for (int k = 0; k < 4; k++)
		w.recent[k * N + 1] = 20;	/* for 4 steps: node 1 */
	for (int k = 4; k < H; k++)
		w.recent[k * N + 0] = 20;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.trigger, FA_TRIGGER_REACTIVE);
	assert_int_equal(d.destination, 1);
	assert_float_equal(d.benefit_ms, 4 * 20 * 4, 1);

	w.policy.reactive_steps = 5;	/* not for long enough */
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);
	w.policy.reactive_steps = 3;
	expect(&w, 1, 0, 1, 15);	/* foreseen to last one step more */
	assert_int_not_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	expect(&w, 1, 0, 1, 0);
	w.policy.reactive = false;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_STAY);

	/* without any forecast too */
	w.policy.reactive = true;
	w.item.nhorizons = 0;
	w.item.evidence = 0;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

static void
test_drain(void **state)
{
	FaPlaceMember member[2] = {{.id = 7,.heading = -1},
	{.id = 8,.heading = -1,.bytes = 1000,.may_follow = true}};
	FaPlaceGroup group[2] = {{0}, {.n = 2,.member = member}};
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	w.node[0].draining = true;
	expect(&w, 0, 0, H, 10);
	expect(&w, 3, 0, H, 1);
	fa_decide_drain(&w.cluster, &w.item, -1, &d);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.destination, 3);

	/* nobody expected: where most room is */
	memset(w.rate, 0, sizeof(w.rate));
	w.node[1].used = 5000;
	w.node[2].used = 100;
	w.node[3].used = 5000;
	fa_decide_drain(&w.cluster, &w.item, -1, &d);
	assert_int_equal(d.destination, 2);

	/* where its group is */
	fa_decide_drain(&w.cluster, &w.item, 3, &d);
	assert_int_equal(d.destination, 3);
	/* with room for all of that */
	w.node[3].capacity = 7000;
	w.cluster.group = group;
	w.item.group = 1;
	fa_decide_drain(&w.cluster, &w.item, 3, &d);
	assert_int_equal(d.destination, 3);
	member[1].bytes = 1001;
	fa_decide_drain(&w.cluster, &w.item, 3, &d);
	assert_int_equal(d.destination, -1);
	w.item.group = 0;

	/* nowhere */
	w.node[1].alive = false;
	w.node[2].capacity = 1099;
	w.node[3].draining = true;
	fa_decide_drain(&w.cluster, &w.item, -1, &d);
	assert_int_equal(d.verdict, FA_VERDICT_CAPACITY);
	assert_int_equal(d.destination, -1);
	w.node[2].capacity = 1100;
	fa_decide_drain(&w.cluster, &w.item, -1, &d);
	assert_int_equal(d.destination, 2);
}

static void
test_admit(void **state)
{
	World		w;
	FaPlaceItem items[4];
	FaDecision	d[4];

	(void) state;
	world_init(&w);
	for (int i = 0; i < 4; i++)
	{
		items[i] = w.item;
		memset(&d[i], 0, sizeof(d[i]));
		d[i].verdict = FA_VERDICT_MOVE;
		d[i].destination = 1 + i % 3;
		d[i].benefit_ms = 1000 + i;
	}
	d[0].trigger = FA_TRIGGER_DRAIN;
	d[0].benefit_ms = 0;
	w.node[3].capacity = 500;
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 4, 0), 2);
	assert_int_equal(d[0].verdict, FA_VERDICT_MOVE);	/* drains first */
	assert_int_equal(d[3].verdict, FA_VERDICT_MOVE);	/* then the best */
	assert_int_equal(d[2].verdict, FA_VERDICT_CAPACITY);
	assert_int_equal(d[1].verdict, FA_VERDICT_BUSY);
	assert_int_equal(w.node[1].incoming, 2);
	assert_int_equal(w.node[0].outgoing, 2);
	assert_float_equal(w.node[1].used, 2000, 1e-9);

	/* with one under way there is room for one more */
	world_init(&w);
	for (int i = 0; i < 4; i++)
		d[i].verdict = FA_VERDICT_MOVE;
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 4, 1), 1);
	/* what is only recommended takes no turn from what is done */
	world_init(&w);
	for (int i = 0; i < 4; i++)
	{
		d[i].verdict = FA_VERDICT_MOVE;
		d[i].trigger = FA_TRIGGER_PREDICTIVE;
		items[i].advised = i != 1;
	}
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 4, 1), 1);
	assert_int_equal(d[1].verdict, FA_VERDICT_MOVE);
	assert_int_equal(d[3].verdict, FA_VERDICT_BUSY);
	/* no decision, no move */
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 0, 0), 0);
}

/* With the first of a group goes the room for the others. */
static void
test_admit_group(void **state)
{
	World		w;
	FaPlaceMember member[2];
	FaPlaceGroup group[2] = {{0}, {.n = 2,.member = member}};
	FaPlaceItem items[3];
	FaDecision	d[3];

	(void) state;
	world_init(&w);
	w.cluster.max_moves = w.cluster.max_moves_node = 10;
	w.cluster.group = group;
	w.node[1].capacity = 2500;
	for (int i = 0; i < 3; i++)
	{
		items[i] = w.item;
		items[i].id = i;
		items[i].bytes = 1000;
		items[i].group = i != 1;
		memset(&d[i], 0, sizeof(d[i]));
		d[i].verdict = FA_VERDICT_MOVE;
		d[i].destination = 1;
		d[i].benefit_ms = 1000 - i;
	}
	for (int m = 0; m < 2; m++)
		member[m] = (FaPlaceMember) {.id = 2 * m,.heading = -1,.bytes = 1000,
	.may_follow = true};
	/* the second is alone, and would be next */
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 3, 0), 2);
	assert_int_equal(d[0].verdict, FA_VERDICT_MOVE);
	assert_int_equal(d[1].verdict, FA_VERDICT_CAPACITY);
	assert_int_equal(d[2].verdict, FA_VERDICT_MOVE);
	assert_float_equal(w.node[1].used, 2000, 1e-9);
	assert_float_equal(w.node[1].kept, 0, 1e-9);

	/* no room for all of it: none of it */
	w.node[1].used = 600;
	member[0].heading = member[1].heading = -1;
	for (int i = 0; i < 3; i++)
		d[i].verdict = FA_VERDICT_MOVE;
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 3, 0), 1);
	assert_int_equal(d[1].verdict, FA_VERDICT_MOVE);

	/* one has gone ahead: the other's room is nobody else's */
	w.node[1].used = 1000;
	member[0] = (FaPlaceMember) {.id = 0,.owner = 1,.heading = -1,.arrived = true};
	fa_keep_for_group(&w.cluster, 1);
	assert_float_equal(w.node[1].kept, 1000, 1e-9);
	d[1].verdict = d[2].verdict = FA_VERDICT_MOVE;
	assert_int_equal(fa_decide_admit(&w.cluster, items + 1, d + 1, 2, 0), 1);
	assert_int_equal(d[1].verdict, FA_VERDICT_CAPACITY);
	assert_int_equal(d[2].verdict, FA_VERDICT_MOVE);
	assert_float_equal(w.node[1].used, 2000, 1e-9);
	assert_float_equal(w.node[1].kept, 0, 1e-9);
	/* nor does a decision look there for a place */
	w.node[1].used = 1000;
	member[1].heading = -1;
	fa_keep_for_group(&w.cluster, 1);
	fa_decide_drain(&w.cluster, &items[1], 1, &d[1]);
	assert_int_equal(d[1].verdict, FA_VERDICT_CAPACITY);
	fa_decide_drain(&w.cluster, &items[2], 1, &d[2]);
	assert_int_equal(d[2].verdict, FA_VERDICT_MOVE);
}

static void
test_budget(void **state)
{
	World		w;
	FaPlaceItem items[3];
	FaDecision	d[3];

	(void) state;
	world_init(&w);
	w.cluster.max_moves = w.cluster.max_moves_node = 10;
	w.cluster.max_moves_hour = 5;
	w.cluster.moves_hour = 4;
	for (int i = 0; i < 3; i++)
	{
		items[i] = w.item;
		memset(&d[i], 0, sizeof(d[i]));
		d[i].verdict = FA_VERDICT_MOVE;
		d[i].destination = 1;
		d[i].benefit_ms = 1000 + i;
	}
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 3, 0), 1);
	assert_int_equal(d[2].verdict, FA_VERDICT_MOVE);
	assert_int_equal(d[1].verdict, FA_VERDICT_BUDGET);
	assert_int_equal(d[0].verdict, FA_VERDICT_BUDGET);
	assert_float_equal(w.cluster.moves_hour, 5, 1e-9);

	/* who waits for a drain is not held back by it */
	d[0].verdict = d[1].verdict = FA_VERDICT_MOVE;
	d[0].trigger = FA_TRIGGER_DRAIN;
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 2, 0), 1);
	assert_int_equal(d[0].verdict, FA_VERDICT_MOVE);

	/* bytes: a smaller one may still fit */
	w.cluster.max_moves_hour = 0;
	w.cluster.max_bytes_hour = 5000;
	w.cluster.bytes_hour = 3500;
	items[1].bytes = 2000;
	items[2].bytes = 1500;
	d[0].verdict = d[1].verdict = d[2].verdict = FA_VERDICT_MOVE;
	d[0].trigger = FA_TRIGGER_PREDICTIVE;
	d[1].benefit_ms = 9000;
	assert_int_equal(fa_decide_admit(&w.cluster, items, d, 3, 0), 1);
	assert_int_equal(d[1].verdict, FA_VERDICT_BUDGET);
	assert_int_equal(d[2].verdict, FA_VERDICT_MOVE);
	assert_int_equal(d[0].verdict, FA_VERDICT_BUDGET);
}

static void
test_many_nodes(void **state)
{
	enum
	{
		MANY = 300
	};
	static double extra[MANY * MANY];
	static double rate[MANY];
	static FaPlaceNode node[MANY];
	static int	active[MANY];
	static const int far[] = {10080};
	World		w;
	FaDecision	d;

	(void) state;
	world_init(&w);
	for (int i = 0; i < MANY; i++)
	{
		node[i].alive = true;
		active[i] = i;
		rate[i] = 1;
		for (int j = 0; j < MANY; j++)
			extra[i * MANY + j] = i == j ? 0 : 1;
	}
	rate[251] = 400;
	w.cluster.nnodes = MANY;
	w.cluster.node = node;
	w.cluster.extra_ms = extra;
	w.item.nactive = MANY;
	w.item.active = active;
	w.item.nhorizons = 1;
	w.item.horizons = far;
	w.item.rate = rate;
	fa_decide_item(&w.cluster, &w.policy, &w.item, &d);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.destination, 251);
	assert_float_equal(d.hold_steps, 10080, 1e-6);
	assert_float_equal(d.benefit_ms, 399.0 * 10080, 10);
}

static void
test_reason(void **state)
{
	World		w;
	FaDecision	d;
	char		buf[512];

	(void) state;
	world_init(&w);
	expect(&w, 0, 0, H, 2);
	expect(&w, 2, 0, H, 18);
	d = decide(&w);
	(void) fa_decide_reason(&w.cluster, &w.policy, &w.item, &d, "eu", "us",
							buf, sizeof(buf));
	assert_string_equal(buf, "node eu 0.90 of next 12.0 s accesses (expected "
						"216), remote costs 4.0 ms each: saves 0.8 s, move "
						"costs 0.1 s; threshold 0.40");
	for (int v = 0; v < FA_NVERDICTS; v++)
	{
		d.verdict = v;
		assert_true(fa_decide_reason(&w.cluster, &w.policy, &w.item, &d, "eu",
									 "us", buf, sizeof(buf)) < 400);
		assert_true(strlen(fa_verdict_name(v)) > 0);
	}
	d.destination = -1;
	(void) fa_decide_reason(&w.cluster, &w.policy, &w.item, &d, "", "us", buf,
							sizeof(buf));
	assert_string_equal(buf, "us is the best place");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_to_demand),
		cmocka_unit_test(test_stays_with_owner),
		cmocka_unit_test(test_cost_and_doubt_hold_back),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_nodes_that_cannot),
		cmocka_unit_test(test_rise_is_met),
		cmocka_unit_test(test_peak_is_left_alone),
		cmocka_unit_test(test_no_trap),
		cmocka_unit_test(test_reactive),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_admit),
		cmocka_unit_test(test_admit_group),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_many_nodes),
		cmocka_unit_test(test_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
