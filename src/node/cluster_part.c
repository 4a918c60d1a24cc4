/*
 * cluster_part.c
 *	  The parts of a transaction over several nodes: PREPARE, and what ends them.
 *
 * Peers are asked all at once, and then waited for, so that each step takes as
 * long as the farthest of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/shmem.h"
#include "node/cluster_part.h"
#include "node/cluster_xact.h"
#include "node/fdw.h"
#include "node/xact_stats.h"

#define FINISH_TIMEOUT_MS 5000

void
fa_parts_stop_point(List *parts, const char *client, const char *own)
{
	bool		fdw = false;
	ListCell   *lc;

	if (!fa_stop_point_is_set())
		return;
	foreach(lc, parts)
		fdw = fdw || ((FaPart *) lfirst(lc))->fdw;
	fa_stop_point(fdw ? client : own);
}

static void
part_prepare_context(void *arg)
{
	FaPart	   *part = arg;

	errcontext("preparing the transaction's part on node %d", part->node);
}

/*
 * Asks a part to prepare.  Not waiting for the answer leaves it to
 * part_receive_prepare() where that can be had.
 */
static void
part_send_prepare(FaPart *part, const char *gid, bool wait)
{
	ErrorContextCallback context = {error_context_stack,
	part_prepare_context, part};
	char	   *sql;

	part->gid = MemoryContextStrdup(GetMemoryChunkContext(part),
									quote_literal_cstr(gid));
	sql = psprintf("PREPARE TRANSACTION %s", part->gid);
	part->session = part->conn;
	error_context_stack = &context;
	if (part->fdw)
	{
		part->session = palloc0(sizeof(FaConn));
		part->session->pg = wait ? NULL :
			fa_fdw_session(part->user, part->server);
		part->session->node = part->node;
		part->session->name = psprintf("%d", part->node);
	}
	part->state = FA_PART_PREPARING;
	if (part->fdw && part->session->pg == NULL)
	{
		fa_fdw_exec(part->node, part->user, sql);
		part->state = FA_PART_PREPARED;
	}
	else
		fa_remote_send(part->session, sql);
	error_context_stack = context.previous;
}

/*
 * Waits for the answer.  An error of the peer is kept in *error_p, as the other
 * parts' answers have to be read all the same.
 */
static void
part_receive_prepare(FaPart *part, ErrorData **error_p)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback context = {error_context_stack,
	part_prepare_context, part};

	if (part->state != FA_PART_PREPARING)
		return;
	error_context_stack = &context;
	PG_TRY();
	{
		fa_remote_receive(part->session, 0, NULL);
		part->state = FA_PART_PREPARED;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* who cancels us does not want to wait; postgres_fdw cleans up */
		if (PQtransactionStatus(part->session->pg) == PQTRANS_ACTIVE)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		if (*error_p == NULL)
			*error_p = error;
	}
	PG_END_TRY();
	error_context_stack = context.previous;
}

void
fa_parts_prepare(List *parts, const char *gid)
{
	ErrorData  *error = NULL;
	ListCell   *lc;

	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		part_send_prepare(part, part->fdw ?
						  psprintf("%s:%d:%u", gid, part->node, part->user) :
						  psprintf("%s:%d", gid, part->node), false);
	}
	foreach(lc, parts)
	{
		part_receive_prepare(lfirst(lc), &error);
		if (error == NULL)
			fa_parts_stop_point(parts, "commit_prepared", "cluster_prepared");
	}
	if (error)
		ReThrowError(error);
}

void
fa_part_prepare(FaPart *part, const char *gid)
{
	part_send_prepare(part, gid, true);
}

/* Asks a part to end; no wait for the answer. */
static void
part_send_finish(FaPart *part, bool commit)
{
	char		sql[512];		/* a name has 200 characters at most */

	if (part->state != FA_PART_OPEN)
	{
		snprintf(sql, sizeof(sql), "%s PREPARED %s",
				 commit ? "COMMIT" : "ROLLBACK", part->gid);
		part->sent = fa_remote_try_send(part->conn, sql);
	}
	else if (part->enlisted)
		part->sent = fa_remote_try_send(part->conn, "ROLLBACK");
}

static void
part_receive_finish(FaPart *part, bool commit, int timeout_ms)
{
	char	   *error = NULL;
	int			sqlstate = ERRCODE_CONNECTION_FAILURE;

	if (part->state == FA_PART_OPEN && !part->enlisted)
		return;					/* closing the connection rolls back */
	if (part->sent && fa_remote_try_receive(part->conn, timeout_ms, &error,
											&sqlstate))
		return;
	if (part->fdw && sqlstate == ERRCODE_CONNECTION_FAILURE)
		fa_finish_drop(part->conn);

	/* A PREPARE that failed has left nothing; one in doubt is not our worry. */
	if (sqlstate == ERRCODE_UNDEFINED_OBJECT && !commit)
		return;
	if (sqlstate == ERRCODE_UNDEFINED_OBJECT)
		ereport(LOG,
				(errmsg("prepared transaction %s was finished by another process",
						part->gid)));
	else
	{
		fa_xact_count(FA_XACT_LEFT);
		ereport(WARNING,
				(errmsg("could not finish transaction %s on node %d",
						part->gid ? part->gid : "", part->node),
				 errdetail_internal("%s", error ? error : "no answer"),
				 errhint("The resolver will finish it.")));
	}
}

void
fa_parts_finish(List *parts, bool commit)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  FINISH_TIMEOUT_MS);
	ListCell   *lc;

	foreach(lc, parts)
		part_send_finish(lfirst(lc), commit);
	foreach(lc, parts)
	{
		int			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   end);

		part_receive_finish(lfirst(lc), commit, Max(left, 1));
	}
}
