/*
 * index.c
 *	  Pages of the other index access methods of the server.
 *
 * All of them are logged page by page, as btree is, so their pages move the
 * same way.  What is taken out, because it means something at the source only:
 *
 *	hash	hints that an entry is dead.  Its one OID, of a hash function, is
 *			that of a built-in one (page/layout.c)
 *	gin		from when on a deleted page may be used again
 *	gist	the same; the number of a page's split, which is a position in the
 *			source's log and would be compared with ours: a scan would follow
 *			it to the right for ever.  No scan has seen the page before, so
 *			there is no split to be noticed.  Hints
 *	spgist	the transaction that made a redirection: nobody follows one
 *			that was there before; so ours, which has ended
 *	brin	nothing
 */
#include "postgres.h"

#include "access/brin_page.h"
#include "access/brin_tuple.h"
#include "access/gin_private.h"
#include "access/gist.h"
#include "access/hash.h"
#include "access/spgist_private.h"
#include "access/transam.h"
#include "catalog/pg_am_d.h"

#include "page/image.h"

/* Entries that begin as index tuples do; dead ones become like others. */
static const char *
index_entries(Page page)
{
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		lp = PageGetItemId(page, off);
		IndexTuple	entry;

		if (!ItemIdHasStorage(lp) || ItemIdIsRedirected(lp))
			return "line pointer of an index leads nowhere";
		entry = (IndexTuple) PageGetItem(page, lp);
		if (IndexTupleSize(entry) < sizeof(IndexTupleData) ||
			IndexTupleSize(entry) > ItemIdGetLength(lp))
			return "index entry is longer than its place";
		ItemIdSetNormal(lp, ItemIdGetOffset(lp), ItemIdGetLength(lp));
	}
	return NULL;
}

static const char *
hash_verify(Page page)
{
	const char *why = fa_page_header_check(page, sizeof(HashPageOpaqueData));
	HashPageOpaque opaque;

	if (why)
		return why;
	opaque = HashPageGetOpaque(page);
	if (opaque->hasho_page_id != HASHO_PAGE_ID)
		return "not a page of a hash index";
	opaque->hasho_flag &= ~LH_PAGE_HAS_DEAD_TUPLES;
	if ((opaque->hasho_flag & (LH_BUCKET_PAGE | LH_OVERFLOW_PAGE)) == 0)
		return NULL;
	why = fa_items_check(page, sizeof(HashPageOpaqueData), sizeof(IndexTupleData));
	return why ? why : index_entries(page);
}

static const char *
gin_verify(Page page)
{
	const char *why = fa_page_header_check(page, sizeof(GinPageOpaqueData));
	uint16		flags;

	if (why)
		return why;
	flags = GinPageGetOpaque(page)->flags;
	((PageHeader) page)->pd_prune_xid = InvalidTransactionId;
	if (flags & (GIN_META | GIN_DATA | GIN_DELETED))
		return NULL;
	why = fa_items_check(page, sizeof(GinPageOpaqueData), sizeof(IndexTupleData));
	return why ? why : index_entries(page);
}

static const char *
gist_verify(Page page)
{
	const char *why = fa_page_header_check(page, sizeof(GISTPageOpaqueData));

	if (why)
		return why;
	if (GistPageGetOpaque(page)->gist_page_id != GIST_PAGE_ID)
		return "not a page of a gist index";
	GistPageSetNSN(page, (XLogRecPtr) InvalidXLogRecPtr);
	GistClearPageHasGarbage(page);
	if (GistPageIsDeleted(page))
	{
		if (((PageHeader) page)->pd_lower >= MAXALIGN(SizeOfPageHeaderData) +
			sizeof(GISTDeletedPageContents))
			((GISTDeletedPageContents *) PageGetContents(page))->deleteXid =
				FirstNormalFullTransactionId;
		return NULL;
	}
	why = fa_items_check(page, sizeof(GISTPageOpaqueData), sizeof(IndexTupleData));
	return why ? why : index_entries(page);
}

static const char *
spgist_verify(Page page, TransactionId xid)
{
	const char *why = fa_page_header_check(page, sizeof(SpGistPageOpaqueData));

	if (why)
		return why;
	if (SpGistPageGetOpaque(page)->spgist_page_id != SPGIST_PAGE_ID)
		return "not a page of an spgist index";
	if (SpGistPageIsMeta(page))
		return NULL;
	why = fa_items_check(page, sizeof(SpGistPageOpaqueData), SGDTSIZE);
	if (why)
		return why;
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		lp = PageGetItemId(page, off);
		SpGistDeadTuple entry = (SpGistDeadTuple) PageGetItem(page, lp);

		if (!ItemIdHasStorage(lp))
			return "line pointer of an index leads nowhere";
		if (entry->tupstate == SPGIST_REDIRECT)
			entry->xid = xid;
	}
	return NULL;
}

static const char *
brin_verify(Page page)
{
	const char *why = fa_page_header_check(page, sizeof(BrinSpecialSpace));

	if (why)
		return why;
	if (BRIN_IS_REGULAR_PAGE(page))
		return fa_items_check(page, sizeof(BrinSpecialSpace), SizeOfBrinTuple);
	return BRIN_IS_META_PAGE(page) || BRIN_IS_REVMAP_PAGE(page) ? NULL :
		"not a page of a brin index";
}

const char *
fa_index_verify(Page page, BlockNumber block, Oid method, TransactionId xid)
{
	const char *why;

	switch (method)
	{
		case BTREE_AM_OID:
			why = fa_btree_verify(page, block);
			break;
		case HASH_AM_OID:
			why = hash_verify(page);
			break;
		case GIN_AM_OID:
			why = gin_verify(page);
			break;
		case GIST_AM_OID:
			why = gist_verify(page);
			break;
		case SPGIST_AM_OID:
			why = spgist_verify(page, xid);
			break;
		case BRIN_AM_OID:
			why = brin_verify(page);
			break;
		default:
			return "index of an access method that is not known here";
	}
	if (why == NULL)
		fa_page_forget_log(page);
	return why;
}
