/*
 * peer_session.c
 *	  How a session behaves that works for a peer.
 *
 * When the peer has prepared its transaction through postgres_fdw,
 * postgres_fdw itself does not know, and ends it once more.  That is not worth
 * a warning for each commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/utility.h"

#include "core/settings.h"
#include "node/cluster_xact.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

/* COMMIT or ROLLBACK of nothing: the answer is as ever. */
static bool
peer_ends_nothing(TransactionStmt *stmt, QueryCompletion *qc)
{
	if ((stmt->kind != TRANS_STMT_COMMIT && stmt->kind != TRANS_STMT_ROLLBACK) ||
		stmt->chain || IsTransactionBlock())
		return false;
	if (qc)
		SetQueryCompletion(qc, stmt->kind == TRANS_STMT_COMMIT ?
						   CMDTAG_COMMIT : CMDTAG_ROLLBACK, 0);
	return true;
}

static void
peer_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (fa_origin != 0 && context == PROCESS_UTILITY_TOPLEVEL &&
		IsA(pstmt->utilityStmt, TransactionStmt) &&
		peer_ends_nothing((TransactionStmt *) pstmt->utilityStmt, qc))
		return;
	if (prev_process_utility)
		prev_process_utility(pstmt, query_string, read_only_tree, context,
							 params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context,
								params, env, dest, qc);
}

void
fa_peer_session_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = peer_utility;
}
