/*
 * copy_lines.h
 *	  In which line of its input each row of a stream was.
 */
#ifndef FA_NODE_COPY_LINES_H
#define FA_NODE_COPY_LINES_H

#include "lib/stringinfo.h"

typedef struct FaLines
{
	StringInfoData distances;	/* from row to row, 7 bits a byte */
	int64		last;
} FaLines;

/* In the current memory context. */
extern void fa_lines_init(FaLines *lines);

/* The next row's line; lines seldom go back.  Memory is bounded. */
extern void fa_lines_add(FaLines *lines, int64 line);

/* Line of the n-th row, from 1; 0 when it is not known. */
extern int64 fa_lines_get(const FaLines *lines, int64 row);

#endif							/* FA_NODE_COPY_LINES_H */
