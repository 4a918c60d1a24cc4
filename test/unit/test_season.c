/*
 * test_season.c
 *	  Seasons: found where they are, and only there.
 */
#include "unit.h"

#define NODES		3
#define FRAGMENTS	6

typedef struct Shape
{
	int			period[2];
	double		mean;
	bool		shares_only;	/* load changes places, no total does */
	uint64_t	seed;
	double		noise;			/* of a slow random level */
	double		level;
	int64_t		from;
} Shape;

static int
seasonal(int64_t step, FaCell *cells, void *arg)
{
	Shape	   *s = arg;
	int			n = 0;

	s->level = 0.97 * s->level + s->noise * (unit_uniform(&s->seed) - 0.5);
	for (int f = 0; f < FRAGMENTS; f++)
	{
		for (int i = 0; i < NODES; i++)
		{
			double		x = 1;
			int			y;

			for (int k = 0; k < 2; k++)
			{
				double		phase;

				if (s->period[k] == 0)
					continue;
				phase = 6.283185307 * (double) (step % s->period[k]) /
					s->period[k];
				if (s->shares_only)
					phase += 6.283185307 * (i + f) / 3.0;
				x *= 1 + 0.8 * cos(phase);
			}
			y = unit_poisson(&s->seed, s->mean * x * exp(s->level));
			if (y > 0)
				cells[n++] = (FaCell) {i, f, y};
		}
	}
	return n;
}

static int
find(Shape shape, int steps, int max_season, int *found)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 1, (int[]) {1}, max_season);
	int			n;

	unit_feed(p, shape.from, shape.from + steps, seasonal, &shape);
	n = fa_predictor_seasons(p, found, 4);
	fa_predictor_destroy(p);
	return n;
}

static void
finds_single_seasons(void **state)
{
	int			periods[] = {24, 7, 13, 60, 5};

	(void) state;
	for (int i = 0; i < 5; i++)
	{
		for (uint64_t seed = 1; seed <= 3; seed++)
		{
			int			found[4];
			Shape		shape = {{periods[i], 0}, 1.0, false, seed, 0, 0,
				(int64_t) seed * 1000003};

			assert_true(find(shape, 12 * periods[i] + 60, 200, found) >= 1);
			assert_int_equal(found[0], periods[i]);
		}
	}
}

static void
finds_a_season_in_shares(void **state)
{
	int			found[4];
	Shape		shape = {{24, 0}, 1.0, true, 3, 0, 0, 0};

	(void) state;
	assert_true(find(shape, 400, 100, found) >= 1);
	assert_int_equal(found[0], 24);
}

static void
finds_a_long_one_behind_a_short_one(void **state)
{
	int			found[4];
	Shape		shape = {{12, 84}, 2.0, false, 5, 0, 0, 7};

	(void) state;
	assert_int_equal(find(shape, 84 * 8, 100, found), 2);
	assert_int_equal(found[0], 84);
	assert_int_equal(found[1], 12);
}

static void
finds_none_in_noise(void **state)
{
	(void) state;
	for (uint64_t seed = 1; seed <= 12; seed++)
	{
		int			found[4];
		Shape		shape = {{0, 0}, 0.7, false, seed, 0, 0, 0};

		assert_int_equal(find(shape, 60 + 90 * (int) seed, 150, found), 0);
	}
}

/* A level that wanders slowly has no season either. */
static void
finds_none_in_wandering(void **state)
{
	int			wrong = 0;

	(void) state;
	for (uint64_t seed = 1; seed <= 12; seed++)
	{
		int			found[4];
		Shape		shape = {{0, 0}, 2.0, false, seed, 0.5, 0, 0};

		wrong += find(shape, 1000, 100, found) > 0;
	}
	assert_true(wrong <= 1);
}

static void
nothing_found_when_not_asked(void **state)
{
	int			found[4];
	Shape		shape = {{24, 0}, 1.0, false, 1, 0, 0, 0};

	(void) state;
	assert_int_equal(find(shape, 400, 0, found), 0);
	assert_int_equal(find(shape, 400, 20, found), 0);
}

/* What a season is for: it beats the long-run shares where load swings. */
static void
a_season_pays(void **state)
{
	FaPredictor *p = unit_create(NODES, FRAGMENTS, 1, (int[]) {1}, 100);
	Shape		shape = {{24, 0}, 1.0, true, 9, 0, 0, 0};
	double		flat,
				mixed;

	(void) state;
	unit_feed(p, 0, 300, seasonal, &shape);
	unit_log_loss(p, 0, FA_MODEL_STATIC);
	unit_log_loss(p, 0, FA_MODEL_MIXTURE);
	unit_feed(p, 300, 800, seasonal, &shape);
	flat = unit_log_loss(p, 0, FA_MODEL_STATIC);
	mixed = unit_log_loss(p, 0, FA_MODEL_MIXTURE);
	assert_true(flat > 1.05);	/* ln 3 is 1.099 */
	assert_true(mixed < flat - 0.15);
	fa_predictor_destroy(p);
}

#define MANY 400

/*
 * Two nodes take turns at some fragments, at times of their own; the others,
 * more and less busy, have no turns.
 */
static int
own_times(int64_t step, FaCell *cells, void *arg)
{
	uint64_t   *seed = arg;
	int			n = 0;

	for (int f = 0; f < MANY; f++)
	{
		uint64_t	place = f * 7919 + 1;
		int			phase = (int) (24 * unit_uniform(&place));
		bool		turn = f % 8 != 0 || (step + phase) % 24 < 12;
		double		mean = f % 8 == 0 ? 6 : f % 7;

		for (int i = 0; i < 2; i++)
		{
			int			y = unit_poisson(seed, mean *
										 ((i == 0) == turn ? 0.85 : 0.15));

			if (y > 0)
				cells[n++] = (FaCell) {(f + i) % 8, f, y};
		}
	}
	return n;
}

/* None of the nodes' totals shows it, nor does any mix of all fragments. */
static void
finds_a_season_of_single_fragments(void **state)
{
	FaPredictor *p = unit_create(8, MANY, 1, (int[]) {1}, 48);
	uint64_t	seed = 7;
	int			season[4];

	(void) state;
	unit_feed(p, 0, 96, own_times, &seed);
	assert_int_equal(fa_predictor_seasons(p, season, 4), 1);
	assert_int_equal(season[0], 24);
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_single_seasons),
		cmocka_unit_test(finds_a_season_in_shares),
		cmocka_unit_test(finds_a_long_one_behind_a_short_one),
		cmocka_unit_test(finds_none_in_noise),
		cmocka_unit_test(finds_none_in_wandering),
		cmocka_unit_test(nothing_found_when_not_asked),
		cmocka_unit_test(finds_a_season_of_single_fragments),
		cmocka_unit_test(a_season_pays),
	};

	return cmocka_run_group_tests_name("season", tests, NULL, NULL);
}
