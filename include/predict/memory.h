/*
 * memory.h
 *	  Blocks of one owner, on a list.
 *
 * Every block is on the list, so that all are found at the end even when the
 * allocator left in the middle of something.
 */
#ifndef FA_PREDICT_MEMORY_H
#define FA_PREDICT_MEMORY_H

#include "predict/predict.h"

typedef struct FaMemory
{
	FaAllocator allocator;
	struct FaBlock *blocks;
	size_t		size;			/* bytes held */
} FaMemory;

/* in memory.c */
extern void *fa_memory_alloc(FaMemory *memory, size_t n, size_t size);
extern void *fa_memory_grow(FaMemory *memory, void *ptr, size_t old_n,
							size_t n, size_t size);
extern void fa_memory_free(FaMemory *memory, void *ptr);
extern void fa_memory_free_all(FaMemory *memory);

#endif							/* FA_PREDICT_MEMORY_H */
