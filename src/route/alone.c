/*
 * alone.c
 *	  Is a statement alone in its transaction?
 *
 * Then it may run in a transaction of its own on another node: nothing before
 * it has to be seen, nothing after it can fail and would have to take it back.
 * So it must be the client's own statement (not a function's, nor of DO or CALL,
 * which go on after their COMMIT), the first of its transaction and, as far as
 * can be known, the last: outside of a transaction block, and in the extended
 * protocol followed by a Sync.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"

#include "core/fa_compat.h"
#include "route/route.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* Statements of any kind that this transaction has begun, nested ones too. */
static int	statements = 0;

/*
 * Commands around the one that runs.  DO and CALL may begin transactions, whose
 * first statement is not the client's.
 */
static int	commands = 0;

static void
alone_executor_start(QueryDesc *desc, int eflags)
{
	statements++;
	if (prev_executor_start)
		prev_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
}

static void
alone_utility(PlannedStmt *pstmt, const char *query_string,
			  bool read_only_tree, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *env,
			  DestReceiver *dest, QueryCompletion *qc)
{
	statements++;
	commands++;
	PG_TRY();
	{
		prev_process_utility(pstmt, query_string, read_only_tree, context,
							 params, env, dest, qc);
	}
	PG_FINALLY();
	{
		commands--;
	}
	PG_END_TRY();
}

static void
alone_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		statements = 0;
}

/* Is the client's next message, already here, a Sync? */
static bool
alone_sync_follows(void)
{
	bool		follows;

	if (!fa_client_has_sent())
		return false;
	pq_startmsgread();
	follows = pq_peekbyte() == 'S';
	pq_endmsgread();
	return follows;
}

/* in_commands: how many commands around it are the statement itself */
static bool
alone(int in_commands)
{
	if (statements != 1 || commands != in_commands || ActivePortal == NULL || IsTransactionBlock() ||
		IsSubTransaction() || XactIsoLevel != XACT_READ_COMMITTED ||
		whereToSendOutput != DestRemote ||
		TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	/* only the extended protocol's portals have a cached plan */
	return ActivePortal->cplan == NULL || alone_sync_follows();
}

bool
fa_statement_is_alone(void)
{
	return alone(0);
}

bool
fa_command_is_alone(void)
{
	return alone(1);
}

void
fa_alone_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = alone_executor_start;
	prev_process_utility = ProcessUtility_hook ? ProcessUtility_hook :
		standard_ProcessUtility;
	ProcessUtility_hook = alone_utility;
	RegisterXactCallback(alone_xact_callback, NULL);
}
