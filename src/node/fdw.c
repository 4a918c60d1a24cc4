/*
 * fdw.c
 *	  postgres_fdw's routines, with notes taken of what they were used for.
 *
 * The handler hands out a copy of postgres_fdw's table of routines in which
 * those that open a session, read, lock or write are replaced by functions that
 * call the original and then tell cluster_xact.c.  The original comes first: it opens
 * the session, and with the first session of a process it registers
 * postgres_fdw's transaction callback, which ours must run before, that is be
 * registered after.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/nodeSubplan.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/cluster_xact.h"
#include "node/fdw.h"
#include "node/fdw_as_of.h"
#include "node/fdw_copy.h"
#include "node/fdw_late.h"
#include "node/fdw_leave.h"
#include "node/fdw_security.h"
#include "node/node.h"
#include "node/remote.h"
#include "node/vouch.h"

PG_FUNCTION_INFO_V1(fa_sql_fdw_handler);
PG_FUNCTION_INFO_V1(fa_sql_fdw_validator);

#define FETCH_SIZE_PLACE 2		/* in fdw_private of a scan; from 14 to 18 */

static const FdwRoutine *base = NULL;	/* fa_fdw_base() */

static Oid
fdw_user(Oid check_as)
{
	return OidIsValid(check_as) ? check_as : GetUserId();
}

/*
 * What the statement does, by its text: postgres_fdw writes it, and so does
 * whoever makes a plan by hand (who may run a SELECT as a direct modification).
 * A literal that looks like a locking clause only makes the commit longer.
 */
static FaUse
fdw_sql_use(ForeignScan *scan)
{
	const char *sql = strVal(linitial(scan->fdw_private));

	sql += strspn(sql, " \n\t(");
	if (pg_strncasecmp(sql, "SELECT", strlen("SELECT")) != 0)
		return FA_USE_WRITE;
	if (strstr(sql, " FOR UPDATE") || strstr(sql, " FOR SHARE") ||
		strstr(sql, " FOR NO KEY UPDATE") || strstr(sql, " FOR KEY SHARE"))
		return FA_USE_LOCK;
	return FA_USE_READ;
}

/* The session is open, and about to be used. */
static void
fdw_prepare_session(Oid foreign_table, Oid user)
{
	fa_fdw_pass_settings(foreign_table, user);
	fa_vouch_for_fdw(foreign_table, user);
}

/* A foreign table that a scan reads, and as whom. */
static Oid
fdw_scan_table(ForeignScanState *node, Oid *user_p)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	Index		rti = scan->scan.scanrelid;
	RangeTblEntry *rte;

	if (rti == 0)
		rti = bms_next_member(fa_foreign_scan_relids(scan), -1);
	rte = exec_rt_fetch(rti, node->ss.ps.state);
	*user_p = fdw_user(fa_foreign_scan_check_as(scan, rte));
	return rte->relid;
}

/* The other foreign tables that a scan reads. */
static void
fdw_note_joined(ForeignScanState *node, Oid user)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	int			rti = bms_next_member(fa_foreign_scan_relids(scan), -1);

	if (scan->scan.scanrelid != 0)
		return;
	while (rti >= 0 && (rti = bms_next_member(fa_foreign_scan_relids(scan), rti)) >= 0)
	{
		RangeTblEntry *rte = exec_rt_fetch(rti, node->ss.ps.state);

		if (rte->rtekind == RTE_RELATION)
			fa_xact_note_use(rte->relid, user, FA_USE_READ);
	}
}

static void
fdw_begin_scan(ForeignScanState *node, int eflags)
{
	Oid			relid;
	Oid			user;

	base->BeginForeignScan(node, eflags);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	relid = fdw_scan_table(node, &user);
	fdw_prepare_session(relid, user);
	fa_xact_note_use(relid, user, fdw_sql_use((ForeignScan *) node->ss.ps.plan));
	fdw_note_joined(node, user);
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
fdw_fetch_all(ForeignScanState *node)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	List	   *planned = scan->fdw_private;
	MemoryContext caller = MemoryContextSwitchTo(node->ss.ps.state->es_query_cxt);

	scan->fdw_private = list_copy(planned);
	lfirst(list_nth_cell(scan->fdw_private, FETCH_SIZE_PLACE)) = makeInteger(INT_MAX);
	PG_TRY();
	{
		base->BeginForeignScan(node, 0);
	}
	PG_FINALLY();
	{
		scan->fdw_private = planned;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

/* The scan's cursor may be opened now. */
static void
fdw_before_scan(ForeignScanState *node)
{
	Oid			relid;
	Oid			user;

	if (fa_late_begun(node))
	{
		(void) fdw_settle_params((Node *) ((ForeignScan *) node->ss.ps.plan)->fdw_exprs,
								 node->ss.ps.ps_ExprContext);
		if (fa_late_may_be_lost(node))
			fdw_fetch_all(node);
	}
	if (!fa_as_of_is_used())
		return;
	relid = fdw_scan_table(node, &user);
	fa_as_of_before_scan(node, relid, user);
}

static TupleTableSlot *
fdw_iterate_scan(ForeignScanState *node)
{
	fdw_before_scan(node);
	return base->IterateForeignScan(node);
}

static void
fdw_rescan(ForeignScanState *node)
{
	if (node->ss.ps.chgParam != NULL && fa_late_is_lost(node))
	{
		MemoryContext caller = MemoryContextSwitchTo(node->ss.ps.state->es_query_cxt);

		base->BeginForeignScan(node, 0);
		MemoryContextSwitchTo(caller);
	}
	else
		base->ReScanForeignScan(node);
	if (node->ss.ps.chgParam != NULL)
		fa_late_anew(node);
	if (fa_as_of_is_used())
		fa_as_of_rescan(node);
}

static void
fdw_end_scan(ForeignScanState *node)
{
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
	fa_late_fetching(fa_fdw_node(relid), user);
}

static void
fdw_async_request(AsyncRequest *areq)
{
	fdw_before_scan((ForeignScanState *) areq->requestee);
	base->ForeignAsyncRequest(areq);
	fdw_fetching((ForeignScanState *) areq->requestee);
}

static void
fdw_async_configure_wait(AsyncRequest *areq)
{
	fdw_before_scan((ForeignScanState *) areq->requestee);
	base->ForeignAsyncConfigureWait(areq);
	fdw_fetching((ForeignScanState *) areq->requestee);
}

static void
fdw_note(ResultRelInfo *rri, EState *estate, FaUse use)
{
	fa_xact_note_use(RelationGetRelid(rri->ri_RelationDesc),
					 fdw_user(fa_result_rel_check_as(rri, estate)), use);
}

/* Rows are about to be changed. */
static void
fdw_before_change(ResultRelInfo *rri, EState *estate)
{
	fa_late_begin_kind(FA_LATE_STATEMENT);
	fa_as_of_before_change(RelationGetRelid(rri->ri_RelationDesc),
						   fdw_user(fa_result_rel_check_as(rri, estate)));
}

/* The session is open; what it is used for is known when it has been. */
static void
fdw_opened(ResultRelInfo *rri, EState *estate)
{
	fdw_prepare_session(RelationGetRelid(rri->ri_RelationDesc),
						fdw_user(fa_result_rel_check_as(rri, estate)));
	fdw_note(rri, estate, FA_USE_READ);
}

static void
fdw_begin_direct_modify(ForeignScanState *node, int eflags)
{
	base->BeginDirectModify(node, eflags);
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		fdw_opened(node->resultRelInfo, node->ss.ps.state);
}

static bool
fdw_plan_direct_modify(PlannerInfo *root, ModifyTable *plan, Index rti,
					   int subplan)
{
	return !fa_fdw_rows_may_leave(plan) && !fa_as_of_changes_twice(root) &&
		base->PlanDirectModify(root, plan, rti, subplan);
}

static void
fdw_begin_modify(ModifyTableState *mtstate, ResultRelInfo *rri,
				 List *fdw_private, int subplan, int eflags)
{
	base->BeginForeignModify(mtstate, rri, fdw_private, subplan, eflags);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	fdw_opened(rri, mtstate->ps.state);
	if (fa_fdw_rows_may_leave(castNode(ModifyTable, mtstate->ps.plan)))
		fa_fdw_leave_begin(mtstate);
}

static void
fdw_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	if (fa_fdw_copy_begin_insert(mtstate, rri, base))
		return;
	if (mtstate->operation == CMD_UPDATE)
	{
		fa_fdw_leave_begin(mtstate);
		return;
	}
	base->BeginForeignInsert(mtstate, rri);
	fdw_opened(rri, mtstate->ps.state);
}

static TupleTableSlot *
fdw_iterate_direct_modify(ForeignScanState *node)
{
	FaUse		use = fdw_sql_use((ForeignScan *) node->ss.ps.plan);

	if (use == FA_USE_WRITE)
		fdw_before_change(node->resultRelInfo, node->ss.ps.state);
	else if (fa_as_of_is_used())
		fa_as_of_before_scan(node,
							 RelationGetRelid(node->resultRelInfo->ri_RelationDesc),
							 fdw_user(fa_result_rel_check_as(node->resultRelInfo,
															 node->ss.ps.state)));
	/* before: what it may wait for is looked at */
	fdw_note(node->resultRelInfo, node->ss.ps.state, use);
	return base->IterateDirectModify(node);
}

/*
 * Row security of the table: WITH CHECK of a row that is about to be written.
 * PostgreSQL leaves that out for foreign tables.
 */
static void
fdw_check_row(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	if (rri->ri_WithCheckOptions == NIL)
		return;
	ExecWithCheckOptions(WCO_RLS_INSERT_CHECK, rri, slot, estate);
	ExecWithCheckOptions(WCO_RLS_UPDATE_CHECK, rri, slot, estate);
}

static TupleTableSlot *
fdw_insert(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
		   TupleTableSlot *plan_slot)
{
	fdw_check_row(estate, rri, slot);
	if (fa_fdw_copy_insert(estate, rri, slot))
		return slot;
	if (fa_fdw_leave_has(rri))
	{
		fa_fdw_leave_insert(rri, slot);
		return slot;
	}
	fdw_before_change(rri, estate);
	slot = base->ExecForeignInsert(estate, rri, slot, plan_slot);
	fdw_note(rri, estate, FA_USE_WRITE);
	return slot;
}

static void
fdw_end_insert(EState *estate, ResultRelInfo *rri)
{
	if (!fa_fdw_copy_end_insert(estate, rri) && !fa_fdw_leave_has(rri))
		base->EndForeignInsert(estate, rri);
}

static TupleTableSlot **
fdw_batch_insert(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots,
				 TupleTableSlot **plan_slots, int *nslots)
{
	bool		copied = false;

	for (int i = 0; i < *nslots; i++)
		fdw_check_row(estate, rri, slots[i]);
	for (int i = 0; i < *nslots; i++)
		copied = fa_fdw_copy_insert(estate, rri, slots[i]);
	if (copied)
		return slots;
	if (fa_fdw_leave_has(rri))
	{
		for (int i = 0; i < *nslots; i++)
			fa_fdw_leave_insert(rri, slots[i]);
		return slots;
	}
	fdw_before_change(rri, estate);
	slots = base->ExecForeignBatchInsert(estate, rri, slots, plan_slots,
										 nslots);
	fdw_note(rri, estate, FA_USE_WRITE);
	return slots;
}

/*
 * COPY of 16 and later would collect rows, and then call all by one line.  Where an
 * UPDATE inserts rows, postgres_fdw knows no size.
 */
static int
fdw_batch_size(ResultRelInfo *rri)
{
	return fa_fdw_copy_has(rri) || fa_fdw_leave_has(rri) ? 1 :
		base->GetForeignModifyBatchSize(rri);
}

static TupleTableSlot *
fdw_update(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
		   TupleTableSlot *plan_slot)
{
	bool		taken;

	fdw_check_row(estate, rri, slot);
	fdw_before_change(rri, estate);
	if (fa_fdw_leave_update(estate, rri, slot, plan_slot, &taken))
		return taken ? slot : NULL;
	slot = base->ExecForeignUpdate(estate, rri, slot, plan_slot);
	fdw_note(rri, estate, FA_USE_WRITE);
	return slot;
}

static TupleTableSlot *
fdw_delete(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
		   TupleTableSlot *plan_slot)
{
	fdw_before_change(rri, estate);
	slot = base->ExecForeignDelete(estate, rri, slot, plan_slot);
	fdw_note(rri, estate, FA_USE_WRITE);
	return slot;
}

PGconn *
fa_fdw_session(Oid user, Oid server)
{
	return fa_fdw_has_conn() ?
		fa_fdw_mapping_session(GetUserMapping(user, server)) : NULL;
}

FaConn *
fa_fdw_conn(Oid foreign_table)
{
	Oid			user = GetUserId();
	PGconn	   *pg = fa_fdw_session(user, GetForeignServerIdByRelId(foreign_table));
	FaConn	   *conn;

	/* a scan that runs in the background may be using it */
	if (pg == NULL || PQtransactionStatus(pg) != PQTRANS_INTRANS)
		return NULL;
	fa_xact_note_use(foreign_table, user, FA_USE_READ);
	fdw_prepare_session(foreign_table, user);
	fa_late_begin_kind(FA_LATE_STATEMENT);
	fa_as_of_before_change(foreign_table, user);
	conn = palloc0(sizeof(FaConn));
	conn->pg = pg;
	conn->node = fa_fdw_node(foreign_table);
	conn->name = fa_node_name(conn->node);
	fa_xact_note_use(foreign_table, user, FA_USE_WRITE);
	return conn;
}

FaConn *
fa_fdw_send(Oid foreign_table, const char *sql, int nparams,
			const char *const *values)
{
	FaConn	   *conn = fa_fdw_conn(foreign_table);

	if (conn && !PQsendQueryParams(conn->pg, sql, nparams, NULL, values, NULL,
								   NULL, 0))
		fa_remote_raise(conn, NULL, sql);
	return conn;
}

static void
fdw_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	Oid			relid = RelationGetRelid((Relation) linitial(rels));

	/* it opens the session and then waits for locks, with nothing between */
	if (fa_fdw_session(GetUserId(), GetForeignServerIdByRelId(relid)))
		fa_xact_note_use(relid, GetUserId(), FA_USE_READ);
	base->ExecForeignTruncate(rels, behavior, restart_seqs);
	fa_xact_note_use(relid, GetUserId(), FA_USE_WRITE);
}

static void
fdw_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreign_table)
{
	List	   *kept = fa_fdw_keep_conditions(root, rel, rel->baserestrictinfo);

	base->GetForeignRelSize(root, rel, foreign_table);
	fa_fdw_conditions_kept(kept, NIL);
}

static void
fdw_join_paths(PlannerInfo *root, RelOptInfo *joinrel, RelOptInfo *outerrel,
			   RelOptInfo *innerrel, JoinType jointype, JoinPathExtraData *extra)
{
	if (fa_fdw_may_join(root, extra->restrictlist))
		base->GetForeignJoinPaths(root, joinrel, outerrel, innerrel, jointype, extra);
}

static ForeignScan *
fdw_plan(PlannerInfo *root, RelOptInfo *rel, Oid foreign_table, ForeignPath *path,
		 List *tlist, List *scan_clauses, Plan *outer_plan)
{
	List	   *kept = IS_SIMPLE_REL(rel) ?
		fa_fdw_keep_conditions(root, rel, scan_clauses) : NIL;
	ForeignScan *plan = base->GetForeignPlan(root, rel, foreign_table, path, tlist,
											 scan_clauses, outer_plan);

	fa_fdw_conditions_kept(kept, plan->scan.plan.qual);
	return plan;
}

static void
fdw_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel,
				RelOptInfo *output_rel, void *extra)
{
	if (stage != UPPERREL_GROUP_AGG || fa_fdw_may_group(root, output_rel, extra))
		base->GetForeignUpperPaths(root, stage, input_rel, output_rel, extra);
}

/*
 * fdw_handler() of the wrapper fragaffinity.  Without our hooks an UPDATE of the
 * key would leave rows where nobody looks for them, and a commit on several nodes
 * could be half of one.
 */
Datum
fa_sql_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = palloc(sizeof(FdwRoutine));

	fa_shmem_require();
	base = fa_fdw_base();
	*routine = *base;
	routine->GetForeignRelSize = fdw_rel_size;
	routine->GetForeignJoinPaths = fdw_join_paths;
	routine->GetForeignPlan = fdw_plan;
	routine->GetForeignUpperPaths = fdw_upper_paths;
	routine->BeginForeignScan = fdw_begin_scan;
	routine->IterateForeignScan = fdw_iterate_scan;
	routine->ReScanForeignScan = fdw_rescan;
	routine->EndForeignScan = fdw_end_scan;
	routine->ForeignAsyncRequest = fdw_async_request;
	routine->ForeignAsyncConfigureWait = fdw_async_configure_wait;
	routine->BeginDirectModify = fdw_begin_direct_modify;
	routine->PlanDirectModify = fdw_plan_direct_modify;
	routine->BeginForeignModify = fdw_begin_modify;
	routine->BeginForeignInsert = fdw_begin_insert;
	routine->IterateDirectModify = fdw_iterate_direct_modify;
	routine->EndForeignInsert = fdw_end_insert;
	routine->ExecForeignInsert = fdw_insert;
	routine->GetForeignModifyBatchSize = fdw_batch_size;
	routine->ExecForeignBatchInsert = fdw_batch_insert;
	routine->ExecForeignUpdate = fdw_update;
	routine->ExecForeignDelete = fdw_delete;
	routine->ExecForeignTruncate = fdw_truncate;
	PG_RETURN_POINTER(routine);
}

/* fdw_validator(options, catalog): postgres_fdw's options are ours. */
Datum
fa_sql_fdw_validator(PG_FUNCTION_ARGS)
{
	return fa_fdw_function("postgres_fdw_validator")(fcinfo);
}

int
fa_fdw_node(Oid foreign_table)
{
	return fa_node_of_server(GetForeignServerIdByRelId(foreign_table));
}

char *
fa_fdw_session_table(int node)
{
	return psprintf("session_%d", node);
}

bool
fa_fdw_plan_has_foreign(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		if (((RangeTblEntry *) lfirst(lc))->relkind == RELKIND_FOREIGN_TABLE)
			return true;
	}
	return false;
}
