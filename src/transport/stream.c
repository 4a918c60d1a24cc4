/*
 * stream.c
 *	  The transport that goes everywhere: messages are rows of a COPY on the
 *	  libpq connection itself, and so as safe as this is.
 *
 * The sender's statement is COPY (SELECT f()) TO STDOUT (FORMAT binary), and f
 * returns each message that it posts as its next row.  A socket's buffers are
 * the credits: the server waits when they are full.
 */
#include "postgres.h"

#include "port/pg_bswap.h"

#include "transport/transport.h"

typedef struct StreamChannel
{
	FaChannel	base;
	char	   *copied;			/* receiver: libpq's memory, or NULL */
	bool		first;			/* receiver: the COPY's signature is to come */
	bytea	   *room;			/* sender */
} StreamChannel;

/* COPY's binary format: a signature, flags and extension; then rows. */
static const char copy_signature[19] = "PGCOPY\n\377\r\n\0";

static FaTransportStatus
stream_open(FaChannel *channel)
{
	StreamChannel *stream = (StreamChannel *) channel;

	if (!channel->receiver)
		stream->room = MemoryContextAllocExtended(channel->context,
												  VARHDRSZ + channel->max_message,
												  MCXT_ALLOC_NO_OOM);
	if (!channel->receiver && stream->room == NULL)
		return fa_channel_fail(channel, FA_TRANSPORT_NO_MEMORY, "no memory");
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
stream_listen(FaChannel *channel, FaTransportAddress *address_p)
{
	((StreamChannel *) channel)->first = true;
	address_p->len = 0;
	channel->up = true;
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
stream_connect(FaChannel *channel, const FaTransportAddress *address)
{
	channel->up = true;
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
stream_reserve(FaChannel *channel, Size len, char **memory_p)
{
	StreamChannel *stream = (StreamChannel *) channel;

	*memory_p = VARDATA(stream->room);
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
stream_post(FaChannel *channel, const FaTransportPiece *pieces, int npieces,
			uint64 cookie)
{
	StreamChannel *stream = (StreamChannel *) channel;

	Assert(npieces == 1 && pieces->data == VARDATA(stream->room) &&
		   pieces->len <= channel->max_message);
	SET_VARSIZE(stream->room, VARHDRSZ + pieces->len);
	channel->row = stream->room;
	channel->messages++;
	channel->bytes += pieces->len;
	return FA_TRANSPORT_OK;
}

/* Takes the row out of a COPY's data; AGAIN: it is the COPY's end. */
static FaTransportStatus
stream_unwrap(StreamChannel *stream, char *data, Size len,
			  FaTransportEvent *event_p)
{
	const char *p = data;
	uint16		columns;
	uint32		size;

	if (stream->first)
	{
		if (len < sizeof(copy_signature) ||
			memcmp(p, copy_signature, sizeof(copy_signature)) != 0)
			return fa_channel_fail(&stream->base, FA_TRANSPORT_VIOLATION,
								   "a copy does not begin as one");
		p += sizeof(copy_signature);
		len -= sizeof(copy_signature);
	}
	stream->first = false;
	if (len >= sizeof(columns))
	{
		memcpy(&columns, p, sizeof(columns));
		columns = pg_ntoh16(columns);
		if (columns == PG_UINT16_MAX && len == sizeof(columns))
			return FA_TRANSPORT_AGAIN;
		p += sizeof(columns);
		len -= sizeof(columns);
		if (columns == 1 && len > sizeof(size))
		{
			memcpy(&size, p, sizeof(size));
			len -= sizeof(size);
			if (pg_ntoh32(size) == len && len <= stream->base.max_message)
			{
				event_p->kind = FA_TRANSPORT_ARRIVED;
				event_p->data = data + (p + sizeof(size) - data);
				event_p->len = len;
				return FA_TRANSPORT_OK;
			}
		}
	}
	return fa_channel_fail(&stream->base, FA_TRANSPORT_VIOLATION,
						   "invalid row in a copy");
}

static FaTransportStatus
stream_release(FaChannel *channel)
{
	StreamChannel *stream = (StreamChannel *) channel;

	if (stream->copied)
		PQfreemem(stream->copied);
	stream->copied = NULL;
	return FA_TRANSPORT_OK;
}

/* What the connection has read already; receive.c reads, and sees the end. */
static FaTransportStatus
stream_poll(FaChannel *channel, FaTransportEvent *event_p)
{
	StreamChannel *stream = (StreamChannel *) channel;
	FaTransportStatus status;
	int			len;

	if (!channel->receiver)
		return FA_TRANSPORT_AGAIN;
	if (!channel->copying)
	{
		stream->first = true;
		return FA_TRANSPORT_AGAIN;
	}
	do
	{
		(void) stream_release(channel);
		len = PQgetCopyData(channel->conn->pg, &stream->copied, 1);
		if (len == 0)
			return FA_TRANSPORT_AGAIN;
		if (len == -1)
		{
			channel->copying = false;
			stream->first = true;
			return FA_TRANSPORT_AGAIN;
		}
		if (len < 0)
			return fa_channel_fail(channel, FA_TRANSPORT_LOST,
								   "a copy was cut off");
		status = stream_unwrap(stream, stream->copied, len, event_p);
	} while (status == FA_TRANSPORT_AGAIN);
	if (status == FA_TRANSPORT_OK)
	{
		channel->messages++;
		channel->bytes += event_p->len;
	}
	return status;
}

static int
stream_fds(FaChannel *channel, FaTransportFd *fd)
{
	/* the connection's socket is waited for anyway */
	return 0;
}

static void
stream_close(FaChannel *channel)
{
	(void) stream_release(channel);
}

const FaTransportOps fa_transport_stream = {
	.size = sizeof(FaTransportOps),
	.name = "stream",
	.capabilities = FA_TRANSPORT_ROWS,
	.channel_size = sizeof(StreamChannel),
	.open = stream_open,
	.listen = stream_listen,
	.connect = stream_connect,
	.register_memory = fa_transport_registers_nothing,
	.reserve = stream_reserve,
	.post = stream_post,
	.poll = stream_poll,
	.release = stream_release,
	.fds = stream_fds,
	.close = stream_close
};
