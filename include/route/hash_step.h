/*
 * hash_step.h
 *	  From a key to the partition of a table that is divided by its hash, as a
 *	  backend remembers it.
 */
#ifndef FA_ROUTE_HASH_STEP_H
#define FA_ROUTE_HASH_STEP_H

#include "access/attnum.h"
#include "fmgr.h"

#define FA_HASH_STEP_RECENT 64

typedef struct FaHashStep
{
	Oid			relid;
	AttrNumber	attno;			/* of the relation: what it is divided by */
	Oid			collation;
	FmgrInfo	function;
	int			modulus;
	Oid		   *child;			/* by remainder; InvalidOid: no partition; NULL
								 * where they are looked up one by one */
	struct
	{
		int			remainder;
		Oid			child;		/* InvalidOid: nothing here */
	}			recent[FA_HASH_STEP_RECENT];	/* those that were asked for */
} FaHashStep;

/*
 * Of a relation that is locked; NULL when it is not divided by hash of one
 * column.  Lives until the next call.
 */
extern FaHashStep *fa_hash_step(Oid relid);

/* The partition of a value of the column's type; InvalidOid: none. */
extern Oid	fa_hash_step_child(FaHashStep *step, Datum value, bool isnull);

#endif							/* FA_ROUTE_HASH_STEP_H */
