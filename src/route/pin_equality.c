/*
 * pin_equality.c
 *	  Which operators and collations say that a column is a value.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/transam.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "route/pin_level.h"

bool
fa_pin_collation_is_loose(Oid collation)
{
	return OidIsValid(collation) && !get_collation_isdeterministic(collation);
}

Oid
fa_pin_base_type(Oid type)
{
	return type < FirstUnpinnedObjectId ? type : getBaseType(type);
}

/* Of the type's default operator class for btrees, or its family. */
static bool
pin_operator_is_equality(Oid op, Oid type)
{
	/* the last that were, and of the server's own, for which that is for good */
	static Oid	known_op = InvalidOid;
	static Oid	known_type = InvalidOid;
	Oid			family;

	if (op == known_op && type == known_type)
		return true;
	family = lookup_type_cache(fa_pin_base_type(type),
							   TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	if (!OidIsValid(family) ||
		get_op_opfamily_strategy(op, family) != BTEqualStrategyNumber)
		return false;
	if (op < FirstUnpinnedObjectId && type < FirstUnpinnedObjectId)
	{
		known_op = op;
		known_type = type;
	}
	return true;
}

bool
fa_pin_is_equality(Oid op, Oid collation, Var *var)
{
	return pin_operator_is_equality(op, var->vartype) &&
		(collation == var->varcollid || !fa_pin_collation_is_loose(collation));
}
