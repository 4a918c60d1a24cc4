/*
 * row_stream.h
 *	  Rows to a peer, as one COPY FROM STDIN that stays open.
 *
 * Several streams are fed at the same time: each takes a bounded amount of
 * memory, and waits for its peer only when that is full.
 */
#ifndef FA_NODE_ROW_STREAM_H
#define FA_NODE_ROW_STREAM_H

#include "lib/stringinfo.h"

#include "node/remote.h"

typedef struct FaRowStream
{
	FaConn	   *conn;
	StringInfoData buf;			/* rows not handed to libpq yet */
	Size		held;			/* bytes that libpq may not have sent */
	int64		rows;			/* that were ended */
} FaRowStream;

/*
 * Opens a stream on a connection by a statement that ends in COPY FROM STDIN;
 * statements before it are separated by semicolons.  Text format; the
 * connection is the stream's until it is closed.  In the current memory
 * context.
 */
extern FaRowStream *fa_row_stream_open(FaConn *conn, const char *sql);

/* Next value of a row, in the text format of its type; NULL: null. */
extern void fa_row_stream_value(FaRowStream *stream, const char *value,
								bool first);
/* The row is complete.  Raises what the peer has raised by now. */
extern void fa_row_stream_end_row(FaRowStream *stream);

/*
 * The two halves of the end, so that peers end at the same time.  The second
 * one returns the peer's count of rows, or raises what the peer raised.
 */
extern void fa_row_stream_finish(FaRowStream *stream);
extern int64 fa_row_stream_close(FaRowStream *stream);

#endif							/* FA_NODE_ROW_STREAM_H */
