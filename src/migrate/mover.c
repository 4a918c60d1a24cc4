/*
 * mover.c
 *	  The background worker that runs one move; the steps are in move.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/table_ddl.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/node.h"
#include "page/source.h"

#define MAX_ATTEMPTS 5			/* a move begins anew only so often */

#define CONTROL_OPTIONS \
	"SET synchronous_commit = local; SET tcp_keepalives_idle = 10; " \
	"SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; " \
	"SET tcp_user_timeout = 30000; SET client_connection_check_interval = 1000"

void
fa_move_set_phase(FaMove *move, FaMovePhase phase)
{
	move->slot->phase = phase;
	pgstat_report_activity(STATE_RUNNING, fa_move_phase_name(phase));
}

/*
 * Raises when the move is to end.  The signal alone is not enough: one that
 * comes together with lock_timeout is taken for that (ProcessInterrupts()), and
 * a lock that is not to be had is a reason to try again.
 */
static void
mover_check_cancel(const FaMove *move)
{
	CHECK_FOR_INTERRUPTS();
	if (move->slot->cancel)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("move " INT64_FORMAT " has been cancelled", move->move)));
}

/* Also in the table, where other nodes and the next start see it. */
static void
mover_enter(FaMove *move, FaMovePhase phase)
{
	fa_move_set_phase(move, phase);
	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET state = %s, "
					   "started = coalesce(started, pg_catalog.clock_timestamp()), "
					   "bytes = " INT64_FORMAT ", rounds = %d, "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT,
					   quote_literal_cstr(fa_move_phase_name(phase)),
					   move->slot->bytes_done, move->slot->rounds, move->move);
	CommitTransactionCommand();
	fa_stop_point(psprintf("move_%s", fa_move_phase_name(phase)));
	mover_check_cancel(move);
}

static void
mover_insert_row(const FaMove *move, const FaFragment *f)
{
	const FaMoverSlot *slot = move->slot;

	(void) fa_spi_exec("INSERT INTO fragaffinity.move (move, fragment, source, "
					   "destination, trigger, state, reason, "
					   "expected_benefit) VALUES (" INT64_FORMAT ", " INT64_FORMAT
					   ", %d, %d, %s, 'planned', %s, "
					   "nullif('%g'::pg_catalog.float8, 'NaN'))",
					   move->move, slot->fragment, f->owner, move->self,
					   quote_literal_cstr(slot->trigger),
					   quote_literal_cstr(slot->reason), slot->expected_benefit);
}

/* Row of the move and what it knows of its fragment. */
static void
mover_begin(FaMove *move, MemoryContext context)
{
	FaMoverSlot *slot = move->slot;
	FaFragment *f;

	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	move->self = fa_node_require_cluster();
	f = fa_map_fragment(slot->fragment);
	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", slot->fragment)));
	move->fragment = *f;
	if (move->attempt == 1)
		mover_insert_row(move, f);
	if (move->deadline == 0)
		move->deadline =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										fa_setting_float("move_timeout", f->table_id));
	MemoryContextSwitchTo(context);
	move->bucket_name = pstrdup(fa_table_qualified_name(f->bucket));
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	if (move->fragment.local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " is here already",
						slot->fragment)));
}

static void
mover_connect(FaMove *move, MemoryContext context)
{
	FaRows	   *rows;

	fa_background_begin();
	MemoryContextSwitchTo(context);
	move->control = fa_remote_connect(move->fragment.owner, FA_CONNECT_TIMEOUT_MS);
	fa_remote_exec(move->control, FA_CONNECT_TIMEOUT_MS, CONTROL_OPTIONS);
	rows = fa_remote_rows(move->control, 0,
						  "SELECT leaf_name, bucket_name, bytes "
						  "FROM fragaffinity.claim_fragment(" INT64_FORMAT ", "
						  INT64_FORMAT ")",
						  move->fragment.fragment, move->fragment.version);
	move->source_leaf_name = rows->value[0][0];
	if (strcmp(rows->value[0][1], move->bucket_name) != 0)
		elog(ERROR, "bucket is %s at the source, %s here",
			 rows->value[0][1], move->bucket_name);
	move->slot->bytes_total = strtoll(rows->value[0][2], NULL, 10);
	move->swap = fa_remote_connect(move->fragment.owner, FA_CONNECT_TIMEOUT_MS);
	fa_remote_exec(move->swap, FA_CONNECT_TIMEOUT_MS, CONTROL_OPTIONS);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/* The new heap, without indexes; its cleanup record is committed before. */
static void
mover_create_heap(FaMove *move)
{
	char	   *name;

	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	name = fa_table_heap_name(get_rel_name(move->fragment.bucket));
	(void) fa_spi_exec("INSERT INTO fragaffinity.cleanup (move, relation, kind, fragment) "
					   "VALUES (" INT64_FORMAT ", %s, 'table', " INT64_FORMAT ")",
					   move->move,
					   quote_literal_cstr(fa_table_sibling_name(move->fragment.bucket, name)),
					   move->fragment.fragment);
	PopActiveSnapshot();
	CommitTransactionCommand();
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	name = fa_table_heap_name(get_rel_name(move->fragment.bucket));
	move->heap = fa_table_create_heap(&move->fragment, name, false);
	move->heap_xid = GetTopTransactionId();
	PopActiveSnapshot();
	CommitTransactionCommand();
	fa_stop_point("move_heap_created");
}

void
fa_move_create_indexes(FaMove *move)
{
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	fa_table_create_indexes(move->heap, &move->fragment);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
fa_move_analyze(FaMove *move, const char *columns)
{
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) fa_spi_exec(columns ? "ANALYZE %s (%s)" : "ANALYZE %s",
					   fa_table_qualified_name(move->heap), columns);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Between two tries changes are followed, with a growing, jittered pause. */
static void
mover_back_off(FaMove *move, int attempt)
{
	int			max_ms = Min(20 << Min(attempt, 5), 500);

	move->path->keep_up(move, 1 + (int) (pg_prng_double(&pg_global_prng_state) * max_ms));
	move->slot->rounds++;
}

static void
mover_cut_over(FaMove *move)
{
	int64		attempts;

	mover_enter(move, FA_MOVE_FENCING);
	fa_background_begin();
	attempts = fa_setting_int("cutover_attempts", move->fragment.table_id);
	CommitTransactionCommand();
	for (int i = 1; i <= attempts; i++)
	{
		if (fa_cutover_try(move))
		{
			fa_move_set_phase(move, FA_MOVE_DONE);
			return;
		}
		if (GetCurrentTimestamp() > move->deadline)
			break;
		mover_back_off(move, i);
		mover_check_cancel(move);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("no moment to cut over fragment " INT64_FORMAT
					" was found in " INT64_FORMAT " tries",
					move->fragment.fragment, attempts),
			 errhint("Long transactions on the fragment hold its locks; see pg_stat_activity on both nodes.")));
}

/* Before the move counts as ended, nothing of it is left at the source. */
static void
mover_release(FaMove *move)
{
	/* first who reads the publication, then the publication */
	if (move->changes)
		fa_remote_close(move->changes);
	fa_channel_close(move->channel);
	if (move->swap)
		fa_remote_close(move->swap);
	if (move->control && move->control->pg &&
		fa_remote_try_drain(move->control, FA_CONNECT_TIMEOUT_MS) &&
		PQtransactionStatus(move->control->pg) == PQTRANS_IDLE)
		(void) fa_remote_try(move->control, FA_CONNECT_TIMEOUT_MS, NULL,
							 "SET lock_timeout = 1000; "
							 "SELECT fragaffinity.release_fragment(" INT64_FORMAT ", " INT64_FORMAT ")",
							 move->fragment.fragment, move->move);
}

/* After the decision: what others may like to know. */
static void
mover_finish(FaMove *move)
{
	fa_stop_point("move_decided");
	mover_release(move);
	fa_remote_close(move->control);
	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET pause_ms = %g, "
					   "transport_counters = nullif(%s, '')::pg_catalog.jsonb, "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT, move->pause_ms,
					   quote_literal_cstr(move->transport_counters ?
										  move->transport_counters : ""),
					   move->move);
	CommitTransactionCommand();
	fa_move_announce(move);
	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET announced = true "
					   "WHERE move = " INT64_FORMAT, move->move);
	CommitTransactionCommand();
	ereport(LOG,
			(errmsg("moved fragment " INT64_FORMAT " to this node: "
					INT64_FORMAT " bytes, pause %.1f ms",
					move->fragment.fragment, move->slot->bytes_done,
					move->pause_ms)));
}

static void
mover_work(FaMove *move)
{
	mover_begin(move, move->context);
	mover_enter(move, FA_MOVE_COPYING);
	mover_connect(move, move->context);
	mover_create_heap(move);
	fa_move_choose_path(move);
	MemoryContextSwitchTo(move->context);
	move->path->copy(move);
	fa_stop_point("move_copied");
	mover_enter(move, FA_MOVE_CATCHING_UP);
	MemoryContextSwitchTo(move->context);
	move->path->catch_up(move);
	mover_cut_over(move);
	move->path->finish(move);
	mover_finish(move);
}

static char *
mover_describe(const ErrorData *error)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, error->message);
	if (error->detail && error->hint)
		appendStringInfo(&buf, " (%s %s)", error->detail, error->hint);
	else if (error->detail || error->hint)
		appendStringInfo(&buf, " (%s)",
						 error->detail ? error->detail : error->hint);
	return buf.data;
}

/* The move ended by an error: say so and drop what it made. */
static void
mover_failed(FaMove *move, ErrorData *error)
{
	bool		cancelled = move->slot->cancel;
	const char *reason = move->slot->gives_way ?
		"gave way to a change of the table's definition" : mover_describe(error);

	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET state = '%s', error = %s, "
					   "bytes = " INT64_FORMAT ", rounds = %d, "
					   "finished = pg_catalog.clock_timestamp(), "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT
					   " AND state NOT IN ('done', 'failed', 'cancelled')",
					   cancelled ? "cancelled" : "failed",
					   quote_literal_cstr(reason),
					   move->slot->bytes_done, move->slot->rounds, move->move);
	CommitTransactionCommand();
}

/*
 * What was copied is of no use, but a new copy may be: notes why in the move's
 * row.  False when it was tried often enough.
 */
static bool
mover_begin_anew(FaMove *move, ErrorData *error)
{
	if (error->sqlerrcode != FA_COPY_OVERTAKEN || move->slot->cancel ||
		move->attempt >= MAX_ATTEMPTS)
		return false;
	ereport(LOG,
			(errmsg("move " INT64_FORMAT " begins anew", move->move),
			 errdetail_internal("%s", error->message)));
	move->slot->bytes_done = 0;
	move->slot->rounds = 0;
	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET state = 'planned', "
					   "reason = reason || %s, "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT,
					   quote_literal_cstr(psprintf("; begun anew, as %s",
												   error->message)),
					   move->move);
	CommitTransactionCommand();
	return true;
}

/* True when the move is to begin anew, after an error. */
static bool
mover_attempt(FaMove *move)
{
	volatile bool anew = false;

	move->context = AllocSetContextCreate(TopMemoryContext, "fragaffinity move",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(move->context);
	PG_TRY();
	{
		fa_move_cleanup();
		mover_work(move);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		QueryCancelPending = false;
		LockReleaseAll(DEFAULT_LOCKMETHOD, true);
		mover_release(move);
		MemoryContextDelete(move->context); /* closes the connections */
		if (ProcDiePending)
			proc_exit(1);
		fa_move_cleanup_with(move->move);
		anew = mover_begin_anew(move, error);
		if (!anew)
			mover_failed(move, error);
	}
	PG_END_TRY();
	return anew;
}

void
fa_move_run(int index)
{
	FaMove		move = {.slot = fa_mover_slot(index)};
	bool		anew;

	move.move = move.slot->move;
	do
	{
		FaMove		attempt = {.slot = move.slot, .move = move.move,
			.attempt = ++move.attempt, .deadline = move.deadline
		};

		anew = mover_attempt(&attempt);
		move.deadline = attempt.deadline;
	} while (anew);
}

static void
mover_exit(int code, Datum slot)
{
	/*
	 * A termination skips the cut-over's own cleanup.  Outside a transaction
	 * the server would not release a session's lock either: it would stay in
	 * the lock table, without a process, until the next restart.
	 */
	if (OidIsValid(MyDatabaseId))
	{
		fa_gate_open(fa_slot_find(fa_mover_slot(DatumGetInt32(slot))->fragment));
		LockReleaseAll(DEFAULT_LOCKMETHOD, true);
	}
	fa_mover_release(DatumGetInt32(slot));
}

void
fa_mover_main(Datum arg)
{
	int			index = DatumGetInt32(arg);
	FaMoverSlot *slot = fa_mover_slot(index);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	before_shmem_exit(mover_exit, arg);
	slot->pid = MyProcPid;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(slot->dbid, InvalidOid, 0);
	fa_background_session();
	fa_move_run(index);
	proc_exit(0);
}
