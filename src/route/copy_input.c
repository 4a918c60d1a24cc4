/*
 * copy_input.c
 *	  What a client sends for a COPY FROM STDIN by several processes.
 *
 * PostgreSQL waits for a client without looking at anything else, as nothing else
 * goes on then.  Here workers do: so an error of theirs ends the wait, and when the
 * client pauses, they get the lines that were read.  An error between two messages
 * is no harm to the protocol: whatever else comes for the COPY is skipped.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "route/copy_writers.h"

#define PAUSE_MS 100			/* without input: the client may wait for us */
#define MAX_DATA (MaxAllocSize - 1) /* as PostgreSQL has them, of a message */
#define MAX_OTHER 10000

typedef struct Input
{
	CopyFromState state;
	FaCopyPause pause;
	void	   *arg;			/* of it */
} Input;

/* A client sends to one COPY at a time. */
static Input input;

/* Waits for the client, or until there is something else to look at. */
static void
input_wait(bool *paused)
{
	WaitEvent	event;
	int			n;

	ModifyWaitEvent(FeBeWaitSet, FA_CLIENT_SOCKET_POS, WL_SOCKET_READABLE, NULL);
	n = WaitEventSetWait(FeBeWaitSet, *paused ? -1 : PAUSE_MS, &event, 1,
						 WAIT_EVENT_CLIENT_READ);
	if (n == 0)
	{
		*paused = true;
		input.pause(input.arg);
		return;
	}
	if (event.events & WL_POSTMASTER_DEATH)
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("terminating connection due to unexpected postmaster exit")));
	if (event.events & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
input_lost(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("unexpected EOF on client connection with an open transaction")));
}

/* The type of the next message, which is being read then. */
static int
input_begin_message(void)
{
	bool		paused = false;

	for (;;)
	{
		unsigned char type;
		int			n;

		/* a cancel in the midst of a message would lose track of the protocol */
		HOLD_CANCEL_INTERRUPTS();
		pq_startmsgread();
		n = pq_getbyte_if_available(&type);
		if (n < 0)
			input_lost();
		if (n > 0)
			return type;
		pq_endmsgread();
		RESUME_CANCEL_INTERRUPTS();
		input_wait(&paused);
	}
}

/* Reads a message; false: it is the last one. */
static bool
input_read_message(void)
{
	StringInfo	message = input.state->fe_msgbuf;
	int			type = input_begin_message();

	/* as CopyGetData() of copyfromparse.c has it */
	if (type == 0 || strchr("dcfHS", type) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("unexpected message type 0x%02X during COPY from stdin",
						type)));
	if (pq_getmessage(message, type == 'd' ? MAX_DATA : MAX_OTHER))
		input_lost();
	RESUME_CANCEL_INTERRUPTS();
	if (type == 'f')
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("COPY from stdin failed: %s", pq_getmsgstring(message))));
	/* Flush and Sync mean nothing here */
	if (type != 'd')
		resetStringInfo(message);
	return type != 'c';
}

/* For PostgreSQL: some bytes, or 0 at the end. */
static int
input_read(void *buf, int min, int max)
{
	CopyFromState state = input.state;
	StringInfo	message = state->fe_msgbuf;
	int			n;

	while (message->cursor >= message->len)
	{
		if (state->raw_reached_eof || !input_read_message())
		{
			state->raw_reached_eof = true;
			return 0;
		}
	}
	n = Min(message->len - message->cursor, max);
	pq_copymsgbytes(message, buf, n);
	return n;
}

void
fa_copy_input_begin(CopyFromState state, FaCopyPause pause, void *arg)
{
	if (state->copy_src != COPY_FRONTEND)
		return;
	input.state = state;
	input.pause = pause;
	input.arg = arg;
	state->data_source_cb = input_read;
	state->copy_src = COPY_CALLBACK;
}

void
fa_copy_input_end(CopyFromState state)
{
	char		rest[1024];

	if (state->data_source_cb != input_read)
		return;
	while (input_read(rest, 1, sizeof(rest)) > 0)
		CHECK_FOR_INTERRUPTS();
}
