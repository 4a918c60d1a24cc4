/*
 * test_hot_range.c
 *	  The part of a fragment that a node wants is found, and nothing else.
 */
#include "unit.h"

#include "placement/hot_range.h"

#define BINS 100

static double own[BINS];
static double others[BINS];

static void
spread(double *bins, int first, int last, double sum)
{
	for (int i = first; i <= last; i++)
		bins[i] += sum / (last - first + 1);
}

static void
start(double own_sum, double others_sum)
{
	memset(own, 0, sizeof(own));
	memset(others, 0, sizeof(others));
	spread(own, 0, BINS - 1, own_sum);
	spread(others, 0, BINS - 1, others_sum);
}

/* A twentieth of the rows has nine tenths of the node's accesses. */
static void
narrow_range(void **state)
{
	FaHotRange	r;

	(void) state;
	start(100, 3000);
	spread(own, 60, 64, 900);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, 60);
	assert_int_equal(r.last, 64);
	assert_true(fabs(r.share - 0.905) < 1e-9);
	assert_true(fabs(r.rows - 0.05) < 1e-9);
	assert_true(fabs(r.purity - 905.0 / (905 + 150)) < 1e-9);
}

/* At either end, and one bin alone. */
static void
ends(void **state)
{
	FaHotRange	r;

	(void) state;
	start(10, 0);
	spread(own, 0, 1, 100);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, 0);
	assert_int_equal(r.last, 1);
	start(10, 0);
	spread(own, BINS - 1, BINS - 1, 100);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, BINS - 1);
	assert_int_equal(r.last, BINS - 1);
}

/* What others want as much is left out, what they want less is not. */
static void
contended(void **state)
{
	FaHotRange	r;

	(void) state;
	start(100, 0);
	spread(own, 20, 39, 1000);
	spread(others, 20, 24, 1000);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, 25);
	assert_int_equal(r.last, 39);
	assert_true(r.purity > 0.999);
	spread(own, 20, 39, 3000);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.last, 39);
}

/* A cold gap is bridged when both sides are worth it; else the hotter wins. */
static void
gaps(void **state)
{
	FaHotRange	r;

	(void) state;
	start(0, 0);
	spread(own, 10, 14, 500);
	spread(own, 16, 20, 500);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, 10);
	assert_int_equal(r.last, 20);
	start(0, 0);
	spread(own, 10, 11, 500);
	spread(own, 90, 94, 600);
	assert_true(fa_hot_range(own, others, BINS, &r));
	assert_int_equal(r.first, 90);
	assert_int_equal(r.last, 94);
}

static void
nothing(void **state)
{
	FaHotRange	r;

	(void) state;
	start(0, 100);
	assert_false(fa_hot_range(own, others, BINS, &r));
	/* spread evenly: all of it, or none */
	start(1000, 0);
	assert_false(fa_hot_range(own, others, BINS, &r));
	start(1000, 5000);
	assert_false(fa_hot_range(own, others, BINS, &r));
	assert_false(fa_hot_range(own, others, 0, &r));
}

/* Whatever is fed: within bounds, shares are shares, and no range is better. */
static void
random_bins(void **state)
{
	uint64_t	seed = 7;

	(void) state;
	for (int round = 0; round < 500; round++)
	{
		int			n = 1 + (int) (unit_uniform(&seed) * 30);
		double		total = 0;
		double		best = 0;
		double		found = 0;
		FaHotRange	r;

		for (int i = 0; i < n; i++)
		{
			own[i] = unit_poisson(&seed, unit_uniform(&seed) * 20);
			others[i] = unit_poisson(&seed, unit_uniform(&seed) * 10);
			total += own[i];
		}
		for (int i = 0; i < n; i++)
		{
			double		sum = 0;

			for (int j = i; j < n; j++)
			{
				sum += own[j] - others[j] - total / n;
				best = sum > best ? sum : best;
			}
		}
		if (!fa_hot_range(own, others, n, &r))
			continue;
		assert_true(r.first >= 0 && r.first <= r.last && r.last < n);
		assert_true(r.share > 0 && r.share <= 1 + 1e-9);
		assert_true(r.purity > 0 && r.purity <= 1);
		for (int i = r.first; i <= r.last; i++)
			found += own[i] - others[i] - total / n;
		assert_true(fabs(found - best) < 1e-6);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(narrow_range),
		cmocka_unit_test(ends),
		cmocka_unit_test(contended),
		cmocka_unit_test(gaps),
		cmocka_unit_test(nothing),
		cmocka_unit_test(random_bins),
	};

	return cmocka_run_group_tests_name("hot_range", tests, NULL, NULL);
}
