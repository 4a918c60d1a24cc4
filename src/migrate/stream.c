/*
 * stream.c
 *	  The receiving end of logical replication, for one move.
 *
 * The slot is temporary: it goes with the connection, so neither a crash of
 * the mover nor a lost network leaves anything at the source.
 *
 * "The source has sent everything up to X" is known from its keepalives,
 * which carry the position up to which it has decoded.  A mover asks for one
 * whenever it has nothing to read, so the end of a drain costs one round
 * trip and not a timeout.
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "migrate/stream.h"

#define ASK_AGAIN_MS 10
#define FINISH_MS 1000

FaStream *
fa_stream_create(FaConn *conn, int64 move, int timeout_ms, char **snapshot_p)
{
	FaStream   *stream = palloc0(sizeof(FaStream));
	FaRows	   *rows;

	stream->slot = psprintf("fragaffinity_" INT64_FORMAT "_%d", move,
							MyProcPid);
	rows = fa_remote_rows(conn, timeout_ms,
						  "CREATE_REPLICATION_SLOT %s "
						  "TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')",
						  stream->slot);
	if (rows->nrows != 1 || rows->ncols < 3)
		elog(ERROR, "unexpected answer to CREATE_REPLICATION_SLOT");
	stream->conn = conn;
	stream->position = DatumGetLSN(DirectFunctionCall1(pg_lsn_in,
													   CStringGetDatum(rows->value[0][1])));
	stream->applied = stream->position;
	*snapshot_p = rows->value[0][2];
	return stream;
}

static void
stream_feedback(FaStream *stream, bool ask)
{
	StringInfoData buf;
	TimestampTz now = GetCurrentTimestamp();

	initStringInfo(&buf);
	pq_sendbyte(&buf, 'r');
	pq_sendint64(&buf, stream->position);
	pq_sendint64(&buf, stream->applied);
	pq_sendint64(&buf, stream->applied);
	pq_sendint64(&buf, now);
	pq_sendbyte(&buf, ask ? 1 : 0);
	if (PQputCopyData(stream->conn->pg, buf.data, buf.len) <= 0 ||
		PQflush(stream->conn->pg) != 0)
		fa_remote_raise(stream->conn, NULL, NULL);
	pfree(buf.data);
}

void
fa_stream_start(FaStream *stream, const char *publication, FaApply *apply)
{
	PGconn	   *pg = stream->conn->pg;
	char	   *sql = psprintf("START_REPLICATION SLOT %s LOGICAL %X/%X "
							   "(proto_version '1', publication_names '%s')",
							   stream->slot,
							   LSN_FORMAT_ARGS(stream->position), publication);
	PGresult   *res;

	stream->apply = apply;
	if (!PQsendQuery(pg, sql))
		fa_remote_raise(stream->conn, NULL, sql);
	res = fa_remote_get_result(stream->conn, 0);
	if (PQresultStatus(res) != PGRES_COPY_BOTH)
		fa_remote_raise(stream->conn, res, sql);
	PQclear(res);
}

/* One CopyData message. */
static void
stream_message(FaStream *stream, char *data, int len)
{
	StringInfoData msg;
	XLogRecPtr	position;

	msg.data = data;
	msg.len = len;
	msg.maxlen = -1;
	msg.cursor = 0;
	switch (pq_getmsgbyte(&msg))
	{
		case 'w':
			(void) pq_getmsgint64(&msg);	/* start */
			(void) pq_getmsgint64(&msg);	/* end of WAL */
			(void) pq_getmsgint64(&msg);	/* time */
			fa_apply_message(stream->apply, &msg);
			stream->bytes += len;
			break;
		case 'k':
			position = pq_getmsgint64(&msg);
			(void) pq_getmsgint64(&msg);	/* time */
			if (position > stream->position)
				stream->position = position;
			/* all that came before has been applied in order */
			stream->applied = stream->position;
			if (pq_getmsgbyte(&msg) != 0)
				stream_feedback(stream, false);
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid replication message from node \"%s\"",
							stream->conn->name)));
	}
}

/* Applies one message; false when none has arrived. */
static bool
stream_receive(FaStream *stream)
{
	PGconn	   *pg = stream->conn->pg;
	bool		any = false;
	char	   *data;
	int			len;

	if (!PQconsumeInput(pg))
		fa_remote_raise(stream->conn, NULL, NULL);
	if ((len = PQgetCopyData(pg, &data, 1)) > 0)
	{
		char	   *copy = palloc(len + 1);

		/* libpq's buffer would leak if applying it raised */
		memcpy(copy, data, len);
		copy[len] = '\0';
		PQfreemem(data);
		stream_message(stream, copy, len);
		pfree(copy);
		any = true;
		CHECK_FOR_INTERRUPTS();
	}
	if (len < 0)
	{
		PGresult   *res = fa_remote_get_result(stream->conn, 1000);

		fa_remote_raise(stream->conn, res, "START_REPLICATION");
	}
	return any;
}

bool
fa_stream_drain(FaStream *stream, XLogRecPtr target, int timeout_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   timeout_ms);

	/* a transaction that has begun to arrive is applied to its end */
	while (stream->position < target ||
		   fa_apply_in_transaction(stream->apply))
	{
		if (GetCurrentTimestamp() > deadline &&
			!fa_apply_in_transaction(stream->apply))
			return false;
		if (stream_receive(stream))
			continue;
		stream_feedback(stream, true);
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE |
								 WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 PQsocket(stream->conn->pg), ASK_AGAIN_MS,
								 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

void
fa_stream_finish(FaStream *stream)
{
	PGconn	   *pg = stream->conn->pg;

	/* a walsender that is told to end logs nothing; one cut off does */
	if (pg && PQputCopyEnd(pg, NULL) > 0 && PQflush(pg) == 0)
	{
		TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														   FINISH_MS);

		while (GetCurrentTimestamp() < deadline)
		{
			char	   *data;
			int			len = PQgetCopyData(pg, &data, 1);

			if (len > 0)
				PQfreemem(data);
			else if (len < 0 || !PQconsumeInput(pg))
				break;
			else
				(void) WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT |
										 WL_EXIT_ON_PM_DEATH, PQsocket(pg), 10,
										 PG_WAIT_EXTENSION);
		}
	}
	fa_remote_close(stream->conn);
}
