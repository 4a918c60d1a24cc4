/*
 * send_relation.h
 *	  A relation whose pages are sent; for read.c.
 */
#ifndef FA_PAGE_SEND_RELATION_H
#define FA_PAGE_SEND_RELATION_H

#include "access/tupdesc.h"

#include "core/fa_compat.h"
#include "page/blocks.h"
#include "page/image.h"

typedef struct FaSendRelation
{
	Oid			oid;
	bool		heap;			/* or TOAST; else an index */
	bool		has_hole;		/* its pages */
	FaFile		file;
	BlockNumber nblocks;		/* as of this round */
	FaBlockSet	todo;			/* of this round */
	FaBlockSet	sent;			/* in this round */
	FaBlockSet	changed;		/* since it began */
	TupleDesc	desc;			/* when it was opened */
	FaRowShape *shape;			/* of a heap */
	Oid			toast;			/* its TOAST relation */
} FaSendRelation;

/* in send_relation.c */

/* Locks it against changes, for the transaction; in the current memory context. */
extern void fa_send_relation_open(FaSendRelation *r, Oid oid);

/*
 * Locks all n again, which are the relations of one table.  What has got another
 * file, or was cut off, since they were locked last is not to be read: the next
 * round finds it new.  Raises FA_COPY_OVERTAKEN when a relation is another now.
 */
extern void fa_send_relations_lock(FaSendRelation *relation, int n);

#endif							/* FA_PAGE_SEND_RELATION_H */
