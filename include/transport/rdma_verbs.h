/*
 * rdma_verbs.h
 *	  Inside of fragaffinity_rdma.so.
 *
 * A channel has one or more streams, each a reliable queue pair.  Message k
 * goes over stream k modulo their number, and there into slot (k / streams)
 * modulo the slots of a stream.  So both sides know where each message is, a
 * queue pair keeps the order within its stream, and no message says more than
 * its length:
 *
 *	sender		RDMA WRITE of the pieces, gathered, into the slot; the last with
 *				an immediate, the length of the message, and signalled
 *	receiver	its completion is the message's arrival.  After release() the
 *				slot is free, and every few of them the receiver says so in a
 *				SEND: how many it has released on this stream since the start,
 *				and first of all 0, "go"
 *	sender		never has more messages under way on a stream than the slots
 *				that it knows to be free, so there is always a receive posted
 *				for each
 *
 * The same holds the other way: at most FA_RDMA_CREDITS of the receiver's SENDs
 * can be under way, as each of them answers messages that came after the one
 * before.  So "receiver not ready" never occurs, and is not retried.
 */
#ifndef FA_TRANSPORT_RDMA_VERBS_H
#define FA_TRANSPORT_RDMA_VERBS_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "transport/rdma.h"

/* Of the address and of greetings; the version changes with them and with this. */
#define FA_RDMA_MAGIC		0x4641524d
#define FA_RDMA_VERSION		2

#define FA_RDMA_MAX_PIECES	128
#define FA_RDMA_MAX_SGE		16	/* of one WRITE */
#define FA_RDMA_MIN_SLOTS	4
#define FA_RDMA_MAX_SLOTS	1024	/* of a stream */
#define FA_RDMA_CREDIT_PART	4	/* a SEND for each such part of the slots */
#define FA_RDMA_CREDITS		(FA_RDMA_CREDIT_PART + 4)
#define FA_RDMA_CONNECT_MS	5000

#define FA_RDMA_REMOVED		"the RDMA device has been removed"

typedef enum FaRdmaState
{
	FA_RDMA_IDLE,
	FA_RDMA_RESOLVING,			/* sender: address, then route */
	FA_RDMA_CONNECTING,
	FA_RDMA_UP
} FaRdmaState;

typedef struct FaRdmaStream
{
	FaRdma	   *rdma;
	int			index;
	FaRdmaState state;
	bool		welcome;		/* sender: "go" has come */
	struct rdma_cm_id *id;
	struct ibv_mw *window;		/* receiver: over this stream's slots, or NULL */
	uint64		remote;			/* sender: the slots at the receiver */
	uint32		rkey;			/* for them */
	uint32		posted;			/* sender: messages */
	uint32		completed;		/* sender: of them, those the device is done with */
	uint32		arrived;		/* receiver */
	uint32		released;		/* both: as the receiver has said */
	uint32		let_go;			/* receiver: released, said or not */
	int			sends;			/* receiver: SENDs that are not completed */
	uint32	   *length;			/* receiver: of the message in each slot */
} FaRdmaStream;

/* Channel private state; receiver's and sender's. */
struct FaRdma
{
	FaChannel  *channel;
	const FaRdmaHost *host;
	struct rdma_event_channel *events;
	struct rdma_cm_id *listener;
	struct ibv_context *device; /* librdmacm's; set with pd */
	struct ibv_pd *pd;
	struct ibv_comp_channel *news;
	struct ibv_cq *cq;
	bool		armed;			/* the next completion makes "news" readable */
	unsigned	unacked;		/* of its events */
	bool		has_windows;
	int			max_sge;
	int			nstreams;
	uint32		slots;			/* of a stream */
	Size		slot_size;
	char	   *memory;			/* slots, then what SENDs are received into */
	Size		memory_size;
	struct ibv_mr *memory_key;
	char	   *pool;			/* sender: registered memory of the caller's */
	Size		pool_size;
	struct ibv_mr *pool_key;
	uint64		taken;			/* receiver: messages that poll() has returned */
	uint64		freed;			/* receiver: of them, those released */
	uint64		sent;			/* sender: messages whose memory is free */
	bool		news_sent;		/* sender: the caller does not know of them all */
	uint64	   *cookie;			/* sender: of the last messages */
	uint64		last_cookie;
	TimestampTz deadline;		/* of connecting; 0: connected, or not begun */
	FaTransportStatus broken;	/* OK: it is not */
	FaRdmaStream stream[FA_RDMA_MAX_STREAMS];
};

static inline FaRdma *
fa_rdma_of(FaChannel *channel)
{
	return ((FaRdmaChannel *) channel)->rdma;
}

/* Breaks the channel, unless it is broken already. */
#define fa_rdma_break(rdma, status, ...) \
	((rdma)->broken != FA_TRANSPORT_OK ? (rdma)->broken : \
	 ((rdma)->broken = (rdma)->host->fail((rdma)->channel, status, __VA_ARGS__)))

/* in rdma_address.c */

/* False: there is no room for it. */
extern bool fa_rdma_write_address(FaRdma *rdma, struct sockaddr_storage *host,
								  FaTransportAddress *address_p);
/* False: it is of another version or invalid. */
extern bool fa_rdma_read_address(FaRdma *rdma,
								 const FaTransportAddress *address,
								 struct sockaddr_storage *host);
/* This server's own, as set; false when it is not. */
extern bool fa_rdma_own_host(const FaRdma *rdma,
							 struct sockaddr_storage *host);
extern void fa_rdma_host_text(const struct sockaddr_storage *host, char *text,
							  Size len);

/* in rdma_device.c */
extern bool fa_rdma_set_nonblocking(int fd);

/*
 * Takes the device that an id is bound to: protection domain, queue of
 * completions for so many, and memory for the slots.
 */
extern FaTransportStatus fa_rdma_take_device(FaRdma *rdma,
											 struct rdma_cm_id *id);
extern FaTransportStatus fa_rdma_register_pool(FaRdma *rdma, void *memory,
											   Size len);
extern FaTransportStatus fa_rdma_make_queues(FaRdmaStream *stream);
extern void fa_rdma_free(FaRdma *rdma);

/* in rdma_connect.c */
extern FaTransportStatus fa_rdma_listen(FaChannel *channel,
										FaTransportAddress *address_p);
extern FaTransportStatus fa_rdma_connect(FaChannel *channel,
										 const FaTransportAddress *address);
/* One event of the connections; false when there is none. */
extern bool fa_rdma_take_event(FaRdma *rdma);

/* in rdma_transfer.c */

/* Takes completions and events until there are none and news will be told. */
extern void fa_rdma_progress(FaRdma *rdma);
/* A receive of a message (receiver) or of a SEND (sender). */
extern FaTransportStatus fa_rdma_post_receive(FaRdmaStream *stream, uint32 n);
/* Receiver: this stream's slots may be written to, and the sender hears it. */
extern FaTransportStatus fa_rdma_greet(FaRdmaStream *stream);
extern FaTransportStatus fa_rdma_reserve(FaChannel *channel, Size len,
										 char **memory_p);
extern FaTransportStatus fa_rdma_post(FaChannel *channel,
									  const FaTransportPiece *pieces,
									  int npieces, uint64 cookie);
extern FaTransportStatus fa_rdma_poll(FaChannel *channel,
									  FaTransportEvent *event_p);
extern FaTransportStatus fa_rdma_release(FaChannel *channel);

#endif							/* FA_TRANSPORT_RDMA_VERBS_H */
