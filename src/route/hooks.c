/*
 * hooks.c
 *	  The hooks around the execution of statements.
 *
 * One hook of each kind for the whole extension, as every one costs every
 * statement of the server a call and its questions.  Those are asked once, in
 * ExecutorStart: a statement whose plan names no distributed table, nor any
 * part of one, is none of ours, and has paid with a look-up for each of its
 * relations.  Nor is what a parallel worker runs, whose leader has been asked.
 * Ours are kept in a list until they end, so that the other hooks have one pointer
 * to look at.
 *
 * Two things concern all statements: how many its transaction has begun, and
 * that a wait for a lock may be part of a deadlock over several nodes.  And one
 * in REPEATABLE READ may open a peer's transaction through any foreign table of
 * ours.
 *
 * The order of the steps matters: the plan is replaced before anything looks
 * at it; a snapshot is judged before it is used; time is taken inside of all
 * that.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"

#include "capture/capture.h"
#include "catalog/map.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/act_as.h"
#include "node/cluster_xact.h"
#include "node/deadlock.h"
#include "node/fdw.h"
#include "node/fdw_as_of.h"
#include "node/fdw_copy.h"
#include "node/fdw_late.h"
#include "node/fdw_leave.h"
#include "route/copy_writers.h"
#include "route/ddl_guard.h"
#include "route/hooks.h"
#include "route/refusal.h"

/* A statement of ours that has been started; in its query's memory. */
typedef struct Statement
{
	struct Statement *next;
	QueryDesc  *query;
	MemoryContextCallback forget;
	bool		counted;
	FaExecution execution;		/* filled if it is counted */
} Statement;

static Statement *statements = NULL;	/* all that are open, cursors too */

/* What the transaction of this number has begun. */
static LocalTransactionId begun_in = InvalidLocalTransactionId;
static int	queries = 0;
static int	commands = 0;

static int	in_commands = 0;	/* that run now, one inside the other */
static Snapshot renewable = NULL;	/* active, of the command that runs now; none
									 * while it executes a query */

static ExecutorStart_hook_type next_executor_start = NULL;
static ExecutorRun_hook_type next_executor_run = NULL;
static ExecutorFinish_hook_type next_executor_finish = NULL;
static ExecutorEnd_hook_type next_executor_end = NULL;
static ProcessUtility_hook_type next_process_utility = NULL;

/* Forgets what an earlier transaction has begun. */
static inline void
hooks_know_transaction(void)
{
	if (begun_in == fa_my_lxid())
		return;
	begun_in = fa_my_lxid();
	queries = commands = 0;
}

int
fa_hooks_begun(void)
{
	hooks_know_transaction();
	return queries + commands;
}

int
fa_hooks_in_commands(void)
{
	return in_commands;
}

void
fa_hooks_renew_snapshot(void)
{
	if (renewable == NULL || !ActiveSnapshotSet() ||
		GetActiveSnapshot() != renewable)
		return;
	PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
	renewable = GetActiveSnapshot();
}

bool
fa_hooks_may_renew(void)
{
	return renewable != NULL;
}

/* Does the plan name a distributed table or a part of one? */
static inline bool
hooks_is_ours(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		/* the table comes before its parts, so that one look-up is enough */
		if (rte->rtekind == RTE_RELATION && fa_map_is_managed(rte->relid))
			return true;
	}
	return false;
}

static void
statement_forget(void *arg)
{
	for (Statement **link = &statements; *link; link = &(*link)->next)
	{
		if (*link == arg)
		{
			*link = (*link)->next;
			break;
		}
	}
}

static inline Statement *
statement_make(QueryDesc *query)
{
	Statement  *s = MemoryContextAlloc(query->estate->es_query_cxt,
									   sizeof(Statement));

	s->query = query;
	s->counted = false;
	return s;
}

static inline void
statement_add(Statement *s)
{
	MemoryContext context = s->query->estate->es_query_cxt;

	s->forget.func = statement_forget;
	s->forget.arg = s;
	MemoryContextRegisterResetCallback(context, &s->forget);
	s->next = statements;
	statements = s;
}

static inline Statement *
statement_find(QueryDesc *query)
{
	Statement  *s = statements;

	while (s && s->query != query)
		s = s->next;
	return s;
}

/* ExecutorStart of a plan that is kept here. */
static void
hooks_start_kept(QueryDesc *desc, int eflags, FaScanKeys *keys)
{
	PG_TRY();
	{
		fa_scan_keys_put(keys, desc->params);
		fa_executor_start(next_executor_start, desc, eflags);
	}
	PG_FINALLY();
	{
		fa_scan_keys_restore(keys);
	}
	PG_END_TRY();
}

/*
 * ExecutorStart of a statement of ours, whose plan is the one to be run; keys: of
 * a kept one, or NULL.
 */
static void
hooks_start_ours(QueryDesc *desc, int eflags, FaScanKeys *keys)
{
	bool		foreign = fa_fdw_plan_has_foreign(desc->plannedstmt);
	Statement  *s;
	int64		started_ns;
	bool		counted;

	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY) && !fa_maintenance)
		fa_snapshot_guard_check(desc, queries == 1);
	fa_column_rights_start(desc->plannedstmt);
	counted = fa_capture_wants(desc, eflags, foreign, &started_ns);
	if (keys)
		hooks_start_kept(desc, eflags, keys);
	else
		fa_executor_start(next_executor_start, desc, eflags);
	s = statement_make(desc);
	if (counted)
		s->counted = fa_capture_begin(&s->execution, desc, started_ns);
	fa_take_row_started(desc);
	fa_leaf_started(desc);
	fa_as_of_started(desc);
	if (foreign && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		fa_own_changes_started(desc);
	statement_add(s);
}

/* ExecutorStart while the isolation level is raised. */
static void
hooks_start_raised(QueryDesc *desc, int eflags, bool ours, FaScanKeys *keys)
{
	PG_TRY();
	{
		if (ours)
			hooks_start_ours(desc, eflags, keys);
		else
			fa_executor_start(next_executor_start, desc, eflags);
	}
	PG_FINALLY();
	{
		fa_isolation_restore(true);
	}
	PG_END_TRY();
}

/*
 * A function that is parallel safe where tables are on one server may read other
 * nodes in a parallel worker, which has sessions of its own there: without what this
 * transaction has written, and with snapshots of their own.  Where that makes a
 * difference, the plan is run without workers.  invalItems: there are users' functions.
 */
static inline void
hooks_run_without_workers(QueryDesc *desc)
{
	PlannedStmt *plan = desc->plannedstmt;

	if (!plan->parallelModeNeeded || plan->invalItems == NIL || fa_maintenance ||
		!(fa_xact_has_parts() || (IsolationUsesXactSnapshot() && fa_extension_exists())))
		return;
	/* it may be the plan cache's */
	desc->plannedstmt = MemoryContextAlloc(GetMemoryChunkContext(desc),
										   sizeof(PlannedStmt));
	*desc->plannedstmt = *plan;
	desc->plannedstmt->parallelModeNeeded = false;
}

static void
hooks_executor_start(QueryDesc *desc, int eflags)
{
	bool		deferred = fa_deferred_is(desc->plannedstmt);
	bool		ours = deferred ||
		(!fa_maintenance && !IsParallelWorker() &&
		 hooks_is_ours(desc->plannedstmt));
	FaScanKeys *keys = NULL;
	MemoryContext planned = NULL;
	bool		raised;

	if (deferred)
		keys = fa_deferred_start(desc, &planned);
	hooks_run_without_workers(desc);
	hooks_know_transaction();
	queries++;
	fa_as_of_apply(desc);
	raised = fa_isolation_raise();
	if (!raised)
	{
		if (ours)
			hooks_start_ours(desc, eflags, keys);
		else
			fa_executor_start(next_executor_start, desc, eflags);
	}
	else
		hooks_start_raised(desc, eflags, ours, keys);
	if (planned)
		MemoryContextSetParent(planned, desc->estate->es_query_cxt);
}

/* Raises the error that was caught, in the words of the user's table. */
static void
hooks_raise(MemoryContext caller, bool changes)
{
	ErrorData  *edata;

	if (geterrcode() != ERRCODE_CHECK_VIOLATION)
		PG_RE_THROW();
	MemoryContextSwitchTo(caller);
	edata = CopyErrorData();
	FlushErrorState();
	fa_refusal_of_row(edata, changes);
	ReThrowError(edata);
}

/* s: NULL for a statement that is not ours. */
static void
hooks_run_ours(Statement *s, FA_EXECUTOR_RUN_PARAMS)
{
	CmdType		operation = queryDesc->operation;
	FaExecution *execution = s && s->counted ? &s->execution : NULL;
	MemoryContext caller = CurrentMemoryContext;
	bool		pushed = s && fa_deferred_push_snapshot(queryDesc);
	bool		raised = fa_isolation_raise();
	FaCaptureSpan span;

	fa_capture_enter(execution, &span);
	PG_TRY();
	{
		next_executor_run(FA_EXECUTOR_RUN_ARGS);
	}
	PG_CATCH();
	{
		fa_isolation_restore(raised);
		fa_capture_fail(&span);
		if (s && !fa_maintenance &&
			(operation == CMD_INSERT || operation == CMD_UPDATE ||
			 operation == CMD_MERGE))
			hooks_raise(caller, operation != CMD_INSERT);
		PG_RE_THROW();
	}
	PG_END_TRY();
	fa_isolation_restore(raised);
	if (execution)
		fa_capture_ran(execution, queryDesc);
	fa_capture_leave(execution, &span);
	if (pushed)
		PopActiveSnapshot();
}

static void
hooks_executor_run(FA_EXECUTOR_RUN_PARAMS)
{
	Statement  *s = statement_find(queryDesc);
	Snapshot	outer = renewable;
	ErrorContextCallback context = {error_context_stack, fa_deadlock_error_context};

	renewable = NULL;
	error_context_stack = &context;
	if (s || XactIsoLevel == XACT_REPEATABLE_READ)
		hooks_run_ours(s, FA_EXECUTOR_RUN_ARGS);
	else
		next_executor_run(FA_EXECUTOR_RUN_ARGS);
	if (s)
		fa_late_settle();
	error_context_stack = context.previous;
	renewable = outer;
}

/* Is there more to do for a modification than to say that it is over? */
static bool
hooks_finish_takes_time(QueryDesc *desc)
{
	ModifyTableState *top = (ModifyTableState *) desc->planstate;

	/* what is not done yet; rows that were routed; triggers that wait */
	return !IsA(top, ModifyTableState) || top->mt_nrels != 1 ||
		desc->estate->es_auxmodifytables != NIL ||
		desc->estate->es_tuple_routing_result_relations != NIL ||
		top->resultRelInfo->ri_TrigDesc != NULL;
}

static void
hooks_finish_counted(FaExecution *execution, QueryDesc *desc)
{
	FaCaptureSpan span;

	fa_capture_enter(execution, &span);
	PG_TRY();
	{
		next_executor_finish(desc);
	}
	PG_CATCH();
	{
		fa_capture_fail(&span);
		PG_RE_THROW();
	}
	PG_END_TRY();
	fa_capture_leave(execution, &span);
}

static void
hooks_executor_finish(QueryDesc *desc)
{
	/* a query that only reads has nothing to finish */
	Statement  *s = desc->operation == CMD_SELECT ? NULL : statement_find(desc);

	if (s && s->counted && hooks_finish_takes_time(desc))
		hooks_finish_counted(&s->execution, desc);
	else
		next_executor_finish(desc);
	if (desc->operation == CMD_UPDATE || desc->plannedstmt->hasModifyingCTE)
		fa_fdw_leave_finish(desc);
}

static void
hooks_executor_end(QueryDesc *desc)
{
	Statement  *s = statement_find(desc);

	if (s)
	{
		if (s->counted)
			fa_capture_end(&s->execution, desc);
		statement_forget(s);
	}
	next_executor_end(desc);
}

/* The arguments of the hook of utility commands. */
#define COMMAND_PARAMS \
	PlannedStmt *pstmt, const char *query_string, bool read_only_tree, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc
#define COMMAND_ARGS \
	pstmt, query_string, read_only_tree, context, params, env, dest, qc

static void
hooks_transaction(COMMAND_PARAMS)
{
	TransactionStmt *statement = (TransactionStmt *) pstmt->utilityStmt;
	bool		lower = fa_isolation_is_peers_begin(statement);

	if (context == PROCESS_UTILITY_TOPLEVEL &&
		fa_peer_transaction(statement, qc))
		return;
	if (statement->kind == TRANS_STMT_SAVEPOINT)
		fa_late_begin_all();
	next_process_utility(COMMAND_ARGS);
	if (lower)
		fa_isolation_lower();
}

static void
hooks_run_command(COMMAND_PARAMS, bool copies)
{
	Node	   *statement = pstmt->utilityStmt;
	void	   *counted;
	FaDdlPlan	plan;

	fa_guard_before(statement, context == PROCESS_UTILITY_SUBCOMMAND, &plan);
	pstmt = fa_guard_statement(pstmt, &plan);
	if (plan.instead)
	{
		PlannedStmt *changed = makeNode(PlannedStmt);

		*changed = *pstmt;
		changed->utilityStmt = plan.instead;
		pstmt = changed;
	}
	counted = fa_capture_command_begin(statement);
	/* who comes behind us wants to see it, too */
	if (!copies || next_process_utility != standard_ProcessUtility ||
		!fa_copy_run(pstmt, query_string, qc))
		next_process_utility(COMMAND_ARGS);
	if (counted)
		fa_capture_command_end(statement, counted, qc ? qc->nprocessed : 0);
	fa_guard_after(query_string, pstmt, &plan);
}

/*
 * Commands that plan a query and then run it on the snapshot that they had before:
 * in READ COMMITTED they get one that can be replaced in between.
 */
static bool
hooks_push_renewable(Node *statement, ProcessUtilityContext context)
{
	if (context != PROCESS_UTILITY_TOPLEVEL || IsolationUsesXactSnapshot() ||
		!ActiveSnapshotSet() ||
		!(IsA(statement, DeclareCursorStmt) || IsA(statement, CreateTableAsStmt) ||
		  IsA(statement, ExplainStmt) || IsA(statement, ExecuteStmt) ||
		  (IsA(statement, CopyStmt) && ((CopyStmt *) statement)->query)))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	renewable = GetActiveSnapshot();
	return true;
}

static void
hooks_command(COMMAND_PARAMS)
{
	Node	   *statement = pstmt->utilityStmt;
	MemoryContext caller = CurrentMemoryContext;
	Snapshot	outer = renewable;
	bool		pushed = hooks_push_renewable(statement, context);
	volatile bool copies = false;
	volatile bool raised = false;

	in_commands++;
	PG_TRY();
	{
		if (IsA(statement, CopyStmt))
		{
			copies = fa_copy_begin(statement);
			raised = fa_isolation_raise();
		}
		hooks_run_command(COMMAND_ARGS, copies);
		if (copies)
			fa_fdw_copy_end();
		/* one WITH HOLD would do so twice: it is read anew at the commit */
		if (IsA(statement, DeclareCursorStmt) &&
			!(((DeclareCursorStmt *) statement)->options & CURSOR_OPT_HOLD))
			fa_late_begin_all();
	}
	PG_CATCH();
	{
		in_commands--;
		renewable = outer;
		fa_isolation_restore(raised);
		if (copies)
		{
			fa_fdw_copy_forget();
			hooks_raise(caller, false);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	in_commands--;
	renewable = outer;
	if (pushed)
		PopActiveSnapshot();
	fa_isolation_restore(raised);
}

/*
 * A peer's command for somebody whose code may run in it: SET ROLE would let that
 * code become the superuser again.
 */
static void
hooks_command_as(COMMAND_PARAMS)
{
	FaDdlState	ourselves;

	fa_ddl_become(get_role_oid(fa_run_as, false), &ourselves);
	hooks_command(COMMAND_ARGS);
	fa_ddl_become_ourselves(&ourselves);
}

static void
hooks_process_utility(COMMAND_PARAMS)
{
	hooks_know_transaction();
	commands++;
	switch (nodeTag(pstmt->utilityStmt))
	{
		case T_TransactionStmt:
			hooks_transaction(COMMAND_ARGS);
			break;
		case T_VariableSetStmt:
		case T_VariableShowStmt:
			/* nothing to do with tables, nor do they run statements */
			if (!fa_act_as(pstmt->utilityStmt, context))
				next_process_utility(COMMAND_ARGS);
			break;
		default:
			if (fa_maintenance && fa_run_as[0] != '\0' &&
				context == PROCESS_UTILITY_TOPLEVEL)
				hooks_command_as(COMMAND_ARGS);
			else
				hooks_command(COMMAND_ARGS);
			break;
	}
}

void
fa_hooks_init(void)
{
	next_executor_start = ExecutorStart_hook ? ExecutorStart_hook :
		standard_ExecutorStart;
	ExecutorStart_hook = hooks_executor_start;
	fa_executor_start_init();
	next_executor_run = ExecutorRun_hook ? ExecutorRun_hook :
		standard_ExecutorRun;
	ExecutorRun_hook = hooks_executor_run;
	next_executor_finish = ExecutorFinish_hook ? ExecutorFinish_hook :
		standard_ExecutorFinish;
	ExecutorFinish_hook = hooks_executor_finish;
	next_executor_end = ExecutorEnd_hook ? ExecutorEnd_hook :
		standard_ExecutorEnd;
	ExecutorEnd_hook = hooks_executor_end;
	next_process_utility = ProcessUtility_hook ? ProcessUtility_hook :
		standard_ProcessUtility;
	ProcessUtility_hook = hooks_process_utility;
}
