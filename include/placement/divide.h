/*
 * divide.h
 *	  Fragments that are divided, or united, because of who uses their keys.
 *
 *	hot_range.c		which part of a fragment a node wants; plain C
 *	hot_keys.c		the same from samples of all nodes and the keys' statistics
 *	divide.c		the coordinator: where it could pay, and asks the owner
 *	divider.c		the owner's background process that does it
 */
#ifndef FA_PLACEMENT_DIVIDE_H
#define FA_PLACEMENT_DIVIDE_H

#include "catalog/map.h"
#include "placement/controller.h"
#include "placement/hot_range.h"

typedef struct FaHotKeys
{
	FaHotRange	range;
	char	   *key_from;
	char	   *key_to;			/* NULL: all that follow */
	double		accesses;		/* of the node to the fragment, in heat_window */
} FaHotKeys;

/* in hot_keys.c */

/*
 * On the owner, in a transaction: the range of keys of a fragment that a node
 * wants; false when there is none that stands out, or too little is known.
 * A node that is known to be down is taken to want nothing; raises when another
 * cannot be asked.
 */
extern bool fa_hot_keys(const FaFragment *f, int node, FaHotKeys *out);

/* in divide.c */

/* In a transaction: looks for fragments to divide or to unite. */
extern void fa_divide_look(FaPlaceInput *input, FaForecaster *f);
/* Outside a transaction: asks their owners. */
extern void fa_divide_send(void);

#endif							/* FA_PLACEMENT_DIVIDE_H */
