/*
 * hints.h
 *	  What people know beforehand, mixed into a forecast's shares.
 *
 * A *pull* says that accesses to a fragment come from a node, always or in a
 * window that comes again; a *link* says that a fragment is used from where
 * another one is.  Each has a weight in (0, 1]: the belief in it.  Shares
 * become (1 - weight) x forecast + weight x what the hint says, so that a
 * wrong hint with a weight below 1 cannot hide what is seen.
 *
 * Plain C.  Fragments and nodes are the predictor's indexes; time is in any
 * unit, as long as it is the same in all of it.
 */
#ifndef FA_PREDICT_HINTS_H
#define FA_PREDICT_HINTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct FaHintPull
{
	int			fragment;
	int			node;
	double		weight;
	int64_t		starting;		/* of the first window */
	int64_t		lasting;		/* length of a window; 0: always */
	int64_t		every;			/* from one start to the next; 0: once */
} FaHintPull;

typedef struct FaHintLink
{
	int			from;			/* fragment that leads */
	int			to;				/* fragment that follows */
	double		weight;
} FaHintLink;

typedef struct FaHints
{
	int			npulls;
	FaHintPull *pull;			/* by fragment, ascending */
	int			nlinks;
	FaHintLink *link;			/* by to, ascending */
} FaHints;

/* Shares of a fragment by node, before any hint; false: it has none. */
typedef bool (*FaHintShares) (void *arg, int fragment, double *p_p);

/* in hints.c */

/* Sorts what was filled in. */
extern void fa_hints_sort(FaHints *hints);

/* Is there a hint for the fragment? */
extern bool fa_hints_concern(const FaHints *hints, int fragment);

/* Part of [from, to) that lies in the pull's windows. */
extern double fa_hints_overlap(const FaHintPull *pull, int64_t from,
							   int64_t to);

/*
 * Mixes the hints for a fragment in the time [from, to) into its shares,
 * which sum to 1 before and after.  scratch has room for nnodes; shares is
 * asked for leading fragments, whose pulls count and whose links do not.
 */
extern void fa_hints_apply(const FaHints *hints, int fragment, int64_t from,
						   int64_t to, int nnodes, FaHintShares shares,
						   void *arg, double *scratch, double *p);

#endif							/* FA_PREDICT_HINTS_H */
