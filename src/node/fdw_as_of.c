/*
 * fdw_as_of.c
 *	  Scans at peers that begin after a change; see fdw_as_of.h.
 *
 * Marks are numbers that this backend gives once.  A savepoint that is undone
 * takes the variable back, but not what a mark means: command numbers only go
 * up.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "parser/parsetree.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/fdw.h"
#include "node/fdw_as_of.h"

/* ---- at the origin */

/* What an open statement must read as of, in a session of the transaction. */
typedef struct ReaderMark
{
	int			node;
	Oid			user;
	int			mark;
} ReaderMark;

/* A statement whose scans may begin late; in the memory of its execution. */
typedef struct Reader
{
	dlist_node	link;
	EState	   *estate;
	List	   *marks;			/* of ReaderMark */
	List	   *begun;			/* of ForeignScanState: have their cursors */
	MemoryContextCallback forget;
} Reader;

static dlist_head readers = DLIST_STATIC_INIT(readers);
static int	last_mark = 0;
static LocalTransactionId marked_in = InvalidLocalTransactionId;

static void
reader_forget(void *arg)
{
	dlist_delete(&((Reader *) arg)->link);
}

static Reader *
reader_find(EState *estate)
{
	dlist_iter	iter;

	dlist_foreach(iter, &readers)
	{
		Reader	   *reader = dlist_container(Reader, link, iter.cur);

		if (reader->estate == estate)
			return reader;
	}
	return NULL;
}

void
fa_as_of_add(EState *estate)
{
	Reader	   *reader;

	if (reader_find(estate))
		return;
	reader = MemoryContextAllocZero(estate->es_query_cxt, sizeof(Reader));
	reader->estate = estate;
	reader->forget.func = reader_forget;
	reader->forget.arg = reader;
	dlist_push_head(&readers, &reader->link);
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &reader->forget);
}

static int
reader_mark(Reader *reader, int node, Oid user)
{
	ListCell   *lc;

	foreach(lc, reader->marks)
	{
		ReaderMark *m = lfirst(lc);

		if (m->node == node && m->user == user)
			return m->mark;
	}
	return 0;
}

/* Its scans read as of the moment that those of the other one do. */
static void
reader_copy_marks(EState *estate, Reader *from)
{
	MemoryContext caller;
	Reader	   *reader;
	ListCell   *lc;

	if (from == NULL || from->marks == NIL)
		return;
	fa_as_of_add(estate);
	reader = reader_find(estate);
	caller = MemoryContextSwitchTo(estate->es_query_cxt);
	foreach(lc, from->marks)
	{
		ReaderMark *m = palloc(sizeof(ReaderMark));

		*m = *(ReaderMark *) lfirst(lc);
		reader->marks = lappend(reader->marks, m);
	}
	MemoryContextSwitchTo(caller);
}

void
fa_as_of_continue(EState *estate, EState *outer)
{
	reader_copy_marks(estate, reader_find(outer));
}

void
fa_as_of_inherit(EState *estate, Snapshot snapshot)
{
	Reader	   *from = NULL;
	dlist_iter	iter;

	/* the first one that has it, which is the last here */
	dlist_foreach(iter, &readers)
	{
		Reader	   *reader = dlist_container(Reader, link, iter.cur);

		if (reader->estate != estate && reader->estate->es_snapshot == snapshot)
			from = reader;
	}
	reader_copy_marks(estate, from);
}

bool
fa_as_of_is_used(void)
{
	return marked_in != InvalidLocalTransactionId && marked_in == fa_my_lxid();
}

void
fa_as_of_before_scan(ForeignScanState *node, Oid foreign_table, Oid user)
{
	EState	   *estate = node->ss.ps.state;
	Reader	   *reader = reader_find(estate);
	int			id;

	if (reader && list_member_ptr(reader->begun, node))
		return;
	id = fa_fdw_node(foreign_table);
	if (id == 0)
		return;
	fa_fdw_tell_as_of(id, user, reader ? reader_mark(reader, id, user) : 0);
	/* one that is asynchronous begins when its session has time for it */
	if (reader && !node->ss.ps.async_capable)
	{
		MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);

		reader->begun = lappend(reader->begun, node);
		MemoryContextSwitchTo(caller);
	}
}

void
fa_as_of_rescan(ForeignScanState *node)
{
	Reader	   *reader = reader_find(node->ss.ps.state);

	if (reader)
		reader->begun = list_delete_ptr(reader->begun, node);
}

void
fa_as_of_before_change(Oid foreign_table, Oid user)
{
	dlist_iter	iter;
	int			node = 0;
	int			mark = 0;

	dlist_foreach(iter, &readers)
	{
		Reader	   *reader = dlist_container(Reader, link, iter.cur);
		MemoryContext caller;
		ReaderMark *m;

		if (node == 0)
			node = fa_fdw_node(foreign_table);
		if (node == 0)
			return;
		if (reader_mark(reader, node, user) != 0)
			continue;
		if (mark == 0)
		{
			mark = ++last_mark;
			marked_in = fa_my_lxid();
			fa_fdw_tell_as_of(node, user, mark);
		}
		caller = MemoryContextSwitchTo(reader->estate->es_query_cxt);
		m = palloc(sizeof(ReaderMark));
		m->node = node;
		m->user = user;
		m->mark = mark;
		reader->marks = lappend(reader->marks, m);
		MemoryContextSwitchTo(caller);
	}
}

/*
 * The table that the query changes, InvalidOid for none.  Where its fragment is
 * known, the leaf has taken the table's place.
 */
static Oid
as_of_changed_table(Query *query)
{
	Oid			relid;

	if (query->resultRelation == 0)
		return InvalidOid;
	relid = rt_fetch(query->resultRelation, query->rtable)->relid;
	return get_rel_relispartition(relid) ?
		llast_oid(get_partition_ancestors(relid)) : relid;
}

bool
fa_as_of_changes_twice(PlannerInfo *root)
{
	PlannerInfo *top = root;
	Query	   *query;
	Oid			table;
	int			n;
	ListCell   *lc;

	while (top->parent_root)
		top = top->parent_root;
	if (!top->parse->hasModifyingCTE)
		return false;
	table = as_of_changed_table(root->parse);
	n = as_of_changed_table(top->parse) == table;
	foreach(lc, top->parse->cteList)
	{
		query = castNode(Query, ((CommonTableExpr *) lfirst(lc))->ctequery);
		n += as_of_changed_table(query) == table;
	}
	return n > 1;
}

/* ---- at the peer */

typedef struct Note
{
	int			mark;
	CommandId	command;		/* the first that it does not see */
} Note;

static int	as_of = 0;

/* Of this transaction, ascending; in its memory. */
static Note *notes = NULL;
static int	nnotes = 0;
static int	notes_size = 0;
static LocalTransactionId noted_in = InvalidLocalTransactionId;

/* NULL: it is not one of this transaction. */
static Note *
note_find(int mark)
{
	int			low = 0;
	int			high = noted_in == fa_my_lxid() ? nnotes : 0;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (notes[middle].mark == mark)
			return &notes[middle];
		if (notes[middle].mark < mark)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* The first time that a mark is named, it is set.  Must not fail. */
static void
as_of_assign(int mark, void *extra)
{
	if (mark == 0 || !IsTransactionState() || note_find(mark))
		return;
	if (noted_in != fa_my_lxid())
	{
		notes = NULL;
		nnotes = notes_size = 0;
		noted_in = fa_my_lxid();
	}
	if (nnotes > 0 && notes[nnotes - 1].mark > mark)
		return;
	if (nnotes == notes_size)
	{
		int			size = Max(2 * notes_size, 16);
		Note	   *more = MemoryContextAllocExtended(TopTransactionContext,
													  size * sizeof(Note),
													  MCXT_ALLOC_NO_OOM);

		if (more == NULL)
			return;
		if (notes)
		{
			memcpy(more, notes, nnotes * sizeof(Note));
			pfree(notes);
		}
		notes = more;
		notes_size = size;
	}
	notes[nnotes].mark = mark;
	notes[nnotes++].command = GetCurrentCommandId(false);
}

void
fa_as_of_init(void)
{
	DefineCustomIntVariable("fragaffinity.as_of",
							"Mark as of which this session reads; set by other nodes.",
							NULL, &as_of, 0, 0, INT_MAX,
							PGC_USERSET,
							GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE |
							GUC_DISALLOW_IN_FILE,
							NULL, as_of_assign, NULL);
}

void
fa_as_of_apply(QueryDesc *desc)
{
	Snapshot	snapshot = desc->snapshot;
	CommandId	command;
	Note	   *note;

	if (as_of == 0 || fa_origin == 0 || desc->operation != CMD_SELECT ||
		snapshot == NULL ||
		snapshot->snapshot_type != SNAPSHOT_MVCC ||
		(note = note_find(as_of)) == NULL)
		return;
	command = note->command;
	if (snapshot->curcid <= command)
		return;
	/* a copy: it is not only this statement's */
	PushCopiedSnapshot(snapshot);
	GetActiveSnapshot()->curcid = command;
	UnregisterSnapshot(desc->snapshot);
	desc->snapshot = RegisterSnapshot(GetActiveSnapshot());
	PopActiveSnapshot();
}

void
fa_as_of_started(QueryDesc *desc)
{
	/* rows that were changed since are passed over, not found to be gone */
	if (as_of != 0 && fa_origin != 0 && desc->operation == CMD_SELECT &&
		desc->plannedstmt->rowMarks != NIL &&
		desc->estate->es_output_cid > desc->snapshot->curcid)
		desc->estate->es_output_cid = desc->snapshot->curcid;
}
