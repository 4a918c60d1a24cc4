/*
 * test_ahead.c
 *	  Decisions in the middle of a step: src/placement/plan.c and decide.c.
 */
#include "unit.h"

#include "decide_world.h"

/* 0.4 of the step is over, and a move takes 0.2. */
static void
world_in_step(World *w)
{
	world_init(w);
	w->cluster.elapsed_steps = 0.4;
	w->item.move_ms = 200;
}

/* The owner expects 50 accesses a step before a step, the other one after it. */
static void
expect_change(World *w, int step)
{
	for (int h = 0; h < H; h++)
	{
		w->rate[h * N] = h < step ? 50 : 0;
		w->rate[h * N + 1] = h < step ? 0 : 50;
	}
}

/* A move that would be late at the next decision is asked for ahead. */
static void
test_asked_for_ahead(void **state)
{
	World		w;
	FaDecision	d;
	char		buf[400];

	(void) state;
	world_in_step(&w);
	expect_change(&w, 1);
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_LATER);
	assert_float_equal(d.wait_steps, 0.6, 1e-9);
	w.cluster.again_steps = 1;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_int_equal(d.destination, 1);
	assert_float_equal(d.wait_steps, 0.4, 1e-9);
	assert_float_equal(d.hold_steps, H - 1, 1e-9);
	assert_float_equal(d.affinity, 1, 1e-9);
	assert_float_equal(d.benefit_ms, 50 * 4 * (H - 1), 1e-6);
	(void) fa_decide_reason(&w.cluster, &w.policy, &w.item, &d, "eu", "us", buf,
							sizeof(buf));
	assert_non_null(strstr(buf, "; threshold 0.40, begins in 0.4 s"));

	/* there is another decision before this one must begin */
	expect_change(&w, 2);
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_LATER);
	assert_float_equal(d.wait_steps, 1.4, 1e-9);
}

/* The fragment will have stayed for long enough when the move begins. */
static void
test_residency_by_then(void **state)
{
	World		w;

	(void) state;
	world_in_step(&w);
	w.cluster.again_steps = 1;
	expect_change(&w, 1);
	w.policy.min_residency_ms = 1000;
	w.item.since_move_ms = 700;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
	w.item.since_move_ms = 500;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_RESIDENCY);
}

/* What is over of a step cannot be saved any more. */
static void
test_rest_of_a_step(void **state)
{
	World		w;
	FaDecision	d;

	(void) state;
	world_in_step(&w);
	w.rate[1] = 50;
	w.item.cost_ms = 150;
	assert_int_equal(decide(&w).verdict, FA_VERDICT_COST);
	w.item.cost_ms = 70;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_float_equal(d.wait_steps, 0, 1e-9);
	assert_float_equal(d.benefit_ms, 0.4 * 50 * 4, 1e-6);
	assert_float_equal(d.accesses, 0.4 * 50, 1e-6);
	w.cluster.elapsed_steps = 0;
	w.item.cost_ms = 150;
	d = decide(&w);
	assert_int_equal(d.verdict, FA_VERDICT_MOVE);
	assert_float_equal(d.benefit_ms, 0.8 * 50 * 4, 1e-6);
}

/* A decision that is very late still has a future to look at. */
static void
test_very_late(void **state)
{
	World		w;

	(void) state;
	world_in_step(&w);
	w.cluster.again_steps = 1;
	expect_change(&w, 0);
	for (w.cluster.elapsed_steps = 0.9; w.cluster.elapsed_steps < 2 * H;
		 w.cluster.elapsed_steps += 0.7)
		assert_int_equal(decide(&w).verdict, FA_VERDICT_MOVE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asked_for_ahead),
		cmocka_unit_test(test_residency_by_then),
		cmocka_unit_test(test_rest_of_a_step),
		cmocka_unit_test(test_very_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
