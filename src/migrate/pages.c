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
 * A round that does not get smaller, again and again, ends the move: writers
 * are not stopped for a table that they change faster than it can be copied.
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/lock_poll.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "page/frame.h"
#include "page/target.h"

#define FEW_PAGES		64		/* never worth another round */
#define FENCED_FACTOR	4		/* pauses' worth of pages that settle accepts */
#define MAX_ROUNDS		200
#define MAX_STALLS		8		/* rounds in a row that were no smaller */
#define SMALLER			0.8
#define ANSWER_MS		30000	/* for the source to send the next frame */

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
pages_unwrap(const char *data, int *len, bool first)
{
	uint16		columns;
	uint32		size;

	if (first)
	{
		if (*len < sizeof(copy_signature) ||
			memcmp(data, copy_signature, sizeof(copy_signature)) != 0)
			columns = 0;
		data += sizeof(copy_signature);
		*len -= sizeof(copy_signature);
	}
	if (*len >= sizeof(columns))
	{
		memcpy(&columns, data, sizeof(columns));
		if (*len == sizeof(columns) && pg_ntoh16(columns) == PG_UINT16_MAX)
			return NULL;
		memcpy(&size, data + sizeof(columns),
			   *len >= sizeof(columns) + sizeof(size) ? sizeof(size) : 0);
		if (*len > sizeof(columns) + sizeof(size) &&
			pg_ntoh16(columns) == 1 &&
			pg_ntoh32(size) == *len - sizeof(columns) - sizeof(size))
		{
			*len = pg_ntoh32(size);
			return data + sizeof(columns) + sizeof(size);
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("invalid row in a copy of pages")));
}

/* Sleeps when more has come than the limit allows. */
static void
pages_throttle(const PagePath *path, TimestampTz begun, int64 bytes)
{
	double		due_ms = bytes / path->limit * 1000;
	double		left_ms;

	while ((left_ms = due_ms - (GetCurrentTimestamp() - begun) / 1000.0) >= 1)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) left_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
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

/* Frames of one round, in a transaction.  Unthrottled under the fence. */
static void
pages_receive(FaMove *move, bool fenced, FaRoundEnd *end_p)
{
	PagePath   *path = move->path_state;
	TimestampTz begun = GetCurrentTimestamp();
	int64		bytes = 0;
	bool		first = true;
	bool		ended = false;
	char	   *data;
	int			len;

	while ((len = fa_remote_copy_next(move->swap, ANSWER_MS, &data)) > 0)
	{
		const char *frame = pages_unwrap(data, &len, first);

		first = false;
		if (frame == NULL)
		{
			PQfreemem(data);
			continue;
		}
		if (ended)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("a copy of pages goes on after its end")));
		ended = fa_target_receive(path->target, frame, len, end_p);
		PQfreemem(data);
		bytes += len;
		move->slot->bytes_done += len;
		if (path->round == 0)
			move->slot->rate = bytes * 1e6 / Max(1, GetCurrentTimestamp() - begun);
		if (path->limit > 0 && !fenced)
			pages_throttle(path, begun, bytes);
	}
	if (!ended)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("a copy of pages has no end")));
	pages_measure(move, begun, end_p->pages, bytes);
}

/* A round; in a transaction of the caller's. */
static void
pages_round(FaMove *move, bool fenced, int64 most, FaRoundEnd *end_p)
{
	PagePath   *path = move->path_state;

	fa_target_begin(path->target, path->round);
	fa_remote_copy_begin(move->swap, ANSWER_MS,
						 psprintf("COPY (SELECT fragaffinity.send_pages(%u, " INT64_FORMAT
								  ")) TO STDOUT (FORMAT binary)",
								  path->round, most));
	pages_receive(move, fenced, end_p);
	fa_remote_copy_end(move->swap, ANSWER_MS);
	path->round++;
}

/* A round of its own, as many pages as there are; their log is flushed. */
static FaRoundEnd
pages_full_round(FaMove *move)
{
	FaRoundEnd	end;

	fa_move_relock_heap(move);
	StartTransactionCommand();
	pages_round(move, false, PG_INT64_MAX, &end);
	/* now, not under the fence */
	if (XactLastRecEnd != InvalidXLogRecPtr)
		XLogFlush(XactLastRecEnd);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	move->slot->rounds++;
	return end;
}

/* Raises when the relations would not fit on the disk. */
static void
pages_check_room(const FaMove *move)
{
	struct statvfs fs;

	if (statvfs(DataDir, &fs) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not get the free space of \"%s\": %m", DataDir)));
	if ((double) fs.f_bavail * fs.f_frsize < move->slot->bytes_total * 1.1)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no room for fragment " INT64_FORMAT, move->fragment.fragment),
				 errdetail("It takes " INT64_FORMAT " MB, and " INT64_FORMAT " MB are free.",
						   move->slot->bytes_total / 1000000,
						   (int64) ((double) fs.f_bavail * fs.f_frsize / 1000000))));
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
	fa_move_lock_heap(move);
	StartTransactionCommand();
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
	pages_check_room(move);
}

static void
pages_copy(FaMove *move)
{
	PagePath   *path;

	pages_open(move);
	fa_stop_point("move_slot_created");
	path = move->path_state;
	(void) pages_full_round(move);
	StartTransactionCommand();
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
pages_catch_up(FaMove *move, TimestampTz deadline)
{
	PagePath   *path = move->path_state;
	int64		before = PG_INT64_MAX;
	int			stalls = 0;

	for (int i = 0;; i++)
	{
		FaRoundEnd	end = pages_full_round(move);

		if (end.pages <= pages_budget(path))
			return;
		stalls = end.pages > before * SMALLER ? stalls + 1 : 0;
		before = end.pages;
		if (i > MAX_ROUNDS || stalls > MAX_STALLS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("clients change fragment " INT64_FORMAT " faster than it can be copied",
							move->fragment.fragment),
					 errdetail(INT64_FORMAT " pages changed while as many were copied; a pause of %g ms allows for " INT64_FORMAT ".",
							   end.pages, path->pause_ms, pages_budget(path)),
					 errhint("Try again at a quieter time, or increase \"cutover_pause\" or \"move_rate_limit\".")));
		if (GetCurrentTimestamp() > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("move did not catch up within \"move_timeout\"")));
	}
}

/*
 * The last round.  Readers of the new heap (nobody has a reason to be one)
 * would make it wait for their pins, so they must be gone.
 */
static bool
pages_settle(FaMove *move, XLogRecPtr fenced, int limit_ms)
{
	PagePath   *path = move->path_state;
	FaRoundEnd	end = {.sent = false};

	StartTransactionCommand();
	/* the swap that follows is what has to be on disk, and all before it */
	(void) fa_spi_exec("SET LOCAL synchronous_commit = off");
	if (fa_lock_poll(move->heap, AccessExclusiveLock, 0))
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
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 pause_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
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
