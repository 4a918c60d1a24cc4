/*
 * raw.h
 *	  Pages sent straight from shared buffers, by a transport that gathers.
 *
 * A page is pinned from fa_raw_add() until the device has read it; its lock is
 * held only while it is looked at.  So it may be changed while it is read:
 *
 *	- its checksum is of what it was under the lock, and the receiver compares;
 *	  a page that does not fit is torn, and is sent again
 *	- it keeps its place in memory, and is not pruned, as long as it is pinned
 *	- what was changed is in the log, or is a hint, and either makes it differ
 *
 * Where nothing may change, under the fence, pages are copied: they are few,
 * and a hint must not send them into another round.
 */
#ifndef FA_PAGE_RAW_H
#define FA_PAGE_RAW_H

#include "storage/buf.h"

#include "page/frame.h"
#include "page/image.h"
#include "transport/transport.h"

typedef struct FaRaw FaRaw;

/* in raw.c */

/*
 * For one call, in the current memory context.  NULL when the channel does not
 * gather, or shared buffers cannot be registered: then channel->why says why.
 */
extern FaRaw *fa_raw_create(FaChannel *channel);

/* A frame in room that was reserved; waits while too many pages are pinned. */
extern void fa_raw_begin(FaRaw *raw, char *frame, FaXidJudge *judge);
extern bool fa_raw_full(const FaRaw *raw);

/*
 * Takes over the pin; when the result is not FA_PAGE_GOOD, the page is not in
 * the frame, and its pin is gone.
 */
extern FaPageResult fa_raw_add(FaRaw *raw, Buffer buffer, BlockNumber block,
							   bool heap, bool has_hole, const char **why_p);

/* False, and nothing is sent, when there is no page in it. */
extern bool fa_raw_post(FaRaw *raw, FaFrameHeader *header);

/* Waits until no page is pinned. */
extern void fa_raw_finish(FaRaw *raw);

#endif							/* FA_PAGE_RAW_H */
