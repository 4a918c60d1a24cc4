/*
 * fdw_scan.c
 *	  The wrapper's routines for scans; see fdw.c.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/nodeSubplan.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"

#include "core/fa_compat.h"
#include "node/fdw.h"
#include "node/fdw_as_of.h"
#include "node/fdw_late.h"
#include "node/fdw_routine.h"
#include "node/role_session.h"

#define FETCH_SIZE_PLACE 2		/* in fdw_private of a scan; from 14 to 18 */

static const FdwRoutine *base = NULL;	/* fa_fdw_base() */

static RangeTblEntry *
fdw_scan_rte(ForeignScanState *node)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	Index		rti = scan->scan.scanrelid;

	if (rti == 0)
		rti = bms_next_member(fa_foreign_scan_relids(scan), -1);
	return exec_rt_fetch(rti, node->ss.ps.state);
}

/* A foreign table that a scan reads, and as whom. */
static Oid
fdw_scan_table(ForeignScanState *node, Oid *user_p)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	RangeTblEntry *rte = fdw_scan_rte(node);

	*user_p = fa_fdw_user(fa_foreign_scan_check_as(scan, rte));
	return rte->relid;
}

/* A scan's cursor is going to be in the role's session. */
static void
fdw_begin_as(ForeignScanState *node, int eflags, Oid session)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	Oid			user;

	(void) fdw_scan_table(node, &user);
	if (session == user)
		base->BeginForeignScan(node, eflags);
	else
		FA_FDW_AS(fa_foreign_scan_check_as_p(scan, fdw_scan_rte(node)), session,
				  base->BeginForeignScan(node, eflags));
}

static void
fdw_begin_scan(ForeignScanState *node, int eflags)
{
	Oid			relid;
	Oid			user;
	Oid			session;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		base->BeginForeignScan(node, eflags);
		return;
	}
	relid = fdw_scan_table(node, &user);
	session = fa_role_session(GetForeignServerIdByRelId(relid), user);
	fdw_begin_as(node, eflags, session);
	fa_fdw_prepare_session(relid, session, user);
	fa_xact_note_use(relid, session,
					 fa_fdw_sql_use((ForeignScan *) node->ss.ps.plan));
	fa_role_scan_begin(node, session, user);
	fa_late_add_scan(node);
}

/*
 * Evaluates the subqueries that a scan's parameters wait for: postgres_fdw would
 * do so when it has made the session ready for the scan, and under its own
 * search_path, and they may use the session.
 */
static bool
fdw_settle_params(Node *node, void *context)
{
	ExprContext *econtext = context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
	{
		ParamExecData *param = &econtext->ecxt_param_exec_vals[((Param *) node)->paramid];

		if (param->execPlan)
			ExecSetParamPlan(param->execPlan, econtext);
		return false;
	}
	return expression_tree_walker(node, fdw_settle_params, context);
}

/*
 * Makes a scan that may lose its cursor fetch all of its rows at once.  postgres_fdw
 * reads how many it fetches when it begins, so that is done anew.
 */
static void
fdw_fetch_all(ForeignScanState *node, Oid session)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	List	   *planned = scan->fdw_private;
	MemoryContext caller = MemoryContextSwitchTo(node->ss.ps.state->es_query_cxt);

	scan->fdw_private = list_copy(planned);
	lfirst(list_nth_cell(scan->fdw_private, FETCH_SIZE_PLACE)) = makeInteger(INT_MAX);
	PG_TRY();
	{
		fdw_begin_as(node, 0, session);
	}
	PG_FINALLY();
	{
		scan->fdw_private = planned;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

/* The scan's cursor may be opened now, or more fetched; by a row or a request. */
static void
fdw_before_scan(ForeignScanState *node, bool row)
{
	bool		begins = fa_late_begun(node);
	bool		acts = fa_roles_act();
	Oid			relid;
	Oid			user;
	Oid			session;

	if (!begins && !acts && !fa_as_of_is_used())
		return;
	relid = fdw_scan_table(node, &user);
	session = fa_role_scan_session(node, user);
	if (begins)
	{
		(void) fdw_settle_params((Node *) ((ForeignScan *) node->ss.ps.plan)->fdw_exprs,
								 node->ss.ps.ps_ExprContext);
		if (fa_late_may_be_lost(node))
			fdw_fetch_all(node, session);
	}
	if (fa_as_of_is_used())
		fa_as_of_before_scan(node, relid, session);
	/* parameters may have had another act */
	if (fa_roles_act())
		fa_role_before_row(node, relid, user, row);
}

static TupleTableSlot *
fdw_iterate_scan(ForeignScanState *node)
{
	fdw_before_scan(node, true);
	return base->IterateForeignScan(node);
}

static void
fdw_rescan(ForeignScanState *node)
{
	if (node->ss.ps.chgParam != NULL && fa_late_is_lost(node))
	{
		MemoryContext caller = MemoryContextSwitchTo(node->ss.ps.state->es_query_cxt);
		Oid			user;

		(void) fdw_scan_table(node, &user);
		fdw_begin_as(node, 0, fa_role_scan_session(node, user));
		MemoryContextSwitchTo(caller);
	}
	else
		base->ReScanForeignScan(node);
	if (node->ss.ps.chgParam != NULL)
		fa_late_anew(node);
	fa_role_scan_again(node);
	if (fa_as_of_is_used())
		fa_as_of_rescan(node);
}

static void
fdw_end_scan(ForeignScanState *node)
{
	fa_role_scan_end(node);
	/* there is nothing else to be done for it */
	if (!fa_late_is_lost(node))
		base->EndForeignScan(node);
}

/* It may have rows on their way now, which a savepoint that is undone would lose. */
static void
fdw_fetching(ForeignScanState *node)
{
	Oid			relid;
	Oid			user;

	if (GetCurrentTransactionNestLevel() == 1)
		return;
	relid = fdw_scan_table(node, &user);
	fa_late_fetching(fa_fdw_node(relid), fa_role_scan_session(node, user));
}

static void
fdw_async_request(AsyncRequest *areq)
{
	fdw_before_scan((ForeignScanState *) areq->requestee, false);
	base->ForeignAsyncRequest(areq);
	fdw_fetching((ForeignScanState *) areq->requestee);
}

static void
fdw_async_configure_wait(AsyncRequest *areq)
{
	fdw_before_scan((ForeignScanState *) areq->requestee, false);
	base->ForeignAsyncConfigureWait(areq);
	fdw_fetching((ForeignScanState *) areq->requestee);
}

int
fa_fdw_fetch_size(ForeignScanState *node)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;

	return intVal(list_nth(scan->fdw_private, FETCH_SIZE_PLACE));
}

void
fa_fdw_scan_routines(FdwRoutine *routine, const FdwRoutine *postgres_fdw)
{
	base = postgres_fdw;
	routine->BeginForeignScan = fdw_begin_scan;
	routine->IterateForeignScan = fdw_iterate_scan;
	routine->ReScanForeignScan = fdw_rescan;
	routine->EndForeignScan = fdw_end_scan;
	routine->ForeignAsyncRequest = fdw_async_request;
	routine->ForeignAsyncConfigureWait = fdw_async_configure_wait;
}
