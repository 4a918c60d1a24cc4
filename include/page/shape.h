/*
 * shape.h
 *	  Columns of a relation, as they are stored.
 */
#ifndef FA_PAGE_SHAPE_H
#define FA_PAGE_SHAPE_H

#include "page/image.h"
#include "utils/relcache.h"

/* in shape.c */
extern FaRowShape *fa_shape_of(Relation rel);	/* palloc'd */

/*
 * Is what lies between pd_lower and pd_upper of its pages never used?  Not
 * all index access methods have always kept to that.
 */
extern bool fa_shape_has_hole(bool heap, Oid method);

#endif							/* FA_PAGE_SHAPE_H */
