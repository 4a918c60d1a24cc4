/*
 * decide.c
 *	  The decision about one fragment: the cheapest way through its future.
 *
 * The forecast gives the accesses to expect from each node over the next
 * steps.  Over a grid of cells (one step wide near by, wider far away) the
 * cost of every possible sequence of owners is known: what its remote
 * accesses make clients wait, plus the cost of each move, during which the
 * old owner still serves.  Walking the grid backwards finds the cheapest
 * sequence.  A fragment moves now if that sequence begins so; "stay" and
 * "move later" compete in the same sum, as does having to come back.  A move
 * binds the fragment for the minimum residency, so a short peak does not
 * look like a gain.
 *
 * Doubt: everything a move may save is discounted by evidence / (evidence +
 * doubt), the cost is not.
 *
 * The limits that a table's owner sets (threshold, hysteresis, residency)
 * come after that: they can only refuse.
 */
#include <math.h>
#include <string.h>

#include "placement/decide.h"

#define NCAND (FA_PLACE_MAX_CANDIDATES + 1) /* and the owner */
#define EPSILON 1e-9

typedef struct Plan
{
	int			ncells;
	double		start[FA_PLACE_MAX_CELLS + 1];	/* steps from now */
	int			ncand;			/* the owner is candidate 0 */
	int			cand[NCAND];	/* node index */
	int			rank[NCAND];	/* its place in the item's active, or -1 */
	/* integrals from now to a cell's start, by candidate as owner */
	double		loss[FA_PLACE_MAX_CELLS + 1][NCAND];	/* ms, discounted */
	double		access[FA_PLACE_MAX_CELLS + 1][NCAND];	/* made by it */
	double		total[FA_PLACE_MAX_CELLS + 1];	/* made by all */
	/* best sum from a cell's start on, and where to go there */
	double		value[FA_PLACE_MAX_CELLS + 1][NCAND];
	int			go[FA_PLACE_MAX_CELLS + 1][NCAND];
	double		move_steps;
	double		bind_steps;		/* no other move before that */
	double		cost;
	double		trust;			/* discount for doubt */
	double		threshold;
} Plan;

static void
make_grid(Plan *plan, int horizon)
{
	double		t = 0;
	int			k = 0;

	while (t < horizon)
	{
		double		width = 1;

		if (horizon > FA_PLACE_MAX_CELLS && t >= 8)
			width = floor(t / 4);
		if (k == FA_PLACE_MAX_CELLS - 1 || t + width > horizon)
			width = horizon - t;
		plan->start[k++] = t;
		t += width;
	}
	plan->ncells = k;
	plan->start[k] = t;
}

/* Expected accesses a step of an active node at a time, interpolated. */
static double
rate_at(const FaPlaceItem *item, int rank, double t)
{
	int			n = item->nactive;
	int			j;

	for (j = 0; j < item->nhorizons; j++)
	{
		double		x = item->horizons[j] - 0.5;	/* middle of that step */
		double		r = item->rate[j * n + rank];

		if (t <= x || j == item->nhorizons - 1)
		{
			double		x0;
			double		r0;

			if (j == 0 || t >= x)
				return r;
			x0 = item->horizons[j - 1] - 0.5;
			r0 = item->rate[(j - 1) * n + rank];
			return r0 + (r - r0) * (t - x0) / (x - x0);
		}
	}
	return 0;
}

static bool
has_room(const FaPlaceNode *node, const FaPlaceItem *item)
{
	return node->capacity <= 0 || node->used + item->bytes <= node->capacity;
}

static bool
may_receive(const FaPlaceCluster *cluster, const FaPlaceItem *item, int node)
{
	return cluster->node[node].alive && !cluster->node[node].draining &&
		has_room(&cluster->node[node], item);
}

static double
extra(const FaPlaceCluster *cluster, int from, int owner)
{
	return cluster->extra_ms[(size_t) from * cluster->nnodes + owner];
}

/* The owner and the most active nodes that may receive. */
static void
choose_candidates(Plan *plan, const FaPlaceCluster *cluster,
				  const FaPlaceItem *item)
{
	double		weight[NCAND];
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
		if (!may_receive(cluster, item, item->active[i]))
			continue;
		for (j = 0; j < item->nhorizons; j++)
			w += item->rate[j * item->nactive + i];
		if (plan->ncand == NCAND && w <= weight[NCAND - 1])
			continue;
		/* insertion into the list, most active first */
		j = plan->ncand < NCAND ? plan->ncand++ : NCAND - 1;
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
integrate(Plan *plan, const FaPlaceCluster *cluster, const FaPlaceItem *item)
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
		double		middle = plan->start[k] + width / 2;

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
					extra(cluster, item->active[i], plan->cand[c]);
				if (plan->rank[c] == i)
					plan->access[k + 1][c] += a;
			}
		}
	}
}

/* First cell that begins at t or after it. */
static int
cell_from(const Plan *plan, double t)
{
	int			k = 0;

	while (k < plan->ncells && plan->start[k] < t - EPSILON)
		k++;
	return k;
}

/* Weight of the cell before k when an integral ends at t inside it. */
static double
integral_at(const Plan *plan, const double (*sum)[NCAND], int c, double t)
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
loss_between(const Plan *plan, int c, double from, double to)
{
	return integral_at(plan, plan->loss, c, to) -
		integral_at(plan, plan->loss, c, from);
}

static double
total_at(const Plan *plan, double t)
{
	int			k = cell_from(plan, t);
	double		w;

	if (k == 0 || t >= plan->start[k])
		return plan->total[k];
	w = (t - plan->start[k - 1]) / (plan->start[k] - plan->start[k - 1]);
	return plan->total[k - 1] + w * (plan->total[k] - plan->total[k - 1]);
}

/* Cell from which a move begun at cell k lets the fragment move again. */
static int
cell_free(const Plan *plan, int k)
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
share_of(const Plan *plan, int k, int d)
{
	double		from = fmin(plan->start[k] + plan->move_steps,
							plan->start[plan->ncells]);
	int			e = cell_from(plan, fmax(plan->start[k] + plan->bind_steps,
										 from + 1));
	double		total = plan->total[e] - total_at(plan, from);

	return total > 0 ? (plan->access[e][d] -
						integral_at(plan, plan->access, d, from)) / total : 0;
}

/*
 * Sum of the best sequence that begins with a move from o to d at cell k.
 * The limits count: a way back that they would bar is no way back.
 */
static double
value_of_move(const Plan *plan, int k, int o, int d)
{
	double		end = plan->start[plan->ncells];
	double		t = plan->start[k];
	double		there = fmin(t + plan->move_steps, end);
	int			e = cell_free(plan, k);

	if (k > 0 && share_of(plan, k, d) < plan->threshold)
		return -INFINITY;
	return plan->value[e][d] - plan->cost - loss_between(plan, o, t, there) -
		loss_between(plan, d, there, fmax(plan->start[e], there));
}

static double
value_of_staying(const Plan *plan, int k, int c)
{
	return plan->value[k + 1][c] - (plan->loss[k + 1][c] - plan->loss[k][c]);
}

static void
walk_back(Plan *plan)
{
	int			k,
				o,
				d;

	memset(plan->value[plan->ncells], 0, sizeof(plan->value[0]));
	for (k = plan->ncells - 1; k >= 0; k--)
	{
		for (o = 0; o < plan->ncand; o++)
		{
			double		best = value_of_staying(plan, k, o);
			int			go = o;

			for (d = 0; d < plan->ncand; d++)
			{
				double		v;

				if (d == o)
					continue;
				v = value_of_move(plan, k, o, d);
				if (v > best + EPSILON)
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

/* Fills out for a move of the owner's fragment to d at cell k. */
static void
describe(const Plan *plan, const FaPlaceCluster *cluster, int k, int d,
		 FaDecision *out)
{
	double		end = plan->start[plan->ncells];
	double		t = plan->start[k];
	double		there = fmin(t + plan->move_steps, end);
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
	out->access_ms = extra(cluster, plan->cand[d], plan->cand[0]);
	out->benefit_ms = loss_between(plan, 0, there, until) -
		loss_between(plan, d, there, until);
	out->cost_ms = plan->cost;
	out->hold_steps = until - t;
	out->wait_steps = t;
}

/* A table's limits; MOVE when none holds the move back. */
static FaVerdict
check_limits(const FaPlacePolicy *policy, const FaPlaceItem *item,
			 double threshold, FaDecision *out)
{
	double		margin = policy->hysteresis;

	if (out->destination == item->previous_owner)
		margin *= 2;
	if (out->affinity < threshold)
	{
		out->limit = threshold;
		return FA_VERDICT_THRESHOLD;
	}
	if (out->affinity < out->owner_affinity + margin)
	{
		out->limit = margin;
		return FA_VERDICT_HYSTERESIS;
	}
	if (item->since_move_ms < policy->min_residency_ms)
	{
		out->limit = policy->min_residency_ms;
		return FA_VERDICT_RESIDENCY;
	}
	if (item->pinned)
		return FA_VERDICT_PINNED;
	if (policy->closed)
		return FA_VERDICT_WINDOW;
	return FA_VERDICT_MOVE;
}

/* A node that would be first choice if it could take the fragment. */
static void
name_unable(const FaPlaceCluster *cluster, const FaPlacePolicy *policy,
			const FaPlaceItem *item, FaDecision *out)
{
	const FaPlaceNode *node;
	double		total = 0;
	double		most = 0;
	int			best = -1;
	int			i,
				j;

	for (i = 0; i < item->nactive; i++)
	{
		double		w = 0;

		for (j = 0; j < item->nhorizons; j++)
			w += item->rate[j * item->nactive + i];
		total += w;
		if (w > most)
		{
			most = w;
			best = i;
		}
	}
	if (best < 0 || item->active[best] == item->owner ||
		may_receive(cluster, item, item->active[best]) ||
		most < policy->threshold * total)
		return;
	out->destination = item->active[best];
	out->affinity = most / total;
	node = &cluster->node[out->destination];
	out->limit = node->capacity;
	out->verdict = !node->alive ? FA_VERDICT_DOWN :
		node->draining ? FA_VERDICT_DRAINING : FA_VERDICT_CAPACITY;
}

/* No sequence with a move pays: is there one that nearly does? */
static void
name_nearest(const Plan *plan, const FaPlaceCluster *cluster,
			 const FaPlacePolicy *policy, FaDecision *out)
{
	FaDecision	one = *out;
	int			d;

	for (d = 1; d < plan->ncand; d++)
	{
		describe(plan, cluster, 0, d, &one);
		if (one.benefit_ms > 0 && one.benefit_ms > out->benefit_ms &&
			(one.affinity >= policy->threshold ||
			 one.benefit_ms >= plan->cost / 4))
		{
			*out = one;
			out->verdict = FA_VERDICT_COST;
		}
	}
}

/* Is there a time when another node would be a better owner? */
static bool
owner_is_beaten(const Plan *plan)
{
	int			k,
				c;

	for (k = 0; k < plan->ncells; k++)
	{
		double		own = plan->loss[k + 1][0] - plan->loss[k][0];

		for (c = 1; c < plan->ncand; c++)
		{
			if (plan->loss[k + 1][c] - plan->loss[k][c] < own - EPSILON)
				return true;
		}
	}
	return false;
}

static void
decide_by_forecast(Plan *plan, const FaPlaceCluster *cluster,
				   const FaPlacePolicy *policy, const FaPlaceItem *item,
				   FaDecision *out)
{
	bool		tried[NCAND] = {false};
	double		stay;
	int			n,
				k,
				d;

	plan->trust = (1 - policy->unpaid) *
		item->evidence / (item->evidence + policy->doubt + EPSILON);
	plan->move_steps = item->move_ms / cluster->step_ms;
	plan->bind_steps = policy->min_residency_ms / cluster->step_ms;
	plan->cost = item->cost_ms;
	plan->threshold = policy->threshold;
	make_grid(plan, item->horizons[item->nhorizons - 1]);
	choose_candidates(plan, cluster, item);
	integrate(plan, cluster, item);
	if (!owner_is_beaten(plan))
	{
		name_unable(cluster, policy, item, out);
		return;
	}
	walk_back(plan);

	/* now, best destination first, if the limits let it */
	stay = value_of_staying(plan, 0, 0);
	for (n = 1; n < plan->ncand; n++)
	{
		FaDecision	one = *out;
		double		best = stay + EPSILON;
		int			pick = 0;

		for (d = 1; d < plan->ncand; d++)
		{
			double		v = value_of_move(plan, 0, 0, d);

			if (!tried[d] && v > best)
			{
				best = v;
				pick = d;
			}
		}
		if (pick == 0)
			break;
		tried[pick] = true;
		describe(plan, cluster, 0, pick, &one);
		one.verdict = check_limits(policy, item, policy->threshold, &one);
		if (n == 1 || one.verdict == FA_VERDICT_MOVE)
			*out = one;
		if (one.verdict == FA_VERDICT_MOVE)
			return;
	}
	if (n > 1)
		return;

	for (k = 1; k < plan->ncells; k++)
	{
		if (plan->go[k][0] == 0)
			continue;
		describe(plan, cluster, k, plan->go[k][0], out);
		out->verdict = FA_VERDICT_LATER;
		return;
	}
	name_nearest(plan, cluster, policy, out);
	if (out->verdict == FA_VERDICT_STAY)
		name_unable(cluster, policy, item, out);
}

/*
 * The recent past, where the forecast is blind to it: one node made most of
 * the accesses in each of the newest steps, and the forecast does not expect
 * half as much of it.  It is taken to last as long again as it has lasted.
 */
static void
decide_by_past(const FaPlaceCluster *cluster, const FaPlacePolicy *policy,
			   const FaPlaceItem *item, FaDecision *out)
{
	int			i,
				j,
				k;

	for (i = 0; i < item->nactive; i++)
	{
		FaDecision	one = *out;
		double		mine = 0;
		double		owners = 0;
		double		total = 0;
		double		saved = 0;

		if (item->active[i] == item->owner ||
			!may_receive(cluster, item, item->active[i]))
			continue;
		for (k = 0; k < item->nrecent; k++)
		{
			const double *r = item->recent + (size_t) k * item->nactive;
			double		sum = 0;

			for (j = 0; j < item->nactive; j++)
				sum += r[j];
			if (sum <= 0 || r[i] < policy->reactive_threshold * sum)
				break;
			total += sum;
			mine += r[i];
			for (j = 0; j < item->nactive; j++)
			{
				if (item->active[j] == item->owner)
					owners += r[j];
				saved += r[j] * (extra(cluster, item->active[j], item->owner) -
								 extra(cluster, item->active[j],
									   item->active[i]));
			}
		}
		if (k < policy->reactive_steps || k == 0)
			continue;
		if (item->nhorizons > 0 && item->rate[i] >= mine / k / 2)
			continue;			/* foreseen, and judged not worth it */
		one.trigger = FA_TRIGGER_REACTIVE;
		one.destination = item->active[i];
		one.accesses = mine;
		one.affinity = mine / total;
		one.owner_affinity = owners / total;
		one.access_ms = extra(cluster, item->active[i], item->owner);
		one.benefit_ms = (1 - policy->unpaid) * saved * total /
			(total + policy->doubt + EPSILON);
		one.cost_ms = item->cost_ms;
		one.hold_steps = k;
		one.wait_steps = 0;
		if (one.benefit_ms <= one.cost_ms)
			continue;
		one.verdict = check_limits(policy, item, policy->reactive_threshold,
								   &one);
		*out = one;
		return;
	}
}

void
fa_decide_item(const FaPlaceCluster *cluster, const FaPlacePolicy *policy,
			   const FaPlaceItem *item, FaDecision *out)
{
	Plan		plan;

	memset(out, 0, sizeof(*out));
	out->verdict = FA_VERDICT_STAY;
	out->trigger = FA_TRIGGER_PREDICTIVE;
	out->destination = -1;
	out->cost_ms = item->cost_ms;

	if (!cluster->node[item->owner].alive)
		return;					/* nobody to copy from */
	if (item->nhorizons > 0 && item->evidence > 0)
		decide_by_forecast(&plan, cluster, policy, item, out);
	if (policy->reactive && out->verdict != FA_VERDICT_MOVE &&
		out->verdict != FA_VERDICT_RESIDENCY)
		decide_by_past(cluster, policy, item, out);
	if (item->moving && out->verdict != FA_VERDICT_STAY)
		out->verdict = FA_VERDICT_MOVING;
}

void
fa_decide_drain(const FaPlaceCluster *cluster, const FaPlaceItem *item,
				FaDecision *out)
{
	double		most = -1;
	double		total = 0;
	double		free_most = -1;
	int			n,
				i,
				j;

	memset(out, 0, sizeof(*out));
	out->verdict = FA_VERDICT_CAPACITY;
	out->trigger = FA_TRIGGER_DRAIN;
	out->destination = -1;
	out->cost_ms = item->cost_ms;
	out->hold_steps = item->nhorizons > 0 ?
		item->horizons[item->nhorizons - 1] : 0;

	for (i = 0; i < item->nactive; i++)
		for (j = 0; j < item->nhorizons; j++)
			total += item->rate[j * item->nactive + i];
	for (n = 0; n < cluster->nnodes; n++)
	{
		const FaPlaceNode *node = &cluster->node[n];
		double		w = 0;
		double		room;

		if (n == item->owner || !may_receive(cluster, item, n))
			continue;
		/* without a stated limit the emptiest node has most room */
		room = (node->capacity > 0 ? node->capacity : 1e18) - node->used;
		for (i = 0; i < item->nactive; i++)
			for (j = 0; item->active[i] == n && j < item->nhorizons; j++)
				w += item->rate[j * item->nactive + i];
		if (w > most + EPSILON ||
			(w > most - EPSILON && room > free_most))
		{
			most = w;
			free_most = room;
			out->destination = n;
		}
	}
	if (out->destination < 0)
		return;
	out->verdict = item->moving ? FA_VERDICT_MOVING : FA_VERDICT_MOVE;
	out->affinity = total > 0 ? most / total : 0;
	out->access_ms = extra(cluster, out->destination, item->owner);
}
