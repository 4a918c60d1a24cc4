/*
 * bucket_of.c
 *	  Which bucket of a partition a key belongs to.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "catalog/map.h"

PG_FUNCTION_INFO_V1(fa_sql_bucket_of);

typedef struct BucketCache
{
	Oid			rel;
	int			modulus;
	Oid			collation;
	FmgrInfo	hash;
} BucketCache;

static BucketCache *
bucket_cache_fill(FunctionCallInfo fcinfo, Oid relid)
{
	BucketCache *cache = fcinfo->flinfo->fn_extra;
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);
	Relation	rel = relation_open(relid, AccessShareLock);
	PartitionKey key = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ?
		RelationGetPartitionKey(rel) : NULL;
	PartitionDesc desc;
	int			modulus;

	if (key == NULL || key->strategy != PARTITION_STRATEGY_HASH ||
		key->partnatts != 1)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not divided into buckets",
						RelationGetRelationName(rel)),
				 errhint("Name a distributed table, or a partition of one that its user has partitioned.")));
	if (getBaseType(type) != getBaseType(key->parttypid[0]))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the key of \"%s\" is of type %s, not %s",
						RelationGetRelationName(rel),
						format_type_be(key->parttypid[0]),
						format_type_be(type))));
	modulus = fa_map_modulus(relid);
	if (modulus == 0)
	{
		desc = RelationGetPartitionDesc(rel, true);
		if (desc->nparts == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("\"%s\" has no buckets", RelationGetRelationName(rel))));
		modulus = get_hash_partition_greatest_modulus(desc->boundinfo);
	}
	if (cache == NULL)
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
									   sizeof(BucketCache));
	cache->rel = relid;
	cache->modulus = modulus;
	cache->collation = key->partcollation[0];
	fmgr_info_copy(&cache->hash, &key->partsupfunc[0],
				   fcinfo->flinfo->fn_mcxt);
	relation_close(rel, AccessShareLock);
	fcinfo->flinfo->fn_extra = cache;
	return cache;
}

/* bucket_of(partition, key): remainder of the bucket that holds the key. */
Datum
fa_sql_bucket_of(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Datum		value = PG_GETARG_DATUM(1);
	BucketCache *cache = fcinfo->flinfo->fn_extra;
	bool		isnull = false;
	uint64		hash;

	if (cache == NULL || cache->rel != relid)
		cache = bucket_cache_fill(fcinfo, relid);
	hash = compute_partition_hash_value(1, &cache->hash, &cache->collation,
										&value, &isnull);
	PG_RETURN_INT32((int32) (hash % cache->modulus));
}
