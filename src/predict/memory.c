/*
 * memory.c
 *	  Blocks of one owner, on a list.
 */
#include <string.h>

#include "predict/memory.h"

typedef struct FaBlock
{
	struct FaBlock *prev;
	struct FaBlock *next;
	size_t		size;
	size_t		unused;			/* keeps the payload aligned to 16 */
} FaBlock;

/* Zeroed memory for n items. */
void *
fa_memory_alloc(FaMemory *memory, size_t n, size_t size)
{
	FaBlock    *b;

	if (n == 0)
		n = 1;
	if (size > 0 && n > (SIZE_MAX / 4) / size)
		n = (SIZE_MAX / 4) / size;	/* let the allocator refuse it */
	b = memory->allocator.alloc(memory->allocator.arg,
								sizeof(FaBlock) + n * size);
	b->size = sizeof(FaBlock) + n * size;
	b->prev = NULL;
	b->next = memory->blocks;
	if (b->next != NULL)
		b->next->prev = b;
	memory->blocks = b;
	memory->size += b->size;
	return b + 1;
}

void
fa_memory_free(FaMemory *memory, void *ptr)
{
	FaBlock    *b;

	if (ptr == NULL)
		return;
	b = (FaBlock *) ptr - 1;
	if (b->prev != NULL)
		b->prev->next = b->next;
	else
		memory->blocks = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
	memory->size -= b->size;
	memory->allocator.release(memory->allocator.arg, b);
}

/* A larger copy; what is added is zero.  The old block is released. */
void *
fa_memory_grow(FaMemory *memory, void *ptr, size_t old_n, size_t n,
			   size_t size)
{
	void	   *grown = fa_memory_alloc(memory, n, size);

	if (ptr != NULL)
	{
		memcpy(grown, ptr, old_n * size);
		fa_memory_free(memory, ptr);
	}
	return grown;
}

void
fa_memory_free_all(FaMemory *memory)
{
	FaBlock    *b = memory->blocks;

	while (b != NULL)
	{
		FaBlock    *next = b->next;

		memory->allocator.release(memory->allocator.arg, b);
		b = next;
	}
	memory->blocks = NULL;
	memory->size = 0;
}
