/*
 * remote_many.c
 *	  SQL on several peers at once: as slow as the slowest of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "core/format.h"
#include "node/remote.h"

typedef struct Connecting
{
	FaConn	   *conn;
	PostgresPollingStatusType status;
} Connecting;

/* Waits until one of the first n goes on, the latch or the deadline. */
static void
many_wait(Connecting *c, int n, long timeout_ms)
{
	WaitEventSet *set = fa_create_wait_event_set(n + 2);
	WaitEvent  *events = palloc(sizeof(WaitEvent) * (n + 2));
	int			nevents;
	bool		latch = false;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < n; i++)
		AddWaitEventToSet(set, c[i].status == PGRES_POLLING_WRITING ?
						  WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE,
						  PQsocket(c[i].conn->pg), NULL, &c[i]);
	nevents = WaitEventSetWait(set, timeout_ms, events, n + 2,
							   PG_WAIT_EXTENSION);
	/* before anything that may raise: the set holds a descriptor */
	FreeWaitEventSet(set);
	for (int i = 0; i < nevents; i++)
	{
		Connecting *ready = events[i].user_data;

		if (events[i].events & WL_LATCH_SET)
			latch = true;
		else if (ready)
			ready->status = PQconnectPoll(ready->conn->pg);
	}
	pfree(events);
	if (latch)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

List *
fa_remote_connect_many(List *nodes, int timeout_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   timeout_ms);
	Connecting *c = palloc(sizeof(Connecting) * (list_length(nodes) + 1));
	List	   *conns = NIL;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, nodes)
	{
		c[n].conn = fa_remote_connect_start(lfirst_int(lc));
		c[n].status = PGRES_POLLING_WRITING;
		conns = lappend(conns, c[n++].conn);
	}
	while (n > 0)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   deadline);

		if (left <= 0)
			fa_remote_connect_failed(c[0].conn, "The connection timed out.");
		many_wait(c, n, left);
		/* those that are ready make room for the last ones */
		for (int i = 0; i < n;)
		{
			if (c[i].status == PGRES_POLLING_FAILED)
				fa_remote_connect_failed(c[i].conn, NULL);
			if (c[i].status == PGRES_POLLING_OK)
				c[i] = c[--n];
			else
				i++;
		}
	}
	pfree(c);
	return conns;
}

void
fa_remote_exec_many(List *conns, int timeout_ms, const char *fmt,...)
{
	char	   *sql;
	ListCell   *lc;

	FA_FORMAT(sql, fmt);
	foreach(lc, conns)
		fa_remote_send(lfirst(lc), sql);
	foreach(lc, conns)
		fa_remote_receive(lfirst(lc), timeout_ms, sql);
}

List *
fa_remote_value_many(List *conns, int timeout_ms, const char *fmt,...)
{
	List	   *values = NIL;
	char	   *sql;
	ListCell   *lc;

	FA_FORMAT(sql, fmt);
	foreach(lc, conns)
		fa_remote_send(lfirst(lc), sql);
	foreach(lc, conns)
	{
		PGresult   *res = fa_remote_last_result(lfirst(lc), timeout_ms);

		if (!fa_remote_succeeded(res))
			fa_remote_raise(lfirst(lc), res, sql);
		values = lappend(values, PQntuples(res) == 0 || PQgetisnull(res, 0, 0) ? NULL :
						 pstrdup(PQgetvalue(res, 0, 0)));
		PQclear(res);
	}
	return values;
}
