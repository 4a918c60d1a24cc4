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

/* A stream without a connection: keeps its rows in buf. */
extern FaRowStream *fa_row_stream_hold(void);

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

/* in row_burst.c */

typedef enum FaBurstState
{
	FA_BURST_IDLE,				/* its session can be used by anybody */
	FA_BURST_SENT,				/* the statement, but not the peer's answer */
	FA_BURST_COPIES,
	FA_BURST_ENDED				/* all is sent; the peer's answer will come */
} FaBurstState;

/* Rows for one peer, as fa_row_stream_hold() keeps them. */
typedef struct FaRowBurst
{
	FaConn	   *conn;			/* postgres_fdw's session */
	const char *sql;			/* COPY FROM STDIN */
	StringInfo	rows;

	FaBurstState state;
	int			sent;			/* bytes of rows */
	bool		ended;			/* the end, too */
} FaRowBurst;

/*
 * Has each of several peers insert its rows, all at the same time.  Raises what
 * a peer raises; *current_p is then whose.  The sessions are left to postgres_fdw
 * in any case, also when the process ends.
 */
extern void fa_row_burst(FaRowBurst *burst, int n, int *current_p);

#endif							/* FA_NODE_ROW_STREAM_H */
