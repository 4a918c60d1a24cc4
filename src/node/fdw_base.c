/*
 * fdw_base.c
 *	  postgres_fdw itself, reading what peers write as it was meant.
 *
 * postgres_fdw tells the other session how to write, but reads by the settings of
 * its own, and a client may have set those by which text means something else
 * (plain_input.h).  Whatever uses a session may read rows, be they those of another
 * scan which had been asked for before.  So all that does is run with plain settings.
 * An asynchronous scan's routines project and filter its rows, too; that is the
 * client's business, and done by his settings.
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "utils/memutils.h"

#include "core/plain_input.h"
#include "node/fdw.h"

static const FdwRoutine *original = NULL;	/* postgres_fdw's, kept for good */
static AcquireSampleRowsFunc original_sample = NULL;
static ExecProcNodeMtd original_exec = NULL;
static const FaPlainInput *client = NULL;	/* its settings, while others hold */

/* Runs a call by plain settings; with nothing around it where they are. */
#define READING(call) \
	do { \
		FaPlainInput own; \
		const FaPlainInput *outer = client; \
		\
		if (!fa_plain_input_differs()) \
		{ \
			call; \
			break; \
		} \
		fa_plain_input_begin(&own); \
		client = &own; \
		PG_TRY(); \
		{ \
			call; \
		} \
		PG_FINALLY(); \
		{ \
			client = outer; \
			fa_plain_input_end(&own); \
		} \
		PG_END_TRY(); \
	} while (0)

/* A row of an asynchronous scan, as the client wants it. */
static TupleTableSlot *
read_exec(PlanState *node)
{
	const FaPlainInput *own = client;
	FaPlainInput plain;
	TupleTableSlot *slot;

	if (own == NULL)
		return original_exec(node);
	fa_plain_input_begin(&plain);
	fa_plain_input_end(own);
	client = NULL;
	slot = original_exec(node);
	client = own;
	fa_plain_input_end(&plain);
	return slot;
}

static void
read_begin_scan(ForeignScanState *node, int eflags)
{
	READING(original->BeginForeignScan(node, eflags));
	/* not begun anew, but made: what it is run by is set after this */
	if (node->ss.ps.async_capable && node->ss.ps.ExecProcNodeReal == NULL)
	{
		original_exec = node->ss.ps.ExecProcNode;
		node->ss.ps.ExecProcNode = read_exec;
	}
}

static TupleTableSlot *
read_iterate_scan(ForeignScanState *node)
{
	TupleTableSlot *volatile result;

	READING(result = original->IterateForeignScan(node));
	return result;
}

static void
read_rescan(ForeignScanState *node)
{
	READING(original->ReScanForeignScan(node));
}

static void
read_end_scan(ForeignScanState *node)
{
	READING(original->EndForeignScan(node));
}

static void
read_async_request(AsyncRequest *areq)
{
	READING(original->ForeignAsyncRequest(areq));
}

static void
read_async_configure_wait(AsyncRequest *areq)
{
	READING(original->ForeignAsyncConfigureWait(areq));
}

static void
read_async_notify(AsyncRequest *areq)
{
	READING(original->ForeignAsyncNotify(areq));
}

static void
read_begin_direct_modify(ForeignScanState *node, int eflags)
{
	READING(original->BeginDirectModify(node, eflags));
}

static TupleTableSlot *
read_iterate_direct_modify(ForeignScanState *node)
{
	TupleTableSlot *volatile result;

	READING(result = original->IterateDirectModify(node));
	return result;
}

static void
read_begin_modify(ModifyTableState *mtstate, ResultRelInfo *rri,
				  List *fdw_private, int subplan, int eflags)
{
	READING(original->BeginForeignModify(mtstate, rri, fdw_private, subplan,
										 eflags));
}

static void
read_end_modify(EState *estate, ResultRelInfo *rri)
{
	READING(original->EndForeignModify(estate, rri));
}

static void
read_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	READING(original->BeginForeignInsert(mtstate, rri));
}

static void
read_end_insert(EState *estate, ResultRelInfo *rri)
{
	READING(original->EndForeignInsert(estate, rri));
}

static TupleTableSlot *
read_insert(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
			TupleTableSlot *plan_slot)
{
	TupleTableSlot *volatile result;

	READING(result = original->ExecForeignInsert(estate, rri, slot, plan_slot));
	return result;
}

static TupleTableSlot *
read_update(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
			TupleTableSlot *plan_slot)
{
	TupleTableSlot *volatile result;

	READING(result = original->ExecForeignUpdate(estate, rri, slot, plan_slot));
	return result;
}

static TupleTableSlot *
read_delete(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
			TupleTableSlot *plan_slot)
{
	TupleTableSlot *volatile result;

	READING(result = original->ExecForeignDelete(estate, rri, slot, plan_slot));
	return result;
}

static TupleTableSlot **
read_batch_insert(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots,
				  TupleTableSlot **plan_slots, int *nslots)
{
	TupleTableSlot **volatile result;

	READING(result = original->ExecForeignBatchInsert(estate, rri, slots,
													  plan_slots, nslots));
	return result;
}

static void
read_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	READING(original->ExecForeignTruncate(rels, behavior, restart_seqs));
}

static int
read_sample(Relation relation, int elevel, HeapTuple *rows, int targrows,
			double *totalrows, double *totaldeadrows)
{
	volatile int n;

	READING(n = original_sample(relation, elevel, rows, targrows, totalrows,
								totaldeadrows));
	return n;
}

static bool
read_analyze(Relation relation, AcquireSampleRowsFunc *func,
			 BlockNumber *totalpages)
{
	volatile bool result;

	READING(result = original->AnalyzeForeignTable(relation, &original_sample,
												   totalpages));
	*func = read_sample;
	return result;
}

PGFunction
fa_fdw_function(const char *name)
{
	return (PGFunction) load_external_function("$libdir/postgres_fdw", name,
											   true, NULL);
}

/* A copy of postgres_fdw's table, with these in place of what they call. */
static const FdwRoutine *
base_make(void)
{
	LOCAL_FCINFO(fcinfo, 0);
	FdwRoutine *routine = palloc(sizeof(FdwRoutine));

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	original = (FdwRoutine *) DatumGetPointer(fa_fdw_function("postgres_fdw_handler")(fcinfo));
	*routine = *original;
	routine->BeginForeignScan = read_begin_scan;
	routine->IterateForeignScan = read_iterate_scan;
	routine->ReScanForeignScan = read_rescan;
	routine->EndForeignScan = read_end_scan;
	routine->ForeignAsyncRequest = read_async_request;
	routine->ForeignAsyncConfigureWait = read_async_configure_wait;
	routine->ForeignAsyncNotify = read_async_notify;
	routine->BeginDirectModify = read_begin_direct_modify;
	routine->IterateDirectModify = read_iterate_direct_modify;
	routine->BeginForeignModify = read_begin_modify;
	routine->EndForeignModify = read_end_modify;
	routine->BeginForeignInsert = read_begin_insert;
	routine->EndForeignInsert = read_end_insert;
	routine->ExecForeignInsert = read_insert;
	routine->ExecForeignBatchInsert = read_batch_insert;
	routine->ExecForeignUpdate = read_update;
	routine->ExecForeignDelete = read_delete;
	routine->ExecForeignTruncate = read_truncate;
	routine->AnalyzeForeignTable = read_analyze;
	return routine;
}

const FdwRoutine *
fa_fdw_base(void)
{
	static const FdwRoutine *base = NULL;
	MemoryContext old;

	if (base)
		return base;
	old = MemoryContextSwitchTo(TopMemoryContext);
	base = base_make();
	MemoryContextSwitchTo(old);
	return base;
}

typedef PGconn *(*GetConnectionFunction) (UserMapping *, bool, void **);

static GetConnectionFunction
fdw_get_connection(void)
{
	static GetConnectionFunction function = NULL;
	static bool sought = false;

	if (!sought)
		function = (GetConnectionFunction)
			load_external_function("$libdir/postgres_fdw", "GetConnection",
								   false, NULL);
	sought = true;
	return function;
}

bool
fa_fdw_has_conn(void)
{
	return fdw_get_connection() != NULL;
}

PGconn *
fa_fdw_mapping_session(UserMapping *mapping)
{
	PGconn	   *volatile conn = NULL;

	if (fa_fdw_has_conn())
		READING(conn = fdw_get_connection() (mapping, false, NULL));
	return conn;
}
