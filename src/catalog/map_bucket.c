/*
 * map_bucket.c
 *	  From a key's hash to its bucket, one bucket at a time.
 *
 * PostgreSQL's description of a table's partitions has all of them, and each
 * session makes its own: the more buckets, the longer its first statement and
 * the more memory.  But buckets have names by their remainders (table_ddl.h),
 * which nobody can change, so one can be found without the others.  It is
 * believed only when its bound and its parent say the same.
 *
 * What is found is kept until the partition is invalidated, as it is by whatever
 * takes a bucket from it or gives it one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"

/* A partition that may be divided into buckets. */
typedef struct Division
{
	Oid			partition;		/* hash key */
	bool		valid;
	int			modulus;		/* 0: it is not */
	uint64		serial;			/* of the time when this was found out */
} Division;

typedef struct BucketKey
{
	Oid			partition;
	int			remainder;
} BucketKey;

typedef struct Bucket
{
	BucketKey	key;
	Oid			bucket;
	uint64		serial;			/* of its division, when it was found */
} Bucket;

static HTAB *divisions = NULL;
static HTAB *buckets = NULL;
static uint64 last_serial = 0;

static void
division_relcache_callback(Datum arg, Oid relid)
{
	Division   *division;
	HASH_SEQ_STATUS status;

	if (divisions == NULL)
		return;
	if (OidIsValid(relid))
	{
		division = hash_search(divisions, &relid, HASH_FIND, NULL);
		if (division)
			division->valid = false;
		return;
	}
	hash_seq_init(&status, divisions);
	while ((division = hash_seq_search(&status)) != NULL)
		division->valid = false;
}

static void
division_create_tables(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Division);
	ctl.hcxt = TopMemoryContext;
	divisions = hash_create("fragaffinity divisions", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(BucketKey);
	ctl.entrysize = sizeof(Bucket);
	buckets = hash_create("fragaffinity buckets", 64, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(division_relcache_callback, (Datum) 0);
}

/*
 * The partition's bucket of a remainder; its bound's modulus is as given, or if
 * that is 0, put there.
 */
static Oid
bucket_look_up(Oid partition, int remainder, int *modulus)
{
	char	   *name = get_rel_name(partition);
	Oid			bucket = name == NULL ? InvalidOid :
		get_relname_relid(fa_table_bucket_name(name, remainder),
						  get_rel_namespace(partition));
	HeapTuple	tuple = OidIsValid(bucket) ?
		SearchSysCache1(RELOID, ObjectIdGetDatum(bucket)) : NULL;
	PartitionBoundSpec *bound = NULL;
	Datum		value;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);
	if (!isnull)
		bound = stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(tuple);
	if (bound == NULL || bound->strategy != PARTITION_STRATEGY_HASH ||
		bound->remainder != remainder || bound->modulus < 1 ||
		(*modulus != 0 && bound->modulus != *modulus) ||
		get_partition_parent(bucket, true) != partition)
		return InvalidOid;
	*modulus = bound->modulus;
	return bucket;
}

int
fa_map_modulus(Oid partition)
{
	Division   *division;
	int			modulus = 0;

	if (divisions == NULL)
		division_create_tables();
	division = hash_search(divisions, &partition, HASH_FIND, NULL);
	if (division && division->valid)
		return division->modulus;
	(void) bucket_look_up(partition, 0, &modulus);
	division = hash_search(divisions, &partition, HASH_ENTER, NULL);
	division->valid = true;
	division->modulus = modulus;
	division->serial = ++last_serial;
	return modulus;
}

Oid
fa_map_find_bucket(Oid partition, uint64 hash)
{
	Division   *division;
	int			modulus = fa_map_modulus(partition);
	BucketKey	key;
	Bucket	   *bucket;
	Oid			found;

	if (modulus == 0)
		return InvalidOid;
	key.partition = partition;
	key.remainder = (int) (hash % modulus);
	division = hash_search(divisions, &partition, HASH_FIND, NULL);
	bucket = hash_search(buckets, &key, HASH_FIND, NULL);
	if (bucket && division->valid && bucket->serial == division->serial)
		return bucket->bucket;
	/* may process invalidations: then it is not kept */
	found = bucket_look_up(partition, key.remainder, &modulus);
	if (OidIsValid(found) && division->valid)
	{
		bucket = hash_search(buckets, &key, HASH_ENTER, NULL);
		bucket->bucket = found;
		bucket->serial = division->serial;
	}
	return found;
}
