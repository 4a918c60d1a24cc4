/*
 * map_bucket.c
 *	  From a key's hash to its bucket, one bucket at a time.
 *
 * PostgreSQL's description of a table's partitions has all of them, and each
 * session makes its own: the more buckets, the longer its first statement and
 * the more memory.  But buckets have names by their remainders (table_ddl.h),
 * which nobody can change, so one can be found without the others.  It is
 * believed only when its bound and its parent say the same.  What the names
 * begin with is the partition's own name, unless that has changed since: then
 * it is taken from the bucket of remainder 0.
 *
 * What is found is kept until the partition is invalidated, as it is by whatever
 * takes a bucket from it or gives it one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
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
	Oid			schema;			/* of its buckets: SET SCHEMA leaves them where they are */
	char		stem[NAMEDATALEN];	/* as fa_table_bucket_name() wants it */
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
bucket_look_up(Oid partition, Oid schema, const char *stem, int remainder,
			   int *modulus)
{
	Oid			bucket = get_relname_relid(fa_table_bucket_name(stem, remainder),
										   schema);
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

/* What the name of a bucket of remainder 0 begins with; NULL: it is not one. */
static char *
stem_of_bucket(Oid rel)
{
	static const char end[] = "_b0";
	char	   *name = get_rel_name(rel);
	int			len = name ? strlen(name) - strlen(end) : 0;

	if (len <= 0 || strcmp(name + len, end) != 0)
		return NULL;
	name[len] = '\0';
	return name;
}

/*
 * The same, of the partition's bucket of remainder 0, with its schema and the modulus;
 * NULL when it has none.  Buckets are met in the order in which they were made, more or less.
 */
static char *
stem_find(Oid partition, Oid *schema, int *modulus)
{
	Relation	catalog = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *stem = NULL;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(partition));
	scan = systable_beginscan(catalog, InheritsParentIndexId, true, NULL, 1, &key);
	while (stem == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			child = ((Form_pg_inherits) GETSTRUCT(tuple))->inhrelid;

		CHECK_FOR_INTERRUPTS();
		stem = stem_of_bucket(child);
		*schema = get_rel_namespace(child);
		if (stem && !OidIsValid(bucket_look_up(partition, *schema, stem, 0,
											   modulus)))
			stem = NULL;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return stem;
}

/* Finds out how a partition is divided. */
static Division *
division_find(Oid partition)
{
	Division   *division;
	char	   *stem = get_rel_name(partition);
	Oid			schema = get_rel_namespace(partition);
	int			modulus = 0;

	if (divisions == NULL)
		division_create_tables();
	division = hash_search(divisions, &partition, HASH_FIND, NULL);
	if (division && division->valid)
		return division;
	if (stem && !OidIsValid(bucket_look_up(partition, schema, stem, 0, &modulus)))
		stem = stem_find(partition, &schema, &modulus);
	division = hash_search(divisions, &partition, HASH_ENTER, NULL);
	division->valid = true;
	division->modulus = stem ? modulus : 0;
	division->schema = schema;
	strlcpy(division->stem, stem ? stem : "", NAMEDATALEN);
	division->serial = ++last_serial;
	return division;
}

int
fa_map_modulus(Oid partition)
{
	return division_find(partition)->modulus;
}

char *
fa_map_stem(Oid partition)
{
	return pstrdup(division_find(partition)->stem);
}

Oid
fa_map_bucket_schema(Oid partition)
{
	return division_find(partition)->schema;
}

Oid
fa_map_find_bucket(Oid partition, uint64 hash)
{
	Division   *division = division_find(partition);
	int			modulus = division->modulus;
	BucketKey	key;
	Bucket	   *bucket;
	Oid			found;

	if (modulus == 0)
		return InvalidOid;
	key.partition = partition;
	key.remainder = (int) (hash % modulus);
	bucket = hash_search(buckets, &key, HASH_FIND, NULL);
	if (bucket && division->valid && bucket->serial == division->serial)
		return bucket->bucket;
	/* may process invalidations: then it is not kept */
	found = bucket_look_up(partition, division->schema, division->stem,
						   key.remainder, &modulus);
	if (OidIsValid(found) && division->valid)
	{
		bucket = hash_search(buckets, &key, HASH_ENTER, NULL);
		bucket->bucket = found;
		bucket->serial = division->serial;
	}
	return found;
}
