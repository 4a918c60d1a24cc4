/*
 * foresee.c
 *	  Follows this node's sessions from fragment to fragment.
 *
 * The worker reads the ring of events, learns each session's next fragment
 * (predict/next.h), and at the end of each step of history writes down what
 * the open sessions are expected to touch in the next.  It runs just before
 * the step's counts are marked complete, so that whoever has these has the
 * forecast, too.
 *
 * Learning costs some tens of microseconds an event.  What it may take of a
 * processor is a setting; above it a part of the sessions is followed, chosen
 * by a hash, and counted for all.  What was learned is saved now and then; a
 * session that goes on over a restart of the worker is met anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "capture/counters.h"
#include "capture/tables.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/forecast.h"
#include "placement/foresee.h"

#define BYTES			((Size) 8 << 20)	/* for counts of sequences */
#define SESSIONS		4096	/* followed at a time */
#define FRAGMENTS_AT_ONCE 256
#define MOST_SLEPT		64		/* steps without a look; more: begin anew */
#define MOST_US			INT64CONST(200000)	/* of one call */
#define LEAST_SHARE		(1.0 / 1024)
#define SAVE_US			(INT64CONST(300) * USECS_PER_SEC)
#define TIDY_US			(INT64CONST(600) * USECS_PER_SEC)

/* The session that a process slot belongs to, and where it was last. */
typedef struct Visitor
{
	int			proc;			/* key */
	uint64		session;
	int64		fragment;
	TimestampTz time;
} Visitor;

static FaForesight *foresight = NULL;

static void *
sessions_alloc(void *arg, size_t size)
{
	return MemoryContextAllocExtended((MemoryContext) arg, size ? size : 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
sessions_release(void *arg, void *ptr)
{
	if (ptr)
		pfree(ptr);
}

FaAllocator
fa_foresee_allocator(FaForesight *f)
{
	return (FaAllocator) {
		sessions_alloc, sessions_release, f->context
	};
}

static HTAB *
make_hash(FaForesight *f, const char *name, Size key, Size entry)
{
	HASHCTL		ctl = {.keysize = key,.entrysize = entry,.hcxt = f->context};

	return hash_create(name, 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
foresee_drop(void)
{
	if (foresight)
		MemoryContextDelete(foresight->context);
	foresight = NULL;
}

/* In a transaction. */
static FaForesight *
foresee_begin(int64 width_us)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "fragaffinity sessions",
												  ALLOCSET_DEFAULT_SIZES);
	FaForesight *f = MemoryContextAllocZero(context, sizeof(FaForesight));
	FaSessionsConfig config = {.nnodes = 1,
	.next = {.nfragments = FRAGMENTS_AT_ONCE,.bytes = BYTES,.sessions = SESSIONS}};

	f->context = context;
	f->busy = true;				/* until it is whole */
	foresight = f;
	f->width_us = width_us;
	f->step = GetCurrentTimestamp() / width_us;
	f->position = fa_events_head();
	f->share = 1;
	fa_numbering_init(&f->fragments, context, FRAGMENTS_AT_ONCE);
	f->visitor = make_hash(f, "fragaffinity visitors", sizeof(int),
						   sizeof(Visitor));
	if (!fa_foresee_restore(f, &config))
	{
		FaAllocator allocator = fa_foresee_allocator(f);

		f->sessions = fa_sessions_create(&config, &allocator);
		f->network_since = GetCurrentTimestamp();
	}
	f->busy = false;
	return f;
}

/* One access that changes place, or is repeated there a second later. */
static void
take_event(FaForesight *f, const FaEvent *event)
{
	FaFragmentSlot *slot = fa_slot_get(event->slot);
	uint64		key = hash_bytes_extended((const unsigned char *) &event->session,
										  sizeof(event->session),
										  (uint64) PgStartTime);
	const char *application = fa_event_application(event->application);
	Visitor    *visitor;
	bool		found;
	bool		same;
	FaNextEvent next;
	TimestampTz began;

	if (slot->dbid != MyDatabaseId)
		return;
	visitor = hash_search(f->visitor, &event->proc, HASH_ENTER, &found);
	same = found && visitor->session == event->session;
	if (same && event->repeats > 0)
		fa_foresee_count(f, event->role, event->application,
						 visitor->fragment, event->repeats, 0);
	fa_foresee_count(f, event->role, event->application, slot->fragment, 1,
					 !same || event->time - visitor->time > FA_SESSION_PAUSE_US);
	visitor->session = event->session;
	visitor->fragment = slot->fragment;
	visitor->time = event->time;
	if ((double) (key >> 11) / (double) (UINT64CONST(1) << 53) >= f->share)
		return;

	began = GetCurrentTimestamp();
	next.session = key;
	next.profile = hash_bytes_extended((const unsigned char *) application,
									   strlen(application), event->role);
	next.node = 0;
	next.fragment = fa_numbering_add(&f->fragments, slot->fragment);
	next.time = event->time / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	/* by many at a time: the network's classes are laid out for so many */
	fa_sessions_resize(f->sessions, (next.fragment / FRAGMENTS_AT_ONCE + 1) *
					   FRAGMENTS_AT_ONCE);
	fa_sessions_observe(f->sessions, &next, same ? event->repeats : 0);
	f->spent_us += Max(GetCurrentTimestamp() - began, 0);
	f->unsaved = true;
}

/* Follows fewer sessions when that takes too long, more when it may. */
static void
fit_budget(FaForesight *f, double budget)
{
	double		most = budget * (double) f->width_us;

	if ((double) f->spent_us > most)
		f->share = Max(f->share / 2, LEAST_SHARE);
	else if ((double) f->spent_us < most / 4)
		f->share = Min(f->share * 2, 1);
	f->spent_us = 0;
}

/* The steps up to this one are over. */
static void
end_steps(FaForesight *f, int64 step)
{
	for (; f->step <= step; f->step++)
	{
		TimestampTz began = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		fa_sessions_step(f->sessions, 1 / f->share);
		f->spent_us += Max(GetCurrentTimestamp() - began, 0);
	}
}

/*
 * Takes new events in, each in its step.  The last step that is over is
 * returned, or 0 when the running one has begun before.
 */
static int64
take_events(FaForesight *f)
{
	int64		running = f->step;
	int64		now = GetCurrentTimestamp() / f->width_us;
	uint64		lost = 0;
	TimestampTz began = GetCurrentTimestamp();
	FaEvent		event;

	while (fa_events_next(&f->position, &lost, &event))
	{
		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() - began > MOST_US)
		{
			/* what is left comes next time, and less of it is followed */
			f->share = Max(f->share / 2, LEAST_SHARE);
			break;
		}
		if (event.time / f->width_us > f->step)
			end_steps(f, Min(event.time / f->width_us, now) - 1);
		take_event(f, &event);
	}
	end_steps(f, now - 1);
	return f->step > running ? f->step - 1 : 0;
}

static bool
passed(TimestampTz *last, int64 us)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last != 0 && *last <= now && now - *last < us)
		return false;
	*last = now;
	return true;
}

/* The worker ends: what was learned since it saved last is kept, too. */
static void
save_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	if (foresight == NULL || foresight->busy || !foresight->unsaved)
		return;
	fa_stats_begin();
	if (fa_extension_exists() && fa_node_self() != 0)
		fa_foresee_save(foresight);
	fa_stats_commit();
}

/* In a transaction; NULL when this node should not follow its sessions. */
static FaForesight *
open_foresight(double budget)
{
	int64		width_us = fa_setting_int("history_interval", 0) * 1000;
	int64		now = GetCurrentTimestamp() / width_us;

	/* an error spoiled it, or steps are others than they were */
	if (foresight && (foresight->busy || foresight->width_us != width_us ||
					  now < foresight->step - 1 ||
					  now - foresight->step > MOST_SLEPT))
		foresee_drop();
	if (budget <= 0)
	{
		foresee_drop();
		return NULL;
	}
	return foresight ? foresight : foresee_begin(width_us);
}

/* Was reset_network() called since? */
static void
obey_reset(FaForesight *f)
{
	TimestampTz called = fa_forecast_network_reset();

	if (called <= f->network_since)
		return;
	fa_sessions_reset_network(f->sessions);
	f->network_since = called;
	f->unsaved = true;
}

void
fa_foresee_step(void)
{
	static bool attached = false;
	static TimestampTz saved = 0;
	static TimestampTz tidied = 0;
	FaForesight *f = NULL;
	double		budget = 0;
	int64		over = 0;
	int			self;

	if (!attached)
		before_shmem_exit(save_exit, (Datum) 0);
	attached = true;
	fa_stats_begin();
	self = fa_capture_database() ? fa_node_self() : 0;
	if (self != 0)
	{
		budget = fa_setting_float("prediction_budget", 0);
		f = open_foresight(budget);
	}
	if (f)
	{
		f->busy = true;
		obey_reset(f);
		over = take_events(f);
		if (over != 0)
		{
			fa_foresee_write(f, self, over);
			fa_learning_report("sessions", fa_sessions_memory(f->sessions),
							   (double) f->spent_us / 1000, f->share);
			fit_budget(f, budget);
		}
		f->busy = false;
		if (f->unsaved && passed(&saved, SAVE_US))
			fa_foresee_save(f);
		if (passed(&tidied, TIDY_US))
			fa_foresee_tidy(f);
	}
	fa_stats_commit();
}
