/*
 * row_query.c
 *	  Queries of one row, which are run as part of a statement; see row_query.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/snapmgr.h"

#include "core/fa_compat.h"
#include "node/fdw_as_of.h"
#include "route/row_query.h"

typedef struct FirstRow
{
	DestReceiver pub;
	MemoryContext context;		/* of the row */
	TupleTableSlot *row;
} FirstRow;

PlannedStmt *
fa_row_query_plan(List *exprs)
{
	Query	   *query = makeNode(Query);
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->jointree = makeFromExpr(NIL, NULL);
	query->hasSubLinks = checkExprHasSubLink((Node *) exprs);
	foreach(lc, exprs)
	{
		TargetEntry *entry = lfirst(lc);
		bool		is_entry = IsA(entry, TargetEntry);
		Expr	   *expr = is_entry ? entry->expr : lfirst(lc);

		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(expr),
													foreach_current_index(lc) + 1,
													NULL, is_entry && entry->resjunk));
	}
	return planner(query, "", 0, NULL);
}

static bool
first_row_receive(TupleTableSlot *slot, DestReceiver *self)
{
	FirstRow   *first = (FirstRow *) self;
	MemoryContext caller;

	if (first->row)
		return true;
	caller = MemoryContextSwitchTo(first->context);
	first->row = MakeSingleTupleTableSlot(CreateTupleDescCopy(slot->tts_tupleDescriptor),
										  &TTSOpsVirtual);
	ExecCopySlot(first->row, slot);
	MemoryContextSwitchTo(caller);
	return true;
}

static void
first_row_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
first_row_nothing(DestReceiver *self)
{
}

/*
 * as_before: it neither sees nor locks what has been changed since the statement began.
 */
static TupleTableSlot *
row_query_execute(PlannedStmt *plan, EState *estate, Snapshot snapshot, bool as_before,
				  ParamListInfo params, uint64 *processed_p)
{
	FirstRow	first = {
		{
			first_row_receive, first_row_startup, first_row_nothing,
			first_row_nothing, DestNone
		}, CurrentMemoryContext, NULL
	};
	QueryDesc  *desc = CreateQueryDesc(plan, estate->es_sourceText, snapshot,
									   InvalidSnapshot, &first.pub, params,
									   estate->es_queryEnv, 0);

	ExecutorStart(desc, 0);
	if (as_before)
		fa_as_of_continue(desc->estate, estate);
	if (as_before && snapshot != estate->es_snapshot)
	{
		/* a plan for one fragment may have wanted a snapshot of its own */
		desc->estate->es_snapshot->curcid = Min(desc->estate->es_snapshot->curcid,
												estate->es_snapshot->curcid);
		desc->estate->es_output_cid = estate->es_output_cid;
	}
	fa_executor_run(desc);
	ExecutorFinish(desc);
	if (processed_p)
		*processed_p = desc->estate->es_processed;
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return first.row;
}

TupleTableSlot *
fa_row_query_run(PlannedStmt *plan, EState *estate, ParamListInfo params)
{
	return row_query_execute(plan, estate, estate->es_snapshot, true, params, NULL);
}

TupleTableSlot *
fa_row_query_change(PlannedStmt *plan, EState *estate, ParamListInfo params,
					uint64 *processed_p)
{
	TupleTableSlot *row;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	row = row_query_execute(plan, estate, GetActiveSnapshot(), false, params,
							processed_p);
	PopActiveSnapshot();
	return row;
}

TupleTableSlot *
fa_row_query_change_beside(PlannedStmt *plan, EState *estate, ParamListInfo params,
						   uint64 *processed_p)
{
	TupleTableSlot *row;

	PushCopiedSnapshot(GetTransactionSnapshot());
	GetActiveSnapshot()->curcid = Min(GetActiveSnapshot()->curcid,
									  estate->es_snapshot->curcid);
	row = row_query_execute(plan, estate, GetActiveSnapshot(), true, params,
							processed_p);
	PopActiveSnapshot();
	return row;
}
