/*
 * test_policies.c
 *	  Policies on a small trace: what must hold between them.
 */
#include "unit.h"

#include "foretell.h"

#define STEPS 336
#define FROM 240
#define DAY 24
#define FRAGMENTS 4

/* By day on one node, by night on the other, each fragment at its own hours. */
static void
make_trace(Trace *trace)
{
	*trace = (Trace) {.nsteps = STEPS,.nnodes = 2,.nfragments = FRAGMENTS};
	trace->count = sim_alloc(STEPS * FRAGMENTS * 2, sizeof(float));
	sim_equal_distances(trace);
	for (int s = 0; s < STEPS; s++)
		for (int f = 0; f < FRAGMENTS; f++)
		{
			bool		day = (s + 6 * f) % DAY < DAY / 2;

			sim_cell(trace, s, f)[0] = day ? 20 : 3;
			sim_cell(trace, s, f)[1] = day ? 2 : 19;
		}
}

static void
test_order(void **state)
{
	static const double costs[] = {0.1, 1, 20, 500};
	static const int horizons[] = {1, 4, 12};
	Rules		rules = {.policy = {.threshold = 0.1,.doubt = 5},.reach = 24};
	Rules		past = {.policy = {.reactive = true,.reactive_threshold = 0.7,
	.reactive_steps = 3}};
	Span		span = {FROM, STEPS};
	Trace		trace;
	Foretold	told;
	Outcome		never;

	(void) state;
	make_trace(&trace);
	sim_foretell(&told, &trace, FROM, horizons, 3, DAY);
	never = sim_run_never(&trace, span);
	assert_int_equal(never.moves, 0);
	for (int i = 0; i < 4; i++)
	{
		Outcome		o = sim_run(&trace, span, &rules, costs[i], sim_foretold,
								&told);
		Outcome		r = sim_run(&trace, span, &past, costs[i], NULL, NULL);
		Slots		slots;
		Outcome		s;
		int		   *plan = sim_alloc((STEPS - FROM) * FRAGMENTS, sizeof(int));
		int		   *at = sim_alloc(FRAGMENTS, sizeof(int));
		Outcome		best = sim_run_optimum(&trace, span, costs[i], plan);
		long		moves = 0;
		double		local = 0;

		sim_slots_begin(&slots, &trace, DAY, 0.1);
		s = sim_run(&trace, span, &rules, costs[i], sim_slots, &slots);
		sim_slots_end(&slots);
		assert_true(o.total == never.total && r.total == never.total &&
					s.total == never.total && best.total == never.total);
		assert_true(sim_net(&o) >= sim_net(&never));
		assert_true(sim_net(&s) >= sim_net(&never));
		assert_true(sim_net(&best) >= sim_net(&o));
		assert_true(sim_net(&best) >= sim_net(&s));
		assert_true(sim_net(&best) >= sim_net(&r));
		if (costs[i] <= 1)
		{
			assert_true(sim_net(&o) > 0.8);
			assert_true(sim_net(&o) > sim_net(&r));
		}
		if (costs[i] > 300)
			assert_int_equal(o.moves + r.moves + best.moves, 0);
		/* the optimum's owners are what it says they bring */
		sim_first_owners(&trace, FROM, at);
		for (int t = 0; t < STEPS - FROM; t++)
			for (int f = 0; f < FRAGMENTS; f++)
			{
				int			owner = plan[t * FRAGMENTS + f];

				moves += owner != at[f];
				at[f] = owner;
				local += sim_cell(&trace, FROM + t, f)[owner];
			}
		assert_int_equal(moves, best.moves);
		assert_float_equal(local, best.local, 1e-6);
		free(plan);
		free(at);
	}
	free(told.rate);
	free(told.evidence);
	free(trace.count);
	free(trace.extra);
}

/* Nodes ten times as far, moves ten times as dear: all is ten times as much. */
static void
test_distances(void **state)
{
	static char *names[] = {"a", "b"};
	Rules		past = {.policy = {.reactive = true,.reactive_threshold = 0.7,
	.reactive_steps = 1}};
	Span		span = {FROM, STEPS};
	Trace		trace;
	Outcome		near;
	Outcome		far;
	Outcome		best;

	(void) state;
	make_trace(&trace);
	trace.node = names;
	near = sim_run(&trace, span, &past, 2, NULL, NULL);
	best = sim_run_optimum(&trace, span, 2, NULL);
	assert_true(near.moves > 0);
	assert_float_equal(near.waiting, near.total - near.local, 1e-6);
	assert_float_equal(best.waiting, best.total - best.local, 1e-6);
	sim_set_distances(&trace, "b-a=10,a-c=7");
	far = sim_run(&trace, span, &past, 20, NULL, NULL);
	assert_int_equal(far.moves, near.moves);
	assert_float_equal(far.waiting, 10 * near.waiting, 1e-3);
	assert_float_equal(sim_net(&far), sim_net(&near), 1e-9);
	best = sim_run_optimum(&trace, span, 20, NULL);
	assert_true(sim_net(&best) >= sim_net(&far));
	free(trace.count);
	free(trace.extra);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_distances),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
