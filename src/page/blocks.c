/*
 * blocks.c
 *	  A set of blocks of one relation: a bitmap that grows.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "page/blocks.h"

#define BITS 64
#define BIT(block) (UINT64CONST(1) << ((block) % BITS))

void
fa_blocks_init(FaBlockSet *set)
{
	memset(set, 0, sizeof(*set));
	set->context = CurrentMemoryContext;
}

static void
blocks_grow(FaBlockSet *set, BlockNumber word)
{
	BlockNumber nwords = Max(word + 1, Min(set->nwords * 2,
										   InvalidBlockNumber / BITS + 1));
	Size		size = mul_size(Max(nwords, 64), sizeof(uint64));
	uint64	   *words = MemoryContextAllocHuge(set->context, size);

	nwords = Max(nwords, 64);
	memset(words, 0, size);
	if (set->words)
	{
		memcpy(words, set->words, set->nwords * sizeof(uint64));
		pfree(set->words);
	}
	set->words = words;
	set->nwords = nwords;
}

bool
fa_blocks_has(const FaBlockSet *set, BlockNumber block)
{
	return block / BITS < set->nwords &&
		(set->words[block / BITS] & BIT(block)) != 0;
}

void
fa_blocks_add(FaBlockSet *set, BlockNumber block)
{
	if (fa_blocks_has(set, block))
		return;
	if (block / BITS >= set->nwords)
		blocks_grow(set, block / BITS);
	set->words[block / BITS] |= BIT(block);
	set->count++;
}

void
fa_blocks_remove(FaBlockSet *set, BlockNumber block)
{
	if (!fa_blocks_has(set, block))
		return;
	set->words[block / BITS] &= ~BIT(block);
	set->count--;
}

void
fa_blocks_add_range(FaBlockSet *set, BlockNumber from, BlockNumber end)
{
	for (BlockNumber block = from; block < end; block++)
		fa_blocks_add(set, block);
}

void
fa_blocks_cut(FaBlockSet *set, BlockNumber from)
{
	for (BlockNumber block = fa_blocks_next(set, from);
		 block != InvalidBlockNumber;
		 block = fa_blocks_next(set, block))
		fa_blocks_remove(set, block);
}

BlockNumber
fa_blocks_next(const FaBlockSet *set, BlockNumber from)
{
	for (BlockNumber word = from / BITS; word < set->nwords; word++)
	{
		uint64		bits = set->words[word];

		if (word == from / BITS)
			bits &= ~UINT64CONST(0) << (from % BITS);
		if (bits != 0)
			return word * BITS + pg_rightmost_one_pos64(bits);
	}
	return InvalidBlockNumber;
}

void
fa_blocks_take(FaBlockSet *set, FaBlockSet *from)
{
	for (BlockNumber block = fa_blocks_next(from, 0);
		 block != InvalidBlockNumber;
		 block = fa_blocks_next(from, block + 1))
		fa_blocks_add(set, block);
	fa_blocks_clear(from);
}

void
fa_blocks_clear(FaBlockSet *set)
{
	if (set->count > 0)
		memset(set->words, 0, set->nwords * sizeof(uint64));
	set->count = 0;
}
