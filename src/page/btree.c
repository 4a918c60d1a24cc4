/*
 * btree.c
 *	  Pages of btree indexes.
 *
 * They hold no transaction but one: from when on a deleted page may be used
 * again.  Nobody at the destination has ever been on such a page, so that is
 * now.  Hints that an entry's row is dead, and the number of the VACUUM under
 * which a page was split, are the source's own and are cleared.
 */
#include "postgres.h"

#include "access/nbtree.h"

#include "page/image.h"

#define FLAGS_KNOWN		(BTP_LEAF | BTP_ROOT | BTP_DELETED | BTP_META | \
						 BTP_HALF_DEAD | BTP_SPLIT_END | BTP_HAS_GARBAGE | \
						 BTP_INCOMPLETE_SPLIT | BTP_HAS_FULLXID)

static const char *
btree_meta(Page page)
{
	BTMetaPageData *meta = BTPageGetMeta(page);

	if (((PageHeader) page)->pd_lower <
		(char *) meta + sizeof(BTMetaPageData) - (char *) page)
		return "metapage is too short";
	if (meta->btm_magic != BTREE_MAGIC ||
		meta->btm_version < BTREE_MIN_VERSION ||
		meta->btm_version > BTREE_VERSION)
		return "metapage has another version";
	return NULL;
}

static const char *
btree_deleted(Page page)
{
	PageHeader	header = (PageHeader) page;
	BTDeletedPageData *data = (BTDeletedPageData *) PageGetContents(page);

	if (header->pd_lower < (char *) (data + 1) - (char *) page)
		return "deleted page is too short";
	data->safexid = FirstNormalFullTransactionId;
	return NULL;
}

/* Entries; a dead one is an entry like others. */
static const char *
btree_entries(Page page)
{
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		lp = PageGetItemId(page, off);
		IndexTuple	entry = (IndexTuple) PageGetItem(page, lp);

		if (!ItemIdHasStorage(lp) || ItemIdIsRedirected(lp))
			return "line pointer of an index leads nowhere";
		if (IndexTupleSize(entry) < sizeof(IndexTupleData) ||
			IndexTupleSize(entry) > ItemIdGetLength(lp))
			return "index entry is longer than its place";
		if (BTreeTupleIsPosting(entry) &&
			BTreeTupleGetPostingOffset(entry) +
			BTreeTupleGetNPosting(entry) * sizeof(ItemPointerData) >
			IndexTupleSize(entry))
			return "posting list is longer than its entry";
		ItemIdSetNormal(lp, ItemIdGetOffset(lp), ItemIdGetLength(lp));
	}
	return NULL;
}

const char *
fa_btree_verify(Page page, BlockNumber block)
{
	BTPageOpaque opaque;
	const char *why = fa_page_header_check(page, sizeof(BTPageOpaqueData));

	if (why)
		return why;
	opaque = BTPageGetOpaque(page);
	if ((opaque->btpo_flags & ~FLAGS_KNOWN) != 0 ||
		P_ISMETA(opaque) != (block == BTREE_METAPAGE))
		return "btree page has wrong flags";
	if (P_ISMETA(opaque))
		why = btree_meta(page);
	else if (P_ISDELETED(opaque))
		why = P_HAS_FULLXID(opaque) ? btree_deleted(page) : NULL;
	else
	{
		why = fa_items_check(page, sizeof(BTPageOpaqueData),
							 sizeof(IndexTupleData));
		if (why == NULL)
			why = btree_entries(page);
	}
	if (why)
		return why;
	opaque->btpo_cycleid = 0;
	opaque->btpo_flags &= ~(BTP_SPLIT_END | BTP_HAS_GARBAGE);
	return NULL;
}
