/*
 * transitions.c
 *	  From the ring of events to fragaffinity.transition.
 *
 * The worker remembers the last fragment of each session and counts pairs
 * (from, to) by role and application, in its own memory, until the next
 * drain.  A session's first fragment, and one after a long pause, comes from
 * fragment 0: an arrival.
 *
 * Weights decay: a row's weight is what it was at "updated", and whoever
 * reads or adds to it ages it by half every transition_half_life.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/tables.h"
#include "core/settings.h"

typedef struct SessionEntry
{
	int			proc;			/* hash key */
	uint64		session;
	int64		fragment;
	TimestampTz time;
} SessionEntry;

typedef struct PairKey
{
	int64		from;
	int64		to;
	Oid			role;
	int			application;
} PairKey;

typedef struct PairEntry
{
	PairKey		key;			/* hash key */
	double		n;
} PairEntry;

static HTAB *sessions = NULL;
static HTAB *pairs = NULL;

static void
transitions_create(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(int);
	ctl.entrysize = sizeof(SessionEntry);
	ctl.hcxt = TopMemoryContext;
	sessions = hash_create("fragaffinity sessions", 128, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(PairKey);
	ctl.entrysize = sizeof(PairEntry);
	pairs = hash_create("fragaffinity transitions", 256, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
transitions_add(int64 from, int64 to, Oid role, int application, double n)
{
	PairKey		key;
	PairEntry  *pair;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.from = from;
	key.to = to;
	key.role = role;
	key.application = application;
	pair = hash_search(pairs, &key, HASH_ENTER, &found);
	if (!found)
		pair->n = 0;
	pair->n += n;
}

static void
transitions_take(const FaEvent *event)
{
	FaFragmentSlot *slot = fa_slot_get(event->slot);
	SessionEntry *session;
	bool		found;

	if (slot->dbid != MyDatabaseId)
		return;
	session = hash_search(sessions, &event->proc, HASH_ENTER, &found);
	if (found && session->session == event->session && event->repeats > 0)
		transitions_add(session->fragment, session->fragment, event->role,
						event->application, event->repeats);
	if (!found || session->session != event->session ||
		event->time - session->time > FA_SESSION_PAUSE_US)
		session->fragment = 0;
	transitions_add(session->fragment, slot->fragment, event->role,
					event->application, 1);
	session->session = event->session;
	session->fragment = slot->fragment;
	session->time = event->time;
}

void
fa_transitions_read(FaCaptureDatabase *db)
{
	uint64		position = pg_atomic_read_u64(&db->event_tail);
	uint64		end = fa_events_head(); /* sessions may add as fast as we read */
	uint64		lost = 0;
	FaEvent		event;

	if (sessions == NULL)
		transitions_create();
	while (position < end && fa_events_next(&position, &lost, &event))
		transitions_take(&event);
	pg_atomic_write_u64(&db->event_tail, position);
	if (lost > 0)
		pg_atomic_fetch_add_u64(&db->events_lost, lost);
}

/* One row in the batch; false when the role is gone. */
static bool
transitions_add_row(StringInfo columns, const PairEntry *pair)
{
	char	   *role = GetUserNameFromId(pair->key.role, true);

	if (role == NULL)
		return false;
	fa_array_add_text(&columns[0], role);
	fa_array_add_text(&columns[1], fa_event_application(pair->key.application));
	fa_array_add_int(&columns[2], pair->key.from);
	fa_array_add_int(&columns[3], pair->key.to);
	fa_array_add_float(&columns[4], pair->n);
	return true;
}

void
fa_transitions_write(int self)
{
	StringInfoData columns[5];
	char	   *params[7];
	HASH_SEQ_STATUS status;
	PairEntry  *pair;
	bool		any = false;

	if (pairs == NULL || hash_get_num_entries(pairs) == 0)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		initStringInfo(&columns[i]);
	hash_seq_init(&status, pairs);
	while ((pair = hash_seq_search(&status)) != NULL)
		any |= transitions_add_row(columns, pair);
	if (!any)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		params[i] = fa_array_finish(&columns[i]);
	params[5] = psprintf("%d", self);
	params[6] = psprintf("%.17g",
						 fa_setting_float("transition_half_life", 0) / 1000);

	/* later than any row before, even when the clock was set back: peers ask
	 * for what is newer than what they have */
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.transition AS t "
		"SELECT $6::integer, r::name, a, f, o, w, greatest("
		" pg_catalog.clock_timestamp(), (SELECT pg_catalog.max(updated) "
		"  + interval '1 microsecond' FROM fragaffinity.transition "
		"  WHERE node = $6::integer "
		"  AND updated < pg_catalog.clock_timestamp() + interval '1 hour')) "
		"FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), "
		" pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::bigint[]), "
		" pg_catalog.unnest($5::double precision[])) AS u(r, a, f, o, w) "
		"ON CONFLICT (node, role, application, from_fragment, to_fragment) "
		"DO UPDATE SET weight = excluded.weight + t.weight * "
		" pg_catalog.power(0.5, greatest(0, extract(epoch FROM "
		"  excluded.updated - t.updated)) / $7::double precision), "
		" updated = excluded.updated", lengthof(params), params);
}

/* Sessions that ended leave an entry a process slot, which is few. */
void
fa_transitions_written(void)
{
	HASH_SEQ_STATUS status;
	PairEntry  *pair;

	if (pairs == NULL)
		return;
	hash_seq_init(&status, pairs);
	while ((pair = hash_seq_search(&status)) != NULL)
		(void) hash_search(pairs, &pair->key, HASH_REMOVE, NULL);
}
