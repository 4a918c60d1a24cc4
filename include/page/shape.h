/*
 * shape.h
 *	  Columns of a relation, as they are stored.
 */
#ifndef FA_PAGE_SHAPE_H
#define FA_PAGE_SHAPE_H

#include "page/image.h"
#include "utils/relcache.h"

/* in shape.c: palloc'd */
extern FaRowShape *fa_shape_of(Relation rel);

#endif							/* FA_PAGE_SHAPE_H */
