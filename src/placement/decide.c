/*
 * decide.c
 *	  The decision about one fragment.
 *
 * A fragment moves now if the cheapest sequence of owners (plan.c) begins so, or
 * with a move that would be late if it were decided about next time.
 *
 * The limits that a table's owner sets (threshold, hysteresis, residency)
 * come after that: they can only refuse.
 */
#include <math.h>
#include <string.h>

#include "placement/plan.h"

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
		fa_place_may_receive(cluster, item, item->active[best]) ||
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
name_nearest(const FaPlan *plan, const FaPlaceCluster *cluster,
			 const FaPlacePolicy *policy, FaDecision *out)
{
	FaDecision	one = *out;
	int			d;

	for (d = 1; d < plan->ncand; d++)
	{
		fa_plan_describe(plan, cluster, 0, d, &one);
		if (one.benefit_ms > 0 && one.benefit_ms > out->benefit_ms &&
			(one.affinity >= policy->threshold ||
			 one.benefit_ms >= plan->cost / 4))
		{
			*out = one;
			out->verdict = FA_VERDICT_COST;
		}
	}
}

/*
 * The cheapest sequence begins by staying: when is its first move?  If it must
 * begin before the next decision, it is asked for now.
 */
static bool
name_later(const FaPlan *plan, const FaPlaceCluster *cluster,
		   const FaPlacePolicy *policy, const FaPlaceItem *item,
		   FaDecision *out)
{
	FaPlaceItem then = *item;
	int			k = 1;

	while (k < plan->ncells && plan->go[k][0] == 0)
		k++;
	if (k >= plan->ncells)
		return false;
	fa_plan_describe(plan, cluster, k, plan->go[k][0], out);
	out->verdict = FA_VERDICT_LATER;
	if (out->wait_steps < cluster->again_steps)
	{
		then.since_move_ms += out->wait_steps * cluster->step_ms;
		out->verdict = check_limits(policy, &then, policy->threshold, out);
	}
	return true;
}

static void
decide_by_forecast(FaPlan *plan, const FaPlaceCluster *cluster,
				   const FaPlacePolicy *policy, const FaPlaceItem *item,
				   FaDecision *out)
{
	bool		tried[FA_PLAN_CANDIDATES] = {false};
	double		stay;
	int			n,
				d;

	if (!fa_plan_begin(plan, cluster, policy, item))
	{
		name_unable(cluster, policy, item, out);
		return;
	}
	fa_plan_make(plan);

	/* now, best destination first, if the limits let it */
	stay = fa_plan_value_of_staying(plan, 0, 0);
	for (n = 1; n < plan->ncand; n++)
	{
		FaDecision	one = *out;
		double		best = stay + FA_PLAN_EPSILON;
		int			pick = 0;

		for (d = 1; d < plan->ncand; d++)
		{
			double		v = fa_plan_value_of_move(plan, 0, 0, d);

			if (!tried[d] && v > best)
			{
				best = v;
				pick = d;
			}
		}
		if (pick == 0)
			break;
		tried[pick] = true;
		fa_plan_describe(plan, cluster, 0, pick, &one);
		one.verdict = check_limits(policy, item, policy->threshold, &one);
		if (n == 1 || one.verdict == FA_VERDICT_MOVE)
			*out = one;
		if (one.verdict == FA_VERDICT_MOVE)
			return;
	}
	if (n > 1 || name_later(plan, cluster, policy, item, out))
		return;
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
			!fa_place_may_receive(cluster, item, item->active[i]))
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
				saved += r[j] * (fa_place_extra(cluster, item->active[j], item->owner) -
								 fa_place_extra(cluster, item->active[j],
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
		one.access_ms = fa_place_extra(cluster, item->active[i], item->owner);
		one.benefit_ms = (1 - policy->unpaid) * saved * total /
			(total + policy->doubt + FA_PLAN_EPSILON);
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
	FaPlan		plan;

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
				int toward, FaDecision *out)
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

		if (n == item->owner || (toward >= 0 && n != toward) ||
			!fa_place_may_receive(cluster, item, n))
			continue;
		/* without a stated limit the emptiest node has most room */
		room = (node->capacity > 0 ? node->capacity : 1e18) -
			fa_place_taken(cluster, item, n);
		for (i = 0; i < item->nactive; i++)
			for (j = 0; item->active[i] == n && j < item->nhorizons; j++)
				w += item->rate[j * item->nactive + i];
		if (w > most + FA_PLAN_EPSILON ||
			(w > most - FA_PLAN_EPSILON && room > free_most))
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
	out->access_ms = fa_place_extra(cluster, out->destination, item->owner);
}

void
fa_decide_planned(const FaPlaceCluster *cluster, const FaPlaceItem *item,
				  int destination, FaDecision *out)
{
	const FaPlaceNode *node = &cluster->node[destination];

	memset(out, 0, sizeof(*out));
	out->trigger = FA_TRIGGER_REBALANCE;
	out->destination = destination;
	out->cost_ms = item->cost_ms;
	out->access_ms = fa_place_extra(cluster, destination, item->owner);
	out->verdict = item->pinned ? FA_VERDICT_PINNED :
		!node->alive || !cluster->node[item->owner].alive ? FA_VERDICT_DOWN :
		node->draining ? FA_VERDICT_DRAINING :
		item->moving ? FA_VERDICT_MOVING : FA_VERDICT_MOVE;
}
