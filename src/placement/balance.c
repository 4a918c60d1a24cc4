/*
 * balance.c
 *	  Owners for many fragments at once, when nodes have limits.
 *
 * A generalized assignment problem (each item to one node, two resources), so
 * in three steps:
 *
 *	1. relief: what is on a node above its limits leaves it, cheapest first
 *	   for what it takes away
 *	2. local search: the best move, swap, or chain of two (one makes room for
 *	   the other), while there is a gain
 *	3. branch and bound from that, within a budget: small problems are solved
 *	   exactly, large ones keep what was found, and say how far from the bound
 *	   they may be
 *
 * The bound is what all items would cost if each had the best node for itself.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "placement/balance.h"

#define EPSILON 1e-9
#define SEARCH_BUDGET 200000	/* owners tried by branch and bound */
#define ROUNDS 100				/* of local search over all items */

typedef struct Search
{
	const FaBalance *b;
	int		   *owner;
	double	   *bytes;			/* by node */
	double	   *load;
	/* branch and bound */
	int		   *order;			/* items, the most decisive first */
	double	   *least;			/* of the items from a place in order on */
	int		   *try_owner;
	int		   *best_owner;
	double		best;
	long		budget;
} Search;

static double
cost_of(const FaBalanceItem *item, int node)
{
	return item->cost_ms[node] + (node != item->owner ? item->move_ms : 0);
}

/* Has a node room for an item, when so much of it leaves? */
static bool
fits(const Search *s, const FaBalanceItem *item, int node, double less_bytes,
	 double less_load)
{
	const FaBalanceNode *n = &s->b->node[node];

	if (n->closed && node != item->owner)
		return false;
	return s->bytes[node] + item->bytes - less_bytes <= n->max_bytes + EPSILON &&
		s->load[node] + item->load - less_load <= n->max_load + EPSILON;
}

static void
put(Search *s, int i, int node)
{
	const FaBalanceItem *item = &s->b->item[i];

	s->bytes[s->owner[i]] -= item->bytes;
	s->load[s->owner[i]] -= item->load;
	s->owner[i] = node;
	s->bytes[node] += item->bytes;
	s->load[node] += item->load;
}

static bool
above(const Search *s, int node)
{
	return s->bytes[node] > s->b->node[node].max_bytes + EPSILON ||
		s->load[node] > s->b->node[node].max_load + EPSILON;
}

static void
check(const Search *s)
{
	if (s->b->check)
		s->b->check();
}

/* How much of what is too much on its node an item takes away; 0 to 1. */
static double
relief_by(const Search *s, const FaBalanceItem *item, int node)
{
	const FaBalanceNode *n = &s->b->node[node];
	double		bytes = s->bytes[node] - n->max_bytes;
	double		load = s->load[node] - n->max_load;
	double		relief = 0;

	if (bytes > EPSILON)
		relief = fmax(relief, fmin(item->bytes / bytes, 1));
	if (load > EPSILON)
		relief = fmax(relief, fmin(item->load / load, 1));
	return relief;
}

static void
relieve(Search *s)
{
	const FaBalance *b = s->b;
	int			node;

	for (node = 0; node < b->nnodes; node++)
	{
		while (above(s, node))
		{
			double		least = DBL_MAX;
			int			item = -1;
			int			to = -1;
			int			i,
						n;

			check(s);
			for (i = 0; i < b->nitems; i++)
			{
				double		relief;

				if (s->owner[i] != node || b->item[i].fixed)
					continue;
				relief = relief_by(s, &b->item[i], node);
				for (n = 0; n < b->nnodes && relief > 0; n++)
				{
					double		price = (cost_of(&b->item[i], n) -
										 cost_of(&b->item[i], node)) / relief;

					/* of equals, the emptiest */
					if (n != node && fits(s, &b->item[i], n, 0, 0) &&
						(price < least - EPSILON ||
						 (price < least + EPSILON && to >= 0 &&
						  s->bytes[n] < s->bytes[to])))
					{
						least = price;
						item = i;
						to = n;
					}
				}
			}
			if (item < 0)
				break;			/* nowhere to go */
			put(s, item, to);
		}
	}
}

/* The cheapest other place for an item; its cost in *cost_p, or -1. */
static int
best_place(const Search *s, int i, int except, double *cost_p)
{
	const FaBalanceItem *item = &s->b->item[i];
	int			best = -1;
	int			n;

	for (n = 0; n < s->b->nnodes; n++)
	{
		double		cost = cost_of(item, n);

		if (n != except && n != s->owner[i] && (best < 0 || cost < *cost_p) &&
			fits(s, item, n, 0, 0))
		{
			best = n;
			*cost_p = cost;
		}
	}
	return best;
}

/*
 * Item i wants to a node without room: the item there that had best change
 * places with it, or make way.  True when that was done.
 */
static bool
make_way(Search *s, int i, int node, double gain)
{
	const FaBalance *b = s->b;
	const FaBalanceItem *item = &b->item[i];
	int			from = s->owner[i];
	double		best = EPSILON;
	int			other = -1;
	int			to = -1;
	int			j;

	for (j = 0; j < b->nitems; j++)
	{
		const FaBalanceItem *that = &b->item[j];
		double		now = cost_of(that, node);
		double		cost;
		int			place;

		if (s->owner[j] != node || that->fixed ||
			!fits(s, item, node, that->bytes, that->load))
			continue;
		if (gain - (cost_of(that, from) - now) > best &&
			fits(s, that, from, item->bytes, item->load))
		{
			best = gain - (cost_of(that, from) - now);
			other = j;
			to = from;
		}
		place = best_place(s, j, from, &cost);
		if (place >= 0 && gain - (cost - now) > best)
		{
			best = gain - (cost - now);
			other = j;
			to = place;
		}
	}
	if (other < 0)
		return false;
	put(s, other, to);
	put(s, i, node);
	return true;
}

static bool
improve_item(Search *s, int i)
{
	const FaBalanceItem *item = &s->b->item[i];
	double		now = cost_of(item, s->owner[i]);
	double		cost;
	int			place = best_place(s, i, -1, &cost);
	bool		better = place >= 0 && cost < now - EPSILON;
	double		reach = better ? cost : now;
	int			n;

	for (n = 0; n < s->b->nnodes; n++)
	{
		double		gain = reach - cost_of(item, n);

		/* better than what is free, so it must be full */
		if (n != s->owner[i] && gain > EPSILON && !s->b->node[n].closed &&
			!fits(s, item, n, 0, 0) &&
			make_way(s, i, n, gain))
			return true;
	}
	if (better)
		put(s, i, place);
	return better;
}

static void
search_locally(Search *s)
{
	bool		again = true;
	int			round,
				i;

	for (round = 0; round < ROUNDS && again; round++)
	{
		again = false;
		for (i = 0; i < s->b->nitems; i++)
		{
			if (i % 64 == 0)
				check(s);
			if (!s->b->item[i].fixed)
				again |= improve_item(s, i);
		}
	}
}

static double
total_cost(const Search *s)
{
	double		sum = 0;
	int			i;

	for (i = 0; i < s->b->nitems; i++)
		sum += cost_of(&s->b->item[i], s->owner[i]);
	return sum;
}

/* What an item costs at the node that is best for it alone. */
static double
least_cost(const FaBalance *b, int i)
{
	double		least = cost_of(&b->item[i], b->item[i].owner);
	int			n;

	for (n = 0; n < b->nnodes && !b->item[i].fixed; n++)
	{
		if (!b->node[n].closed)
			least = fmin(least, cost_of(&b->item[i], n));
	}
	return least;
}

/* Owners for the items from place on, given those before; depth first. */
static void
branch(Search *s, int place, double cost)
{
	const FaBalance *b = s->b;
	int			i;
	int			n;

	if (s->budget <= 0 || cost + s->least[place] >= s->best - EPSILON)
		return;
	if (place == b->nitems)
	{
		s->best = cost;
		memcpy(s->best_owner, s->try_owner, sizeof(int) * b->nitems);
		return;
	}
	i = s->order[place];
	for (n = 0; n < b->nnodes; n++)
	{
		const FaBalanceItem *item = &b->item[i];

		if ((item->fixed && n != item->owner) || !fits(s, item, n, 0, 0))
			continue;
		s->budget--;
		s->try_owner[i] = n;
		s->bytes[n] += item->bytes;
		s->load[n] += item->load;
		branch(s, place + 1, cost + cost_of(item, n));
		s->bytes[n] -= item->bytes;
		s->load[n] -= item->load;
	}
}

/* True when nothing can be cheaper than what is in owner then. */
static bool
search_exactly(Search *s)
{
	const FaBalance *b = s->b;
	int			i,
				j;

	/* it goes as deep as there are items; more would not end anyway */
	if (b->nitems > 200)
		return false;
	s->best = total_cost(s);
	s->budget = SEARCH_BUDGET;
	memcpy(s->best_owner, s->owner, sizeof(int) * b->nitems);
	for (i = 0; i < b->nitems; i++)
	{
		/* large ones first, by insertion */
		for (j = i; j > 0 && b->item[s->order[j - 1]].bytes < b->item[i].bytes; j--)
			s->order[j] = s->order[j - 1];
		s->order[j] = i;
	}
	s->least[b->nitems] = 0;
	for (i = b->nitems - 1; i >= 0; i--)
		s->least[i] = s->least[i + 1] + least_cost(b, s->order[i]);
	memset(s->bytes, 0, sizeof(double) * b->nnodes);
	memset(s->load, 0, sizeof(double) * b->nnodes);
	branch(s, 0, 0);
	memcpy(s->owner, s->best_owner, sizeof(int) * b->nitems);
	return s->budget > 0;
}

FaBalanceResult
fa_balance(const FaBalance *b, int *owner_p)
{
	FaBalanceResult result = {0, 0, false, true};
	Search		s = {.b = b,.owner = owner_p};
	size_t		items = b->nitems + 1;
	int			i;

	s.bytes = b->alloc(sizeof(double) * (b->nnodes + 1));
	s.load = b->alloc(sizeof(double) * (b->nnodes + 1));
	s.order = b->alloc(sizeof(int) * items);
	s.least = b->alloc(sizeof(double) * items);
	s.try_owner = b->alloc(sizeof(int) * items);
	s.best_owner = b->alloc(sizeof(int) * items);
	memset(s.bytes, 0, sizeof(double) * b->nnodes);
	memset(s.load, 0, sizeof(double) * b->nnodes);
	for (i = 0; i < b->nitems; i++)
	{
		owner_p[i] = b->item[i].owner;
		s.bytes[owner_p[i]] += b->item[i].bytes;
		s.load[owner_p[i]] += b->item[i].load;
		result.bound_ms += least_cost(b, i);
	}
	relieve(&s);
	search_locally(&s);
	for (i = 0; i < b->nnodes; i++)
		result.fits &= !above(&s, i);
	if (result.fits)
		result.exact = search_exactly(&s);
	result.cost_ms = total_cost(&s);
	b->release(s.bytes);
	b->release(s.load);
	b->release(s.order);
	b->release(s.least);
	b->release(s.try_owner);
	b->release(s.best_owner);
	return result;
}
