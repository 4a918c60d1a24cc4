/*
 * events.c
 *	  The sequence of fragments of each session: a ring in shared memory.
 *
 * A backend takes a position with one atomic addition and fills its entry;
 * the entry's sequence number, written last, says for which round of the ring
 * it is valid.  Nobody waits: who is overtaken by a whole round loses the
 * entry, and the reader counts it as lost.  (A writer that sleeps in the
 * middle of an entry for a whole round can mix two events; that is accepted.)
 *
 * The ring is the server's; each database's worker reads all of it and uses
 * the events of its own fragments.
 *
 * A session that stays with one fragment writes an entry a second at most:
 * what it did there in between is a number in the next entry.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "capture/counters.h"
#include "core/fa_compat.h"
#include "core/settings.h"

#define SAME_FRAGMENT_US INT64CONST(1000000)
#define MAX_APPLICATIONS 256	/* names; later ones count as the empty name */

typedef struct RingEntry
{
	pg_atomic_uint64 sequence;	/* position + 1 once valid; 0: being written */
	FaEvent		event;
} RingEntry;

typedef struct EventShared
{
	pg_atomic_uint64 head;		/* next position */
	pg_atomic_uint64 nsessions; /* sessions so far */
	LWLock		lock;			/* protects adding a name */
	pg_atomic_uint32 napplications; /* names below it do not change */
	char		application[MAX_APPLICATIONS][NAMEDATALEN];
	RingEntry	ring[FLEXIBLE_ARRAY_MEMBER];	/* fa_event_ring_size */
} EventShared;

static EventShared *shared = NULL;

static Size
events_size(void)
{
	return add_size(offsetof(EventShared, ring),
					mul_size(fa_event_ring_size, sizeof(RingEntry)));
}

static void
events_init(void *ptr, bool found)
{
	shared = ptr;
	if (found)
		return;
	pg_atomic_init_u64(&shared->head, 0);
	pg_atomic_init_u64(&shared->nsessions, 0);
	pg_atomic_init_u32(&shared->napplications, 1);
	shared->application[0][0] = '\0';
	for (int i = 0; i < fa_event_ring_size; i++)
		pg_atomic_init_u64(&shared->ring[i].sequence, 0);
	LWLockInitialize(&shared->lock,
					 GetNamedLWLockTranche("fragaffinity")[0].lock.tranche);
}

const FaShmemPart fa_events_part = {
	"fragaffinity events", events_size, events_init
};

/* Number of a name, which is added if there is room. */
static int
events_add_application(const char *name)
{
	uint32		n;
	int			found = 0;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	n = pg_atomic_read_u32(&shared->napplications);
	for (int i = 1; i < n && found == 0; i++)
	{
		if (strcmp(shared->application[i], name) == 0)
			found = i;
	}
	if (found == 0 && n < MAX_APPLICATIONS)
	{
		strlcpy(shared->application[n], name, NAMEDATALEN);
		found = n;
		pg_write_barrier();
		pg_atomic_write_u32(&shared->napplications, n + 1);
	}
	LWLockRelease(&shared->lock);
	return found;
}

/* Number of this session's application_name. */
static int
events_my_application(void)
{
	static char known[NAMEDATALEN] = "";
	static int	number = 0;
	const char *name = application_name ? application_name : "";

	if (strncmp(known, name, NAMEDATALEN - 1) != 0)
	{
		strlcpy(known, name, NAMEDATALEN);
		number = known[0] == '\0' ? 0 : events_add_application(known);
	}
	return number;
}

const char *
fa_event_application(int application)
{
	uint32		n = pg_atomic_read_u32(&shared->napplications);

	pg_read_barrier();
	return application > 0 && application < n ?
		shared->application[application] : "";
}

void
fa_events_append(int slot, bool written, TimestampTz when)
{
	static uint64 session = 0;
	static int	last_slot = -1;
	static TimestampTz last_time = 0;
	static uint32 repeats = 0;
	uint64		position;
	RingEntry  *entry;

	if (shared == NULL || slot < 0)
		return;
	if (slot == last_slot && when - last_time < SAME_FRAGMENT_US)
	{
		repeats++;
		return;
	}
	if (session == 0)
		session = pg_atomic_fetch_add_u64(&shared->nsessions, 1) + 1;

	position = pg_atomic_fetch_add_u64(&shared->head, 1);
	entry = &shared->ring[position % fa_event_ring_size];
	pg_atomic_write_u64(&entry->sequence, 0);
	pg_write_barrier();
	entry->event.session = session;
	entry->event.proc = fa_my_proc_number();
	entry->event.time = when;
	entry->event.slot = slot;
	entry->event.role = GetOuterUserId();
	entry->event.application = events_my_application();
	entry->event.repeats = repeats;
	entry->event.written = written;
	pg_write_barrier();
	pg_atomic_write_u64(&entry->sequence, position + 1);

	last_slot = slot;
	last_time = when;
	repeats = 0;
}

uint64
fa_events_head(void)
{
	return pg_atomic_read_u64(&shared->head);
}

bool
fa_events_next(uint64 *position, uint64 *lost, FaEvent *event_p)
{
	for (;;)
	{
		uint64		head = pg_atomic_read_u64(&shared->head);
		RingEntry  *entry;
		uint64		before;
		uint64		after;

		if (*position >= head)
			return false;
		if (head - *position > fa_event_ring_size)
		{
			*lost += head - fa_event_ring_size - *position;
			*position = head - fa_event_ring_size;
		}
		entry = &shared->ring[*position % fa_event_ring_size];
		before = pg_atomic_read_u64(&entry->sequence);
		pg_read_barrier();
		*event_p = entry->event;
		pg_read_barrier();
		after = pg_atomic_read_u64(&entry->sequence);
		if (before == *position + 1 && after == before)
		{
			(*position)++;
			return true;
		}

		/*
		 * Being written right now: leave it for the next call, unless its
		 * writer seems to have died or been overtaken.
		 */
		if (after <= *position && head - *position < fa_event_ring_size / 2)
			return false;
		(*lost)++;
		(*position)++;
	}
}
