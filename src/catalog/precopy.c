/*
 * precopy.c
 *	  Copies the rows that a split cuts off while clients use them.
 *
 *	1. before any lock, under one snapshot: the rows of the range go to a new
 *	   heap, whose indexes are then made; of each it is kept where it was (tid)
 *	   and where its copy is
 *	2. with the bucket locked, under a new snapshot: the rows of the range that
 *	   are not where one was copied from are copied, too; copies of which the
 *	   row is no longer where it was are deleted
 *	3. the rows go from the old heap
 *
 * A row version never changes in place, and while the snapshot of step 1 is held
 * nobody can clear away what it sees and put another row there.  So what is
 * found at a tid that was copied from is what was copied.  Which rows are
 * copied beforehand does not matter: step 2 makes it right.
 *
 * All of it is one transaction, the split's: nothing is left when it fails.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
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
#include "core/shmem.h"
#include "core/spi.h"

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

/* Calls back for each row of a statement, under the active snapshot. */
static void
for_each_row(const char *sql, RowFunction function, void *arg)
{
	Portal		portal;
	SPIPlanPtr	plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
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
	Relation	heap;
	TupleTableSlot *slot;
	BulkInsertState bulk;
	Datum	   *value;			/* of the row from the source */
	bool	   *isnull;
	MemoryContext row_context;
} Copy;

/* The row has the tid, and then the heap's columns in their order. */
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
		bool		dropped = TupleDescAttr(slot->tts_tupleDescriptor, i)->attisdropped;

		slot->tts_values[i] = dropped ? (Datum) 0 : copy->value[next];
		slot->tts_isnull[i] = dropped || copy->isnull[next];
		next += !dropped;
	}
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(copy->heap, slot, GetCurrentCommandId(true), 0, copy->bulk);
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
	int			natts;

	copy.heap = table_open(precopy->heap, RowExclusiveLock);
	natts = RelationGetDescr(copy.heap)->natts;
	copy.slot = MakeSingleTupleTableSlot(RelationGetDescr(copy.heap), &TTSOpsVirtual);
	copy.bulk = GetBulkInsertState();
	copy.value = palloc(sizeof(Datum) * (natts + 1));
	copy.isnull = palloc(sizeof(bool) * (natts + 1));
	copy.row_context = AllocSetContextCreate(CurrentMemoryContext,
											 "fragaffinity copied row",
											 ALLOCSET_DEFAULT_SIZES);
	PushActiveSnapshot(precopy->snapshot);
	for_each_row(psprintf("SELECT ctid, %s FROM %s WHERE %s", precopy->columns,
						  fa_table_qualified_name(precopy->source), qual),
				 copy_row, &copy);
	PopActiveSnapshot();
	FreeBulkInsertState(copy.bulk);
	ExecDropSingleTupleTableSlot(copy.slot);
	MemoryContextDelete(copy.row_context);
	table_close(copy.heap, NoLock);
	CommandCounterIncrement();
}

/* What is computed would have to be again: such a table is not copied so. */
static bool
has_generated(Oid rel)
{
	return fa_spi_value("SELECT 1 FROM pg_catalog.pg_attribute"
						" WHERE attrelid = %u AND attgenerated <> ''"
						"  AND NOT attisdropped", rel) != NULL;
}

/* Up to 16 it could let what a snapshot sees be cleared away after a time. */
static bool
snapshots_hold(void)
{
	const char *threshold = GetConfigOption("old_snapshot_threshold", true, false);

	return threshold == NULL || strcmp(threshold, "-1") == 0;
}

FaPrecopy *
fa_precopy_begin(const FaFragment *source, int64 fragment, const char *qual)
{
	HASHCTL		info = {.keysize = sizeof(ItemPointerData),
	.entrysize = sizeof(Copied),.hcxt = CurrentMemoryContext};
	FaFragment	f = *source;
	FaPrecopy  *precopy;

	/* step 2 has to see more than the transaction's snapshot */
	if (IsolationUsesXactSnapshot() || !snapshots_hold() ||
		has_generated(source->leaf))
		return NULL;
	precopy = palloc0(sizeof(FaPrecopy));
	f.bucket = f.home;
	precopy->source = source->leaf;
	precopy->heap =
		fa_table_create_heap(&f, fa_table_heap_name(fa_table_piece_name(get_rel_name(f.home),
																		fragment)),
							 false);
	/* its bounds are others, and not known to hold yet */
	fa_table_forget_bound(precopy->heap);
	precopy->columns = fa_text_column_names(precopy->heap);
	precopy->copied = hash_create("fragaffinity copied rows", 1024, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	precopy->snapshot = RegisterSnapshot(GetLatestSnapshot());
	copy_rows(precopy, qual);
	fa_table_create_indexes(precopy->heap, &f);
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
	for_each_row(psprintf("SELECT ctid FROM %s WHERE %s", source_q, qual),
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
		fa_spi_exec("DELETE FROM %s WHERE ctid = ANY ('{%s}'::pg_catalog.tid[])",
					heap_q, difference.less.data);
	if (difference.more.len > 0)
		fa_spi_exec("INSERT INTO %s (%s) SELECT %s FROM %s"
					" WHERE ctid = ANY ('{%s}'::pg_catalog.tid[])", heap_q,
					precopy->columns, precopy->columns, source_q,
					difference.more.data);
	UnregisterSnapshot(precopy->snapshot);
	fa_spi_exec("DELETE FROM %s WHERE %s", source_q, qual);
}
