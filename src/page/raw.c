/*
 * raw.c
 *	  Pages sent straight from shared buffers; see raw.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/bufmgr.h"

#include "page/raw.h"
#include "page/verdict.h"

#define PINNED_MAX	1024		/* pages */
#define PINNED_PART 16			/* of shared buffers at most */

struct FaRaw
{
	FaChannel  *channel;
	FaVerdicts	verdicts;

	/* the frame that is being made */
	char	   *frame;
	size_t		head;			/* bytes of header and entries */
	int			entries;
	int			npieces;		/* the first is for the head */
	FaTransportPiece piece[1 + 2 * FA_FRAME_PAGES];

	/* pins, oldest first: a ring; those of the frame are the last */
	int			most;
	int			first;
	int			pinned;
	Buffer	   *buffer;
	uint64	   *cookie;			/* of the post that reads it; 0: not posted */
};

FaRaw *
fa_raw_create(FaChannel *channel)
{
	FaRaw	   *raw;

	if ((channel->ops->capabilities & FA_TRANSPORT_GATHER) == 0 ||
		channel->max_pieces < lengthof(raw->piece) ||
		channel->ops->register_memory(channel, BufferBlocks,
									  (Size) NBuffers * BLCKSZ) != FA_TRANSPORT_OK)
		return NULL;
	raw = palloc0(sizeof(FaRaw));
	raw->channel = channel;
	raw->most = Max(Min(PINNED_MAX, NBuffers / PINNED_PART), FA_FRAME_PAGES);
	raw->buffer = palloc(sizeof(Buffer) * raw->most);
	raw->cookie = palloc(sizeof(uint64) * raw->most);
	return raw;
}

/* Lets go of what has been read; waits until so many pins are free. */
static void
raw_release(FaRaw *raw, int room)
{
	for (;;)
	{
		bool		wait = raw->most - raw->pinned < room;
		uint64		sent = fa_channel_sent(raw->channel, wait);

		while (raw->pinned > 0 && raw->cookie[raw->first] <= sent &&
			   raw->cookie[raw->first] != 0)
		{
			ReleaseBuffer(raw->buffer[raw->first]);
			raw->first = (raw->first + 1) % raw->most;
			raw->pinned--;
		}
		if (raw->most - raw->pinned >= room)
			return;
	}
}

void
fa_raw_begin(FaRaw *raw, char *frame, FaXidJudge *judge)
{
	raw_release(raw, FA_FRAME_PAGES);
	fa_verdicts_init(&raw->verdicts, judge);
	raw->frame = frame;
	raw->head = FA_FRAME_HEADER;
	raw->entries = 0;
	raw->npieces = 1;
}

bool
fa_raw_full(const FaRaw *raw)
{
	return raw->entries == FA_FRAME_PAGES ||
		!fa_verdicts_room(&raw->verdicts);
}

static void
raw_add_piece(FaRaw *raw, const char *data, Size len)
{
	if (len > 0)
		raw->piece[raw->npieces++] = (FaTransportPiece) {data, len};
}

FaPageResult
fa_raw_add(FaRaw *raw, Buffer buffer, BlockNumber block, bool heap,
		   bool has_hole, const char **why_p)
{
	Page		page = BufferGetPage(buffer);
	FaPageResult result = FA_PAGE_GOOD;
	FaFrameRaw	entry;
	int			slot;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (heap)
		result = fa_heap_survey(page, &raw->verdicts.judge, why_p);
	if (result == FA_PAGE_GOOD)
		raw->head += fa_frame_put_raw(raw->frame + raw->head, block, page,
									  has_hole, &entry);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (result != FA_PAGE_GOOD)
	{
		ReleaseBuffer(buffer);
		return result;
	}
	raw_add_piece(raw, page, entry.lower);
	raw_add_piece(raw, page + entry.upper, BLCKSZ - entry.upper);
	slot = (raw->first + raw->pinned) % raw->most;
	raw->buffer[slot] = buffer;
	raw->cookie[slot] = 0;
	raw->pinned++;
	raw->entries++;
	return result;
}

bool
fa_raw_post(FaRaw *raw, FaFrameHeader *header)
{
	uint64		cookie;

	if (raw->entries == 0)
		return false;
	header->kind = FA_FRAME_RAW_KIND;
	header->entries = raw->entries;
	raw->head += fa_verdicts_put(&raw->verdicts, raw->frame + raw->head,
								 header);
	fa_frame_put_header(raw->frame, header);
	raw->piece[0] = (FaTransportPiece) {raw->frame, raw->head};
	cookie = fa_channel_post_pieces(raw->channel, raw->piece, raw->npieces);
	for (int i = raw->pinned - raw->entries; i < raw->pinned; i++)
		raw->cookie[(raw->first + i) % raw->most] = cookie;
	return true;
}

void
fa_raw_finish(FaRaw *raw)
{
	raw_release(raw, raw->most);
}
