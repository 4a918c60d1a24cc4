/*
 * fault.c
 *	  A channel with faults: what a wire, a device or a peer may do to
 *	  messages, for tests.
 *
 * fragaffinity.transport_faults is a list of "kind=number"; a superuser's, and
 * read when a channel opens.  The number is that of the message, from 1, but
 * for the delay.
 *
 *	refuse		the transport does not go (any number; but rows always do)
 *	drop		the message does not come
 *	repeat		it comes twice
 *	swap		it comes after the next
 *	truncate	it comes without its last byte
 *	append		it comes with a byte more
 *	flip		it comes with a bit changed
 *	lose		the channel is lost before it
 *	fail		a call fails before it; also at the sender
 *	flush		the device's queues fail after it, and all that is in them; also
 *				at the sender, and only of a transport that has a device
 *	stall		it and all after it never come
 *	delay		every message comes so many ms after the one before
 *
 * All but "fail" and "flush" are the receiver's.
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "core/settings.h"
#include "transport/transport.h"

typedef enum FaultKind
{
	FAULT_REFUSE,
	FAULT_DROP,
	FAULT_REPEAT,
	FAULT_SWAP,
	FAULT_TRUNCATE,
	FAULT_APPEND,
	FAULT_FLIP,
	FAULT_LOSE,
	FAULT_FAIL,
	FAULT_FLUSH,
	FAULT_STALL,
	FAULT_DELAY,
	FAULT_KINDS
} FaultKind;

static const char *const fault_names[FAULT_KINDS] = {
	"refuse", "drop", "repeat", "swap", "truncate", "append", "flip", "lose",
	"fail", "flush", "stall", "delay"
};

/* A message that has arrived, copied. */
typedef struct FaultMessage
{
	char	   *data;
	Size		len;
	int			times;			/* that it is still to be given out */
} FaultMessage;

typedef struct FaultChannel
{
	FaChannel	base;
	FaTransportOps ops;			/* of this channel: named as the inner one's */
	FaChannel  *inner;
	uint64		at[FAULT_KINDS];	/* 0: never */
	uint64		number;			/* of messages, or posts */
	FaultMessage now;
	FaultMessage held;			/* swapped: after "now" */
	TimestampTz next;			/* not before */
	bool		stalled;
} FaultChannel;

/* What is common goes down before a call, and up after it. */
static void
fault_down(FaultChannel *fault)
{
	fault->inner->copying = fault->base.copying;
	fault->inner->row = fault->base.row;
}

static FaTransportStatus
fault_up(FaultChannel *fault, FaTransportStatus status)
{
	FaChannel  *inner = fault->inner;

	fault->base.up = inner->up;
	fault->base.copying = inner->copying;
	fault->base.row = inner->row;
	fault->base.messages = inner->messages;
	fault->base.bytes = inner->bytes;
	if (!inner->receiver)
	{
		fault->base.gathered = inner->gathered;
		fault->base.writes = inner->writes;
		fault->base.completions = inner->completions;
	}
	fault->base.max_pieces = inner->max_pieces;
	if (inner->why[0] != '\0')
		strlcpy(fault->base.why, inner->why, sizeof(fault->base.why));
	return status;
}

static bool
fault_is(const FaultChannel *fault, FaultKind kind)
{
	return fault->at[kind] != 0 && fault->at[kind] == fault->number;
}

static FaTransportStatus
fault_open(FaChannel *channel)
{
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
fault_listen(FaChannel *channel, FaTransportAddress *address_p)
{
	FaultChannel *fault = (FaultChannel *) channel;

	if (fault->at[FAULT_REFUSE] &&
		!(channel->ops->capabilities & FA_TRANSPORT_ROWS))
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "refused, as \"transport_faults\" says");
	return fault_up(fault, fault->inner->ops->listen(fault->inner, address_p));
}

static FaTransportStatus
fault_connect(FaChannel *channel, const FaTransportAddress *address)
{
	FaultChannel *fault = (FaultChannel *) channel;

	return fault_up(fault, fault->inner->ops->connect(fault->inner, address));
}

static FaTransportStatus
fault_register(FaChannel *channel, void *memory, Size len)
{
	FaultChannel *fault = (FaultChannel *) channel;

	return fault_up(fault, fault->inner->ops->register_memory(fault->inner,
															  memory, len));
}

static FaTransportStatus
fault_reserve(FaChannel *channel, Size len, char **memory_p)
{
	FaultChannel *fault = (FaultChannel *) channel;

	fault_down(fault);
	return fault_up(fault, fault->inner->ops->reserve(fault->inner, len,
													  memory_p));
}

static FaTransportStatus
fault_post(FaChannel *channel, const FaTransportPiece *pieces, int npieces,
		   uint64 cookie)
{
	FaultChannel *fault = (FaultChannel *) channel;

	fault->number++;
	if (fault_is(fault, FAULT_FAIL))
		return fa_channel_fail(channel, FA_TRANSPORT_IO,
							   "post %llu failed, as \"transport_faults\" says",
							   (unsigned long long) fault->number);
	if (fault_is(fault, FAULT_FLUSH))
		fault->inner->flush = true;
	fault_down(fault);
	return fault_up(fault, fault->inner->ops->post(fault->inner, pieces,
												   npieces, cookie));
}

/* A message has arrived: what is to come of it. */
static FaTransportStatus
fault_take(FaultChannel *fault, const FaTransportEvent *event)
{
	FaChannel  *channel = &fault->base;
	FaultMessage *to = &fault->now;

	fault->number++;
	if (fault_is(fault, FAULT_LOSE))
		return fa_channel_fail(channel, FA_TRANSPORT_LOST,
							   "lost, as \"transport_faults\" says");
	if (fault_is(fault, FAULT_FAIL))
		return fa_channel_fail(channel, FA_TRANSPORT_IO,
							   "message %llu failed, as \"transport_faults\" says",
							   (unsigned long long) fault->number);
	if (fault_is(fault, FAULT_FLUSH))
		fault->inner->flush = true;
	if (fault_is(fault, FAULT_SWAP))
		to = &fault->held;
	memcpy(to->data, event->data, event->len);
	to->len = event->len;
	to->times = 1;
	if (fault_is(fault, FAULT_DROP))
		to->times = 0;
	if (fault_is(fault, FAULT_REPEAT))
		to->times = 2;
	if (fault_is(fault, FAULT_TRUNCATE))
		to->len--;
	if (fault_is(fault, FAULT_APPEND))
		to->data[to->len++] = '\0';
	if (fault_is(fault, FAULT_FLIP))
		to->data[to->len / 2] ^= 0x10;
	return FA_TRANSPORT_OK;
}

/* Gives out a copied message; false: there is none to give. */
static bool
fault_give(FaultChannel *fault, FaTransportEvent *event_p)
{
	FaultMessage *from = fault->now.times > 0 ? &fault->now :
		fault->held.times > 0 && fault->number > fault->at[FAULT_SWAP] ?
		&fault->held : NULL;

	if (from == NULL)
		return false;
	event_p->kind = FA_TRANSPORT_ARRIVED;
	event_p->data = from->data;
	event_p->len = from->len;
	from->times--;
	fault->next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											  fault->at[FAULT_DELAY]);
	return true;
}

static FaTransportStatus
fault_poll(FaChannel *channel, FaTransportEvent *event_p)
{
	FaultChannel *fault = (FaultChannel *) channel;
	FaChannel  *inner = fault->inner;

	channel->wake_at = 0;
	if (fault->at[FAULT_DELAY] && GetCurrentTimestamp() < fault->next)
	{
		channel->wake_at = fault->next;
		return FA_TRANSPORT_AGAIN;
	}
	while (!fault_give(fault, event_p))
	{
		FaTransportStatus status;

		fault->stalled = fault->at[FAULT_STALL] != 0 &&
			fault->number + 1 >= fault->at[FAULT_STALL];
		if (fault->stalled)
			return FA_TRANSPORT_AGAIN;
		fault_down(fault);
		status = fault_up(fault, inner->ops->poll(inner, event_p));
		if (status != FA_TRANSPORT_OK || event_p->kind != FA_TRANSPORT_ARRIVED)
			return status;
		status = fault_take(fault, event_p);
		if (status == FA_TRANSPORT_OK)
			status = fault_up(fault, inner->ops->release(inner));
		if (status != FA_TRANSPORT_OK)
			return status;
	}
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
fault_release(FaChannel *channel)
{
	return FA_TRANSPORT_OK;
}

static int
fault_fds(FaChannel *channel, FaTransportFd *fd)
{
	FaultChannel *fault = (FaultChannel *) channel;

	/* what is there already is not to be looked at again and again */
	if (channel->wake_at != 0 || fault->stalled)
		return 0;
	return fault->inner->ops->fds(fault->inner, fd);
}

static void
fault_close(FaChannel *channel)
{
	fa_channel_close(((FaultChannel *) channel)->inner);
}

static const FaTransportOps fault_ops = {
	.size = sizeof(FaTransportOps),
	.channel_size = sizeof(FaultChannel),
	.open = fault_open,
	.listen = fault_listen,
	.connect = fault_connect,
	.register_memory = fault_register,
	.reserve = fault_reserve,
	.post = fault_post,
	.poll = fault_poll,
	.release = fault_release,
	.fds = fault_fds,
	.close = fault_close
};

static void
fault_parse(const char *text, uint64 *at)
{
	List	   *items;
	ListCell   *lc;

	if (!SplitGUCList(pstrdup(text), ',', &items))
		items = NIL;
	foreach(lc, items)
	{
		char	   *item = lfirst(lc);
		char	   *value = strchr(item, '=');
		int			kind = FAULT_KINDS;

		if (value)
		{
			*value++ = '\0';
			for (kind = 0; kind < FAULT_KINDS; kind++)
			{
				if (strcmp(fault_names[kind], item) == 0)
					break;
			}
		}
		if (kind == FAULT_KINDS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value in \"fragaffinity.transport_faults\": \"%s\"",
							item)));
		at[kind] = strtoull(value, NULL, 10);
	}
}

FaChannel *
fa_transport_with_faults(FaChannel *channel)
{
	FaultChannel *fault;
	FaTransportStatus status;

	if (fa_transport_faults == NULL || fa_transport_faults[0] == '\0')
		return channel;
	fault = (FaultChannel *) fa_channel_open(&fault_ops, channel->receiver,
											 channel->conn,
											 channel->max_message,
											 channel->secret, &status);
	fault->inner = channel;
	channel->wrapped = true;
	fault_parse(fa_transport_faults, fault->at);
	fault->ops = fault_ops;
	fault->ops.name = channel->ops->name;
	fault->ops.capabilities = channel->ops->capabilities;
	fault->base.ops = &fault->ops;
	fault->now.data = palloc(channel->max_message + 1);
	fault->held.data = palloc(channel->max_message + 1);
	(void) fault_up(fault, status);
	return &fault->base;
}
