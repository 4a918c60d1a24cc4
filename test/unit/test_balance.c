/*
 * test_balance.c
 *	  Owners for many fragments at once: src/placement/balance.c.
 */
#include "unit.h"

#include "placement/balance.h"
#include "placement/decide.h"

#define MOST_NODES 20
#define MOST_ITEMS 2000

typedef struct Problem
{
	FaBalance	b;
	FaBalanceNode node[MOST_NODES];
	FaBalanceItem item[MOST_ITEMS];
	double		cost[MOST_ITEMS * MOST_NODES];
} Problem;

static Problem problem;

static void *
take(size_t size)
{
	return malloc(size);
}

/* Room for spare times what is there, in equal parts; the start fits. */
static void
make_problem(Problem *p, int nnodes, int nitems, double spare, uint64_t *seed)
{
	double		bytes[MOST_NODES] = {0};
	double		load[MOST_NODES] = {0};
	double		all_bytes = 0;
	double		all_load = 0;

	memset(p, 0, sizeof(*p));
	p->b = (FaBalance) {nnodes, nitems, p->node, p->item, take, free, NULL};
	for (int i = 0; i < nitems; i++)
	{
		FaBalanceItem *item = &p->item[i];

		item->owner = unit_uniform(seed) * nnodes;
		item->bytes = 1 + floor(unit_uniform(seed) * 9);
		item->load = unit_uniform(seed) * 5;
		item->move_ms = unit_uniform(seed) * 20;
		item->cost_ms = p->cost + (size_t) i * nnodes;
		for (int n = 0; n < nnodes; n++)
			p->cost[(size_t) i * nnodes + n] = unit_uniform(seed) * 100;
		bytes[item->owner] += item->bytes;
		load[item->owner] += item->load;
		all_bytes += item->bytes;
		all_load += item->load;
	}
	for (int n = 0; n < nnodes; n++)
	{
		p->node[n].max_bytes = fmax(bytes[n], all_bytes / nnodes * spare);
		p->node[n].max_load = fmax(load[n], all_load / nnodes * spare);
	}
}

/* INFINITY when a limit is broken. */
static double
cost_of(const Problem *p, const int *owner)
{
	double		bytes[MOST_NODES] = {0};
	double		load[MOST_NODES] = {0};
	double		cost = 0;

	for (int i = 0; i < p->b.nitems; i++)
	{
		bytes[owner[i]] += p->item[i].bytes;
		load[owner[i]] += p->item[i].load;
		cost += p->item[i].cost_ms[owner[i]];
		if (owner[i] != p->item[i].owner)
		{
			if (p->item[i].fixed || p->node[owner[i]].closed)
				return INFINITY;
			cost += p->item[i].move_ms;
		}
	}
	for (int n = 0; n < p->b.nnodes; n++)
		if (bytes[n] > p->node[n].max_bytes + 1e-6 ||
			load[n] > p->node[n].max_load + 1e-6)
			return INFINITY;
	return cost;
}

static double
least_of_all(const Problem *p)
{
	double		least = INFINITY;
	long		all = 1;

	for (int i = 0; i < p->b.nitems; i++)
		all *= p->b.nnodes;
	for (long code = 0; code < all; code++)
	{
		int			owner[MOST_ITEMS];
		long		rest = code;

		for (int i = 0; i < p->b.nitems; i++, rest /= p->b.nnodes)
			owner[i] = rest % p->b.nnodes;
		least = fmin(least, cost_of(p, owner));
	}
	return least;
}

static void
test_small_is_exact(void **state)
{
	uint64_t	seed = 1;
	int			moved = 0;

	(void) state;
	for (int round = 0; round < 200; round++)
	{
		int			owner[MOST_ITEMS];
		FaBalanceResult r;

		make_problem(&problem, 3, 7, 1.1, &seed);
		problem.item[0].fixed = round % 3 == 0;
		problem.node[1].closed = round % 5 == 0;
		r = fa_balance(&problem.b, owner);
		assert_true(r.exact && r.fits);
		assert_float_equal(r.cost_ms, least_of_all(&problem), 1e-6);
		assert_float_equal(r.cost_ms, cost_of(&problem, owner), 1e-6);
		assert_true(r.bound_ms <= r.cost_ms + 1e-6);
		for (int i = 0; i < 7; i++)
			moved += owner[i] != problem.item[i].owner;
	}
	assert_true(moved > 200);
}

/* Two full nodes, each with what the other wants: they change places. */
static void
test_swap(void **state)
{
	uint64_t	seed = 1;
	int			owner[2];
	FaBalanceResult r;

	(void) state;
	make_problem(&problem, 2, 2, 1, &seed);
	for (int i = 0; i < 2; i++)
	{
		problem.item[i].owner = i;
		problem.item[i].bytes = problem.node[i].max_bytes = 8;
		problem.item[i].load = problem.node[i].max_load = 1;
		problem.cost[i * 2 + i] = 100;
		problem.cost[i * 2 + 1 - i] = 0;
	}
	r = fa_balance(&problem.b, owner);
	assert_true(r.exact && r.fits);
	assert_int_equal(owner[0], 1);
	assert_int_equal(owner[1], 0);
}

/* What is too much leaves; what nobody can take stays. */
static void
test_relief(void **state)
{
	uint64_t	seed = 9;
	int			owner[MOST_ITEMS];
	FaBalanceResult r;
	double		on_0 = 0;

	(void) state;
	make_problem(&problem, 4, 40, 1.3, &seed);
	for (int i = 0; i < 40; i++)
		problem.item[i].owner = 0;
	for (int n = 0; n < 4; n++)
	{
		problem.node[n].max_bytes = 70;
		problem.node[n].max_load = INFINITY;
	}
	r = fa_balance(&problem.b, owner);
	assert_true(r.fits);
	assert_float_equal(r.cost_ms, cost_of(&problem, owner), 1e-6);
	for (int n = 1; n < 4; n++)
		problem.node[n].max_bytes = 10;
	r = fa_balance(&problem.b, owner);
	assert_false(r.fits || r.exact);
	for (int i = 0; i < 40; i++)
		on_0 += owner[i] == 0 ? problem.item[i].bytes : 0;
	assert_true(on_0 > 70);
	for (int n = 1; n < 4; n++)
	{
		double		used = 0;

		for (int i = 0; i < 40; i++)
			used += owner[i] == n ? problem.item[i].bytes : 0;
		assert_true(used <= 10);
	}
}

/* Far too many for an exact answer: limits kept, and near the bound. */
static void
test_large_is_near(void **state)
{
	static int	owner[MOST_ITEMS];
	uint64_t	seed = 4;

	(void) state;
	for (int round = 0; round < 3; round++)
	{
		FaBalanceResult r;

		make_problem(&problem, MOST_NODES, MOST_ITEMS, round == 0 ? 1.02 : 1.2,
					 &seed);
		r = fa_balance(&problem.b, owner);
		assert_true(r.fits);
		assert_float_equal(r.cost_ms, cost_of(&problem, owner), 1e-3);
		print_message("# %d items on %d nodes: %.2f %% above the bound\n",
					  MOST_ITEMS, MOST_NODES,
					  100 * (r.cost_ms / r.bound_ms - 1));
		assert_true(r.cost_ms < 1.05 * r.bound_ms);
	}
}

static FaVerdict
planned(const FaPlaceCluster *cluster, const FaPlaceItem *item)
{
	FaDecision	d;

	fa_decide_planned(cluster, item, 1, &d);
	assert_int_equal(d.destination, 1);
	assert_int_equal(d.trigger, FA_TRIGGER_REBALANCE);
	return d.verdict;
}

/* A planned move minds what others mind, and comes after those that pay. */
static void
test_planned_moves(void **state)
{
	FaPlaceNode node[2] = {{.alive = true}, {.alive = true,.capacity = 100}};
	double		extra[4] = {0, 5, 5, 0};
	FaPlaceCluster cluster = {.nnodes = 2,.node = node,.extra_ms = extra,
	.step_ms = 1000,.max_moves = 1,.max_moves_node = 4};
	FaPlaceItem item[2] = {{.owner = 0,.bytes = 60,.cost_ms = 5},
	{.owner = 0,.bytes = 60,.cost_ms = 5}};
	FaDecision	d[2] = {{0}};

	(void) state;
	assert_int_equal(planned(&cluster, item), FA_VERDICT_MOVE);
	item[0].moving = true;
	assert_int_equal(planned(&cluster, item), FA_VERDICT_MOVING);
	item[0].moving = false;
	item[0].pinned = true;
	assert_int_equal(planned(&cluster, item), FA_VERDICT_PINNED);
	item[0].pinned = false;
	node[1].draining = true;
	assert_int_equal(planned(&cluster, item), FA_VERDICT_DRAINING);
	node[1].draining = false;
	node[0].alive = false;
	assert_int_equal(planned(&cluster, item), FA_VERDICT_DOWN);
	node[0].alive = true;

	fa_decide_planned(&cluster, &item[0], 1, &d[0]);
	d[1] = (FaDecision) {.verdict = FA_VERDICT_MOVE,.destination = 1,
	.benefit_ms = 50,.cost_ms = 5};
	assert_int_equal(fa_decide_admit(&cluster, item, d, 2, 0), 1);
	assert_int_equal(d[1].verdict, FA_VERDICT_MOVE);
	assert_int_equal(d[0].verdict, FA_VERDICT_CAPACITY);
	/* when there is room, its turn comes */
	node[1].used = 0;
	node[1].incoming = node[0].outgoing = 0;
	fa_decide_planned(&cluster, &item[0], 1, &d[0]);
	assert_int_equal(fa_decide_admit(&cluster, item, d, 1, 0), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_is_exact),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_relief),
		cmocka_unit_test(test_large_is_near),
		cmocka_unit_test(test_planned_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
