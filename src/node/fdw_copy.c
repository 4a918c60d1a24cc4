/*
 * fdw_copy.c
 *	  COPY FROM into a table whose partitions are on several nodes.
 *
 * PostgreSQL reads, converts and routes the rows, and writes those of local
 * leaves, as for any partitioned table.  Those of foreign leaves come here one
 * by one, and postgres_fdw would send each in a round trip of its own.  Instead
 *
 *	- when the COPY is alone in its transaction, they go to their owners by COPY
 *	  on connections of their own, one for each node, all at the same time, as
 *	  soon as they are more than a few.  These are parts of the transaction
 *	  (cluster_xact.h).
 *	- else they must go over postgres_fdw's sessions, which functions and triggers
 *	  may want between two rows.  So they are kept as text, and whenever there are
 *	  enough of them the sessions are used by a COPY each, all at the same time
 *	  (row_burst.c).
 *	- where these sessions are not to be had, for a few rows alone, and where the user
 *	  may only insert into some columns, while others' defaults are evaluated here, they
 *	  are collected, and inserted some hundred at a time through postgres_fdw.
 *
 * An error of a peer is about a row that was read some time ago.  A stream
 * remembers the line of each of its rows, and says so; for rows that were
 * inserted together, the range of lines is what is known.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "core/plain_output.h"
#include "node/cluster_xact.h"
#include "node/copy_lines.h"
#include "node/fdw.h"
#include "node/fdw_copy.h"
#include "node/fdw_routine.h"
#include "node/node.h"
#include "node/row_stream.h"
#include "node/vouch.h"

#define BATCH_ROWS 1000			/* of one leaf, inserted together */
#define COLLECT_ROWS 10000		/* of all leaves */
#define COLLECT_BYTES (4 * 1024 * 1024)
#define MAX_PARAMETERS 65535	/* of one statement */

/* Rows for one node. */
typedef struct CopyStream
{
	int			node;
	Oid			leaf;			/* a foreign table of that node */
	char	   *sql;
	FaConn	   *conn;			/* of its own; NULL: rows are kept */
	FaRowStream *rows;
	List	   *columns;		/* names, in the order that they are sent */
	FaLines		lines;			/* of its rows */
} CopyStream;

/* A foreign leaf that rows are routed to. */
typedef struct CopyLeaf
{
	ResultRelInfo *rri;			/* hash key */
	ModifyTableState *mtstate;
	bool		begun;			/* postgres_fdw has been asked to */
	int			batch;			/* rows at most */
	TupleTableSlot **slots;		/* collected rows; made as they are needed */
	int			nslots;
	int			nrows;
	int64	   *lines;			/* of the collected ones */

	/* for a stream */
	CopyStream *stream;
	int		   *attno;			/* of the leaf, by place in the stream */
	FmgrInfo   *output;
} CopyLeaf;

typedef struct CopyTarget
{
	struct CopyTarget *outer;	/* a COPY that a function of which runs this one */
	Oid			table;
	char	   *name;			/* of it, as COPY's messages have it */
	bool		alone;
	bool		streaming;		/* rows are not collected, but streamed ... */
	bool		keeping;		/* ... when there are enough */
	bool		by_columns;		/* the user may not write all of them ... */
	bool		by_insert;		/* ... but would have to, in a stream */
	List	   *columns;		/* of rows that come as text; else NIL */
	CopyFromState state;		/* of the COPY itself */
	const FdwRoutine *base;
	MemoryContext context;		/* of all of this, until the transaction ends */
	MemoryContext row_context;
	HTAB	   *leaves;
	List	   *streams;
	int			nrows;			/* collected in all leaves */
	Size		nbytes;
} CopyTarget;

static CopyTarget *target = NULL;

void
fa_fdw_copy_begin(Oid table, bool alone)
{
	MemoryContext context = AllocSetContextCreate(TopTransactionContext,
												  "fragaffinity COPY",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	CopyTarget *outer = target;
	HASHCTL		ctl;

	target = palloc0(sizeof(CopyTarget));
	target->outer = outer;
	target->table = table;
	target->name = get_rel_name(table);
	target->alone = alone;
	target->streaming = target->keeping = !alone && fa_fdw_has_conn();
	target->by_columns = pg_class_aclcheck(table, GetUserId(),
										   ACL_INSERT) != ACLCHECK_OK;
	target->context = context;
	target->row_context = AllocSetContextCreate(context,
												"fragaffinity COPY row",
												ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(ResultRelInfo *);
	ctl.entrysize = sizeof(CopyLeaf);
	ctl.hcxt = context;
	target->leaves = hash_create("fragaffinity COPY leaves", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	MemoryContextSwitchTo(caller);
}

void
fa_fdw_copy_forget(void)
{
	target = target->outer;
}

static CopyLeaf *
copy_leaf(ResultRelInfo *rri)
{
	return target ? hash_search(target->leaves, &rri, HASH_FIND, NULL) : NULL;
}

bool
fa_fdw_copy_has(ResultRelInfo *rri)
{
	return copy_leaf(rri) != NULL;
}

/* May the user name the columns that a stream of the leaf's rows would have? */
static bool
copy_may_stream(Relation leaf)
{
	ListCell   *lc;

	foreach(lc, fa_copy_columns(target->table, leaf, target->state))
	{
		if (pg_attribute_aclcheck(target->table,
								  get_attnum(target->table, lfirst(lc)),
								  GetUserId(), ACL_INSERT) != ACLCHECK_OK)
			return false;
	}
	return true;
}

bool
fa_fdw_copy_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri,
						 const FdwRoutine *base)
{
	CopyLeaf   *leaf;
	int			natts = RelationGetNumberOfAttributes(rri->ri_RelationDesc);

	/* only COPY has no plan */
	if (target == NULL || mtstate->ps.plan != NULL)
		return false;
	target->base = base;
	if (fa_copy_state())
		target->state = fa_copy_state();
	leaf = hash_search(target->leaves, &rri, HASH_ENTER, NULL);
	memset(leaf, 0, sizeof(CopyLeaf));
	leaf->rri = rri;
	leaf->mtstate = mtstate;
	leaf->batch = Min(BATCH_ROWS, MAX_PARAMETERS / Max(natts, 1));
	if (target->by_columns && !target->by_insert &&
		!copy_may_stream(rri->ri_RelationDesc))
	{
		target->by_insert = true;
		target->streaming = target->keeping = false;
	}
	return true;
}

/* Inserts a leaf's collected rows over postgres_fdw. */
static void
copy_insert_rows(CopyLeaf *leaf)
{
	EState	   *estate = leaf->mtstate->ps.state;
	int			n = leaf->nrows;

	if (!leaf->begun)
	{
		fa_fdw_begin_insert(leaf->mtstate, leaf->rri);
		leaf->begun = true;
	}
	fa_fdw_before_change(leaf->rri, estate);
	if (n == 1)
		(void) target->base->ExecForeignInsert(estate, leaf->rri,
											   leaf->slots[0], NULL);
	else
		(void) target->base->ExecForeignBatchInsert(estate, leaf->rri,
													leaf->slots, NULL, &n);
	fa_fdw_changed(leaf->rri, estate);
}

static void
copy_insert_batch(CopyLeaf *leaf)
{
	if (leaf->nrows == 0)
		return;
	PG_TRY();
	{
		copy_insert_rows(leaf);
	}
	PG_CATCH();
	{
		/* without the statement, which is as long as the rows are many */
		FaCopyPlace place = {target->name, leaf->lines[0],
		leaf->lines[leaf->nrows - 1]};
		ErrorData  *edata;

		MemoryContextSwitchTo(target->context);
		edata = CopyErrorData();
		FlushErrorState();
		fa_copy_raise(edata, &place);
	}
	PG_END_TRY();
	target->nrows -= leaf->nrows;
	leaf->nrows = 0;
}

static void
copy_insert_all(void)
{
	HASH_SEQ_STATUS status;
	CopyLeaf   *leaf;

	hash_seq_init(&status, target->leaves);
	while ((leaf = hash_seq_search(&status)) != NULL)
		copy_insert_batch(leaf);
	target->nbytes = 0;
}

static CopyStream *
copy_stream(int node, Relation leaf)
{
	CopyStream *stream;
	ListCell   *lc;

	foreach(lc, target->streams)
	{
		stream = lfirst(lc);
		if (stream->node == node)
			return stream;
	}
	stream = palloc0(sizeof(CopyStream));
	stream->node = node;
	stream->leaf = RelationGetRelid(leaf);
	stream->columns = target->columns ? target->columns :
		fa_copy_columns(target->table, leaf, target->state);
	stream->sql = fa_copy_sql(target->table, stream->columns);
	fa_lines_init(&stream->lines);
	if (target->keeping)
		stream->rows = fa_row_stream_hold();
	else
	{
		stream->conn = fa_remote_connect_client(node, FA_CONNECT_TIMEOUT_MS);
		stream->rows = fa_row_stream_open(stream->conn,
										  psprintf("BEGIN ISOLATION LEVEL READ COMMITTED; "
												   "SET LOCAL client_min_messages = error; %s",
												   stream->sql));
	}
	target->streams = lappend(target->streams, stream);
	return stream;
}

static void
copy_join_stream(CopyLeaf *leaf)
{
	Relation	rel = leaf->rri->ri_RelationDesc;
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext caller = MemoryContextSwitchTo(target->context);
	int			node = fa_fdw_node(RelationGetRelid(rel));
	ListCell   *lc;
	int			i = 0;

	if (node == 0)
		elog(ERROR, "foreign table \"%s\" leads to no node",
			 RelationGetRelationName(rel));
	leaf->stream = copy_stream(node, rel);
	leaf->attno = palloc(sizeof(int) * Max(desc->natts, 1));
	leaf->output = palloc(sizeof(FmgrInfo) * Max(desc->natts, 1));
	foreach(lc, leaf->stream->columns)
	{
		AttrNumber	attno = get_attnum(RelationGetRelid(rel), lfirst(lc));
		Oid			function;
		bool		varlena;

		getTypeOutputInfo(TupleDescAttr(desc, attno - 1)->atttypid, &function,
						  &varlena);
		fmgr_info(function, &leaf->output[i]);
		leaf->attno[i++] = attno;
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Raises a stream's error again, about the line that it was in here; one that has
 * come while the stream was waited for as it is.
 */
static void
copy_stream_failed(CopyStream *stream)
{
	MemoryContext caller = MemoryContextSwitchTo(target->context);
	ErrorData  *edata = CopyErrorData();

	FlushErrorState();
	MemoryContextSwitchTo(caller);
	if (fa_copy_is_workers(edata))
		ReThrowError(edata);
	fa_copy_raise_peers(edata, target->name, &stream->lines);
}

/* A row from this line is complete; before it, there were so many bytes. */
static void
copy_end_row(CopyStream *stream, int kept, int64 line)
{
	fa_lines_add(&stream->lines, line);
	if (target->keeping)
		target->nbytes += stream->rows->buf.len - kept;
	PG_TRY();
	{
		fa_row_stream_end_row(stream->rows);
	}
	PG_CATCH();
	{
		copy_stream_failed(stream);
	}
	PG_END_TRY();
}

/* Sends a row that was read in this line. */
static void
copy_send(CopyLeaf *leaf, TupleTableSlot *slot, int64 line)
{
	ErrorContextCallback context;
	ErrorContextCallback *callbacks = error_context_stack;
	FaCopyPlace place = {target->name};
	CopyStream *stream;
	MemoryContext caller;
	FaPlainOutput own;
	int			n;
	int			kept;

	fa_copy_push_place(&context, &place);
	if (leaf->stream == NULL)
		copy_join_stream(leaf);
	stream = leaf->stream;
	n = list_length(stream->columns);
	kept = stream->rows->buf.len;
	MemoryContextReset(target->row_context);
	caller = MemoryContextSwitchTo(target->row_context);
	fa_plain_output_begin(&own);
	PG_TRY();
	{
		for (int i = 0; i < n; i++)
		{
			bool		isnull;
			Datum		value = slot_getattr(slot, leaf->attno[i], &isnull);

			fa_row_stream_value(stream->rows, isnull ? NULL :
								OutputFunctionCall(&leaf->output[i], value), i == 0);
		}
	}
	PG_FINALLY();
	{
		fa_plain_output_end(&own);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	copy_end_row(stream, kept, line);
	error_context_stack = callbacks;
}

/* The session for a stream's rows; what runs on it in the background ends. */
static FaConn *
copy_conn(CopyStream *stream)
{
	FaConn	   *conn = fa_fdw_conn(stream->leaf);

	if (conn == NULL)
	{
		fa_fdw_exec(stream->node, GetUserId(),
					psprintf("SET LOCAL lock_timeout = %d", LockTimeout));
		conn = fa_fdw_conn(stream->leaf);
	}
	if (conn == NULL)
		elog(ERROR, "session at node %d is busy", stream->node);
	return conn;
}

/* Has all peers insert the rows that are kept for them. */
static void
copy_burst(void)
{
	int			size = Max(list_length(target->streams), 1);
	FaRowBurst *burst = palloc0(sizeof(FaRowBurst) * size);
	CopyStream **of = palloc(sizeof(CopyStream *) * size);
	int volatile current = 0;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, target->streams)
	{
		CopyStream *stream = lfirst(lc);

		if (stream->rows->buf.len == 0)
			continue;
		burst[n].conn = copy_conn(stream);
		burst[n].sql = stream->sql;
		burst[n].rows = &stream->rows->buf;
		of[n++] = stream;
	}
	PG_TRY();
	{
		fa_row_burst(burst, n, (int *) &current);
	}
	PG_CATCH();
	{
		copy_stream_failed(of[current]);
	}
	PG_END_TRY();
	for (int i = 0; i < n; i++)
	{
		resetStringInfo(&of[i]->rows->buf);
		fa_lines_reset(&of[i]->lines);
		pfree(burst[i].conn);
	}
	target->nbytes = 0;
	pfree(of);
	pfree(burst);
}

/* From now on rows are sent as they come; first those that are collected. */
static void
copy_start_streaming(void)
{
	HASH_SEQ_STATUS status;
	CopyLeaf   *leaf;

	target->streaming = true;
	hash_seq_init(&status, target->leaves);
	while ((leaf = hash_seq_search(&status)) != NULL)
	{
		for (int i = 0; i < leaf->nrows; i++)
			copy_send(leaf, leaf->slots[i], leaf->lines[i]);
		leaf->nrows = 0;
	}
}

static void
copy_collect(CopyLeaf *leaf, TupleTableSlot *slot, int64 line)
{
	MemoryContext caller = MemoryContextSwitchTo(target->context);
	TupleTableSlot *copy;

	if (leaf->slots == NULL)
	{
		leaf->slots = palloc(sizeof(TupleTableSlot *) * leaf->batch);
		leaf->lines = palloc(sizeof(int64) * leaf->batch);
	}
	if (leaf->nrows == leaf->nslots)
		leaf->slots[leaf->nslots++] =
			MakeSingleTupleTableSlot(RelationGetDescr(leaf->rri->ri_RelationDesc),
									 &TTSOpsMinimalTuple);
	copy = leaf->slots[leaf->nrows];
	ExecCopySlot(copy, slot);
	MemoryContextSwitchTo(caller);
	leaf->lines[leaf->nrows++] = line;
	target->nrows++;
	target->nbytes += ((MinimalTupleTableSlot *) copy)->mintuple->t_len;
}

bool
fa_fdw_copy_insert(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	CopyLeaf   *leaf = copy_leaf(rri);
	int64		line;

	if (leaf == NULL)
		return false;
	line = target->state ? target->state->cur_lineno : 0;
	if (target->streaming)
	{
		copy_send(leaf, slot, line);
		if (target->keeping && target->nbytes >= COLLECT_BYTES)
			copy_burst();
		return true;
	}
	copy_collect(leaf, slot, line);
	if (leaf->nrows < leaf->batch && target->nbytes < COLLECT_BYTES &&
		target->nrows < (target->alone ? BATCH_ROWS : COLLECT_ROWS) &&
		(!target->by_columns || !target->alone || target->by_insert))
		return true;
	if (target->alone && !target->by_insert)
		copy_start_streaming();
	else if (leaf->nrows == leaf->batch)
		copy_insert_batch(leaf);
	else
		copy_insert_all();
	return true;
}

bool
fa_fdw_copy_takes_text(void)
{
	return target && (target->streaming || target->alone);
}

void
fa_fdw_copy_begin_text(List *columns)
{
	MemoryContext caller = MemoryContextSwitchTo(target->context);
	ListCell   *lc;

	Assert(fa_fdw_copy_takes_text());
	foreach(lc, columns)
		target->columns = lappend(target->columns, pstrdup(lfirst(lc)));
	target->streaming = true;
	MemoryContextSwitchTo(caller);
}

void
fa_fdw_copy_text(ResultRelInfo *rri, const char *text, int len, int64 line)
{
	CopyLeaf   *leaf = copy_leaf(rri);
	ErrorContextCallback context;
	ErrorContextCallback *callbacks = error_context_stack;
	FaCopyPlace place = {target->name};
	int			kept;

	fa_copy_push_place(&context, &place);
	if (leaf->stream == NULL)
		copy_join_stream(leaf);
	kept = leaf->stream->rows->buf.len;
	appendBinaryStringInfo(&leaf->stream->rows->buf, text, len);
	copy_end_row(leaf->stream, kept, line);
	if (target->keeping && target->nbytes >= COLLECT_BYTES)
		copy_burst();
	error_context_stack = callbacks;
}

bool
fa_fdw_copy_end_insert(EState *estate, ResultRelInfo *rri)
{
	CopyLeaf   *leaf = copy_leaf(rri);

	if (leaf == NULL)
		return false;
	copy_insert_batch(leaf);
	for (int i = 0; i < leaf->nslots; i++)
		ExecDropSingleTupleTableSlot(leaf->slots[i]);
	leaf->nslots = 0;
	if (leaf->begun)
		target->base->EndForeignInsert(estate, rri);
	return true;
}

/* Ends the streams on connections of their own, all at the same time. */
static void
copy_end_streams(void)
{
	CopyStream *volatile stream = NULL;
	ListCell   *lc;

	PG_TRY();
	{
		foreach(lc, target->streams)
		{
			stream = lfirst(lc);
			fa_row_stream_finish(stream->rows);
		}
		foreach(lc, target->streams)
		{
			stream = lfirst(lc);
			(void) fa_row_stream_close(stream->rows);
		}
	}
	PG_CATCH();
	{
		copy_stream_failed(stream);
	}
	PG_END_TRY();
	/* until now, an error closes the connections, which undoes their work */
	foreach(lc, target->streams)
		fa_xact_enlist(((CopyStream *) lfirst(lc))->conn);
}

void
fa_fdw_copy_end(void)
{
	CopyTarget *outer = target->outer;

	if (target->keeping)
		copy_burst();
	else
		copy_end_streams();
	if (target->keeping || target->streams == NIL)
		MemoryContextDelete(target->context);
	target = outer;
}
