/*
 * room.c
 *	  Is there room on the disk?
 *
 * Asked before pages are copied: a full disk would stop the whole server, as
 * soon as it is the log that does not fit.  All that is copied is logged once
 * more; of that, checkpoints keep about max_wal_size.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/relpath.h"
#include "miscadmin.h"

#include "page/room.h"

#define SPARE	1.1				/* times what is asked for */

typedef struct FileSystem
{
	dev_t		device;
	char	   *path;			/* on it */
	double		wanted;
} FileSystem;

static void
room_failed(const char *path)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not get the free space of \"%s\": %m", path)));
}

/* Adds to what is wanted of the path's file system; how many there are. */
static int
room_add(FileSystem *systems, int n, char *path, double bytes)
{
	struct stat st;
	int			i;

	if (stat(path, &st) != 0)
		room_failed(path);
	for (i = 0; i < n && systems[i].device != st.st_dev; i++)
		;
	if (i == n)
	{
		systems[i].device = st.st_dev;
		systems[i].path = path;
		systems[i].wanted = 0;
		n++;
	}
	systems[i].wanted += bytes;
	return n;
}

static void
room_check(const FileSystem *system)
{
	struct statvfs fs;
	double		unused;

	if (statvfs(system->path, &fs) != 0)
		room_failed(system->path);
	unused = (double) fs.f_bavail * fs.f_frsize;
	if (unused < system->wanted * SPARE)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no room on the disk for a fragment"),
				 errdetail("It takes %.0f MB where \"%s\" is, and %.0f MB are free.",
						   system->wanted / 1e6, system->path, unused / 1e6)));
}

void
fa_room_require(const FaRoom *rooms, int n)
{
	FileSystem *systems = palloc(sizeof(FileSystem) * (n + 1));
	int			nsystems = 0;
	double		sum = 0;

	for (int i = 0; i < n; i++)
	{
		Oid			tablespace = OidIsValid(rooms[i].tablespace) ?
			rooms[i].tablespace : MyDatabaseTableSpace;

		nsystems = room_add(systems, nsystems,
							GetDatabasePath(MyDatabaseId, tablespace),
							rooms[i].bytes);
		sum += rooms[i].bytes;
	}
	nsystems = room_add(systems, nsystems, pstrdup(XLOGDIR),
						Min(sum, max_wal_size_mb * 1024.0 * 1024.0));
	for (int i = 0; i < nsystems; i++)
		room_check(&systems[i]);
}
