/*
 * divide.h
 *	  Fragments that are divided, or united, because of who uses their keys.
 *
 *	hot_range.c		which part of a fragment a node wants; plain C
 *	hot_keys.c		the same from samples of all nodes and the keys' statistics
 *	divide.c		the coordinator: where it could pay, and asks the owner
 *	divide_size.c	the same where it is due to sizes alone, and what is united
 *	divide_note.c	what of that is wanted, for people
 *	divide_rest.c	what failed, and for how long it is not tried again
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

typedef struct FaDivideNote
{
	int64		fragment;
	bool		merge;
	int			destination;	/* node id of who wants the part; 0: nobody */
	double		benefit_ms;
	double		cost_ms;
	const char *verdict;
	const char *reason;
} FaDivideNote;

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
/* Has the owner (node id) asked, and not again for a time. */
extern void fa_divide_ask(int64 fragment, int node, double rest_ms,
						  const char *sql);
/*
 * Sets the note's verdict to what holds it back, NULL: nothing does; other is
 * who else takes part, or NULL.  The note has its reason already.
 */
extern void fa_divide_judge(FaPlaceInput *input, const FaPlaceRow *row,
							const FaPlaceRow *other, FaDivideNote *note);

/* in divide_size.c; in a transaction */
extern void fa_divide_by_size(FaPlaceInput *input, const FaPlaceRow *row);
/* Parts of all tables that need no longer be apart. */
extern void fa_divide_unite(FaPlaceInput *input);

/* in divide_note.c; in a transaction */

/* Of a transaction before, that ended in an error. */
extern void fa_divide_forget_notes(void);
extern void fa_divide_note(const FaDivideNote *note);
/* Replaces those of one kind that were written before. */
extern void fa_divide_write_notes(bool merges);

/* in divide_rest.c; in a transaction */

/* Once a look, before the next. */
extern void fa_divide_read_failures(void);
/*
 * Adds to the note's reason how often it has failed in a row, if it has; while
 * it is not to be tried again and nothing else holds it, that is the verdict.
 */
extern void fa_divide_rest(FaDivideNote *note, int table_id);
/* On any node: has the coordinator note an end; error NULL: it was done. */
extern void fa_divide_tell(int64 fragment, bool merge, const char *error);
/*
 * Likewise: is it not to rest?  It may have been asked for before the
 * coordinator heard of a failure.
 */
extern bool fa_divide_may_begin(int64 fragment, bool merge);

#endif							/* FA_PLACEMENT_DIVIDE_H */
