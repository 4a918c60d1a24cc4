/*
 * items.c
 *	  Header and line pointers of a page that came from elsewhere.
 *
 * The server trusts both, so a page gets into a buffer only after this.
 */
#include "postgres.h"

#include "page/image.h"

#define GRAIN		8			/* items are aligned to it */
#define GRAIN_WORDS	(BLCKSZ / GRAIN / 64)

StaticAssertDecl(MAXIMUM_ALIGNOF == GRAIN, "items must be aligned to grains");

/* Takes the grains of [from, to); false when one is taken already. */
static bool
grains_take(uint64 *taken, unsigned from, unsigned to)
{
	unsigned	end = (to + GRAIN - 1) / GRAIN;

	for (unsigned g = from / GRAIN, n; g < end; g += n)
	{
		uint64		bits;

		n = Min(end - g, 64 - g % 64);	/* in this word */
		bits = (~UINT64CONST(0) >> (64 - n)) << (g % 64);
		if (taken[g / 64] & bits)
			return false;
		taken[g / 64] |= bits;
	}
	return true;
}

void
fa_page_forget_log(Page page)
{
	PageSetLSN(page, (XLogRecPtr) InvalidXLogRecPtr);
	((PageHeader) page)->pd_checksum = 0;
}

const char *
fa_page_header_check(Page page, Size special)
{
	PageHeader	header = (PageHeader) page;

	if (PageGetPageSize(page) != BLCKSZ ||
		PageGetPageLayoutVersion(page) != PG_PAGE_LAYOUT_VERSION)
		return "page has another size or layout";
	if ((header->pd_flags & ~PD_VALID_FLAG_BITS) != 0)
		return "page has unknown flags";
	if (header->pd_special != BLCKSZ - MAXALIGN(special))
		return "special space has a wrong size";
	if (header->pd_lower < SizeOfPageHeaderData ||
		header->pd_lower > header->pd_upper ||
		header->pd_upper > header->pd_special)
		return "page header is out of its bounds";
	return NULL;
}

const char *
fa_items_check(Page page, Size special, Size min_item)
{
	PageHeader	header = (PageHeader) page;
	uint64		taken[GRAIN_WORDS] = {0};
	const char *why = fa_page_header_check(page, special);

	if (why)
		return why;
	if ((header->pd_lower - SizeOfPageHeaderData) % sizeof(ItemIdData) != 0)
		return "line pointers end within one";
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		lp = PageGetItemId(page, off);
		unsigned	at = ItemIdGetOffset(lp);
		unsigned	len = ItemIdGetLength(lp);

		/* a redirection has its target where others have their offset */
		if (!ItemIdHasStorage(lp) && !ItemIdIsNormal(lp))
			continue;
		if (at % GRAIN != 0 || at < header->pd_upper || len < min_item ||
			at + len > header->pd_special)
			return "item is out of the page's bounds";
		if (!grains_take(taken, at, at + len))
			return "items overlap";
	}
	return NULL;
}
