/*
 * remote_cancel.c
 *	  Cancels a statement on a peer, in bounded time.
 *
 * libpq's PQcancel() connects and waits without a bound that we could set, and
 * without a look at interrupts: over a link that swallows packets, a backend
 * would hang in it.  So the peer is asked by pg_cancel_backend() on a connection
 * that is opened with the options of the one to cancel, step by step.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "node/remote.h"

#define DIE_TIMEOUT_MS 1000

/* False when time is over. */
static bool
cancel_wait(PGconn *pg, int event, TimestampTz *end)
{
	long		left;

	if (ProcDiePending)
		*end = Min(*end, TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 DIE_TIMEOUT_MS));
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), *end);
	if (left <= 0)
		return false;
	/* not for the latch: it stays set for whom it is meant */
	(void) WaitLatchOrSocket(NULL, event | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 PQsocket(pg), Min(left, DIE_TIMEOUT_MS),
							 PG_WAIT_EXTENSION);
	return true;
}

/* Opens a connection with the options of another; NULL when that fails. */
static PGconn *
cancel_connect(PGconn *model, TimestampTz *end)
{
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	PQconninfoOption *options = PQconninfo(model);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	PGconn	   *pg;
	int			n = 0;

	for (PQconninfoOption *o = options; o && o->keyword; o++)
	{
		if (o->val == NULL || n == FA_MAX_KEYWORDS - 1)
			continue;
		keywords[n] = o->keyword;
		values[n++] = o->val;
	}
	keywords[n] = NULL;
	values[n] = NULL;
	pg = options ? PQconnectStartParams(keywords, values, false) : NULL;
	while (pg && status != PGRES_POLLING_OK)
	{
		if (PQstatus(pg) == CONNECTION_BAD || status == PGRES_POLLING_FAILED ||
			!cancel_wait(pg, status == PGRES_POLLING_READING ?
						 WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, end))
		{
			PQfinish(pg);
			pg = NULL;
			break;
		}
		status = PQconnectPoll(pg);
	}
	PQconninfoFree(options);
	return pg;
}

bool
fa_remote_cancel(FaConn *conn, int timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  timeout_ms);
	PGconn	   *pg = cancel_connect(conn->pg, &end);
	char		sql[64];
	PGresult   *res = NULL;
	bool		asked = false;

	if (pg == NULL)
		return false;
	snprintf(sql, sizeof(sql), "SELECT pg_catalog.pg_cancel_backend(%d)",
			 PQbackendPID(conn->pg));
	if (PQsendQuery(pg, sql))
	{
		while (PQisBusy(pg))
		{
			if (!cancel_wait(pg, WL_SOCKET_READABLE, &end) ||
				!PQconsumeInput(pg))
				break;
		}
		res = PQisBusy(pg) ? NULL : PQgetResult(pg);
		asked = PQresultStatus(res) == PGRES_TUPLES_OK;
		PQclear(res);
	}
	PQfinish(pg);
	return asked;
}
