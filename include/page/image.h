/*
 * image.h
 *	  What has to change in a page, and to hold for it, when it moves to
 *	  another server.
 *
 * At the source, settling turns every transaction that a heap page names into
 * the one that made the new heap (T), which is known to all at the
 * destination; the destination lets in nothing else.  Work is on a copy of
 * the page; plain C on memory: nothing here raises or logs.
 */
#ifndef FA_PAGE_IMAGE_H
#define FA_PAGE_IMAGE_H

#include "access/htup_details.h"
#include "storage/bufpage.h"

/* Columns as stored, for walking through a row. */
typedef struct FaAttribute
{
	int16		len;			/* -1: varlena */
	char		align;			/* pg_type.typalign */
} FaAttribute;

typedef struct FaRowShape
{
	int			natts;
	FaAttribute *att;
} FaRowShape;

typedef enum FaXidState
{
	FA_XID_COMMITTED,
	FA_XID_ABORTED,
	FA_XID_PENDING				/* still running, or prepared */
} FaXidState;

/* Knows the source's transactions. */
typedef struct FaXidJudge
{
	FaXidState	(*state) (struct FaXidJudge *judge, TransactionId xid);
	/* Member of a multixact that updated or deleted, or invalid. */
	TransactionId (*updater) (struct FaXidJudge *judge, TransactionId multi);
} FaXidJudge;

typedef enum FaPageResult
{
	FA_PAGE_GOOD,
	FA_PAGE_PENDING,			/* a transaction on it has not ended: later */
	FA_PAGE_BROKEN
} FaPageResult;

/* in row.c */

/*
 * Checks that a row's columns lie within len bytes, and that values out of
 * line are in the TOAST relation "from" (InvalidOid: there must be none);
 * points them to "to".  NULL, or what is wrong.
 */
extern const char *fa_row_check(HeapTupleHeader row, uint32 len,
								const FaRowShape *shape, Oid from, Oid to);

/* in heap.c */

/*
 * Settles a heap page (also of a TOAST relation) for xid: see heap.c.  The
 * page is unusable unless the result is FA_PAGE_GOOD.  why_p is set when the
 * page is broken.
 */
extern FaPageResult fa_heap_settle(Page page, BlockNumber block,
								   FaXidJudge *judge, TransactionId xid,
								   const FaRowShape *shape, Oid toast_from,
								   Oid toast_to, const char **why_p);

/*
 * Asks a judge what fa_heap_settle() would ask, and changes nothing: a page as
 * it is in a buffer, whose lock is held.
 */
extern FaPageResult fa_heap_survey(Page page, FaXidJudge *judge,
								   const char **why_p);

/*
 * Is this a page that fa_heap_settle() could have made?  NULL, or what is
 * wrong.  Every row of an all-visible page is there for everyone who sees xid.
 */
extern const char *fa_heap_verify(Page page, BlockNumber block,
								  TransactionId xid, const FaRowShape *shape,
								  Oid toast, bool *all_visible_p);

/* in items.c */

/* No place in a log, no checksum: both are the server's that writes it. */
extern void fa_page_forget_log(Page page);

/*
 * Header; header and line pointers: within the page, none over another.  NULL
 * or what is wrong.  special: size that the special space must have.
 */
extern const char *fa_page_header_check(Page page, Size special);
extern const char *fa_items_check(Page page, Size special, Size min_item);

/*
 * in btree.c, index.c: check a page of an index of an access method, and take
 * out what only its server knows.  xid: as for the heap.
 */
extern const char *fa_btree_verify(Page page, BlockNumber block);
extern const char *fa_index_verify(Page page, BlockNumber block, Oid method,
								   TransactionId xid);

#endif							/* FA_PAGE_IMAGE_H */
