/*
 * source.h
 *	  Reading pages where they are: what has changed, and who did it.
 */
#ifndef FA_PAGE_SOURCE_H
#define FA_PAGE_SOURCE_H

#include "access/xlogdefs.h"

#include "core/fa_compat.h"
#include "page/image.h"

/* in xids.c: this server's transactions; remembers what it has found */
typedef struct FaXids FaXids;

extern FaXids *fa_xids_create(void);
/* For one round: what was pending may have ended since the last. */
extern FaXidJudge *fa_xids_judge(FaXids *xids);

/*
 * SQLSTATE of an error that makes what was copied so far useless, but not a
 * new copy: somebody has replaced a relation or changed the table.
 */
#define FA_COPY_OVERTAKEN	ERRCODE_TRANSACTION_ROLLBACK

/* in wal.c */
typedef struct FaWalScan FaWalScan;

/* A block has a new LSN; with cut, it and all after it may be gone. */
typedef void (*FaWalChanged) (void *arg, const FaFile *file,
							  BlockNumber block, bool cut);

/*
 * Reads this server's WAL from now on; a temporary slot of that name keeps
 * what has not been read.  Lives in the current memory context.
 */
extern FaWalScan *fa_wal_scan_create(const char *slot);

/*
 * Reports every main-fork block that was logged from the last scan (or the
 * creation) up to now.  The log is flushed to there.  A block that is read
 * after this call and is not reported by the next has not changed in between.
 */
extern void fa_wal_scan(FaWalScan *scan, FaWalChanged changed, void *arg);

#endif							/* FA_PAGE_SOURCE_H */
