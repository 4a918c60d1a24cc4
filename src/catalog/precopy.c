/*
 * precopy.c
 *	  Copies the rows that change their fragment while clients use them.
 *
 *	1. before any lock, under one snapshot: the rows go to the other heap; of
 *	   each it is kept where it was (tid) and where its copy is.  Of a split the
 *	   heap is new, and gets its indexes then; of a merge it is the one that
 *	   stays, with its indexes, and clients go on in it: to them, rows of a
 *	   transaction that has not committed are not there
 *	2. with the bucket locked, under a new snapshot: the rows that are not where
 *	   one was copied from are copied, too; copies of which the row is no longer
 *	   where it was are deleted
 *	3. of a split, the rows go from the old heap; of a merge it goes itself
 *
 * A row version never changes in place, and while the snapshot of step 1 is held
 * nobody can clear away what it sees and put another row there.  So what is
 * found at a tid that was copied from is what was copied.  Which rows are
 * copied beforehand does not matter: step 2 makes it right.
 *
 * No key of the source is in the other heap, or can come there meanwhile, and
 * every unique index has the distribution key: no insert of step 1 waits for
 * another transaction, nor finds its key there.
 *
 * All of it is one transaction: when it fails nothing is left but, of a merge,
 * rows for VACUUM.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/precopy.h"
#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "core/target.h"

#define FETCH_ROWS 1000

struct FaPrecopy
{
	Oid			source;
	Oid			heap;
	char	   *columns;
	Snapshot	snapshot;		/* held until the end, see above */
	HTAB	   *copied;			/* of Copied */
};

typedef struct Copied
{
	ItemPointerData from;		/* key */
	ItemPointerData to;
	bool		there;			/* the row still is */
} Copied;

typedef void (*RowFunction) (void *arg, HeapTuple row, TupleDesc desc);

/*
 * Calls back for each row of a statement about a heap, under the active
 * snapshot.  Its owner reads: what he has written can run in it.
 */
static void
for_each_row(Oid heap, const char *sql, RowFunction function, void *arg)
{
	Oid			owner = fa_ddl_owner(heap);
	FaDdlState	state;
	Portal		portal;
	SPIPlanPtr	plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	fa_ddl_become(owner, &state);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	fa_ddl_become_ourselves(&state);
	for (;;)
	{
		fa_ddl_become(owner, &state);
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		fa_ddl_become_ourselves(&state);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			CHECK_FOR_INTERRUPTS();
			function(arg, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
}

static ItemPointer
row_tid(HeapTuple row, TupleDesc desc)
{
	bool		isnull;

	return (ItemPointer) DatumGetPointer(SPI_getbinval(row, desc, 1, &isnull));
}

typedef struct Copy
{
	FaPrecopy  *precopy;
	ResultRelInfo *target;
	EState	   *estate;
	Oid			owner;
	TupleTableSlot *slot;
	BulkInsertState bulk;
	Datum	   *value;			/* of the row from the source */
	bool	   *isnull;
	MemoryContext row_context;
} Copy;

/* As an INSERT does it, but into whatever partition the heap is. */
static void
insert_row(Copy *copy)
{
	FaDdlState	state;

	fa_ddl_become(copy->owner, &state);
	fa_target_compute(copy->target, copy->estate, copy->slot);
	table_tuple_insert(copy->target->ri_RelationDesc, copy->slot,
					   GetCurrentCommandId(true), 0, copy->bulk);
	if (copy->target->ri_NumIndices > 0)
		(void) fa_exec_insert_index_tuples(copy->target, copy->slot,
										   copy->estate);
	fa_ddl_become_ourselves(&state);
	ResetPerTupleExprContext(copy->estate);
}

/*
 * The row has the tid, and then the heap's columns in their order, but for
 * those that are generated.
 */
static void
copy_row(void *arg, HeapTuple row, TupleDesc desc)
{
	Copy	   *copy = arg;
	TupleTableSlot *slot = copy->slot;
	MemoryContext old = MemoryContextSwitchTo(copy->row_context);
	Copied	   *copied;
	int			next = 1;

	heap_deform_tuple(row, desc, copy->value, copy->isnull);
	ExecClearTuple(slot);
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, i);
		bool		none = att->attisdropped || att->attgenerated != '\0';

		slot->tts_values[i] = none ? (Datum) 0 : copy->value[next];
		slot->tts_isnull[i] = none || copy->isnull[next];
		next += !none;
	}
	ExecStoreVirtualTuple(slot);
	insert_row(copy);
	copied = hash_search(copy->precopy->copied,
						 DatumGetPointer(copy->value[0]), HASH_ENTER, NULL);
	copied->to = slot->tts_tid;
	copied->there = false;
	MemoryContextSwitchTo(old);
	MemoryContextReset(copy->row_context);
}

static void
copy_rows(FaPrecopy *precopy, const char *qual)
{
	Copy		copy = {.precopy = precopy};
	FaDdlState	state;
	TupleDesc	desc;
	int			natts;

	copy.owner = fa_ddl_owner(precopy->heap);
	fa_ddl_become(copy.owner, &state);
	copy.target = fa_target_open(precopy->heap, &copy.estate);
	fa_ddl_become_ourselves(&state);
	desc = RelationGetDescr(copy.target->ri_RelationDesc);
	natts = desc->natts;
	copy.slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	copy.bulk = GetBulkInsertState();
	copy.value = palloc(sizeof(Datum) * (natts + 1));
	copy.isnull = palloc(sizeof(bool) * (natts + 1));
	copy.row_context = AllocSetContextCreate(CurrentMemoryContext,
											 "fragaffinity copied row",
											 ALLOCSET_DEFAULT_SIZES);
	PushActiveSnapshot(precopy->snapshot);
	for_each_row(precopy->source,
				 psprintf("SELECT ctid, %s FROM %s WHERE %s", precopy->columns,
						  fa_table_qualified_name(precopy->source), qual),
				 copy_row, &copy);
	PopActiveSnapshot();
	FreeBulkInsertState(copy.bulk);
	ExecDropSingleTupleTableSlot(copy.slot);
	MemoryContextDelete(copy.row_context);
	fa_target_close(copy.target, copy.estate);
	CommandCounterIncrement();
}

/* Up to 16 it could let what a snapshot sees be cleared away after a time. */
static bool
snapshots_hold(void)
{
	const char *threshold = GetConfigOption("old_snapshot_threshold", true, false);

	return threshold == NULL || strcmp(threshold, "-1") == 0;
}

/* Step 2 has to see more than the transaction's snapshot. */
static bool
can_be_copied(void)
{
	return !IsolationUsesXactSnapshot() && snapshots_hold();
}

static FaPrecopy *
start_copy(Oid source, Oid heap, const char *qual)
{
	HASHCTL		info = {.keysize = sizeof(ItemPointerData),
	.entrysize = sizeof(Copied),.hcxt = CurrentMemoryContext};
	FaPrecopy  *precopy = palloc0(sizeof(FaPrecopy));

	precopy->source = source;
	precopy->heap = heap;
	precopy->columns = fa_text_column_names(heap);
	precopy->copied = hash_create("fragaffinity copied rows", 1024, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	precopy->snapshot = RegisterSnapshot(GetLatestSnapshot());
	copy_rows(precopy, qual);
	return precopy;
}

FaPrecopy *
fa_precopy_split(const FaFragment *source, int64 fragment, const char *qual)
{
	FaFragment	f = *source;
	FaPrecopy  *precopy;
	Oid			heap;

	if (!can_be_copied())
		return NULL;
	f.bucket = f.home;
	heap = fa_table_create_heap(&f, fa_table_heap_name(fa_table_piece_name(get_rel_name(f.home),
																		   fragment)),
								false);
	/* its bounds are others, and not known to hold yet */
	fa_table_forget_bound(heap);
	precopy = start_copy(source->leaf, heap, qual);
	fa_table_create_indexes(heap, &f);
	fa_stop_point("split_copied");
	return precopy;
}

FaPrecopy *
fa_precopy_merge(const FaFragment *source, const FaFragment *stays)
{
	FaPrecopy  *precopy;

	if (!can_be_copied())
		return NULL;
	precopy = start_copy(source->leaf, stays->leaf, "true");
	fa_stop_point("split_copied");
	return precopy;
}

Oid
fa_precopy_heap(const FaPrecopy *precopy)
{
	return precopy->heap;
}

typedef struct Difference
{
	FaPrecopy  *precopy;
	StringInfoData more;		/* rows to copy, as the text of an array */
	StringInfoData less;		/* copies to delete */
} Difference;

static void
append_tid(StringInfo list, ItemPointer tid)
{
	appendStringInfo(list, "%s\"(%u,%u)\"", list->len ? "," : "",
					 ItemPointerGetBlockNumber(tid),
					 ItemPointerGetOffsetNumber(tid));
}

static void
look_for_row(void *arg, HeapTuple row, TupleDesc desc)
{
	Difference *difference = arg;
	ItemPointer tid = row_tid(row, desc);
	Copied	   *copied = hash_search(difference->precopy->copied, tid,
									 HASH_FIND, NULL);

	if (copied)
		copied->there = true;
	else
		append_tid(&difference->more, tid);
}

void
fa_precopy_finish(FaPrecopy *precopy, const char *qual)
{
	Difference	difference = {.precopy = precopy};
	char	   *source_q = fa_table_qualified_name(precopy->source);
	char	   *heap_q = fa_table_qualified_name(precopy->heap);
	HASH_SEQ_STATUS scan;
	Copied	   *copied;

	initStringInfo(&difference.more);
	initStringInfo(&difference.less);
	PushActiveSnapshot(GetLatestSnapshot());
	for_each_row(precopy->source,
				 psprintf("SELECT ctid FROM %s WHERE %s", source_q,
						  qual ? qual : "true"),
				 look_for_row, &difference);
	PopActiveSnapshot();
	hash_seq_init(&scan, precopy->copied);
	while ((copied = hash_seq_search(&scan)) != NULL)
	{
		if (!copied->there)
			append_tid(&difference.less, &copied->to);
	}
	/* first, or a key that is in both would be there twice */
	if (difference.less.len > 0)
		fa_ddl_write(precopy->heap,
					 psprintf("DELETE FROM %s WHERE ctid = ANY ('{%s}'::pg_catalog.tid[])",
							  heap_q, difference.less.data));
	if (difference.more.len > 0)
		fa_ddl_write(precopy->heap,
					 psprintf("INSERT INTO %s (%s) SELECT %s FROM %s"
							  " WHERE ctid = ANY ('{%s}'::pg_catalog.tid[])",
							  heap_q, precopy->columns, precopy->columns,
							  source_q, difference.more.data));
	UnregisterSnapshot(precopy->snapshot);
	if (qual)
		fa_ddl_write(precopy->source,
					 psprintf("DELETE FROM %s WHERE %s", source_q, qual));
}
