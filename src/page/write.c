/*
 * write.c
 *	  The destination of a page copy: checks frames and writes their pages.
 *
 * Nothing of a frame is believed: its place in the move, its CRCs, that its
 * blocks lie within the relation, that a page is one which the source's side
 * of this protocol can have made.  Pages are checked in memory of our own and
 * get into the buffers only together.
 *
 * A page of a raw frame is as the source has it: it is copied out of the frame
 * first, settled here by the verdicts that came with it, and then checked like
 * any other.
 *
 * A frame is one WAL record of full page images, as of an index build.  Pages at
 * the end of the relation, in the first round nearly all, are then written right
 * to the file, as ALTER TABLE ... SET TABLESPACE does: through the buffers each
 * would be written once more, as zeros.  Others replace what is in the buffers.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "catalog/storage.h"
#include "miscadmin.h"
#include "storage/freespace.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/smgr.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "page/frame.h"
#include "page/room.h"
#include "page/shape.h"
#include "page/target.h"
#include "page/target_state.h"

/* Less room than this is not worth an insert's visit. */
#define ROOM_WORTH_KNOWING	256
#define PIN_RETRY_MS		5
#define MANY_PAGES			16384
#define FLUSH_BLOCKS		128		/* are written out at once */

FaPageTarget *
fa_target_create(int64 move, TransactionId xid, const Oid *relations,
				 int nrelations, Oid toast_from)
{
	FaPageTarget *target = palloc0(sizeof(FaPageTarget));

	target->move = move;
	target->xid = xid;
	target->toast_from = toast_from;
	target->verdicts = palloc(sizeof(FaVerdicts));
	target->nrelations = nrelations;
	target->relation = palloc0(sizeof(FaTargetRelation) * nrelations);
	for (int i = 0; i < nrelations; i++)
	{
		FaTargetRelation *r = &target->relation[i];
		Relation	rel = relation_open(relations[i], AccessShareLock);

		r->oid = relations[i];
		r->heap = RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind);
		r->toast = r->heap ? rel->rd_rel->reltoastrelid : InvalidOid;
		r->nblocks = RelationGetNumberOfBlocks(rel);
		if (r->heap)
			r->shape = fa_shape_of(rel);
		else
			r->method = rel->rd_rel->relam;
		fa_blocks_init(&r->have);
		fa_blocks_init(&r->torn);
		fa_blocks_init(&r->visible);
		fa_blocks_init(&r->stale);
		relation_close(rel, AccessShareLock);
	}
	target->strategy = GetAccessStrategy(BAS_BULKWRITE);
	target->image = (char *) TYPEALIGN(FA_IO_ALIGN,
									   palloc(FA_FRAME_PAGES * BLCKSZ + FA_IO_ALIGN));
	return target;
}

void
fa_target_begin(FaPageTarget *target, uint32 round)
{
	target->round = round;
	target->number = 0;
	target->pages = 0;
	target->torn = 0;
}

uint32
fa_target_frames(const FaPageTarget *target)
{
	return target->number;
}

static void
receive_invalid(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("invalid frame of pages from a peer"),
			 errdetail_internal("%s", why)));
}

static void
receive_invalid_page(const FaTargetRelation *r, BlockNumber block,
					 const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("invalid page for block %u of relation %u from a peer",
					block, r->oid),
			 errdetail_internal("%s", why)));
}

/* Checks a page that has come; whether all its rows are visible. */
static bool
receive_verify(FaPageTarget *target, FaTargetRelation *r, BlockNumber block,
			   Page page)
{
	bool		visible = false;
	const char *why;

	if (PageIsNew(page))
	{
		/* all zeros: an upper of 0 alone does not make it so */
		for (int i = 0; i < BLCKSZ; i++)
		{
			if (page[i] != 0)
				receive_invalid("page without a header has contents");
		}
		return false;
	}
	why = r->heap ?
		fa_heap_verify(page, block, target->xid, r->shape, r->toast, &visible) :
		fa_index_verify(page, block, r->method, target->xid);
	if (why)
		receive_invalid_page(r, block, why);
	if (visible)
		PageSetAllVisible(page);
	return visible;
}

/* Makes the relation one block longer, with a page of zeros. */
static void
write_extend(FaTargetRelation *r, Relation rel, BufferAccessStrategy strategy)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, P_NEW,
											RBM_NORMAL, strategy);

	if (BufferGetBlockNumber(buffer) != r->nblocks)
		elog(ERROR, "relation %u has been extended by someone else", r->oid);
	ReleaseBuffer(buffer);
	r->nblocks++;
}

static void
write_unlock(const Buffer *buffer, int n)
{
	for (int i = 0; i < n; i++)
		UnlockReleaseBuffer(buffer[i]);
}

/*
 * The blocks, for us alone.  A reader's pin is waited for with nothing held:
 * it may be waiting for another of the blocks.
 */
static void
write_lock(FaPageTarget *target, Relation rel, const BlockNumber *block,
		   Buffer *buffer, int n)
{
	for (int i = 0; i < n;)
	{
		buffer[i] = ReadBufferExtended(rel, MAIN_FORKNUM, block[i],
									   RBM_NORMAL, target->strategy);
		if (ConditionalLockBufferForCleanup(buffer[i]))
		{
			i++;
			continue;
		}
		ReleaseBuffer(buffer[i]);
		write_unlock(buffer, i);
		i = 0;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 PIN_RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Have so many blocks before the end written out, for the fence's sake. */
static void
append_flush(FaTargetRelation *r, Relation rel, BlockNumber before)
{
	BlockNumber from = before - before % FLUSH_BLOCKS;
	BlockNumber end = r->nblocks - r->nblocks % FLUSH_BLOCKS;

	if (end > from)
		smgrwriteback(RelationGetSmgr(rel), MAIN_FORKNUM, from, end - from);
}

/*
 * Pages for the blocks from the relation's end on.  Nobody has them in a buffer,
 * as nobody has seen them.  No checkpoint may begin after their record and be
 * over before they are in the file: a crash later would lose them.  An error in
 * between ends the transaction, which lets checkpoints go on.
 */
static void
write_append(FaTargetRelation *r, Relation rel, char *image, int n)
{
	FaFile		file = fa_relation_file(rel);
	BlockNumber first = r->nblocks;
	XLogRecPtr	end;

	Assert((MyProc->delayChkptFlags & DELAY_CHKPT_START) == 0);
	MyProc->delayChkptFlags |= DELAY_CHKPT_START;
	XLogBeginInsert();
	for (int i = 0; i < n; i++)
		XLogRegisterBlock(i, &file, MAIN_FORKNUM, first + i, image + (Size) i * BLCKSZ,
						  REGBUF_FORCE_IMAGE |
						  (fa_shape_has_hole(r->heap, r->method) ? REGBUF_STANDARD : 0));
	end = XLogInsert(RM_XLOG_ID, XLOG_FPI);
	for (int i = 0; i < n; i++)
	{
		Page		page = image + (Size) i * BLCKSZ;

		if (!PageIsNew(page))
		{
			PageSetLSN(page, end);
			PageSetChecksumInplace(page, first + i);
		}
		smgrextend(RelationGetSmgr(rel), MAIN_FORKNUM, first + i, page, false);
		r->nblocks++;
	}
	MyProc->delayChkptFlags &= ~DELAY_CHKPT_START;
	append_flush(r, rel, first);
}

/* Pages for blocks that are there, in ascending order. */
static void
write_replace(FaPageTarget *target, FaTargetRelation *r, Relation rel,
			  const BlockNumber *block, int n)
{
	Buffer		buffer[FA_FRAME_PAGES];
	XLogRecPtr	end;

	write_lock(target, rel, block, buffer, n);
	XLogBeginInsert();
	START_CRIT_SECTION();
	for (int i = 0; i < n; i++)
	{
		Page		page = BufferGetPage(buffer[i]);

		memcpy(page, target->image + (Size) i * BLCKSZ, BLCKSZ);
		MarkBufferDirty(buffer[i]);
		XLogRegisterBuffer(i, buffer[i], REGBUF_FORCE_IMAGE |
						   (fa_shape_has_hole(r->heap, r->method) &&
							!PageIsNew(page) ? REGBUF_STANDARD : 0));
	}
	end = XLogInsert(RM_XLOG_ID, XLOG_FPI);
	for (int i = 0; i < n; i++)
	{
		if (!PageIsNew(BufferGetPage(buffer[i])))
			PageSetLSN(BufferGetPage(buffer[i]), end);
	}
	END_CRIT_SECTION();
	write_unlock(buffer, n);
}

/* The frame's pages, in ascending order. */
static void
write_pages(FaPageTarget *target, FaTargetRelation *r, Relation rel,
			const BlockNumber *block, int n)
{
	int			there = n;		/* of them, the first ones */

	XLogEnsureRecordSpace(FA_FRAME_PAGES - 1, 0);
	/* pages in between are still to come, or a peer makes fun of us */
	if (block[n - 1] > r->nblocks + MANY_PAGES)
	{
		FaRoom		room = {rel->rd_rel->reltablespace,
		(int64) (block[n - 1] - r->nblocks) * BLCKSZ};

		fa_room_require(&room, 1);
	}
	/* the others follow each other from the end on, which may have to go there */
	while (there > 0 && block[there - 1] >= r->nblocks &&
		   (there == n || block[there - 1] + 1 == block[there]))
		there--;
	while (there < n && r->nblocks < block[there])
	{
		CHECK_FOR_INTERRUPTS();
		write_extend(r, rel, target->strategy);
	}
	if (there > 0)
		write_replace(target, r, rel, block, there);
	if (there < n)
		write_append(r, rel, target->image + (Size) there * BLCKSZ, n - there);
}

/* Both maps follow the pages; that of visibility later, by whole pages. */
static void
write_note(FaPageTarget *target, FaTargetRelation *r, Relation rel,
		   const BlockNumber *block, const bool *visible, int n)
{
	for (int i = 0; i < n; i++)
	{
		Page		page = target->image + (Size) i * BLCKSZ;
		Size		room;

		fa_blocks_add(&r->have, block[i]);
		if (!r->heap)
			continue;
		if (visible[i] != fa_blocks_has(&r->visible, block[i]))
			fa_blocks_add(&r->stale, block[i] / FA_MAP_BLOCKS);
		if (visible[i])
			fa_blocks_add(&r->visible, block[i]);
		else
			fa_blocks_remove(&r->visible, block[i]);
		room = PageIsNew(page) ? 0 : PageGetHeapFreeSpace(page);
		if (room >= ROOM_WORTH_KNOWING)
			RecordPageWithFreeSpace(rel, block[i], room);
	}
}

static void
receive_check_block(const FaFrameHeader *header, BlockNumber block, bool first,
					BlockNumber last)
{
	if (block >= header->nblocks || block > MaxBlockNumber ||
		(!first && block <= last))
		receive_invalid("blocks are out of bounds or order");
}

/* Pages that the source has settled; how many. */
static int
receive_settled(FaPageTarget *target, FaTargetRelation *r,
				FaFrameReader *reader, const FaFrameHeader *header,
				BlockNumber *block, bool *visible)
{
	for (int i = 0; i < header->entries; i++)
	{
		Page		page = target->image + (Size) i * BLCKSZ;
		const char *why = fa_frame_get_page(reader, &block[i], page);

		if (why)
			receive_invalid(why);
		receive_check_block(header, block[i], i == 0, block[Max(i, 1) - 1]);
		visible[i] = receive_verify(target, r, block[i], page);
	}
	return header->entries;
}

/* What comes before the bytes of raw pages. */
static void
receive_raw_head(FaPageTarget *target, FaFrameReader *reader,
				 const FaFrameHeader *header, FaFrameRaw *raw)
{
	const char *why;

	for (int i = 0; i < header->entries; i++)
	{
		why = fa_frame_get_raw(reader, &raw[i]);
		if (why)
			receive_invalid(why);
		receive_check_block(header, raw[i].block, i == 0,
							raw[Max(i, 1) - 1].block);
	}
	fa_verdicts_init(target->verdicts, NULL);
	why = fa_verdicts_get(target->verdicts, reader, header);
	if (why)
		receive_invalid(why);
}

/* Pages as the source has them; how many of them are whole. */
static int
receive_raw(FaPageTarget *target, FaTargetRelation *r, FaFrameReader *reader,
			const FaFrameHeader *header, BlockNumber *block, bool *visible)
{
	FaFrameRaw	raw[FA_FRAME_PAGES];
	int			n = 0;

	receive_raw_head(target, reader, header, raw);
	for (int i = 0; i < header->entries; i++)
	{
		Page		page = target->image + (Size) n * BLCKSZ;
		bool		torn;
		const char *why = fa_frame_get_bytes(reader, &raw[i], page, &torn);

		if (why)
			receive_invalid(why);
		if (torn)
		{
			/* what was there before is of no use either */
			fa_blocks_remove(&r->have, raw[i].block);
			fa_blocks_add(&r->torn, raw[i].block);
			target->torn++;
			continue;
		}
		if (r->heap &&
			fa_heap_settle(page, raw[i].block, &target->verdicts->judge,
						   target->xid, r->shape, target->toast_from,
						   r->toast, &why) == FA_PAGE_BROKEN)
			receive_invalid_page(r, raw[i].block, why);
		/* also when it is pending, which no verdict says */
		if (target->verdicts->missing)
			receive_invalid("page names a transaction without a verdict");
		visible[n] = receive_verify(target, r, raw[i].block, page);
		block[n++] = raw[i].block;
	}
	return n;
}

static void
receive_pages(FaPageTarget *target, FaFrameReader *reader,
			  const FaFrameHeader *header)
{
	BlockNumber block[FA_FRAME_PAGES];
	bool		visible[FA_FRAME_PAGES];
	FaTargetRelation *r;
	Relation	rel;
	const char *why;
	int			n;

	if (header->relation >= target->nrelations)
		receive_invalid("frame is for a relation that is not copied");
	r = &target->relation[header->relation];
	n = header->kind == FA_FRAME_RAW_KIND ?
		receive_raw(target, r, reader, header, block, visible) :
		receive_settled(target, r, reader, header, block, visible);
	why = fa_frame_close(reader);
	if (why)
		receive_invalid(why);
	if (n == 0)
		return;
	rel = relation_open(r->oid, RowExclusiveLock);
	write_pages(target, r, rel, block, n);
	write_note(target, r, rel, block, visible, n);
	relation_close(rel, NoLock);
	target->pages += n;
}

/* Cuts off what the source has cut off. */
static void
receive_size(FaTargetRelation *r, BlockNumber nblocks)
{
	Relation	rel;

	if (r->nblocks > nblocks)
	{
		rel = relation_open(r->oid, AccessExclusiveLock);
		RelationTruncate(rel, nblocks);
		relation_close(rel, NoLock);
		r->nblocks = nblocks;
		fa_blocks_cut(&r->have, nblocks);
		fa_blocks_cut(&r->torn, nblocks);
		fa_blocks_cut(&r->visible, nblocks);
		/* the map was cut with it, but whole pages of it only are known */
		fa_blocks_add(&r->stale, nblocks / FA_MAP_BLOCKS);
	}
}

static void
receive_end(FaPageTarget *target, FaFrameReader *reader,
			const FaFrameHeader *header, FaRoundEnd *end_p)
{
	FaRoundEnd	end = {
		.sent = header->relation != 0, .pages = target->pages,
		.left = target->torn, .torn = target->torn
	};
	const char *why = NULL;

	if (header->entries != target->nrelations)
		receive_invalid("end frame has a wrong number of relations");
	for (int i = 0; i < target->nrelations; i++)
	{
		BlockNumber nblocks;
		uint32		left;

		why = fa_frame_get_relation(reader, &nblocks, &left);
		if (why)
			receive_invalid(why);
		end.left += left;
		if (end.sent)
			receive_size(&target->relation[i], nblocks);
	}
	why = fa_frame_close(reader);
	if (why)
		receive_invalid(why);
	*end_p = end;
}

bool
fa_target_receive(FaPageTarget *target, const char *data, size_t len,
				  FaRoundEnd *end_p)
{
	FaFrameReader reader;
	FaFrameHeader header;
	const char *why = fa_frame_open(&reader, data, len, &header);

	if (why)
		receive_invalid(why);
	if (header.move != target->move || header.round != target->round ||
		header.number != target->number)
		receive_invalid("frame is out of its order");
	target->number++;
	if (header.kind == FA_FRAME_END_KIND)
	{
		receive_end(target, &reader, &header, end_p);
		return true;
	}
	receive_pages(target, &reader, &header);
	return false;
}

char *
fa_target_take_torn(FaPageTarget *target)
{
	StringInfoData relations;
	StringInfoData blocks;

	initStringInfo(&relations);
	initStringInfo(&blocks);
	for (int i = 0; i < target->nrelations; i++)
	{
		FaBlockSet *torn = &target->relation[i].torn;
		BlockNumber block = 0;

		while ((block = fa_blocks_next(torn, block)) != InvalidBlockNumber)
		{
			const char *comma = relations.len ? "," : "";

			appendStringInfo(&relations, "%s%d", comma, i);
			appendStringInfo(&blocks, "%s%u", comma, block++);
		}
		fa_blocks_cut(torn, 0);
	}
	return relations.len == 0 ? NULL :
		psprintf("'{%s}', '{%s}'", relations.data, blocks.data);
}

void
fa_target_check_complete(const FaPageTarget *target)
{
	for (int i = 0; i < target->nrelations; i++)
	{
		const FaTargetRelation *r = &target->relation[i];

		if (r->have.count != r->nblocks)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("%u blocks of relation %u did not come from the peer",
							r->nblocks - r->have.count, r->oid)));
	}
}
