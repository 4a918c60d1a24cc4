/*
 * wal.c
 *	  Which blocks have changed, from the server's own log.
 *
 * Every change that counts registers its block with its WAL record.  So the
 * blocks changed between two positions of the log are found by reading what
 * lies between them, however large the relation: what a cut-over has to look
 * at depends on what was written lately, and not on the fragment's size.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/storage_xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"

#include "core/spi.h"
#include "page/source.h"

#define MESSAGE_PREFIX "fragaffinity"

struct FaWalScan
{
	MemoryContext context;		/* the reader's */
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate private;
	char	   *slot;			/* keeps what has not been read */
	XLogRecPtr	kept;			/* from here on, or before */
	XLogRecPtr	next;			/* all before has been reported */
};

/*
 * End of a record of our own, flushed.  The insert position alone would not
 * do: it may lie behind the header of a page that is not there yet.
 */
static XLogRecPtr
wal_mark(void)
{
	XLogRecPtr	end = fa_log_message(MESSAGE_PREFIX);

	XLogFlush(end);
	return end;
}

/*
 * The slot is temporary, so that it goes with the session.  But every error of
 * the session takes it, too, such as a lock that a cut-over did not get.  One
 * that is made anew keeps what has been written since the last checkpoint's
 * start; if that is not enough, the log cannot be read and the move fails.
 */
static void
wal_hold(FaWalScan *scan)
{
	char	   *from;

	if (fa_spi_value("SELECT 1 FROM pg_catalog.pg_get_replication_slots()"
					 " WHERE slot_name = %s", scan->slot) != NULL)
		return;
	(void) fa_spi_value("SELECT pg_catalog.pg_create_physical_replication_slot("
						"%s, true, true)", scan->slot);
	from = fa_spi_value("SELECT restart_lsn"
						" FROM pg_catalog.pg_get_replication_slots()"
						" WHERE slot_name = %s", scan->slot);
	scan->kept = DatumGetLSN(DirectFunctionCall1(pg_lsn_in,
												 CStringGetDatum(from)));
}

FaWalScan *
fa_wal_scan_create(const char *slot)
{
	FaWalScan  *scan = palloc0(sizeof(FaWalScan));

	scan->slot = pstrdup(quote_literal_cstr(slot));
	wal_hold(scan);
	scan->context = CurrentMemoryContext;
	scan->reader = XLogReaderAllocate(wal_segment_size, NULL,
									  XL_ROUTINE(.page_read = read_local_xlog_page_no_wait,
												 .segment_open = wal_segment_open,
												 .segment_close = wal_segment_close),
									  &scan->private);
	if (scan->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	scan->next = wal_mark();
	return scan;
}

/* Lets go of the files that have been read. */
static void
wal_let_go(FaWalScan *scan)
{
	/* one that was made anew may begin later than what we read */
	if (scan->next / wal_segment_size <= scan->kept / wal_segment_size)
		return;
	(void) fa_spi_value("SELECT pg_catalog.pg_replication_slot_advance(%s, '%X/%X')",
						scan->slot, LSN_FORMAT_ARGS(scan->next));
	scan->kept = scan->next;
}

static void
wal_report(XLogReaderState *reader, FaWalChanged changed, void *arg)
{
	for (int id = 0; id <= XLogRecMaxBlockId(reader); id++)
	{
		FaFile		file;
		ForkNumber	fork;
		BlockNumber block;

		if (XLogRecGetBlockTagExtended(reader, id, &file, &fork, &block, NULL) &&
			fork == MAIN_FORKNUM)
			changed(arg, &file, block, false);
	}
	if (XLogRecGetRmid(reader) == RM_SMGR_ID &&
		(XLogRecGetInfo(reader) & ~XLR_INFO_MASK) == XLOG_SMGR_TRUNCATE)
	{
		xl_smgr_truncate *xlrec = (xl_smgr_truncate *) XLogRecGetData(reader);

		if (xlrec->flags & SMGR_TRUNCATE_HEAP)
			changed(arg, &fa_truncate_file(xlrec), xlrec->blkno, true);
	}
}

/* Where the record after a position begins: behind a page's header. */
static XLogRecPtr
wal_record_start(XLogRecPtr position)
{
	if (position % XLOG_BLCKSZ != 0)
		return position;
	return position + (position % wal_segment_size == 0 ?
					   SizeOfXLogLongPHD : SizeOfXLogShortPHD);
}

void
fa_wal_scan(FaWalScan *scan, FaWalChanged changed, void *arg)
{
	MemoryContext old;
	XLogRecPtr	target;

	wal_hold(scan);
	old = MemoryContextSwitchTo(scan->context);
	target = wal_mark();
	scan->private.end_of_wal = false;
	XLogBeginRead(scan->reader, wal_record_start(scan->next));
	while (scan->next < target)
	{
		char	   *error = NULL;

		CHECK_FOR_INTERRUPTS();
		if (XLogReadRecord(scan->reader, &error) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("could not read WAL at %X/%X: %s",
							LSN_FORMAT_ARGS(scan->next),
							error ? error : "it ends there")));
		wal_report(scan->reader, changed, arg);
		scan->next = scan->reader->EndRecPtr;
	}
	MemoryContextSwitchTo(old);
	wal_let_go(scan);
}
