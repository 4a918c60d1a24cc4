/*
 * mover_slots.c
 *	  Running moves in shared memory, and the view of their progress.
 */
#include "postgres.h"

#include <signal.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/settings.h"
#include "migrate/move.h"

typedef struct FaMovers
{
	slock_t		lock;			/* protects dbid, pid, move of all slots */
	FaMoverSlot slot[FLEXIBLE_ARRAY_MEMBER];
} FaMovers;

static FaMovers *movers = NULL;

static const char *const phase_names[] = {
	[FA_MOVE_PLANNED] = "planned",
	[FA_MOVE_COPYING] = "copying",
	[FA_MOVE_CATCHING_UP] = "catching up",
	[FA_MOVE_FENCING] = "fencing",
	[FA_MOVE_SWITCHING] = "switching",
	[FA_MOVE_DONE] = "done",
	[FA_MOVE_FAILED] = "failed",
	[FA_MOVE_CANCELLED] = "cancelled",
};

const char *
fa_move_phase_name(FaMovePhase phase)
{
	return phase_names[phase];
}

static Size
movers_size(void)
{
	return add_size(offsetof(FaMovers, slot),
					mul_size(fa_max_movers, sizeof(FaMoverSlot)));
}

static void
movers_init(void *ptr, bool found)
{
	movers = ptr;
	if (!found)
	{
		memset(movers, 0, movers_size());
		SpinLockInit(&movers->lock);
	}
}

const FaShmemPart fa_mover_part = {
	"fragaffinity movers", movers_size, movers_init
};

FaMoverSlot *
fa_mover_slot(int index)
{
	return &movers->slot[index];
}

int
fa_mover_claim(const FaMoverSlot *wanted)
{
	int			unused = -1;

	SpinLockAcquire(&movers->lock);
	for (int i = 0; i < fa_max_movers && unused != FA_MOVER_BUSY; i++)
	{
		if (movers->slot[i].dbid == wanted->dbid &&
			movers->slot[i].fragment == wanted->fragment)
			unused = FA_MOVER_BUSY;
		else if (movers->slot[i].dbid == InvalidOid && unused == -1)
			unused = i;
	}
	if (unused >= 0)
		movers->slot[unused] = *wanted;
	SpinLockRelease(&movers->lock);
	return unused;
}

void
fa_mover_release(int index)
{
	SpinLockAcquire(&movers->lock);
	movers->slot[index].dbid = InvalidOid;
	movers->slot[index].pid = 0;
	SpinLockRelease(&movers->lock);
}

bool
fa_mover_alive(int64 move)
{
	bool		alive = false;

	SpinLockAcquire(&movers->lock);
	for (int i = 0; i < fa_max_movers; i++)
	{
		if (movers->slot[i].dbid == MyDatabaseId &&
			movers->slot[i].move == move)
			alive = true;
	}
	SpinLockRelease(&movers->lock);
	return alive;
}

static bool
mover_interrupt(int64 move, bool gives_way)
{
	int			pid = 0;

	SpinLockAcquire(&movers->lock);
	for (int i = 0; i < fa_max_movers; i++)
	{
		if (movers->slot[i].dbid == MyDatabaseId &&
			movers->slot[i].move == move)
		{
			movers->slot[i].cancel = true;
			movers->slot[i].gives_way |= gives_way;
			pid = movers->slot[i].pid;
		}
	}
	SpinLockRelease(&movers->lock);
	return pid != 0 && kill(pid, SIGINT) == 0;
}

bool
fa_mover_cancel(int64 move)
{
	return mover_interrupt(move, false);
}

static FaMoverSlot
mover_copy(int index)
{
	FaMoverSlot slot;

	SpinLockAcquire(&movers->lock);
	slot = movers->slot[index];
	SpinLockRelease(&movers->lock);
	return slot;
}

int64
fa_mover_give_way(bool (*concerns) (int64 fragment, const void *arg), const void *arg)
{
	int64		found = 0;

	for (int i = 0; i < fa_max_movers; i++)
	{
		FaMoverSlot slot = mover_copy(i);

		if (slot.dbid != MyDatabaseId || !concerns(slot.fragment, arg))
			continue;
		found = slot.fragment;
		/* once: a second signal would interrupt what cleans up */
		if (!slot.cancel && slot.phase < FA_MOVE_FENCING &&
			strcmp(slot.trigger, FA_TRIGGER_BY_HAND) != 0)
			(void) mover_interrupt(slot.move, true);
	}
	return found;
}

PG_FUNCTION_INFO_V1(fa_sql_mover_progress);

/* mover_progress(): a row for each move that runs into this database */
Datum
fa_sql_mover_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	fa_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < fa_max_movers; i++)
	{
		FaMoverSlot slot = mover_copy(i);
		Datum		values[11];
		bool		nulls[11] = {false};

		if (slot.dbid != MyDatabaseId)
			continue;
		values[0] = Int64GetDatum(slot.move);
		values[1] = Int64GetDatum(slot.fragment);
		values[2] = Int32GetDatum(slot.pid);
		values[3] = CStringGetTextDatum(fa_move_phase_name(slot.phase));
		values[4] = Int64GetDatum(slot.bytes_done);
		values[5] = Int64GetDatum(slot.bytes_total);
		values[6] = Int32GetDatum(slot.rounds);
		values[7] = Float8GetDatum(slot.rate);
		nulls[7] = slot.rate <= 0;
		values[8] = Float8GetDatum(slot.allowed_rate);
		nulls[8] = slot.allowed_rate <= 0;
		values[9] = Float8GetDatum(slot.slower_source);
		nulls[9] = slot.slower_source <= 0;
		values[10] = Float8GetDatum(slot.slower_here);
		nulls[10] = slot.slower_here <= 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
