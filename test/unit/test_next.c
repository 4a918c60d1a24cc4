/*
 * test_next.c
 *	  The next-fragment engine and its network.
 */
#include "unit.h"

#include "predict/lstm.h"
#include "predict/next.h"

#define FRAGMENTS	12

static FaNext *
create(uint32_t models)
{
	FaNextConfig config = {.nfragments = FRAGMENTS,.seed = 3,.models = models,
	.sessions = 50};

	return fa_next_create(&config, &unit_allocator);
}

/* Sessions that go round, each its own way, with some chance in it. */
static FaNextEvent
event_of(int64_t i, uint64_t *rng)
{
	int			session = (int) (unit_uniform(rng) * 8);
	bool		random = unit_uniform(rng) < 0.2;

	return (FaNextEvent) {
		.session = (uint64_t) session,.node = session % 3,.time = i * 40,
		.fragment = random ? (int) (unit_uniform(rng) * FRAGMENTS) :
		(int) ((i / 8 + session * 5) % FRAGMENTS)
	};
}

static void
check_shares(FaNext *next, uint64_t session, int n)
{
	double	   *p = calloc(n, sizeof(double));
	double		sum = 0;

	fa_next_forecast(next, session, 0, -1, p);
	for (int f = 0; f < n; f++)
	{
		assert_true(p[f] > 0 && p[f] <= 1);
		sum += p[f];
	}
	assert_true(fabs(sum - 1) < 1e-9);
	free(p);
}

static void
sums_to_one(void **state)
{
	(void) state;
	for (uint32_t models = 1; models < 1u << FA_NEXT_NMODELS; models++)
	{
		FaNext	   *next = create(models);
		uint64_t	rng = models;

		check_shares(next, 1, FRAGMENTS);
		for (int64_t i = 0; i < 120; i++)
		{
			FaNextEvent e = event_of(i, &rng);

			fa_next_observe(next, &e);
			check_shares(next, e.session, FRAGMENTS);
			check_shares(next, 99, FRAGMENTS);
		}
		fa_next_resize(next, FRAGMENTS + 30);
		check_shares(next, 1, FRAGMENTS + 30);
		fa_next_observe(next, &(FaNextEvent) {.session = 1,.fragment = 40});
		check_shares(next, 1, FRAGMENTS + 30);
		fa_next_destroy(next);
	}
}

/* Mean log loss over the last half of n events. */
static double
loss_of(int64_t n, uint32_t models, int (*fragment_of) (int64_t, uint64_t *))
{
	FaNext	   *next = create(models);
	uint64_t	rng = 5;
	double		p[FRAGMENTS];
	double		loss = 0;

	for (int64_t i = 0; i < n; i++)
	{
		FaNextEvent e = {.session = (uint64_t) (i % 4),.node = -1,.time = i,
		.fragment = fragment_of(i / 4, &rng)};

		fa_next_forecast(next, e.session, 0, -1, p);
		if (i >= n / 2)
			loss -= log(p[e.fragment]);
		fa_next_observe(next, &e);
	}
	fa_next_destroy(next);
	return loss / ((double) n / 2);
}

static int
cycle(int64_t i, uint64_t *rng)
{
	static const int tune[] = {0, 1, 2, 1, 0, 3, 2, 2, 4};

	(void) rng;
	return tune[i % 9];
}

static int
chance(int64_t i, uint64_t *rng)
{
	(void) i;
	return (int) (unit_uniform(rng) * FRAGMENTS);
}

static void
learns_a_tune_but_not_chance(void **state)
{
	(void) state;
	assert_true(loss_of(4000, 0, cycle) < 0.05);
	assert_true(loss_of(8000, 1u << FA_NEXT_LSTM, cycle) < 0.3);
	assert_true(loss_of(8000, 0, chance) < log(FRAGMENTS) + 0.05);
}

/*
 * A session goes on where it was at once, and anywhere after a pause: what its
 * last fragment says is trusted in by how long ago that was.  Another session
 * tells the time.
 */
static void
a_pause_takes_trust_away(void **state)
{
	FaNext	   *next = create(1u << FA_NEXT_MARKOV);
	uint64_t	rng = 11;
	int64_t		time = 0;
	int			at = 0;
	double		p[FRAGMENTS];
	double		loss = 0;

	(void) state;
	for (int i = 0; i < 6000; i++)
	{
		bool		pause = unit_uniform(&rng) < 0.5;

		time += pause ? 5000 : 1;
		fa_next_observe(next, &(FaNextEvent) {.session = 2,.node = -1,
						.time = time,.fragment = FRAGMENTS - 1});
		fa_next_forecast(next, 1, 0, -1, p);
		at = pause ? (int) (unit_uniform(&rng) * (FRAGMENTS - 1)) :
			(at + 1) % (FRAGMENTS - 1);
		if (i >= 3000)
			loss -= log(p[at]) / 3000;
		fa_next_observe(next, &(FaNextEvent) {.session = 1,.node = -1,
						.time = time,.fragment = at});
	}
	/* 1.2 for one who knows, 1.7 for one who does not tell pauses apart */
	assert_true(loss < 1.45);
	fa_next_destroy(next);
}

/*
 * A session touches every fragment three times, whatever it is: that the third
 * time is followed by another fragment is seen across fragments.
 */
static void
repetitions_are_counted(void **state)
{
	FaNext	   *next = create(1u << FA_NEXT_CACHE);
	uint64_t	rng = 13;
	int			at = 0;
	double		p[FRAGMENTS];
	double		loss = 0;

	(void) state;
	for (int i = 0; i < 3000; i++)
	{
		if (i % 3 == 0)
			at = (at + 1 + (int) (unit_uniform(&rng) * (FRAGMENTS - 1))) % FRAGMENTS;
		fa_next_forecast(next, 1, 0, -1, p);
		if (i >= 1500)
			loss -= log(p[at]) / 1500;
		fa_next_observe(next, &(FaNextEvent) {.session = 1,.node = -1,
						.time = i,.fragment = at});
	}
	/* 0.8 for one who knows, 1.4 for one who does not count */
	assert_true(loss < 1.0);
	fa_next_destroy(next);
}

/*
 * A session uses one of three groups of fragments, in any order, and others by
 * chance: all of its last fragments together tell which group.
 */
static void
groups_are_known_by_many(void **state)
{
	FaNext	   *next = create(1u << FA_NEXT_MARKOV);
	uint64_t	rng = 17;
	double		p[FRAGMENTS];
	double		loss = 0;

	(void) state;
	for (int i = 0; i < 6000; i++)
	{
		int			session = i / 16;
		int			group = (int) (session * UINT32_C(2654435761) >> 16) % 3;
		bool		other = unit_uniform(&rng) < 0.4;
		int			f = other ? (int) (unit_uniform(&rng) * FRAGMENTS) :
			group * 4 + (int) (unit_uniform(&rng) * 4);

		fa_next_forecast(next, session, 0, -1, p);
		if (i >= 3000 && i % 16 >= 6)
			loss -= log(p[f]);
		fa_next_observe(next, &(FaNextEvent) {.session = session,.node = -1,
						.time = i,.fragment = f});
	}
	loss /= 3000 * 10 / 16;
	/* 2.15 for one who knows, 2.33 for one who goes by orders and gaps */
	assert_true(loss < 2.29);
	fa_next_destroy(next);
}

/*
 * What roles do begins to matter after so many events without roles: mean loss
 * of the first events then, each of a session of its own.
 */
static double
loss_of_roles(int64_t before)
{
	FaNext	   *next = create(1u << FA_NEXT_HABIT);
	uint64_t	rng = 5;
	double		loss = 0;
	int			n = 400;

	for (int64_t i = 0; i < before; i++)
	{
		FaNextEvent e = {.session = (uint64_t) i,.node = -1,.time = i,
		.fragment = (int) (unit_uniform(&rng) * FRAGMENTS)};

		fa_next_observe(next, &e);
	}
	for (int64_t i = before; i < before + n; i++)
	{
		int			role = (int) (unit_uniform(&rng) * 4);
		FaNextEvent e = {.session = (uint64_t) i,.profile = role + 1,
			.node = -1,.time = i,
		.fragment = 3 * role + (int) (unit_uniform(&rng) * 3)};
		double		p[FRAGMENTS];

		fa_next_forecast(next, e.session, e.profile, e.node, p);
		loss -= log(p[e.fragment]) / n;
		fa_next_observe(next, &e);
	}
	fa_next_destroy(next);
	return loss;
}

/* A weight first used late learns as fast as one used from the start. */
static void
learns_late_as_early(void **state)
{
	double		early = loss_of_roles(0);
	double		late = loss_of_roles(20000);

	(void) state;
	assert_true(early < log(FRAGMENTS) - 0.8);
	assert_true(late < early + 0.05);
}

/* What comes later changes nothing of what was said before. */
static void
future_is_not_seen(void **state)
{
	double		p[2][400][FRAGMENTS];

	(void) state;
	for (int run = 0; run < 2; run++)
	{
		FaNext	   *next = create(0);
		uint64_t	rng = 9;

		for (int64_t i = 0; i < 400; i++)
		{
			FaNextEvent e = event_of(i, &rng);

			if (run == 1 && i >= 300)
				e = (FaNextEvent) {.session = e.session,.node = 7,
				.time = 5000000,.fragment = 0};
			fa_next_forecast(next, e.session, 0, -1, p[run][i]);
			fa_next_observe(next, &e);
		}
		fa_next_destroy(next);
	}
	assert_memory_equal(p[0], p[1], sizeof(p[0][0]) * 301);
	assert_memory_not_equal(p[0][302], p[1][302], sizeof(p[0][0]) * 50);
}

static void
extremes_do_no_harm(void **state)
{
	FaNextConfig config = {.nfragments = 1,.seed = 1};
	FaNext	   *next = fa_next_create(&config, &unit_allocator);
	int64_t		times[] = {0, INT64_C(1) << 60, -(INT64_C(1) << 60), 5, 4, -1};

	(void) state;
	for (int i = 0; i < 60; i++)
	{
		FaNextEvent e = {.session = UINT64_MAX - (uint64_t) i % 3,
		.node = i % 2 ? 1000000 : -1,.time = times[i % 6],.fragment = i % 4 - 1};

		fa_next_observe(next, &e);
		check_shares(next, e.session, 1);
	}
	fa_next_destroy(next);
}

/* Ever new sessions and fragments: memory stays within what was given. */
static void
memory_is_bounded(void **state)
{
	FaNextConfig config = {.nfragments = 3000,.seed = 1,.bytes = 1 << 20,
	.sessions = 100};
	FaNext	   *next = fa_next_create(&config, &unit_allocator);
	uint64_t	rng = 1;
	size_t		half = 0;

	(void) state;
	for (int64_t i = 0; i < 6000; i++)
	{
		FaNextEvent e = {.session = (uint64_t) (i / 2),.node = 0,.time = i,
		.fragment = (int) (unit_uniform(&rng) * 3000)};

		fa_next_observe(next, &e);
		if (i == 3000)
			half = fa_next_memory(next);
	}
	assert_true(fa_next_memory(next) < half + half / 2);
	check_shares(next, 2999, 3000);
	fa_next_destroy(next);
}

/* Loss of a window: weighted sum of the outputs' squares. */
static double
window_loss(FaLstm *l, const float *dense, const int (*symbol)[FA_LSTM_SYMBOLS],
			int nsteps, float *dout)
{
	FaLstmState s = {0};
	double		loss = 0;

	for (int t = 0; t < nsteps; t++)
	{
		float		out[3];

		fa_lstm_forward(l, t, &s, dense + t * 4, symbol[t], &s);
		fa_lstm_out(l, &s, out);
		for (int o = 0; o < 3; o++)
		{
			loss += 0.5 * (o + 1) * (out[o] - t * 0.1) * (out[o] - t * 0.1);
			dout[t * 3 + o] = (float) ((o + 1) * (out[o] - t * 0.1));
		}
	}
	return loss;
}

static void
gradients_are_right(void **state)
{
	FaMemory	memory = {unit_allocator, NULL, 0};
	FaLstm	   *l = fa_lstm_create(&memory, 4, 5, 3, 17);
	uint64_t	rng = 23;
	float		dense[5 * 4];
	int			symbol[5][FA_LSTM_SYMBOLS];
	float		dout[5 * 3];
	int			checked = 0;

	(void) state;
	for (int i = 0; i < 20; i++)
		dense[i] = (float) (unit_uniform(&rng) * 2 - 1);
	for (int t = 0; t < 5; t++)
	{
		symbol[t][0] = t % 3;
		symbol[t][1] = t == 2 ? -1 : 3 + t % 2;
	}
	for (int i = 0; i < l->nparams; i++)
		l->param[i] = (float) (unit_uniform(&rng) - 0.5);
	window_loss(l, dense, symbol, 5, dout);
	fa_lstm_backward(l, 5, dout);
	for (int i = 0; i < l->nparams; i += i < 2000 ? 7 : 13)
	{
		float		was = l->param[i];
		double		e = 1e-2;
		double		up,
					down,
					slope;

		l->param[i] = (float) (was + e);
		up = window_loss(l, dense, symbol, 5, dout);
		l->param[i] = (float) (was - e);
		down = window_loss(l, dense, symbol, 5, dout);
		l->param[i] = was;
		slope = (up - down) / (2 * e);
		assert_true(fabs(slope - l->grad[i]) < 2e-3 + 0.02 * fabs(slope));
		checked += fabs(slope) > 1e-3;
	}
	assert_true(checked > 100);
	fa_memory_free_all(&memory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_to_one),
		cmocka_unit_test(learns_a_tune_but_not_chance),
		cmocka_unit_test(a_pause_takes_trust_away),
		cmocka_unit_test(repetitions_are_counted),
		cmocka_unit_test(groups_are_known_by_many),
		cmocka_unit_test(learns_late_as_early),
		cmocka_unit_test(future_is_not_seen),
		cmocka_unit_test(extremes_do_no_harm),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(gradients_are_right),
	};

	return cmocka_run_group_tests_name("next", tests, NULL, NULL);
}
