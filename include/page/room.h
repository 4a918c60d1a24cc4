/*
 * room.h
 *	  Is there room on the disk?
 */
#ifndef FA_PAGE_ROOM_H
#define FA_PAGE_ROOM_H

/* Bytes that a relation is going to have. */
typedef struct FaRoom
{
	Oid			tablespace;		/* invalid: the database's */
	int64		bytes;
} FaRoom;

/*
 * in room.c: raises DISK_FULL unless there is room for all of them, and some
 * to spare, in their tablespaces, and for their log in pg_wal.  Counts together
 * what is on one file system.
 */
extern void fa_room_require(const FaRoom *rooms, int n);

#endif							/* FA_PAGE_ROOM_H */
