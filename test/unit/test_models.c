/*
 * test_models.c
 *	  Models one by one: what each must see where it is meant to.
 */
#include "unit.h"

#define DAY		24

static FaPredictor *
create_with(uint32_t models, int nnodes, int nfragments)
{
	FaPredictorConfig config = {.nhorizons = 1,.horizons = {1},
	.max_season = 200,.seed = 3,.models = models};

	return fa_predictor_create(&config, nnodes, nfragments, &unit_allocator);
}

/* Fragment f is used by node 0 by day and by node 1 by night, and grows. */
static int
day_and_night(int64_t step, FaCell *cells, void *arg)
{
	int			n = 0;
	int64_t		hour = step % DAY;

	(void) arg;
	for (int f = 0; f < 4; f++)
	{
		bool		day = hour >= 6 + f && hour < 14 + f;

		cells[n++] = (FaCell) {day ? 0 : 1, f, 20 + (double) step / 50};
	}
	return n;
}

/* A model alone knows who comes at the next hour. */
static void
follows_the_day(uint32_t model, double least)
{
	FaPredictor *p = create_with(1u << FA_MODEL_STATIC | 1u << model, 2, 4);
	double		hits = 0;

	unit_feed(p, 0, 20 * DAY, day_and_night, NULL);
	for (int64_t t = 20 * DAY; t < 22 * DAY; t++)
	{
		for (int f = 0; f < 4; f++)
		{
			FaForecast	fc = unit_forecast(p, 2, f, 0);
			int64_t		hour = t % DAY;
			int			owner = hour >= 6 + f && hour < 14 + f ? 0 : 1;

			unit_check_forecast(&fc, 2);
			hits += fc.affinity[owner];
			unit_free_forecast(&fc);
		}
		unit_feed(p, t, t + 1, day_and_night, NULL);
	}
	assert_true(hits / (8 * DAY) > least);
	fa_predictor_destroy(p);
}

static void
holt_follows_the_day(void **state)
{
	(void) state;
	follows_the_day(FA_MODEL_HOLT, 0.9);
}

static void
pooled_follows_the_day(void **state)
{
	(void) state;
	follows_the_day(FA_MODEL_POOLED, 0.9);
}

/* What grows is expected to go on growing, but not for ever. */
static int
growing(int64_t step, FaCell *cells, void *arg)
{
	(void) arg;
	cells[0] = (FaCell) {0, 0, 10 * exp((double) step / 40)};
	cells[1] = (FaCell) {1, 0, 10};
	return 2;
}

static void
holt_has_a_trend(void **state)
{
	FaPredictor *p = create_with(1u << FA_MODEL_STATIC | 1u << FA_MODEL_HOLT,
								 2, 1);
	FaForecast	fc;
	double		next = 10 * exp(120 / 40.0);

	(void) state;
	unit_feed(p, 0, 120, growing, NULL);
	fc = unit_forecast(p, 2, 0, 0);
	assert_true(fabs(log(fc.typical_rate[0] / next)) < 0.05);
	assert_true(fabs(fc.affinity[0] - next / (next + 10)) < 0.05);
	unit_free_forecast(&fc);
	fa_predictor_destroy(p);
}

/* Nothing but noise, then one role goes from node to node with its habits. */
static void
role_steps(FaPredictor *p, int64_t from, int64_t to, int period, uint64_t *rng)
{
	for (int64_t t = from; t < to; t++)
	{
		int			node = (int) (t / period % 3);
		FaCell		cells[12];
		FaProfileUse use[2];
		int			n = 0;

		for (int f = 0; f < 4; f++)
			cells[n++] = (FaCell) {(int) (unit_uniform(rng) * 3), f, 1};
		for (int f = 0; f < 2; f++)
		{
			cells[n++] = (FaCell) {node, f, 10};
			use[f] = (FaProfileUse) {77, node, f, 10,
			f == 0 && t % period == 0};
		}
		fa_predictor_use(p, t, use, 2);
		assert_true(fa_predictor_observe(p, t, cells, n, NULL));
	}
}

static void
role_takes_its_habits_along(void **state)
{
	FaPredictor *p = create_with(1u << FA_MODEL_STATIC | 1u << FA_MODEL_PROFILE,
								 3, 4);
	FaPredictor *q;
	uint64_t	rng = 5;
	FaProfileUse arrival = {77, 1, 0, 1, 1};
	FaCell		cell = {1, 0, 1};
	FaForecast	fc;
	double		before;
	size_t		size;
	void	   *buf;

	(void) state;
	role_steps(p, 0, 600, 20, &rng);
	/* it is at node 2 now; at node 1 a session of it arrives, on fragment 0 */
	fc = unit_forecast(p, 3, 1, 0);
	before = fc.affinity[1];
	unit_free_forecast(&fc);
	fa_predictor_use(p, 600, &arrival, 1);
	assert_true(fa_predictor_observe(p, 600, &cell, 1, NULL));
	fc = unit_forecast(p, 3, 1, 0);
	unit_check_forecast(&fc, 3);
	assert_true(fc.affinity[1] > before + 0.1);
	assert_true(fc.weight[FA_MODEL_PROFILE] > 0.2);
	/* and a restart does not forget it */
	size = fa_predictor_save(p, NULL, 0);
	buf = malloc(size);
	assert_int_equal(fa_predictor_save(p, buf, size), size);
	q = fa_predictor_restore(buf, size, &unit_allocator);
	assert_non_null(q);
	before = fc.affinity[1];
	unit_free_forecast(&fc);
	fc = unit_forecast(q, 3, 1, 0);
	assert_true(fc.affinity[1] == before);
	unit_free_forecast(&fc);
	free(buf);
	fa_predictor_destroy(q);
	fa_predictor_destroy(p);
}

/* All accesses of a step are one client's, at a node drawn anew. */
static int
one_client(int64_t step, FaCell *cells, void *arg)
{
	int			node = (int) (unit_uniform(arg) * 4);

	(void) step;
	for (int f = 0; f < 12; f++)
		cells[f] = (FaCell) {node, f, 20};
	return 12;
}

/* A client's many accesses are little evidence of what the nodes do. */
static void
clumps_are_trusted_less(void **state)
{
	double		cost = 0;

	(void) state;
	for (uint64_t seed = 1; seed <= 40; seed++)
	{
		FaPredictor *p = create_with(1u << FA_MODEL_STATIC | 1u << FA_MODEL_RECENT,
									 4, 12);
		uint64_t	rng = seed;

		unit_feed(p, 0, 30, one_client, &rng);
		unit_log_loss(p, 0, FA_MODEL_STATIC);
		unit_log_loss(p, 0, FA_MODEL_MIXTURE);
		unit_feed(p, 30, 130, one_client, &rng);
		cost += (unit_log_loss(p, 0, FA_MODEL_MIXTURE) -
				 unit_log_loss(p, 0, FA_MODEL_STATIC)) / 40;
		fa_predictor_destroy(p);
	}
	assert_true(cost < 0.01);
}

/* What is told out of range or is no number changes nothing. */
static void
bad_words_are_ignored(void **state)
{
	FaPredictor *p = create_with(0, 2, 2);
	FaCell		bad[] = {{-1, 0, 1}, {2, 0, 1}, {0, -1, 1}, {0, 2, 1},
	{0, 0, NAN}, {0, 0, INFINITY}, {0, 0, -1}};
	FaProfileUse use[] = {{0, 0, 0, 1, 1}, {1, 9, 0, 1, 1}, {1, 0, 9, 1, 1},
	{1, 0, 0, NAN, 1}, {1, 0, 0, 1, -1}, {1, 0, 0, INFINITY, 0}};

	(void) state;
	for (int64_t t = 0; t < 60; t++)
	{
		FaCell		cell = {0, 0, 3};

		fa_predictor_expect(p, t, bad, 7);
		fa_predictor_use(p, t, use, 6);
		/* of another step: not used */
		fa_predictor_expect(p, t + 5, &cell, 1);
		assert_true(fa_predictor_observe(p, t, &cell, 1, NULL));
		for (int f = 0; f < 2; f++)
		{
			FaForecast	fc = unit_forecast(p, 2, f, 0);

			unit_check_forecast(&fc, 2);
			assert_true(fc.weight[FA_MODEL_SESSION] == 0);
			unit_free_forecast(&fc);
		}
	}
	fa_predictor_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holt_follows_the_day),
		cmocka_unit_test(pooled_follows_the_day),
		cmocka_unit_test(holt_has_a_trend),
		cmocka_unit_test(role_takes_its_habits_along),
		cmocka_unit_test(clumps_are_trusted_less),
		cmocka_unit_test(bad_words_are_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
