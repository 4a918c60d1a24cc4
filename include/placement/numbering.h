/*
 * numbering.h
 *	  Fragments as the numbers 0, 1, ... that src/predict works with.
 */
#ifndef FA_PLACEMENT_NUMBERING_H
#define FA_PLACEMENT_NUMBERING_H

#include "utils/hsearch.h"

typedef struct FaNumbering
{
	int			n;
	int			allocated;
	int64	   *fragment;		/* by number */
	HTAB	   *index;
} FaNumbering;

/* Empty, in a context, which frees it; expected > 0 is a guess. */
extern void fa_numbering_init(FaNumbering *numbering, MemoryContext context,
							  int expected);

/* The fragment's number; -1 when it has none. */
extern int	fa_numbering_find(const FaNumbering *numbering, int64 fragment);

/* Its number, the next one if it had none. */
extern int	fa_numbering_add(FaNumbering *numbering, int64 fragment);

#endif							/* FA_PLACEMENT_NUMBERING_H */
