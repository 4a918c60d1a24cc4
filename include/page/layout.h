/*
 * layout.h
 *	  May pages of a table be used on another server as they are?
 *
 * Both sides describe what the bytes of their pages depend on; pages can go
 * where the descriptions are equal and neither side has a problem of its own.
 */
#ifndef FA_PAGE_LAYOUT_H
#define FA_PAGE_LAYOUT_H

#include "core/spi.h"

/* Columns of fragaffinity.page_layout(), one row for each relation. */
#define FA_LAYOUT_COLUMNS	"kind, relation, description, problem"
enum
{
	FA_LAYOUT_KIND,				/* "server", "heap", "toast", "toast index",
								 * "index": in this order */
	FA_LAYOUT_RELATION,			/* OID */
	FA_LAYOUT_DESCRIPTION,
	FA_LAYOUT_PROBLEM			/* or null */
};

/*
 * in layout.c: of this server; rows of equal kind are ordered by description.
 * In a transaction.
 */
extern FaRows *fa_layout_read(Oid heap);

#endif							/* FA_PAGE_LAYOUT_H */
