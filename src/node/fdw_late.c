/*
 * fdw_late.c
 *	  Scans at peers that have been started, but have not begun; see fdw_late.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/fdwapi.h"
#include "lib/ilist.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "core/fa_compat.h"
#include "node/fdw.h"
#include "node/fdw_late.h"

typedef struct LateScan
{
	dlist_node	link;
	void	   *scan;
	FaLateKind	kind;
	FaLateBegin begin;
	uint64		tried;			/* number of the last pass over all that met it */
	bool		listed;			/* in one of the lists; else its execution is dead */
	int			started;		/* subtransactions below this level it survives */
	int			level;			/* of that in which it began */
	bool		lost;			/* that has been undone since */
	ResourceOwner owner;		/* of what the executor holds for it */
	MemoryContextCallback forget;
} LateScan;

static dlist_head late = DLIST_STATIC_INIT(late);
static dlist_head begun = DLIST_STATIC_INIT(begun);
static void *begun_last = NULL; /* one of these */
static bool any_lost = false;	/* of these, perhaps */
static uint64 pass = 0;

/* A session that may have rows on their way. */
typedef struct Fetching
{
	int			node;
	Oid			user;
} Fetching;

static List *fetching = NIL;	/* in TopTransactionContext of this transaction: */
static LocalTransactionId fetching_in = InvalidLocalTransactionId;

static void
late_forget(void *arg)
{
	LateScan   *scan = arg;

	if (scan->listed)
		dlist_delete(&scan->link);
	if (begun_last == scan->scan)
		begun_last = NULL;
	if (dlist_is_empty(&begun))
		any_lost = false;
}

/* Does the current subtransaction hold what this one does? */
static bool
late_holds(ResourceOwner owner)
{
	while (owner && owner != CurTransactionResourceOwner)
		owner = ResourceOwnerGetParent(owner);
	return owner != NULL;
}

/*
 * Scans whose executor was started in a subtransaction that ends.  When that is
 * undone they are never run again, but their memory may live on, a simple
 * expression's of PL/pgSQL until the transaction ends; what they hold does not.
 * It does, and they are, when a cursor that is older holds it: one whose query
 * calls a function in SQL, whose statements are started as its rows are fetched.
 */
static void
late_end_started(dlist_head *list, int level, bool lost)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, list)
	{
		LateScan   *s = dlist_container(LateScan, link, iter.cur);

		if (s->started < level)
			continue;
		s->started = level - 1;
		if (lost && late_holds(s->owner))
		{
			dlist_delete(&s->link);
			s->listed = false;
		}
	}
}

/* What was started, and what began, in a subtransaction that ends. */
static void
late_end_level(bool lost)
{
	int			level = GetCurrentTransactionNestLevel();
	dlist_iter	iter;

	late_end_started(&late, level, lost);
	late_end_started(&begun, level, lost);
	dlist_foreach(iter, &begun)
	{
		LateScan   *s = dlist_container(LateScan, link, iter.cur);

		if (s->level < level)
			continue;
		s->level = level - 1;
		s->lost = s->lost || lost;
		any_lost = any_lost || lost;
	}
}

/* Nothing is evaluated here: the subtransaction is not ready for that. */
static void
late_subxact(SubXactEvent event, SubTransactionId my, SubTransactionId parent,
			 void *arg)
{
	if (event == SUBXACT_EVENT_START_SUB)
		fa_late_begin_kind(FA_LATE_SCAN);
	else if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
		late_end_level(event == SUBXACT_EVENT_ABORT_SUB);
}

void
fa_late_add(EState *estate, void *scan, FaLateKind kind, FaLateBegin begin)
{
	static bool registered = false;
	LateScan   *added = MemoryContextAllocZero(estate->es_query_cxt,
											   sizeof(LateScan));

	if (!registered)
		RegisterSubXactCallback(late_subxact, NULL);
	registered = true;
	added->scan = scan;
	added->kind = kind;
	added->begin = begin;
	added->owner = CurrentResourceOwner;
	added->listed = true;
	added->started = GetCurrentTransactionNestLevel() -
		(late_holds(CurrentResourceOwner) ? 0 : 1);
	added->forget.func = late_forget;
	added->forget.arg = added;
	dlist_push_tail(&late, &added->link);
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &added->forget);
}

static LateScan *
late_find(dlist_head *list, void *scan)
{
	dlist_iter	iter;

	dlist_foreach(iter, list)
	{
		LateScan   *s = dlist_container(LateScan, link, iter.cur);

		if (s->scan == scan)
			return s;
	}
	return NULL;
}

bool
fa_late_begun(void *scan)
{
	LateScan   *s;

	if (scan == begun_last || dlist_is_empty(&late))
		return false;
	begun_last = scan;
	s = late_find(&late, scan);
	if (s == NULL)
		return false;
	dlist_delete(&s->link);
	dlist_push_head(&begun, &s->link);
	s->level = GetCurrentTransactionNestLevel();
	return true;
}

bool
fa_late_is_lost(void *scan)
{
	LateScan   *s = any_lost ? late_find(&begun, scan) : NULL;

	return s && s->lost;
}

bool
fa_late_may_be_lost(void *scan)
{
	LateScan   *s = late_find(&begun, scan);

	return s && s->level > s->started;
}

void
fa_late_anew(void *scan)
{
	LateScan   *s = late_find(&begun, scan);

	if (s == NULL)
		return;
	dlist_delete(&s->link);
	dlist_push_tail(&late, &s->link);
	s->lost = false;
	if (begun_last == scan)
		begun_last = NULL;
}

/* The next one that this pass has not met; what begins may change the list. */
static LateScan *
late_next(uint64 this_pass, bool any, FaLateKind kind)
{
	dlist_iter	iter;

	dlist_foreach(iter, &late)
	{
		LateScan   *s = dlist_container(LateScan, link, iter.cur);

		if (s->tried < this_pass && (any || s->kind == kind))
			return s;
	}
	return NULL;
}

static void
late_begin(bool any, FaLateKind kind)
{
	uint64		this_pass;
	LateScan   *s;

	if (dlist_is_empty(&late))
		return;
	this_pass = ++pass;
	while ((s = late_next(this_pass, any, kind)) != NULL)
	{
		ResourceOwner caller = CurrentResourceOwner;

		s->tried = this_pass;
		CurrentResourceOwner = s->owner;
		PG_TRY();
		{
			s->begin(s->scan);
		}
		PG_FINALLY();
		{
			CurrentResourceOwner = caller;
		}
		PG_END_TRY();
	}
}

void
fa_late_begin_all(void)
{
	late_begin(true, FA_LATE_SCAN);
}

void
fa_late_begin_kind(FaLateKind kind)
{
	late_begin(false, kind);
}

/* Is there anything to evaluate, or not known yet? */
static bool
late_needs_params(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		return true;
	return expression_tree_walker(node, late_needs_params, context);
}

/*
 * Its first rows are fetched, and then still to be read: without a change of
 * parameters, a rescan that has fetched no more than that is nothing else.
 */
static void
late_begin_scan(void *scan)
{
	ForeignScanState *node = scan;

	if (node->ss.ps.chgParam != NULL ||
		late_needs_params((Node *) ((ForeignScan *) node->ss.ps.plan)->fdw_exprs,
						  NULL))
		return;
	(void) node->fdwroutine->IterateForeignScan(node);
	node->fdwroutine->ReScanForeignScan(node);
	ExecClearTuple(node->ss.ss_ScanTupleSlot);
}

void
fa_late_add_scan(ForeignScanState *node)
{
	fa_late_add(node->ss.ps.state, node, FA_LATE_SCAN, late_begin_scan);
}

void
fa_late_fetching(int node, Oid user)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Fetching   *session;
	ListCell   *lc;

	if (fetching_in != fa_my_lxid())
		fetching = NIL;
	fetching_in = fa_my_lxid();
	foreach(lc, fetching)
	{
		session = lfirst(lc);
		if (session->node == node && session->user == user)
			break;
	}
	if (lc == NULL)
	{
		session = palloc(sizeof(Fetching));
		session->node = node;
		session->user = user;
		fetching = lappend(fetching, session);
	}
	MemoryContextSwitchTo(caller);
}

void
fa_late_settle(void)
{
	List	   *sessions = fetching;
	ListCell   *lc;

	if (sessions == NIL)
		return;
	fetching = NIL;
	if (fetching_in != fa_my_lxid())
		return;
	foreach(lc, sessions)
	{
		Fetching   *session = lfirst(lc);

		if (session->node != 0)
			(void) fa_fdw_exec(session->node, session->user, NULL);
	}
	list_free_deep(sessions);
}
