/*
 * rdma_connect.c
 *	  Module of the transport "rdma": addresses, and connections by rdma_cm.
 *
 * The address goes over the peers' libpq connection:
 *
 *	magic, version, streams, slots of a stream, bytes of a slot
 *	address and port to connect to
 *	for each stream:	where its slots begin
 *
 * Who connects shows a digest of the channel's secret and the stream's number,
 * and gets another one back, with the key for the slots: each side knows that
 * the other is the one at the end of the libpq connection, and the secret itself
 * is not on the wire.  Others who find the port are rejected, and do no harm to
 * the channel.
 *
 * Integers are big-endian.  ADDRESS_VERSION changes with any of this, and with
 * what rdma_verbs.h says of messages.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "port/pg_bswap.h"
#include "utils/timestamp.h"

#include "transport/rdma_verbs.h"

#define ADDRESS_MAGIC	0x4641524d
#define ADDRESS_VERSION 2
#define ADDRESS_FAMILY_4	4
#define ADDRESS_FAMILY_6	6

#define BACKLOG			64		/* strangers among them */
#define ACK_TIMEOUT		17		/* 4.096 us * 2^n: 0.5 s until it is sent again */
#define RETRIES			7

/* What is shown when connecting, and when accepting. */
typedef struct Greeting
{
	uint32		magic;
	uint16		version;
	uint16		stream;
	uint32		key;			/* for the slots; of who accepts */
	uint8		proof[PG_SHA256_DIGEST_LENGTH];
} Greeting;

/* An address as it is read or written. */
typedef struct Cursor
{
	char	   *next;
	char	   *end;
} Cursor;

/* True while there is room for it; bytes are left as they are. */
static bool
cursor_move(Cursor *cursor, void *bytes, Size len, bool write)
{
	if ((Size) (cursor->end - cursor->next) < len)
		return false;
	if (write)
		memcpy(cursor->next, bytes, len);
	else
		memcpy(bytes, cursor->next, len);
	cursor->next += len;
	return true;
}

static bool
cursor_move32(Cursor *cursor, uint32 *value, bool write)
{
	uint32		wire = pg_hton32(*value);
	bool		moved = cursor_move(cursor, &wire, sizeof(wire), write);

	*value = pg_ntoh32(wire);
	return moved;
}

static bool
cursor_move64(Cursor *cursor, uint64 *value, bool write)
{
	uint64		wire = pg_hton64(*value);
	bool		moved = cursor_move(cursor, &wire, sizeof(wire), write);

	*value = pg_ntoh64(wire);
	return moved;
}

static bool
cursor_move_host(Cursor *cursor, struct sockaddr_storage *host, bool write)
{
	struct sockaddr_in *four = (struct sockaddr_in *) host;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *) host;
	uint32		family = host->ss_family == AF_INET6 ?
		ADDRESS_FAMILY_6 : ADDRESS_FAMILY_4;

	if (!cursor_move32(cursor, &family, write))
		return false;
	host->ss_family = family == ADDRESS_FAMILY_6 ? AF_INET6 : AF_INET;
	if (family == ADDRESS_FAMILY_6)
		return cursor_move(cursor, &six->sin6_addr, sizeof(six->sin6_addr), write) &&
			cursor_move(cursor, &six->sin6_port, sizeof(six->sin6_port), write);
	return family == ADDRESS_FAMILY_4 &&
		cursor_move(cursor, &four->sin_addr, sizeof(four->sin_addr), write) &&
		cursor_move(cursor, &four->sin_port, sizeof(four->sin_port), write);
}

/* The same steps write an address and read it. */
static bool
address_move(FaRdma *rdma, Cursor *cursor, struct sockaddr_storage *host,
			 bool write)
{
	uint32		magic = ADDRESS_MAGIC;
	uint32		version = ADDRESS_VERSION;
	uint32		streams = rdma->nstreams;
	uint32		slots = rdma->slots;
	uint64		slot_size = rdma->slot_size;

	if (!cursor_move32(cursor, &magic, write) || magic != ADDRESS_MAGIC ||
		!cursor_move32(cursor, &version, write) || version != ADDRESS_VERSION ||
		!cursor_move32(cursor, &streams, write) ||
		streams < 1 || streams > FA_RDMA_MAX_STREAMS ||
		!cursor_move32(cursor, &slots, write) ||
		slots < FA_RDMA_MIN_SLOTS || slots > FA_RDMA_MAX_SLOTS ||
		!cursor_move64(cursor, &slot_size, write) ||
		slot_size != rdma->slot_size ||
		!cursor_move_host(cursor, host, write))
		return false;
	rdma->nstreams = streams;
	rdma->slots = slots;
	for (int i = 0; i < rdma->nstreams; i++)
	{
		FaRdmaStream *s = &rdma->stream[i];

		if (!cursor_move64(cursor, &s->remote, write))
			return false;
	}
	return true;
}

/* Shown by who connects (from_sender) and by who accepts. */
static bool
greeting_make(const FaRdma *rdma, int stream, bool from_sender, uint32 key,
			  Greeting *greeting)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8		role = from_sender;
	bool		made;

	memset(greeting, 0, sizeof(*greeting));
	greeting->magic = pg_hton32(ADDRESS_MAGIC);
	greeting->version = pg_hton16(ADDRESS_VERSION);
	greeting->stream = pg_hton16(stream);
	greeting->key = pg_hton32(key);
	made = hash != NULL && pg_cryptohash_init(hash) >= 0 &&
		pg_cryptohash_update(hash, (const uint8 *) rdma->channel->secret,
							 sizeof(rdma->channel->secret)) >= 0 &&
		pg_cryptohash_update(hash, (uint8 *) &greeting->stream,
							 sizeof(greeting->stream)) >= 0 &&
		pg_cryptohash_update(hash, (uint8 *) &greeting->key,
							 sizeof(greeting->key)) >= 0 &&
		pg_cryptohash_update(hash, &role, sizeof(role)) >= 0 &&
		pg_cryptohash_final(hash, greeting->proof, sizeof(greeting->proof)) >= 0;
	if (hash)
		pg_cryptohash_free(hash);
	return made;
}

/* Is it what the other side has to show?  Takes the same time if not. */
static bool
greeting_fits(const FaRdma *rdma, int stream, const Greeting *shown)
{
	Greeting	wanted;
	unsigned	difference = 0;

	if (!greeting_make(rdma, stream, rdma->channel->receiver,
					   pg_ntoh32(shown->key), &wanted))
		return false;
	for (Size i = 0; i < sizeof(wanted); i++)
		difference |= ((const uint8 *) &wanted)[i] ^ ((const uint8 *) shown)[i];
	return difference == 0;
}

static struct rdma_conn_param
connect_param(const Greeting *greeting)
{
	struct rdma_conn_param param = {
		.private_data = greeting,
		.private_data_len = sizeof(*greeting),
		.retry_count = RETRIES,
		.rnr_retry_count = 0
	};

	return param;
}

static void
connect_set_timeout(struct rdma_cm_id *id)
{
	uint8_t		timeout = ACK_TIMEOUT;

	/* older kernels have a fixed one */
	(void) rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
						   &timeout, sizeof(timeout));
}

/* ---- receiver ---- */

/* Where to listen: as set, else where the peer's connection ends. */
static FaTransportStatus
listen_host(FaRdma *rdma, struct sockaddr_storage *host)
{
	const FaRdmaOptions *options = rdma->host->options;
	struct sockaddr_in *four = (struct sockaddr_in *) host;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *) host;
	socklen_t	len = sizeof(*host);

	memset(host, 0, sizeof(*host));
	if (options->address[0] != '\0')
	{
		if (inet_pton(AF_INET, options->address, &four->sin_addr) == 1)
			host->ss_family = AF_INET;
		else if (inet_pton(AF_INET6, options->address, &six->sin6_addr) == 1)
			host->ss_family = AF_INET6;
	}
	else if (rdma->channel->conn &&
			 getsockname(PQsocket(rdma->channel->conn->pg),
						 (struct sockaddr *) host, &len) != 0)
		host->ss_family = AF_UNSPEC;
	if (host->ss_family == AF_INET)
		four->sin_port = htons(options->port);
	else if (host->ss_family == AF_INET6)
		six->sin6_port = htons(options->port);
	else
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"there is no address to listen at; set fragaffinity.rdma_address");
	return FA_TRANSPORT_OK;
}

static void
listen_host_text(const struct sockaddr_storage *host, char *text, Size len)
{
	const void *address = host->ss_family == AF_INET6 ?
		(const void *) &((const struct sockaddr_in6 *) host)->sin6_addr :
		(const void *) &((const struct sockaddr_in *) host)->sin_addr;

	if (inet_ntop(host->ss_family, address, text, len) == NULL)
		strlcpy(text, "?", len);
}

static FaTransportStatus
listen_bind(FaRdma *rdma, struct sockaddr_storage *host)
{
	char		text[INET6_ADDRSTRLEN];
	int			error = 0;

	if (rdma_create_id(rdma->events, &rdma->listener, rdma, RDMA_PS_TCP) != 0)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"rdma_cm gives no connection: %m");
	/* an address without a device is bound, but to none */
	if (rdma_bind_addr(rdma->listener, (struct sockaddr *) host) != 0)
		error = errno;
	else if (rdma->listener->verbs == NULL)
		error = ENODEV;
	if (error != 0)
	{
		listen_host_text(host, text, sizeof(text));
		errno = error;
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"no RDMA device listens at address %s: %m", text);
	}
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
listen_take_memory(FaRdma *rdma)
{
	const FaRdmaOptions *options = rdma->host->options;
	FaTransportStatus status;

	rdma->nstreams = Min(Max(options->streams, 1), FA_RDMA_MAX_STREAMS);
	rdma->slots = Min(Max((Size) options->staging_kb * 1024 /
						  (rdma->slot_size * rdma->nstreams),
						  FA_RDMA_MIN_SLOTS), FA_RDMA_MAX_SLOTS);
	status = fa_rdma_take_device(rdma, rdma->listener);
	for (int i = 0; i < rdma->nstreams && status == FA_TRANSPORT_OK; i++)
	{
		FaRdmaStream *s = &rdma->stream[i];

		s->remote = (uintptr_t) rdma->memory + i * rdma->slots * rdma->slot_size;
		s->length = calloc(rdma->slots, sizeof(uint32));
		if (s->length == NULL)
			status = rdma->host->fail(rdma->channel, FA_TRANSPORT_NO_MEMORY,
									  "out of memory");
	}
	return status;
}

FaTransportStatus
fa_rdma_listen(FaChannel *channel, FaTransportAddress *address_p)
{
	FaRdma	   *rdma = fa_rdma_of(channel);
	struct sockaddr_storage host;
	Cursor		cursor = {address_p->data, address_p->data + sizeof(address_p->data)};
	FaTransportStatus status = listen_host(rdma, &host);

	if (status == FA_TRANSPORT_OK)
		status = listen_bind(rdma, &host);
	if (status == FA_TRANSPORT_OK)
		status = listen_take_memory(rdma);
	if (status != FA_TRANSPORT_OK)
		return status;
	if (rdma_listen(rdma->listener, BACKLOG) != 0)
		return rdma->host->fail(channel, FA_TRANSPORT_UNFIT,
								"rdma_cm does not listen: %m");
	if (host.ss_family == AF_INET6)
		((struct sockaddr_in6 *) &host)->sin6_port = rdma_get_src_port(rdma->listener);
	else
		((struct sockaddr_in *) &host)->sin_port = rdma_get_src_port(rdma->listener);
	if (!address_move(rdma, &cursor, &host, true))
		return rdma->host->fail(channel, FA_TRANSPORT_UNFIT,
								"there are too many streams for an address");
	address_p->len = cursor.next - address_p->data;
	return FA_TRANSPORT_OK;
}

/* Somebody connects.  False: it is not our sender. */
static bool
listen_accept(FaRdma *rdma, struct rdma_cm_id *id, const Greeting *shown)
{
	int			n = pg_ntoh16(shown->stream);
	FaRdmaStream *stream = &rdma->stream[n];
	struct rdma_conn_param param;
	Greeting	ours;

	if (n >= rdma->nstreams || stream->state != FA_RDMA_IDLE ||
		!greeting_fits(rdma, n, shown))
		return false;
	stream->id = id;
	stream->state = FA_RDMA_CONNECTING;
	id->context = stream;
	connect_set_timeout(id);
	if (fa_rdma_make_queues(stream) != FA_TRANSPORT_OK)
	{
		rdma->broken = FA_TRANSPORT_UNFIT;
		return true;
	}
	param = connect_param(&ours);
	if (!greeting_make(rdma, n, false, stream->rkey, &ours) ||
		rdma_accept(id, &param) != 0)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "rdma_cm does not accept the sender: %m");
	return true;
}

/* ---- sender ---- */

static FaTransportStatus
connect_begin(FaRdma *rdma, const FaTransportAddress *address)
{
	FaTransportAddress copy = *address;
	Cursor		cursor = {copy.data, copy.data + copy.len};
	struct sockaddr_storage host = {0};

	if (address->len > (int) sizeof(copy.data) ||
		!address_move(rdma, &cursor, &host, false) ||
		cursor.next != cursor.end)
		return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "the receiver's address is of another version or invalid");
	rdma->cookie = calloc(rdma->nstreams * rdma->slots, sizeof(uint64));
	if (rdma->cookie == NULL)
		return fa_rdma_break(rdma, FA_TRANSPORT_NO_MEMORY, "out of memory");
	rdma->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												 FA_RDMA_CONNECT_MS);
	for (int i = 0; i < rdma->nstreams; i++)
	{
		FaRdmaStream *s = &rdma->stream[i];

		if (rdma_create_id(rdma->events, &s->id, s, RDMA_PS_TCP) != 0 ||
			rdma_resolve_addr(s->id, NULL, (struct sockaddr *) &host,
							  FA_RDMA_CONNECT_MS) != 0)
			return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
								 "no RDMA device leads to the receiver's address: %m");
		s->state = FA_RDMA_RESOLVING;
	}
	return FA_TRANSPORT_OK;
}

/* The device is known; all streams go over the same. */
static void
connect_address_resolved(FaRdmaStream *stream)
{
	FaRdma	   *rdma = stream->rdma;

	if (rdma->device == NULL)
	{
		FaTransportStatus status = fa_rdma_take_device(rdma, stream->id);

		if (status != FA_TRANSPORT_OK)
		{
			rdma->broken = status;
			return;
		}
	}
	if (stream->id->verbs != rdma->device)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "streams lead over different devices");
	else if (rdma_resolve_route(stream->id, FA_RDMA_CONNECT_MS) != 0)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "there is no route to the receiver: %m");
}

static void
connect_route_resolved(FaRdmaStream *stream)
{
	FaRdma	   *rdma = stream->rdma;
	FaTransportStatus status = fa_rdma_make_queues(stream);
	struct rdma_conn_param param;
	Greeting	ours;

	if (status != FA_TRANSPORT_OK)
	{
		rdma->broken = status;
		return;
	}
	connect_set_timeout(stream->id);
	param = connect_param(&ours);
	stream->state = FA_RDMA_CONNECTING;
	if (!greeting_make(rdma, stream->index, true, 0, &ours) ||
		rdma_connect(stream->id, &param) != 0)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "rdma_cm does not connect: %m");
}

FaTransportStatus
fa_rdma_connect(FaChannel *channel, const FaTransportAddress *address)
{
	FaRdma	   *rdma = fa_rdma_of(channel);

	if (rdma->deadline == 0 && rdma->broken == FA_TRANSPORT_OK)
		(void) connect_begin(rdma, address);
	fa_rdma_progress(rdma);
	if (rdma->broken != FA_TRANSPORT_OK)
		return rdma->broken;
	for (int i = 0; i < rdma->nstreams; i++)
	{
		FaRdmaStream *s = &rdma->stream[i];

		if (s->state == FA_RDMA_UP && s->welcome)
			continue;
		channel->wake_at = rdma->deadline;
		if (GetCurrentTimestamp() >= rdma->deadline)
			return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
								 "no connection within %d ms", FA_RDMA_CONNECT_MS);
		return FA_TRANSPORT_AGAIN;
	}
	channel->wake_at = 0;
	channel->up = true;
	return FA_TRANSPORT_OK;
}

/* ---- both ---- */

static void
connect_established(FaRdmaStream *stream, const Greeting *shown)
{
	FaRdma	   *rdma = stream->rdma;
	bool		all = true;

	if (!rdma->channel->receiver &&
		!greeting_fits(rdma, stream->index, shown))
	{
		(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "who listens at the address is not the receiver");
		return;
	}
	stream->state = FA_RDMA_UP;
	if (!rdma->channel->receiver)
		stream->rkey = pg_ntoh32(shown->key);
	if (!rdma->channel->receiver || fa_rdma_greet(stream) != FA_TRANSPORT_OK)
		return;
	for (int i = 0; i < rdma->nstreams; i++)
		all = all && rdma->stream[i].state == FA_RDMA_UP;
	if (all)
	{
		/* nobody else is expected */
		(void) rdma_destroy_id(rdma->listener);
		rdma->listener = NULL;
		rdma->channel->up = true;
	}
}

/* What has become of a stream; type and status as in the event. */
static void
connect_event(FaRdmaStream *stream, enum rdma_cm_event_type type, int status,
			  const Greeting *shown)
{
	FaRdma	   *rdma = stream->rdma;

	switch (type)
	{
		case RDMA_CM_EVENT_ADDR_RESOLVED:
			connect_address_resolved(stream);
			break;
		case RDMA_CM_EVENT_ROUTE_RESOLVED:
			connect_route_resolved(stream);
			break;
		case RDMA_CM_EVENT_ESTABLISHED:
			connect_established(stream, shown);
			break;
		case RDMA_CM_EVENT_DISCONNECTED:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_LOST,
								 "the peer has closed the connection");
			break;
		case RDMA_CM_EVENT_REJECTED:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
								 "the receiver has refused the connection");
			break;
		case RDMA_CM_EVENT_ADDR_ERROR:
		case RDMA_CM_EVENT_ROUTE_ERROR:
		case RDMA_CM_EVENT_UNREACHABLE:
		case RDMA_CM_EVENT_CONNECT_ERROR:
			errno = status < 0 ? -status : status;
			(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
								 "no RDMA connection to the peer (%s): %m",
								 rdma_event_str(type));
			break;
		case RDMA_CM_EVENT_DEVICE_REMOVAL:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "the RDMA device has been removed");
			break;
		default:
			break;
	}
}

bool
fa_rdma_take_event(FaRdma *rdma)
{
	struct rdma_cm_event *event;
	struct rdma_cm_id *id;
	enum rdma_cm_event_type type;
	Greeting	shown = {0};
	int			status;

	if (rdma_get_cm_event(rdma->events, &event) != 0)
	{
		if (errno != EAGAIN && errno != EINTR)
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "events of rdma_cm cannot be read: %m");
		return false;
	}
	id = event->id;
	type = event->event;
	status = event->status;
	if ((type == RDMA_CM_EVENT_CONNECT_REQUEST ||
		 type == RDMA_CM_EVENT_ESTABLISHED) &&
		event->param.conn.private_data &&
		event->param.conn.private_data_len >= sizeof(shown))
		memcpy(&shown, event->param.conn.private_data, sizeof(shown));
	/* an id that is to be destroyed must have no event left */
	(void) rdma_ack_cm_event(event);
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
	{
		if (!listen_accept(rdma, id, &shown))
		{
			(void) rdma_reject(id, NULL, 0);
			(void) rdma_destroy_id(id);
		}
	}
	else if (id != rdma->listener)
		connect_event(id->context, type, status, &shown);
	return true;
}
