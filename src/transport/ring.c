/*
 * ring.c
 *	  A ring of messages in shared memory; see ring.h.
 *
 * A wish and what would fulfil it are written by two processes, each of which
 * then looks at the other's.  Both do so with a full barrier between, so at
 * least one of them sees what the other wrote, and no wake-up is lost.
 */
#include "postgres.h"

#include "transport/ring.h"

#define RING_MESSAGES	16		/* of the largest size fit in, about */
#define RING_SKIP		UINT64CONST(0xFFFFFFFFFFFFFFFF)

/* a length, which the peer may change, is read once and then kept */
#define once(p)			__atomic_load_n((uint64 *) (p), __ATOMIC_RELAXED)
#define load(p)			__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define take(p)			__atomic_exchange_n(p, 0, __ATOMIC_SEQ_CST)
#define wish(p, v)		__atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define full_barrier()	__atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Bytes that a message takes. */
static uint64
ring_span(uint64 len)
{
	return TYPEALIGN64(FA_RING_UNIT, FA_RING_HEADER + len);
}

static uint64
ring_size(Size max)
{
	return ring_span(max) * RING_MESSAGES;
}

Size
fa_ring_memory(Size max)
{
	return offsetof(FaRing, data) + ring_size(max);
}

void
fa_ring_attach(FaRingEnd *end, void *memory, Size max)
{
	memset(end, 0, sizeof(*end));
	end->ring = memory;
	end->size = ring_size(max);
	end->max = max;
}

/* Does the reader leave room up to a position?  Looks, and believes little. */
static FaRingResult
ring_room(FaRingEnd *end, uint64 position)
{
	uint64		tail = load(&end->ring->tail);

	if (tail < end->tail || tail > end->head || tail % FA_RING_UNIT != 0)
		return FA_RING_BROKEN;
	end->tail = tail;
	return position - tail <= end->size ? FA_RING_OK : FA_RING_AGAIN;
}

FaRingResult
fa_ring_reserve(FaRingEnd *end, Size len, char **data_p)
{
	uint64		at = end->head % end->size;
	uint64		span = ring_span(len);
	uint64		skip = at + span > end->size ? end->size - at : 0;
	uint64		last = end->head + skip + span;
	FaRingResult result = FA_RING_OK;

	if (last - end->tail > end->size)
		result = ring_room(end, last);
	if (result == FA_RING_AGAIN)
	{
		/* not for every message: when there is room for several */
		wish(&end->ring->writer_wishes,
			 Max(last - end->size, end->head - end->size / 2));
		full_barrier();
		result = ring_room(end, last);
	}
	if (result != FA_RING_OK)
		return result;
	end->reserved = end->head + skip;
	*data_p = end->ring->data + end->reserved % end->size + FA_RING_HEADER;
	return FA_RING_OK;
}

bool
fa_ring_post(FaRingEnd *end, Size len)
{
	char	   *data = end->ring->data;
	uint64		size = len;
	uint64		skip = RING_SKIP;

	if (end->reserved != end->head)
		memcpy(data + end->head % end->size, &skip, FA_RING_HEADER);
	memcpy(data + end->reserved % end->size, &size, FA_RING_HEADER);
	end->head = end->reserved + ring_span(len);
	store(&end->ring->head, end->head);
	full_barrier();
	return load(&end->ring->reader_wishes) != 0 &&
		take(&end->ring->reader_wishes) != 0;
}

/* Is there more than at a position? */
static FaRingResult
ring_more(FaRingEnd *end, uint64 position)
{
	uint64		head = load(&end->ring->head);

	if (head < end->head || head - end->tail > end->size ||
		head % FA_RING_UNIT != 0)
		return FA_RING_BROKEN;
	end->head = head;
	return head > position ? FA_RING_OK : FA_RING_AGAIN;
}

FaRingResult
fa_ring_read(FaRingEnd *end, char **data_p, Size *len_p)
{
	uint64		from = end->tail;
	uint64		at = from % end->size;
	uint64		len;
	FaRingResult result = FA_RING_OK;

	if (end->head == from)
		result = ring_more(end, from);
	if (result == FA_RING_AGAIN)
	{
		wish(&end->ring->reader_wishes, 1);
		full_barrier();
		result = ring_more(end, from);
	}
	if (result != FA_RING_OK)
		return result;
	len = once(end->ring->data + at);
	if (len == RING_SKIP && at > 0)
	{
		/* a message follows, in the same post */
		from += end->size - at;
		at = 0;
		if (from >= end->head)
			return FA_RING_BROKEN;
		len = once(end->ring->data);
	}
	if (len > end->max || at + ring_span(len) > end->size ||
		from + ring_span(len) > end->head)
		return FA_RING_BROKEN;
	end->next = from + ring_span(len);
	*data_p = end->ring->data + at + FA_RING_HEADER;
	*len_p = len;
	return FA_RING_OK;
}

bool
fa_ring_release(FaRingEnd *end)
{
	uint64		wished;

	end->tail = end->next;
	store(&end->ring->tail, end->tail);
	full_barrier();
	wished = load(&end->ring->writer_wishes);
	return wished != 0 && end->tail >= wished &&
		take(&end->ring->writer_wishes) != 0;
}
