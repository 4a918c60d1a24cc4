/*
 * hot_range.h
 *	  The part of a fragment that one node wants and the others do not.
 *
 * Plain C on plain structs, no server header.
 */
#ifndef FA_PLACEMENT_HOT_RANGE_H
#define FA_PLACEMENT_HOT_RANGE_H

#include <stdbool.h>

typedef struct FaHotRange
{
	int			first;			/* bins, both included */
	int			last;
	double		share;			/* of the node's accesses that fall in it */
	double		purity;			/* of all accesses in it, those of the node */
	double		rows;			/* share of the fragment's rows */
} FaHotRange;

/*
 * own[bin], others[bin]: accesses of the node, and of all others, to each of
 * nbins parts of the fragment, in the order of keys, that have equally many
 * rows.  The range is the one with the largest sum of own - others - mean,
 * mean being what a bin would get of the node's accesses were they spread
 * evenly: so it ends where the node's interest is no more than that, or that
 * of others is as great.  False when there is none, or it is all of it.
 */
extern bool fa_hot_range(const double *own, const double *others, int nbins,
						 FaHotRange *out);

#endif							/* FA_PLACEMENT_HOT_RANGE_H */
