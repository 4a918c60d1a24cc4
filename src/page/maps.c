/*
 * maps.c
 *	  Visibility and free space maps of the relations of a page copy.
 *
 * A visibility map is a function of the pages that were written, so it is not
 * copied but computed: a page of it speaks for 32,672 heap blocks (with blocks
 * of 8 kB), and is written and logged as a whole whenever one of them has
 * changed.  So index-only scans need no VACUUM after a move.
 *
 * One bit is left to the server's own function.  Its WAL record carries the
 * xid from which on the rows are visible to everyone, so a standby ends
 * queries with an older snapshot, as it would after a VACUUM.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/visibilitymap.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/freespace.h"
#include "utils/rel.h"

#include "page/target.h"
#include "page/target_state.h"

#define BITS_A_BLOCK	2
#define BLOCKS_A_BYTE	(8 / BITS_A_BLOCK)

/* Sets a bit as VACUUM does, for what standbys make of it. */
static void
map_tell(FaPageTarget *target, FaTargetRelation *r, Relation rel)
{
	BlockNumber block = fa_blocks_next(&r->visible, 0);
	Buffer		map = InvalidBuffer;
	Buffer		heap;

	if (block == InvalidBlockNumber)
		return;
	visibilitymap_pin(rel, block, &map);
	heap = ReadBuffer(rel, block);
	LockBuffer(heap, BUFFER_LOCK_EXCLUSIVE);
	MarkBufferDirty(heap);		/* with checksums, it gets the record's LSN */
	visibilitymap_set(rel, block, heap, InvalidXLogRecPtr, map, target->xid,
					  VISIBILITYMAP_ALL_VISIBLE);
	UnlockReleaseBuffer(heap);
	ReleaseBuffer(map);
	target->told = true;
}

/* A page of a visibility map, by its number. */
static void
map_fill(const FaTargetRelation *r, BlockNumber number, uint8 *bytes)
{
	BlockNumber first = number * FA_MAP_BLOCKS;
	BlockNumber end = first + Min(FA_MAP_BLOCKS, InvalidBlockNumber - first);

	memset(bytes, 0, FA_MAP_BYTES);
	for (BlockNumber block = fa_blocks_next(&r->visible, first);
		 block < end;
		 block = fa_blocks_next(&r->visible, block + 1))
		bytes[(block - first) / BLOCKS_A_BYTE] |=
			VISIBILITYMAP_ALL_VISIBLE <<
			((block - first) % BLOCKS_A_BYTE * BITS_A_BLOCK);
}

static void
map_write(const FaTargetRelation *r, Relation rel, BlockNumber number)
{
	PGAlignedBlock bytes;
	Buffer		map = InvalidBuffer;
	Page		page;

	map_fill(r, number, (uint8 *) bytes.data);
	visibilitymap_pin(rel, number * FA_MAP_BLOCKS, &map);
	LockBuffer(map, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(map);
	START_CRIT_SECTION();
	memcpy(PageGetContents(page), bytes.data, FA_MAP_BYTES);
	MarkBufferDirty(map);
	log_newpage_buffer(map, false);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(map);
}

void
fa_target_write_maps(FaPageTarget *target)
{
	for (int i = 0; i < target->nrelations; i++)
	{
		FaTargetRelation *r = &target->relation[i];
		Relation	rel;

		if (!r->heap || r->stale.count == 0)
			continue;
		rel = relation_open(r->oid, RowExclusiveLock);
		if (!target->told)
			map_tell(target, r, rel);
		for (BlockNumber number = fa_blocks_next(&r->stale, 0);
			 number != InvalidBlockNumber;
			 number = fa_blocks_next(&r->stale, number + 1))
		{
			CHECK_FOR_INTERRUPTS();
			map_write(r, rel, number);
		}
		fa_blocks_cut(&r->stale, 0);
		relation_close(rel, NoLock);
	}
}

void
fa_target_vacuum_free_space(FaPageTarget *target)
{
	for (int i = 0; i < target->nrelations; i++)
	{
		Relation	rel;

		if (!target->relation[i].heap)
			continue;
		rel = relation_open(target->relation[i].oid, RowExclusiveLock);
		FreeSpaceMapVacuum(rel);
		relation_close(rel, NoLock);
	}
}
