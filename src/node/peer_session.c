/*
 * peer_session.c
 *	  How a session behaves that works for a peer.
 *
 * When the peer has prepared its transaction through postgres_fdw,
 * postgres_fdw itself does not know, and ends it once more.  That is not worth
 * a warning for each commit.
 *
 * And when this session has handed the peer's work on to other nodes, it hands
 * on its PREPARE TRANSACTION and what ends it, too (forward.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/utility.h"

#include "core/settings.h"
#include "node/cluster_xact.h"

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
		return peer_transaction(stmt, qc);
	peer_check_name(stmt);
	return false;
}
