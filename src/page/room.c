/*
 * room.c
 *	  Is there room on the disk?
 *
 * Asked before pages are copied: a full disk would stop the whole server, as
 * soon as it is the log that does not fit.
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "miscadmin.h"

#include "page/room.h"

#define SPARE	1.1				/* times what is asked for */

void
fa_room_require(int64 bytes)
{
	struct statvfs fs;
	double		unused;

	if (statvfs(DatabasePath, &fs) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not get the free space of \"%s\": %m",
						DatabasePath)));
	unused = (double) fs.f_bavail * fs.f_frsize;
	if (unused < bytes * SPARE)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no room on the disk for a fragment"),
				 errdetail("It takes " INT64_FORMAT " MB, and %.0f MB are free.",
						   bytes / 1000000, unused / 1e6)));
}
