/*
 * scan_keys.h
 *	  Index scans of a kept plan, started for one execution's values.
 */
#ifndef FA_ROUTE_SCAN_KEYS_H
#define FA_ROUTE_SCAN_KEYS_H

#include "nodes/params.h"
#include "nodes/plannodes.h"

typedef struct FaScanKeys FaScanKeys;

/*
 * What can be changed in a plan's index scans while the executor starts it; NULL:
 * nothing.  The plan must be its keeper's own, and its relations locked.
 * Memory: the current context, which lives as long as the plan.
 */
extern FaScanKeys *fa_scan_keys_collect(PlannedStmt *plan);

/*
 * Around ExecutorStart, also when it fails.  The values must last as long as the
 * execution.
 */
extern void fa_scan_keys_put(FaScanKeys *keys, ParamListInfo params);
extern void fa_scan_keys_restore(FaScanKeys *keys);

#endif							/* FA_ROUTE_SCAN_KEYS_H */
