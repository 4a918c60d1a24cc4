/*
 * target_state.h
 *	  State of a page target; for write.c and maps.c only.
 */
#ifndef FA_PAGE_TARGET_STATE_H
#define FA_PAGE_TARGET_STATE_H

#include "page/blocks.h"
#include "page/image.h"
#include "page/verdict.h"
#include "storage/bufmgr.h"

typedef struct FaTargetRelation
{
	Oid			oid;
	bool		heap;			/* or TOAST; else an index */
	Oid			method;			/* of an index */
	FaRowShape *shape;			/* of a heap */
	Oid			toast;			/* its TOAST relation */
	BlockNumber nblocks;
	FaBlockSet	have;			/* blocks that have come */
	FaBlockSet	torn;			/* that changed while they were sent */
	FaBlockSet	visible;		/* all their rows are there for everyone */
	FaBlockSet	stale;			/* map pages that do not say so yet */
} FaTargetRelation;

struct FaPageTarget
{
	int64		move;
	TransactionId xid;
	int			nrelations;
	FaTargetRelation *relation;
	uint32		round;
	uint32		number;			/* frame that comes next */
	int64		pages;			/* of this round */
	int64		torn;			/* likewise */
	Oid			toast_from;		/* the source's TOAST relation */
	FaVerdicts *verdicts;		/* of a raw frame */
	bool		told;			/* standbys know of xid */
	BufferAccessStrategy strategy;
	char	   *image;			/* of a frame's pages, aligned */
};

/* Heap blocks that one page of a visibility map speaks for: 2 bits each. */
#define FA_MAP_BYTES	(BLCKSZ - MAXALIGN(SizeOfPageHeaderData))
#define FA_MAP_BLOCKS	(FA_MAP_BYTES * 4)

#endif							/* FA_PAGE_TARGET_STATE_H */
