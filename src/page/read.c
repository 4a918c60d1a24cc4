/*
 * read.c
 *	  The source of a page copy: sends, round by round, what has changed.
 *
 * Runs in the session of a mover.  open_pages() says what is to be sent, and
 * to whom it will belong; each send_pages() is a round:
 *
 *	1. blocks that were changed since the last round, from the log; blocks
 *	   that are new; in the first round all
 *	2. each of them is copied under a share lock, and settled while it is
 *	   pinned; one that names a transaction which still runs stays for the
 *	   next round
 *	3. an end frame says how large the relations are and what is left
 *
 * Ending a transaction changes no page, hence the second half of 2.  In the
 * last round the mover holds SHARE on the table: nobody writes, all writers
 * have ended, and so nothing is left.  Readers may prune and set hints
 * meanwhile: the page is right before and after.
 *
 * An ACCESS SHARE lock is held in a round and not between rounds.  A relation
 * that has got another file since (TRUNCATE, REINDEX) is sent anew.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/spi.h"
#include "page/blocks.h"
#include "page/frame.h"
#include "page/shape.h"
#include "page/source.h"

typedef struct SendRelation
{
	Oid			oid;
	bool		heap;			/* or TOAST; else an index */
	bool		has_hole;		/* its pages */
	FaFile		file;
	BlockNumber nblocks;		/* as of this round */
	FaBlockSet	todo;
	FaRowShape *shape;			/* of a heap */
	Oid			toast;			/* its TOAST relation */
} SendRelation;

/* One at a time in a session. */
typedef struct Sender
{
	MemoryContext context;
	int64		move;
	TransactionId xid;			/* that owns the rows at the destination */
	Oid			toast_to;		/* TOAST relation there */
	int			nrelations;
	SendRelation *relation;
	FaWalScan  *wal;
	FaXids	   *xids;
} Sender;

/* One round. */
typedef struct SendRound
{
	uint32		round;
	uint32		number;			/* of the next frame */
	int			relation;
	BlockNumber next;			/* block to go on with */
	bool		send;			/* false: there is too much */
	FaXidJudge *judge;
	BufferAccessStrategy strategy;
} SendRound;

static Sender *sender = NULL;

PG_FUNCTION_INFO_V1(fa_sql_open_pages);
PG_FUNCTION_INFO_V1(fa_sql_send_pages);

static void
open_relation(SendRelation *r, Oid oid)
{
	Relation	rel = relation_open(oid, AccessShareLock);

	r->oid = oid;
	r->heap = RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		(!r->heap && rel->rd_rel->relkind != RELKIND_INDEX))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("pages of relation \"%s\" cannot be sent",
						RelationGetRelationName(rel))));
	r->has_hole = fa_shape_has_hole(r->heap, rel->rd_rel->relam);
	r->nblocks = 0;				/* all are new */
	r->file = fa_relation_file(rel);
	fa_blocks_init(&r->todo);
	if (r->heap)
		r->shape = fa_shape_of(rel);
	r->toast = r->heap ? rel->rd_rel->reltoastrelid : InvalidOid;
	relation_close(rel, NoLock);
}

static void
open_check(Oid leaf)
{
	const FaFragment *f = fa_map_leaf(leaf);

	if (f == NULL || !f->local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation %u is no fragment of this node", leaf)));
}

/*
 * open_pages(move, xid, toast, relations): the heap first, then its TOAST
 * relation and indexes; returns their size in bytes
 */
Datum
fa_sql_open_pages(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(3);
	MemoryContext context;
	MemoryContext old;
	Datum	   *oids;
	Sender	   *new;
	int64		blocks = 0;

	if (sender)
		MemoryContextDelete(sender->context);
	sender = NULL;
	context = AllocSetContextCreate(CurrentMemoryContext,
									"fragaffinity pages",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	new = palloc0(sizeof(Sender));
	new->context = context;
	new->move = PG_GETARG_INT64(0);
	new->xid = (TransactionId) PG_GETARG_INT64(1);
	new->toast_to = PG_GETARG_OID(2);
	deconstruct_array(array, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &oids,
					  NULL, &new->nrelations);
	if (new->nrelations == 0 || new->nrelations > PG_UINT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pages of no relation or too many are asked for")));
	open_check(DatumGetObjectId(oids[0]));
	new->relation = palloc0(sizeof(SendRelation) * new->nrelations);
	for (int i = 0; i < new->nrelations; i++)
		open_relation(&new->relation[i], DatumGetObjectId(oids[i]));
	/* keeps the log; goes with the session */
	(void) fa_spi_value("SELECT pg_catalog.pg_create_physical_replication_slot("
						"'fragaffinity_" INT64_FORMAT "_pages_%d', true, true)",
						new->move, MyProcPid);
	/* whatever is read from now on, later changes are found in the log */
	new->wal = fa_wal_scan_create();
	new->xids = fa_xids_create();
	MemoryContextSwitchTo(old);
	for (int i = 0; i < new->nrelations; i++)
	{
		Relation	rel = relation_open(new->relation[i].oid, NoLock);

		blocks += RelationGetNumberOfBlocks(rel);
		relation_close(rel, NoLock);
	}
	MemoryContextSetParent(context, TopMemoryContext);
	sender = new;
	PG_RETURN_INT64(blocks * BLCKSZ);
}

static void
round_changed(void *arg, const FaFile *file, BlockNumber block, bool cut)
{
	for (int i = 0; i < sender->nrelations; i++)
	{
		SendRelation *r = &sender->relation[i];

		if (!fa_file_equals(r->file, *file))
			continue;
		if (cut)
			fa_blocks_add_range(&r->todo, block, r->nblocks);
		else
			fa_blocks_add(&r->todo, block);
	}
}

/* Locks the relations and finds out what is to be sent; how many blocks. */
static int64
round_find(void)
{
	int64		todo = 0;

	for (int i = 0; i < sender->nrelations; i++)
	{
		SendRelation *r = &sender->relation[i];
		Relation	rel = relation_open(r->oid, AccessShareLock);

		if (!fa_file_equals(r->file, fa_relation_file(rel)))
		{
			r->file = fa_relation_file(rel);
			r->nblocks = 0;
			fa_blocks_cut(&r->todo, 0);
		}
		relation_close(rel, NoLock);
	}
	fa_wal_scan(sender->wal, round_changed, NULL);
	for (int i = 0; i < sender->nrelations; i++)
	{
		SendRelation *r = &sender->relation[i];
		Relation	rel = relation_open(r->oid, NoLock);
		BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

		if (nblocks > r->nblocks)
			fa_blocks_add_range(&r->todo, r->nblocks, nblocks);
		fa_blocks_cut(&r->todo, nblocks);
		r->nblocks = nblocks;
		todo += r->todo.count;
		relation_close(rel, NoLock);
	}
	return todo;
}

/* A copy of a block, settled; false: not now. */
static bool
send_read(SendRound *round, SendRelation *r, Relation rel, BlockNumber block,
		  Page page)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block,
											RBM_NORMAL, round->strategy);
	FaPageResult result = FA_PAGE_GOOD;
	const char *why = NULL;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(page, BufferGetPage(buffer), BLCKSZ);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (r->heap)
		result = fa_heap_settle(page, block, round->judge, sender->xid,
								r->shape, r->toast, sender->toast_to, &why);
	ReleaseBuffer(buffer);
	if (result == FA_PAGE_BROKEN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invalid page in block %u of relation \"%s\"", block,
						RelationGetRelationName(rel)),
				 errdetail_internal("%s", why)));
	return result == FA_PAGE_GOOD;
}

/* Fills a frame from the current relation; its size, 0 when none is left. */
static size_t
send_frame(SendRound *round, char *buf)
{
	SendRelation *r = &sender->relation[round->relation];
	Relation	rel = relation_open(r->oid, NoLock);
	FaFrameHeader header = {
		.kind = FA_FRAME_PAGES_KIND, .move = sender->move,
		.round = round->round, .number = round->number,
		.relation = round->relation, .nblocks = r->nblocks
	};
	size_t		len = FA_FRAME_HEADER;
	PGAlignedBlock page;

	while (header.entries < FA_FRAME_PAGES)
	{
		BlockNumber block = fa_blocks_next(&r->todo, round->next);

		CHECK_FOR_INTERRUPTS();
		if (block == InvalidBlockNumber)
			break;
		round->next = block + 1;
		if (!send_read(round, r, rel, block, page.data))
			continue;
		fa_blocks_remove(&r->todo, block);
		len += fa_frame_put_page(buf + len, block, page.data,
								 r->has_hole);
		header.entries++;
	}
	relation_close(rel, NoLock);
	fa_frame_put_header(buf, &header);
	return header.entries == 0 ? 0 : len;
}

static size_t
send_end(SendRound *round, char *buf)
{
	FaFrameHeader header = {
		.kind = FA_FRAME_END_KIND, .move = sender->move,
		.round = round->round, .number = round->number,
		.relation = round->send, .entries = sender->nrelations
	};
	size_t		len = fa_frame_put_header(buf, &header);

	for (int i = 0; i < sender->nrelations; i++)
		len += fa_frame_put_relation(buf + len, sender->relation[i].nblocks,
									 sender->relation[i].todo.count);
	return len;
}

static SendRound *
send_begin(uint32 number, int64 most)
{
	SendRound  *round = palloc0(sizeof(SendRound));

	if (sender == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no pages are open in this session"),
				 errhint("Only a mover calls this function.")));
	round->round = number;
	round->send = round_find() <= most;
	round->judge = fa_xids_judge(sender->xids);
	/* what has changed lately is in memory; all the rest need not get there */
	round->strategy = number == 0 ? GetAccessStrategy(BAS_BULKREAD) : NULL;
	return round;
}

/*
 * send_pages(round, most): frames, the last one an end frame, the only one
 * when there are more than so many blocks
 */
Datum
fa_sql_send_pages(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	SendRound  *round;
	bytea	   *frame;
	size_t		len = 0;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		call->user_fctx = send_begin(PG_GETARG_INT32(0), PG_GETARG_INT64(1));
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	round = call->user_fctx;
	if (round == NULL)
		SRF_RETURN_DONE(call);
	frame = palloc(VARHDRSZ + FA_FRAME_MAX +
				   FA_FRAME_RELATION * sender->nrelations);
	while (round->send && round->relation < sender->nrelations)
	{
		len = send_frame(round, VARDATA(frame));
		if (len > 0)
			break;
		round->relation++;
		round->next = 0;
	}
	if (len == 0)
	{
		len = send_end(round, VARDATA(frame));
		call->user_fctx = NULL;
	}
	round->number++;
	SET_VARSIZE(frame, VARHDRSZ + len);
	SRF_RETURN_NEXT(call, PointerGetDatum(frame));
}
