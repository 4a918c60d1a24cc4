/*
 * hot_range.c
 *	  The part of a fragment that one node wants; see hot_range.h.
 */
#include "placement/hot_range.h"

bool
fa_hot_range(const double *own, const double *others, int nbins,
			 FaHotRange *out)
{
	double		total = 0;
	double		best = 0;
	double		sum = 0;
	double		in_own = 0;
	double		in_others = 0;
	int			from = 0;

	for (int i = 0; i < nbins; i++)
		total += own[i];
	if (total <= 0)
		return false;
	/* the largest sum of neighbours: one that has sunk to nothing is let go */
	for (int i = 0; i < nbins; i++)
	{
		if (sum <= 0)
		{
			sum = 0;
			from = i;
		}
		sum += own[i] - others[i] - total / nbins;
		if (sum > best)
		{
			best = sum;
			out->first = from;
			out->last = i;
		}
	}
	if (best <= 0 || out->last - out->first + 1 == nbins)
		return false;
	for (int i = out->first; i <= out->last; i++)
	{
		in_own += own[i];
		in_others += others[i];
	}
	out->share = in_own / total;
	out->purity = in_own / (in_own + in_others);
	out->rows = (double) (out->last - out->first + 1) / nbins;
	return true;
}
