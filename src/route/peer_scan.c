/*
 * peer_scan.c
 *	  Any statement over postgres_fdw's own connection.
 *
 * What belongs to a transaction must run on the session that postgres_fdw
 * has for it: there it sees what the transaction has written, is undone with
 * it and its savepoints, and does not wait for its locks.  That session is
 * reached through the functions that the wrapper offers the executor, with a
 * scan node made by hand, in a small executor state of its own:
 *
 *	- rows that fit in memory, and modifications: as a direct modification,
 *	  which is one round trip
 *	- other rows: as a scan, which is a cursor
 *
 * fdw_private is what postgres_fdw's planner would have put there; its order
 * has been the same from 14 to 18.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "core/fa_compat.h"
#include "node/fdw_as_of.h"
#include "route/route.h"

#define FETCH_SIZE 1000

struct FaPeerScan
{
	EState	   *estate;
	ForeignScanState *state;
	FdwRoutine *routine;
	bool		modifies;		/* run as a direct modification */
};

static ForeignScan *
peer_plan(const char *sql, int nparams, char **values, List *columns,
		  bool modifies, bool returns)
{
	ForeignScan *plan = makeNode(ForeignScan);
	List	   *attrs = NIL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		TargetEntry *entry = copyObject((TargetEntry *) lfirst(lc));

		castNode(Var, entry->expr)->varno = 2;
		plan->fdw_scan_tlist = lappend(plan->fdw_scan_tlist, entry);
		attrs = lappend_int(attrs, entry->resno);
	}
	plan->scan.plan.targetlist = plan->fdw_scan_tlist;
	plan->operation = modifies ? CMD_UPDATE : CMD_SELECT;
	plan->resultRelation = modifies ? 1 : 0;
	plan->fs_relids = bms_make_singleton(1);
	fa_foreign_scan_relids(plan) = plan->fs_relids;
	if (modifies)
		plan->fdw_private = list_make4(makeString(pstrdup(sql)),
									   makeBoolean(returns), attrs,
									   makeBoolean(!returns));
	else
		plan->fdw_private = list_make4(makeString(pstrdup(sql)), attrs,
									   makeInteger(FETCH_SIZE),
									   makeString("statement"));
	for (int i = 0; i < nparams; i++)
		plan->fdw_exprs = lappend(plan->fdw_exprs,
								  makeConst(TEXTOID, -1, InvalidOid, -1,
											values[i] ? CStringGetTextDatum(values[i]) : (Datum) 0,
											values[i] == NULL, false));
	return plan;
}

/* The foreign table, and names for the columns of messages. */
static List *
peer_range_table(Oid leaf, List *columns)
{
	RangeTblEntry *names = makeNode(RangeTblEntry);

	names->rtekind = RTE_VALUES;
	names->eref = makeAlias("statement", NIL);
	for (int i = 1; i <= list_length(columns); i++)
		names->eref->colnames = lappend(names->eref->colnames,
										makeString(psprintf("column%d", i)));
	return list_make2(fa_custom_rte(leaf, AccessShareLock), names);
}

FaPeerScan *
fa_peer_scan_begin(Oid leaf, const char *sql, int nparams, char **values,
				   List *columns, bool few, bool returns, EState *outer)
{
	FaPeerScan *scan = palloc0(sizeof(FaPeerScan));
	EState	   *estate = CreateExecutorState();
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	ForeignScanState *state = makeNode(ForeignScanState);
	ForeignScan *plan;

	scan->estate = estate;
	scan->state = state;
	scan->routine = GetFdwRoutineByRelId(leaf);
	scan->modifies = few || !returns;
	fa_as_of_continue(estate, outer);
	plan = peer_plan(sql, nparams, values, columns, scan->modifies, returns);
	fa_exec_init_range_table(estate, peer_range_table(leaf, columns));
	state->ss.ps.plan = (Plan *) plan;
	state->ss.ps.state = estate;
	state->fdwroutine = scan->routine;
	ExecAssignExprContext(estate, &state->ss.ps);
	state->ss.ss_ScanTupleSlot =
		ExecInitExtraTupleSlot(estate, ExecTypeFromTL(plan->fdw_scan_tlist),
							   &TTSOpsHeapTuple);
	if (scan->modifies)
	{
		ResultRelInfo *result = makeNode(ResultRelInfo);

		ExecInitResultRelation(estate, result, 1);
		if (returns)
		{
			/* all that is wanted of it is that it exists */
			result->ri_projectReturning = makeNode(ProjectionInfo);
			result->ri_projectReturning->pi_exprContext =
				CreateExprContext(estate);
		}
		state->resultRelInfo = result;
		scan->routine->BeginDirectModify(state, 0);
	}
	else
		scan->routine->BeginForeignScan(state, 0);
	MemoryContextSwitchTo(caller);
	return scan;
}

TupleTableSlot *
fa_peer_scan_next(FaPeerScan *scan)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->estate->es_query_cxt);
	TupleTableSlot *slot = scan->modifies ?
		scan->routine->IterateDirectModify(scan->state) :
		scan->routine->IterateForeignScan(scan->state);

	MemoryContextSwitchTo(caller);
	return slot;
}

uint64
fa_peer_scan_processed(FaPeerScan *scan)
{
	return scan->estate->es_processed;
}

void
fa_peer_scan_end(FaPeerScan *scan)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->estate->es_query_cxt);

	if (scan->modifies)
		scan->routine->EndDirectModify(scan->state);
	else
		scan->routine->EndForeignScan(scan->state);
	ExecCloseResultRelations(scan->estate);
	ExecCloseRangeTableRelations(scan->estate);
	ExecResetTupleTable(scan->estate->es_tupleTable, false);
	MemoryContextSwitchTo(caller);
	FreeExecutorState(scan->estate);
}
