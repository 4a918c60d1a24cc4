/*
 * pin_partition.h
 *	  The partition that a row belongs to; in pin_partition.c.
 */
#ifndef FA_ROUTE_PIN_PARTITION_H
#define FA_ROUTE_PIN_PARTITION_H

#include "utils/partcache.h"
#include "utils/relcache.h"

/*
 * InvalidOid when there is none.  A row whose key is NULL is in any leaf of its
 * bucket, as it only gets that far for NOT NULL to refuse it.
 */
extern Oid	fa_pin_partition(Relation rel, PartitionKey key, Datum *value,
							 bool *isnull);

#endif							/* FA_ROUTE_PIN_PARTITION_H */
