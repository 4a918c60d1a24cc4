/*
 * send.c
 *	  The sender's end of a channel: the source's backend, while it executes
 *	  a statement of the mover's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/shmem.h"
#include "transport/transport_stats.h"

#define CONNECT_MS		5000	/* for the receiver to let us in */
#define ROOM_MS			30000	/* for it to release a message */
#define MAX_MESSAGE		(64 * 1024 * 1024)

PG_FUNCTION_INFO_V1(fa_sql_transport_secret);
PG_FUNCTION_INFO_V1(fa_sql_open_transport);
PG_FUNCTION_INFO_V1(fa_sql_messages_sent);

/* One at a time in a session. */
static struct
{
	MemoryContext context;		/* the channel's */
	FaChannel  *channel;
	bool		has_secret;
	char		secret[FA_TRANSPORT_SECRET];
}			session;

static void
session_close(void)
{
	if (session.context)
		MemoryContextDelete(session.context);
	session.context = NULL;
	session.channel = NULL;
}

/* transport_secret(): a new one; it ends the channel that had the old one */
Datum
fa_sql_transport_secret(PG_FUNCTION_ARGS)
{
	bytea	   *result = palloc(VARHDRSZ + FA_TRANSPORT_SECRET);

	session_close();
	session.has_secret = pg_strong_random(session.secret,
										  FA_TRANSPORT_SECRET);
	if (!session.has_secret)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	SET_VARSIZE(result, VARHDRSZ + FA_TRANSPORT_SECRET);
	memcpy(VARDATA(result), session.secret, FA_TRANSPORT_SECRET);
	PG_RETURN_BYTEA_P(result);
}

/* Connects; NULL, or why not. */
static char *
session_connect(FaChannel *channel, const FaTransportAddress *address)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   CONNECT_MS);
	FaTransportStatus status;

	fa_stop_point("transport_connect");
	while ((status = channel->ops->connect(channel, address)) ==
		   FA_TRANSPORT_AGAIN)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   deadline);

		if (left == 0)
			return psprintf("no connection within %d ms", CONNECT_MS);
		fa_channel_wait(channel, PGINVALID_SOCKET, left);
	}
	return status == FA_TRANSPORT_OK ? NULL : pstrdup(channel->why);
}

/*
 * open_transport(name, address, max_message): connects this session to the
 * receiver that listens there; null, or why it could not be
 */
Datum
fa_sql_open_transport(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bytea	   *data = PG_GETARG_BYTEA_PP(1);
	int			max_message = PG_GETARG_INT32(2);
	const FaTransportOps *ops = fa_transport_find(name);
	FaTransportAddress address = {.len = VARSIZE_ANY_EXHDR(data)};
	FaTransportStatus status;
	MemoryContext old;
	char	   *why;

	if (address.len > FA_TRANSPORT_ADDRESS_MAX || max_message < 1 ||
		max_message > MAX_MESSAGE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid address or message size of a transport")));
	if (!session.has_secret)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this session has no secret for a transport"),
				 errhint("Only a mover calls this function.")));
	session_close();
	if (ops == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("it is not in the source's build"));
	memcpy(address.data, VARDATA_ANY(data), address.len);
	session.context = AllocSetContextCreate(TopMemoryContext,
											"fragaffinity transport",
											ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(session.context);
	session.channel = fa_channel_open(ops, false, NULL, max_message,
									  session.secret, &status);
	session.channel = fa_transport_with_faults(session.channel);
	MemoryContextSwitchTo(old);
	why = status == FA_TRANSPORT_OK ?
		session_connect(session.channel, &address) :
		pstrdup(session.channel->why);
	if (why == NULL)
	{
		fa_transport_count(session.channel, FA_TRANSPORT_OPENED);
		PG_RETURN_NULL();
	}
	session_close();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}

FaChannel *
fa_channel_of_session(void)
{
	if (session.channel == NULL || !session.channel->up)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no transport is open in this session"),
				 errhint("Only a mover calls this function.")));
	return session.channel;
}

/*
 * messages_sent(): over the channel of this session, since it is open, and
 * what that took: (messages, gathered, writes, completions)
 */
Datum
fa_sql_messages_sent(PG_FUNCTION_ARGS)
{
	FaChannel  *channel = fa_channel_of_session();
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	fa_transport_tell(channel);
	values[0] = Int64GetDatum((int64) channel->messages);
	values[1] = Int64GetDatum((int64) channel->gathered);
	values[2] = Int64GetDatum((int64) channel->writes);
	values[3] = Int64GetDatum((int64) channel->completions);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* Raises, and ends the channel: nothing more is sent over it. */
static void
send_broken(FaChannel *channel, FaTransportStatus status)
{
	channel->up = false;
	fa_channel_raise(channel, status);
}

char *
fa_channel_reserve(FaChannel *channel, TimestampTz deadline)
{
	TimestampTz limit = deadline;
	char	   *memory;

	for (;;)
	{
		FaTransportStatus status =
			channel->ops->reserve(channel, channel->max_message, &memory);
		long		left;

		if (status == FA_TRANSPORT_OK)
			return memory;
		if (status != FA_TRANSPORT_AGAIN)
			send_broken(channel, status);
		if (limit == 0)
			limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROOM_MS);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), limit);
		if (left == 0 && deadline != 0)
			return NULL;
		if (left == 0)
		{
			fa_channel_fail(channel, FA_TRANSPORT_LOST,
							"the receiver took nothing for %d ms", ROOM_MS);
			send_broken(channel, FA_TRANSPORT_LOST);
		}
		fa_channel_wait(channel, PGINVALID_SOCKET, left);
	}
}

void
fa_channel_post(FaChannel *channel, const char *data, Size len)
{
	FaTransportPiece piece = {.data = data, .len = len};

	(void) fa_channel_post_pieces(channel, &piece, 1);
}

uint64
fa_channel_post_pieces(FaChannel *channel, const FaTransportPiece *pieces,
					   int npieces)
{
	uint64		cookie = channel->messages + 1;
	FaTransportStatus status = channel->ops->post(channel, pieces, npieces,
												  cookie);

	if (status != FA_TRANSPORT_OK)
		send_broken(channel, status);
	fa_transport_tell(channel);
	fa_stop_point("transport_post");
	return cookie;
}

uint64
fa_channel_sent(FaChannel *channel, bool wait)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													ROOM_MS);

	for (;;)
	{
		FaTransportEvent event;
		FaTransportStatus status = channel->ops->poll(channel, &event);
		long		left;

		if (status == FA_TRANSPORT_OK && event.kind == FA_TRANSPORT_SENT)
			channel->sent = event.cookie;
		else if (status != FA_TRANSPORT_OK && status != FA_TRANSPORT_AGAIN)
			send_broken(channel, status);
		if (!wait || status == FA_TRANSPORT_OK)
			return channel->sent;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), limit);
		if (left == 0)
		{
			fa_channel_fail(channel, FA_TRANSPORT_LOST,
							"the device has sent nothing for %d ms", ROOM_MS);
			send_broken(channel, FA_TRANSPORT_LOST);
		}
		fa_channel_wait(channel, PGINVALID_SOCKET, left);
	}
}
