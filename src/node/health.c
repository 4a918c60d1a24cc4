/*
 * health.c
 *	  What this server last saw of each peer, in shared memory.
 *
 * Written by the database's worker, read by anyone.  Single-word fields are
 * written without a lock by the one worker of the database; a reader may see
 * a round trip one sample older than the state.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "core/shmem.h"
#include "node/node.h"

#define MAX_NODE_ID 1023
#define MAX_DATABASES 16

/*
 * Weight of the newest round trip: a shorter one is nearer to the truth, a
 * longer one has met a busy server.
 */
#define SMOOTHING_DOWN 0.5
#define SMOOTHING_UP 0.05
#define SMOOTHING_ROW_UP 0.2	/* measured much less often */

typedef struct HealthCell
{
	bool		known;
	bool		alive;
	double		round_trip_ms;
	double		row_us;
	TimestampTz last_seen;
} HealthCell;

typedef struct HealthDatabase
{
	Oid			dbid;			/* guarded by the lock; invalid: free */
	HealthCell	node[MAX_NODE_ID + 1];
} HealthDatabase;

typedef struct FaHealth
{
	slock_t		lock;			/* protects claiming a database's entry */
	HealthDatabase database[MAX_DATABASES];
} FaHealth;

static FaHealth *health = NULL;

static Size
health_size(void)
{
	return sizeof(FaHealth);
}

static void
health_init(void *ptr, bool found)
{
	health = ptr;
	if (!found)
	{
		memset(health, 0, sizeof(FaHealth));
		SpinLockInit(&health->lock);
	}
}

static void
health_forget_database(Oid dbid)
{
	SpinLockAcquire(&health->lock);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (health->database[i].dbid == dbid)
			health->database[i].dbid = InvalidOid;
	}
	SpinLockRelease(&health->lock);
}

const FaShmemPart fa_health_part = {
	"fragaffinity health", health_size, health_init,
	.forget_database = health_forget_database
};

static HealthCell *
health_cell(int id, bool claim)
{
	HealthDatabase *mine = NULL;
	HealthDatabase *unused = NULL;

	if (health == NULL || id < 1 || id > MAX_NODE_ID)
		return NULL;
	SpinLockAcquire(&health->lock);
	for (int i = 0; i < MAX_DATABASES && mine == NULL; i++)
	{
		HealthDatabase *db = &health->database[i];

		if (db->dbid == MyDatabaseId)
			mine = db;
		else if (unused == NULL && db->dbid == InvalidOid)
			unused = db;
	}
	if (mine == NULL && claim && unused)
	{
		mine = unused;
		memset(mine, 0, sizeof(HealthDatabase));
		mine->dbid = MyDatabaseId;
	}
	SpinLockRelease(&health->lock);
	return mine ? &mine->node[id] : NULL;
}

bool
fa_node_health(int id, FaNodeHealth *health_p)
{
	HealthCell *cell = health_cell(id, false);

	memset(health_p, 0, sizeof(*health_p));
	if (cell == NULL)
		return false;
	health_p->known = cell->known;
	health_p->alive = cell->alive;
	health_p->round_trip_ms = cell->round_trip_ms;
	health_p->row_us = cell->row_us;
	health_p->last_seen = cell->last_seen;
	return true;
}

/* The first measurement counts as it is. */
static void
health_smooth(double *value, double measured, double up)
{
	double		change = measured - *value;

	*value = *value > 0 ? *value + change * (change < 0 ? SMOOTHING_DOWN : up) :
		measured;
}

void
fa_node_health_set_row(int id, double row_us)
{
	HealthCell *cell = health_cell(id, true);

	if (cell && row_us > 0)
		health_smooth(&cell->row_us, row_us, SMOOTHING_ROW_UP);
}

void
fa_node_health_set(int id, double round_trip_ms)
{
	HealthCell *cell = health_cell(id, true);

	if (cell == NULL)
		return;
	if (round_trip_ms > 0)
		health_smooth(&cell->round_trip_ms, round_trip_ms, SMOOTHING_UP);
	if (round_trip_ms >= 0)
		cell->last_seen = GetCurrentTimestamp();
	cell->alive = round_trip_ms >= 0;
	cell->known = true;
}

PG_FUNCTION_INFO_V1(fa_sql_node_health);

/* node_health(node integer, OUT alive, OUT round_trip_ms, OUT last_seen) */
Datum
fa_sql_node_health(PG_FUNCTION_ARGS)
{
	FaNodeHealth h;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	(void) fa_node_health(PG_GETARG_INT32(0), &h);
	values[0] = BoolGetDatum(h.alive);
	values[1] = Float8GetDatum(h.round_trip_ms);
	values[2] = TimestampTzGetDatum(h.last_seen);
	nulls[0] = !h.known;
	nulls[1] = !h.known || !h.alive || h.round_trip_ms == 0;
	nulls[2] = !h.known || h.last_seen == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
