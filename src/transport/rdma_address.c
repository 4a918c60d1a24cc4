/*
 * rdma_address.c
 *	  Module of the transport "rdma": the address that the receiver sends, and
 *	  this server's own.
 *
 * The address goes over the peers' libpq connection:
 *
 *	magic, version, streams, slots of a stream, bytes of a slot
 *	address and port to connect to
 *	for each stream:	where its slots begin
 *
 * Integers are big-endian.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "port/pg_bswap.h"

#include "transport/rdma_verbs.h"

#define ADDRESS_FAMILY_4	4
#define ADDRESS_FAMILY_6	6

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
	uint32		magic = FA_RDMA_MAGIC;
	uint32		version = FA_RDMA_VERSION;
	uint32		streams = rdma->nstreams;
	uint32		slots = rdma->slots;
	uint64		slot_size = rdma->slot_size;

	if (!cursor_move32(cursor, &magic, write) || magic != FA_RDMA_MAGIC ||
		!cursor_move32(cursor, &version, write) || version != FA_RDMA_VERSION ||
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

bool
fa_rdma_write_address(FaRdma *rdma, struct sockaddr_storage *host,
					  FaTransportAddress *address_p)
{
	Cursor		cursor = {address_p->data, address_p->data + sizeof(address_p->data)};

	if (!address_move(rdma, &cursor, host, true))
		return false;
	address_p->len = cursor.next - address_p->data;
	return true;
}

bool
fa_rdma_read_address(FaRdma *rdma, const FaTransportAddress *address,
					 struct sockaddr_storage *host)
{
	FaTransportAddress copy = *address;
	Cursor		cursor = {copy.data, copy.data + copy.len};

	memset(host, 0, sizeof(*host));
	return address->len <= (int) sizeof(copy.data) &&
		address_move(rdma, &cursor, host, false) && cursor.next == cursor.end;
}

bool
fa_rdma_own_host(const FaRdma *rdma, struct sockaddr_storage *host)
{
	const char *address = rdma->host->options->address;
	struct sockaddr_in *four = (struct sockaddr_in *) host;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *) host;

	memset(host, 0, sizeof(*host));
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1)
		host->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1)
		host->ss_family = AF_INET6;
	return host->ss_family != AF_UNSPEC;
}

void
fa_rdma_host_text(const struct sockaddr_storage *host, char *text, Size len)
{
	const void *address = host->ss_family == AF_INET6 ?
		(const void *) &((const struct sockaddr_in6 *) host)->sin6_addr :
		(const void *) &((const struct sockaddr_in *) host)->sin_addr;

	if (inet_ntop(host->ss_family, address, text, len) == NULL)
		strlcpy(text, "?", len);
}
