/*
 * room.h
 *	  Is there room on the disk?
 */
#ifndef FA_PAGE_ROOM_H
#define FA_PAGE_ROOM_H

/*
 * in room.c: raises DISK_FULL unless so many bytes, and some to spare, are
 * free where the database is.
 */
extern void fa_room_require(int64 bytes);

#endif							/* FA_PAGE_ROOM_H */
