/*
 * stream.h
 *	  Reading and applying a leaf's changes at the destination of a move.
 */
#ifndef FA_MIGRATE_STREAM_H
#define FA_MIGRATE_STREAM_H

#include "access/xlogdefs.h"

#include "node/remote.h"

/* in apply.c */
typedef struct FaApply FaApply;

/*
 * Applies to the given heap, each source transaction in a local one; to be
 * called outside a transaction.
 */
extern FaApply *fa_apply_create(Oid heap);
extern void fa_apply_message(FaApply *apply, StringInfo message);
/* Between a begin and its commit?  Then a local transaction is open. */
extern bool fa_apply_in_transaction(const FaApply *apply);
extern int64 fa_apply_count(const FaApply *apply);	/* rows */

/* in stream.c */
typedef struct FaStream
{
	FaConn	   *conn;
	FaApply    *apply;
	char	   *slot;
	XLogRecPtr	position;		/* the source has sent all commits before */
	XLogRecPtr	applied;		/* reported back */
	int64		bytes;			/* received */
} FaStream;

/*
 * Makes a temporary slot that exports a snapshot; the name of the snapshot in
 * *snapshot_p.  The slot lives as long as conn, which must be a replication
 * connection.  Waits for transactions that run on the source.
 */
extern FaStream *fa_stream_create(FaConn *conn, int64 move, int timeout_ms,
								  char **snapshot_p);

/* Starts sending changes of the publication's one table, the leaf. */
extern void fa_stream_start(FaStream *stream, const char *publication,
							FaApply *apply);

/*
 * Applies until the source has sent everything up to target; false after
 * timeout_ms.  Ends between transactions.
 */
extern bool fa_stream_drain(FaStream *stream, XLogRecPtr target,
							int timeout_ms);

/* Ends the stream and its connection; never raises. */
extern void fa_stream_finish(FaStream *stream);

#endif							/* FA_MIGRATE_STREAM_H */
