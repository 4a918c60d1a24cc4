/*
 * pin_partition.c
 *	  The partition that a row belongs to, as tuple routing finds it; see
 *	  pin_partition.h.
 */
#include "postgres.h"

#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "route/pin_partition.h"

static bool
partition_any_null(PartitionKey key, bool *isnull)
{
	for (int i = 0; i < key->partnatts; i++)
	{
		if (isnull[i])
			return true;
	}
	return false;
}

Oid
fa_pin_partition(Relation rel, PartitionKey key, Datum *value, bool *isnull)
{
	PartitionDesc desc;
	PartitionBoundInfo bound;
	uint64		hash = 0;
	bool		equal = false;
	int			index = -1;
	int			offset;

	if (key->strategy == PARTITION_STRATEGY_HASH)
	{
		Oid			bucket;

		hash = compute_partition_hash_value(key->partnatts, key->partsupfunc,
											key->partcollation, value, isnull);
		bucket = fa_map_find_bucket(RelationGetRelid(rel), hash);
		if (OidIsValid(bucket))
			return bucket;
	}
	desc = RelationGetPartitionDesc(rel, true);
	bound = desc->boundinfo;
	if (desc->nparts == 0)
		return InvalidOid;
	switch (key->strategy)
	{
		case PARTITION_STRATEGY_HASH:
			index = bound->indexes[hash % bound->nindexes];
			break;
		case PARTITION_STRATEGY_LIST:
			if (isnull[0])
			{
				index = bound->null_index;
				break;
			}
			offset = partition_list_bsearch(key->partsupfunc, key->partcollation,
											bound, value[0], &equal);
			if (offset >= 0 && equal)
				index = bound->indexes[offset];
			break;
		default:
			if (partition_any_null(key, isnull))
			{
				index = fa_map_is_bucket(RelationGetRelid(rel)) ? 0 : -1;
				break;
			}
			offset = partition_range_datum_bsearch(key->partsupfunc,
												   key->partcollation, bound,
												   key->partnatts, value, &equal);
			index = bound->indexes[offset + 1];
			break;
	}
	if (index < 0)
		index = bound->default_index;
	return index >= 0 ? desc->oids[index] : InvalidOid;
}
