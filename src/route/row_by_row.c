/*
 * row_by_row.c
 *	  Upserts and MERGE that are done row by row, as a plan; see row_by_row.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "parser/parsetree.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "node/fdw_as_of.h"
#include "route/route.h"
#include "route/row_by_row.h"
#include "route/row_image.h"

typedef struct ByRowState
{
	CustomScanState css;
	Tuplestorestate *returned;	/* NULL: not run yet */
	TupleTableSlot *stored;		/* one of its rows */
} ByRowState;

struct FaRowSource
{
	QueryDesc  *desc;
	Tuplestorestate *rows;
	TupleTableSlot *stored;
	MemoryContext context;		/* of what is stored in it */
	uint64		at_once;		/* 0: all */
	bool		done;
};

static Node *by_row_create_state(CustomScan *scan);

static const CustomScanMethods by_row_methods = {
	"Row by Row", by_row_create_state
};

/* What custom_private has. */
#define BY_ROW_TARGET 0			/* List of one oid */
#define BY_ROW_PARAMETERS 1		/* List of int: its own, those of the source */
#define BY_ROW_STATEMENT 2		/* List: of row_upsert.c or row_merge.c */

/* All plans in a list, and in lists in it. */
static List *
by_row_parts(List *private)
{
	List	   *parts = NIL;
	ListCell   *lc;

	foreach(lc, private)
	{
		Node	   *node = lfirst(lc);

		if (node && IsA(node, PlannedStmt))
			parts = lappend(parts, node);
		else if (node && IsA(node, List))
			parts = list_concat(parts, by_row_parts((List *) node));
	}
	return parts;
}

PlannedStmt *
fa_row_by_row_plan(Query *query)
{
	FaRowPlan	rows;
	PlannedStmt *plan;
	List	   *statement;
	Oid			relid;

	if (query->utilityStmt || !fa_row_plan_begin(&rows, query))
		return NULL;
	statement = query->commandType == CMD_MERGE ? fa_row_merge_plan(&rows) :
		fa_row_upsert_plan(&rows);
	relid = RelationGetRelid(rows.rel);
	table_close(rows.rel, NoLock);
	if (statement == NIL || rows.failed)
		return NULL;
	plan = fa_custom_plan(query, &by_row_methods,
						  list_make3(list_make1_oid(relid),
									 list_make2_int(rows.first, list_length(rows.source)),
									 statement),
						  NIL, NIL);
	fa_custom_plan_depends(plan, by_row_parts(statement));
	plan->planTree->plan_rows = 1;
	return plan;
}

FaRowSource *
fa_row_source_begin(FaRowState *state, PlannedStmt *plan)
{
	FaRowSource *source = palloc0(sizeof(FaRowSource));
	EState	   *estate = state->estate;
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);

	source->context = CurrentMemoryContext;
	source->rows = tuplestore_begin_heap(false, false, work_mem);
	SetTuplestoreDestReceiverParams(dest, source->rows, estate->es_query_cxt,
									false, NULL, NULL);
	source->desc = CreateQueryDesc(plan, estate->es_sourceText, estate->es_snapshot,
								   InvalidSnapshot, dest, state->params,
								   estate->es_queryEnv, 0);
	ExecutorStart(source->desc, 0);
	source->stored = MakeSingleTupleTableSlot(source->desc->tupDesc,
											  &TTSOpsMinimalTuple);
	source->at_once = plan->relationOids == NIL ? 1 : 0;
	return source;
}

TupleTableSlot *
fa_row_source_next(FaRowSource *source)
{
	MemoryContext caller = MemoryContextSwitchTo(source->context);

	while (!tuplestore_gettupleslot(source->rows, true, true, source->stored) &&
		   !source->done)
	{
		tuplestore_clear(source->rows);
		fa_executor_run_some(source->desc, source->at_once);
		source->done = source->at_once == 0 ||
			source->desc->estate->es_processed == 0;
	}
	MemoryContextSwitchTo(caller);
	return TupIsNull(source->stored) ? NULL : source->stored;
}

void
fa_row_source_end(FaRowSource *source)
{
	DestReceiver *dest = source->desc->dest;

	ExecDropSingleTupleTableSlot(source->stored);
	ExecutorFinish(source->desc);
	ExecutorEnd(source->desc);
	FreeQueryDesc(source->desc);
	dest->rDestroy(dest);
	tuplestore_end(source->rows);
}

static List *
by_row_private(ByRowState *node, int which)
{
	return list_nth(castNode(CustomScan, node->css.ss.ps.plan)->custom_private,
					which);
}

static void
by_row_begin(CustomScanState *node, EState *estate, int eflags)
{
	((ByRowState *) node)->stored =
		ExecInitExtraTupleSlot(estate,
							   node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
							   &TTSOpsMinimalTuple);
}

/* Is a distributed table read for a row, when others have been changed? */
static bool
by_row_reads(List *parts)
{
	ListCell   *lc;
	ListCell   *relid;

	/* the first part gives the rows */
	for_each_from(lc, parts, 1)
	{
		PlannedStmt *plan = lfirst(lc);

		if (plan->commandType != CMD_SELECT || plan->rowMarks != NIL)
			continue;
		foreach(relid, plan->relationOids)
		{
			if (fa_map_is_managed(lfirst_oid(relid)))
				return true;
		}
	}
	return false;
}

static void
by_row_run(ByRowState *node)
{
	EState	   *estate = node->css.ss.ps.state;
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "fragaffinity row",
													  ALLOCSET_DEFAULT_SIZES);
	List	   *parameters = by_row_private(node, BY_ROW_PARAMETERS);
	FaRowState	state;

	node->returned = tuplestore_begin_heap(false, false, work_mem);
	if (by_row_reads(by_row_parts(by_row_private(node, BY_ROW_STATEMENT))))
		fa_as_of_add(estate);
	fa_row_state_begin(&state, estate,
					   linitial_oid(by_row_private(node, BY_ROW_TARGET)),
					   linitial_int(parameters), lsecond_int(parameters));
	if (estate->es_plannedstmt->commandType == CMD_MERGE)
		fa_row_merge_run(&state, by_row_private(node, BY_ROW_STATEMENT), row_context);
	else
		fa_row_upsert_run(&state, by_row_private(node, BY_ROW_STATEMENT),
						  node->returned, row_context);
	MemoryContextDelete(row_context);
	MemoryContextSwitchTo(caller);
}

static TupleTableSlot *
by_row_next(ScanState *scan)
{
	ByRowState *node = (ByRowState *) scan;
	TupleTableSlot *slot = scan->ss_ScanTupleSlot;

	if (node->returned == NULL)
		by_row_run(node);
	ExecClearTuple(slot);
	if (slot->tts_tupleDescriptor->natts > 0 &&
		tuplestore_gettupleslot(node->returned, true, false, node->stored))
		ExecCopySlot(slot, node->stored);
	return slot;
}

static bool
by_row_recheck(ScanState *scan, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
by_row_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, by_row_next, by_row_recheck);
}

static void
by_row_end(CustomScanState *scan)
{
	ByRowState *node = (ByRowState *) scan;

	if (node->returned)
		tuplestore_end(node->returned);
	node->returned = NULL;
}

static void
by_row_rescan(CustomScanState *node)
{
	elog(ERROR, "a modification cannot be repeated");
}

static const CustomExecMethods by_row_exec_methods = {
	.CustomName = "Row by Row",
	.BeginCustomScan = by_row_begin,
	.ExecCustomScan = by_row_exec,
	.EndCustomScan = by_row_end,
	.ReScanCustomScan = by_row_rescan
};

static Node *
by_row_create_state(CustomScan *scan)
{
	ByRowState *node = (ByRowState *) newNode(sizeof(ByRowState), T_CustomScanState);

	node->css.methods = &by_row_exec_methods;
	return (Node *) node;
}

void
fa_row_by_row_init(void)
{
	RegisterCustomScanMethods(&by_row_methods);
}
