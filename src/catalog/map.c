/*
 * map.c
 *	  Relation to fragment, cached in each backend.
 *
 * An entry is built from the catalog when a relation is first met, also for
 * relations that are no fragments (so that asking again is one hash probe),
 * and marked stale by relcache invalidation of that relation.  Whoever
 * changes a row of fragaffinity.fragment or distributed_table invalidates the
 * leaf's or root's relcache entry in the same transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/xid8.h"

#include "catalog/map.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/node.h"

/* columns of fragaffinity.fragment */
#define COL_FRAGMENT 1
#define COL_TABLE_ID 2
#define COL_BUCKET 3
#define COL_LEAF 4
#define COL_OWNER 7
#define COL_VERSION 8
#define COL_CHANGED_XID 9
#define COL_HOME 11

typedef struct MapEntry
{
	Oid			relid;			/* hash key */
	bool		valid;
	bool		is_leaf;
	bool		is_bucket;
	bool		is_table;
	FaFragment	fragment;		/* of a leaf or bucket */
	FaTable		table;			/* of a root */
	uint64		filled;			/* when; unlike any other time */
	Oid			memo_with;		/* relation that memo is about */
	uint64		memo_filled;	/* its time */
	FaMapMemo	memo;
} MapEntry;

static HTAB *map_hash = NULL;

/*
 * The entries that were asked for last, by the low bits of their OIDs: every
 * statement asks for each of its relations.  Entries are never freed.
 */
#define NRECENT 256
static MapEntry *recent[NRECENT];

static void
map_relcache_callback(Datum arg, Oid relid)
{
	MapEntry   *entry;

	if (map_hash == NULL)
		return;
	if (OidIsValid(relid))
	{
		entry = hash_search(map_hash, &relid, HASH_FIND, NULL);
		if (entry)
			entry->valid = false;
	}
	else
	{
		HASH_SEQ_STATUS status;

		hash_seq_init(&status, map_hash);
		while ((entry = hash_seq_search(&status)) != NULL)
			entry->valid = false;
	}
}

/* The extension came or went: all we know is void. */
static void
map_extension_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	map_relcache_callback((Datum) 0, InvalidOid);
}

void
fa_map_init(void)
{
	CacheRegisterRelcacheCallback(map_relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, map_extension_callback,
								  (Datum) 0);
}

static void
map_hash_create(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(MapEntry);
	ctl.hcxt = TopMemoryContext;
	map_hash = hash_create("fragaffinity map", 256, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
map_fragment_from_tuple(FaFragment *f, HeapTuple tuple, TupleDesc desc,
						int self)
{
	bool		isnull;

	memset(f, 0, sizeof(*f));
	f->fragment = DatumGetInt64(heap_getattr(tuple, COL_FRAGMENT, desc, &isnull));
	f->table_id = DatumGetInt32(heap_getattr(tuple, COL_TABLE_ID, desc, &isnull));
	f->bucket = DatumGetObjectId(heap_getattr(tuple, COL_BUCKET, desc, &isnull));
	f->leaf = DatumGetObjectId(heap_getattr(tuple, COL_LEAF, desc, &isnull));
	f->owner = DatumGetInt32(heap_getattr(tuple, COL_OWNER, desc, &isnull));
	f->version = DatumGetInt64(heap_getattr(tuple, COL_VERSION, desc, &isnull));
	f->changed_xid = DatumGetFullTransactionId(heap_getattr(tuple, COL_CHANGED_XID,
															desc, &isnull));
	f->home = DatumGetObjectId(heap_getattr(tuple, COL_HOME, desc, &isnull));
	f->local = f->owner == self;
	f->slot = fa_slot_find(f->fragment);
}

/*
 * Scans one of fragment's indexes for a key; fills *f with the first row.
 * Not SPI: it runs for any client, who has no rights on the catalog.
 */
static bool
map_scan_fragment(const char *index, ScanKey key, FaFragment *f)
{
	Relation	rel = table_open(fa_catalog_relid("fragment"), AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	scan = systable_beginscan(rel, fa_catalog_relid(index), true, NULL, 1,
							  key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		map_fragment_from_tuple(f, tuple, RelationGetDescr(rel),
								fa_node_self());
		found = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
map_scan_fragment_by_oid(const char *index, AttrNumber attno, Oid value,
						 FaFragment *f)
{
	ScanKeyData key;

	ScanKeyInit(&key, attno, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(value));
	return map_scan_fragment(index, &key, f);
}

static bool
map_scan_table(const char *index, ScanKey key, FaTable *t)
{
	Relation	rel = table_open(fa_catalog_relid("distributed_table"),
								 AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	scan = systable_beginscan(rel, fa_catalog_relid(index), true, NULL, 1,
							  key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		bool		isnull;

		t->table_id = DatumGetInt32(heap_getattr(tuple, 1, desc, &isnull));
		t->rel = DatumGetObjectId(heap_getattr(tuple, 2, desc, &isnull));
		t->key = get_attnum(t->rel, NameStr(*DatumGetName(heap_getattr(tuple, 3, desc, &isnull))));
		t->colocation = DatumGetInt32(heap_getattr(tuple, 4, desc, &isnull));
		found = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
map_scan_table_by_rel(Oid relid, FaTable *t)
{
	ScanKeyData key;

	ScanKeyInit(&key, 2, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	return map_scan_table("distributed_table_rel_key", &key, t);
}

/* An entry that is not among the recent ones, or not valid. */
static pg_noinline MapEntry *
map_search(Oid relid)
{
	static uint64 nfilled = 0;
	MapEntry   *entry;
	bool		found;
	MapEntry	fresh = {0};

	if (map_hash == NULL)
		map_hash_create();
	entry = hash_search(map_hash, &relid, HASH_FIND, NULL);
	if (entry && entry->valid)
	{
		recent[relid % NRECENT] = entry;
		return entry;
	}

	/*
	 * Reading the catalog can process invalidations, so the entry is filled
	 * at the end.  An invalidation of this very relation in between would be
	 * lost; but then its lock is not held, and the caller's next statement
	 * will see it through the lock that it takes.
	 */
	fresh.relid = relid;
	fresh.valid = true;
	fresh.filled = ++nfilled;
	if (fa_extension_exists())
	{
		fresh.is_leaf = map_scan_fragment_by_oid("fragment_leaf_key", COL_LEAF,
												 relid, &fresh.fragment);
		fresh.is_bucket = !fresh.is_leaf &&
			map_scan_fragment_by_oid("fragment_bucket_idx", COL_BUCKET, relid,
									 &fresh.fragment);
		fresh.is_table = map_scan_table_by_rel(relid, &fresh.table);
	}
	entry = hash_search(map_hash, &relid, HASH_ENTER, &found);
	*entry = fresh;
	return entry;
}

static inline MapEntry *
map_lookup(Oid relid)
{
	MapEntry   *entry = recent[relid % NRECENT];

	return entry && entry->relid == relid && entry->valid ? entry :
		map_search(relid);
}

const FaFragment *
fa_map_leaf(Oid relid)
{
	MapEntry   *entry;

	if (relid < FirstNormalObjectId)
		return NULL;
	entry = map_lookup(relid);
	if (!entry->is_leaf)
		return NULL;
	/* there was no room for it then */
	if (unlikely(entry->fragment.slot < 0) && fa_slot_any_free())
		entry->fragment.slot = fa_slot_find(entry->fragment.fragment);
	return &entry->fragment;
}

const FaTable *
fa_map_table(Oid relid)
{
	MapEntry   *entry;

	if (relid < FirstNormalObjectId)
		return NULL;
	entry = map_lookup(relid);
	return entry->is_table ? &entry->table : NULL;
}

const FaFragment *
fa_map_bucket(Oid relid)
{
	MapEntry   *entry;

	if (relid < FirstNormalObjectId)
		return NULL;
	entry = map_lookup(relid);
	return entry->is_bucket ? &entry->fragment : NULL;
}

bool
fa_map_is_bucket(Oid relid)
{
	return fa_map_bucket(relid) != NULL;
}

bool
fa_map_is_managed(Oid relid)
{
	MapEntry   *entry;

	if (relid < FirstNormalObjectId)
		return false;
	entry = map_lookup(relid);
	return entry->is_leaf || entry->is_bucket || entry->is_table;
}

uint64
fa_map_state(Oid relid)
{
	return map_lookup(relid)->filled;
}

FaMapMemo *
fa_map_memo(Oid relid, Oid part)
{
	uint64		filled = map_lookup(relid)->filled;
	MapEntry   *entry = map_lookup(part);

	if (entry->memo_with != relid || entry->memo_filled != filled)
	{
		entry->memo_with = relid;
		entry->memo_filled = filled;
		entry->memo = FA_MEMO_UNKNOWN;
	}
	return &entry->memo;
}

static List *
map_query(const char *condition)
{
	FaDdlState	state;
	FaRows	   *rows;
	int			self = fa_node_self();
	List	   *list = NIL;

	/* whoever copies rows need not have rights on our catalog */
	fa_ddl_begin(&state);
	rows = fa_spi_rows("SELECT fragment, table_id, bucket::oid, "
					   "leaf::oid, owner, version, changed_xid, home::oid "
					   "FROM fragaffinity.fragment WHERE %s "
					   "ORDER BY fragment", condition);
	fa_ddl_end(&state);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		FaFragment *f = palloc0(sizeof(FaFragment));

		f->fragment = strtoll(v[0], NULL, 10);
		f->table_id = atoi(v[1]);
		f->bucket = atooid(v[2]);
		f->leaf = atooid(v[3]);
		f->owner = atoi(v[4]);
		f->version = strtoll(v[5], NULL, 10);
		f->changed_xid = FullTransactionIdFromU64(strtou64(v[6], NULL, 10));
		f->home = atooid(v[7]);
		f->local = f->owner == self;
		f->slot = fa_slot_find(f->fragment);
		list = lappend(list, f);
	}
	return list;
}

FaFragment *
fa_map_fragment(int64 fragment)
{
	FaFragment *f = palloc0(sizeof(FaFragment));
	ScanKeyData key;

	ScanKeyInit(&key, COL_FRAGMENT, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(fragment));
	return map_scan_fragment("fragment_pkey", &key, f) ? f : NULL;
}

List *
fa_map_fragments(int table_id)
{
	return map_query(psprintf("table_id = %d", table_id));
}

List *
fa_map_fragments_of(Oid home)
{
	return map_query(psprintf("home = %u", home));
}

FaTable *
fa_map_table_by_id(int table_id)
{
	FaTable    *table = palloc0(sizeof(FaTable));
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(table_id));
	return map_scan_table("distributed_table_pkey", &key, table) ? table : NULL;
}

typedef struct FaMapShared
{
	pg_atomic_uint64 newest_change; /* full xid; 0: as old as the server */
} FaMapShared;

static FaMapShared *map_shared = NULL;

static Size
map_shared_size(void)
{
	return sizeof(FaMapShared);
}

static void
map_shared_init(void *ptr, bool found)
{
	map_shared = ptr;
	if (!found)
		pg_atomic_init_u64(&map_shared->newest_change, 0);
}

const FaShmemPart fa_map_part = {
	"fragaffinity map", map_shared_size, map_shared_init
};

void
fa_map_note_change(FullTransactionId xid)
{
	uint64		new = U64FromFullTransactionId(xid);
	uint64		old = pg_atomic_read_u64(&map_shared->newest_change);

	while (old < new &&
		   !pg_atomic_compare_exchange_u64(&map_shared->newest_change, &old, new))
		;
}

bool
fa_map_snapshot_may_be_old(TransactionId xmin)
{
	uint64		newest;

	if (map_shared == NULL)
		return false;
	/* replay, and with it the end of a transaction, notes no change */
	if (RecoveryInProgress())
		return true;
	newest = pg_atomic_read_u64(&map_shared->newest_change);
	if (newest == 0)
	{
		/* prepared swaps may have survived the restart: look closer */
		FullTransactionId last = ReadNextFullTransactionId();

		FullTransactionIdRetreat(&last);
		fa_map_note_change(last);
		return true;
	}
	return !TransactionIdPrecedes((TransactionId) newest, xmin);
}

void
fa_map_invalidate(Oid relid)
{
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		CacheInvalidateRelcacheByRelid(relid);
}
