/*
 * row_burst.c
 *	  Rows to several peers at once, over sessions of the transaction.
 *
 * Each is one COPY FROM STDIN, begun and ended here.  In between, nothing else
 * can be done with these sessions, and postgres_fdw, which cleans them up after
 * an error, would wait for ever for a COPY to end that nobody ends; and, before
 * 17, for a peer that does not answer to be asked to cancel.  So whatever way
 * they are left, they have nothing running, or no connection.
 */
#include "postgres.h"

#include <poll.h>
#include <sys/socket.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "node/row_stream.h"

#define CHUNK_SIZE 65536		/* handed to libpq at once */
#define ABANDON_TIMEOUT_MS 5000

typedef struct Bursts
{
	FaRowBurst *burst;
	int			n;
} Bursts;

static void
burst_open(FaRowBurst *b)
{
	PGresult   *res = fa_remote_get_result(b->conn, 0);

	if (PQresultStatus(res) != PGRES_COPY_IN)
	{
		PQclear(fa_remote_last_result(b->conn, 0));
		b->state = FA_BURST_IDLE;
		fa_remote_raise(b->conn, res, b->sql);
	}
	PQclear(res);
	b->state = FA_BURST_COPIES;
	if (PQsetnonblocking(b->conn->pg, 1) != 0)
		fa_remote_raise(b->conn, NULL, b->sql);
}

/* Sends as much as the connection takes; true when that was all. */
static bool
burst_feed(FaRowBurst *b)
{
	PGconn	   *pg = b->conn->pg;

	while (b->state == FA_BURST_COPIES)
	{
		int			rc = PQflush(pg);
		int			n = Min(CHUNK_SIZE, b->rows->len - b->sent);

		if (rc > 0)
			return false;
		if (rc < 0)
			break;
		if (n > 0)
		{
			if (PQputCopyData(pg, b->rows->data + b->sent, n) <= 0)
				break;
			b->sent += n;
		}
		else if (!b->ended)
		{
			if (PQputCopyEnd(pg, NULL) <= 0)
				break;
			b->ended = true;
		}
		else if (PQsetnonblocking(pg, 0) != 0)
			break;
		else
			b->state = FA_BURST_ENDED;
	}
	if (b->state != FA_BURST_ENDED)
		fa_remote_raise(b->conn, NULL, b->sql);
	return true;
}

/* Waits for one of those that are not through to take or say something. */
static void
bursts_wait(Bursts *bursts)
{
	WaitEventSet *set = fa_create_wait_event_set(bursts->n + 2);
	WaitEvent  *events = palloc(sizeof(WaitEvent) * (bursts->n + 2));
	bool		latch = false;
	FaRowBurst *lost = NULL;
	int			n;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < bursts->n; i++)
	{
		FaRowBurst *b = &bursts->burst[i];

		if (b->state == FA_BURST_COPIES)
			AddWaitEventToSet(set, WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE,
							  PQsocket(b->conn->pg), NULL, b);
	}
	n = WaitEventSetWait(set, -1, events, bursts->n + 2, PG_WAIT_EXTENSION);
	/* before anything that may raise: the set holds a descriptor */
	FreeWaitEventSet(set);
	for (int i = 0; i < n; i++)
	{
		FaRowBurst *b = events[i].user_data;

		if (events[i].events & WL_LATCH_SET)
			latch = true;
		else if (b && (events[i].events & WL_SOCKET_READABLE) &&
				 !PQconsumeInput(b->conn->pg))
			lost = b;
	}
	pfree(events);
	if (lost)
		fa_remote_raise(lost->conn, NULL, lost->sql);
	if (latch)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
burst_close(FaRowBurst *b)
{
	PGresult   *res = fa_remote_last_result(b->conn, 0);

	b->state = FA_BURST_IDLE;
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		fa_remote_raise(b->conn, res, b->sql);
	PQclear(res);
}

/* Waits for the socket; false when time is over.  Serves no interrupts. */
static bool
abandon_wait(PGconn *pg, short events, TimestampTz end)
{
	long		left = fa_remote_time_left(end);
	struct pollfd fd = {PQsocket(pg), events, 0};

	return left > 0 && (poll(&fd, 1, (int) left) >= 0 || errno == EINTR);
}

/* Has the peer begun to copy?  False when it does not say. */
static bool
abandon_open(FaRowBurst *b, TimestampTz end)
{
	PGresult   *res;

	while (PQisBusy(b->conn->pg))
	{
		if (!abandon_wait(b->conn->pg, POLLIN, end) ||
			!PQconsumeInput(b->conn->pg))
			return false;
	}
	res = PQgetResult(b->conn->pg);
	b->state = PQresultStatus(res) == PGRES_COPY_IN ? FA_BURST_COPIES :
		FA_BURST_ENDED;
	PQclear(res);
	return true;
}

/* Tells the peer that nothing more comes.  False when it does not listen. */
static bool
abandon_copy(FaRowBurst *b, TimestampTz end)
{
	PGconn	   *pg = b->conn->pg;
	int			rc;

	if (!b->ended && PQputCopyEnd(pg, "the statement has failed elsewhere") <= 0)
		return false;
	while ((rc = PQflush(pg)) > 0)
	{
		if (!abandon_wait(pg, POLLIN | POLLOUT, end) || !PQconsumeInput(pg))
			return false;
	}
	return rc == 0 && PQsetnonblocking(pg, 0) == 0;
}

/* Ends what runs there; false when the peer does not let us. */
static bool
abandon_burst(FaRowBurst *b, int timeout_ms)
{
	TimestampTz end = fa_remote_deadline(timeout_ms);

	/* it may wait for a lock, and not read meanwhile */
	(void) fa_remote_cancel(b->conn, timeout_ms / 2);
	if (b->state == FA_BURST_SENT && !abandon_open(b, end))
		return false;
	if (b->state == FA_BURST_COPIES && !abandon_copy(b, end))
		return false;
	return fa_remote_try_drain(b->conn, Max(fa_remote_time_left(end), 1));
}

/* Has libpq notice, and with it postgres_fdw, that the connection is lost. */
static void
abandon_conn(PGconn *pg)
{
	(void) shutdown(PQsocket(pg), SHUT_RDWR);
	while (PQstatus(pg) == CONNECTION_OK && PQconsumeInput(pg))
		;
}

/*
 * Never raises.  Each peer gets its part of the time that is left, so that one
 * that does not answer costs the others nothing.
 */
static void
bursts_abandon(int code, Datum arg)
{
	Bursts	   *bursts = (Bursts *) DatumGetPointer(arg);
	TimestampTz end = fa_remote_deadline(ABANDON_TIMEOUT_MS);

	for (int i = 0; i < bursts->n; i++)
	{
		FaRowBurst *b = &bursts->burst[i];
		long		left = fa_remote_time_left(end) / (bursts->n - i);

		if (b->state != FA_BURST_IDLE && PQstatus(b->conn->pg) == CONNECTION_OK &&
			!abandon_burst(b, Max((int) left, 1)))
			abandon_conn(b->conn->pg);
		b->state = FA_BURST_IDLE;
	}
}

static void
bursts_run(Bursts *bursts, int *current_p)
{
	bool		through = false;

	for (int i = 0; i < bursts->n; i++)
	{
		*current_p = i;
		fa_remote_send(bursts->burst[i].conn, bursts->burst[i].sql);
		bursts->burst[i].state = FA_BURST_SENT;
	}
	for (int i = 0; i < bursts->n; i++)
	{
		*current_p = i;
		burst_open(&bursts->burst[i]);
	}
	while (!through)
	{
		through = true;
		for (int i = 0; i < bursts->n; i++)
		{
			*current_p = i;
			if (bursts->burst[i].state == FA_BURST_COPIES)
				through = burst_feed(&bursts->burst[i]) && through;
		}
		if (!through)
			bursts_wait(bursts);
	}
	for (int i = 0; i < bursts->n; i++)
	{
		*current_p = i;
		burst_close(&bursts->burst[i]);
	}
}

void
fa_row_burst(FaRowBurst *burst, int n, int *current_p)
{
	Bursts		bursts = {burst, n};

	for (int i = 0; i < n; i++)
	{
		burst[i].state = FA_BURST_IDLE;
		burst[i].sent = 0;
		burst[i].ended = false;
	}
	/* also before postgres_fdw cleans up because this process is to end */
	PG_ENSURE_ERROR_CLEANUP(bursts_abandon, PointerGetDatum(&bursts));
	{
		bursts_run(&bursts, current_p);
	}
	PG_END_ENSURE_ERROR_CLEANUP(bursts_abandon, PointerGetDatum(&bursts));
}
