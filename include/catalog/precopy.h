/*
 * precopy.h
 *	  Copies the rows that change their fragment while clients use them.
 */
#ifndef FA_CATALOG_PRECOPY_H
#define FA_CATALOG_PRECOPY_H

#include "catalog/map.h"

typedef struct FaPrecopy FaPrecopy;

/*
 * All on the owner, in the transaction of the split or merge; want
 * fa_ddl_begin().  The first two before it locks the bucket; palloc'd, or NULL
 * when it cannot be done beforehand.
 *
 * Of a split: makes a heap for a new fragment, with the source's rows of which
 * qual, in SQL, is true, and indexes.
 */
extern FaPrecopy *fa_precopy_split(const FaFragment *source, int64 fragment,
								   const char *qual);
/* Of a merge: adds the source's rows to the heap of the fragment that stays. */
extern FaPrecopy *fa_precopy_merge(const FaFragment *source,
								   const FaFragment *stays);
extern Oid	fa_precopy_heap(const FaPrecopy *precopy);

/*
 * With the bucket locked, and neither heap attached: what has changed since;
 * then all rows of which qual is true are in the other heap, and in the source
 * no more.  qual NULL: all, and the source is to be dropped as it is.
 */
extern void fa_precopy_finish(FaPrecopy *precopy, const char *qual);

#endif							/* FA_CATALOG_PRECOPY_H */
