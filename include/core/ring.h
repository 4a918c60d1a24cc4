/*
 * ring.h
 *	  A ring of equal entries in shared memory, written without a lock.
 *
 * A writer takes a position with one atomic addition and fills its entry; the
 * entry's sequence number, written last, says for which round of the ring it
 * is valid.  Nobody waits: who is overtaken by a whole round loses the entry,
 * and the reader counts it as lost.  (A writer that sleeps in the middle of an
 * entry for a whole round can mix two entries; that is accepted.)
 */
#ifndef FA_CORE_RING_H
#define FA_CORE_RING_H

#include "port/atomics.h"

typedef struct FaRing
{
	pg_atomic_uint64 head;		/* next position */
	int			nentries;		/* fixed */
	Size		width;			/* of an entry's content; fixed */
	Size		stride;			/* from one entry to the next; fixed */
	/* entries follow */
} FaRing;

extern Size fa_ring_size(int nentries, Size width);
extern void fa_ring_init(FaRing *ring, int nentries, Size width);

extern void fa_ring_append(FaRing *ring, const void *content);

/* Position behind the newest entry. */
extern uint64 fa_ring_head(FaRing *ring);

/*
 * Copies the next entry at or after *position; advances *position and adds
 * what was overwritten to *lost.  False when there is none yet.
 */
extern bool fa_ring_next(FaRing *ring, uint64 *position, uint64 *lost,
						 void *content);

#endif							/* FA_CORE_RING_H */
