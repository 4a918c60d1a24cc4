/*
 * admit.c
 *	  Which of the wanted moves may begin, and a readable line for each.
 *
 * Plain C like decide.c.  Drains go first: somebody waits for them.  Then
 * moves that will be made before those that are only recommended, of each the
 * most profitable; a move that finds its destination full or busy leaves
 * its turn to the next one.  Nobody takes the room of those that come after the
 * first of their group.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placement/keep_room.h"
#include "placement/plan.h"

static const char *const verdict_names[FA_NVERDICTS] = {
	[FA_VERDICT_STAY] = "stay",
	[FA_VERDICT_MOVE] = "move",
	[FA_VERDICT_LATER] = "later",
	[FA_VERDICT_COST] = "does not pay",
	[FA_VERDICT_THRESHOLD] = "below threshold",
	[FA_VERDICT_HYSTERESIS] = "hysteresis",
	[FA_VERDICT_RESIDENCY] = "moved recently",
	[FA_VERDICT_PINNED] = "pinned",
	[FA_VERDICT_WINDOW] = "not the time",
	[FA_VERDICT_MOVING] = "moving",
	[FA_VERDICT_CAPACITY] = "no room",
	[FA_VERDICT_BUSY] = "too many moves",
	[FA_VERDICT_BUDGET] = "budget spent",
	[FA_VERDICT_DOWN] = "node down",
	[FA_VERDICT_DRAINING] = "node draining",
};

const char *
fa_verdict_name(FaVerdict verdict)
{
	return verdict_names[verdict];
}

const char *
fa_trigger_name(FaTrigger trigger)
{
	switch (trigger)
	{
		case FA_TRIGGER_PREDICTIVE:
			return "predictive";
		case FA_TRIGGER_REACTIVE:
			return "reactive";
		case FA_TRIGGER_DRAIN:
			return "drain";
		case FA_TRIGGER_REBALANCE:
			return "rebalance";
	}
	return "?";
}

typedef struct Wanted
{
	int			index;
	bool		drain;
	bool		advised;
	double		net;
} Wanted;

static int
compare_wanted(const void *a, const void *b)
{
	const Wanted *x = a;
	const Wanted *y = b;

	if (x->drain != y->drain)
		return x->drain ? -1 : 1;
	if (x->advised != y->advised)
		return x->advised ? 1 : -1;
	if (x->net != y->net)
		return x->net > y->net ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* May the move begin?  If not, says why in the decision. */
static bool
admit_one(FaPlaceCluster *cluster, const FaPlaceItem *item,
		  FaDecision *decision, int inflight)
{
	FaPlaceNode *to = &cluster->node[decision->destination];
	FaPlaceNode *from = &cluster->node[item->owner];
	bool		drain = decision->trigger == FA_TRIGGER_DRAIN;

	if (to->capacity > 0 &&
		fa_place_taken(cluster, item, decision->destination) +
		fa_place_room(cluster, item, decision->destination) > to->capacity)
	{
		decision->verdict = FA_VERDICT_CAPACITY;
		decision->limit = to->capacity;
	}
	else if (inflight >= cluster->max_moves)
	{
		decision->verdict = FA_VERDICT_BUSY;
		decision->limit = cluster->max_moves;
	}
	else if (to->incoming + to->outgoing >= cluster->max_moves_node ||
			 from->incoming + from->outgoing >= cluster->max_moves_node)
	{
		decision->verdict = FA_VERDICT_BUSY;
		decision->limit = cluster->max_moves_node;
	}
	else if (!drain && cluster->max_moves_hour > 0 &&
			 cluster->moves_hour + 1 > cluster->max_moves_hour)
	{
		decision->verdict = FA_VERDICT_BUDGET;
		decision->limit = cluster->max_moves_hour;
	}
	else if (!drain && cluster->max_bytes_hour > 0 &&
			 cluster->bytes_hour + item->bytes > cluster->max_bytes_hour)
	{
		decision->verdict = FA_VERDICT_BUDGET;
		decision->limit = cluster->max_bytes_hour;
	}
	else
	{
		to->incoming++;
		from->outgoing++;
		fa_keep_for_others(cluster, item, decision->destination);
		to->used += item->bytes;
		cluster->moves_hour++;
		cluster->bytes_hour += item->bytes;
		return true;
	}
	return false;
}

int
fa_decide_admit(FaPlaceCluster *cluster, const FaPlaceItem *items,
				FaDecision *decisions, int n, int inflight)
{
	Wanted	   *wanted;
	int			nwanted = 0;
	int			admitted = 0;
	int			i;

	for (i = 0; i < n; i++)
		nwanted += decisions[i].verdict == FA_VERDICT_MOVE;
	if (nwanted == 0)
		return 0;
	wanted = malloc(nwanted * sizeof(Wanted));
	if (wanted == NULL)
	{
		/* rather none than too many */
		for (i = 0; i < n; i++)
			if (decisions[i].verdict == FA_VERDICT_MOVE)
				decisions[i].verdict = FA_VERDICT_BUSY;
		return 0;
	}
	for (i = 0, nwanted = 0; i < n; i++)
	{
		if (decisions[i].verdict != FA_VERDICT_MOVE)
			continue;
		wanted[nwanted].index = i;
		wanted[nwanted].drain = decisions[i].trigger == FA_TRIGGER_DRAIN;
		wanted[nwanted].advised = items[i].advised;
		wanted[nwanted].net = decisions[i].benefit_ms - decisions[i].cost_ms;
		nwanted++;
	}
	qsort(wanted, nwanted, sizeof(Wanted), compare_wanted);

	for (i = 0; i < nwanted; i++)
	{
		int			w = wanted[i].index;

		if (admit_one(cluster, &items[w], &decisions[w], inflight + admitted))
			admitted++;
	}
	free(wanted);
	return admitted;
}

/* "4.2 s", "13 min": durations as people read them. */
static const char *
readable_ms(double ms, char *buf, size_t size)
{
	if (ms < 1)
		snprintf(buf, size, "%.2f ms", ms);
	else if (ms < 100)
		snprintf(buf, size, "%.1f ms", ms);
	else if (ms < 100000)
		snprintf(buf, size, "%.1f s", ms / 1000);
	else if (ms < 100 * 60000.0)
		snprintf(buf, size, "%.0f min", ms / 60000);
	else
		snprintf(buf, size, "%.1f h", ms / 3600000);
	return buf;
}

static const char *
readable_bytes(double bytes, char *buf, size_t size)
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
	int			u = 0;

	while (bytes >= 10000 && u < 4)
	{
		bytes /= 1024;
		u++;
	}
	snprintf(buf, size, "%.0f %s", bytes, unit[u]);
	return buf;
}

static void
explain_limit(const FaPlaceCluster *cluster, const FaPlacePolicy *policy,
			  const FaPlaceItem *item, const FaDecision *d, const char *owner,
			  char *buf, size_t size)
{
	char		a[32];
	char		b[32];

	buf[0] = '\0';
	switch (d->verdict)
	{
		case FA_VERDICT_MOVE:
		case FA_VERDICT_COST:
			snprintf(buf, size, "; threshold %.2f%s%s",
					 d->trigger == FA_TRIGGER_REACTIVE ?
					 policy->reactive_threshold : policy->threshold,
					 d->wait_steps > 0 ? ", begins in " : "",
					 d->wait_steps > 0 ?
					 readable_ms(d->wait_steps * cluster->step_ms, a,
								 sizeof(a)) : "");
			break;
		case FA_VERDICT_LATER:
			snprintf(buf, size, "; best begun in %s",
					 readable_ms(d->wait_steps * cluster->step_ms, a,
								 sizeof(a)));
			break;
		case FA_VERDICT_THRESHOLD:
			snprintf(buf, size, "; below the threshold %.2f", d->limit);
			break;
		case FA_VERDICT_HYSTERESIS:
			snprintf(buf, size, "; owner %s has %.2f, less than %.2f below",
					 owner, d->owner_affinity, d->limit);
			break;
		case FA_VERDICT_RESIDENCY:
			snprintf(buf, size, "; moved %s ago, stays %s",
					 readable_ms(item->since_move_ms, a, sizeof(a)),
					 readable_ms(d->limit, b, sizeof(b)));
			break;
		case FA_VERDICT_CAPACITY:
			snprintf(buf, size, "; no room for %s within its %s",
					 readable_bytes(fa_place_room(cluster, item,
												  d->destination),
									a, sizeof(a)),
					 readable_bytes(d->limit, b, sizeof(b)));
			break;
		case FA_VERDICT_BUSY:
			snprintf(buf, size, "; waits: %.0f moves at once are the limit",
					 d->limit);
			break;
		case FA_VERDICT_MOVING:
			snprintf(buf, size, "; a move is under way");
			break;
		case FA_VERDICT_PINNED:
			snprintf(buf, size, "; pinned to %s", owner);
			break;
		case FA_VERDICT_WINDOW:
			snprintf(buf, size, "; outside of move_window");
			break;
		case FA_VERDICT_BUDGET:
			if (cluster->max_moves_hour > 0 &&
				d->limit == cluster->max_moves_hour)
				snprintf(buf, size, "; waits: %.0f moves an hour are the limit",
						 d->limit);
			else
				snprintf(buf, size, "; waits: %s an hour are the limit",
						 readable_bytes(d->limit, a, sizeof(a)));
			break;
		default:
			break;
	}
}

int
fa_decide_reason(const FaPlaceCluster *cluster, const FaPlacePolicy *policy,
				 const FaPlaceItem *item, const FaDecision *d,
				 const char *destination, const char *owner,
				 char *buf, size_t size)
{
	char		hold[32];
	char		each[32];
	char		benefit[32];
	char		cost[32];
	char		limit[192];
	size_t		used;

	explain_limit(cluster, policy, item, d, owner, limit, sizeof(limit));
	used = strlen(limit);
	if (policy->unpaid >= 0.05 && d->trigger < FA_TRIGGER_DRAIN)
		snprintf(limit + used, sizeof(limit) - used,
				 "; the table's moves brought %.2f of what was expected",
				 1 - policy->unpaid);
	readable_ms(d->hold_steps * cluster->step_ms, hold, sizeof(hold));
	readable_ms(d->access_ms, each, sizeof(each));
	readable_ms(d->benefit_ms, benefit, sizeof(benefit));
	readable_ms(d->cost_ms, cost, sizeof(cost));

	if (d->destination < 0)
		return snprintf(buf, size, d->trigger == FA_TRIGGER_DRAIN ?
						"no node has room for it" : "%s is the best place",
						owner);
	if (d->benefit_ms == 0 && d->trigger == FA_TRIGGER_PREDICTIVE)
		return snprintf(buf, size, "node %s expects %.2f of the accesses%s",
						destination, d->affinity,
						d->verdict == FA_VERDICT_DOWN ? "; does not answer" :
						d->verdict == FA_VERDICT_DRAINING ?
						"; is being drained" : limit);
	if (d->trigger == FA_TRIGGER_DRAIN)
		return snprintf(buf, size, "node %s is being drained; %s expects "
						"%.2f of the accesses%s", owner, destination,
						d->affinity,
						d->verdict == FA_VERDICT_MOVE ? "" : limit);
	if (d->trigger == FA_TRIGGER_REBALANCE)
		return snprintf(buf, size, "rebalanced from node %s to %s%s", owner,
						destination,
						d->verdict == FA_VERDICT_DOWN ? "; a node is down" :
						d->verdict == FA_VERDICT_DRAINING ?
						"; is being drained" :
						d->verdict == FA_VERDICT_MOVE ? "" : limit);
	return snprintf(buf, size, "node %s %.2f of %s %s accesses (%s %.0f), "
					"remote costs %s each: %s %s, move costs %s%s",
					destination, d->affinity,
					d->trigger == FA_TRIGGER_REACTIVE ? "last" : "next",
					hold,
					d->trigger == FA_TRIGGER_REACTIVE ? "seen" : "expected",
					d->accesses, each,
					d->trigger == FA_TRIGGER_REACTIVE ?
					"unforeseen, as long again saves" : "saves",
					benefit, cost, limit);
}
