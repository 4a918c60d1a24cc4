/*
 * precopy.h
 *	  Copies the rows that a split cuts off while clients use them.
 */
#ifndef FA_CATALOG_PRECOPY_H
#define FA_CATALOG_PRECOPY_H

#include "catalog/map.h"

typedef struct FaPrecopy FaPrecopy;

/*
 * On the owner, in the split's transaction, before it locks the bucket: makes a
 * heap for a new fragment, with the source's rows of which qual, in SQL, is
 * true, and indexes.  NULL: it cannot be done beforehand.  Palloc'd; wants
 * fa_ddl_begin().
 */
extern FaPrecopy *fa_precopy_begin(const FaFragment *source, int64 fragment,
								   const char *qual);
extern Oid	fa_precopy_heap(const FaPrecopy *precopy);

/*
 * With the bucket locked: what has changed since; then all rows of which qual
 * is true are in the new heap, and in the old no more.
 */
extern void fa_precopy_finish(FaPrecopy *precopy, const char *qual);

#endif							/* FA_CATALOG_PRECOPY_H */
