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
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "node/fdw_as_of.h"
#include "route/hooks.h"
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
	QueryDesc  *desc;			/* NULL: all are in the store */
	Tuplestorestate *rows;
	TupleTableSlot *stored;
	MemoryContext context;		/* of what is stored in it */
	uint64		at_once;		/* 0: all */
	bool		done;
};

/* An upsert beside others that change rows, until the statement is planned. */
typedef struct TakenPart
{
	int			place;			/* among parts of WITH that change rows; -1: the
								 * statement itself */
	List	   *targets;		/* what it returns */
	List	   *private;
	List	   *parts;			/* of PlannedStmt: those in it */
} TakenPart;

static Node *by_row_create_state(CustomScan *scan);

static const CustomScanMethods by_row_methods = {
	"Row by Row", by_row_create_state
};

/* What custom_private has. */
#define BY_ROW_TARGET 0			/* List of one oid */
#define BY_ROW_PARAMETERS 1		/* List of int: its own, those of the source */
#define BY_ROW_STATEMENT 2		/* List: of row_upsert.c or row_merge.c */
#define BY_ROW_COUNTS 3			/* List of one int: it is not in WITH */

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

	if (query->utilityStmt || query->hasModifyingCTE ||
		!fa_row_plan_begin(&rows, query))
		return NULL;
	statement = query->commandType == CMD_MERGE ? fa_row_merge_plan(&rows) :
		fa_row_upsert_plan(&rows);
	relid = RelationGetRelid(rows.rel);
	table_close(rows.rel, NoLock);
	if (statement == NIL || rows.failed)
		return NULL;
	plan = fa_custom_plan(query, &by_row_methods,
						  list_make4(list_make1_oid(relid),
									 list_make2_int(rows.first, list_length(rows.source)),
									 statement, list_make1_int(true)),
						  NIL, NIL);
	fa_custom_plan_depends(plan, by_row_parts(statement));
	plan->planTree->plan_rows = 1;
	return plan;
}

/* What looks the same, for a plan that is not executed. */
static List *
by_row_nulls(List *targets)
{
	List	   *nulls = NIL;
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst(lc));

		entry->expr = (Expr *) makeNullConst(exprType((Node *) entry->expr),
											 exprTypmod((Node *) entry->expr),
											 exprCollation((Node *) entry->expr));
		nulls = lappend(nulls, entry);
	}
	return nulls;
}

/* Of a query that stays an INSERT of the rows; NULL: it stays as it is. */
static TakenPart *
by_row_take_part(Query *query, int place)
{
	TakenPart  *taken;
	FaRowPlan	rows;
	List	   *statement;
	Oid			relid;

	if (query->onConflict == NULL || !fa_row_plan_begin(&rows, query))
		return NULL;
	rows.beside = true;
	statement = fa_row_upsert_plan(&rows);
	relid = RelationGetRelid(rows.rel);
	table_close(rows.rel, NoLock);
	if (statement == NIL || rows.failed)
		return NULL;
	taken = palloc(sizeof(TakenPart));
	taken->place = place;
	taken->targets = query->returningList;
	taken->private = list_make4(list_make1_oid(relid), list_make2_int(rows.first, 0),
								statement, list_make1_int(place < 0));
	taken->parts = by_row_parts(statement);
	query->onConflict = NULL;
	query->withCheckOptions = NIL;
	query->returningList = by_row_nulls(query->returningList);
	return taken;
}

List *
fa_row_by_row_take(Query *query)
{
	List	   *taken = NIL;
	TakenPart  *part;
	ListCell   *lc;
	int			place = 0;

	if (!query->hasModifyingCTE)
		return NIL;
	foreach(lc, query->cteList)
	{
		Query	   *in_with = castNode(Query, lfirst_node(CommonTableExpr, lc)->ctequery);

		if (in_with->commandType != CMD_SELECT &&
			(part = by_row_take_part(in_with, place++)) != NULL)
			taken = lappend(taken, part);
	}
	part = by_row_take_part(query, -1);
	return part ? lappend(taken, part) : taken;
}

/* Where the part's plan is: only parts of WITH are subplans that change rows. */
static Plan **
by_row_place(PlannedStmt *plan, int place)
{
	ListCell   *lc;

	foreach(lc, place < 0 ? NIL : plan->subplans)
	{
		if (lfirst(lc) && IsA(lfirst(lc), ModifyTable) && place-- == 0)
			return (Plan **) &lfirst(lc);
	}
	return &plan->planTree;
}

void
fa_row_by_row_put(PlannedStmt *plan, List *taken)
{
	ListCell   *lc;

	/* from the last one on: they are counted by what is not replaced yet */
	for (int i = list_length(taken) - 1; i >= 0; i--)
	{
		TakenPart  *part = list_nth(taken, i);
		Plan	  **place = by_row_place(plan, part->place);

		if (!IsA(*place, ModifyTable))
			elog(ERROR, "a part of WITH was not found in its statement's plan");
		*place = (Plan *) fa_custom_plan_part(plan, &by_row_methods, part->private,
											  part->targets,
											  (ModifyTable *) *place);
	}
	foreach(lc, taken)
		fa_custom_plan_depends(plan, ((TakenPart *) lfirst(lc))->parts);
}

/* All rows of a plan that is part of the statement's. */
static void
row_source_take(FaRowSource *source, PlanState *rows)
{
	TupleTableSlot *slot;

	source->stored = MakeSingleTupleTableSlot(ExecGetResultType(rows),
											  &TTSOpsMinimalTuple);
	source->done = true;
	while (slot = ExecProcNode(rows), !TupIsNull(slot))
		tuplestore_puttupleslot(source->rows, slot);
}

FaRowSource *
fa_row_source_begin(FaRowState *state, PlannedStmt *plan)
{
	FaRowSource *source = palloc0(sizeof(FaRowSource));
	EState	   *estate = state->estate;
	DestReceiver *dest;

	source->context = CurrentMemoryContext;
	source->rows = tuplestore_begin_heap(false, false, work_mem);
	if (plan == NULL)
	{
		row_source_take(source, state->rows);
		return source;
	}
	dest = CreateDestReceiver(DestTuplestore);
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
	ExecDropSingleTupleTableSlot(source->stored);
	if (source->desc)
	{
		DestReceiver *dest = source->desc->dest;

		ExecutorFinish(source->desc);
		ExecutorEnd(source->desc);
		FreeQueryDesc(source->desc);
		dest->rDestroy(dest);
	}
	tuplestore_end(source->rows);
}

static List *
by_row_private(ByRowState *node, int which)
{
	return list_nth(castNode(CustomScan, node->css.ss.ps.plan)->custom_private,
					which);
}

/* Others in the statement may change rows before this does. */
static void
by_row_begin_beside(ByRowState *node, EState *estate, int eflags)
{
	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) || estate->es_epq_active != NULL)
		return;
	fa_as_of_add(estate);
	/* as PostgreSQL's own: it is done whoever reads it, the last ones first */
	if (!linitial_int(by_row_private(node, BY_ROW_COUNTS)))
		estate->es_auxmodifytables = lcons(node, estate->es_auxmodifytables);
}

static void
by_row_begin(CustomScanState *node, EState *estate, int eflags)
{
	List	   *rows = castNode(CustomScan, node->ss.ps.plan)->custom_plans;

	if (rows != NIL)
	{
		node->custom_ps = list_make1(ExecInitNode(linitial(rows), estate, eflags));
		by_row_begin_beside((ByRowState *) node, estate, eflags);
	}
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

/* Only upserts are parts of others. */
static bool
by_row_is_merge(ByRowState *node)
{
	return node->css.custom_ps == NIL &&
		node->css.ss.ps.state->es_plannedstmt->commandType == CMD_MERGE;
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
	if (node->css.custom_ps == NIL &&
		(fa_own_changes_may_be_read(estate->es_plannedstmt) ||
		 by_row_reads(by_row_parts(by_row_private(node, BY_ROW_STATEMENT)))))
		fa_as_of_add(estate);
	fa_row_state_begin(&state, estate,
					   linitial_oid(by_row_private(node, BY_ROW_TARGET)),
					   linitial_int(parameters), lsecond_int(parameters));
	state.rows = node->css.custom_ps == NIL ? NULL : linitial(node->css.custom_ps);
	state.counts = linitial_int(by_row_private(node, BY_ROW_COUNTS));
	if (by_row_is_merge(node))
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

	if (scan->custom_ps != NIL)
		ExecEndNode(linitial(scan->custom_ps));
	if (node->returned)
		tuplestore_end(node->returned);
	node->returned = NULL;
}

static void
by_row_rescan(CustomScanState *node)
{
	elog(ERROR, "a modification cannot be repeated");
}

/* The table, which is in no other place of the plan. */
static void
by_row_explain(CustomScanState *scan, List *ancestors, ExplainState *es)
{
	ByRowState *node = (ByRowState *) scan;
	Oid			relid = linitial_oid(by_row_private(node, BY_ROW_TARGET));
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return;
	if (es->verbose)
		name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
	else
		name = pstrdup(quote_identifier(name));
	if (by_row_is_merge(node))
		ExplainPropertyText("Merge on", name, es);
	else
	{
		ExplainPropertyText("Insert on", name, es);
		fa_row_upsert_explain(by_row_private(node, BY_ROW_STATEMENT), relid, es);
	}
}

static const CustomExecMethods by_row_exec_methods = {
	.CustomName = "Row by Row",
	.BeginCustomScan = by_row_begin,
	.ExecCustomScan = by_row_exec,
	.EndCustomScan = by_row_end,
	.ReScanCustomScan = by_row_rescan,
	.ExplainCustomScan = by_row_explain
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
