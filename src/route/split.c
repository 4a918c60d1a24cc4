/*
 * split.c
 *	  An upsert of rows that belong to several fragments.
 *
 * PostgreSQL has no unique index over them to find conflicts by, but every
 * row's conflict is in its own fragment.  So the statement becomes one for
 * each fragment, with its rows; they run one after the other as parts of the
 * statement, and its result is theirs together.
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
#include "route/route.h"

#define MAX_ROWS 10000

/* The rows of one fragment. */
typedef struct Share
{
	Oid			leaf;
	List	   *rows;
} Share;

typedef struct SplitScanState
{
	CustomScanState css;
	Tuplestorestate *rows;		/* RETURNING of all parts; NULL: not run yet */
	TupleTableSlot *stored;		/* one of them, as it comes */
} SplitScanState;

static Node *split_create_state(CustomScan *scan);

static const CustomScanMethods split_methods = {
	"Fragments", split_create_state
};

/* The VALUES of an upsert that has nothing else in it; or NULL. */
static RangeTblEntry *
split_values(Query *query)
{
	RangeTblEntry *values = NULL;
	ListCell   *lc;

	if (query->commandType != CMD_INSERT || query->onConflict == NULL ||
		query->onConflict->arbiterElems == NIL || query->cteList != NIL ||
		query->hasSubLinks)
		return NULL;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_VALUES && values == NULL)
			values = rte;
		else if (rte->rtekind != RTE_RELATION)
			return NULL;
	}
	return values && list_length(values->values_lists) <= MAX_ROWS ?
		values : NULL;
}

/* The statement with these rows. */
static Query *
split_query(Query *frame, List *rows)
{
	Query	   *query = copyObject(frame);

	split_values(query)->values_lists = copyObject(rows);
	return query;
}

/* Shares the rows out; NIL when one of them has no fragment. */
static List *
split_rows(Query *frame, List *rows, ParamListInfo params, bool final)
{
	List	   *shares = NIL;
	ListCell   *lc;

	foreach(lc, rows)
	{
		List	   *pins = fa_pin_collect(split_query(frame, list_make1(lfirst(lc))));
		FaPin	   *pin = pins ? linitial(pins) : NULL;
		Share	   *share = NULL;
		ListCell   *s;

		CHECK_FOR_INTERRUPTS();
		if (list_length(pins) != 1 ||
			fa_pin_resolve(pin, params, final) != FA_PIN_HERE)
			return NIL;
		foreach(s, shares)
		{
			if (((Share *) lfirst(s))->leaf == pin->leaf)
				share = lfirst(s);
		}
		if (share == NULL)
		{
			share = palloc0(sizeof(Share));
			share->leaf = pin->leaf;
			shares = lappend(shares, share);
		}
		share->rows = lappend(share->rows, lfirst(lc));
	}
	return shares;
}

PlannedStmt *
fa_split_plan(Query *parse, const char *query_string, int cursor_options,
			  ParamListInfo params, bool final, bool custom)
{
	RangeTblEntry *values = split_values(parse);
	List	   *rows;
	List	   *shares;
	List	   *parts = NIL;
	List	   *rtes = NIL;
	PlannedStmt *plan;
	Query	   *frame;
	ListCell   *lc;

	if (values == NULL)
		return NULL;
	rows = values->values_lists;
	values->values_lists = NIL;
	frame = copyObject(parse);
	values->values_lists = rows;
	shares = split_rows(frame, rows, params, final);
	if (list_length(shares) < 2)
		return NULL;
	foreach(lc, shares)
	{
		PlannedStmt *part = fa_route_plan(split_query(frame, ((Share *) lfirst(lc))->rows),
										  query_string, cursor_options, params,
										  final, custom);
		ListCell   *r;

		/* what the parts lock is locked, and watched, with the whole */
		foreach(r, part->rtable)
		{
			RangeTblEntry *rte = lfirst(r);

			if (rte->rtekind == RTE_RELATION && rte->rellockmode != NoLock)
				rtes = lappend(rtes, fa_custom_rte(rte->relid, rte->rellockmode));
		}
		parts = lappend(parts, part);
	}
	plan = fa_custom_plan(parse, &split_methods, parts, NIL, rtes);
	/* the parts know what they touch */
	castNode(CustomScan, plan->planTree)->custom_relids = NULL;
	return plan;
}

static void
split_begin(CustomScanState *node, EState *estate, int eflags)
{
	((SplitScanState *) node)->stored =
		ExecInitExtraTupleSlot(estate,
							   node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
							   &TTSOpsMinimalTuple);
}

/* Runs one part; its rows go to the store. */
static void
split_run_part(SplitScanState *state, PlannedStmt *part, DestReceiver *dest)
{
	EState	   *estate = state->css.ss.ps.state;
	QueryDesc  *desc = CreateQueryDesc(part, estate->es_sourceText,
									   estate->es_snapshot, InvalidSnapshot,
									   dest, estate->es_param_list_info,
									   estate->es_queryEnv, 0);

	ExecutorStart(desc, 0);
	fa_executor_run(desc);
	ExecutorFinish(desc);
	estate->es_processed += desc->estate->es_processed;
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

static void
split_run(SplitScanState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	ListCell   *lc;

	state->rows = tuplestore_begin_heap(false, false, work_mem);
	SetTuplestoreDestReceiverParams(dest, state->rows, estate->es_query_cxt,
									false, NULL, NULL);
	foreach(lc, castNode(CustomScan, state->css.ss.ps.plan)->custom_private)
		split_run_part(state, lfirst(lc), dest);
	dest->rDestroy(dest);
	MemoryContextSwitchTo(caller);
}

static TupleTableSlot *
split_next(ScanState *node)
{
	SplitScanState *state = (SplitScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (state->rows == NULL)
		split_run(state);
	if (slot->tts_tupleDescriptor->natts == 0)
		return ExecClearTuple(slot);
	ExecClearTuple(slot);
	if (tuplestore_gettupleslot(state->rows, true, false, state->stored))
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

	if (state->rows)
		tuplestore_end(state->rows);
	state->rows = NULL;
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
						   list_length(castNode(CustomScan, node->ss.ps.plan)->custom_private),
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
fa_split_init(void)
{
	RegisterCustomScanMethods(&split_methods);
}
