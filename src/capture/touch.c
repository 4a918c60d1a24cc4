/*
 * touch.c
 *	  Finds the fragments of a plan, and afterwards what was done to them.
 *
 * Most statements that matter meet one fragment, at one scan whose rows are
 * the statement's rows: those need nothing but the statement's row count and
 * time.  For all others the scans of fragments (no other nodes) count their
 * rows, and foreign scans their time.
 *
 * What is exact and what is not, with several fragments:
 *	- which fragments were touched: exact
 *	- rows read: exact, except that a join pushed down to a peer shares its
 *	  rows evenly among its fragments
 *	- rows written by UPDATE and DELETE: in proportion to the rows that the
 *	  scans gave; by INSERT through the table: evenly over the leaves used
 *	- time: that of a foreign scan is its own, unless it is asynchronous; the
 *	  rest of the statement's is shared evenly by the other fragments, by the
 *	  remote ones if there are any (local ones then get a guess)
 */
#include "postgres.h"

#include <math.h>

#include "executor/executor.h"
#include "executor/instrument.h"
#include "nodes/nodeFuncs.h"
#include "utils/rel.h"

#include "capture/touch.h"
#include "catalog/map.h"
#include "core/fa_compat.h"

#define LOCAL_SCAN_NS 20000.0
#define LOCAL_ROW_NS 500.0

typedef struct CollectContext
{
	EState	   *estate;
	FaTouchList *list;
} CollectContext;

/* What became of one fragment, gathered from the nodes that met it. */
typedef struct Sum
{
	int			slot;
	bool		remote;
	bool		written;
	bool		timed;			/* all of it was foreign scans */
	double		rows_read;
	double		rows_written;
	double		ns;				/* while timed */
} Sum;

static FaTouch *
touch_add(FaTouchList *list, PlanState *node, Oid relid)
{
	const FaFragment *f = fa_map_leaf(relid);
	FaTouch    *t;

	if (f == NULL || f->slot < 0)
		return NULL;
	if (list->n == 0)
	{
		list->touch = &list->first;
		list->size = 1;
	}
	else if (list->n == list->size)
	{
		FaTouch    *more = palloc(sizeof(FaTouch) * list->size * 8);

		memcpy(more, list->touch, sizeof(FaTouch) * list->n);
		list->touch = more;
		list->size *= 8;
	}
	t = &list->touch[list->n++];
	memset(t, 0, sizeof(*t));
	t->node = node;
	t->slot = f->slot;
	t->remote = !f->local;
	t->sharing = 1;
	return t;
}

/* A scan of the range table's entry rti. */
static FaTouch *
touch_add_scan(CollectContext *cx, PlanState *node, Index rti)
{
	RangeTblEntry *rte = exec_rt_fetch(rti, cx->estate);
	FaTouch    *t;

	if (rte->rtekind != RTE_RELATION)
		return NULL;
	t = touch_add(cx->list, node, rte->relid);
	if (t && cx->estate->es_result_relations)
		t->written = cx->estate->es_result_relations[rti - 1] != NULL;
	return t;
}

/* A foreign or custom scan of several relations. */
static void
touch_add_relids(CollectContext *cx, PlanState *node, Bitmapset *relids)
{
	int			first = cx->list->n;
	int			rti = -1;

	while ((rti = bms_next_member(relids, rti)) > 0)
		(void) touch_add_scan(cx, node, rti);
	for (int i = first; i < cx->list->n; i++)
		cx->list->touch[i].sharing = cx->list->n - first;
}

static bool
touch_walker(PlanState *node, CollectContext *cx)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_SeqScanState:
		case T_SampleScanState:
		case T_IndexScanState:
		case T_IndexOnlyScanState:
		case T_BitmapHeapScanState:
		case T_TidScanState:
		case T_TidRangeScanState:
			(void) touch_add_scan(cx, node, ((Scan *) node->plan)->scanrelid);
			if (node->lefttree == NULL && node->initPlan == NIL &&
				node->subPlan == NIL)
				return false;
			break;
		case T_ForeignScanState:
			{
				ForeignScan *scan = (ForeignScan *) node->plan;

				FaTouch    *t;

				if (scan->scan.scanrelid > 0)
				{
					t = touch_add_scan(cx, node, scan->scan.scanrelid);
					if (t && scan->operation != CMD_SELECT)
						t->written = true;
				}
				else
					touch_add_relids(cx, node, fa_foreign_scan_relids(scan));
				break;
			}
		case T_CustomScanState:
			{
				CmdType		does = cx->estate->es_plannedstmt->commandType;
				int			first = cx->list->n;

				touch_add_relids(cx, node,
								 ((CustomScan *) node->plan)->custom_relids);
				/* the router's scan does all that the statement does */
				for (int i = first; i < cx->list->n; i++)
				{
					cx->list->touch[i].written = does != CMD_SELECT;
					cx->list->touch[i].inserted = does == CMD_INSERT;
				}
				break;
			}
		case T_ModifyTableState:
			{
				ModifyTableState *mt = (ModifyTableState *) node;
				FaTouch    *t;

				cx->list->modifies = true;
				if (mt->operation != CMD_INSERT || mt->mt_nrels != 1)
					break;
				/* straight into a leaf; what is routed is seen at the end */
				t = touch_add(cx->list, node,
							  RelationGetRelid(mt->resultRelInfo[0].ri_RelationDesc));
				if (t)
					t->inserted = true;
				else if (!mt->canSetTag && outerPlanState(node))
					cx->list->sources = lappend(cx->list->sources,
												outerPlanState(node));
				break;
			}
		default:
			break;
	}
	return planstate_tree_walker(node, touch_walker, cx);
}

/* The node whose rows are those of the statement. */
static PlanState *
touch_top(PlanState *node)
{
	for (;;)
	{
		switch (nodeTag(node))
		{
			case T_ModifyTableState:
				if (((ModifyTableState *) node)->operation == CMD_INSERT)
					return node;
				/* FALLTHROUGH */
			case T_LockRowsState:
			case T_LimitState:
			case T_ResultState:
				if (outerPlanState(node) == NULL)
					return node;
				node = outerPlanState(node);
				break;
			case T_AppendState:
				if (((AppendState *) node)->as_nplans != 1)
					return node;
				node = ((AppendState *) node)->appendplans[0];
				break;
			case T_MergeAppendState:
				if (((MergeAppendState *) node)->ms_nplans != 1)
					return node;
				node = ((MergeAppendState *) node)->mergeplans[0];
				break;
			default:
				return node;
		}
	}
}

static void
touch_instrument_node(PlanState *node)
{
	int			options = INSTRUMENT_ROWS;

	if (node == NULL || node->instrument)
		return;
	if (IsA(node, ForeignScanState))
		options |= INSTRUMENT_TIMER;
	/* looked at when the node is first executed, so now is early enough */
	node->instrument = InstrAlloc(1, options, node->plan->async_capable);
}

static void
touch_instrument(FaTouchList *list)
{
	ListCell   *lc;

	foreach(lc, list->sources)
		touch_instrument_node(lfirst(lc));
	for (int i = 0; i < list->n; i++)
	{
		FaTouch    *t = &list->touch[i];

		touch_instrument_node(t->inserted ? outerPlanState(t->node) : t->node);
	}
}

/* Is the plan one scan of one table, and nothing else? */
static inline bool
touch_is_lone_scan(PlanState *node)
{
	return (IsA(node, IndexScanState) || IsA(node, IndexOnlyScanState) ||
			IsA(node, SeqScanState)) &&
		node->initPlan == NIL && node->subPlan == NIL;
}

bool
fa_touch_collect(QueryDesc *query, FaTouchList *list)
{
	CollectContext cx = {query->estate, list};
	PlanState  *top = query->planstate;

	if (touch_is_lone_scan(top))
	{
		list->simple = true;
		return touch_add_scan(&cx, top, ((Scan *) top->plan)->scanrelid) != NULL;
	}
	(void) touch_walker(top, &cx);
	if (list->n == 0 && !list->modifies)
		return false;
	list->inserts = query->operation == CMD_INSERT;
	if (list->sources != NIL || list->n > 1)
		list->simple = false;
	else if (list->n == 0)
		list->simple = true;
	else
		list->simple = list->touch[0].node == touch_top(top) &&
			list->inserts == list->touch[0].inserted;
	if (!list->simple)
		touch_instrument(list);
	return true;
}

/* Was a scan executed that counts nothing?  In doubt: yes. */
static bool
touch_scan_ran(PlanState *node)
{
	switch (nodeTag(node))
	{
		case T_SeqScanState:
			return ((ScanState *) node)->ss_currentScanDesc != NULL;
		case T_IndexScanState:
			return ((IndexScanState *) node)->iss_ScanDesc != NULL;
		case T_IndexOnlyScanState:
			return ((IndexOnlyScanState *) node)->ioss_ScanDesc != NULL;
		default:
			return true;
	}
}

/* Adds what one node says about one fragment; sum is of that fragment. */
static bool
touch_measure(FaTouch *t, Sum *sum)
{
	PlanState  *node = t->inserted ? outerPlanState(t->node) : t->node;
	Instrumentation *instr = node ? node->instrument : NULL;
	double		rows;

	memset(sum, 0, sizeof(*sum));
	sum->slot = t->slot;
	sum->remote = t->remote;
	sum->written = t->written || t->inserted;
	if (instr == NULL)
		return true;
	InstrEndLoop(instr);
	if (instr->nloops <= 0)
		return false;
	/* also the rows of a modification that the peer does by itself */
	rows = instr->ntuples / t->sharing;
	if (!t->inserted)
		sum->rows_read = rows;
	if (sum->written)
		sum->rows_written = rows;
	if (IsA(node, ForeignScanState) && instr->need_timer &&
		!node->plan->async_capable && !t->inserted)
	{
		sum->timed = true;
		sum->ns = instr->total * 1e9 / t->sharing;
	}
	return true;
}

static int
sum_compare(const void *a, const void *b)
{
	return ((const Sum *) a)->slot - ((const Sum *) b)->slot;
}

/* Makes one entry a fragment, in the order of slots; returns their number. */
static int
touch_merge(Sum *sums, int n)
{
	int			last = 0;

	if (n < 2)
		return n;
	qsort(sums, n, sizeof(Sum), sum_compare);
	for (int i = 1; i < n; i++)
	{
		if (sums[i].slot != sums[last].slot)
			sums[++last] = sums[i];
		else
		{
			sums[last].written |= sums[i].written;
			sums[last].timed &= sums[i].timed;
			sums[last].rows_read += sums[i].rows_read;
			sums[last].rows_written += sums[i].rows_written;
			sums[last].ns += sums[i].ns;
		}
	}
	return last + 1;
}

/* Rows that the statement's INSERTs through tables had to route. */
static double
touch_rows_routed(FaTouchList *list, uint64 processed)
{
	double		rows = list->inserts ? processed : 0;
	ListCell   *lc;

	foreach(lc, list->sources)
	{
		Instrumentation *instr = ((PlanState *) lfirst(lc))->instrument;

		if (instr)
		{
			InstrEndLoop(instr);
			rows += instr->ntuples;
		}
	}
	return rows;
}

/* Leaves that rows were routed to; returns the new number of entries. */
static int
touch_add_routed(EState *estate, Sum *sums, int n, double rows)
{
	int			first = n;
	ListCell   *lc;

	foreach(lc, estate->es_tuple_routing_result_relations)
	{
		ResultRelInfo *rri = lfirst(lc);
		const FaFragment *f =
			fa_map_leaf(RelationGetRelid(rri->ri_RelationDesc));

		if (f == NULL || f->slot < 0)
			continue;
		memset(&sums[n], 0, sizeof(Sum));
		sums[n].slot = f->slot;
		sums[n].remote = !f->local;
		sums[n].written = true;
		n++;
	}
	for (int i = first; i < n; i++)
		sums[i].rows_written = rows / (n - first);
	return n;
}

/* Makes the rows written add up to those of the statement. */
static void
touch_scale_written(Sum *sums, int n, uint64 processed)
{
	double		total = 0;

	for (int i = 0; i < n; i++)
		total += sums[i].rows_written;
	for (int i = 0; i < n && total > 0; i++)
		sums[i].rows_written *= processed / total;
}

/* What a local fragment will have taken, if nothing measured it. */
static double
touch_local_guess(const Sum *sum)
{
	return LOCAL_SCAN_NS + LOCAL_ROW_NS * (sum->rows_read + sum->rows_written);
}

/* Shares out the statement's time. */
static void
touch_share_time(Sum *sums, int n, double elapsed_ns)
{
	double		rest = elapsed_ns;
	int			nlocal = 0;
	int			nremote = 0;	/* neither of them timed */

	for (int i = 0; i < n; i++)
	{
		if (sums[i].timed)
			rest = Max(rest - sums[i].ns, 0);
		else if (sums[i].remote)
			nremote++;
		else
			nlocal++;
	}
	/* waiting for peers is not to be taken for the time of local fragments */
	for (int i = 0; i < n && nremote > 0; i++)
	{
		if (sums[i].timed || sums[i].remote)
			continue;
		sums[i].ns = Min(touch_local_guess(&sums[i]), rest / (nremote + 1));
		rest -= sums[i].ns;
	}
	for (int i = 0; i < n; i++)
	{
		if (nremote + nlocal == 0)
			sums[i].ns += rest / n;
		else if (!sums[i].timed && (sums[i].remote || nremote == 0))
			sums[i].ns = rest / (nremote > 0 ? nremote : nlocal);
	}
}

static int
touch_result_several(QueryDesc *query, FaTouchList *list, uint64 processed,
					 double elapsed_ns, FaAccess **access_p)
{
	List	   *routed = query->estate->es_tuple_routing_result_relations;
	Sum		   *sums = palloc(sizeof(Sum) * (list->n + list_length(routed)));
	FaAccess   *access;
	int			n = 0;

	for (int i = 0; i < list->n; i++)
	{
		if (!touch_measure(&list->touch[i], &sums[n]))
			continue;
		if (list->simple)
		{
			/* an UPDATE that also moved rows elsewhere */
			sums[n].rows_read = processed;
			sums[n].rows_written = sums[n].written ? processed : 0;
		}
		n++;
	}
	if (query->operation == CMD_UPDATE || query->operation == CMD_DELETE)
		touch_scale_written(sums, n, processed);
	n = touch_add_routed(query->estate, sums, n,
						 touch_rows_routed(list, processed));
	if (n == 0)
		return 0;
	n = touch_merge(sums, n);
	touch_share_time(sums, n, elapsed_ns);
	access = palloc0(sizeof(FaAccess) * n);
	for (int i = 0; i < n; i++)
	{
		access[i].slot = sums[i].slot;
		access[i].remote = sums[i].remote;
		access[i].written = sums[i].written;
		access[i].rows_read = llrint(sums[i].rows_read);
		access[i].rows_written = llrint(sums[i].rows_written);
		access[i].elapsed_ns = llrint(sums[i].ns);
	}
	*access_p = access;
	return n;
}

int
fa_touch_result(QueryDesc *query, FaTouchList *list, uint64 processed,
				int64 elapsed_ns, FaAccess **access_p)
{
	FaTouch    *t = list->touch;
	FaAccess   *access = *access_p;

	if (!list->simple || list->n != 1 ||
		query->estate->es_tuple_routing_result_relations != NIL)
		return touch_result_several(query, list, processed, elapsed_ns,
									access_p);
	if (!t->inserted && !touch_scan_ran(t->node))
		return 0;
	access->slot = t->slot;
	access->remote = t->remote;
	access->written = t->written || t->inserted;
	access->rows_read = t->inserted ? 0 : processed;
	access->rows_written = access->written ? processed : 0;
	access->elapsed_ns = elapsed_ns;
	return 1;
}
