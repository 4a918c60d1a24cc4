/*
 * router.c
 *	  Planner hook: a statement about one fragment goes straight to it.
 *
 * A statement without a distributed table is recognised by a look at its
 * range table, and pays for nothing else.  One whose relations are not pinned
 * is planned by PostgreSQL as for any partitioned table.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/makefuncs.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/cluster_xact.h"
#include "route/function.h"
#include "route/gate.h"
#include "route/hooks.h"
#include "route/kept.h"
#include "route/refusal.h"
#include "route/route.h"
#include "route/row_by_row.h"
#include "route/whole.h"

static planner_hook_type prev_planner_hook = NULL;

static PlannedStmt *
router_plan(Query *parse, const char *query_string, int cursor_options,
			ParamListInfo params)
{
	if (prev_planner_hook)
		return prev_planner_hook(parse, query_string, cursor_options, params);
	return standard_planner(parse, query_string, cursor_options, params);
}

/* Of a statement that names a distributed table. */
static PlannedStmt *
router_plan_ours(Query *parse, const char *query_string, int cursor_options,
				 ParamListInfo params)
{
	return fa_async_settle(router_plan(parse, query_string, cursor_options,
									   params));
}

/* As router_plan_ours(), with upserts beside parts of WITH that change rows. */
static PlannedStmt *
router_plan_beside(Query *parse, const char *query_string, int cursor_options,
				   ParamListInfo params)
{
	List	   *taken = fa_row_by_row_take(parse);
	PlannedStmt *plan = router_plan_ours(parse, query_string, cursor_options, params);

	fa_row_by_row_put(plan, taken);
	return plan;
}

/* As router_plan_beside(), of what may have no plan. */
static PlannedStmt *
router_plan_or_refuse(Query *parse, FaRefusal why, const char *query_string,
					  int cursor_options, ParamListInfo params)
{
	MemoryContext caller = CurrentMemoryContext;
	PlannedStmt *volatile plan = NULL;

	if (why == FA_REFUSAL_NONE)
		return router_plan_ours(parse, query_string, cursor_options, params);
	PG_TRY();
	{
		plan = router_plan_beside(parse, query_string, cursor_options, params);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		fa_refusal_of_plan(edata, parse, why);
		ReThrowError(edata);
	}
	PG_END_TRY();
	return plan;
}

static bool
router_may_refuse(Query *parse)
{
	return parse->commandType == CMD_MERGE || parse->onConflict != NULL;
}

/* Are there fragments of the table that are elsewhere? */
static bool
router_has_remote(Oid relid)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			return true;
	}
	return false;
}

/*
 * Of what would be refused, as its rows are not all here.  pins: of it; each a
 * fragment.
 */
static PlannedStmt *
router_plan_by_row(Query *parse, List *pins)
{
	ListCell   *lc;

	if (!router_may_refuse(parse) ||
		(parse->commandType == CMD_MERGE &&
		 !router_has_remote(rt_fetch(parse->resultRelation, parse->rtable)->relid)))
		return NULL;
	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);

		if (pin->query == parse && pin->rti == parse->resultRelation &&
			fa_map_leaf(pin->leaf)->local)
			return NULL;
	}
	return fa_row_by_row_plan(parse);
}

/* Does the pin say where an upsert goes that is not to a fragment here? */
static bool
router_is_upsert_elsewhere(FaPin *pin)
{
	return pin->query->onConflict && pin->rti == pin->query->resultRelation &&
		!fa_map_leaf(pin->leaf)->local;
}

PlannedStmt *
fa_route_plan_pinned(Query *parse, List *pins, const char *query_string,
					 int cursor_options, ParamListInfo params)
{
	PlannedStmt *plan = fa_whole_plan(parse, pins, cursor_options);
	FaRefusal	why;
	ListCell   *lc;

	if (plan == NULL)
		plan = router_plan_by_row(parse, pins);
	if (plan)
		return plan;
	why = fa_refusal_why(parse);
	foreach(lc, pins)
	{
		if (!router_is_upsert_elsewhere(lfirst(lc)) && fa_leaf_fits(lfirst(lc)))
			fa_leaf_substitute(lfirst(lc));
	}
	plan = router_plan_or_refuse(parse, why, query_string, cursor_options,
								 params);
	fa_leaf_keep_tables(plan, pins);
	return plan;
}

PlannedStmt *
fa_route_plan_unpinned(Query *parse, const char *query_string,
					   int cursor_options, ParamListInfo params)
{
	PlannedStmt *plan = router_plan_by_row(parse, NIL);

	return plan ? plan :
		router_plan_or_refuse(parse, fa_refusal_why(parse), query_string,
							  cursor_options, params);
}

PlannedStmt *
fa_route_plan(Query *parse, const char *query_string, int cursor_options,
			  ParamListInfo params, bool final, bool custom)
{
	List	   *pins = fa_pin_collect(parse);
	List	   *here = NIL;
	bool		later = false;
	PlannedStmt *plan;
	ListCell   *lc;

	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);
		FaPinResult result = fa_pin_resolve(pin, params, final);

		if (result == FA_PIN_LATER)
			later = true;
		else if (result == FA_PIN_HERE)
			here = lappend(here, pin);
		else if (result == FA_PIN_NOWHERE)
			pin->query->onConflict = NULL;	/* PostgreSQL says what it lacks */
	}
	if (later)
		return fa_deferred_plan(parse, query_string, cursor_options);
	if (here == NIL)
	{
		if (parse->commandType != CMD_INSERT && list_length(pins) == 1)
			plan = fa_whole_plan(parse, fa_pin_resolve_each(linitial(pins), params, final),
								 cursor_options);
		else
			plan = fa_split_plan(parse, query_string, cursor_options, params,
								 final, custom);
		if (plan)
			return plan;
	}
	else if (custom && !final && list_length(pins) == 1 &&
			 (plan = fa_kept_plan(parse, linitial(here), query_string,
								  cursor_options, params)) != NULL)
		return plan;
	params = custom ? params : NULL;
	return here == NIL ?
		fa_route_plan_unpinned(parse, query_string, cursor_options, params) :
		fa_route_plan_pinned(parse, here, query_string, cursor_options, params);
}

/*
 * ON CONFLICT ON CONSTRAINT: the table only shows it, so the statement is about
 * its columns, which each heap has an index of.
 */
static void
router_infer_columns(Query *parse)
{
	OnConflictExpr *conflict = parse->onConflict;
	RangeTblEntry *rte = rt_fetch(parse->resultRelation, parse->rtable);
	Relation	index;

	if (!OidIsValid(conflict->constraint) || fa_map_table(rte->relid) == NULL)
		return;
	index = index_open(get_constraint_index(conflict->constraint), AccessShareLock);
	for (int i = 0; index->rd_index->indisunique &&
		 i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attno = index->rd_index->indkey.values[i];
		InferenceElem *elem = makeNode(InferenceElem);
		Oid			type;
		Oid			collation;
		int32		typmod;

		get_atttypetypmodcoll(rte->relid, attno, &type, &typmod, &collation);
		elem->expr = (Node *) makeVar(parse->resultRelation, attno, type, typmod,
									  collation, 0);
		conflict->arbiterElems = lappend(conflict->arbiterElems, elem);
	}
	if (index->rd_index->indisunique)
		conflict->constraint = InvalidOid;
	index_close(index, AccessShareLock);
}

static PlannedStmt *
router_planner(Query *parse, const char *query_string, int cursor_options,
			   ParamListInfo params)
{
	PlannedStmt *plan;

	if (fa_origin != 0)
		fa_peer_session_begin();
	fa_refuse_on_standby(parse);
	if (fa_maintenance || !fa_pin_possible(parse))
		return router_plan(parse, query_string, cursor_options, params);
	if (parse->onConflict)
		router_infer_columns(parse);
	if (!fa_routing)
		plan = router_plan_ours(parse, query_string, cursor_options, params);
	else
	{
		if (params)
			fa_function_note(query_string, params);
		fa_gate_wait_statement(parse, params);
		plan = fa_route_plan(parse, query_string, cursor_options, params, false,
							 true);
	}
	fa_hooks_renew_snapshot();
	return plan;
}

void
fa_router_init(void)
{
	prev_planner_hook = planner_hook;
	planner_hook = router_planner;
	fa_hooks_init();
	fa_remote_scan_init();
	fa_split_scan_init();
	fa_deferred_init();
	fa_row_by_row_init();
	fa_kept_init();
	fa_whole_text_init();
}
