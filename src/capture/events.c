/*
 * events.c
 *	  The sequence of fragments of each session: a ring in shared memory.
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
#include "core/ring.h"
#include "core/settings.h"

#define SAME_FRAGMENT_US INT64CONST(1000000)
#define MAX_APPLICATIONS 256	/* names; later ones count as the empty name */

typedef struct EventShared
{
	pg_atomic_uint64 nsessions; /* sessions so far */
	LWLock		lock;			/* protects adding a name */
	pg_atomic_uint32 napplications; /* names below it do not change */
	char		application[MAX_APPLICATIONS][NAMEDATALEN];
	FaRing		ring;			/* its entries follow: of FaEvent */
} EventShared;

static EventShared *shared = NULL;

static Size
events_size(void)
{
	return add_size(offsetof(EventShared, ring),
					fa_ring_size(fa_event_ring_size, sizeof(FaEvent)));
}

static void
events_init(void *ptr, bool found)
{
	shared = ptr;
	if (found)
		return;
	pg_atomic_init_u64(&shared->nsessions, 0);
	pg_atomic_init_u32(&shared->napplications, 1);
	shared->application[0][0] = '\0';
	fa_ring_init(&shared->ring, fa_event_ring_size, sizeof(FaEvent));
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
	FaEvent		event = {0};

	if (shared == NULL || slot < 0)
		return;
	if (slot == last_slot && when - last_time < SAME_FRAGMENT_US)
	{
		repeats++;
		return;
	}
	if (session == 0)
		session = pg_atomic_fetch_add_u64(&shared->nsessions, 1) + 1;

	event.session = session;
	event.proc = fa_my_proc_number();
	event.time = when;
	event.slot = slot;
	event.role = GetOuterUserId();
	event.application = events_my_application();
	event.repeats = repeats;
	event.written = written;
	fa_ring_append(&shared->ring, &event);

	last_slot = slot;
	last_time = when;
	repeats = 0;
}

uint64
fa_events_head(void)
{
	return fa_ring_head(&shared->ring);
}

bool
fa_events_next(uint64 *position, uint64 *lost, FaEvent *event_p)
{
	return fa_ring_next(&shared->ring, position, lost, event_p);
}
