/*
 * numbering.c
 *	  Fragments as small numbers; see numbering.h.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "placement/numbering.h"

typedef struct NumberingEntry
{
	int64		fragment;		/* hash key */
	int			number;
} NumberingEntry;

void
fa_numbering_init(FaNumbering *numbering, MemoryContext context, int expected)
{
	HASHCTL		ctl = {.keysize = sizeof(int64),
	.entrysize = sizeof(NumberingEntry),.hcxt = context};

	numbering->n = 0;
	numbering->allocated = expected;
	numbering->fragment = MemoryContextAllocHuge(context,
												 sizeof(int64) * expected);
	numbering->index = hash_create("fragaffinity numbers of fragments",
								   expected, &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

int
fa_numbering_find(const FaNumbering *numbering, int64 fragment)
{
	NumberingEntry *entry = hash_search(numbering->index, &fragment,
										HASH_FIND, NULL);

	return entry ? entry->number : -1;
}

int
fa_numbering_add(FaNumbering *numbering, int64 fragment)
{
	bool		found;
	NumberingEntry *entry = hash_search(numbering->index, &fragment,
										HASH_ENTER, &found);

	if (found)
		return entry->number;
	entry->number = numbering->n;
	if (numbering->n == numbering->allocated)
	{
		numbering->allocated *= 2;
		numbering->fragment = repalloc_huge(numbering->fragment,
											sizeof(int64) * numbering->allocated);
	}
	numbering->fragment[numbering->n++] = fragment;
	return entry->number;
}
