/*
 * negotiate.c
 *	  Which transport goes between these two processes: the receiver tries,
 *	  best first, before there is anything to send.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "core/shmem.h"
#include "transport/transport_stats.h"

#define ANSWER_MS	15000		/* for the sender to have tried */
#define UP_MS		5000		/* for its success to be seen here */

/* The secret for the channels of the peer's session. */
static void
negotiate_secret(FaConn *conn, char *secret)
{
	char	   *hex = fa_remote_value(conn, ANSWER_MS,
									  "SELECT pg_catalog.encode(fragaffinity.transport_secret(), 'hex')");

	if (hex == NULL || strlen(hex) != FA_TRANSPORT_SECRET * 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("node \"%s\" has sent no secret for a transport",
						conn->name)));
	(void) hex_decode(hex, FA_TRANSPORT_SECRET * 2, secret);
	memset(hex, 0, FA_TRANSPORT_SECRET * 2);
}

/*
 * Lets the channel do its part until the connection has an answer, or, with
 * up, until the channel is up.  False when that does not come.
 */
static bool
negotiate_wait(FaChannel *channel, bool up)
{
	PGconn	   *pg = channel->conn->pg;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   up ? UP_MS : ANSWER_MS);

	for (;;)
	{
		FaTransportStatus status = FA_TRANSPORT_AGAIN;
		FaTransportEvent event;
		long		left;

		if (!PQconsumeInput(pg))
			fa_remote_raise(channel->conn, NULL, NULL);
		if (!up && !PQisBusy(pg))
			return true;
		if (!channel->up)
			status = channel->ops->poll(channel, &event);
		if (up && channel->up)
			return true;
		if (status != FA_TRANSPORT_AGAIN)
			return false;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left == 0)
		{
			(void) fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								   "no answer within %d ms",
								   up ? UP_MS : ANSWER_MS);
			return false;
		}
		fa_channel_wait(channel, PQsocket(pg), left);
	}
}

/* The answer of open_transport(): why not, or NULL. */
static char *
negotiate_answer(FaChannel *channel, const char *sql)
{
	char	   *why = NULL;
	PGresult   *res;

	while ((res = fa_remote_get_result(channel->conn, ANSWER_MS)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1)
			fa_remote_raise(channel->conn, res, sql);
		if (!PQgetisnull(res, 0, 0))
			why = pstrdup(PQgetvalue(res, 0, 0));
		PQclear(res);
	}
	return why;
}

/* Brings the channel up; NULL, or why not. */
static char *
negotiate_try(FaChannel *channel, FaTransportStatus status)
{
	FaTransportAddress address = {.len = 0};
	char		hex[FA_TRANSPORT_ADDRESS_MAX * 2 + 1];
	char	   *sql;
	char	   *why;

	if (status == FA_TRANSPORT_OK)
		status = channel->ops->listen(channel, &address);
	if (status != FA_TRANSPORT_OK)
		return channel->why;
	fa_stop_point("transport_listen");
	hex[hex_encode(address.data, address.len, hex)] = '\0';
	sql = psprintf("SELECT fragaffinity.open_transport('%s', '\\x%s', %zu)",
				   channel->ops->name, hex, channel->max_message);
	fa_remote_send(channel->conn, sql);
	(void) negotiate_wait(channel, false);
	why = negotiate_answer(channel, sql);
	if (why)
		return why;
	return negotiate_wait(channel, true) ? NULL : channel->why;
}

FaChannel *
fa_channel_negotiate(FaConn *conn, const char *names, Size max_message,
					 char **why_p)
{
	char		secret[FA_TRANSPORT_SECRET];
	StringInfoData refused;
	List	   *list;
	ListCell   *lc;

	initStringInfo(&refused);
	if (!SplitIdentifierString(pstrdup(names), ',', &list))
		elog(ERROR, "invalid list of transports");
	negotiate_secret(conn, secret);
	foreach(lc, list)
	{
		const FaTransportOps *ops = fa_transport_find(lfirst(lc));
		FaChannel  *channel = NULL;
		FaTransportStatus status;
		const char *why;

		if (ops)
		{
			channel = fa_channel_open(ops, true, conn, max_message, secret,
									  &status);
			channel = fa_transport_with_faults(channel);
			why = negotiate_try(channel, status);
		}
		else
			why = "it is not in this build";
		if (why == NULL)
		{
			*why_p = refused.data;
			fa_transport_count(channel, FA_TRANSPORT_OPENED);
			return channel;
		}
		appendStringInfo(&refused, "%s%s: %s", refused.len ? "; " : "",
						 (char *) lfirst(lc), why);
		if (channel)
			fa_transport_count(channel, FA_TRANSPORT_REFUSED);
		fa_channel_close(channel);
	}
	*why_p = refused.data;
	return NULL;
}
