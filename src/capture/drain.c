/*
 * drain.c
 *	  The worker moves counters from shared memory into history.
 *
 * Time is cut into steps of history_interval.  Backends count into the cell
 * of the step in which a statement ends; there are FA_BANKS cells a fragment,
 * so the worker has that many steps (less two) to come and see which step a
 * cell belongs to.
 *
 *	1. new growth of all cells is read, and assigned to steps
 *	2. it is added to fragaffinity.history and access_total, and steps that
 *	   are over are marked complete, in one transaction
 *	3. after the commit the growth is remembered as drained
 *
 * A crash of the worker between 2 and 3 cannot be: interrupts are held.  A
 * crash of the server loses the memory, so nothing is counted twice.
 *
 * Only a step that was watched from its start to its end is marked complete.
 * After the start of the server, a worker that came too late, a change of
 * history_interval and a jump of the clock, watching starts anew with the
 * next step; what was counted in between goes to the running step.  Counts
 * that come for a step after it was marked go to the next one; while a clock
 * that was set back a little catches up, that one is not marked either.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "capture/heat.h"
#include "capture/tables.h"
#include "core/settings.h"
#include "node/node.h"

/* Between two writes while a step lasts: what kill -9 may cost. */
#define WRITE_PERIOD_US INT64CONST(5000000)

#define GRACE_US (FA_STEP_GRACE_MS * INT64CONST(1000))

/* Pauses, when a step has just ended, and at other times. */
#define SOON_TICK_MS 100
#define TICK_MS 1000

/* A clock set back by less is waited for. */
#define SMALL_JUMP_US INT64CONST(600000000)

typedef struct Growth
{
	int			slot;
	int			bank;
	int64		step;
	FaCounts	counts;
} Growth;

typedef struct Drain
{
	FaCaptureDatabase *db;
	int			self;
	int64		interval_us;
	TimestampTz now;
	int64		step;			/* that runs now */
	Growth	   *growth;
	int			ngrowth;
	int64		complete;		/* all steps up to it are over */
} Drain;

static TimestampTz last_write = 0;
static MemoryContext drain_context = NULL;

static void drain_run(bool force);

/*
 * The worker ends: what was counted until now would be lost with the server.
 * As for temporary tables, this is early enough for a transaction; an error
 * here ends the worker, which it does anyway.
 */
static void
drain_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	drain_run(true);
	fa_capture_set_worker(fa_capture_database(), NULL);
}

/* First call of this worker. */
static void
drain_attach(FaCaptureDatabase *db)
{
	static bool attached = false;

	if (attached)
		return;
	attached = true;
	fa_capture_set_worker(db, MyLatch);
	before_shmem_exit(drain_exit, (Datum) 0);
	drain_context = AllocSetContextCreate(TopMemoryContext,
										  "fragaffinity drain",
										  ALLOCSET_DEFAULT_SIZES);
}

/*
 * Decisions wait for a step's counts to have come from all nodes, and what they
 * are late is lost to clients: so the worker is there when a step ends, and looks
 * more often until the other nodes have had time.
 */
int
fa_capture_tick_ms(void)
{
	FaCaptureDatabase *db = fa_capture_database();
	int64		interval_us = db ? pg_atomic_read_u64(&db->interval_us) : 0;
	int64		since_us;
	int64		over_us;

	if (interval_us <= 0)
		return TICK_MS;
	since_us = GetCurrentTimestamp() % interval_us;
	over_us = since_us < GRACE_US ? GRACE_US - since_us :
		interval_us + GRACE_US - since_us;
	return Min(over_us / 1000 + 1, since_us < FA_STEP_SOON_MS * INT64CONST(1000) ?
			   SOON_TICK_MS : TICK_MS);
}

/*
 * Watching starts anew: the running step is not known from its start, nor,
 * when the clock jumped, is what backends count that did not notice yet.
 */
static void
drain_restart(Drain *d, bool jumped)
{
	d->db->last_complete = d->step - 1;
	d->db->observed_from =
		(d->now + (jumped ? FA_CLOCK_CHECK_US : 0)) / d->interval_us + 1;
}

/* Looks at the clock and at the interval. */
static void
drain_set_time(Drain *d)
{
	FaCaptureDatabase *db = d->db;
	bool		changed = pg_atomic_read_u64(&db->interval_us) != d->interval_us;

	d->now = GetCurrentTimestamp();
	d->step = d->now / d->interval_us;
	pg_atomic_write_u64(&db->interval_us, d->interval_us);
	if (db->last_step == 0 || changed)
		drain_restart(d, changed);
	else if (d->step - db->last_step > FA_BANKS - 2 ||
			 (d->step < db->last_step - 1 &&
			  (db->last_step - d->step) * d->interval_us > SMALL_JUMP_US))
		drain_restart(d, true);
	/* set back a little: what comes until it has caught up has one step */
	if (d->step <= db->last_complete)
		db->observed_from = Max(db->observed_from, db->last_complete + 2);
	d->complete = (d->now - GRACE_US) / d->interval_us - 1;
}

/* The step a bank's new counts belong to. */
static int64
drain_bank_step(const Drain *d, int bank)
{
	/* one step ahead: a backend's clock may be a little before ours */
	int64		newest = d->step + 1;
	int64		step = newest -
	((newest - bank) % FA_BANKS + FA_BANKS) % FA_BANKS;

	return Max(step, d->db->last_complete + 1);
}

static void
drain_read(Drain *d)
{
	int			nslots = fa_slot_count();
	int			size = 0;

	for (int slot = 0; slot < nslots; slot++)
	{
		if (fa_slot_get(slot)->dbid != MyDatabaseId)
			continue;
		for (int bank = 0; bank < FA_BANKS; bank++)
		{
			FaCounts	counts;
			Growth	   *g;

			if (!fa_counters_delta(slot, bank, &counts))
				continue;
			if (d->ngrowth == size)
			{
				size = size ? size * 2 : 64;
				d->growth = d->growth ?
					repalloc_huge(d->growth, sizeof(Growth) * size) :
					palloc(sizeof(Growth) * size);
			}
			g = &d->growth[d->ngrowth++];
			g->slot = slot;
			g->bank = bank;
			g->step = drain_bank_step(d, bank);
			g->counts = counts;
		}
	}
}

#define MS(ns) ((ns) / 1e6)

static void
drain_write_history(Drain *d)
{
	StringInfoData columns[9];
	char	   *params[11];

	for (int i = 0; i < lengthof(columns); i++)
		initStringInfo(&columns[i]);
	for (int i = 0; i < d->ngrowth; i++)
	{
		Growth	   *g = &d->growth[i];
		int64	   *v = g->counts.value;

		fa_array_add_text(&columns[0],
						  timestamptz_to_str(g->step * d->interval_us));
		fa_array_add_int(&columns[1], fa_slot_get(g->slot)->fragment);
		fa_array_add_int(&columns[2], v[FA_COUNT_CALLS]);
		fa_array_add_int(&columns[3], v[FA_COUNT_REMOTE_CALLS]);
		fa_array_add_int(&columns[4], v[FA_COUNT_ROWS_READ]);
		fa_array_add_int(&columns[5], v[FA_COUNT_ROWS_WRITTEN]);
		fa_array_add_float(&columns[6], MS(v[FA_COUNT_NS]));
		fa_array_add_float(&columns[7], MS(v[FA_COUNT_REMOTE_NS]));
		fa_array_add_text(&columns[8],
						  timestamptz_to_str(fa_counters_last_access(g->slot)));
	}
	for (int i = 0; i < lengthof(columns); i++)
		params[i] = fa_array_finish(&columns[i]);
	params[9] = psprintf("%d", d->self);
	params[10] = psprintf("%.3f ms", d->interval_us / 1000.0);

	/* two banks can fall on one step, hence the sums */
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.history AS h "
		"(step, width, node, fragment, calls, remote_calls, rows_read, "
		" rows_written, elapsed_ms, remote_elapsed_ms) "
		"SELECT s, $11::interval, $10::integer, f, "
		" sum(c), sum(rc), sum(rr), sum(rw), sum(e), sum(re) "
		"FROM ROWS FROM (unnest($1::timestamptz[]), unnest($2::bigint[]), "
		" unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::bigint[]), "
		" unnest($6::bigint[]), unnest($7::double precision[]), "
		" unnest($8::double precision[])) AS u(s, f, c, rc, rr, rw, e, re) "
		"GROUP BY s, f "
		"ON CONFLICT (step, node, fragment) DO UPDATE SET "
		" width = greatest(h.width, excluded.width), "
		" calls = h.calls + excluded.calls, "
		" remote_calls = h.remote_calls + excluded.remote_calls, "
		" rows_read = h.rows_read + excluded.rows_read, "
		" rows_written = h.rows_written + excluded.rows_written, "
		" elapsed_ms = h.elapsed_ms + excluded.elapsed_ms, "
		" remote_elapsed_ms = h.remote_elapsed_ms + excluded.remote_elapsed_ms",
		lengthof(params), params);
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.access_total AS t "
		"(node, fragment, calls, remote_calls, rows_read, rows_written, "
		" elapsed_ms, remote_elapsed_ms, last_access, changed) "
		"SELECT $10::integer, f, sum(c), sum(rc), sum(rr), sum(rw), "
		" sum(e), sum(re), max(l), clock_timestamp() "
		"FROM ROWS FROM (unnest($2::bigint[]), "
		" unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::bigint[]), "
		" unnest($6::bigint[]), unnest($7::double precision[]), "
		" unnest($8::double precision[]), unnest($9::timestamptz[])) "
		" AS u(f, c, rc, rr, rw, e, re, l) "
		"GROUP BY f "
		"ON CONFLICT (node, fragment) DO UPDATE SET "
		" calls = t.calls + excluded.calls, "
		" remote_calls = t.remote_calls + excluded.remote_calls, "
		" rows_read = t.rows_read + excluded.rows_read, "
		" rows_written = t.rows_written + excluded.rows_written, "
		" elapsed_ms = t.elapsed_ms + excluded.elapsed_ms, "
		" remote_elapsed_ms = t.remote_elapsed_ms + excluded.remote_elapsed_ms, "
		" last_access = greatest(t.last_access, excluded.last_access), "
		" changed = excluded.changed", lengthof(params), params);
}

/* Marks the steps that are over and were watched all the time. */
static void
drain_mark_complete(Drain *d)
{
	FaCaptureDatabase *db = d->db;
	int64		first = Max(db->last_complete + 1, db->observed_from);
	StringInfoData steps;
	char	   *params[2];

	if (first > d->complete)
		return;
	initStringInfo(&steps);
	for (int64 s = first; s <= d->complete; s++)
		fa_array_add_text(&steps, timestamptz_to_str(s * d->interval_us));
	params[0] = fa_array_finish(&steps);
	params[1] = psprintf("%d", d->self);
	(void) fa_stats_exec("INSERT INTO fragaffinity.history_step (step, node) "
						 "SELECT s, $2::integer FROM unnest($1::timestamptz[]) s "
						 "ON CONFLICT DO NOTHING", lengthof(params), params);
}

/* After the commit; must not fail. */
static void
drain_remember(Drain *d)
{
	for (int i = 0; i < d->ngrowth; i++)
		fa_counters_drained(d->growth[i].slot, d->growth[i].bank,
							&d->growth[i].counts);
	d->db->last_complete = Max(d->db->last_complete, d->complete);
	d->db->last_step = d->step;
	fa_transitions_written();
	fa_heat_written();
	fa_gone_give_back();
	last_write = d->now;
}

/* Is there something to write now, or only in a while? */
static bool
drain_is_due(const Drain *d, bool force, uint64 requested)
{
	return force ||
		requested > pg_atomic_read_u64(&d->db->flush_served) ||
		d->step != d->db->last_step ||
		d->complete > d->db->last_complete ||
		d->now - last_write >= WRITE_PERIOD_US || d->now < last_write;
}

/* False when nothing was due. */
static bool
drain_in_transaction(Drain *d, bool force, uint64 requested)
{
	if (fa_extension_exists())
		d->self = fa_node_self();
	d->interval_us = d->self == 0 ? pg_atomic_read_u64(&d->db->interval_us) :
		fa_setting_int("history_interval", 0) * 1000;
	drain_set_time(d);
	if (!drain_is_due(d, force, requested))
		return false;
	drain_read(d);
	/* what belongs to no cluster is forgotten */
	if (d->self != 0)
	{
		if (d->ngrowth > 0)
			drain_write_history(d);
		drain_mark_complete(d);
		fa_transitions_write(d->self);
		fa_heat_write();
	}
	return true;
}

static void
drain_run(bool force)
{
	FaCaptureDatabase *db = fa_capture_database();
	MemoryContext caller = CurrentMemoryContext;
	Drain		d = {0};
	uint64		requested;
	bool		wrote;

	if (db == NULL)
		return;
	drain_attach(db);
	d.db = db;
	requested = pg_atomic_read_u64(&db->flush_requested);
	pg_memory_barrier();
	fa_transitions_read(db);
	fa_heat_read();

	MemoryContextReset(drain_context);
	fa_stats_begin();
	/* the growth is needed after the commit */
	MemoryContextSwitchTo(drain_context);
	wrote = drain_in_transaction(&d, force, requested);
	HOLD_INTERRUPTS();
	fa_stats_commit();
	if (wrote)
		drain_remember(&d);
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	pg_atomic_write_u64(&db->flush_served, requested);
	ConditionVariableBroadcast(&db->flushed);
}

bool
fa_capture_flush_wanted(void)
{
	FaCaptureDatabase *db = fa_capture_database();

	return db && pg_atomic_read_u64(&db->flush_requested) >
		pg_atomic_read_u64(&db->flush_served);
}

void
fa_capture_drain(void)
{
	drain_run(false);
	fa_gone_look();
	fa_history_maintain();
}
