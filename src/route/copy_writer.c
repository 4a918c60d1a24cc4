/*
 * copy_writer.c
 *	  A parallel worker that writes rows of a COPY.
 *
 * It runs within the leader's transaction, and PostgreSQL has all that is needed
 * for rows to be written so: the leader has a transaction and a command number
 * before it starts workers, both have these numbers, each other's locks, and what
 * the one wrote is the other's own.  But PostgreSQL refuses rows of a parallel
 * worker, since some could need a new command number.  Ours do not: there
 * are no triggers, and no functions that are not parallel safe.  So a writer does
 * not look like a worker while it writes into a heap, and only then: functions of
 * indexes must see one, as their queries would start workers of a worker else.
 *
 * A fragment is written by one process, so no two writers meet in one heap.
 * What they count in the server's statistics, the leader counts instead: it
 * knows whether the transaction commits.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "commands/copyfrom_internal.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "storage/shm_mq.h"
#include "utils/backend_progress.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "core/fa_compat.h"
#include "route/copy_writers.h"

#define BATCH_ROWS 1000			/* of all leaves */
#define BATCH_BYTES (512 * 1024)
#define MAX_LEAVES 32			/* that keep buffers when a batch is written */

typedef struct WriterLeaf
{
	Oid			relid;
	ResultRelInfo *rri;			/* NULL: not opened yet */
	TupleConversionMap *map;	/* from the table's rows; NULL: the same */
	BulkInsertState bulk;
	TupleTableSlot **slots;		/* BATCH_ROWS of them, or NULL: no buffers */
	uint64	   *lines;
	int			nrows;
	bool		toasts;			/* some of them have values out of line */
} WriterLeaf;

typedef struct Writer
{
	FaCopyShared *shared;
	CopyFromState state;
	EState	   *estate;
	ResultRelInfo *root;
	TupleTableSlot *row;		/* as the table has it */
	WriterLeaf **leaves;		/* by number */
	int			nleaves;
	int			nrows;			/* in all leaves */
	Size		nbytes;
	int			nbuffers;		/* leaves that have some */
} Writer;

/* The line that is being parsed. */
static const char *line_text = NULL;
static int	line_left = 0;

static int
writer_read(void *buf, int min, int max)
{
	int			n = Min(line_left, max);

	if (line_text == NULL)
		return 0;
	memcpy(buf, line_text, n);
	line_text += n;
	line_left -= n;
	if (line_left == 0 && n < max)
	{
		((char *) buf)[n++] = '\n';
		line_text = NULL;
	}
	return n;
}

/* Waits until rows can be written: with others, or alone. */
static void
writing_begin(FaCopyShared *shared, bool toasts)
{
	bool		may;

	for (;;)
	{
		SpinLockAcquire(&shared->mutex);
		may = !shared->toasting && (!toasts || shared->writing == 0);
		if (may && toasts)
			shared->toasting = true;
		else if (may)
			shared->writing++;
		SpinLockRelease(&shared->mutex);
		if (may)
			break;
		ConditionVariableSleep(&shared->written, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

static void
writing_end(FaCopyShared *shared, bool toasts)
{
	SpinLockAcquire(&shared->mutex);
	if (toasts)
		shared->toasting = false;
	else
		shared->writing--;
	SpinLockRelease(&shared->mutex);
	ConditionVariableBroadcast(&shared->written);
}

static void
leaf_write_heap(Writer *writer, WriterLeaf *leaf)
{
	Relation	rel = leaf->rri->ri_RelationDesc;
	int			worker = ParallelWorkerNumber;

	writing_begin(writer->shared, leaf->toasts);
	/* the end of this process is told the leader as a parallel worker's */
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		ParallelWorkerNumber = -1;
		table_multi_insert(rel, leaf->slots, leaf->nrows,
						   GetCurrentCommandId(false), 0, leaf->bulk);
	}
	PG_FINALLY();
	{
		ParallelWorkerNumber = worker;
	}
	PG_END_TRY();
	RESUME_INTERRUPTS();
	writing_end(writer->shared, leaf->toasts);
	pgstat_count_heap_insert(rel, -leaf->nrows);
}

/* As in PostgreSQL's COPY: an error is about the line whose row it is, if any. */
static void
leaf_write(Writer *writer, WriterLeaf *leaf)
{
	MemoryContext caller;

	if (leaf->nrows == 0)
		return;
	writer->state->line_buf_valid = false;
	if (leaf->bulk == NULL)
		leaf->bulk = GetBulkInsertState();
	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
	leaf_write_heap(writer, leaf);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < leaf->nrows; i++)
	{
		if (leaf->rri->ri_NumIndices > 0)
		{
			writer->state->cur_lineno = leaf->lines[i];
			list_free(fa_exec_insert_index_tuples(leaf->rri, leaf->slots[i],
												  writer->estate));
		}
		ExecClearTuple(leaf->slots[i]);
	}
	leaf->nrows = 0;
	leaf->toasts = false;
}

static void
leaf_free_buffers(WriterLeaf *leaf)
{
	if (leaf->bulk)
		FreeBulkInsertState(leaf->bulk);
	leaf->bulk = NULL;
	if (leaf->slots == NULL)
		return;
	for (int i = 0; i < BATCH_ROWS && leaf->slots[i]; i++)
		ExecDropSingleTupleTableSlot(leaf->slots[i]);
	pfree(leaf->slots);
	pfree(leaf->lines);
	leaf->slots = NULL;
}

static void
writer_write_all(Writer *writer)
{
	for (int i = 0; i < writer->nleaves; i++)
		leaf_write(writer, writer->leaves[i]);
	for (int i = 0; writer->nbuffers > MAX_LEAVES && i < writer->nleaves; i++)
	{
		if (writer->leaves[i]->slots == NULL)
			continue;
		leaf_free_buffers(writer->leaves[i]);
		writer->nbuffers--;
	}
	writer->nrows = 0;
	writer->nbytes = 0;
}

static void
writer_add_leaf(Writer *writer, uint32 number, Oid relid)
{
	WriterLeaf *leaf = palloc0(sizeof(WriterLeaf));

	Assert(number == writer->nleaves);
	leaf->relid = relid;
	if (writer->leaves == NULL)
		writer->leaves = palloc(sizeof(WriterLeaf *));
	else if ((writer->nleaves & (writer->nleaves - 1)) == 0)
		writer->leaves = repalloc(writer->leaves,
								  sizeof(WriterLeaf *) * writer->nleaves * 2);
	writer->leaves[writer->nleaves++] = leaf;
}

static void
leaf_open(Writer *writer, WriterLeaf *leaf)
{
	Relation	rel = table_open(leaf->relid, RowExclusiveLock);

	leaf->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(leaf->rri, rel, 0, writer->root, 0);
	ExecOpenIndices(leaf->rri, false);
	leaf->map = convert_tuples_by_name(RelationGetDescr(writer->state->rel),
									   RelationGetDescr(rel));
}

/* A slot for the leaf's next row. */
static TupleTableSlot *
leaf_slot(Writer *writer, WriterLeaf *leaf)
{
	if (leaf->rri == NULL)
		leaf_open(writer, leaf);
	if (leaf->slots == NULL)
	{
		MemoryContext context = writer->estate->es_query_cxt;

		leaf->slots = MemoryContextAllocZero(context, sizeof(TupleTableSlot *) * BATCH_ROWS);
		leaf->lines = MemoryContextAlloc(context, sizeof(uint64) * BATCH_ROWS);
		writer->nbuffers++;
	}
	if (leaf->slots[leaf->nrows] == NULL)
		leaf->slots[leaf->nrows] = table_slot_create(leaf->rri->ri_RelationDesc, NULL);
	return leaf->slots[leaf->nrows];
}

static bool
row_toasts(TupleTableSlot *slot)
{
	/* of another kind of table, nothing is known */
	return !TTS_IS_BUFFERTUPLE(slot) ||
		((BufferHeapTupleTableSlot *) slot)->base.tuple->t_len > TOAST_TUPLE_THRESHOLD;
}

static void
writer_take_line(Writer *writer, const FaCopyLine *line, const char *text)
{
	WriterLeaf *leaf = writer->leaves[line->leaf];
	TupleTableSlot *slot = leaf_slot(writer, leaf);
	TupleTableSlot *row = leaf->map ? writer->row : slot;
	Relation	rel = leaf->rri->ri_RelationDesc;
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	MemoryContext caller;

	line_text = text;
	line_left = line->len;
	writer->state->cur_lineno = fa_copy_line_before(writer->state, line->line,
													text, line->len);
	ResetPerTupleExprContext(writer->estate);
	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
	ExecClearTuple(row);
	if (!NextCopyFrom(writer->state, GetPerTupleExprContext(writer->estate),
					  row->tts_values, row->tts_isnull))
		elog(ERROR, "line " UINT64_FORMAT " is none", line->line);
	ExecStoreVirtualTuple(row);
	MemoryContextSwitchTo(caller);
	if (leaf->map)
		slot = execute_attr_map_slot(leaf->map->attrMap, row, slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	if (constr && constr->has_generated_stored)
		ExecComputeStoredGenerated(leaf->rri, writer->estate, slot, CMD_INSERT);
	if (constr)
		ExecConstraints(leaf->rri, slot, writer->estate);
	ExecMaterializeSlot(slot);
	leaf->toasts = leaf->toasts || row_toasts(slot);
	leaf->lines[leaf->nrows++] = line->line;
	writer->nrows++;
	writer->nbytes += line->len;
	if (writer->nrows >= BATCH_ROWS || writer->nbytes >= BATCH_BYTES)
		writer_write_all(writer);
}

static void
writer_take(Writer *writer, const char *data, Size size)
{
	const char *end = data + size;

	while (data < end)
	{
		FaCopyLine	line;

		CHECK_FOR_INTERRUPTS();
		memcpy(&line, data, sizeof(line));
		data += sizeof(line);
		if (line.len == FA_COPY_NEW_LEAF)
		{
			writer_add_leaf(writer, line.leaf, (Oid) line.line);
			continue;
		}
		writer_take_line(writer, &line, data);
		data += line.len;
	}
}

static void
writer_begin(Writer *writer, FaCopyShared *shared, const char *sql)
{
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	CopyStmt   *stmt = castNode(CopyStmt, raw->stmt);
	Relation	rel = table_open(shared->table, RowExclusiveLock);

	memset(writer, 0, sizeof(*writer));
	writer->shared = shared;
	writer->state = BeginCopyFrom(fa_copy_parse_state(rel, stmt, sql), rel, NULL,
								  NULL, false, writer_read, stmt->attlist,
								  fa_copy_line_options(stmt));
	/* pg_stat_progress_copy is about the leader's */
	pgstat_progress_end_command();
	writer->estate = CreateExecutorState();
	fa_exec_init_copy_range_table(writer->estate, writer->state);
	writer->root = makeNode(ResultRelInfo);
	ExecInitResultRelation(writer->estate, writer->root, 1);
	writer->row = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
}

static void
writer_end(Writer *writer)
{
	Relation	rel = writer->state->rel;

	for (int i = 0; i < writer->nleaves; i++)
	{
		WriterLeaf *leaf = writer->leaves[i];

		if (leaf->rri == NULL)
			continue;
		leaf_free_buffers(leaf);
		table_finish_bulk_insert(leaf->rri->ri_RelationDesc, 0);
		ExecCloseIndices(leaf->rri);
		table_close(leaf->rri->ri_RelationDesc, NoLock);
	}
	ExecDropSingleTupleTableSlot(writer->row);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	ExecCloseResultRelations(writer->estate);
	ExecCloseRangeTableRelations(writer->estate);
	FreeExecutorState(writer->estate);
	EndCopyFrom(writer->state);
	table_close(rel, NoLock);
}

void
fa_copy_writer_main(dsm_segment *seg, shm_toc *toc)
{
	FaCopyShared *shared = shm_toc_lookup(toc, FA_COPY_KEY_SHARED, false);
	shm_mq	   *mq = shm_toc_lookup(toc, FA_COPY_KEY_QUEUE + ParallelWorkerNumber,
									false);
	ErrorContextCallback context;
	shm_mq_handle *queue;
	shm_mq_result result;
	Writer		writer;
	Size		size;
	void	   *data;

	shm_mq_set_receiver(mq, MyProc);
	queue = shm_mq_attach(mq, seg, NULL);
	writer_begin(&writer, shared, shm_toc_lookup(toc, FA_COPY_KEY_SQL, false));
	context.callback = CopyFromErrorCallback;
	context.arg = writer.state;
	context.previous = error_context_stack;
	error_context_stack = &context;
	while ((result = shm_mq_receive(queue, &size, &data, false)) == SHM_MQ_SUCCESS &&
		   size > 0)
		writer_take(&writer, data, size);
	/* a leader that has gone before the end will undo all of it */
	if (result == SHM_MQ_SUCCESS)
		writer_write_all(&writer);
	error_context_stack = context.previous;
	writer_end(&writer);
	shm_mq_detach(queue);
}
