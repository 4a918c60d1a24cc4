/*
 * slots.c
 *	  Fragment slots and the cut-over gates in them.
 *
 * A slot is found through a hash table under one lock; backends do so once
 * for a fragment and keep the number.  Who has a number from his cache of the
 * map holds a lock on the fragment's leaf or bucket, without which it cannot
 * go; so a slot is given back only when its fragment has been gone for a while
 * (capture/give_back.c).  The one that was given back first is claimed first,
 * and only when there is none that never was: what is still on its way in a
 * ring, under its number, then meets a free slot rather than another fragment.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/settings.h"
#include "core/shmem.h"

/* Closed gates are counted by blocks of so many slots, to be found among many. */
#define BLOCK 256

typedef struct SlotKey
{
	Oid			dbid;
	int32		pad;			/* zero; the key is hashed as bytes */
	int64		fragment;
} SlotKey;

typedef struct SlotEntry
{
	SlotKey		key;
	int			slot;
} SlotEntry;

typedef struct FaSlots
{
	LWLock	   *lock;			/* protects the hash table, and what follows */
	int			nslots;			/* ever claimed */
	int			first_free;		/* given back first; -1: none */
	int			last_free;		/* given back last */
	pg_atomic_uint32 nclosed;	/* gates closed now; read without the lock */
	ConditionVariable gate_opened;
	FaFragmentSlot slot[FLEXIBLE_ARRAY_MEMBER];
} FaSlots;

static FaSlots *slots = NULL;
static HTAB *slot_hash = NULL;
static pg_atomic_uint32 *closed_in = NULL;	/* by slot / BLOCK; after the slots */

static int
slots_blocks(void)
{
	return (fa_max_fragments + BLOCK - 1) / BLOCK;
}

static Size
slots_size(void)
{
	return add_size(add_size(offsetof(FaSlots, slot),
							 mul_size(fa_max_fragments, sizeof(FaFragmentSlot))),
					mul_size(slots_blocks(), sizeof(pg_atomic_uint32)));
}

static Size
slots_hash_size(void)
{
	return hash_estimate_size(fa_max_fragments, sizeof(SlotEntry));
}

static void
slots_init(void *ptr, bool found)
{
	HASHCTL		ctl;

	slots = ptr;
	closed_in = (pg_atomic_uint32 *) &slots->slot[fa_max_fragments];
	if (!found)
	{
		for (int i = 0; i < slots_blocks(); i++)
			pg_atomic_init_u32(&closed_in[i], 0);
		slots->lock = &GetNamedLWLockTranche("fragaffinity")[0].lock;
		slots->nslots = 0;
		slots->first_free = slots->last_free = -1;
		pg_atomic_init_u32(&slots->nclosed, 0);
		ConditionVariableInit(&slots->gate_opened);
	}
	ctl.keysize = sizeof(SlotKey);
	ctl.entrysize = sizeof(SlotEntry);
	slot_hash = ShmemInitHash("fragaffinity fragment slots",
							  fa_max_fragments, fa_max_fragments, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

const FaShmemPart fa_slots_part = {
	"fragaffinity slots", slots_size, slots_init, slots_hash_size,
	.forget_database = fa_slots_forget
};

/* A slot that belongs to nobody, or -1.  Caller holds the lock. */
static int
slot_take_free(void)
{
	int			slot = slots->first_free;

	if (slots->nslots < fa_max_fragments)
	{
		pg_atomic_init_u32(&slots->slot[slots->nslots].gate, 0);
		return slots->nslots++;
	}
	if (slot >= 0)
		slots->first_free = slots->slot[slot].next_free;
	return slot;
}

static int
slot_claim(const SlotKey *key)
{
	FullTransactionId next = ReadNextFullTransactionId();
	SlotEntry  *entry;
	int			slot = -1;

	LWLockAcquire(slots->lock, LW_EXCLUSIVE);
	entry = hash_search(slot_hash, key, HASH_FIND, NULL);
	if (entry)
		slot = entry->slot;
	else if ((slot = slot_take_free()) >= 0)
	{
		FaFragmentSlot *s = &slots->slot[slot];

		/* as many entries as slots: there is room */
		entry = hash_search(slot_hash, key, HASH_ENTER, NULL);
		entry->slot = slot;
		s->fragment = key->fragment;
		s->claimed = next;
		s->dbid = key->dbid;
	}
	LWLockRelease(slots->lock);
	return slot;
}

int
fa_slot_find(int64 fragment)
{
	static bool warned = false;
	SlotKey		key = {0};
	SlotEntry  *entry;
	int			slot = -1;

	if (slots == NULL)
		return -1;
	key.dbid = MyDatabaseId;
	key.fragment = fragment;
	LWLockAcquire(slots->lock, LW_SHARED);
	entry = hash_search(slot_hash, &key, HASH_FIND, NULL);
	if (entry)
		slot = entry->slot;
	LWLockRelease(slots->lock);
	if (slot < 0)
		slot = slot_claim(&key);
	if (slot < 0 && !warned)
	{
		warned = true;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no slot left to count accesses to fragment " INT64_FORMAT,
						fragment),
				 errhint("Increase \"fragaffinity.max_fragments\".")));
	}
	return slot;
}

FaFragmentSlot *
fa_slot_get(int slot)
{
	Assert(slot >= 0 && slot < slots->nslots);
	return &slots->slot[slot];
}

int
fa_slot_count(void)
{
	int			n;

	if (slots == NULL)
		return 0;
	LWLockAcquire(slots->lock, LW_SHARED);
	n = slots->nslots;
	LWLockRelease(slots->lock);
	return n;
}

bool
fa_slot_any_free(void)
{
	return slots != NULL &&
		(slots->nslots < fa_max_fragments || slots->first_free >= 0);
}

/* Caller holds the lock. */
static void
slot_give_back(int slot)
{
	FaFragmentSlot *s = &slots->slot[slot];
	SlotKey		key = {0};

	/* who has closed it will open it by its number */
	if (pg_atomic_read_u32(&s->gate) != 0)
		return;
	key.dbid = s->dbid;
	key.fragment = s->fragment;
	fa_shmem_forget_slot(slot);
	(void) hash_search(slot_hash, &key, HASH_REMOVE, NULL);
	s->dbid = InvalidOid;
	s->next_free = -1;
	if (slots->first_free < 0)
		slots->first_free = slot;
	else
		slots->slot[slots->last_free].next_free = slot;
	slots->last_free = slot;
}

void
fa_slot_give_back(int slot, int64 fragment)
{
	LWLockAcquire(slots->lock, LW_EXCLUSIVE);
	if (slots->slot[slot].dbid == MyDatabaseId &&
		slots->slot[slot].fragment == fragment)
		slot_give_back(slot);
	LWLockRelease(slots->lock);
}

void
fa_slots_forget(Oid dbid)
{
	LWLockAcquire(slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < slots->nslots; i++)
	{
		if (slots->slot[i].dbid == dbid)
			slot_give_back(i);
	}
	LWLockRelease(slots->lock);
}

void
fa_slots_lock(void)
{
	LWLockAcquire(slots->lock, LW_SHARED);
}

void
fa_slots_unlock(void)
{
	LWLockRelease(slots->lock);
}

bool
fa_gate_any(void)
{
	return slots != NULL && pg_atomic_read_u32(&slots->nclosed) > 0;
}

void
fa_gate_close(int slot)
{
	uint32		open = 0;

	if (slot >= 0 &&
		pg_atomic_compare_exchange_u32(&slots->slot[slot].gate, &open, 1))
	{
		pg_atomic_fetch_add_u32(&closed_in[slot / BLOCK], 1);
		pg_atomic_fetch_add_u32(&slots->nclosed, 1);
	}
}

void
fa_gate_open(int slot)
{
	uint32		closed = 1;

	if (slot >= 0 &&
		pg_atomic_compare_exchange_u32(&slots->slot[slot].gate, &closed, 0))
	{
		pg_atomic_fetch_sub_u32(&slots->nclosed, 1);
		pg_atomic_fetch_sub_u32(&closed_in[slot / BLOCK], 1);
		ConditionVariableBroadcast(&slots->gate_opened);
	}
}

int
fa_gate_next(int slot)
{
	int			n = fa_slot_count();

	while (slot < n)
	{
		if (pg_atomic_read_u32(&closed_in[slot / BLOCK]) == 0)
			slot = (slot / BLOCK + 1) * BLOCK;
		else if (pg_atomic_read_u32(&slots->slot[slot].gate) != 0)
			return slot;
		else
			slot++;
	}
	return -1;
}

bool
fa_gate_wait(int slot, int timeout_ms)
{
	pg_atomic_uint32 *gate;
	TimestampTz deadline;

	if (slot < 0 || slots == NULL)
		return true;
	gate = &slots->slot[slot].gate;
	if (pg_atomic_read_u32(gate) == 0)
		return true;
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	ConditionVariablePrepareToSleep(&slots->gate_opened);
	while (pg_atomic_read_u32(gate) != 0)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   deadline);

		if (left <= 0)
			break;
		ConditionVariableTimedSleep(&slots->gate_opened, left,
									PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return pg_atomic_read_u32(gate) == 0;
}
