/*
 * divide.h
 *	  Fragments that are divided, or united, because of who uses their keys.
 *
 *	hot_range.c		which part of a fragment a node wants; plain C
 *	hot_keys.c		the same from samples of all nodes and the keys' statistics
 *	divide.c		the coordinator: where it could pay, and asks the owner
 *	divide_size.c	the same where it is due to sizes alone, and what is united
 *	divide_note.c	what of that is wanted, for people
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
/* Asked for, and not so long ago that it may be asked again. */
extern bool fa_divide_was_asked(int64 fragment);
/* Has the owner (node id) asked, and not again for a time. */
extern void fa_divide_ask(int64 fragment, int node, double rest_ms,
						  const char *sql);
/* The verdict on what would hold a fragment's division back; NULL: nothing. */
extern const char *fa_divide_held(FaPlaceInput *input, const FaPlaceRow *row);

/* in divide_size.c; in a transaction */
extern void fa_divide_by_size(FaPlaceInput *input, const FaPlaceRow *row);
/* Parts of all tables that need no longer be apart. */
extern void fa_divide_unite(FaPlaceInput *input);

/* in divide_note.c; in a transaction */

typedef struct FaDivideNote
{
	int64		fragment;
	bool		merge;
	int			destination;	/* node id of who wants the part; 0: nobody */
	double		benefit_ms;
	double		cost_ms;
	const char *verdict;
	char	   *reason;
} FaDivideNote;

/* Of a transaction before, that ended in an error. */
extern void fa_divide_forget_notes(void);
extern void fa_divide_note(const FaDivideNote *note);
/* Replaces those of one kind that were written before. */
extern void fa_divide_write_notes(bool merges);

#endif							/* FA_PLACEMENT_DIVIDE_H */
