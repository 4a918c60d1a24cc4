/*
 * hash_step.c
 *	  From a key to the partition of a table that is divided by its hash, as a
 *	  backend remembers it.
 *
 * What the relcache has would do, but opening the relation for it, for each
 * statement, takes longer than all the rest; and a session's first look at it
 * makes a description of all partitions, where there are buckets that can be
 * found one by one (catalog/map_bucket.c).
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/partition.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "route/hash_step.h"

/* Those that were asked for last, by the low bits of their OIDs. */
#define NRECENT 64

typedef struct Recent
{
	Oid			relid;
	uint64		state;			/* for which the rest is right */
	MemoryContext context;		/* of it */
	bool		is_hash;
	FaHashStep	step;
} Recent;

static Recent recent[NRECENT];

/* Partitions that are described by the relcache; false when it will not last. */
static bool
hash_step_fill_children(Recent *entry, Relation rel)
{
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	FaHashStep *step = &entry->step;

	entry->is_hash = desc->nparts > 0;
	/* what is being detached depends on the snapshot */
	if (desc != rel->rd_partdesc)
		return false;
	if (!entry->is_hash)
		return true;
	step->modulus = desc->boundinfo->nindexes;
	step->child = MemoryContextAllocZero(entry->context,
										 sizeof(Oid) * step->modulus);
	for (int i = 0; i < step->modulus; i++)
	{
		int			index = desc->boundinfo->indexes[i];

		if (index >= 0)
			step->child[i] = desc->oids[index];
	}
	return true;
}

static bool
hash_step_fill(Recent *entry, Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	FaHashStep *step = &entry->step;

	entry->is_hash = key != NULL && key->strategy == PARTITION_STRATEGY_HASH &&
		key->partnatts == 1 && key->partattrs[0] > 0;
	if (!entry->is_hash)
		return true;
	memset(step, 0, sizeof(*step));
	step->relid = RelationGetRelid(rel);
	step->attno = key->partattrs[0];
	step->collation = key->partcollation[0];
	fmgr_info_copy(&step->function, &key->partsupfunc[0], entry->context);
	step->modulus = fa_map_modulus(step->relid);
	return step->modulus > 0 || hash_step_fill_children(entry, rel);
}

FaHashStep *
fa_hash_step(Oid relid)
{
	Recent	   *entry = &recent[relid % NRECENT];
	uint64		state = fa_map_state(relid);
	Relation	rel;
	bool		lasts;

	if (entry->relid == relid && entry->state == state)
		return entry->is_hash ? &entry->step : NULL;
	if (entry->context == NULL)
		entry->context = AllocSetContextCreate(TopMemoryContext,
											   "fragaffinity hash step",
											   ALLOCSET_SMALL_SIZES);
	entry->relid = InvalidOid;
	MemoryContextReset(entry->context);
	rel = relation_open(relid, NoLock);
	lasts = hash_step_fill(entry, rel);
	relation_close(rel, NoLock);
	if (!lasts)
		return NULL;
	/* opening it may have brought news: then it is filled again */
	entry->relid = relid;
	entry->state = state;
	return entry->is_hash ? &entry->step : NULL;
}

/* A bucket that cannot be found alone. */
static Oid
hash_step_search(Oid relid, uint64 hash)
{
	Relation	rel = relation_open(relid, NoLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	int			index = desc->nparts == 0 ? -1 :
		desc->boundinfo->indexes[hash % desc->boundinfo->nindexes];
	Oid			child = index >= 0 ? desc->oids[index] : InvalidOid;

	relation_close(rel, NoLock);
	return child;
}

Oid
fa_hash_step_child(FaHashStep *step, Datum value, bool isnull)
{
	uint64		hash = compute_partition_hash_value(1, &step->function,
													&step->collation,
													&value, &isnull);
	int			remainder = (int) (hash % step->modulus);
	int			place = remainder % FA_HASH_STEP_RECENT;
	Oid			relid = step->relid;
	uint64		state;
	Oid			child;

	if (step->child)
		return step->child[remainder];
	if (step->recent[place].remainder == remainder &&
		OidIsValid(step->recent[place].child))
		return step->recent[place].child;
	state = fa_map_state(relid);
	child = fa_map_find_bucket(relid, hash);
	if (!OidIsValid(child))
		return hash_step_search(relid, hash);
	/* looking it up may have brought news: then it is not kept */
	if (fa_map_state(relid) == state)
	{
		step->recent[place].remainder = remainder;
		step->recent[place].child = child;
	}
	return child;
}
