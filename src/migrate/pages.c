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
#include "migrate/guard.h"
#include "migrate/statistics.h"
#include "page/frame.h"
#include "page/room.h"
#include "page/target.h"
#include "transport/transport.h"

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
	uint32		round;			/* the last that was begun; they count from 1 */
	uint32		received;		/* the last that came whole */
	double		rate;			/* pages a ms, lately */
	int64		torn;			/* pages that came again, as they had changed */
	double		pause_ms;		/* allowed for pages under the fence */
	FaGuard    *guard;
} PagePath;

static void
pages_sleep(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
pages_measure(FaMove *move, int64 took_us, int64 pages, int64 bytes)
{
	PagePath   *path = move->path_state;
	double		ms = Max(1, took_us) / 1000.0;

	/* a short round says more of round trips than of pages */
	if (pages < FEW_PAGES)
		return;
	path->rate = pages / ms;
	move->slot->rate = bytes / ms * 1000;
}

/* A round as its frames come. */
typedef struct PageRound
{
	FaMove	   *move;
	TimestampTz begun;
	int64		bytes;
	bool		fenced;
	bool		ended;			/* its last frame has come */
	FaRoundEnd *end_p;
} PageRound;

static void
pages_receive(void *arg, const char *frame, Size len)
{
	PageRound  *round = arg;
	FaMove	   *move = round->move;
	PagePath   *path = move->path_state;

	if (round->ended)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("a copy of pages goes on after its end")));
	round->ended = fa_target_receive(path->target, frame, len, round->end_p);
	round->bytes += len;
	move->slot->bytes_done += len;
	if (path->received == 0)
		move->slot->rate = round->bytes * 1e6 /
			Max(1, GetCurrentTimestamp() - round->begun);
	if (!round->fenced)
		fa_guard_pace(path->guard, len);
}

/*
 * Statements that take a round further, each in a transaction of its own;
 * under the fence one, in the transaction that is open.  What is too many does
 * nothing.
 */
static char *
pages_request(FaMove *move, bool fenced, int64 most)
{
	const PagePath *path = move->path_state;
	char	   *send = psprintf("SELECT fragaffinity.send_pages(%u, %u, " INT64_FORMAT ")",
								path->round, path->received, most);
	StringInfoData sql;

	if (move->channel->ops->capabilities & FA_TRANSPORT_ROWS)
		send = psprintf("COPY (%s) TO STDOUT (FORMAT binary)", send);
	if (fenced)
		return send;
	initStringInfo(&sql);
	for (int i = 0; i < CALLS_A_REQUEST; i++)
		appendStringInfo(&sql, "BEGIN; %s; COMMIT;", send);
	return sql.data;
}

/* Pages that changed while they were sent come again. */
static void
pages_resend(FaMove *move)
{
	PagePath   *path = move->path_state;
	char	   *torn = fa_target_take_torn(path->target);

	if (torn)
		fa_remote_exec(move->swap, ANSWER_MS,
					   "SELECT fragaffinity.resend_pages(%s)", torn);
}

/*
 * A round; in a transaction of the caller's.  Unthrottled under the fence,
 * where it is one statement.  One that fails has used its number, by which the
 * source knows that its pages are to come again.
 */
static void
pages_round(FaMove *move, bool fenced, int64 most, FaRoundEnd *end_p)
{
	PagePath   *path = move->path_state;
	PageRound	round = {
		.move = move, .begun = GetCurrentTimestamp(), .fenced = fenced,
		.end_p = end_p
	};
	int64		slept = fa_guard_slept(path->guard);
	char	   *request;

	pages_resend(move);
	path->round++;
	request = pages_request(move, fenced, most);
	fa_target_begin(path->target, path->round);
	while (!round.ended)
	{
		uint32		before = fa_target_frames(path->target);

		fa_channel_call(move->channel, ANSWER_MS, request, pages_receive,
						&round);
		if (!round.ended &&
			(fenced || fa_target_frames(path->target) == before))
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("a copy of pages has no end")));
	}
	path->received = path->round;
	path->torn += end_p->torn;
	slept = fa_guard_slept(path->guard) - slept;
	pages_measure(move, GetCurrentTimestamp() - round.begun - slept,
				  end_p->pages, round.bytes);
}

/* A round of its own, as many pages as there are; their log is flushed. */
static FaRoundEnd
pages_full_round(FaMove *move)
{
	FaRoundEnd	end;

	fa_background_begin();
	pages_round(move, false, PG_INT64_MAX, &end);
	fa_guard_rest(((PagePath *) move->path_state)->guard);
	/* now, not under the fence */
	if (XactLastRecEnd != InvalidXLogRecPtr)
		XLogFlush(XactLastRecEnd);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	move->slot->rounds++;
	return end;
}

/* Raises when what the source has does not fit here.  In a transaction. */
static void
pages_check_room(FaMove *move, const char *sizes)
{
	FaRows	   *rows = fa_spi_rows("SELECT s.bytes, c.reltablespace "
								   "FROM ROWS FROM (pg_catalog.unnest('%s'::pg_catalog.int8[]), "
								   " pg_catalog.unnest('{%s}'::pg_catalog.oid[])) AS s(bytes, relation) "
								   "JOIN pg_catalog.pg_class c ON c.oid = s.relation",
								   sizes, fa_move_oid_array(move->our_relations));
	FaRoom	   *rooms = palloc(sizeof(FaRoom) * Max(rows->nrows, 1));
	int64		sum = 0;

	for (int i = 0; i < rows->nrows; i++)
	{
		rooms[i].bytes = rows->value[i][0] ? strtoll(rows->value[i][0], NULL, 10) : 0;
		rooms[i].tablespace = atooid(rows->value[i][1]);
		sum += rooms[i].bytes;
	}
	move->slot->bytes_total = sum;
	fa_room_require(rooms, rows->nrows);
}

/* Steps 1 and 2. */
static void
pages_open(FaMove *move)
{
	PagePath   *path;
	Oid		   *relations = palloc(sizeof(Oid) * list_length(move->our_relations));
	char	   *sizes;
	ListCell   *lc;

	path = MemoryContextAllocZero(move->context, sizeof(PagePath));
	move->path_state = path;
	fa_move_open_channel(move);
	/* the fence's own writes must not queue behind all that was copied */
	if (backend_flush_after == 0)
		SetConfigOption("backend_flush_after", FLUSH_AFTER, PGC_USERSET,
						PGC_S_SESSION);
	fa_move_lock_heap(move);
	path->guard = fa_guard_create(move);
	fa_background_begin();
	path->pause_ms = fa_setting_float("cutover_pause", move->fragment.table_id);
	foreach(lc, move->our_relations)
		relations[foreach_current_index(lc)] = lfirst_oid(lc);
	MemoryContextSwitchTo(move->context);
	path->target = fa_target_create(move->move, move->heap_xid, relations,
									list_length(move->our_relations),
									OidIsValid(move->toast) ?
									lsecond_oid(move->source_relations) :
									InvalidOid);
	sizes = fa_remote_value(move->swap, 0,
							"SELECT fragaffinity.open_pages(" INT64_FORMAT
							", %u, %u, '{%s}')", move->move, move->heap_xid,
							move->toast, fa_move_oid_array(move->source_relations));
	pages_check_room(move, sizes);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
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
	fa_move_carry_statistics(move);
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
pages_catch_up(FaMove *move)
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
		if (GetCurrentTimestamp() > move->deadline)
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

	fa_cutover_begin();
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
	fa_cutover_end();
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
pages_finish(FaMove *move)
{
	const PagePath *path = move->path_state;
	const FaChannel *channel = move->channel;

	move->transport_counters =
		psprintf("{\"messages\": " UINT64_FORMAT ", \"bytes\": " UINT64_FORMAT
				 ", \"gathered\": " UINT64_FORMAT ", \"writes\": " UINT64_FORMAT
				 ", \"completions\": " UINT64_FORMAT ", \"torn\": " INT64_FORMAT "}",
				 channel->messages, channel->bytes, channel->gathered,
				 channel->writes, channel->completions, path->torn);
}

const FaMovePath fa_page_path = {
	.name = "page",
	.copy = pages_copy,
	.catch_up = pages_catch_up,
	.settle = pages_settle,
	.keep_up = pages_keep_up,
	.finish = pages_finish,
};
