/*
 * remote_copy.c
 *	  COPY ... TO STDOUT of a peer, message by message.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "node/remote.h"

void
fa_remote_copy_begin(FaConn *conn, int timeout_ms, const char *sql)
{
	PGresult   *res;

	fa_remote_send(conn, sql);
	while ((res = fa_remote_get_result(conn, timeout_ms)) != NULL &&
		   PQresultStatus(res) == PGRES_COMMAND_OK)
		PQclear(res);
	if (PQresultStatus(res) != PGRES_COPY_OUT)
		fa_remote_raise(conn, res, sql);
	PQclear(res);
}

int
fa_remote_copy_next(FaConn *conn, int timeout_ms, char **data_p)
{
	TimestampTz deadline = 0;

	for (;;)
	{
		int			len = PQgetCopyData(conn->pg, data_p, 1);
		long		left = -1;

		if (len > 0)
			return len;
		if (len == -1)
			return 0;
		if (len < -1)
			fa_remote_raise(conn, NULL, "COPY");
		if (timeout_ms > 0)
		{
			if (deadline == 0)
				deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   timeout_ms);
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   deadline);
			if (left == 0)
				ereport(ERROR,
						(errcode(ERRCODE_CONNECTION_FAILURE),
						 errmsg("node \"%s\" sent nothing within %d ms",
								conn->name, timeout_ms)));
		}
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE |
								 WL_EXIT_ON_PM_DEATH |
								 (left > 0 ? WL_TIMEOUT : 0),
								 PQsocket(conn->pg), left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (!PQconsumeInput(conn->pg))
			fa_remote_raise(conn, NULL, "COPY");
	}
}

bool
fa_remote_copy_end(FaConn *conn, int timeout_ms)
{
	PGresult   *res;

	while ((res = fa_remote_get_result(conn, timeout_ms)) != NULL)
	{
		ExecStatusType status = PQresultStatus(res);

		if (status != PGRES_COMMAND_OK && status != PGRES_COPY_OUT)
			fa_remote_raise(conn, res, "COPY");
		PQclear(res);
		if (status == PGRES_COPY_OUT)
			return true;
	}
	return false;
}
