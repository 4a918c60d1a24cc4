/*
 * pages.c
 *	  A move by pages: the destination's side of page/read.c.
 *
 *	1. EXCLUSIVE on the new heap, by the session
 *	2. the source opens the relations: from here its log is read
 *	3. round 0 brings every page; then maps and statistics
 *	4. rounds bring what has changed, until one is short enough for the pause
 *	   that "cutover_pause" allows, at the rate that was measured
 *	5. under the fence a last round, in the transaction that holds it; more
 *	   pages than a few pauses' worth are refused, and rounds go on outside
 *
 * Rounds that do not get smaller any more end the move: writers are not stopped
 * for a table that they change faster than it can be copied.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "page/room.h"
#include "page/target.h"

#define FEW_PAGES		64		/* never worth another round */
#define FENCED_FACTOR	4		/* pauses' worth of pages that settle accepts */
#define WAIT_MS			100		/* for transactions that run on; as often as */
#define MAX_WAITS		6000
#define MAX_STALLS		8		/* rounds since one was smaller than all before */
#define SMALLER			0.8
#define READERS_MS		10		/* for readers of the new heap to be gone */
#define ANSWER_MS		30000	/* for the source to send the next frame */
#define FLUSH_AFTER		"1MB"
#define CALLS_A_REQUEST	16		/* so that round trips do not count */

typedef struct PagePath
{
	FaPageTarget *target;
	uint32		round;			/* the next one */
	double		rate;			/* pages a ms, lately */
	double		pause_ms;		/* allowed for pages under the fence */
	double		limit;			/* bytes a second; 0: none */
} PagePath;

/* COPY's binary format: a signature, rows of one column, an end. */
static const char copy_signature[19] = "PGCOPY\n\377\r\n\0";

/* The frame in a message of COPY; NULL: it is COPY's end. */
static const char *
pages_unwrap(char *data, int *len_p, bool first)
{
	StringInfoData msg;
	unsigned	columns;
	unsigned	size;

	msg.data = data;
	msg.len = *len_p;
	msg.maxlen = -1;
	msg.cursor = 0;
	/* these raise PROTOCOL_VIOLATION when there is less */
	if (!first || memcmp(pq_getmsgbytes(&msg, sizeof(copy_signature)),
						 copy_signature, sizeof(copy_signature)) == 0)
	{
		columns = pq_getmsgint(&msg, 2);
		if (columns == PG_UINT16_MAX && msg.cursor == msg.len)
			return NULL;
		size = columns == 1 ? pq_getmsgint(&msg, 4) : 0;
		if (size > 0 && size == (unsigned) (msg.len - msg.cursor))
		{
			*len_p = size;
			return data + msg.cursor;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("invalid row in a copy of pages")));
	return NULL;				/* keep compiler quiet */
}

static void
pages_sleep(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Sleeps when more has come than the limit allows. */
static void
pages_throttle(const PagePath *path, TimestampTz begun, int64 bytes)
{
	double		due_ms = bytes / path->limit * 1000;
	double		left_ms;

	while ((left_ms = due_ms - (GetCurrentTimestamp() - begun) / 1000.0) >= 1)
		pages_sleep((long) left_ms);
}

static void
pages_measure(FaMove *move, TimestampTz begun, int64 pages, int64 bytes)
{
	PagePath   *path = move->path_state;
	double		ms = Max(1, GetCurrentTimestamp() - begun) / 1000.0;

	/* a short round says more of round trips than of pages */
	if (pages < FEW_PAGES)
		return;
	path->rate = pages / ms;
	move->slot->rate = bytes / ms * 1000;
}

/* Frames of one COPY; true when the round's last has come, now or before. */
static bool
pages_receive(FaMove *move, bool ended, FaRoundEnd *end_p, TimestampTz begun,
			  int64 *bytes_p, bool fenced)
{
	PagePath   *path = move->path_state;
	bool		first = true;
	char	   *data;
	int			len;

	while ((len = fa_remote_copy_next(move->swap, ANSWER_MS, &data)) > 0)
	{
		const char *frame = pages_unwrap(data, &len, first);

		first = false;
		if (frame && ended)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("a copy of pages goes on after its end")));
		if (frame)
		{
			ended = fa_target_receive(path->target, frame, len, end_p);
			*bytes_p += len;
			move->slot->bytes_done += len;
		}
		PQfreemem(data);
		if (path->round == 0)
			move->slot->rate = *bytes_p * 1e6 / Max(1, GetCurrentTimestamp() - begun);
		if (path->limit > 0 && !fenced)
			pages_throttle(path, begun, *bytes_p);
	}
	return ended;
}

/* COPY statements that take a round further; what is too many does nothing. */
static char *
pages_request(const PagePath *path, bool fenced, int64 most)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < (fenced ? 1 : CALLS_A_REQUEST); i++)
		appendStringInfo(&sql, "COPY (SELECT fragaffinity.send_pages(%u, " INT64_FORMAT
						 ")) TO STDOUT (FORMAT binary);", path->round, most);
	return sql.data;
}

/*
 * A round; in a transaction of the caller's.  Unthrottled under the fence,
 * where it is one COPY.
 */
static void
pages_round(FaMove *move, bool fenced, int64 most, FaRoundEnd *end_p)
{
	PagePath   *path = move->path_state;
	TimestampTz begun = GetCurrentTimestamp();
	char	   *request = pages_request(path, fenced, most);
	int64		bytes = 0;
	bool		ended = false;

	fa_target_begin(path->target, path->round);
	while (!ended)
	{
		uint32		before = fa_target_frames(path->target);

		fa_remote_copy_begin(move->swap, ANSWER_MS, request);
		do
			ended = pages_receive(move, ended, end_p, begun, &bytes, fenced);
		while (fa_remote_copy_end(move->swap, ANSWER_MS));
		if (!ended && (fenced || fa_target_frames(path->target) == before))
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("a copy of pages has no end")));
	}
	pages_measure(move, begun, end_p->pages, bytes);
	path->round++;
}

/* A round of its own, as many pages as there are; their log is flushed. */
static FaRoundEnd
pages_full_round(FaMove *move)
{
	FaRoundEnd	end;

	fa_move_relock_heap(move);
	fa_background_begin();
	pages_round(move, false, PG_INT64_MAX, &end);
	/* now, not under the fence */
	if (XactLastRecEnd != InvalidXLogRecPtr)
		XLogFlush(XactLastRecEnd);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	move->slot->rounds++;
	return end;
}

static char *
pages_oid_array(const List *oids)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, oids)
		appendStringInfo(&buf, "%s%u", foreach_current_index(lc) ? "," : "",
						 lfirst_oid(lc));
	return buf.data;
}

/* Steps 1 and 2. */
static void
pages_open(FaMove *move)
{
	PagePath   *path;
	Oid		   *relations = palloc(sizeof(Oid) * list_length(move->our_relations));
	ListCell   *lc;

	path = MemoryContextAllocZero(move->context, sizeof(PagePath));
	/* the fence's own writes must not queue behind all that was copied */
	if (backend_flush_after == 0)
		SetConfigOption("backend_flush_after", FLUSH_AFTER, PGC_USERSET,
						PGC_S_SESSION);
	fa_move_lock_heap(move);
	fa_background_begin();
	path->pause_ms = fa_setting_float("cutover_pause", move->fragment.table_id);
	path->limit = fa_setting_float("move_rate_limit", move->fragment.table_id);
	foreach(lc, move->our_relations)
		relations[foreach_current_index(lc)] = lfirst_oid(lc);
	MemoryContextSwitchTo(move->context);
	path->target = fa_target_create(move->move, move->heap_xid, relations,
									list_length(move->our_relations));
	move->path_state = path;
	move->slot->bytes_total =
		strtoll(fa_remote_value(move->swap, 0,
								"SELECT fragaffinity.open_pages(" INT64_FORMAT
								", %u, %u, '{%s}')", move->move, move->heap_xid,
								move->toast, pages_oid_array(move->source_relations)),
				NULL, 10);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	fa_room_require(move->slot->bytes_total);
}

static void
pages_copy(FaMove *move)
{
	PagePath   *path;

	pages_open(move);
	fa_stop_point("move_slot_created");
	path = move->path_state;
	(void) pages_full_round(move);
	fa_background_begin();
	fa_target_write_maps(path->target);
	fa_target_vacuum_free_space(path->target);
	CommitTransactionCommand();
	fa_move_analyze(move);
	MemoryContextSwitchTo(move->context);
}

/* Pages that fit into the allowed pause. */
static int64
pages_budget(const PagePath *path)
{
	return Max(FEW_PAGES, (int64) (path->rate * path->pause_ms));
}

static void
pages_give_up(const FaMove *move, int64 pages)
{
	const PagePath *path = move->path_state;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("clients change fragment " INT64_FORMAT " faster than it can be copied",
					move->fragment.fragment),
			 errdetail(INT64_FORMAT " pages are to be copied again and again; a pause of %g ms allows for " INT64_FORMAT ".",
					   pages, path->pause_ms, pages_budget(path)),
			 errhint("Try again at a quieter time, or increase \"cutover_pause\" or \"move_rate_limit\".")));
}

/*
 * Rounds until one is short and few pages wait for transactions that run on.
 * A large one of those is waited for, but not for ever: the source keeps its
 * log for us.
 */
static void
pages_catch_up(FaMove *move, TimestampTz deadline)
{
	PagePath   *path = move->path_state;
	int64		best = PG_INT64_MAX;
	int			stalls = 0;
	int			waits = 0;

	for (;;)
	{
		FaRoundEnd	end = pages_full_round(move);
		int64		pages = end.pages + end.left;

		if (pages <= pages_budget(path))
			return;
		if (end.pages <= pages_budget(path))
		{
			pages_sleep(WAIT_MS);
			waits++;
		}
		else if (pages < best * SMALLER)
		{
			best = pages;
			stalls = 0;
		}
		else
			stalls++;
		if (stalls > MAX_STALLS || waits > MAX_WAITS)
			pages_give_up(move, pages);
		if (GetCurrentTimestamp() > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("move did not catch up within \"move_timeout\"")));
	}
}

/*
 * The last round.  Readers of the new heap (nobody has a reason to be one)
 * would make it wait for their pins, so they must be gone: raises
 * LOCK_NOT_AVAILABLE, for another try, while they are not.
 */
static bool
pages_settle(FaMove *move, XLogRecPtr fenced, int limit_ms)
{
	PagePath   *path = move->path_state;
	FaRoundEnd	end = {.sent = false};

	fa_background_begin();
	/* the swap that follows is what has to be on disk, and all before it */
	(void) fa_spi_exec("SET LOCAL synchronous_commit = off");
	/* in the queue: before who waits for the session's lock, as VACUUM does */
	(void) fa_spi_exec("SET LOCAL lock_timeout = %d", READERS_MS);
	LockRelationOid(move->heap, AccessExclusiveLock);
	(void) fa_spi_exec("SET LOCAL lock_timeout = 0");
	pages_round(move, true, pages_budget(path) * FENCED_FACTOR, &end);
	if (end.sent && end.left == 0)
	{
		fa_target_check_complete(path->target);
		fa_target_write_maps(path->target);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	return end.sent && end.left == 0;
}

static void
pages_keep_up(FaMove *move, int pause_ms)
{
	pages_sleep(pause_ms);
	(void) pages_full_round(move);
}

static void
pages_aborted(FaMove *move)
{
	fa_move_relock_heap(move);
}

static void
pages_finish(FaMove *move)
{
}

const FaMovePath fa_page_path = {
	.name = "page",
	.copy = pages_copy,
	.catch_up = pages_catch_up,
	.settle = pages_settle,
	.keep_up = pages_keep_up,
	.aborted = pages_aborted,
	.finish = pages_finish,
};
