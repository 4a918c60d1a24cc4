/*
 * plan.c
 *	  The cheapest way of a fragment through its future.
 *
 * The forecast gives the accesses to expect from each node over the next
 * steps.  Over a grid of cells (one step wide near by, wider far away) the
 * cost of every possible sequence of owners is known: what its remote
 * accesses make clients wait, plus the cost of each move, during which the
 * old owner still serves.  Walking the grid backwards finds the cheapest
 * sequence.  "Stay" and "move later" compete in the same sum, as does having
 * to come back.  A move binds the fragment for the minimum residency, so a
 * short peak does not look like a gain.
 *
 * Doubt: everything a move may save is discounted by evidence / (evidence +
 * doubt), the cost is not.
 */
#include <math.h>
#include <string.h>

#include "placement/plan.h"

/* Now is inside of a step; the cells after the first begin where steps do. */
static void
make_grid(FaPlan *plan, int horizon, double now)
{
	double		t = fmin(fmax(now, 0), horizon - 1);
	int			k = 0;

	while (t < horizon)
	{
		double		end = floor(t) + 1;

		if (horizon > FA_PLACE_MAX_CELLS && t >= 8)
			end = floor(t) + floor(t / 4);
		if (k == FA_PLACE_MAX_CELLS - 1 || end > horizon)
			end = horizon;
		plan->start[k++] = t;
		t = end;
	}
	plan->ncells = k;
	plan->start[k] = t;
}

/* Where a time lies between the horizons. */
typedef struct Between
{
	int			j;				/* horizon that ends it */
	double		w;				/* its weight; the one before has the rest */
} Between;

static Between
find_between(const FaPlaceItem *item, double t)
{
	Between		at = {0, 1};
	double		x0;
	double		x;

	/* a horizon's rate is that of the middle of its step */
	while (at.j < item->nhorizons - 1 && t > item->horizons[at.j] - 0.5)
		at.j++;
	x = item->horizons[at.j] - 0.5;
	if (at.j == 0 || t >= x)
		return at;
	x0 = item->horizons[at.j - 1] - 0.5;
	at.w = (t - x0) / (x - x0);
	return at;
}

/* Expected accesses a step of an active node. */
static double
rate_at(const FaPlaceItem *item, int rank, Between at)
{
	double		r = item->rate[at.j * item->nactive + rank];

	if (at.w == 1)
		return r;
	return r + (1 - at.w) *
		(item->rate[(at.j - 1) * item->nactive + rank] - r);
}

/* The owner and the most active nodes that may receive. */
static void
choose_candidates(FaPlan *plan, const FaPlaceCluster *cluster,
				  const FaPlaceItem *item)
{
	double		weight[FA_PLAN_CANDIDATES];
	int			i,
				j;

	plan->ncand = 1;
	plan->cand[0] = item->owner;
	plan->rank[0] = -1;
	for (i = 0; i < item->nactive; i++)
	{
		double		w = 0;

		if (item->active[i] == item->owner)
		{
			plan->rank[0] = i;
			continue;
		}
		if (!fa_place_may_receive(cluster, item, item->active[i]))
			continue;
		for (j = 0; j < item->nhorizons; j++)
			w += item->rate[j * item->nactive + i];
		if (plan->ncand == FA_PLAN_CANDIDATES && w <= weight[FA_PLAN_CANDIDATES - 1])
			continue;
		/* insertion into the list, most active first */
		j = plan->ncand < FA_PLAN_CANDIDATES ? plan->ncand++ : FA_PLAN_CANDIDATES - 1;
		for (; j > 1 && weight[j - 1] < w; j--)
		{
			weight[j] = weight[j - 1];
			plan->cand[j] = plan->cand[j - 1];
			plan->rank[j] = plan->rank[j - 1];
		}
		weight[j] = w;
		plan->cand[j] = item->active[i];
		plan->rank[j] = i;
	}
}

static void
integrate(FaPlan *plan, const FaPlaceCluster *cluster, const FaPlaceItem *item)
{
	int			k,
				c,
				i;

	memset(plan->loss[0], 0, sizeof(plan->loss[0]));
	memset(plan->access[0], 0, sizeof(plan->access[0]));
	plan->total[0] = 0;
	for (k = 0; k < plan->ncells; k++)
	{
		double		width = plan->start[k + 1] - plan->start[k];
		/* of the rest of a step, too, that of the step */
		Between		middle = find_between(item, k == 0 ? floor(plan->start[0]) + 0.5 :
										  plan->start[k] + width / 2);

		memcpy(plan->loss[k + 1], plan->loss[k], sizeof(plan->loss[k]));
		memcpy(plan->access[k + 1], plan->access[k], sizeof(plan->access[k]));
		plan->total[k + 1] = plan->total[k];
		for (i = 0; i < item->nactive; i++)
		{
			double		a = rate_at(item, i, middle) * width;

			if (!(a > 0))
				continue;
			plan->total[k + 1] += a;
			for (c = 0; c < plan->ncand; c++)
			{
				plan->loss[k + 1][c] += plan->trust * a *
					fa_place_extra(cluster, item->active[i], plan->cand[c]);
				if (plan->rank[c] == i)
					plan->access[k + 1][c] += a;
			}
		}
	}
}

/* First cell that begins at t or after it. */
static int
cell_from(const FaPlan *plan, double t)
{
	int			k = 0;

	while (k < plan->ncells && plan->start[k] < t - FA_PLAN_EPSILON)
		k++;
	return k;
}

/* Weight of the cell before k when an integral ends at t inside it. */
static double
integral_at(const FaPlan *plan, const double (*sum)[FA_PLAN_CANDIDATES], int c, double t)
{
	int			k = cell_from(plan, t);
	double		w;

	if (k == 0)
		return sum[0][c];
	if (t >= plan->start[k])
		return sum[k][c];
	w = (t - plan->start[k - 1]) / (plan->start[k] - plan->start[k - 1]);
	return sum[k - 1][c] + w * (sum[k][c] - sum[k - 1][c]);
}

static double
loss_between(const FaPlan *plan, int c, double from, double to)
{
	return integral_at(plan, plan->loss, c, to) -
		integral_at(plan, plan->loss, c, from);
}

static double
total_at(const FaPlan *plan, double t)
{
	int			k = cell_from(plan, t);
	double		w;

	if (k == 0 || t >= plan->start[k])
		return plan->total[k];
	w = (t - plan->start[k - 1]) / (plan->start[k] - plan->start[k - 1]);
	return plan->total[k - 1] + w * (plan->total[k] - plan->total[k - 1]);
}

/*
 * When a move for cell k begins.  One that is asked for ahead can be there as
 * the cell begins, if the time is enough.
 */
static double
begin_at(const FaPlan *plan, int k)
{
	return plan->ahead ? fmax(plan->start[k] - plan->move_steps, plan->start[0]) :
		plan->start[k];
}

static double
arrival_at(const FaPlan *plan, int k)
{
	return fmin(begin_at(plan, k) + plan->move_steps,
				plan->start[plan->ncells]);
}

/* Cell from which a move begun at cell k lets the fragment move again. */
static int
cell_free(const FaPlan *plan, int k)
{
	double		bound = fmax(plan->move_steps, plan->bind_steps);
	int			e = cell_from(plan, plan->start[k] + bound);

	return e > k ? e : k + 1;
}

/*
 * Share of the accesses that d makes in the time that a move at cell k binds
 * the fragment to it, a step at least, counted from its arrival.
 */
static double
share_of(const FaPlan *plan, int k, int d)
{
	double		from = arrival_at(plan, k);
	int			e = cell_from(plan, fmax(plan->start[k] + plan->bind_steps,
										 from + 1));
	double		total = plan->total[e] - total_at(plan, from);

	return total > 0 ? (plan->access[e][d] -
						integral_at(plan, plan->access, d, from)) / total : 0;
}

/*
 * What all moves begun at cell k have in common.  The limits count: a way back
 * that they would bar is no way back; only of now they are told apart.
 */
static void
prepare_moves(FaPlan *plan, int k)
{
	double		there = arrival_at(plan, k);
	int			c;

	plan->free[k] = cell_free(plan, k);
	for (c = 0; c < plan->ncand; c++)
	{
		plan->arrival[k][c] = integral_at(plan, plan->loss, c, there);
		plan->allowed[k][c] = k == 0 ||
			share_of(plan, k, c) >= plan->threshold;
	}
}

/*
 * Sum of the best sequence that begins with a move from o to d at cell k: the
 * old owner serves until the arrival.
 */
double
fa_plan_value_of_move(const FaPlan *plan, int k, int o, int d)
{
	int			e = plan->free[k];

	if (!plan->allowed[k][d])
		return -INFINITY;
	return plan->value[e][d] - plan->cost -
		(plan->arrival[k][o] - plan->loss[k][o]) -
		(plan->loss[e][d] - plan->arrival[k][d]);
}

double
fa_plan_value_of_staying(const FaPlan *plan, int k, int c)
{
	return plan->value[k + 1][c] - (plan->loss[k + 1][c] - plan->loss[k][c]);
}

void
fa_plan_make(FaPlan *plan)
{
	int			k,
				o,
				d;

	memset(plan->value[plan->ncells], 0, sizeof(plan->value[0]));
	for (k = plan->ncells - 1; k >= 0; k--)
	{
		prepare_moves(plan, k);
		for (o = 0; o < plan->ncand; o++)
		{
			double		best = fa_plan_value_of_staying(plan, k, o);
			int			go = o;

			for (d = 0; d < plan->ncand; d++)
			{
				double		v;

				if (d == o)
					continue;
				v = fa_plan_value_of_move(plan, k, o, d);
				if (v > best + FA_PLAN_EPSILON)
				{
					best = v;
					go = d;
				}
			}
			plan->value[k][o] = best;
			plan->go[k][o] = go;
		}
	}
}

void
fa_plan_describe(const FaPlan *plan, const FaPlaceCluster *cluster, int k,
				 int d, FaDecision *out)
{
	double		t = plan->start[k];
	double		there = arrival_at(plan, k);
	int			leave = cell_free(plan, k);
	double		until;

	while (leave < plan->ncells && plan->go[leave][d] == d)
		leave++;
	until = fmax(plan->start[leave], there);

	out->destination = plan->cand[d];
	out->accesses = integral_at(plan, plan->access, d, until) -
		integral_at(plan, plan->access, d, there);
	out->affinity = share_of(plan, k, d);
	out->owner_affinity = share_of(plan, k, 0);
	out->access_ms = fa_place_extra(cluster, plan->cand[d], plan->cand[0]);
	out->benefit_ms = loss_between(plan, 0, there, until) -
		loss_between(plan, d, there, until);
	out->cost_ms = plan->cost;
	out->hold_steps = until - t;
	out->wait_steps = begin_at(plan, k) - plan->start[0];
}

/* Is there a time when another node would be a better owner? */
static bool
owner_is_beaten(const FaPlan *plan)
{
	int			k,
				c;

	for (k = 0; k < plan->ncells; k++)
	{
		double		own = plan->loss[k + 1][0] - plan->loss[k][0];

		for (c = 1; c < plan->ncand; c++)
		{
			if (plan->loss[k + 1][c] - plan->loss[k][c] < own - FA_PLAN_EPSILON)
				return true;
		}
	}
	return false;
}

bool
fa_plan_begin(FaPlan *plan, const FaPlaceCluster *cluster,
			  const FaPlacePolicy *policy, const FaPlaceItem *item)
{
	plan->trust = (1 - policy->unpaid) *
		item->evidence / (item->evidence + policy->doubt + FA_PLAN_EPSILON);
	plan->move_steps = item->move_ms / cluster->step_ms;
	plan->bind_steps = policy->min_residency_ms / cluster->step_ms;
	plan->cost = item->cost_ms;
	plan->threshold = policy->threshold;
	plan->ahead = cluster->again_steps > 0;
	make_grid(plan, item->horizons[item->nhorizons - 1], cluster->elapsed_steps);
	choose_candidates(plan, cluster, item);
	integrate(plan, cluster, item);
	return owner_is_beaten(plan);
}
