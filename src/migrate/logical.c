/*
 * logical.c
 *	  A move by rows: COPY under the snapshot of a replication slot, then the
 *	  changes since.
 *
 * Takes every table that can be distributed.  The slot is temporary; the
 * publication goes with the claim (source.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "core/background.h"
#include "core/shmem.h"
#include "migrate/move.h"
#include "migrate/stream.h"
#include "node/node.h"

#define CAUGHT_UP_MS 200		/* a round this short leaves little to drain */
#define MAX_ROUNDS 1000
#define SLOT_TIMEOUT_MS 600000	/* waits for transactions of the source */
#define MARK_TIMEOUT_MS 10000

static void
logical_copy(FaMove *move)
{
	FaStream   *stream;
	char	   *snapshot;
	char	   *publication;

	fa_background_begin();
	MemoryContextSwitchTo(move->context);
	publication = fa_remote_value(move->control, 0,
								  "SELECT fragaffinity.publish_fragment("
								  INT64_FORMAT ", " INT64_FORMAT ")",
								  move->fragment.fragment, move->move);
	move->changes = fa_remote_connect_replication(move->fragment.owner,
												  FA_CONNECT_TIMEOUT_MS);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	stream = fa_stream_create(move->changes, move->move, SLOT_TIMEOUT_MS,
							  &snapshot);
	move->path_state = stream;
	fa_stop_point("move_slot_created");
	fa_move_copy_rows(move, snapshot);
	fa_move_create_indexes(move);
	fa_move_analyze(move, NULL);
	MemoryContextSwitchTo(move->context);
	fa_stream_start(stream, publication, fa_apply_create(move->heap));
}

/* Rounds until one is short. */
static void
logical_catch_up(FaMove *move)
{
	FaStream   *stream = move->path_state;
	int64		copied = move->slot->bytes_done;

	for (;;)
	{
		TimestampTz begun = GetCurrentTimestamp();
		char	   *lsn = fa_remote_value(move->control, 0,
										  "SELECT pg_current_wal_flush_lsn()");
		XLogRecPtr	target = DatumGetLSN(DirectFunctionCall1(pg_lsn_in,
															 CStringGetDatum(lsn)));

		while (!fa_stream_drain(stream, target, 1000))
		{
			move->slot->bytes_done = copied + stream->bytes;
			if (GetCurrentTimestamp() > move->deadline)
				ereport(ERROR,
						(errcode(ERRCODE_QUERY_CANCELED),
						 errmsg("move did not catch up within \"move_timeout\"")));
		}
		move->slot->bytes_done = copied + stream->bytes;
		move->slot->rounds++;
		if (GetCurrentTimestamp() - begun < CAUGHT_UP_MS * 1000)
			return;
		if (move->slot->rounds > MAX_ROUNDS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the source writes faster than the destination applies"),
					 errhint("Try again at a quieter time.")));
	}
}

/*
 * A record after the last commit, itself committed by another session, is
 * what makes the walsender see the commits flushed.
 */
static bool
logical_settle(FaMove *move, XLogRecPtr fenced, int limit_ms)
{
	bool		drained;

	fa_remote_send(move->control,
				   "SELECT pg_logical_emit_message(true, 'fragaffinity', '')");
	drained = fa_stream_drain(move->path_state, fenced, limit_ms);
	fa_remote_receive(move->control, MARK_TIMEOUT_MS, NULL);
	return drained;
}

static void
logical_keep_up(FaMove *move, int pause_ms)
{
	/* a target never reached: applies for that long */
	(void) fa_stream_drain(move->path_state, PG_UINT64_MAX, pause_ms);
}

static void
logical_finish(FaMove *move)
{
	fa_stream_finish(move->path_state);
}

const FaMovePath fa_logical_path = {
	.name = "logical",
	.copy = logical_copy,
	.catch_up = logical_catch_up,
	.settle = logical_settle,
	.keep_up = logical_keep_up,
	.finish = logical_finish,
};
