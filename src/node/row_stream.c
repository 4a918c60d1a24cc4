/*
 * row_stream.c
 *	  Rows to a peer, as one COPY FROM STDIN that stays open.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "node/row_stream.h"

#define CHUNK_SIZE 65536		/* handed to libpq at once */
#define MAX_HELD (1024 * 1024)	/* in libpq, before we wait for the peer */

FaRowStream *
fa_row_stream_hold(void)
{
	FaRowStream *stream = palloc0(sizeof(FaRowStream));

	initStringInfo(&stream->buf);
	return stream;
}

FaRowStream *
fa_row_stream_open(FaConn *conn, const char *sql)
{
	FaRowStream *stream = fa_row_stream_hold();
	PGresult   *res;

	stream->conn = conn;
	fa_remote_send(conn, sql);
	for (;;)
	{
		ExecStatusType status;

		res = fa_remote_get_result(conn, 0);
		status = PQresultStatus(res);
		if (status != PGRES_COMMAND_OK && status != PGRES_COPY_IN)
			fa_remote_raise(conn, res, sql);
		PQclear(res);
		if (status == PGRES_COPY_IN)
			break;
	}
	if (PQsetnonblocking(conn->pg, 1) != 0)
		fa_remote_raise(conn, NULL, "COPY");
	return stream;
}

/* Waits for the peer to take or say something. */
static void
stream_wait(FaRowStream *stream)
{
	FaConn	   *conn = stream->conn;
	int			rc;

	rc = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						   WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE,
						   PQsocket(conn->pg), -1, PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if ((rc & WL_SOCKET_READABLE) && !PQconsumeInput(conn->pg))
		fa_remote_raise(conn, NULL, "COPY");
}

/* Sends what libpq has, until at most this much may be left. */
static void
stream_flush(FaRowStream *stream, Size left)
{
	int			rc;

	while ((rc = PQflush(stream->conn->pg)) != 0)
	{
		if (rc < 0)
			fa_remote_raise(stream->conn, NULL, "COPY");
		if (stream->held <= left)
			return;
		stream_wait(stream);
	}
	stream->held = 0;
}

/*
 * A peer that has not got the end yet says something only when it has failed
 * (notices are switched off for such sessions): no use in sending it the rest.
 */
static void
stream_check(FaRowStream *stream)
{
	FaConn	   *conn = stream->conn;
	int			rc;

	rc = WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT |
						   WL_EXIT_ON_PM_DEATH, PQsocket(conn->pg), 0,
						   PG_WAIT_EXTENSION);
	if (rc & WL_SOCKET_READABLE)
	{
		fa_row_stream_finish(stream);
		(void) fa_row_stream_close(stream);
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("node \"%s\" ended a copy early", conn->name)));
	}
}

/* Hands rows to libpq. */
static void
stream_put(FaRowStream *stream)
{
	if (stream->buf.len == 0)
		return;
	if (PQputCopyData(stream->conn->pg, stream->buf.data, stream->buf.len) <= 0)
		fa_remote_raise(stream->conn, NULL, "COPY");
	stream->held += stream->buf.len;
	resetStringInfo(&stream->buf);
}

void
fa_row_stream_value(FaRowStream *stream, const char *value, bool first)
{
	StringInfo	buf = &stream->buf;

	if (!first)
		appendStringInfoChar(buf, '\t');
	if (value == NULL)
	{
		appendStringInfoString(buf, "\\N");
		return;
	}
	while (*value)
	{
		Size		plain = strcspn(value, "\b\f\n\r\t\v\\");

		appendBinaryStringInfo(buf, value, plain);
		value += plain;
		switch (*value)
		{
			case '\0':
				return;
			case '\b':
				appendStringInfoString(buf, "\\b");
				break;
			case '\f':
				appendStringInfoString(buf, "\\f");
				break;
			case '\n':
				appendStringInfoString(buf, "\\n");
				break;
			case '\r':
				appendStringInfoString(buf, "\\r");
				break;
			case '\t':
				appendStringInfoString(buf, "\\t");
				break;
			case '\v':
				appendStringInfoString(buf, "\\v");
				break;
			default:
				appendStringInfoString(buf, "\\\\");
				break;
		}
		value++;
	}
}

void
fa_row_stream_end_row(FaRowStream *stream)
{
	appendStringInfoChar(&stream->buf, '\n');
	stream->rows++;
	if (stream->conn == NULL || stream->buf.len < CHUNK_SIZE)
		return;
	stream_check(stream);
	stream_put(stream);
	stream_flush(stream, MAX_HELD);
}

void
fa_row_stream_finish(FaRowStream *stream)
{
	stream_put(stream);
	if (PQputCopyEnd(stream->conn->pg, NULL) <= 0)
		fa_remote_raise(stream->conn, NULL, "COPY");
	/* the rest goes out while we wait for the answer */
	stream_flush(stream, PG_INT32_MAX);
}

int64
fa_row_stream_close(FaRowStream *stream)
{
	FaConn	   *conn = stream->conn;
	int64		rows = 0;
	PGresult   *res;

	stream_flush(stream, 0);
	PQsetnonblocking(conn->pg, 0);
	while ((res = fa_remote_get_result(conn, 0)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			fa_remote_raise(conn, res, "COPY");
		rows = strtoi64(PQcmdTuples(res), NULL, 10);
		PQclear(res);
	}
	pfree(stream->buf.data);
	pfree(stream);
	return rows;
}
