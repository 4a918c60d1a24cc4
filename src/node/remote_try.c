/*
 * remote_try.c
 *	  SQL on a peer that may fail: nothing here raises.
 *
 * For what must be done after an error, or goes on without the peer.  Waits do
 * not serve interrupts, so each has a deadline.
 */
#include "postgres.h"

#include <poll.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/format.h"
#include "core/settings.h"
#include "node/remote.h"

/* Waits for more of the answer, without serving interrupts: false if none. */
static bool
remote_try_read(PGconn *pg, TimestampTz deadline)
{
	long		left = fa_remote_time_left(deadline);

	if (left == 0 ||
		(WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH |
						   (left > 0 ? WL_TIMEOUT : 0), PQsocket(pg), left,
						   PG_WAIT_EXTENSION) & WL_TIMEOUT))
		return false;
	return PQconsumeInput(pg);
}

/* Waits until the answer goes on: false if it does not. */
static bool
remote_try_wait(PGconn *pg, TimestampTz deadline)
{
	while (PQisBusy(pg))
	{
		if (!remote_try_read(pg, deadline))
			return false;
	}
	return true;
}

/* The rest of COPY's data. */
static bool
remote_try_skip_copy(PGconn *pg, TimestampTz deadline)
{
	char	   *data;
	int			len;

	while ((len = PQgetCopyData(pg, &data, 1)) >= 0)
	{
		if (len > 0)
			PQfreemem(data);
		else if (!remote_try_read(pg, deadline))
			return false;
	}
	return len == -1;
}

bool
fa_remote_try_drain(FaConn *conn, int timeout_ms)
{
	TimestampTz deadline = fa_remote_deadline(timeout_ms);
	PGresult   *res;

	while (conn->pg && remote_try_wait(conn->pg, deadline))
	{
		ExecStatusType status;

		if ((res = PQgetResult(conn->pg)) == NULL)
			return true;
		status = PQresultStatus(res);
		PQclear(res);
		if (status == PGRES_COPY_OUT && !remote_try_skip_copy(conn->pg, deadline))
			break;
	}
	return false;
}

bool
fa_remote_try_send(FaConn *conn, const char *sql)
{
	return conn->pg != NULL && PQsendQuery(conn->pg, sql);
}

bool
fa_remote_try_receive(FaConn *conn, int timeout_ms, char **error_p,
					  int *sqlstate_p)
{
	TimestampTz deadline = fa_remote_deadline(timeout_ms);
	int			sqlstate = ERRCODE_CONNECTION_FAILURE;
	PGresult   *res;

	while (conn->pg && remote_try_wait(conn->pg, deadline))
	{
		const char *state;

		if ((res = PQgetResult(conn->pg)) == NULL)
			return true;
		if (PQresultStatus(res) == PGRES_COMMAND_OK ||
			PQresultStatus(res) == PGRES_TUPLES_OK)
		{
			PQclear(res);
			continue;
		}
		state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		if (state && strlen(state) == 5)
			sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3],
									 state[4]);
		if (error_p)
			*error_p = pchomp(PQresultErrorMessage(res));
		error_p = NULL;
		PQclear(res);
		/* the rest of the answer is a ReadyForQuery */
		while (remote_try_wait(conn->pg, deadline) &&
			   (res = PQgetResult(conn->pg)) != NULL)
			PQclear(res);
		break;
	}
	if (error_p)
		*error_p = conn->pg ? pchomp(PQerrorMessage(conn->pg)) :
			pstrdup("connection is closed");
	if (sqlstate_p)
		*sqlstate_p = sqlstate;
	return false;
}

bool
fa_remote_is_usable(FaConn *conn, TimestampTz used)
{
	struct pollfd fd;

	if (conn->pg == NULL || PQstatus(conn->pg) != CONNECTION_OK)
		return false;
	/* what it ends while a statement is under way would be an error */
	if (fa_peer_idle_timeout > 0 &&
		TimestampDifferenceExceeds(used, GetCurrentStatementStartTimestamp(),
								   fa_peer_idle_timeout - fa_peer_idle_timeout / 8))
		return false;
	fd.fd = PQsocket(conn->pg);
	fd.events = POLLIN;
	fd.revents = 0;
	/* first the message that says so, then the end of the stream */
	while (poll(&fd, 1, 0) > 0)
	{
		if (!PQconsumeInput(conn->pg) || PQstatus(conn->pg) != CONNECTION_OK)
			return false;
	}
	return true;
}

bool
fa_remote_try(FaConn *conn, int timeout_ms, char **error_p,
			  const char *fmt,...)
{
	char	   *sql;
	bool		sent;

	FA_FORMAT(sql, fmt);
	sent = fa_remote_try_send(conn, sql);
	pfree(sql);
	if (sent)
		return fa_remote_try_receive(conn, timeout_ms, error_p, NULL);
	if (error_p)
		*error_p = conn->pg ? pchomp(PQerrorMessage(conn->pg)) :
			pstrdup("connection is closed");
	return false;
}
