/*
 * ring.h
 *	  A ring of messages in memory that two processes share: one writes, one
 *	  reads.
 *
 * Neither believes the other.  Each keeps its own position to itself and
 * shows a copy; of the other's it takes what lies between the positions that
 * are possible.  Whatever a peer writes into the memory, a process reads and
 * writes within the ring, and what it reads as a message is within one that
 * the sizes allow.  A message itself can change while it is read.
 *
 * Positions count bytes from the start on and do not wrap.  A message begins
 * at a multiple of FA_RING_UNIT with its length, and lies in one piece; what
 * is left at the end of the ring is skipped when it does not fit there.
 *
 * Who has nothing to do leaves a wish in the ring and looks once more before
 * it sleeps; who fulfils it wakes the other, by means of the caller's.  Plain
 * C on memory: nothing here raises, logs or waits.
 */
#ifndef FA_TRANSPORT_RING_H
#define FA_TRANSPORT_RING_H

#define FA_RING_UNIT		64		/* bytes; a cache line */
#define FA_RING_HEADER		8		/* bytes before those of a message */

/* In shared memory; each line is written by one side only, but for wishes. */
typedef struct FaRing
{
	uint64		head;			/* the writer's: bytes ever written */
	char		pad1[FA_RING_UNIT - sizeof(uint64)];
	uint64		tail;			/* the reader's: bytes ever read */
	char		pad2[FA_RING_UNIT - sizeof(uint64)];
	/* set by who sleeps, cleared by who wakes it */
	uint32		reader_wishes;	/* to know of any message */
	char		pad3[FA_RING_UNIT - sizeof(uint32)];
	uint64		writer_wishes;	/* to know when tail is here; 0: no */
	char		pad4[FA_RING_UNIT - sizeof(uint64)];
	char		data[FLEXIBLE_ARRAY_MEMBER];
} FaRing;

/* One side, in its own memory. */
typedef struct FaRingEnd
{
	FaRing	   *ring;
	uint64		size;			/* of data */
	uint64		max;			/* bytes of a message */
	uint64		head;			/* writer: own; reader: as last seen */
	uint64		tail;			/* reader: own; writer: as last seen */
	uint64		reserved;		/* writer: where the next message begins */
	uint64		next;			/* reader: behind the message that it has */
} FaRingEnd;

typedef enum FaRingResult
{
	FA_RING_OK,
	FA_RING_AGAIN,				/* no room, no message; the wish is there */
	FA_RING_BROKEN				/* the peer wrote what cannot be */
} FaRingResult;

/* in ring.c */

/* Bytes of shared memory for messages of so many bytes at most. */
extern Size fa_ring_memory(Size max);
/* On memory of that many bytes, zeroed, by both sides. */
extern void fa_ring_attach(FaRingEnd *end, void *memory, Size max);

/* Writer: room for a message of len bytes, at most "max". */
extern FaRingResult fa_ring_reserve(FaRingEnd *end, Size len, char **data_p);
/* Writes it, of at most what was reserved; true: the reader is to be woken. */
extern bool fa_ring_post(FaRingEnd *end, Size len);

/* Reader: the next message. */
extern FaRingResult fa_ring_read(FaRingEnd *end, char **data_p, Size *len_p);
/* Has done with it; true: the writer is to be woken. */
extern bool fa_ring_release(FaRingEnd *end);

#endif							/* FA_TRANSPORT_RING_H */
