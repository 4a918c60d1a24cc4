/*
 * hindsight.c
 *	  The cheapest sequence of owners of a fragment, when its accesses are
 *	  known.
 *
 * Moves all cost the same, so only the cheapest node is worth coming from,
 * and a step takes time in proportion to the nodes, not to their square.
 */
#include <math.h>
#include <stddef.h>

#include "placement/hindsight.h"

void
fa_hindsight_begin(FaWay *way, int nnodes, int owner)
{
	for (int n = 0; n < nnodes; n++)
		way[n] = (FaWay) {n == owner ? 0 : INFINITY, 0, 0, 0};
}

int
fa_hindsight_best(const FaWay *way, int nnodes)
{
	int			best = 0;

	for (int n = 1; n < nnodes; n++)
	{
		if (way[n].cost_ms < way[best].cost_ms)
			best = n;
	}
	return best;
}

void
fa_hindsight_step(FaWay *way, int nnodes, const double *extra_ms,
				  const int *active, const double *count, int nactive,
				  double move_ms, int *from_p)
{
	int			source = fa_hindsight_best(way, nnodes);
	FaWay		moved = way[source];

	moved.cost_ms += move_ms;
	moved.moves++;
	for (int n = 0; n < nnodes; n++)
	{
		double		waiting = 0;
		double		remote = 0;
		int			from = n;

		if (moved.cost_ms < way[n].cost_ms)
		{
			way[n] = moved;
			from = source;
		}
		if (from_p != NULL)
			from_p[n] = from;
		for (int i = 0; i < nactive; i++)
		{
			waiting += count[i] * extra_ms[(size_t) active[i] * nnodes + n];
			remote += active[i] != n ? count[i] : 0;
		}
		way[n].cost_ms += waiting;
		way[n].waiting_ms += waiting;
		way[n].remote += remote;
	}
}
