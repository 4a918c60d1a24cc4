/*
 * hints.c
 *	  What people know beforehand, mixed into a forecast's shares.
 */
#include <stdlib.h>

#include "predict/hints.h"

static int
compare_pulls(const void *a, const void *b)
{
	const FaHintPull *x = a;
	const FaHintPull *y = b;

	return (x->fragment > y->fragment) - (x->fragment < y->fragment);
}

static int
compare_links(const void *a, const void *b)
{
	const FaHintLink *x = a;
	const FaHintLink *y = b;

	return (x->to > y->to) - (x->to < y->to);
}

void
fa_hints_sort(FaHints *hints)
{
	if (hints->npulls > 1)
		qsort(hints->pull, hints->npulls, sizeof(FaHintPull), compare_pulls);
	if (hints->nlinks > 1)
		qsort(hints->link, hints->nlinks, sizeof(FaHintLink), compare_links);
}

/* First pull of the fragment, or of a later one. */
static int
first_pull(const FaHints *hints, int fragment)
{
	int			low = 0;
	int			high = hints->npulls;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (hints->pull[middle].fragment < fragment)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
first_link(const FaHints *hints, int fragment)
{
	int			low = 0;
	int			high = hints->nlinks;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (hints->link[middle].to < fragment)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
fa_hints_concern(const FaHints *hints, int fragment)
{
	int			pull;
	int			link;

	if (hints == NULL)
		return false;
	pull = first_pull(hints, fragment);
	link = first_link(hints, fragment);
	return (pull < hints->npulls && hints->pull[pull].fragment == fragment) ||
		(link < hints->nlinks && hints->link[link].to == fragment);
}

/* Length of what [from, to) and [a, b) have in common. */
static double
common(int64_t from, int64_t to, int64_t a, int64_t b)
{
	int64_t		low = from > a ? from : a;
	int64_t		high = to < b ? to : b;

	return high > low ? (double) (high - low) : 0;
}

double
fa_hints_overlap(const FaHintPull *pull, int64_t from, int64_t to)
{
	double		sum = 0;
	int64_t		at = pull->starting;

	if (pull->lasting <= 0)
		return 1;
	if (to <= from || to <= pull->starting)
		return 0;
	if (pull->every <= 0)
		return common(from, to, at, at + pull->lasting) / (double) (to - from);
	if (pull->lasting >= pull->every)
		return common(from, to, at, to) / (double) (to - from);
	if (from > at)
		at += (from - at) / pull->every * pull->every;

	/* whole periods count alike, whatever their number */
	if (to - at > pull->every)
	{
		int64_t		periods = (to - at) / pull->every - 1;

		sum += (double) periods * (double) pull->lasting;
		sum += common(from, to, at, at + pull->lasting);
		at += (periods + 1) * pull->every;
	}
	for (; at < to; at += pull->every)
		sum += common(from, to, at, at + pull->lasting);
	return sum / (double) (to - from);
}

static double
belief(double weight)
{
	return weight > 1 ? 1 : weight > 0 ? weight : 0;
}

static void
apply_pulls(const FaHints *hints, int fragment, int64_t from, int64_t to,
			int nnodes, double *p)
{
	for (int i = first_pull(hints, fragment);
		 i < hints->npulls && hints->pull[i].fragment == fragment; i++)
	{
		const FaHintPull *pull = &hints->pull[i];
		double		w = belief(pull->weight) * fa_hints_overlap(pull, from, to);

		if (pull->node < 0 || pull->node >= nnodes)
			continue;
		for (int n = 0; n < nnodes; n++)
			p[n] *= 1 - w;
		p[pull->node] += w;
	}
}

void
fa_hints_apply(const FaHints *hints, int fragment, int64_t from, int64_t to,
			   int nnodes, FaHintShares shares, void *arg, double *scratch,
			   double *p)
{
	if (hints == NULL)
		return;
	for (int i = first_link(hints, fragment);
		 i < hints->nlinks && hints->link[i].to == fragment; i++)
	{
		const FaHintLink *link = &hints->link[i];
		double		w = belief(link->weight);

		if (link->from == fragment || !shares(arg, link->from, scratch))
			continue;
		apply_pulls(hints, link->from, from, to, nnodes, scratch);
		for (int n = 0; n < nnodes; n++)
			p[n] += w * (scratch[n] - p[n]);
	}
	apply_pulls(hints, fragment, from, to, nnodes, p);
}
