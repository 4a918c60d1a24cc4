/*
 * ring.c
 *	  Entries in shared memory that nobody waits for; see ring.h.
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "core/ring.h"

/* Of memory, as processors share it. */
#define LINE 64

typedef struct RingEntry
{
	pg_atomic_uint64 sequence;	/* position + 1 once valid; 0: being written */
	char		content[FLEXIBLE_ARRAY_MEMBER];
} RingEntry;

/* A small entry is in one line: two writers seldom meet there. */
static inline Size
ring_stride(Size width)
{
	Size		size = MAXALIGN(offsetof(RingEntry, content) + width);
	Size		stride = sizeof(RingEntry);

	if (size > LINE)
		return size;
	while (stride < size)
		stride *= 2;
	return stride;
}

static inline RingEntry *
ring_entry(FaRing *ring, uint64 position)
{
	return (RingEntry *) (TYPEALIGN(LINE, (char *) ring + sizeof(FaRing)) +
						  position % ring->nentries * ring->stride);
}

Size
fa_ring_size(int nentries, Size width)
{
	return add_size(sizeof(FaRing) + LINE,
					mul_size(nentries, ring_stride(width)));
}

void
fa_ring_init(FaRing *ring, int nentries, Size width)
{
	pg_atomic_init_u64(&ring->head, 0);
	ring->nentries = nentries;
	ring->width = width;
	ring->stride = ring_stride(width);
	for (int i = 0; i < nentries; i++)
		pg_atomic_init_u64(&ring_entry(ring, i)->sequence, 0);
}

void
fa_ring_append(FaRing *ring, const void *content)
{
	uint64		position = pg_atomic_fetch_add_u64(&ring->head, 1);
	RingEntry  *entry = ring_entry(ring, position);

	pg_atomic_write_u64(&entry->sequence, 0);
	pg_write_barrier();
	memcpy(entry->content, content, ring->width);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->sequence, position + 1);
}

uint64
fa_ring_head(FaRing *ring)
{
	return pg_atomic_read_u64(&ring->head);
}

bool
fa_ring_next(FaRing *ring, uint64 *position, uint64 *lost, void *content)
{
	for (;;)
	{
		uint64		head = pg_atomic_read_u64(&ring->head);
		RingEntry  *entry;
		uint64		before;
		uint64		after;

		if (*position >= head)
			return false;
		if (head - *position > ring->nentries)
		{
			*lost += head - ring->nentries - *position;
			*position = head - ring->nentries;
		}
		entry = ring_entry(ring, *position);
		before = pg_atomic_read_u64(&entry->sequence);
		pg_read_barrier();
		memcpy(content, entry->content, ring->width);
		pg_read_barrier();
		after = pg_atomic_read_u64(&entry->sequence);
		if (before == *position + 1 && after == before)
		{
			(*position)++;
			return true;
		}

		/*
		 * Being written right now: leave it for the next call, unless its
		 * writer seems to have died or been overtaken.
		 */
		if (after <= *position && head - *position < ring->nentries / 2)
			return false;
		(*lost)++;
		(*position)++;
	}
}
