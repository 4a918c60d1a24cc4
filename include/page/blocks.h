/*
 * blocks.h
 *	  A set of blocks of one relation, a bit each.
 */
#ifndef FA_PAGE_BLOCKS_H
#define FA_PAGE_BLOCKS_H

#include "storage/block.h"

typedef struct FaBlockSet
{
	MemoryContext context;		/* the words' */
	uint64	   *words;
	BlockNumber nwords;
	BlockNumber count;			/* members */
} FaBlockSet;

/* in blocks.c */

/* Empty; lives in the current memory context. */
extern void fa_blocks_init(FaBlockSet *set);
extern bool fa_blocks_has(const FaBlockSet *set, BlockNumber block);
extern void fa_blocks_add(FaBlockSet *set, BlockNumber block);
extern void fa_blocks_remove(FaBlockSet *set, BlockNumber block);
/* From one block to the one before end. */
extern void fa_blocks_add_range(FaBlockSet *set, BlockNumber from,
								BlockNumber end);
/* Removes a block and all after it. */
extern void fa_blocks_cut(FaBlockSet *set, BlockNumber from);
extern void fa_blocks_clear(FaBlockSet *set);
/* Adds the members of another, which is empty then. */
extern void fa_blocks_take(FaBlockSet *set, FaBlockSet *from);
/* First member at or after a block; InvalidBlockNumber at the end. */
extern BlockNumber fa_blocks_next(const FaBlockSet *set, BlockNumber from);

#endif							/* FA_PAGE_BLOCKS_H */
