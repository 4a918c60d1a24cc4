/*
 * rdma_connect.c
 *	  Module of the transport "rdma": connections by rdma_cm.
 *
 * Who connects shows a digest of the channel's secret and the stream's number,
 * and gets another one back, with the key for the slots: each side knows that
 * the other is the one at the end of the libpq connection, and the secret itself
 * is not on the wire.  Others who find the port are rejected, and do no harm to
 * the channel.
 *
 * Who connects begins at this server's own address, if it is set: with several
 * devices, or with the peer's address on this host, routes lead to another one
 * than is meant.
 *
 * Integers are big-endian.
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

#define BACKLOG			64		/* strangers among them */
#define ACK_TIMEOUT		17		/* 4.096 us * 2^n: 0.5 s until it is sent again */
#define RETRIES			6		/* SoftRoCE takes 7 for no end */
#define RESOLVE_MS		200		/* until an address is looked at again */

/* What is shown when connecting, and when accepting. */
typedef struct Greeting
{
	uint32		magic;
	uint16		version;
	uint16		stream;
	uint32		key;			/* for the slots; of who accepts */
	uint8		proof[PG_SHA256_DIGEST_LENGTH];
} Greeting;

/* Shown by who connects (from_sender) and by who accepts. */
static bool
greeting_make(const FaRdma *rdma, int stream, bool from_sender, uint32 key,
			  Greeting *greeting)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8		role = from_sender;
	bool		made;

	memset(greeting, 0, sizeof(*greeting));
	greeting->magic = pg_hton32(FA_RDMA_MAGIC);
	greeting->version = pg_hton16(FA_RDMA_VERSION);
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
	socklen_t	len = sizeof(*host);

	if (!fa_rdma_own_host(rdma, host) && rdma->channel->conn &&
		getsockname(PQsocket(rdma->channel->conn->pg),
					(struct sockaddr *) host, &len) != 0)
		host->ss_family = AF_UNSPEC;
	if (host->ss_family == AF_INET)
		((struct sockaddr_in *) host)->sin_port = htons(options->port);
	else if (host->ss_family == AF_INET6)
		((struct sockaddr_in6 *) host)->sin6_port = htons(options->port);
	else
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"there is no address to listen at; set fragaffinity.rdma_address");
	return FA_TRANSPORT_OK;
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
		fa_rdma_host_text(host, text, sizeof(text));
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
	if (!fa_rdma_write_address(rdma, &host, address_p))
		return rdma->host->fail(channel, FA_TRANSPORT_UNFIT,
								"there are too many streams for an address");
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

/* Looks for the way from own (NULL: any) to host. */
static FaTransportStatus
connect_resolve(FaRdmaStream *stream, struct sockaddr_storage *own,
				struct sockaddr_storage *host)
{
	FaRdma	   *rdma = stream->rdma;
	char		text[INET6_ADDRSTRLEN];
	int			error;

	if (rdma_create_id(rdma->events, &stream->id, stream, RDMA_PS_TCP) == 0 &&
		rdma_resolve_addr(stream->id, (struct sockaddr *) own,
						  (struct sockaddr *) host, RESOLVE_MS) == 0)
	{
		stream->state = FA_RDMA_RESOLVING;
		return FA_TRANSPORT_OK;
	}
	if (own == NULL)
		return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "no RDMA device leads to the receiver's address: %m");
	error = errno;
	fa_rdma_host_text(own, text, sizeof(text));
	errno = error;
	return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
						 "no RDMA device leads from address %s to the receiver's: %m",
						 text);
}

static FaTransportStatus
connect_begin(FaRdma *rdma, const FaTransportAddress *address)
{
	struct sockaddr_storage host;
	struct sockaddr_storage own;
	bool		from_own;
	FaTransportStatus status = FA_TRANSPORT_OK;

	if (!fa_rdma_read_address(rdma, address, &host))
		return fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
							 "the receiver's address is of another version or invalid");
	rdma->cookie = calloc(rdma->nstreams * rdma->slots, sizeof(uint64));
	if (rdma->cookie == NULL)
		return fa_rdma_break(rdma, FA_TRANSPORT_NO_MEMORY, "out of memory");
	rdma->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												 FA_RDMA_CONNECT_MS);
	from_own = fa_rdma_own_host(rdma, &own) && own.ss_family == host.ss_family;
	for (int i = 0; i < rdma->nstreams && status == FA_TRANSPORT_OK; i++)
		status = connect_resolve(&rdma->stream[i], from_own ? &own : NULL, &host);
	return status;
}

/*
 * The peer's address has not answered.  Once more, as the kernel looks at it
 * again when the time is over, or when an answer comes after it has begun to
 * wait for one: over a short link that may be too late.
 */
static bool
connect_resolve_again(FaRdmaStream *stream)
{
	struct sockaddr_storage host;

	if (stream->state != FA_RDMA_RESOLVING ||
		GetCurrentTimestamp() >= stream->rdma->deadline)
		return false;
	/* the call copies it to where it is now */
	memcpy(&host, rdma_get_peer_addr(stream->id), sizeof(host));
	return rdma_resolve_addr(stream->id, NULL, (struct sockaddr *) &host,
							 RESOLVE_MS) == 0;
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
								 s->state == FA_RDMA_RESOLVING ?
								 "nothing answered for the receiver's address within %d ms" :
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
			if (type == RDMA_CM_EVENT_ADDR_ERROR && status == -ETIMEDOUT &&
				connect_resolve_again(stream))
				break;
			errno = status < 0 ? -status : status;
			/* the kernel does not know any more where the peer's address is */
			if (stream->state == FA_RDMA_UP)
				(void) fa_rdma_break(rdma, FA_TRANSPORT_LOST,
									 "the peer cannot be reached any more (%s)",
									 rdma_event_str(type));
			(void) fa_rdma_break(rdma, FA_TRANSPORT_UNFIT,
								 "no RDMA connection to the peer (%s): %m",
								 rdma_event_str(type));
			break;
		case RDMA_CM_EVENT_DEVICE_REMOVAL:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO, FA_RDMA_REMOVED);
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
	else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_IO, FA_RDMA_REMOVED);
	return true;
}
