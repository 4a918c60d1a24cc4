/*
 * hash_step.c
 *	  From a key to the partition of a table that is divided by its hash, as a
 *	  backend remembers it.
 *
 * What the relcache has would do, but opening the relation for it, for each
 * statement, takes longer than all the rest.
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

/* Takes from the relcache what is needed; false when the answer will not last. */
static bool
hash_step_fill(Recent *entry, Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	FaHashStep *step = &entry->step;

	entry->is_hash = key != NULL && key->strategy == PARTITION_STRATEGY_HASH &&
		key->partnatts == 1 && key->partattrs[0] > 0 && desc->nparts > 0;
	/* what is being detached depends on the snapshot */
	if (desc != rel->rd_partdesc)
		return false;
	if (!entry->is_hash)
		return true;
	step->attno = key->partattrs[0];
	step->collation = key->partcollation[0];
	fmgr_info_copy(&step->function, &key->partsupfunc[0], entry->context);
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

const FaHashStep *
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

Oid
fa_hash_step_child(const FaHashStep *step, Datum value, bool isnull)
{
	uint64		hash = compute_partition_hash_value(1, (FmgrInfo *) &step->function,
													(Oid *) &step->collation,
													&value, &isnull);

	return step->child[hash % step->modulus];
}
