/*
 * split.c
 *	  An INSERT of rows that belong to several fragments.
 *
 * PostgreSQL would insert them over postgres_fdw leaf by leaf, in several round
 * trips each; and it refuses an upsert, as there is no unique index over all
 * fragments, though every row's conflict is in its own.  So the statement
 * becomes one for each node, with its rows; here, an upsert becomes one for each
 * fragment, as anywhere what is under row security, which buckets do not have.  They run as parts of the statement, those of other nodes at the same
 * time.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "rewrite/rewriteManip.h"

#include "catalog/map.h"
#include "route/pin_level.h"
#include "route/route.h"

#define MAX_UPSERT_ROWS 10000
#define MAX_INSERT_ROWS 1000	/* beyond, PostgreSQL's batches do as well */

/* The rows of one node, or of one fragment. */
typedef struct Share
{
	int			node;
	Oid			leaf;			/* the fragment's; else of the first row */
	bool		local;
	List	   *rows;
	List	   *pins;			/* of FaPin: one for each fragment */
} Share;

typedef struct SplitContext
{
	Query	   *frame;			/* the statement without its rows */
	List	   *shares;
	List	   *order;			/* for each row the place of its share */
	ParamListInfo params;
	bool		final;
} SplitContext;

static bool
split_is_upsert(Query *query)
{
	return query->onConflict && query->onConflict->arbiterElems != NIL;
}

/* The VALUES of an INSERT that has nothing else in it; or NULL. */
static RangeTblEntry *
split_values(Query *query)
{
	RangeTblEntry *values = NULL;
	ListCell   *lc;

	if (query->commandType != CMD_INSERT || query->cteList != NIL ||
		(query->hasSubLinks && !query->hasRowSecurity))
		return NULL;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_VALUES && values == NULL)
			values = rte;
		else if (rte->rtekind != RTE_RELATION)
			return NULL;
	}
	/* those of policies are of no concern here */
	if (query->hasSubLinks && values &&
		(checkExprHasSubLink((Node *) values->values_lists) ||
		 checkExprHasSubLink((Node *) query->targetList)))
		return NULL;
	return values && list_length(values->values_lists) <=
		(split_is_upsert(query) ? MAX_UPSERT_ROWS : MAX_INSERT_ROWS) ?
		values : NULL;
}

/* The statement with these rows. */
static Query *
split_query(Query *frame, List *rows)
{
	Query	   *query = copyObject(frame);

	split_values(query)->values_lists = copyObject(rows);
	return query;
}

/* A pin like that of the first row, for another row's values. */
static FaPin *
split_pin(SplitContext *cx, FaPin *model, List *row)
{
	FaPin	   *pin = palloc(sizeof(FaPin));
	ListCell   *lc;

	*pin = *model;
	pin->known = palloc0(sizeof(FaKnown) * Max(pin->natts, 1));
	foreach(lc, cx->frame->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = (Node *) entry->expr;

		if (entry->resjunk || entry->resno > pin->natts ||
			model->known[entry->resno - 1].exprs == NIL)
			continue;
		if (IsA(expr, Var))
			expr = list_nth(row, ((Var *) expr)->varattno - 1);
		if (IsA(expr, Const) || fa_pin_has_value(expr))
			pin->known[entry->resno - 1].exprs = list_make1(expr);
	}
	return pin;
}

/* Puts a row into the share that its pin belongs to. */
static void
split_share(SplitContext *cx, List *row, FaPin *pin)
{
	const FaFragment *fragment = fa_map_leaf(pin->leaf);
	bool		by_leaf = cx->frame->hasRowSecurity ||
		(fragment->local && split_is_upsert(cx->frame));
	Share	   *share = NULL;
	ListCell   *lc;

	foreach(lc, cx->shares)
	{
		Share	   *s = lfirst(lc);

		if (s->node == fragment->owner && (!by_leaf || s->leaf == pin->leaf))
		{
			share = s;
			cx->order = lappend_int(cx->order, foreach_current_index(lc));
			break;
		}
	}
	if (share == NULL)
	{
		share = palloc0(sizeof(Share));
		share->node = fragment->owner;
		share->local = fragment->local;
		share->leaf = pin->leaf;
		cx->order = lappend_int(cx->order, list_length(cx->shares));
		cx->shares = lappend(cx->shares, share);
	}
	share->rows = lappend(share->rows, row);
	foreach(lc, share->pins)
	{
		if (((FaPin *) lfirst(lc))->leaf == pin->leaf)
			return;
	}
	share->pins = lappend(share->pins, pin);
}

/* Shares the rows out; FA_PIN_HERE when each has a fragment. */
static FaPinResult
split_rows(SplitContext *cx, List *rows)
{
	List	   *pins = fa_pin_collect(split_query(cx->frame,
												  list_make1(linitial(rows))));
	ListCell   *lc;

	if (list_length(pins) != 1)
		return FA_PIN_NONE;
	foreach(lc, rows)
	{
		FaPin	   *pin = split_pin(cx, linitial(pins), lfirst(lc));
		FaPinResult result = fa_pin_resolve(pin, cx->params, cx->final);

		CHECK_FOR_INTERRUPTS();
		if (result != FA_PIN_HERE)
			return result;
		split_share(cx, lfirst(lc), pin);
	}
	return FA_PIN_HERE;
}

/* Is there nothing in it that PostgreSQL does not do as well? */
static bool
split_is_local(SplitContext *cx)
{
	return list_length(cx->shares) == 1 &&
		((Share *) linitial(cx->shares))->local && !split_is_upsert(cx->frame);
}

/* The plan for one share; NULL when there is none. */
static PlannedStmt *
split_part(SplitContext *cx, Share *share, const char *query_string,
		   int cursor_options, bool custom)
{
	Query	   *query = split_query(cx->frame, share->rows);
	ParamListInfo params = custom ? cx->params : NULL;
	PlannedStmt *plan;
	ListCell   *lc;

	foreach(lc, share->pins)
		((FaPin *) lfirst(lc))->query = query;
	if (list_length(share->pins) == 1)
		return fa_route_plan_pinned(query, share->pins, query_string,
									cursor_options, params);
	plan = share->local ? NULL :
		fa_whole_plan(query, share->pins, cursor_options);
	if (plan || split_is_upsert(query))
		return plan;
	return fa_route_plan_unpinned(query, query_string, cursor_options, params);
}

/* Does every row that is given come back? */
static bool
split_keeps_rows(Query *query)
{
	return query->returningList != NIL &&
		(query->onConflict == NULL ||
		 (query->onConflict->action == ONCONFLICT_UPDATE &&
		  query->onConflict->onConflictWhere == NULL));
}

PlannedStmt *
fa_split_plan(Query *parse, const char *query_string, int cursor_options,
			  ParamListInfo params, bool final, bool custom)
{
	RangeTblEntry *values = split_values(parse);
	SplitContext cx = {NULL, NIL, NIL, params, final};
	List	   *rows;
	List	   *parts = NIL;
	List	   *rtes = NIL;
	FaPinResult result;
	ListCell   *lc;

	if (values == NULL)
		return NULL;
	rows = values->values_lists;
	values->values_lists = NIL;
	cx.frame = copyObject(parse);
	values->values_lists = rows;
	result = split_rows(&cx, rows);
	if (result == FA_PIN_LATER)
		return fa_deferred_plan(parse, query_string, cursor_options);
	if (result != FA_PIN_HERE || split_is_local(&cx))
		return NULL;
	foreach(lc, cx.shares)
	{
		PlannedStmt *part = split_part(&cx, lfirst(lc), query_string,
									   cursor_options, custom);
		ListCell   *r;

		if (part == NULL)
			return NULL;
		/* what the parts lock is locked, and watched, with the whole */
		foreach(r, part->rtable)
		{
			RangeTblEntry *rte = lfirst(r);

			if (rte->rtekind == RTE_RELATION && rte->rellockmode != NoLock)
				rtes = lappend(rtes, fa_custom_rte(rte->relid, rte->rellockmode));
		}
		parts = lappend(parts, part);
	}
	if (list_length(parts) == 1)
		return linitial(parts);
	return fa_split_scan_plan(parse, parts,
							  split_keeps_rows(parse) ? cx.order : NIL, rtes);
}
