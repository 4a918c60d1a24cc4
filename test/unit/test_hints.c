/*
 * test_hints.c
 *	  Windows that come again, and shares with hints in them.
 */
#include "unit.h"

#include "predict/hints.h"

#define NODES 3

/* Counted moment by moment. */
static double
slow_overlap(const FaHintPull *p, int64_t from, int64_t to)
{
	int64_t		in = 0;

	for (int64_t t = from; t < to; t++)
	{
		int64_t		at = t - p->starting;

		if (at >= 0 && (p->every <= 0 ? at : at % p->every) < p->lasting)
			in++;
	}
	return p->lasting <= 0 ? 1 : (double) in / (double) (to - from);
}

static void
windows_are_met(void **state)
{
	uint64_t	rng = 4;

	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		FaHintPull	p = {.starting = (int64_t) (unit_uniform(&rng) * 60) - 30,
			.lasting = (int64_t) (unit_uniform(&rng) * 12),
		.every = (int64_t) (unit_uniform(&rng) * 15)};
		int64_t		from = (int64_t) (unit_uniform(&rng) * 80) - 40;
		int64_t		to = from + 1 + (int64_t) (unit_uniform(&rng) * 50);

		assert_true(fabs(fa_hints_overlap(&p, from, to) -
						 slow_overlap(&p, from, to)) < 1e-9);
	}
}

static bool
some_shares(void *arg, int fragment, double *p)
{
	(void) arg;
	if (fragment > 5)
		return false;
	p[0] = 0;
	p[1] = 0.25;
	p[2] = 0.75;
	return true;
}

static void
shares_are_mixed(void **state)
{
	FaHintPull	pull[] = {{4, 1, 0.5, 0, 0, 0}, {1, 2, 1, 100, 10, 0},
	{1, 9, 1, 0, 0, 0}};
	FaHintLink	link[] = {{5, 4, 0.5}, {9, 4, 1}, {4, 4, 1}, {4, 2, 1}};
	FaHints		hints = {3, pull, 4, link};
	double		scratch[NODES];
	double		p[NODES] = {1, 0, 0};
	double		sum;

	(void) state;
	fa_hints_sort(&hints);
	assert_true(fa_hints_concern(&hints, 1));
	assert_true(fa_hints_concern(&hints, 2));
	assert_true(fa_hints_concern(&hints, 4));
	assert_false(fa_hints_concern(&hints, 3));
	assert_false(fa_hints_concern(NULL, 3));

	/* half of what 5 has, then half pulled to node 1 */
	fa_hints_apply(&hints, 4, 0, 10, NODES, some_shares, NULL, scratch, p);
	assert_true(fabs(p[0] - 0.25) < 1e-12);
	assert_true(fabs(p[1] - 0.5625) < 1e-12);
	assert_true(fabs(p[2] - 0.1875) < 1e-12);

	/* a window, half of it inside; a node out of range does nothing */
	p[0] = 1;
	p[1] = p[2] = 0;
	fa_hints_apply(&hints, 1, 95, 105, NODES, some_shares, NULL, scratch, p);
	assert_true(fabs(p[0] - 0.5) < 1e-12 && fabs(p[2] - 0.5) < 1e-12);

	/* the leader's pull counts for who follows it */
	p[0] = 1;
	p[1] = p[2] = 0;
	fa_hints_apply(&hints, 2, 0, 10, NODES, some_shares, NULL, scratch, p);
	assert_true(fabs(p[1] - 0.625) < 1e-12);
	sum = p[0] + p[1] + p[2];
	assert_true(fabs(sum - 1) < 1e-12);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_are_met),
		cmocka_unit_test(shares_are_mixed),
	};

	return cmocka_run_group_tests_name("hints", tests, NULL, NULL);
}
