/*
 * isolation.c
 *	  A client's isolation level on the nodes that work for it.
 *
 * postgres_fdw runs every remote transaction in REPEATABLE READ at least.  For
 * a client in READ COMMITTED that is stricter than what it would see on one
 * server: a row changed meanwhile, or a fragment that has moved to a node
 * where its transaction has been before, would end in 40001.  So a peer's
 * session runs such a transaction in READ COMMITTED.
 *
 * postgres_fdw does not tell REPEATABLE READ from READ COMMITTED, but it does
 * pass SERIALIZABLE on.  While a client in REPEATABLE READ executes, its level
 * is therefore shown as SERIALIZABLE to postgres_fdw, and the peer runs its
 * part as such: stricter, and with errors that REPEATABLE READ has to expect
 * as well.  Locally nothing changes: its snapshot is taken by then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "route/gate.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* Must postgres_fdw be told a stricter level than the transaction's? */
static bool
isolation_must_raise(void)
{
	return XactIsoLevel == XACT_REPEATABLE_READ && FirstSnapshotSet &&
		!fa_maintenance;
}

static void
isolation_start(QueryDesc *desc, int eflags)
{
	if (prev_executor_start)
		prev_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
}

static void
isolation_executor_start(QueryDesc *desc, int eflags)
{
	/* the way of nearly all statements: nothing to set up or restore */
	if (!isolation_must_raise())
	{
		isolation_start(desc, eflags);
		return;
	}
	XactIsoLevel = XACT_SERIALIZABLE;
	PG_TRY();
	{
		isolation_start(desc, eflags);
	}
	PG_FINALLY();
	{
		XactIsoLevel = XACT_REPEATABLE_READ;
	}
	PG_END_TRY();
}

static void
isolation_run(FA_EXECUTOR_RUN_PARAMS)
{
	if (prev_executor_run)
		prev_executor_run(FA_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(FA_EXECUTOR_RUN_ARGS);
}

static void
isolation_executor_run(FA_EXECUTOR_RUN_PARAMS)
{
	if (!isolation_must_raise())
	{
		isolation_run(FA_EXECUTOR_RUN_ARGS);
		return;
	}
	XactIsoLevel = XACT_SERIALIZABLE;
	PG_TRY();
	{
		isolation_run(FA_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		XactIsoLevel = XACT_REPEATABLE_READ;
	}
	PG_END_TRY();
}

/* Is it postgres_fdw's START TRANSACTION ISOLATION LEVEL REPEATABLE READ? */
static bool
isolation_is_peers_begin(Node *statement)
{
	ListCell   *lc;

	if (fa_origin == 0 || fa_maintenance || !IsA(statement, TransactionStmt) ||
		((TransactionStmt *) statement)->kind != TRANS_STMT_START)
		return false;
	foreach(lc, ((TransactionStmt *) statement)->options)
	{
		DefElem    *def = lfirst(lc);
		A_Const    *value = (A_Const *) def->arg;

		if (strcmp(def->defname, "transaction_isolation") == 0 &&
			strcmp(strVal(&value->val), "repeatable read") == 0)
			return true;
	}
	return false;
}

static void
isolation_process(PlannedStmt *pstmt, const char *query_string,
				  bool read_only_tree, ProcessUtilityContext context,
				  ParamListInfo params, QueryEnvironment *env,
				  DestReceiver *dest, QueryCompletion *qc)
{
	prev_process_utility(pstmt, query_string, read_only_tree, context,
						 params, env, dest, qc);
}

static void
isolation_utility(PlannedStmt *pstmt, const char *query_string,
				  bool read_only_tree, ProcessUtilityContext context,
				  ParamListInfo params, QueryEnvironment *env,
				  DestReceiver *dest, QueryCompletion *qc)
{
	bool		peers_begin = isolation_is_peers_begin(pstmt->utilityStmt);
	bool		raise = IsA(pstmt->utilityStmt, CopyStmt) &&
		isolation_must_raise();

	if (!raise)
		isolation_process(pstmt, query_string, read_only_tree, context, params,
						  env, dest, qc);
	else
	{
		XactIsoLevel = XACT_SERIALIZABLE;
		PG_TRY();
		{
			isolation_process(pstmt, query_string, read_only_tree, context,
							  params, env, dest, qc);
		}
		PG_FINALLY();
		{
			XactIsoLevel = XACT_REPEATABLE_READ;
		}
		PG_END_TRY();
	}
	if (peers_begin)
		(void) set_config_option("transaction_isolation", "read committed",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);
}

void
fa_isolation_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = isolation_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = isolation_executor_run;
	prev_process_utility = ProcessUtility_hook ? ProcessUtility_hook :
		standard_ProcessUtility;
	ProcessUtility_hook = isolation_utility;
}
