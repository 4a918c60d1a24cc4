/*
 * rdma_device.c
 *	  Module of the transport "rdma": the device, its memory and queues.
 *
 * What a move takes from a device lives in its channel and goes with it; when
 * the process ends first, the kernel takes all of it back.
 *
 * Memory that a device reads or writes is shared (MAP_SHARED), as shared
 * buffers are: after a fork, which nobody here has a reason for, private pages
 * would no longer be those that the device knows.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "storage/latch.h"

#include "transport/rdma_verbs.h"

#define LARGE_PAGE	((Size) 2 * 1024 * 1024)

/* Why memory was not registered, in an administrator's words. */
static FaTransportStatus
device_not_registered(FaRdma *rdma, Size len)
{
	struct rlimit limit;

	if (errno == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
		limit.rlim_cur != RLIM_INFINITY)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_NO_MEMORY,
								"%zu kB could not be locked in memory, the limit (ulimit -l) is %zu kB",
								len / 1024, (Size) limit.rlim_cur / 1024);
	return rdma->host->fail(rdma->channel, errno == ENOMEM ?
							FA_TRANSPORT_NO_MEMORY : FA_TRANSPORT_UNFIT,
							"%zu kB could not be registered with the device: %m",
							len / 1024);
}

bool
fa_rdma_set_nonblocking(int fd)
{
	int			flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* In large pages where there are any: fewer for the device to know. */
static FaTransportStatus
device_map(FaRdma *rdma)
{
	Size		slots = (Size) rdma->nstreams * rdma->slots * rdma->slot_size;
	Size		len = TYPEALIGN(LARGE_PAGE, slots + FA_RDMA_MAX_STREAMS *
								FA_RDMA_CREDITS * sizeof(uint32));
	char	   *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
							  MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (memory == MAP_FAILED)
	{
		memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return rdma->host->fail(rdma->channel, FA_TRANSPORT_NO_MEMORY,
									"%zu kB could not be mapped: %m", len / 1024);
		(void) madvise(memory, len, MADV_HUGEPAGE);
	}
	rdma->memory = memory;
	rdma->memory_size = len;
	return FA_TRANSPORT_OK;
}

/*
 * The receiver's memory may be written to through a window over each stream's
 * slots, which ends with the queue pair; only where the device has none, as a
 * whole, until the channel is closed.
 */
static FaTransportStatus
device_register(FaRdma *rdma)
{
	int			access = IBV_ACCESS_LOCAL_WRITE;

	if (rdma->channel->receiver)
		access |= rdma->has_windows ? IBV_ACCESS_MW_BIND :
			IBV_ACCESS_REMOTE_WRITE;
	rdma->memory_key = ibv_reg_mr(rdma->pd, rdma->memory, rdma->memory_size,
								  access);
	if (rdma->memory_key == NULL)
		return device_not_registered(rdma, rdma->memory_size);
	return FA_TRANSPORT_OK;
}

/*
 * The receiver's key for a stream's slots.  A bound window's is the one after
 * its first.
 *
 * A window is made after its queue pair, and ends before it: rdma_rxe waits for
 * the windows that are bound to a queue pair before it destroys that, 52 s if
 * need be, and what a killed process had goes the other way round than it came.
 */
static FaTransportStatus
device_make_key(FaRdmaStream *stream)
{
	FaRdma	   *rdma = stream->rdma;

	stream->rkey = rdma->memory_key->rkey;
	if (!rdma->has_windows)
		return FA_TRANSPORT_OK;
	stream->window = ibv_alloc_mw(rdma->pd, IBV_MW_TYPE_2);
	if (stream->window == NULL)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"the device has no memory window left: %m");
	stream->rkey = ibv_inc_rkey(stream->window->rkey);
	return FA_TRANSPORT_OK;
}

/* WRITEs that a message takes at most. */
static int
device_writes(const FaRdma *rdma)
{
	return (FA_RDMA_MAX_PIECES + rdma->max_sge - 1) / rdma->max_sge;
}

FaTransportStatus
fa_rdma_take_device(FaRdma *rdma, struct rdma_cm_id *id)
{
	struct ibv_device_attr attr;
	FaTransportStatus status;
	int			entries;

	rdma->device = id->verbs;
	if (ibv_query_device(rdma->device, &attr) != 0)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"the device does not say what it can: %m");
	rdma->has_windows = (attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) != 0;
	rdma->max_sge = Max(1, Min(attr.max_sge, FA_RDMA_MAX_SGE));
	/* when a queue pair ends, all of its work completes, signalled or not */
	entries = rdma->nstreams * (FA_RDMA_CREDITS + 1 + rdma->slots *
								(rdma->channel->receiver ? 1 : device_writes(rdma)));
	if (entries > attr.max_cqe)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"the device's queues hold %d completions, %d are needed",
								attr.max_cqe, entries);
	if (!fa_rdma_set_nonblocking(rdma->device->async_fd) ||
		(rdma->pd = ibv_alloc_pd(rdma->device)) == NULL ||
		(rdma->news = ibv_create_comp_channel(rdma->device)) == NULL ||
		!fa_rdma_set_nonblocking(rdma->news->fd) ||
		(rdma->cq = ibv_create_cq(rdma->device, entries, rdma, rdma->news, 0)) == NULL)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"the device gives no queue of completions: %m");
	status = device_map(rdma);
	if (status == FA_TRANSPORT_OK)
		status = device_register(rdma);
	return status;
}

FaTransportStatus
fa_rdma_make_queues(FaRdmaStream *stream)
{
	FaRdma	   *rdma = stream->rdma;
	bool		receiver = rdma->channel->receiver;
	uint32		receives = receiver ? rdma->slots : FA_RDMA_CREDITS;
	struct ibv_qp_init_attr attr = {
		.send_cq = rdma->cq,
		.recv_cq = rdma->cq,
		.qp_type = IBV_QPT_RC,
		.cap.max_send_wr = receiver ? FA_RDMA_CREDITS + 1 :
		rdma->slots * device_writes(rdma),
		.cap.max_recv_wr = receives,
		.cap.max_send_sge = receiver ? 1 : rdma->max_sge,
		.cap.max_recv_sge = 1,
		.cap.max_inline_data = receiver ? sizeof(uint32) : 0
	};

	if (rdma_create_qp(stream->id, rdma->pd, &attr) != 0)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"the device gives no queue pair: %m");
	for (uint32 i = 0; i < receives; i++)
	{
		FaTransportStatus status = fa_rdma_post_receive(stream, i);

		if (status != FA_TRANSPORT_OK)
			return status;
	}
	return receiver ? device_make_key(stream) : FA_TRANSPORT_OK;
}

FaTransportStatus
fa_rdma_register_pool(FaRdma *rdma, void *memory, Size len)
{
	if (rdma->pool_key && rdma->pool == memory && rdma->pool_size == len)
		return FA_TRANSPORT_OK;
	if (rdma->pool_key)
		return rdma->host->fail(rdma->channel, FA_TRANSPORT_UNFIT,
								"other memory is registered already");
	/* read by the device, and by nobody from outside */
	rdma->pool_key = ibv_reg_mr(rdma->pd, memory, len, 0);
	if (rdma->pool_key == NULL)
		return device_not_registered(rdma, len);
	rdma->pool = memory;
	rdma->pool_size = len;
	return FA_TRANSPORT_OK;
}

static void
device_free_queue(FaRdma *rdma)
{
	struct ibv_cq *cq;
	void	   *context;

	/* destroying waits for events that were taken and not acknowledged */
	while (ibv_get_cq_event(rdma->news, &cq, &context) == 0)
		rdma->unacked++;
	ibv_ack_cq_events(rdma->cq, rdma->unacked);
	(void) ibv_destroy_cq(rdma->cq);
}

/* Queue pairs and windows first: nobody reads or writes the memory after that. */
void
fa_rdma_free(FaRdma *rdma)
{
	for (int i = 0; i < FA_RDMA_MAX_STREAMS; i++)
	{
		FaRdmaStream *s = &rdma->stream[i];

		if (s->id && s->id->qp)
			(void) rdma_disconnect(s->id);
		if (s->window)
			(void) ibv_dealloc_mw(s->window);
		if (s->id && s->id->qp)
			rdma_destroy_qp(s->id);
		free(s->length);
	}
	if (rdma->memory_key)
		(void) ibv_dereg_mr(rdma->memory_key);
	if (rdma->pool_key)
		(void) ibv_dereg_mr(rdma->pool_key);
	if (rdma->cq)
		device_free_queue(rdma);
	if (rdma->news)
		(void) ibv_destroy_comp_channel(rdma->news);
	if (rdma->pd)
		(void) ibv_dealloc_pd(rdma->pd);
	for (int i = 0; i < FA_RDMA_MAX_STREAMS; i++)
	{
		if (rdma->stream[i].id)
			(void) rdma_destroy_id(rdma->stream[i].id);
	}
	if (rdma->listener)
		(void) rdma_destroy_id(rdma->listener);
	if (rdma->events)
		rdma_destroy_event_channel(rdma->events);
	if (rdma->memory)
		(void) munmap(rdma->memory, rdma->memory_size);
	free(rdma->cookie);
	free(rdma);
}
