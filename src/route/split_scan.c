/*
 * split_scan.c
 *	  Runs the parts of a statement; its result is theirs.
 *
 * Those for other nodes are sent, and only when all are, their results are
 * waited for.  Those of this node run before and after that, not meanwhile: what
 * they evaluate may need sessions at others.  Of several errors the one is
 * raised that the parts would have ended with one after the other.
 *
 * Clients rely on RETURNING to have the order of VALUES, to tell which row got
 * which key.  So, where every row has exactly one in the result, they are given
 * in this order, whichever part they are from.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "core/fa_compat.h"
#include "node/fdw_as_of.h"
#include "route/hooks.h"
#include "route/route.h"

typedef struct SplitScanState
{
	CustomScanState css;
	int			nparts;
	Tuplestorestate **rows;		/* RETURNING of each part; NULL: not run yet */
	ListCell   *next;			/* in the order, if there is one */
	int			part;			/* else the part to read from */
	TupleTableSlot *stored;		/* one of the rows, as it comes */
} SplitScanState;

static Node *split_create_state(CustomScan *scan);

static const CustomScanMethods split_methods = {
	"Fragments", split_create_state
};

PlannedStmt *
fa_split_scan_plan(Query *parse, List *parts, List *order, List *rtes)
{
	PlannedStmt *plan = fa_custom_plan(parse, &split_methods,
									   list_make2(parts, order), NIL, rtes);

	/* the parts know what they touch */
	castNode(CustomScan, plan->planTree)->custom_relids = NULL;
	return plan;
}

static List *
split_private(SplitScanState *state, int which)
{
	return list_nth(castNode(CustomScan, state->css.ss.ps.plan)->custom_private,
					which);
}

#define split_parts(state) split_private(state, 0)
#define split_order(state) split_private(state, 1)

static void
split_begin(CustomScanState *node, EState *estate, int eflags)
{
	ListCell   *lc;

	((SplitScanState *) node)->stored =
		ExecInitExtraTupleSlot(estate,
							   node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
							   &TTSOpsMinimalTuple);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	/* users' functions may read what parts before theirs have changed */
	foreach(lc, split_parts((SplitScanState *) node))
	{
		if (fa_own_changes_may_be_read(lfirst(lc)))
			fa_as_of_add(estate);
	}
}

/* Begins a part; its rows will go to its store. */
static QueryDesc *
split_start_part(SplitScanState *state, int i)
{
	EState	   *estate = state->css.ss.ps.state;
	PlannedStmt *part = list_nth(split_parts(state), i);
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	QueryDesc  *desc;

	SetTuplestoreDestReceiverParams(dest, state->rows[i], estate->es_query_cxt,
									false, NULL, NULL);
	desc = CreateQueryDesc(part, estate->es_sourceText, estate->es_snapshot,
						   InvalidSnapshot, dest, estate->es_param_list_info,
						   estate->es_queryEnv, 0);
	/* several that are started at once cannot have a level of triggers each */
	ExecutorStart(desc, fa_remote_scan_is(part) ? EXEC_FLAG_SKIP_TRIGGERS : 0);
	return desc;
}

static void
split_run_part(SplitScanState *state, QueryDesc *desc)
{
	DestReceiver *dest = desc->dest;

	fa_executor_run(desc);
	ExecutorFinish(desc);
	state->css.ss.ps.state->es_processed += desc->estate->es_processed;
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	dest->rDestroy(dest);
}

/* Has other nodes do their parts, all at the same time. */
static void
split_send(SplitScanState *state, QueryDesc **remote)
{
	for (int i = 0; i < state->nparts; i++)
	{
		if (!fa_remote_scan_is(list_nth(split_parts(state), i)))
			continue;
		remote[i] = split_start_part(state, i);
		fa_remote_scan_evaluate(remote[i]->planstate);
	}
	for (int i = 0; i < state->nparts; i++)
	{
		if (remote[i])
			fa_remote_scan_send(remote[i]->planstate);
	}
	for (int i = 0; i < state->nparts; i++)
	{
		if (remote[i])
			fa_remote_scan_receive(remote[i]->planstate);
	}
}

static void
split_run(SplitScanState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	QueryDesc **remote;

	state->nparts = list_length(split_parts(state));
	state->rows = palloc0(sizeof(Tuplestorestate *) * state->nparts);
	remote = palloc0(sizeof(QueryDesc *) * state->nparts);
	for (int i = 0; i < state->nparts; i++)
		state->rows[i] = tuplestore_begin_heap(false, false,
											   Max(work_mem / state->nparts, 64));
	for (int i = 0; i < state->nparts; i++)
	{
		if (fa_remote_scan_is(list_nth(split_parts(state), i)) &&
			remote[i] == NULL)
			split_send(state, remote);
		split_run_part(state, remote[i] ? remote[i] : split_start_part(state, i));
	}
	state->next = list_head(split_order(state));
	MemoryContextSwitchTo(caller);
}

/* Reads the next row into the slot for it; false at the end. */
static bool
split_read(SplitScanState *state)
{
	if (split_order(state) != NIL)
	{
		Tuplestorestate *rows;

		if (state->next == NULL)
			return false;
		rows = state->rows[lfirst_int(state->next)];
		state->next = lnext(split_order(state), state->next);
		if (!tuplestore_gettupleslot(rows, true, false, state->stored))
			elog(ERROR, "a part of a statement returned too few rows");
		return true;
	}
	for (; state->part < state->nparts; state->part++)
	{
		if (tuplestore_gettupleslot(state->rows[state->part], true, false,
									state->stored))
			return true;
	}
	return false;
}

static TupleTableSlot *
split_next(ScanState *node)
{
	SplitScanState *state = (SplitScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (state->rows == NULL)
		split_run(state);
	ExecClearTuple(slot);
	if (slot->tts_tupleDescriptor->natts > 0 && split_read(state))
		ExecCopySlot(slot, state->stored);
	return slot;
}

static bool
split_recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
split_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, split_next, split_recheck);
}

static void
split_end(CustomScanState *node)
{
	SplitScanState *state = (SplitScanState *) node;

	for (int i = 0; i < state->nparts; i++)
		tuplestore_end(state->rows[i]);
	state->nparts = 0;
}

static void
split_rescan(CustomScanState *node)
{
	elog(ERROR, "a modification cannot be repeated");
}

static void
split_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	ExplainPropertyInteger("Statements", NULL,
						   list_length(split_parts((SplitScanState *) node)),
						   es);
}

static const CustomExecMethods split_exec_methods = {
	.CustomName = "Fragments",
	.BeginCustomScan = split_begin,
	.ExecCustomScan = split_exec,
	.EndCustomScan = split_end,
	.ReScanCustomScan = split_rescan,
	.ExplainCustomScan = split_explain
};

static Node *
split_create_state(CustomScan *scan)
{
	SplitScanState *state = (SplitScanState *) newNode(sizeof(SplitScanState),
													   T_CustomScanState);

	state->css.methods = &split_exec_methods;
	return (Node *) state;
}

void
fa_split_scan_init(void)
{
	RegisterCustomScanMethods(&split_methods);
}
