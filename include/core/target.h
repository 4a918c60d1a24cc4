/*
 * target.h
 *	  A relation that rows are written to without a plan.
 */
#ifndef FA_CORE_TARGET_H
#define FA_CORE_TARGET_H

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

/*
 * Opens rel, with RowExclusiveLock, and its indexes; *estate_p is for what is
 * computed of a row.  Closing keeps the lock.
 */
extern ResultRelInfo *fa_target_open(Oid rel, EState **estate_p);
extern void fa_target_close(ResultRelInfo *target, EState *estate);

/* Computes the slot's generated columns, if rel has any that are stored. */
extern void fa_target_compute(ResultRelInfo *target, EState *estate,
							  TupleTableSlot *slot);

#endif							/* FA_CORE_TARGET_H */
