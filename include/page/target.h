/*
 * target.h
 *	  Writing pages that came from a peer into relations of this server.
 *
 * The relations belong to a table that nobody else uses yet; the caller keeps
 * others from writing to it (an EXCLUSIVE lock, also against VACUUM).  All
 * functions want a transaction; every page is logged as it is written, so
 * what a transaction that commits later relies on is as safe as its commit.
 */
#ifndef FA_PAGE_TARGET_H
#define FA_PAGE_TARGET_H

#include "storage/block.h"

typedef struct FaPageTarget FaPageTarget;

/* How a round has ended. */
typedef struct FaRoundEnd
{
	bool		sent;			/* false: there were too many pages to begin */
	int64		left;			/* pages that are still to come */
	int64		pages;			/* written in this round */
	int64		torn;			/* of those left, to be asked for */
} FaRoundEnd;

/* in write.c */

/*
 * relations: the heap, then, in the order of the sender's, its TOAST relation
 * and indexes.  xid made the heap; toast_from: the sender's TOAST relation, or
 * invalid.  In the current memory context.
 */
extern FaPageTarget *fa_target_create(int64 move, TransactionId xid,
									  const Oid *relations, int nrelations,
									  Oid toast_from);
extern void fa_target_begin(FaPageTarget *target, uint32 round);
/* Frames of the round that have come. */
extern uint32 fa_target_frames(const FaPageTarget *target);

/*
 * Writes what a frame holds.  True when it was the round's last; then *end_p
 * is set.  Raises PROTOCOL_VIOLATION or DATA_CORRUPTED when the frame is not
 * as it must be; nothing of it is written then.
 */
extern bool fa_target_receive(FaPageTarget *target, const char *data,
							  size_t len, FaRoundEnd *end_p);

/*
 * Blocks that were torn since the last call, as arguments of resend_pages();
 * NULL when there are none.
 */
extern char *fa_target_take_torn(FaPageTarget *target);

/* Raises unless every block has come. */
extern void fa_target_check_complete(const FaPageTarget *target);

/* in maps.c */

/*
 * Visibility maps as of the pages written so far; cheap when few have changed
 * since the last call.  Standbys are told to end queries to whom the rows
 * would not be visible.
 */
extern void fa_target_write_maps(FaPageTarget *target);

/* Upper levels of the free space maps: for inserts to find room. */
extern void fa_target_vacuum_free_space(FaPageTarget *target);

#endif							/* FA_PAGE_TARGET_H */
