/*
 * channel.c
 *	  What all transports share: life, waiting and words of a channel.
 *
 * A channel lives in a memory context and is closed with it, so an error in
 * whatever uses it gives its memory and descriptors back; a process that dies
 * has them taken by the kernel, as no transport leaves anything with a name.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "transport/transport_stats.h"

void
fa_channel_fds_changed(FaChannel *channel)
{
	if (channel->set)
		FreeWaitEventSet(channel->set);
	channel->set = NULL;
}

void
fa_channel_close(FaChannel *channel)
{
	if (channel == NULL || channel->closed)
		return;
	channel->closed = true;
	channel->up = false;
	fa_transport_tell(channel);
	fa_channel_fds_changed(channel);
	channel->ops->close(channel);
	memset(channel->secret, 0, sizeof(channel->secret));
}

static void
channel_reset(void *arg)
{
	fa_channel_close(arg);
}

FaChannel *
fa_channel_open(const FaTransportOps *ops, bool receiver, FaConn *conn,
				Size max_message, const char *secret,
				FaTransportStatus *status_p)
{
	FaChannel  *channel;

	Assert(ops->size == sizeof(FaTransportOps));
	channel = palloc0(ops->channel_size);
	channel->ops = ops;
	channel->context = CurrentMemoryContext;
	channel->receiver = receiver;
	channel->conn = conn;
	channel->max_message = max_message;
	channel->max_pieces = 1;
	memcpy(channel->secret, secret, sizeof(channel->secret));
	channel->callback.func = channel_reset;
	channel->callback.arg = channel;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &channel->callback);
	*status_p = ops->open(channel);
	return channel;
}

/* The descriptors to wait for, all but the latch. */
static int
channel_fds(FaChannel *channel, pgsocket socket, FaTransportFd *fd)
{
	int			n = channel->ops->fds(channel, fd);

	Assert(n <= FA_TRANSPORT_FDS);
	if (socket != PGINVALID_SOCKET)
	{
		fd[n].fd = socket;
		fd[n++].events = WL_SOCKET_READABLE;
	}
	return n;
}

/* Made once for the same descriptors: a wait comes with every few frames. */
static void
channel_make_set(FaChannel *channel, const FaTransportFd *fd, int nfds)
{
	MemoryContext old;

	if (channel->set && nfds == channel->set_fds &&
		memcmp(fd, channel->set_fd, nfds * sizeof(*fd)) == 0)
		return;
	fa_channel_fds_changed(channel);
	/* close() frees it, which a context that is reset may be too late for */
	old = MemoryContextSwitchTo(TopMemoryContext);
	channel->set = fa_create_wait_event_set(nfds + 2);
	MemoryContextSwitchTo(old);
	AddWaitEventToSet(channel->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch,
					  NULL);
	AddWaitEventToSet(channel->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
					  NULL, NULL);
	for (int i = 0; i < nfds; i++)
		AddWaitEventToSet(channel->set, fd[i].events, fd[i].fd, NULL, NULL);
	memcpy(channel->set_fd, fd, nfds * sizeof(*fd));
	channel->set_fds = nfds;
}

void
fa_channel_wait(FaChannel *channel, pgsocket socket, long timeout_ms)
{
	FaTransportFd fd[FA_TRANSPORT_FDS + 1];
	WaitEvent	event;
	int			nfds;

	memset(fd, 0, sizeof(fd));
	nfds = channel_fds(channel, socket, fd);
	if (channel->wake_at != 0)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   channel->wake_at);

		timeout_ms = timeout_ms < 0 ? left : Min(left, timeout_ms);
	}
	channel_make_set(channel, fd, nfds);
	channel->waits++;
	fa_transport_tell(channel);
	(void) WaitEventSetWait(channel->set, timeout_ms, &event, 1,
							PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

FaTransportStatus
fa_channel_fail(FaChannel *channel, FaTransportStatus status,
				const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	(void) vsnprintf(channel->why, sizeof(channel->why), fmt, args);
	va_end(args);
	return status;
}

void
fa_channel_raise(const FaChannel *channel, FaTransportStatus status)
{
	int			code = ERRCODE_INTERNAL_ERROR;

	fa_transport_count(channel, FA_TRANSPORT_BROKEN);
	switch (status)
	{
		case FA_TRANSPORT_OK:
		case FA_TRANSPORT_AGAIN:
			break;
		case FA_TRANSPORT_UNFIT:
			code = ERRCODE_FEATURE_NOT_SUPPORTED;
			break;
		case FA_TRANSPORT_LOST:
			code = ERRCODE_CONNECTION_FAILURE;
			break;
		case FA_TRANSPORT_VIOLATION:
			code = ERRCODE_PROTOCOL_VIOLATION;
			break;
		case FA_TRANSPORT_NO_MEMORY:
			code = ERRCODE_OUT_OF_MEMORY;
			break;
		case FA_TRANSPORT_IO:
			code = ERRCODE_IO_ERROR;
			break;
	}
	ereport(ERROR,
			(errcode(code),
			 errmsg("transport \"%s\" failed: %s", channel->ops->name,
					channel->why)));
}

FaTransportStatus
fa_transport_registers_nothing(FaChannel *channel, void *memory, Size len)
{
	return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
						   "it sends from its own memory only");
}
