/*
 * test_hindsight.c
 *	  The cheapest sequence of owners, against all sequences there are.
 */
#include "unit.h"

#include "placement/hindsight.h"

#define N 3						/* nodes */
#define S 6						/* steps */

typedef struct Case
{
	double		count[S][N];
	double		extra[N * N];
	double		move_ms;
} Case;

static double
cost_of(const Case *c, const int *owner, int first, double *remote_p)
{
	double		cost = 0;
	int			at = first;

	*remote_p = 0;
	for (int s = 0; s < S; s++)
	{
		cost += owner[s] != at ? c->move_ms : 0;
		at = owner[s];
		for (int i = 0; i < N; i++)
		{
			cost += c->count[s][i] * c->extra[i * N + at];
			*remote_p += i != at ? c->count[s][i] : 0;
		}
	}
	return cost;
}

/* Of all N ^ S. */
static double
least_cost(const Case *c, int first)
{
	double		least = INFINITY;
	double		remote;
	int			all = 1;

	for (int s = 0; s < S; s++)
		all *= N;
	for (int code = 0; code < all; code++)
	{
		int			owner[S];
		int			rest = code;

		for (int s = 0; s < S; s++, rest /= N)
			owner[s] = rest % N;
		least = fmin(least, cost_of(c, owner, first, &remote));
	}
	return least;
}

static void
random_case(Case *c, uint64_t *seed)
{
	for (int s = 0; s < S; s++)
		for (int i = 0; i < N; i++)
			c->count[s][i] = unit_uniform(seed) < 0.4 ? 0 :
				floor(unit_uniform(seed) * 20);
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			c->extra[i * N + j] = i == j ? 0 : 1 + unit_uniform(seed) * 9;
	c->move_ms = unit_uniform(seed) * 100;
}

static void
test_no_sequence_is_cheaper(void **state)
{
	uint64_t	seed = 5;
	int			active[N] = {0, 1, 2};
	int			moves = 0;

	(void) state;
	for (int round = 0; round < 300; round++)
	{
		Case		c;
		FaWay		way[N];
		FaWay		best;
		int			from[S][N];
		int			owner[S];
		int			at;
		double		remote;

		random_case(&c, &seed);
		fa_hindsight_begin(way, N, round % N);
		for (int s = 0; s < S; s++)
			fa_hindsight_step(way, N, c.extra, active, c.count[s], N,
							  c.move_ms, from[s]);
		at = fa_hindsight_best(way, N);
		assert_float_equal(way[at].cost_ms, least_cost(&c, round % N), 1e-6);
		assert_float_equal(way[at].cost_ms, way[at].waiting_ms +
						   c.move_ms * way[at].moves, 1e-6);
		moves += way[at].moves;
		/* the way back says where it was */
		best = way[at];
		for (int s = S - 1; s >= 0; s--)
		{
			owner[s] = at;
			at = from[s][at];
		}
		assert_int_equal(at, round % N);
		assert_float_equal(cost_of(&c, owner, round % N, &remote),
						   best.cost_ms, 1e-6);
		assert_float_equal(remote, best.remote, 1e-6);
	}
	assert_true(moves > 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_sequence_is_cheaper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
