/*
 * read.c
 *	  The source of a page copy: sends, round by round, what has changed.
 *
 * Runs in the session of a mover.  open_pages() says what is to be sent, and
 * to whom it will belong; send_pages() sends a round:
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
 * A round takes as many calls as it needs, each a transaction: it ends after a
 * moment, so that neither its snapshot keeps the source from pruning what
 * clients update, nor its ACCESS SHARE locks who would TRUNCATE, and all behind
 * him.  So each call looks anew at what it reads from.  A relation that has got
 * another file (TRUNCATE, REINDEX) is sent anew; one that is another relation,
 * or a table with other columns or indexes, ends the copy (FA_COPY_OVERTAKEN).
 *
 * Each call also reads the log, so that not more of it is kept than one takes.
 *
 * A round that was not received whole, which the mover says with the next, is
 * sent again as part of that.
 *
 * Step 2 is without the copy where the transport takes pages from the buffers
 * (raw.h): then the destination settles them, by verdicts that go with them.
 * Not so in the last round.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/map.h"
#include "core/spi.h"
#include "page/blocks.h"
#include "page/frame.h"
#include "page/raw.h"
#include "page/send_relation.h"
#include "page/source.h"
#include "transport/transport.h"

#define CALL_MS		200			/* that a snapshot is kept */

/* A round; goes on from call to call. */
typedef struct SendRound
{
	int64		round;			/* they count from 1; 0: none yet */
	bool		ended;
	uint32		number;			/* of the next frame */
	int			relation;
	BlockNumber next;			/* block to go on with */
	bool		send;			/* false: there is too much */
	FaXidJudge *judge;
} SendRound;

/* One at a time in a session. */
typedef struct Sender
{
	MemoryContext context;
	int64		move;
	TransactionId xid;			/* that owns the rows at the destination */
	Oid			toast_to;		/* TOAST relation there */
	int			nrelations;
	FaSendRelation *relation;
	FaWalScan  *wal;
	FaXids	   *xids;
	bool		raw_refused;	/* shared buffers cannot be registered */
	SendRound	round;
} Sender;

/* One call of send_pages(). */
typedef struct SendCall
{
	TimestampTz until;			/* 0: the end of the round */
	bool		ended;
	BufferAccessStrategy strategy;
	FaRaw	   *raw;			/* pages go from the buffers; NULL: copied */
} SendCall;

static Sender *sender = NULL;

PG_FUNCTION_INFO_V1(fa_sql_open_pages);
PG_FUNCTION_INFO_V1(fa_sql_resend_pages);
PG_FUNCTION_INFO_V1(fa_sql_send_pages);

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
 * relation and indexes; returns their sizes in bytes
 */
Datum
fa_sql_open_pages(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(3);
	MemoryContext context;
	MemoryContext old;
	Datum	   *oids;
	Datum	   *bytes;
	Sender	   *new;

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
	new->relation = palloc0(sizeof(FaSendRelation) * new->nrelations);
	for (int i = 0; i < new->nrelations; i++)
		fa_send_relation_open(&new->relation[i], DatumGetObjectId(oids[i]));
	/* whatever is read from now on, later changes are found in the log */
	new->wal = fa_wal_scan_create(psprintf("fragaffinity_" INT64_FORMAT "_pages_%d",
										   new->move, MyProcPid));
	new->xids = fa_xids_create();
	MemoryContextSwitchTo(old);
	bytes = palloc(sizeof(Datum) * new->nrelations);
	for (int i = 0; i < new->nrelations; i++)
	{
		Relation	rel = relation_open(new->relation[i].oid, NoLock);

		bytes[i] = Int64GetDatum((int64) RelationGetNumberOfBlocks(rel) * BLCKSZ);
		relation_close(rel, NoLock);
	}
	MemoryContextSetParent(context, TopMemoryContext);
	sender = new;
	PG_RETURN_ARRAYTYPE_P(construct_array(bytes, new->nrelations, INT8OID,
										  sizeof(int64), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

static void
round_changed(void *arg, const FaFile *file, BlockNumber block, bool cut)
{
	for (int i = 0; i < sender->nrelations; i++)
	{
		FaSendRelation *r = &sender->relation[i];

		if (!fa_file_equals(r->file, *file))
			continue;
		if (cut)
			fa_blocks_add_range(&r->changed, block, r->nblocks);
		else
			fa_blocks_add(&r->changed, block);
	}
}

/*
 * Finds out what is to be sent; how many blocks.  Of the round before, what
 * was left, and all when it was not received.
 */
static int64
round_find(bool received)
{
	int64		todo = 0;

	for (int i = 0; i < sender->nrelations; i++)
	{
		FaSendRelation *r = &sender->relation[i];
		Relation	rel = relation_open(r->oid, NoLock);
		BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

		if (!received)
			fa_blocks_take(&r->todo, &r->sent);
		fa_blocks_clear(&r->sent);
		fa_blocks_take(&r->todo, &r->changed);
		fa_blocks_add_range(&r->todo, r->nblocks, nblocks);
		fa_blocks_cut(&r->todo, nblocks);
		r->nblocks = nblocks;
		todo += r->todo.count;
		relation_close(rel, NoLock);
	}
	return todo;
}

static void
send_check(FaPageResult result, Relation rel, BlockNumber block,
		   const char *why)
{
	if (result == FA_PAGE_BROKEN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invalid page in block %u of relation \"%s\"", block,
						RelationGetRelationName(rel)),
				 errdetail_internal("%s", why)));
}

/* A copy of a block, settled; false: not now. */
static bool
send_read(SendCall *call, FaSendRelation *r, Relation rel, BlockNumber block,
		  Page page)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block,
											RBM_NORMAL, call->strategy);
	FaPageResult result = FA_PAGE_GOOD;
	const char *why = NULL;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(page, BufferGetPage(buffer), BLCKSZ);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (r->heap)
		result = fa_heap_settle(page, block, sender->round.judge,
								sender->xid, r->shape, r->toast, sender->toast_to, &why);
	ReleaseBuffer(buffer);
	send_check(result, rel, block, why);
	return result == FA_PAGE_GOOD;
}

/* A block, as it is, into the frame; false: not now. */
static bool
send_raw(SendCall *call, FaSendRelation *r, Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block,
											RBM_NORMAL, call->strategy);
	const char *why = NULL;
	FaPageResult result = fa_raw_add(call->raw, buffer, block, r->heap,
									 r->has_hole, &why);

	send_check(result, rel, block, why);
	return result == FA_PAGE_GOOD;
}

/* A frame of the current relation; false when none is left. */
static bool
send_frame(SendCall *call, char *buf)
{
	SendRound  *round = &sender->round;
	FaSendRelation *r = &sender->relation[round->relation];
	Relation	rel = relation_open(r->oid, NoLock);
	FaFrameHeader header = {
		.kind = FA_FRAME_PAGES_KIND, .move = sender->move,
		.round = round->round, .number = round->number,
		.relation = round->relation, .nblocks = r->nblocks
	};
	size_t		len = FA_FRAME_HEADER;
	PGAlignedBlock page;

	if (call->raw)
		fa_raw_begin(call->raw, buf, round->judge);
	while (call->raw ? !fa_raw_full(call->raw) :
		   header.entries < FA_FRAME_PAGES)
	{
		BlockNumber block = fa_blocks_next(&r->todo, round->next);

		CHECK_FOR_INTERRUPTS();
		if (block == InvalidBlockNumber)
			break;
		round->next = block + 1;
		if (call->raw ? !send_raw(call, r, rel, block) :
			!send_read(call, r, rel, block, page.data))
			continue;
		fa_blocks_remove(&r->todo, block);
		fa_blocks_add(&r->sent, block);
		if (call->raw)
			continue;
		len += fa_frame_put_page(buf + len, block, page.data,
								 r->has_hole);
		header.entries++;
	}
	relation_close(rel, NoLock);
	if (call->raw)
		return fa_raw_post(call->raw, &header);
	if (header.entries == 0)
		return false;
	fa_frame_put_header(buf, &header);
	fa_channel_post(fa_channel_of_session(), buf, len);
	return true;
}

static void
send_end(char *buf)
{
	SendRound  *round = &sender->round;
	FaFrameHeader header = {
		.kind = FA_FRAME_END_KIND, .move = sender->move,
		.round = round->round, .number = round->number,
		.relation = round->send, .entries = sender->nrelations
	};
	size_t		len = fa_frame_put_header(buf, &header);

	for (int i = 0; i < sender->nrelations; i++)
		len += fa_frame_put_relation(buf + len, sender->relation[i].nblocks,
									 sender->relation[i].todo.count);
	fa_channel_post(fa_channel_of_session(), buf, len);
}

static void
send_require(void)
{
	if (sender == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no pages are open in this session"),
				 errhint("Only a mover calls this function.")));
}

/* NULL: the transport takes copies only. */
static FaRaw *
send_make_raw(void)
{
	FaChannel  *channel = fa_channel_of_session();
	FaRaw	   *raw;

	if ((channel->ops->capabilities & FA_TRANSPORT_GATHER) == 0 ||
		sender->raw_refused)
		return NULL;
	raw = fa_raw_create(channel);
	if (raw == NULL)
	{
		ereport(LOG,
				(errmsg("pages of move " INT64_FORMAT " are copied before transport \"%s\" sends them: %s",
						sender->move, channel->ops->name, channel->why),
				 errhint("Let the server lock as much memory as \"shared_buffers\" (LimitMEMLOCK, ulimit -l).")));
		sender->raw_refused = true;
	}
	return raw;
}

/* Begins a round, or goes on with it; received: the last that came whole. */
static SendCall *
send_begin(int64 number, int64 received, int64 most)
{
	SendCall   *call = palloc0(sizeof(SendCall));
	SendRound  *round;

	send_require();
	if (fa_channel_of_session()->max_message < fa_frame_max(sender->nrelations))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("frames do not fit into the messages of this session's transport")));
	round = &sender->round;
	if (round->round == number && round->ended)
	{
		call->ended = true;
		return call;
	}
	fa_send_relations_lock(sender->relation, sender->nrelations);
	fa_wal_scan(sender->wal, round_changed, NULL);
	if (round->round != number)
	{
		int64		before = round->round;

		memset(round, 0, sizeof(*round));
		round->round = number;
		round->judge = fa_xids_judge(sender->xids);
		round->send = round_find(before == received) <= most;
	}
	if (most == PG_INT64_MAX)
	{
		call->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CALL_MS);
		call->raw = send_make_raw();
	}
	/* what has changed lately is in memory; all the rest need not get there */
	if (received == 0)
		call->strategy = GetAccessStrategy(BAS_BULKREAD);
	return call;
}

/* Sends the next frame of the round; false when none is left. */
static bool
send_next(SendCall *call, char *buf)
{
	SendRound  *round = &sender->round;

	while (round->send && round->relation < sender->nrelations)
	{
		if (send_frame(call, buf))
			return true;
		round->relation++;
		round->next = 0;
	}
	return false;
}

/*
 * Sends frames until the call ends: NULL; or, where the transport wants that,
 * until a row is to be returned.
 */
static void *
send_until_row(SendCall *call)
{
	FaChannel  *channel = fa_channel_of_session();
	void	   *row = NULL;

	while (row == NULL && !call->ended &&
		   (call->until == 0 || GetCurrentTimestamp() <= call->until))
	{
		char	   *frame = fa_channel_reserve(channel, call->until);

		if (frame == NULL)
			break;
		if (!send_next(call, frame))
		{
			send_end(frame);
			sender->round.ended = call->ended = true;
		}
		sender->round.number++;
		row = channel->row;
		channel->row = NULL;
	}
	return row;
}

/* The device must not read what is no longer pinned. */
static void
send_raw_failed(int code, Datum channel)
{
	fa_channel_close((FaChannel *) DatumGetPointer(channel));
}

/* The same with pages that are pinned until they have been read. */
static void
send_until_read(SendCall *call)
{
	Datum		channel = PointerGetDatum(fa_channel_of_session());

	PG_ENSURE_ERROR_CLEANUP(send_raw_failed, channel);
	{
		(void) send_until_row(call);
		fa_raw_finish(call->raw);
	}
	PG_END_ENSURE_ERROR_CLEANUP(send_raw_failed, channel);
}

/*
 * send_pages(round, received, most): sends frames of a round over the session's
 * transport; when there are more than so many blocks, only its end frame.  When
 * there is no such limit, a call ends after a moment, and another goes on;
 * calls after the end frame send nothing.  received is the last round that has
 * come whole, 0 before that.
 */
Datum
fa_sql_send_pages(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	SendCall   *call;
	void	   *row = NULL;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		funcctx->user_fctx = send_begin(PG_GETARG_INT32(0), PG_GETARG_INT32(1),
										 PG_GETARG_INT64(2));
		MemoryContextSwitchTo(old);
	}
	funcctx = SRF_PERCALL_SETUP();
	call = funcctx->user_fctx;
	if (call->raw)
		send_until_read(call);
	else
		row = send_until_row(call);
	if (row == NULL)
		SRF_RETURN_DONE(funcctx);
	SRF_RETURN_NEXT(funcctx, PointerGetDatum(row));
}

/*
 * resend_pages(relations, blocks): those of an earlier round that were torn
 * come again with the next; relations by their place in open_pages()
 */
Datum
fa_sql_resend_pages(PG_FUNCTION_ARGS)
{
	Datum	   *relations;
	Datum	   *blocks;
	int			n;
	int			nblocks;

	send_require();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT4OID, sizeof(int32), true,
					  TYPALIGN_INT, &relations, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &blocks, NULL, &nblocks);
	if (n != nblocks)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be a relation for each block")));
	for (int i = 0; i < n; i++)
	{
		int			relation = DatumGetInt32(relations[i]);
		int64		block = DatumGetInt64(blocks[i]);

		if (relation < 0 || relation >= sender->nrelations || block < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("no such page is sent")));
		/* what has been cut off since needs no sending */
		if (block < sender->relation[relation].nblocks)
			fa_blocks_add(&sender->relation[relation].todo, block);
	}
	PG_RETURN_VOID();
}
