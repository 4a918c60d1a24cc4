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
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
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
#include "node/fdw_routine.h"
#include "node/fdw_security.h"
#include "node/node.h"
#include "node/remote.h"
#include "node/role_session.h"
#include "node/vouch.h"

PG_FUNCTION_INFO_V1(fa_sql_fdw_handler);
PG_FUNCTION_INFO_V1(fa_sql_fdw_validator);

static const FdwRoutine *base = NULL;	/* fa_fdw_base() */

Oid
fa_fdw_user(Oid check_as)
{
	return OidIsValid(check_as) ? check_as : GetUserId();
}

FaUse
fa_fdw_sql_use(ForeignScan *scan)
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

void
fa_fdw_prepare_session(Oid foreign_table, Oid session, Oid user)
{
	fa_fdw_pass_settings(foreign_table, session);
	fa_vouch_for_fdw(foreign_table, session, user);
}

static Oid
fdw_change_user(ResultRelInfo *rri, EState *estate)
{
	return fa_fdw_user(fa_result_rel_check_as(rri, estate));
}

/* The role whose session is to change the rows of a leaf. */
static Oid
fdw_begin_session(ResultRelInfo *rri, EState *estate)
{
	return fa_role_session(GetForeignServerIdByRelId(RelationGetRelid(rri->ri_RelationDesc)),
						   fdw_change_user(rri, estate));
}

/* The same since then; cheap. */
static Oid
fdw_change_session(ResultRelInfo *rri, EState *estate)
{
	return fa_roles_act() ? fdw_begin_session(rri, estate) :
		fdw_change_user(rri, estate);
}

void
fa_fdw_changed(ResultRelInfo *rri, EState *estate)
{
	fa_xact_note_use(RelationGetRelid(rri->ri_RelationDesc),
					 fdw_change_session(rri, estate), FA_USE_WRITE);
}

void
fa_fdw_before_change(ResultRelInfo *rri, EState *estate)
{
	Oid			relid = RelationGetRelid(rri->ri_RelationDesc);
	Oid			session = fdw_change_session(rri, estate);

	fa_late_begin_kind(FA_LATE_STATEMENT);
	fa_as_of_before_change(relid, session);
	fa_role_act(relid, session, fdw_change_user(rri, estate));
}

/*
 * The session is open.  That it changes rows is known here already, as they must
 * not be changed in another one until it does; what else, when it has.
 */
static void
fdw_opened(ResultRelInfo *rri, EState *estate, Oid session, bool changes)
{
	Oid			relid = RelationGetRelid(rri->ri_RelationDesc);
	Oid			user = fdw_change_user(rri, estate);

	fa_fdw_prepare_session(relid, session, user);
	fa_role_act(relid, session, user);
	if (changes)
		fa_xact_claim(relid, session);
	else
		fa_xact_note_use(relid, session, FA_USE_READ);
}

static void
fdw_begin_direct_modify(ForeignScanState *node, int eflags)
{
	ForeignScan *scan = (ForeignScan *) node->ss.ps.plan;
	ResultRelInfo *rri = node->resultRelInfo;
	EState	   *estate = node->ss.ps.state;
	Oid			session;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		base->BeginDirectModify(node, eflags);
		return;
	}
	session = fdw_begin_session(rri, estate);
	if (session == fdw_change_user(rri, estate))
		base->BeginDirectModify(node, eflags);
	else
		FA_FDW_AS(fa_direct_modify_check_as_p(scan, estate), session,
				  base->BeginDirectModify(node, eflags));
	fdw_opened(rri, estate, session, fa_fdw_sql_use(scan) != FA_USE_READ);
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
	EState	   *estate = mtstate->ps.state;
	Oid			session;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		base->BeginForeignModify(mtstate, rri, fdw_private, subplan, eflags);
		return;
	}
	session = fdw_begin_session(rri, estate);
	if (session == fdw_change_user(rri, estate))
		base->BeginForeignModify(mtstate, rri, fdw_private, subplan, eflags);
	else
		FA_FDW_AS(fa_result_rel_check_as_p(rri, estate), session,
				  base->BeginForeignModify(mtstate, rri, fdw_private, subplan, eflags));
	fdw_opened(rri, estate, session, true);
	if (fa_fdw_rows_may_leave(castNode(ModifyTable, mtstate->ps.plan)))
		fa_fdw_leave_begin(mtstate);
}

void
fa_fdw_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	EState	   *estate = mtstate->ps.state;
	Oid			session = fdw_begin_session(rri, estate);

	if (session == fdw_change_user(rri, estate))
		base->BeginForeignInsert(mtstate, rri);
	else
		FA_FDW_AS(fa_result_rel_check_as_p(rri, estate), session,
				  base->BeginForeignInsert(mtstate, rri));
	fdw_opened(rri, estate, session, true);
}

static void
fdw_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	if (fa_fdw_copy_begin_insert(mtstate, rri, base))
		return;
	if (mtstate->operation == CMD_UPDATE)
		fa_fdw_leave_begin(mtstate);
	else
		fa_fdw_begin_insert(mtstate, rri);
}

static TupleTableSlot *
fdw_iterate_direct_modify(ForeignScanState *node)
{
	FaUse		use = fa_fdw_sql_use((ForeignScan *) node->ss.ps.plan);
	ResultRelInfo *rri = node->resultRelInfo;
	EState	   *estate = node->ss.ps.state;
	Oid			relid = RelationGetRelid(rri->ri_RelationDesc);
	Oid			session = fdw_change_session(rri, estate);

	if (use == FA_USE_WRITE)
		fa_fdw_before_change(rri, estate);
	else
	{
		if (fa_as_of_is_used())
			fa_as_of_before_scan(node, relid, session);
		fa_role_act(relid, session, fdw_change_user(rri, estate));
	}
	/* before: what it may wait for is looked at */
	fa_xact_note_use(relid, session, use);
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
	fa_fdw_before_change(rri, estate);
	slot = base->ExecForeignInsert(estate, rri, slot, plan_slot);
	fa_fdw_changed(rri, estate);
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
	fa_fdw_before_change(rri, estate);
	slots = base->ExecForeignBatchInsert(estate, rri, slots, plan_slots,
										 nslots);
	fa_fdw_changed(rri, estate);
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
	fa_fdw_before_change(rri, estate);
	if (fa_fdw_leave_update(estate, rri, slot, plan_slot, &taken))
		return taken ? slot : NULL;
	slot = base->ExecForeignUpdate(estate, rri, slot, plan_slot);
	fa_fdw_changed(rri, estate);
	return slot;
}

static TupleTableSlot *
fdw_delete(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
		   TupleTableSlot *plan_slot)
{
	fa_fdw_before_change(rri, estate);
	slot = base->ExecForeignDelete(estate, rri, slot, plan_slot);
	fa_fdw_changed(rri, estate);
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
	Oid			server = GetForeignServerIdByRelId(foreign_table);
	Oid			session = fa_role_session(server, GetUserId());
	PGconn	   *pg = fa_fdw_session(session, server);
	FaConn	   *conn;

	/* a scan that runs in the background may be using it */
	if (pg == NULL || PQtransactionStatus(pg) != PQTRANS_INTRANS)
		return NULL;
	fa_xact_note_use(foreign_table, session, FA_USE_READ);
	fa_fdw_prepare_session(foreign_table, session, GetUserId());
	fa_late_begin_kind(FA_LATE_STATEMENT);
	fa_as_of_before_change(foreign_table, session);
	fa_role_act(foreign_table, session, GetUserId());
	conn = palloc0(sizeof(FaConn));
	conn->pg = pg;
	conn->node = fa_fdw_node(foreign_table);
	conn->name = fa_node_name(conn->node);
	fa_xact_note_use(foreign_table, session, FA_USE_WRITE);
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
	Oid			server = GetForeignServerIdByRelId(relid);
	Oid			user;
	int			sec_context;
	Oid			session;

	GetUserIdAndSecContext(&user, &sec_context);
	session = fa_role_session(server, user);
	/* it opens the session and then waits for locks, with nothing between */
	if (fa_fdw_session(session, server))
		fa_xact_note_use(relid, session, FA_USE_READ);
	fa_role_act(relid, session, user);
	if (session != user)
		SetUserIdAndSecContext(session, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	base->ExecForeignTruncate(rels, behavior, restart_seqs);
	SetUserIdAndSecContext(user, sec_context);
	fa_xact_note_use(relid, session, FA_USE_WRITE);
}

/*
 * Where an administrator has set use_remote_estimate, planning asks in the session of
 * the planning role, and the peer may run functions for that.
 */
static void
fdw_before_estimates(RelOptInfo *rel, Oid foreign_table)
{
	Oid			user = fa_fdw_user(rel->userid);
	Oid			server = GetForeignServerIdByRelId(foreign_table);
	List	   *options = list_concat_copy(GetForeignServer(server)->options,
										   GetForeignTable(foreign_table)->options);
	ListCell   *lc;

	foreach(lc, options)
	{
		if (strcmp(((DefElem *) lfirst(lc))->defname, "use_remote_estimate") == 0)
			fa_role_act(foreign_table, user, user);
	}
}

static void
fdw_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreign_table)
{
	List	   *kept = fa_fdw_keep_conditions(root, rel, rel->baserestrictinfo);

	if (fa_roles_act())
		fdw_before_estimates(rel, foreign_table);
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
	fa_fdw_scan_routines(routine, base);
	fa_fdw_analyze_routines(routine, base);
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
