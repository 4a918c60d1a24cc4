/*
 * copy_lines.h
 *	  Where in the input of a COPY the rows were that peers' errors are about.
 */
#ifndef FA_NODE_COPY_LINES_H
#define FA_NODE_COPY_LINES_H

#include "commands/copy.h"
#include "lib/stringinfo.h"

#include "core/fa_compat.h"

/* in copy_lines.c: in which line of its input each row of a stream was */

typedef struct FaLines
{
	StringInfoData distances;	/* from row to row, 7 bits a byte */
	int64		last;
} FaLines;

/* In the current memory context. */
extern void fa_lines_init(FaLines *lines);

/* Forgets the rows that were added. */
extern void fa_lines_reset(FaLines *lines);

/* The next row's line; lines seldom go back.  Memory is bounded. */
extern void fa_lines_add(FaLines *lines, int64 line);

/* Line of the n-th row, from 1; 0 when it is not known. */
extern int64 fa_lines_get(const FaLines *lines, int64 row);

/* in copy_place.c */

/* What to say of the row that an error is about. */
typedef struct FaCopyPlace
{
	const char *table;
	int64		from;			/* line; 0: not known */
	int64		to;
	const char *rest;			/* of it, behind the line; NULL: nothing */
} FaCopyPlace;

/* The COPY FROM that runs, or NULL. */
extern CopyFromState fa_copy_state(void);

/* Errors are about this place from now on, not about where COPY reads. */
extern void fa_copy_push_place(ErrorContextCallback *context,
							   FaCopyPlace *place);

/*
 * Has a parallel worker of this session raised it?  Then its context is that of the
 * worker's COPY.
 */
extern bool fa_copy_is_workers(const ErrorData *edata);

/* Raises an error again, with this place as all of its context. */
FA_NORETURN extern void fa_copy_raise(ErrorData *edata, FaCopyPlace *place);

/*
 * Likewise an error of a peer's COPY of this table, whose rows were in these lines.
 * What it says of a column is kept.
 */
FA_NORETURN extern void fa_copy_raise_peers(ErrorData *edata, const char *table,
											const FaLines *lines);

#endif							/* FA_NODE_COPY_LINES_H */
