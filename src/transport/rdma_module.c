/*
 * rdma_module.c
 *	  Module of the transport "rdma": its entry and its table of operations.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/latch.h"

#include "transport/rdma_verbs.h"

static const FaRdmaHost *module_host;

extern PGDLLEXPORT const FaTransportOps *fa_rdma_module(int version,
														const FaRdmaHost *host);

/* The state is malloc'ed, as nothing here may raise. */
static FaTransportStatus
module_open(FaChannel *channel)
{
	FaRdma	   *rdma = calloc(1, sizeof(FaRdma));

	channel->max_pieces = FA_RDMA_MAX_PIECES;
	if (rdma == NULL)
		return module_host->fail(channel, FA_TRANSPORT_NO_MEMORY, "out of memory");
	((FaRdmaChannel *) channel)->rdma = rdma;
	rdma->channel = channel;
	rdma->host = module_host;
	rdma->slot_size = TYPEALIGN(4096, channel->max_message);
	for (int i = 0; i < FA_RDMA_MAX_STREAMS; i++)
	{
		rdma->stream[i].rdma = rdma;
		rdma->stream[i].index = i;
	}
	rdma->events = rdma_create_event_channel();
	if (rdma->events == NULL || !fa_rdma_set_nonblocking(rdma->events->fd))
		return module_host->fail(channel, FA_TRANSPORT_UNFIT,
								 "there is no RDMA device: %m");
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
module_register_memory(FaChannel *channel, void *memory, Size len)
{
	return fa_rdma_register_pool(fa_rdma_of(channel), memory, len);
}

static int
module_fds(FaChannel *channel, FaTransportFd *fd)
{
	FaRdma	   *rdma = fa_rdma_of(channel);
	int			n = 0;

	if (rdma && rdma->events)
		fd[n++] = (FaTransportFd) {rdma->events->fd, WL_SOCKET_READABLE};
	if (rdma && rdma->cq)
	{
		fd[n++] = (FaTransportFd) {rdma->news->fd, WL_SOCKET_READABLE};
		fd[n++] = (FaTransportFd) {rdma->device->async_fd, WL_SOCKET_READABLE};
	}
	return n;
}

static void
module_close(FaChannel *channel)
{
	FaRdma	   *rdma = fa_rdma_of(channel);

	((FaRdmaChannel *) channel)->rdma = NULL;
	if (rdma)
		fa_rdma_free(rdma);
}

static const FaTransportOps module_ops = {
	.size = sizeof(FaTransportOps),
	.name = "rdma",
	.capabilities = FA_TRANSPORT_GATHER | FA_TRANSPORT_SHARED,
	.channel_size = sizeof(FaRdmaChannel),
	.open = module_open,
	.listen = fa_rdma_listen,
	.connect = fa_rdma_connect,
	.register_memory = module_register_memory,
	.reserve = fa_rdma_reserve,
	.post = fa_rdma_post,
	.poll = fa_rdma_poll,
	.release = fa_rdma_release,
	.fds = module_fds,
	.close = module_close,
};

const FaTransportOps *
fa_rdma_module(int version, const FaRdmaHost *host)
{
	if (version != FA_RDMA_MODULE_VERSION)
		return NULL;
	module_host = host;
	/* a fork must not leave the devices' own memory to be copied on write */
	(void) ibv_fork_init();
	return &module_ops;
}
