/*
 * rdma_transfer.c
 *	  Module of the transport "rdma": messages, see rdma_verbs.h.
 */
#include "postgres.h"

#include <errno.h>

#include "port/pg_bswap.h"

#include "transport/rdma_verbs.h"

#define POLL_AT_ONCE	16

/* What a work request was: in its id, with its stream and number. */
typedef enum WorkKind
{
	WORK_RECEIVE,
	WORK_MESSAGE,				/* the last WRITE of one */
	WORK_CREDIT,
	WORK_BIND
} WorkKind;

#define WORK_ID(stream, kind, n) \
	((uint64) (n) << 32 | (stream)->index << 8 | (kind))
#define WORK_KIND(id)	((WorkKind) ((id) & 0xff))
#define WORK_STREAM(id) (((id) >> 8) & 0xffff)
#define WORK_NUMBER(id) ((uint32) ((id) >> 32))

/* Where the sender receives the n-th of a stream's SENDs. */
static uint32 *
credit_memory(FaRdmaStream *stream, uint32 n)
{
	FaRdma	   *rdma = stream->rdma;
	Size		slots = (Size) rdma->nstreams * rdma->slots * rdma->slot_size;

	return (uint32 *) (rdma->memory + slots) +
		stream->index * FA_RDMA_CREDITS + n;
}

FaTransportStatus
fa_rdma_post_receive(FaRdmaStream *stream, uint32 n)
{
	FaRdma	   *rdma = stream->rdma;
	struct ibv_sge sge;
	struct ibv_recv_wr work = {.wr_id = WORK_ID(stream, WORK_RECEIVE, n)};
	struct ibv_recv_wr *bad;
	int			error;

	/* a message's place is named by who writes it */
	if (!rdma->channel->receiver)
	{
		sge.addr = (uintptr_t) credit_memory(stream, n);
		sge.length = sizeof(uint32);
		sge.lkey = rdma->memory_key->lkey;
		work.sg_list = &sge;
		work.num_sge = 1;
	}
	error = ibv_post_recv(stream->id->qp, &work, &bad);
	if (error == 0)
		return FA_TRANSPORT_OK;
	errno = error;
	return fa_rdma_break(rdma, FA_TRANSPORT_IO,
						 "the device takes no receive: %m");
}

static FaTransportStatus
transfer_send(FaRdmaStream *stream, struct ibv_send_wr *work)
{
	struct ibv_send_wr *bad;
	int			error = ibv_post_send(stream->id->qp, work, &bad);

	if (error == 0)
		return FA_TRANSPORT_OK;
	errno = error;
	return fa_rdma_break(stream->rdma, FA_TRANSPORT_IO,
						 "the device takes no work: %m");
}

/* Receiver: says how many have been released. */
static FaTransportStatus
transfer_credit(FaRdmaStream *stream)
{
	uint32		released = pg_hton32(stream->let_go);
	struct ibv_sge sge = {
		.addr = (uintptr_t) &released, .length = sizeof(released)
	};
	struct ibv_send_wr work = {
		.wr_id = WORK_ID(stream, WORK_CREDIT, 0),
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_INLINE | IBV_SEND_SIGNALED,
		.sg_list = &sge, .num_sge = 1
	};
	FaTransportStatus status = transfer_send(stream, &work);

	if (status == FA_TRANSPORT_OK)
	{
		stream->released = stream->let_go;
		stream->sends++;
	}
	return status;
}

FaTransportStatus
fa_rdma_greet(FaRdmaStream *stream)
{
	FaRdma	   *rdma = stream->rdma;
	Size		len = rdma->slots * rdma->slot_size;
	struct ibv_send_wr work = {
		.wr_id = WORK_ID(stream, WORK_BIND, 0),
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
	};
	FaTransportStatus status = FA_TRANSPORT_OK;

	if (stream->window)
	{
		work.bind_mw.mw = stream->window;
		work.bind_mw.rkey = stream->rkey;
		work.bind_mw.bind_info.mr = rdma->memory_key;
		work.bind_mw.bind_info.addr = (uintptr_t) rdma->memory + stream->index * len;
		work.bind_mw.bind_info.length = len;
		work.bind_mw.bind_info.mw_access_flags = IBV_ACCESS_REMOTE_WRITE;
		status = transfer_send(stream, &work);
	}
	return status == FA_TRANSPORT_OK ? transfer_credit(stream) : status;
}

/* A message has arrived: its length came with it. */
static void
transfer_arrived(FaRdmaStream *stream, const struct ibv_wc *wc)
{
	FaRdma	   *rdma = stream->rdma;
	uint32		len = pg_ntoh32(wc->imm_data);

	if (wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM ||
		stream->state != FA_RDMA_UP || len == 0 ||
		len > rdma->channel->max_message ||
		stream->arrived - stream->let_go >= rdma->slots)
	{
		(void) fa_rdma_break(rdma, FA_TRANSPORT_VIOLATION,
							 "a message came that cannot be one");
		return;
	}
	stream->length[stream->arrived % rdma->slots] = len;
	stream->arrived++;
}

/* The receiver has released messages; the first of its SENDs lets us begin. */
static void
transfer_credited(FaRdmaStream *stream, const struct ibv_wc *wc)
{
	FaRdma	   *rdma = stream->rdma;
	uint32		n = WORK_NUMBER(wc->wr_id);
	uint32		released = pg_ntoh32(*credit_memory(stream, n));

	if (wc->opcode != IBV_WC_RECV || wc->byte_len != sizeof(uint32) ||
		stream->state < FA_RDMA_CONNECTING ||
		released - stream->released > stream->posted - stream->released)
	{
		(void) fa_rdma_break(rdma, FA_TRANSPORT_VIOLATION,
							 "the receiver has released what it did not get");
		return;
	}
	stream->released = released;
	stream->welcome = true;
	(void) fa_rdma_post_receive(stream, n);
}

static void
transfer_failed(FaRdma *rdma, const struct ibv_wc *wc)
{
	switch (wc->status)
	{
		case IBV_WC_WR_FLUSH_ERR:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_LOST,
								 "the connection has ended");
			break;
		case IBV_WC_RETRY_EXC_ERR:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_LOST,
								 "the peer's device does not answer");
			break;
		case IBV_WC_REM_ACCESS_ERR:
		case IBV_WC_REM_INV_REQ_ERR:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_LOST,
								 "the peer's device refuses access to its memory");
			break;
		case IBV_WC_LOC_LEN_ERR:
		case IBV_WC_RNR_RETRY_EXC_ERR:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_VIOLATION,
								 "the peer does not keep to what was agreed: %s",
								 ibv_wc_status_str(wc->status));
			break;
		default:
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "the device has failed: %s",
								 ibv_wc_status_str(wc->status));
	}
}

static void
transfer_completed(FaRdma *rdma, const struct ibv_wc *wc)
{
	FaRdmaStream *stream;

	if (wc->status != IBV_WC_SUCCESS)
	{
		transfer_failed(rdma, wc);
		return;
	}
	stream = &rdma->stream[WORK_STREAM(wc->wr_id)];
	switch (WORK_KIND(wc->wr_id))
	{
		case WORK_RECEIVE:
			if (rdma->channel->receiver)
				transfer_arrived(stream, wc);
			else
				transfer_credited(stream, wc);
			break;
		case WORK_MESSAGE:
			stream->completed++;
			break;
		case WORK_CREDIT:
			stream->sends--;
			break;
		case WORK_BIND:
			break;
	}
}

/* True when there were any. */
static bool
transfer_take_completions(FaRdma *rdma)
{
	struct ibv_wc wc[POLL_AT_ONCE];
	bool		any = false;
	int			n;

	while (rdma->broken == FA_TRANSPORT_OK &&
		   (n = ibv_poll_cq(rdma->cq, POLL_AT_ONCE, wc)) != 0)
	{
		if (n < 0)
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "the device's completions cannot be read");
		/* those behind a failed one are flushed */
		for (int i = 0; i < n && rdma->broken == FA_TRANSPORT_OK; i++)
			transfer_completed(rdma, &wc[i]);
		if (!rdma->channel->receiver)
			rdma->channel->completions += Max(n, 0);
		any = true;
	}
	return any;
}

/* Asks for word of the next completion; completions are to be taken after it. */
static void
transfer_arm(FaRdma *rdma)
{
	struct ibv_cq *cq;
	void	   *context;

	while (ibv_get_cq_event(rdma->news, &cq, &context) == 0)
	{
		rdma->unacked++;
		rdma->armed = false;
	}
	/* the kernel says so for ever, and each wait would end at once */
	if (errno != EAGAIN && errno != EINTR)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_IO, FA_RDMA_REMOVED);
	else if (!rdma->armed && ibv_req_notify_cq(rdma->cq, 0) != 0)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
							 "the device does not tell of completions");
	rdma->armed = true;
}

/* What the device says of itself, after which completions may never come. */
static void
transfer_take_device_events(FaRdma *rdma)
{
	struct ibv_async_event event;

	while (ibv_get_async_event(rdma->device, &event) == 0)
	{
		enum ibv_event_type type = event.event_type;

		/* a queue with an event that is not acknowledged cannot be destroyed */
		ibv_ack_async_event(&event);
		if (type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_CQ_ERR)
			(void) fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "the device has failed: %s",
								 ibv_event_type_str(type));
	}
	if (errno != EAGAIN && errno != EINTR)
		(void) fa_rdma_break(rdma, FA_TRANSPORT_IO, FA_RDMA_REMOVED);
}

/* Messages whose memory the device has left, in their order. */
static void
transfer_count_sent(FaRdma *rdma)
{
	while (rdma->sent < rdma->channel->messages)
	{
		FaRdmaStream *s = &rdma->stream[rdma->sent % rdma->nstreams];

		if (s->completed == (uint32) (rdma->sent / rdma->nstreams))
			break;
		rdma->last_cookie = rdma->cookie[rdma->sent %
										 (rdma->nstreams * rdma->slots)];
		rdma->news_sent = true;
		rdma->sent++;
	}
}

/* For tests: the queues fail, as a device lets them when it is at its end. */
static void
transfer_flush(FaRdma *rdma)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	rdma->channel->flush = false;
	for (int i = 0; i < rdma->nstreams; i++)
		(void) ibv_modify_qp(rdma->stream[i].id->qp, &attr, IBV_QP_STATE);
}

void
fa_rdma_progress(FaRdma *rdma)
{
	bool		any = true;

	if (rdma->channel->flush && rdma->channel->up)
		transfer_flush(rdma);
	while (any && rdma->broken == FA_TRANSPORT_OK)
	{
		any = false;
		if (rdma->cq)
		{
			transfer_arm(rdma);
			any = transfer_take_completions(rdma);
			transfer_take_device_events(rdma);
		}
		while (rdma->broken == FA_TRANSPORT_OK && fa_rdma_take_event(rdma))
			any = true;
	}
	if (!rdma->channel->receiver)
		transfer_count_sent(rdma);
}

/* Stream and room of the next message. */
static FaRdmaStream *
transfer_next(FaRdma *rdma, char **memory_p)
{
	uint64		n = rdma->channel->messages;

	*memory_p = rdma->memory +
		n % (rdma->nstreams * rdma->slots) * rdma->slot_size;
	return &rdma->stream[n % rdma->nstreams];
}

/* Room here is free, and so is the slot at the receiver. */
static bool
transfer_has_room(const FaRdmaStream *stream)
{
	return stream->posted - stream->completed < stream->rdma->slots &&
		stream->posted - stream->released < stream->rdma->slots;
}

FaTransportStatus
fa_rdma_reserve(FaChannel *channel, Size len, char **memory_p)
{
	FaRdma	   *rdma = fa_rdma_of(channel);
	FaRdmaStream *stream;
	char	   *memory;

	Assert(channel->up && len <= channel->max_message);
	stream = transfer_next(rdma, &memory);
	if (!transfer_has_room(stream))
		fa_rdma_progress(rdma);
	if (rdma->broken != FA_TRANSPORT_OK)
		return rdma->broken;
	if (!transfer_has_room(stream))
		return FA_TRANSPORT_AGAIN;
	*memory_p = memory;
	return FA_TRANSPORT_OK;
}

/* For the device to take; false when the memory is none that it may. */
static bool
transfer_piece(FaRdma *rdma, const FaTransportPiece *piece,
			   struct ibv_sge *sge)
{
	const char *end = piece->data + piece->len;

	sge->addr = (uintptr_t) piece->data;
	sge->length = piece->len;
	if (rdma->pool_key && piece->data >= rdma->pool &&
		end <= rdma->pool + rdma->pool_size)
	{
		sge->lkey = rdma->pool_key->lkey;
		rdma->channel->gathered += piece->len;
		return true;
	}
	sge->lkey = rdma->memory_key->lkey;
	return piece->data >= rdma->memory &&
		end <= rdma->memory + rdma->memory_size;
}

/*
 * WRITEs into the message's slot, as many as the pieces need; the last tells
 * the receiver.  How many.
 */
static int
transfer_writes(FaRdmaStream *stream, struct ibv_send_wr *work,
				struct ibv_sge *sge, int npieces)
{
	FaRdma	   *rdma = stream->rdma;
	uint64		slot = stream->remote +
		(stream->posted % rdma->slots) * rdma->slot_size;
	Size		done = 0;
	int			n = 0;

	for (int i = 0; i < npieces; n++)
	{
		struct ibv_send_wr *w = &work[n];
		int			end = Min(npieces, i + rdma->max_sge);

		memset(w, 0, sizeof(*w));
		w->wr_id = WORK_ID(stream, WORK_MESSAGE, 0);
		w->opcode = IBV_WR_RDMA_WRITE;
		w->sg_list = &sge[i];
		w->num_sge = end - i;
		w->wr.rdma.remote_addr = slot + done;
		w->wr.rdma.rkey = stream->rkey;
		if (n > 0)
			work[n - 1].next = w;
		for (; i < end; i++)
			done += sge[i].length;
	}
	work[n - 1].opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	work[n - 1].send_flags = IBV_SEND_SIGNALED;
	work[n - 1].imm_data = pg_hton32(done);
	return n;
}

FaTransportStatus
fa_rdma_post(FaChannel *channel, const FaTransportPiece *pieces, int npieces,
			 uint64 cookie)
{
	FaRdma	   *rdma = fa_rdma_of(channel);
	struct ibv_sge sge[FA_RDMA_MAX_PIECES];
	struct ibv_send_wr work[FA_RDMA_MAX_PIECES];
	FaRdmaStream *stream;
	FaTransportStatus status;
	char	   *memory;
	Size		len = 0;
	int			writes;

	if (rdma->broken != FA_TRANSPORT_OK)
		return rdma->broken;
	stream = transfer_next(rdma, &memory);
	Assert(npieces > 0 && npieces <= FA_RDMA_MAX_PIECES);
	Assert(transfer_has_room(stream));
	for (int i = 0; i < npieces; i++)
	{
		if (!transfer_piece(rdma, &pieces[i], &sge[i]))
			return fa_rdma_break(rdma, FA_TRANSPORT_IO,
								 "a piece of a message is in memory that is not registered");
		len += pieces[i].len;
	}
	Assert(len > 0 && len <= channel->max_message);
	writes = transfer_writes(stream, work, sge, npieces);
	status = transfer_send(stream, work);
	if (status != FA_TRANSPORT_OK)
		return status;
	rdma->cookie[channel->messages % (rdma->nstreams * rdma->slots)] = cookie;
	stream->posted++;
	channel->messages++;
	channel->bytes += len;
	channel->writes += writes;
	return FA_TRANSPORT_OK;
}

/* The oldest message that has arrived and was not returned yet. */
static bool
transfer_take(FaRdma *rdma, FaTransportEvent *event_p)
{
	FaRdmaStream *stream = &rdma->stream[rdma->taken % rdma->nstreams];
	uint32		n = rdma->taken / rdma->nstreams;
	uint32		slot = n % rdma->slots;

	if (stream->arrived == n)
		return false;
	event_p->kind = FA_TRANSPORT_ARRIVED;
	event_p->data = rdma->memory +
		((Size) stream->index * rdma->slots + slot) * rdma->slot_size;
	event_p->len = stream->length[slot];
	event_p->cookie = 0;
	rdma->taken++;
	rdma->channel->messages++;
	rdma->channel->bytes += event_p->len;
	return true;
}

FaTransportStatus
fa_rdma_poll(FaChannel *channel, FaTransportEvent *event_p)
{
	FaRdma	   *rdma = fa_rdma_of(channel);

	fa_rdma_progress(rdma);
	/* what came before the end counts */
	if (channel->receiver && rdma->cq && transfer_take(rdma, event_p))
		return FA_TRANSPORT_OK;
	if (rdma->news_sent)
	{
		rdma->news_sent = false;
		event_p->kind = FA_TRANSPORT_SENT;
		event_p->cookie = rdma->last_cookie;
		return FA_TRANSPORT_OK;
	}
	return rdma->broken != FA_TRANSPORT_OK ? rdma->broken : FA_TRANSPORT_AGAIN;
}

FaTransportStatus
fa_rdma_release(FaChannel *channel)
{
	FaRdma	   *rdma = fa_rdma_of(channel);
	FaRdmaStream *stream = &rdma->stream[rdma->freed % rdma->nstreams];
	FaTransportStatus status;

	/* after an error nobody knows whether there was one */
	if (rdma->freed == rdma->taken)
		return rdma->broken;
	rdma->freed++;
	stream->let_go++;
	if (rdma->broken != FA_TRANSPORT_OK)
		return rdma->broken;
	status = fa_rdma_post_receive(stream, stream->let_go % rdma->slots);
	if (status != FA_TRANSPORT_OK ||
		stream->let_go - stream->released < rdma->slots / FA_RDMA_CREDIT_PART)
		return status;
	if (stream->sends >= FA_RDMA_CREDITS)
		fa_rdma_progress(rdma);
	/* else the next release says it; the sender has slots meanwhile */
	if (rdma->broken == FA_TRANSPORT_OK && stream->sends < FA_RDMA_CREDITS)
		return transfer_credit(stream);
	return rdma->broken;
}
