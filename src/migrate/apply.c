/*
 * apply.c
 *	  Applies a leaf's changes to the heap at the destination.
 *
 * The stream is pgoutput's, protocol version 1 (documented in "Logical
 * Replication Message Formats"), of a publication with one table:
 *
 *	B ... begin		C ... commit
 *	R relation: its columns' names, before the first row and when they change
 *	I relid 'N' row
 *	U relid ['K' key | 'O' old row] 'N' row
 *	D relid 'K' key | 'O' old row
 *	T truncate
 *	row: int16 n, then n times 'n' null | 'u' unchanged, stored outside the
 *	row | 't' int32 length, text
 *
 * The heap has the columns of the source's leaf, perhaps in another order:
 * they are matched by name.  What the table's owner has written, checks and
 * such, runs as the owner (catalog/table_text.h).  Nobody else writes to it, so a
 * row to update or delete that is missing means that the copy is wrong: the move
 * fails.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "libpq/pqformat.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/table_text.h"
#include "core/background.h"
#include "core/fa_compat.h"
#include "core/target.h"
#include "migrate/stream.h"

struct FaApply
{
	Oid			heap;
	int64		count;
	MemoryContext context;		/* lives as long as this struct */
	MemoryContext row_context;	/* reset after each message */
	int			ncolumns;		/* in the stream's rows */
	char	  **column;			/* their names */

	/* while a transaction is open */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *target;
	TupleTableSlot *found;		/* row to update or delete */
	TupleTableSlot *key;		/* what to look for */
	TupleTableSlot *row;		/* new row */
	AttrNumber *attno;			/* stream's column -> 0-based attribute */
	FmgrInfo   *input;
	Oid		   *ioparam;
};

FaApply *
fa_apply_create(Oid heap)
{
	FaApply    *apply = palloc0(sizeof(FaApply));

	apply->heap = heap;
	apply->context = CurrentMemoryContext;
	apply->row_context = AllocSetContextCreate(CurrentMemoryContext,
											   "fragaffinity applied row",
											   ALLOCSET_DEFAULT_SIZES);
	return apply;
}

bool
fa_apply_in_transaction(const FaApply *apply)
{
	return apply->rel != NULL;
}

int64
fa_apply_count(const FaApply *apply)
{
	return apply->count;
}

static void
apply_map_columns(FaApply *apply)
{
	apply->attno = palloc(sizeof(AttrNumber) * Max(apply->ncolumns, 1));
	apply->input = palloc(sizeof(FmgrInfo) * Max(apply->ncolumns, 1));
	apply->ioparam = palloc(sizeof(Oid) * Max(apply->ncolumns, 1));
	for (int i = 0; i < apply->ncolumns; i++)
	{
		AttrNumber	attno = get_attnum(apply->heap, apply->column[i]);
		Oid			function;

		if (attno <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of the source is missing in \"%s\"",
							apply->column[i],
							RelationGetRelationName(apply->rel))));
		apply->attno[i] = attno - 1;
		getTypeInputInfo(TupleDescAttr(RelationGetDescr(apply->rel), attno - 1)->atttypid,
						 &function, &apply->ioparam[i]);
		fmgr_info(function, &apply->input[i]);
	}
}

static void
apply_open(FaApply *apply)
{
	FaDdlState	ourselves;

	PushActiveSnapshot(GetTransactionSnapshot());
	/* also functions of constants in an index */
	fa_ddl_become(fa_ddl_owner(apply->heap), &ourselves);
	apply->target = fa_target_open(apply->heap, &apply->estate);
	fa_ddl_become_ourselves(&ourselves);
	apply->rel = apply->target->ri_RelationDesc;
	apply->found = table_slot_create(apply->rel, NULL);
	apply->key = MakeSingleTupleTableSlot(RelationGetDescr(apply->rel),
										  &TTSOpsVirtual);
	apply->row = MakeSingleTupleTableSlot(RelationGetDescr(apply->rel),
										  &TTSOpsVirtual);
	apply_map_columns(apply);
}

static void
apply_close(FaApply *apply)
{
	ExecDropSingleTupleTableSlot(apply->found);
	ExecDropSingleTupleTableSlot(apply->key);
	ExecDropSingleTupleTableSlot(apply->row);
	fa_target_close(apply->target, apply->estate);
	apply->rel = NULL;
	PopActiveSnapshot();
}

/*
 * Reads a row into slot.  Columns sent as unchanged are taken from old.
 */
static void
apply_read_row(FaApply *apply, StringInfo msg, TupleTableSlot *slot,
			   TupleTableSlot *old)
{
	int			n = pq_getmsgint(msg, 2);

	if (n != apply->ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("row of %d columns where %d were announced", n,
						apply->ncolumns)));
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(slot->tts_values, 0,
		   slot->tts_tupleDescriptor->natts * sizeof(Datum));
	if (old)
		slot_getallattrs(old);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	a = apply->attno[i];
		int			kind = pq_getmsgbyte(msg);

		if (kind == 't')
		{
			int			len = pq_getmsgint(msg, 4);
			char	   *text = pnstrdup(pq_getmsgbytes(msg, len), len);

			slot->tts_values[a] = InputFunctionCall(&apply->input[i], text,
													apply->ioparam[i],
													TupleDescAttr(slot->tts_tupleDescriptor, a)->atttypmod);
			slot->tts_isnull[a] = false;
		}
		else if (kind == 'u' && old)
		{
			slot->tts_values[a] = old->tts_values[a];
			slot->tts_isnull[a] = old->tts_isnull[a];
		}
		else if (kind != 'n' && kind != 'u')
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid kind of value in a row: %d", kind)));
	}
	ExecStoreVirtualTuple(slot);
}

/* Finds the row that has the key in apply->key; into apply->found. */
static void
apply_find(FaApply *apply)
{
	Oid			index = RelationGetReplicaIndex(apply->rel);
	bool		found;

	if (!OidIsValid(index) &&
		apply->rel->rd_rel->relreplident != REPLICA_IDENTITY_FULL)
		index = fa_relation_primary_key(apply->rel);
	if (OidIsValid(index))
		found = RelationFindReplTupleByIndex(apply->rel, index,
											 LockTupleExclusive,
											 apply->key, apply->found);
	else
		found = RelationFindReplTupleSeq(apply->rel, LockTupleExclusive,
										 apply->key, apply->found);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("row changed at the source is missing in \"%s\"",
						RelationGetRelationName(apply->rel))));
}

/*
 * Completes what to look for.  The stream leaves out generated columns, but a
 * full replica identity compares all.
 */
static void
apply_complete_key(FaApply *apply)
{
	if (apply->rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		fa_target_compute(apply->target, apply->estate, apply->key);
}

/* Old row or key, if the message has one; false when the new row follows. */
static bool
apply_read_key(FaApply *apply, StringInfo msg)
{
	int			kind = pq_getmsgbyte(msg);

	if (kind == 'N')
		return false;
	if (kind != 'K' && kind != 'O')
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("invalid kind of row in the change stream: %d", kind)));
	apply_read_row(apply, msg, apply->key, NULL);
	apply_complete_key(apply);
	return true;
}

static void
apply_update(FaApply *apply, StringInfo msg)
{
	EPQState	epqstate;

	if (apply_read_key(apply, msg))
		(void) pq_getmsgbyte(msg);	/* 'N' */
	else
	{
		/* the key did not change: it is in the new row */
		StringInfoData peek = *msg;

		apply_read_row(apply, &peek, apply->key, NULL);
	}
	apply_find(apply);
	apply_read_row(apply, msg, apply->row, apply->found);
	fa_eval_plan_qual_init(&epqstate, apply->estate);
	ExecSimpleRelationUpdate(apply->target, apply->estate, &epqstate,
							 apply->found, apply->row);
	EvalPlanQualEnd(&epqstate);
}

static void
apply_delete(FaApply *apply, StringInfo msg)
{
	EPQState	epqstate;

	(void) apply_read_key(apply, msg);
	apply_find(apply);
	fa_eval_plan_qual_init(&epqstate, apply->estate);
	ExecSimpleRelationDelete(apply->target, apply->estate, &epqstate,
							 apply->found);
	EvalPlanQualEnd(&epqstate);
}

static void
apply_change(FaApply *apply, int kind, StringInfo msg)
{
	FaDdlState	ourselves;

	apply->estate->es_output_cid = GetCurrentCommandId(true);
	fa_ddl_become(apply->rel->rd_rel->relowner, &ourselves);
	(void) pq_getmsgint(msg, 4);	/* relation: there is only one */
	switch (kind)
	{
		case 'I':
			(void) pq_getmsgbyte(msg);	/* 'N' */
			apply_read_row(apply, msg, apply->row, NULL);
			ExecSimpleRelationInsert(apply->target, apply->estate, apply->row);
			break;
		case 'U':
			apply_update(apply, msg);
			break;
		default:
			apply_delete(apply, msg);
			break;
	}
	fa_ddl_become_ourselves(&ourselves);
	ExecClearTuple(apply->found);
	ExecClearTuple(apply->key);
	ExecClearTuple(apply->row);
	ResetPerTupleExprContext(apply->estate);
	/* the next change may be to the same row */
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	apply->count++;
}

static void
apply_describe(FaApply *apply, StringInfo msg)
{
	MemoryContext old = MemoryContextSwitchTo(apply->context);
	int			n;

	(void) pq_getmsgint(msg, 4);	/* relation */
	(void) pq_getmsgstring(msg);	/* schema */
	(void) pq_getmsgstring(msg);	/* name */
	(void) pq_getmsgbyte(msg);	/* replica identity */
	n = pq_getmsgint(msg, 2);
	if (n > MaxHeapAttributeNumber)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the source announces %d columns", n)));
	apply->column = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(void) pq_getmsgbyte(msg);	/* part of the key? */
		apply->column[i] = pstrdup(pq_getmsgstring(msg));
		(void) pq_getmsgint(msg, 4);	/* type */
		(void) pq_getmsgint(msg, 4);	/* its modifier */
	}
	apply->ncolumns = n;
	MemoryContextSwitchTo(old);
	if (apply->rel)
	{
		MemoryContextSwitchTo(apply->estate->es_query_cxt);
		apply_map_columns(apply);
		MemoryContextSwitchTo(old);
	}
}

static void
apply_begin(FaApply *apply)
{
	if (apply->rel != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("transaction inside a transaction in the stream")));
	fa_background_begin();
	MemoryContextSwitchTo(TopTransactionContext);
	apply_open(apply);
}

static void
apply_commit(FaApply *apply)
{
	apply_close(apply);
	CommitTransactionCommand();
}

/* Not transactional, but nobody else can see the heap. */
static void
apply_truncate(FaApply *apply)
{
	LockRelationOid(apply->heap, AccessExclusiveLock);
	heap_truncate_one_rel(apply->rel);
	CommandCounterIncrement();
}

void
fa_apply_message(FaApply *apply, StringInfo msg)
{
	int			kind = pq_getmsgbyte(msg);

	if (strchr("IUDTC", kind) && apply->rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("change outside a transaction in the stream")));
	MemoryContextSwitchTo(apply->row_context);
	switch (kind)
	{
		case 'B':
			apply_begin(apply);
			break;
		case 'R':
			apply_describe(apply, msg);
			break;
		case 'I':
		case 'U':
		case 'D':
			apply_change(apply, kind, msg);
			break;
		case 'T':
			apply_truncate(apply);
			break;
		case 'C':
			apply_commit(apply);
			break;
		case 'Y':				/* a type's name: columns are text */
		case 'O':				/* where the change came from */
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid message in the change stream: %d", kind)));
	}
	MemoryContextSwitchTo(apply->context);
	MemoryContextReset(apply->row_context);
}
