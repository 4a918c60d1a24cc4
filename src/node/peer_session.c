/*
 * peer_session.c
 *	  How a session behaves that works for a peer.
 *
 * When the peer has prepared its transaction through postgres_fdw,
 * postgres_fdw itself does not know, and ends it once more.  That is not worth
 * a warning for each commit.
 *
 * Its client may be idle for hours; what it holds here is let go of by then, or
 * every client of every node would take a place of max_connections here.
 *
 * And when this session has handed the peer's work on to other nodes, it hands
 * on its PREPARE TRANSACTION and what ends it, too (forward.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/guc.h"

#include "core/settings.h"
#include "node/act_as.h"
#include "node/cluster_xact.h"

void
fa_peer_session_begin(void)
{
	static bool begun = false;
	char		ms[16];

	/* a parallel worker cannot set anything, and its leader has begun */
	if (begun || IsInParallelMode())
		return;
	begun = true;
	if (fa_peer_idle_timeout == 0 ||
		(IdleSessionTimeout > 0 && IdleSessionTimeout <= fa_peer_idle_timeout))
		return;
	/* weaker than the connection's options, which our own work has */
	snprintf(ms, sizeof(ms), "%d", fa_peer_idle_timeout);
	SetConfigOption("idle_session_timeout", ms, PGC_USERSET, PGC_S_DATABASE_USER);
}

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

/* Is it the name of a part of a transaction over several nodes? */
static bool
peer_is_part(const char *gid)
{
	return strncmp(gid, FA_GID_PREFIX, strlen(FA_GID_PREFIX)) == 0;
}

/* A client's own must not be taken for one, and finished by a resolver. */
static void
peer_check_name(TransactionStmt *stmt)
{
	if (stmt->kind == TRANS_STMT_PREPARE && peer_is_part(stmt->gid))
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("transaction identifier \"%s\" is reserved", stmt->gid),
				 errdetail("The prefix \"%s\" is reserved for parts of transactions over several nodes.",
						   FA_GID_PREFIX)));
}

/* True when the statement needs no more. */
static bool
peer_transaction(TransactionStmt *stmt, QueryCompletion *qc)
{
	/* what is deferred runs then, and a prepared one has an owner */
	if (stmt->kind == TRANS_STMT_COMMIT || stmt->kind == TRANS_STMT_PREPARE)
		fa_act_as_end();
	switch (stmt->kind)
	{
		case TRANS_STMT_PREPARE:
			if (peer_is_part(stmt->gid) && IsTransactionBlock() &&
				!IsAbortedTransactionBlockState())
				fa_xact_forward_prepare(stmt->gid);
			return false;
		case TRANS_STMT_COMMIT_PREPARED:
		case TRANS_STMT_ROLLBACK_PREPARED:
			if (peer_is_part(stmt->gid) && !IsTransactionBlock())
				fa_forward_finish(stmt->gid,
								  stmt->kind == TRANS_STMT_COMMIT_PREPARED);
			return false;
		default:
			return peer_ends_nothing(stmt, qc);
	}
}

bool
fa_peer_transaction(TransactionStmt *stmt, QueryCompletion *qc)
{
	if (fa_origin != 0)
	{
		fa_peer_session_begin();
		return peer_transaction(stmt, qc);
	}
	peer_check_name(stmt);
	return false;
}
