/*
 * cutover.c
 *	  Fence and swap: the last step of a move, on both sides.
 *
 *	1. gates closed on both sides: statements that begin now wait outside
 *	2. destination's bucket SHARE, held by the mover's session
 *	3. source's bucket and heap SHARE, in the transaction of the swap connection,
 *	   once those who write to the heap are waited for (catalog/heap_wait.c): all
 *	   that was written is committed, nothing more is written
 *	4. the last changes come, by the move's path
 *	5. destination's, then source's bucket ACCESS EXCLUSIVE
 *	6. leaves exchanged on both sides; one cluster transaction commits
 *
 * The destination always comes first: its clients hold their own bucket's
 * lock while they wait at the source, so taking the source first would make
 * a deadlock over two servers.
 *
 * A client that has read in its transaction and then writes waits for SHARE
 * while ACCESS EXCLUSIVE has to wait for it.  So that it is never the victim
 * of such a deadlock, step 5 does not wait in the lock's queue, where a
 * deadlock check would find it; it asks again and again for a short time and
 * then lets go of everything.  Readers in an endless row could keep it from
 * ever getting in: every HARD_EVERY'th try takes ACCESS EXCLUSIVE at once in
 * steps 2 and 3, in the queue, but then it holds nothing there while it waits.
 *
 * An abort takes the session's locks, that of step 2 and the one that keeps
 * VACUUM off the new heap.  So what may have to be tried again runs in a
 * subtransaction, whose end does not.
 *
 * Changes are applied before step 5 in transactions of their own, so a
 * transaction begun there has an xid that is newer than every row: it becomes
 * changed_xid, and a snapshot that sees it sees all rows.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "core/background.h"
#include "core/lock_poll.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define FENCE_MS 400			/* 3 and 4, and three round trips */
#define REMOTE_TIMEOUT_MS 10000
#define HARD_EVERY 8

void
fa_cutover_begin(void)
{
	fa_background_begin();
	BeginInternalSubTransaction(NULL);
}

void
fa_cutover_end(void)
{
	ReleaseCurrentSubTransaction();
	CommitTransactionCommand();
}

bool
fa_cutover_undo(void)
{
	if (IsSubTransaction())
	{
		RollbackAndReleaseCurrentSubTransaction();
		CommitTransactionCommand();
		return false;
	}
	if (!IsTransactionState() && !IsAbortedTransactionBlockState())
		return false;
	AbortOutOfAnyTransaction();
	return true;
}

static void
cutover_set_lock_timeout(int64 lock_timeout)
{
	(void) fa_spi_exec("SET LOCAL lock_timeout = " INT64_FORMAT, lock_timeout);
}

/* ACCESS EXCLUSIVE on a bucket and its leaf. */
static void
cutover_lock_exclusive(Oid bucket, Oid leaf, int64 lock_timeout)
{
	Oid			both[] = {bucket, leaf};

	cutover_set_lock_timeout(lock_timeout);
	if (!fa_lock_poll(both, lengthof(both), AccessExclusiveLock, lock_timeout))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock relation \"%s\" for a cut-over",
						get_rel_name(bucket))));
}

/* Step 2, for the session. */
static void
cutover_lock_here(FaMove *move, int64 lock_timeout, bool hard)
{
	LockRelId	relid = {move->fragment.bucket, MyDatabaseId};
	LOCKMODE	mode = hard ? AccessExclusiveLock : ShareLock;

	fa_cutover_begin();
	cutover_set_lock_timeout(lock_timeout);
	/*
	 * Waited for by the transaction: one that is granted in the moment when the
	 * wait has lasted too long is let go of by that, but not by the session.
	 */
	LockRelationOid(move->fragment.bucket, mode);
	LockRelationIdForSession(&relid, mode);
	move->locked_here = mode;
	fa_cutover_end();
}

/*
 * How long writers may wait for steps 3 and 4.  A client that holds a weak
 * lock and waits for a stronger one looks for a deadlock after
 * deadlock_timeout; we must not be waiting for its lock by then, or it would
 * be the victim.
 */
static int
cutover_fence_ms(const FaMove *move)
{
	FaNodeHealth health;

	if (fa_stop_point_is_set())
		return 600000;
	(void) fa_node_health(move->fragment.owner, &health);
	return FENCE_MS + (int) (3 * health.round_trip_ms);
}

static XLogRecPtr
cutover_parse_lsn(const char *text)
{
	return DatumGetLSN(DirectFunctionCall1(pg_lsn_in, CStringGetDatum(text)));
}

/*
 * Step 3 and 4.  Once SHARE is held, the source's insert position is behind
 * all commits there were.
 */
static bool
cutover_fence_source(FaMove *move, int64 lock_timeout, bool hard)
{
	TimestampTz begun = GetCurrentTimestamp();
	int			limit_ms = cutover_fence_ms(move);
	XLogRecPtr	fenced;

	fenced = cutover_parse_lsn(fa_remote_value(move->swap, REMOTE_TIMEOUT_MS,
											   "BEGIN; SET LOCAL lock_timeout = " INT64_FORMAT "; "
											   FA_HEAP_WAIT "; LOCK TABLE %s IN %s MODE; "
											   "SET LOCAL lock_timeout = " INT64_FORMAT "; "
											   "SELECT pg_current_wal_insert_lsn()",
											   lock_timeout,
											   quote_literal_cstr(move->bucket_name),
											   hard ? "true" : "false",
											   move->bucket_name,
											   hard ? "ACCESS EXCLUSIVE" : "SHARE",
											   lock_timeout));
	fa_stop_point("move_fenced");
	return move->path->settle(move, fenced, limit_ms) &&
		GetCurrentTimestamp() - begun < limit_ms * INT64CONST(1000);
}

/* Steps 1 to 4; false when the changes did not end in time. */
static bool
cutover_fence(FaMove *move, int64 lock_timeout)
{
	bool		hard = ++move->tries % HARD_EVERY == 0;

	fa_gate_close(move->fragment.slot);
	fa_remote_exec(move->control, REMOTE_TIMEOUT_MS,
				   "SELECT fragaffinity.gate_fragment(" INT64_FORMAT ", true)",
				   move->fragment.fragment);
	cutover_lock_here(move, lock_timeout, hard);
	fa_stop_point("move_locked_here");
	return cutover_fence_source(move, lock_timeout, hard);
}

/*
 * Exchanges the leaf of a bucket.  old_leaf is detached; new_leaf, which must
 * be there and standalone, attached with the same bound.
 */
static void
cutover_exchange(Oid bucket, Oid old_leaf, Oid new_leaf)
{
	char	   *bound = fa_table_bound(old_leaf);

	(void) fa_spi_exec("ALTER TABLE %s DETACH PARTITION %s",
					   fa_table_qualified_name(bucket),
					   fa_table_qualified_name(old_leaf));
	CommandCounterIncrement();
	fa_table_attach(bucket, new_leaf, bound);
	CommandCounterIncrement();
}

static void
cutover_update_map(int64 fragment, Oid leaf, int owner, int64 version)
{
	(void) fa_spi_exec("UPDATE fragaffinity.fragment SET leaf = %u, owner = %d, "
					   "version = " INT64_FORMAT ", "
					   "changed_xid = pg_catalog.pg_current_xact_id() "
					   "WHERE fragment = " INT64_FORMAT,
					   leaf, owner, version, fragment);
	fa_map_note_change(GetTopFullTransactionId());
	fa_map_invalidate(leaf);
	fa_map_generation_advance();
}

/* The destination's side of steps 5 and 6, in the cluster transaction. */
static void
cutover_swap_here(FaMove *move)
{
	FaFragment *f = &move->fragment;

	cutover_exchange(f->bucket, f->leaf, move->heap);
	(void) fa_spi_exec("DROP FOREIGN TABLE %s",
					   fa_table_qualified_name(f->leaf));
	fa_table_forget_bound(move->heap);
	cutover_update_map(f->fragment, move->heap, move->self, f->version + 1);
	(void) fa_spi_exec("DELETE FROM fragaffinity.cleanup WHERE move = " INT64_FORMAT,
					   move->move);
	(void) fa_spi_exec("UPDATE fragaffinity.move SET state = 'done', "
					   "finished = pg_catalog.clock_timestamp(), "
					   "changed = pg_catalog.clock_timestamp(), "
					   "bytes = " INT64_FORMAT ", rounds = %d "
					   "WHERE move = " INT64_FORMAT,
					   move->slot->bytes_done, move->slot->rounds, move->move);
}

/* Steps 5 and 6. */
static void
cutover_swap(FaMove *move, int64 lock_timeout)
{
	FaFragment *f = &move->fragment;

	fa_move_set_phase(move, FA_MOVE_SWITCHING);
	fa_cutover_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	cutover_lock_exclusive(f->bucket, f->leaf, lock_timeout);
	fa_stop_point("move_exclusive_here");
	fa_remote_exec(move->swap, REMOTE_TIMEOUT_MS,
				   "SELECT fragaffinity.swap_out(" INT64_FORMAT ", "
				   INT64_FORMAT ", %d, " INT64_FORMAT ", " INT64_FORMAT ")",
				   f->fragment, f->version, move->self, move->move,
				   lock_timeout);
	cutover_swap_here(move);
	fa_stop_point("move_swapped");
	PopActiveSnapshot();
	ReleaseCurrentSubTransaction();
	/* it commits with us now, and whoever fails from here on loses the locks */
	fa_xact_enlist(move->swap);
	CommitTransactionCommand();
	fa_map_generation_advance();
}

/* Lets go of what the fence took; safe at any step. */
static void
cutover_release(FaMove *move, bool swapped)
{
	if (swapped)
		fa_move_unlock_heap(move);
	if (move->locked_here != NoLock)
	{
		LockRelId	relid = {move->fragment.bucket, MyDatabaseId};

		UnlockRelationIdForSession(&relid, move->locked_here);
		move->locked_here = NoLock;
	}
	if (!swapped && move->swap->pg &&
		PQtransactionStatus(move->swap->pg) != PQTRANS_IDLE &&
		(move->channel ? fa_channel_drain(move->channel, REMOTE_TIMEOUT_MS) :
		 fa_remote_try_drain(move->swap, REMOTE_TIMEOUT_MS)))
		(void) fa_remote_try(move->swap, REMOTE_TIMEOUT_MS, NULL, "ROLLBACK");
	fa_gate_open(move->fragment.slot);
	(void) fa_remote_try(move->control, REMOTE_TIMEOUT_MS, NULL,
						 "SELECT fragaffinity.gate_fragment(" INT64_FORMAT ", false)",
						 move->fragment.fragment);
}

static bool
cutover_error_is_transient(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

bool
fa_cutover_try(FaMove *move)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz begun = GetCurrentTimestamp();
	volatile bool swapped = false;
	int64		lock_timeout;

	fa_background_begin();
	lock_timeout = fa_setting_int("cutover_lock_timeout",
								  move->fragment.table_id);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	fa_move_set_phase(move, FA_MOVE_FENCING);
	PG_TRY();
	{
		if (cutover_fence(move, lock_timeout))
		{
			cutover_swap(move, lock_timeout);
			swapped = true;
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		lost;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		lost = fa_cutover_undo();
		if (lost)
		{
			move->locked_here = NoLock;
			memset(move->locked_heap, 0, sizeof(move->locked_heap));
		}
		MemoryContextSwitchTo(context);
		cutover_release(move, false);
		if (lost || !cutover_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		ereport(DEBUG1,
				(errmsg("cut-over of move " INT64_FORMAT " put off: %s",
						move->move, error->message)));
		return false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	cutover_release(move, swapped);
	if (swapped)
		move->pause_ms = (GetCurrentTimestamp() - begun) / 1000.0;
	return swapped;
}

void
fa_cutover_heap_out(const FaFragment *f, int owner, int64 version,
					const char *name)
{
	char	   *remote_name = fa_table_remote_name(get_rel_name(f->bucket));
	Oid			remote = fa_table_create_remote(f, remote_name, owner);

	cutover_exchange(f->bucket, f->leaf, remote);
	(void) fa_spi_exec("ALTER TABLE %s RENAME TO %s",
					   fa_table_qualified_name(f->leaf), name);
	cutover_update_map(f->fragment, remote, owner, version);
}

PG_FUNCTION_INFO_V1(fa_sql_swap_out);

/* The owner's fragment, as the mover knows it; raises when it is not so. */
static FaFragment *
swap_out_check(int64 fragment, int64 version)
{
	FaFragment *f = fa_map_fragment(fragment);

	if (f == NULL || !f->local || f->version != version)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " version " INT64_FORMAT
						" is not owned by this node", fragment, version),
				 errhint("The mover's map is out of date; it will be refreshed.")));
	return f;
}

/*
 * swap_out(fragment, version, destination, move, lock_timeout): the
 * source's side of steps 5 and 6, called by the mover in the transaction that
 * holds SHARE.
 */
Datum
fa_sql_swap_out(PG_FUNCTION_ARGS)
{
	int64		fragment = PG_GETARG_INT64(0);
	int64		version = PG_GETARG_INT64(1);
	int			destination = PG_GETARG_INT32(2);
	int64		move = PG_GETARG_INT64(3);
	FaFragment *f;
	char	   *old_name = psprintf("fragaffinity_old_" INT64_FORMAT, move);

	fa_shmem_require();
	f = swap_out_check(fragment, version);
	cutover_lock_exclusive(f->bucket, f->leaf, PG_GETARG_INT64(4));
	f = swap_out_check(fragment, version);
	fa_cutover_heap_out(f, destination, version + 1, old_name);
	(void) fa_spi_exec("INSERT INTO fragaffinity.cleanup (move, relation, kind, fragment) "
					   "VALUES (" INT64_FORMAT ", %s, 'table', " INT64_FORMAT ")",
					   move,
					   quote_literal_cstr(fa_table_sibling_name(f->bucket, old_name)),
					   fragment);
	fa_stop_point("move_swapped_out");
	PG_RETURN_VOID();
}
