/*
 * test_profile_seen.c
 *	  Forecasts of the nodes that use a fragment alone, against those of all.
 */
#include "unit.h"

#define NODES 40
#define FRAGMENTS 30
#define AHEAD 5

/* Each fragment is used by three nodes, in turns; the last one hardly. */
static int
demand(int64_t step, FaCell *cells, void *arg)
{
	uint64_t   *seed = arg;
	int			n = 0;

	for (int f = 0; f < FRAGMENTS; f++)
		for (int k = 0; k < 3; k++)
		{
			double		mean = f == FRAGMENTS - 1 ? 0.01 :
				(step / 6 + f) % 3 == k ? 4 : 0.3;
			int			y = unit_poisson(seed, mean);

			if (y > 0)
				cells[n++] = (FaCell) {(f * 7 + k * 11) % NODES, f, y};
		}
	return n;
}

static void
test_same_as_of_all(void **state)
{
	static const int horizons[] = {1, 4, 12};
	static const int ahead[AHEAD] = {1, 2, 4, 8, 12};
	FaPredictor *p = unit_create(NODES, FRAGMENTS + 1, 3, horizons, 48);
	uint64_t	seed = 3;
	double		all[AHEAD * NODES];
	double		seen[AHEAD * NODES];
	int			node[NODES];
	double		evidence;
	int			compared = 0;

	(void) state;
	assert_int_equal(fa_predictor_profile_seen(p, 0, ahead, AHEAD, node, seen,
											   &evidence), 0);
	for (int round = 0; round < 4; round++)
	{
		unit_feed(p, round * 20, round * 20 + 20, demand, &seed);
		for (int f = 0; f < FRAGMENTS + 1; f++)
		{
			double		e = fa_predictor_profile(p, f, ahead, AHEAD, all);
			int			n = fa_predictor_profile_seen(p, f, ahead, AHEAD, node,
													  seen, &evidence);

			assert_float_equal(e, evidence, 1e-12);
			for (int a = 0; a < AHEAD; a++)
			{
				double		sum = 0;
				double		part = 0;

				for (int k = 0; k < NODES; k++)
					sum += all[a * NODES + k];
				for (int i = 0; i < n; i++)
				{
					assert_float_equal(seen[a * n + i],
									   all[a * NODES + node[i]],
									   1e-9 * (sum + 1e-9));
					part += seen[a * n + i];
					compared++;
				}
				/* what is left out is little, once something is known */
				if (evidence > 100)
					assert_true(part > 0.95 * sum);
			}
		}
	}
	assert_true(compared > 1000);
	assert_int_equal(fa_predictor_profile_seen(p, FRAGMENTS, ahead, AHEAD,
											   node, seen, &evidence), 0);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
