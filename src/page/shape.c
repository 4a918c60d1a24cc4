/*
 * shape.c
 *	  Columns and pages of a relation, as they are stored.
 */
#include "postgres.h"

#include "catalog/pg_am_d.h"
#include "utils/rel.h"

#include "page/shape.h"

FaRowShape *
fa_shape_of(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	FaRowShape *shape = palloc(sizeof(FaRowShape));

	shape->natts = desc->natts;
	shape->att = palloc(sizeof(FaAttribute) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		shape->att[i].len = TupleDescAttr(desc, i)->attlen;
		shape->att[i].align = TupleDescAttr(desc, i)->attalign;
	}
	return shape;
}

bool
fa_shape_has_hole(bool heap, Oid method)
{
	return heap || method == BTREE_AM_OID;
}
