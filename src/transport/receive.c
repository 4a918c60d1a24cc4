/*
 * receive.c
 *	  The receiver's end of a channel, while its peer executes statements that
 *	  send.
 *
 * The channel and the connection are watched together: messages come by the
 * one, the end of the statements and their errors by the other.  An error of
 * the peer's says more than a channel that broke because of it, so whatever
 * the connection has to say is heard first.
 *
 * Either may overtake the other.  So a last statement asks how many messages
 * the sender has posted, and so many are waited for.  With ROWS there is but
 * one way.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "core/shmem.h"
#include "transport/transport_stats.h"

#define DRAIN_POLL_MS	10
#define LAST_WORDS_MS	1000	/* for the connection to say why a channel broke */

/* A call: what was asked, and what has come of it. */
typedef struct Call
{
	FaChannel  *channel;
	const char *sql;
	FaMessageHandler handler;
	void	   *arg;
	bool		ended;			/* the statements */
	PGresult   *failed;			/* the one of them that did */
	int64		sent;			/* by the sender, ever; -1: it has not said */
} Call;

/* Forgets the messages that are there; false when the channel is broken. */
static bool
call_forget(FaChannel *channel)
{
	FaTransportEvent event;
	FaTransportStatus status;

	while ((status = channel->ops->poll(channel, &event)) == FA_TRANSPORT_OK)
		(void) channel->ops->release(channel);
	return status == FA_TRANSPORT_AGAIN;
}

/* A statement has failed: raises that; nothing of it is left unread. */
static void
call_failed(Call *call)
{
	(void) call_forget(call->channel);
	fa_remote_raise(call->channel->conn, call->failed, call->sql);
}

/* Reads what the connection has; raises what the statements raised. */
static void
call_progress(Call *call)
{
	FaChannel  *channel = call->channel;
	FaConn	   *conn = channel->conn;
	bool		rows = (channel->ops->capabilities & FA_TRANSPORT_ROWS) != 0;

	if (conn->pg == NULL || !PQconsumeInput(conn->pg))
		fa_remote_raise(conn, NULL, call->sql);
	while (!channel->copying && !call->ended && !PQisBusy(conn->pg))
	{
		PGresult   *res = PQgetResult(conn->pg);
		ExecStatusType status = PQresultStatus(res);

		if (res == NULL)
			call->ended = true;
		else if (status == PGRES_COPY_OUT && rows)
			channel->copying = true;
		else if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		{
			if (call->failed)
				PQclear(call->failed);
			call->failed = res;
			/* a lost connection has no end of its own */
			if (PQstatus(conn->pg) == CONNECTION_BAD)
				call->ended = true;
			continue;
		}
		else if (!rows && PQntuples(res) == 1 && PQnfields(res) == 4)
		{
			call->sent = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
			channel->gathered = strtoull(PQgetvalue(res, 0, 1), NULL, 10);
			channel->writes = strtoull(PQgetvalue(res, 0, 2), NULL, 10);
			channel->completions = strtoull(PQgetvalue(res, 0, 3), NULL, 10);
		}
		PQclear(res);
	}
	if (call->ended && call->failed)
		call_failed(call);
}

/* The channel is broken: raises, with the peer's words for it if it has any. */
static void
call_broken(Call *call, FaTransportStatus status)
{
	FaChannel  *channel = call->channel;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													LAST_WORDS_MS);

	channel->up = false;
	for (;;)
	{
		long		left;

		channel->copying = false;
		call_progress(call);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (status != FA_TRANSPORT_LOST || call->ended || left == 0)
			fa_channel_raise(channel, status);
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE |
								 WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 PQsocket(channel->conn->pg), left,
								 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Handles the messages that are there; any? */
static bool
call_take(Call *call)
{
	FaChannel  *channel = call->channel;
	FaTransportEvent event;
	FaTransportStatus status;
	bool		any = false;

	while ((status = channel->ops->poll(channel, &event)) == FA_TRANSPORT_OK)
	{
		any = true;
		fa_stop_point("transport_message");
		call->handler(call->arg, event.data, event.len);
		status = channel->ops->release(channel);
		if (status != FA_TRANSPORT_OK)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	if (status != FA_TRANSPORT_OK && status != FA_TRANSPORT_AGAIN)
		call_broken(call, status);
	return any;
}

/* Have all messages come? */
static bool
call_complete(Call *call)
{
	FaChannel  *channel = call->channel;

	if (!call->ended)
		return false;
	if (channel->ops->capabilities & FA_TRANSPORT_ROWS)
		return true;
	if (call->sent < (int64) channel->messages)
		call_broken(call, fa_channel_fail(channel, FA_TRANSPORT_VIOLATION,
										  "more messages came than the sender knows of"));
	return call->sent == (int64) channel->messages;
}

void
fa_channel_call(FaChannel *channel, int timeout_ms, const char *sql,
				FaMessageHandler handler, void *arg)
{
	Call		call = {
		.channel = channel, .sql = sql, .handler = handler, .arg = arg,
		.sent = -1
	};
	TimestampTz deadline;

	if (!(channel->ops->capabilities & FA_TRANSPORT_ROWS))
		call.sql = psprintf("%s; SELECT * FROM fragaffinity.messages_sent()", sql);
	fa_remote_send(channel->conn, call.sql);
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	for (;;)
	{
		long		left;
		bool		copying;

		call_progress(&call);
		copying = channel->copying;
		if (call_take(&call) || copying != channel->copying)
		{
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   timeout_ms);
			continue;
		}
		if (call_complete(&call))
		{
			fa_transport_tell(channel);
			return;
		}
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left == 0)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\" sent nothing within %d ms",
							channel->conn->name, timeout_ms)));
		fa_channel_wait(channel, PQsocket(channel->conn->pg), left);
	}
}

bool
fa_channel_drain(FaChannel *channel, int timeout_ms)
{
	PGconn	   *pg = channel->conn->pg;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   timeout_ms);

	(void) channel->ops->release(channel);
	/* rows come by the connection alone, and what is sent waits for room */
	while (!(channel->ops->capabilities & FA_TRANSPORT_ROWS) && pg &&
		   channel->up && PQisBusy(pg))
	{
		if (!call_forget(channel) || GetCurrentTimestamp() > deadline)
			return false;
		(void) WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT |
								 WL_EXIT_ON_PM_DEATH, PQsocket(pg),
								 DRAIN_POLL_MS, PG_WAIT_EXTENSION);
		if (!PQconsumeInput(pg))
			return false;
	}
	channel->copying = false;
	return fa_remote_try_drain(channel->conn, timeout_ms) &&
		channel->up && call_forget(channel);
}
