/*
 * read_first.c
 *	  A statement that reads the table which it changes.
 *
 * It must not see its own changes.  Here its snapshot sees to that, but a peer
 * takes a new one whenever a scan begins, in the transaction that has the
 * changes.  So, where other fragments of the table are read than those whose
 * rows are changed, all that is to be changed is read before the first change.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "catalog/map.h"
#include "route/hooks.h"

/* A source of rows for a modification; in the memory of its execution. */
typedef struct Source
{
	dlist_node	node;
	PlanState  *state;
	ExecProcNodeMtd next;		/* its own */
	Tuplestorestate *rows;		/* NULL: not read yet, or given out */
	bool		read;
	TupleTableSlot *stored;
	TupleTableSlot *given;		/* as the source's own */
	MemoryContextCallback forget;
} Source;

static dlist_head sources = DLIST_STATIC_INIT(sources);

static void
source_forget(void *arg)
{
	dlist_delete(&((Source *) arg)->node);
}

static Source *
source_find(PlanState *state)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sources)
	{
		Source	   *s = dlist_container(Source, node, iter.cur);

		if (s->state == state)
			return s;
	}
	elog(ERROR, "source of a modification is not known");
	return NULL;
}

static void
source_read(Source *s)
{
	MemoryContext caller = MemoryContextSwitchTo(s->state->state->es_query_cxt);

	s->read = true;
	s->rows = tuplestore_begin_heap(false, false, work_mem);
	MemoryContextSwitchTo(caller);
	for (;;)
	{
		TupleTableSlot *slot = s->next(s->state);

		if (TupIsNull(slot))
			break;
		tuplestore_puttupleslot(s->rows, slot);
		CHECK_FOR_INTERRUPTS();
	}
}

/* In the place of the source's own. */
static TupleTableSlot *
source_exec(PlanState *state)
{
	Source	   *s = source_find(state);

	if (!s->read)
		source_read(s);
	if (s->rows && tuplestore_gettupleslot(s->rows, true, false, s->stored))
		return ExecCopySlot(s->given, s->stored);
	/* it may have a file, which the end of the memory would not close */
	if (s->rows)
		tuplestore_end(s->rows);
	s->rows = NULL;
	return ExecClearTuple(s->given);
}

static void
source_add(PlanState *state)
{
	EState	   *estate = state->state;
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	Source	   *s = palloc0(sizeof(Source));
	TupleDesc	desc = ExecGetResultType(state);

	s->state = state;
	s->next = state->ExecProcNodeReal;
	s->stored = ExecInitExtraTupleSlot(estate, desc, &TTSOpsMinimalTuple);
	s->given = ExecInitExtraTupleSlot(estate, desc,
									  ExecGetResultSlotOps(state, NULL));
	s->forget.func = source_forget;
	s->forget.arg = s;
	dlist_push_head(&sources, &s->node);
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &s->forget);
	ExecSetExecProcNode(state, source_exec);
	MemoryContextSwitchTo(caller);
}

/* The distributed table that a relation is, or is part of; 0: none. */
static int
read_first_table(Oid relid)
{
	List	   *ancestors = get_rel_relispartition(relid) ?
		get_partition_ancestors(relid) : NIL;
	const FaTable *table = fa_map_table(ancestors ? llast_oid(ancestors) : relid);

	return table ? table->table_id : 0;
}

/* Are foreign leaves of the table read that are not changed? */
static bool
read_first_needed(ModifyTable *plan, List *rtable)
{
	int			target = 0;
	Index		rti = 0;
	ListCell   *lc;

	foreach(lc, rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		const FaFragment *f;

		rti++;
		if (rte->rtekind != RTE_RELATION ||
			rte->relkind != RELKIND_FOREIGN_TABLE ||
			list_member_int(plan->resultRelations, rti))
			continue;
		f = fa_map_leaf(rte->relid);
		if (f == NULL)
			continue;
		if (target == 0)
			target = read_first_table(rt_fetch(linitial_int(plan->resultRelations),
											   rtable)->relid);
		if (target == 0 || f->table_id == target)
			return target != 0;
	}
	return false;
}

static void
read_first_modify(PlanState *state, List *rtable)
{
	/* what comes of a peer that changes rows by itself are no rows to keep */
	if (IsA(state, ModifyTableState) && outerPlanState(state) &&
		bms_is_empty(((ModifyTable *) state->plan)->fdwDirectModifyPlans) &&
		read_first_needed((ModifyTable *) state->plan, rtable))
		source_add(outerPlanState(state));
}

void
fa_read_first_started(QueryDesc *desc)
{
	ListCell   *lc;

	read_first_modify(desc->planstate, desc->plannedstmt->rtable);
	foreach(lc, desc->estate->es_auxmodifytables)
	{
		if (lfirst(lc) != desc->planstate)
			read_first_modify(lfirst(lc), desc->plannedstmt->rtable);
	}
}

void
fa_read_first_end(QueryDesc *desc)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sources)
	{
		Source	   *s = dlist_container(Source, node, iter.cur);

		if (s->state->state == desc->estate && s->rows)
		{
			tuplestore_end(s->rows);
			s->rows = NULL;
		}
	}
}
