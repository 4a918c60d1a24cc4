/*
 * hindsight.h
 *	  The cheapest sequence of owners of a fragment, when its accesses are
 *	  known: what no policy can beat.
 *
 * Plain C like decide.h.  Dynamic programming forward in time, with one entry
 * a node: the best way to have ended there.  Limits (capacity, residency,
 * budgets) are not considered; a move is free to come just before the
 * accesses that it is for.
 */
#ifndef FA_PLACEMENT_HINDSIGHT_H
#define FA_PLACEMENT_HINDSIGHT_H

/* The best way to own at one node now. */
typedef struct FaWay
{
	double		cost_ms;		/* waiting and moves */
	double		waiting_ms;		/* of remote accesses alone */
	double		remote;			/* accesses */
	int			moves;
} FaWay;

/* way: nnodes entries, filled for a fragment that owner has. */
extern void fa_hindsight_begin(FaWay *way, int nnodes, int owner);

/*
 * Takes one step of accesses, count[i] from node active[i].  extra_ms as in
 * FaPlaceCluster.  from_p, if not NULL, gets for each node where the fragment
 * was before the step if it is there in it.
 */
extern void fa_hindsight_step(FaWay *way, int nnodes, const double *extra_ms,
							  const int *active, const double *count,
							  int nactive, double move_ms, int *from_p);

/* The node at which the cheapest way ends. */
extern int	fa_hindsight_best(const FaWay *way, int nnodes);

#endif							/* FA_PLACEMENT_HINDSIGHT_H */
