/*
 * whole.c
 *	  A statement as text for the one node that owns all of its fragments.
 *
 * The text names buckets, which every node has, and has parameters in the
 * place of constants, so that one preparation there serves many statements.
 * It must mean there what it means here: whatever depends on the session or
 * the moment (now(), nextval(), current_user, functions that the user made)
 * is evaluated here and sent as a value, and where that cannot be, because it
 * needs rows or must be done for each of them, the statement is not sent.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "route/peer_error.h"
#include "route/pin_level.h"
#include "route/route.h"
#include "route/row_security.h"
#include "route/whole.h"

static Node *whole_mutator(Node *node, void *context);

/*
 * A cast to a length keeps its length as a constant.  It may fail, which must come
 * before the checks of new rows.
 */
static Node *
whole_cast(FuncExpr *func, FaWhole *cx)
{
	FuncExpr   *copy = copyObject(func);

	if (cx->once && cx->checks != NIL && fa_pin_has_value((Node *) func))
		return fa_whole_value((Node *) func, cx);
	linitial(copy->args) = whole_mutator(linitial(func->args), cx);
	return (Node *) copy;
}

/* It is known by its constant there, too, should it be sent on. */
static Node *
whole_peer_error(FuncExpr *func, FaWhole *cx)
{
	FuncExpr   *copy = copyObject(func);

	lsecond(copy->args) = whole_mutator(lsecond(func->args), cx);
	return (Node *) copy;
}

/*
 * ON CONFLICT's target must stay as the index has it, and there may be no
 * conflict.
 */
static Node *
whole_on_conflict(OnConflictExpr *conflict, FaWhole *cx)
{
	OnConflictExpr *copy = copyObject(conflict);
	bool		conditional = cx->conditional;

	cx->conditional = true;
	copy->onConflictSet = (List *) whole_mutator((Node *) conflict->onConflictSet, cx);
	copy->onConflictWhere = whole_mutator(conflict->onConflictWhere, cx);
	cx->conditional = conditional;
	return (Node *) copy;
}

static Bitmapset *
whole_pinned_entries(Query *query, List *pins)
{
	Bitmapset  *entries = NULL;
	ListCell   *lc;

	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);

		if (pin->query == query)
			entries = bms_add_member(entries, pin->rti);
	}
	return entries;
}

/* Entries that must not be there, or are not pinned. */
static bool
whole_has_others(Query *query, Bitmapset *pinned)
{
	ListCell   *lc;
	Index		rti = 0;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if ((rte->rtekind == RTE_RELATION && !bms_is_member(rti, pinned) &&
			 rte->relkind != RELKIND_COMPOSITE_TYPE) ||
			fa_rte_check_as(query, rte) != InvalidOid ||
			rte->rtekind == RTE_NAMEDTUPLESTORE ||
			rte->rtekind == RTE_TABLEFUNC)
			return true;
	}
	return query->hasModifyingCTE;
}

typedef struct RowContext
{
	Index		rti;			/* of VALUES */
	List	   *row;
} RowContext;

static Node *
whole_row_mutator(Node *node, void *context)
{
	RowContext *cx = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == cx->rti &&
		((Var *) node)->varlevelsup == 0 && ((Var *) node)->varattno > 0)
		return copyObject(list_nth(cx->row, ((Var *) node)->varattno - 1));
	return expression_tree_mutator(node, whole_row_mutator, context);
}

/*
 * Moves the expressions of an INSERT's targets, defaults for example, into
 * its rows: each row has its own, and text of such a statement is made of the
 * rows alone.
 */
static void
whole_fold_targets(Query *query, Index rti, RangeTblEntry *values)
{
	List	   *rows = NIL;
	List	   *names = NIL;
	List	   *targets = NIL;
	ListCell   *lc;
	ListCell   *target;

	foreach(lc, values->values_lists)
	{
		RowContext	cx = {rti, lfirst(lc)};
		List	   *row = NIL;

		foreach(target, query->targetList)
			row = lappend(row, whole_row_mutator((Node *) ((TargetEntry *) lfirst(target))->expr,
												 &cx));
		rows = lappend(rows, row);
	}
	foreach(target, query->targetList)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst(target));
		Node	   *expr = (Node *) entry->expr;

		names = lappend(names, makeString(psprintf("column%d", list_length(names) + 1)));
		entry->expr = (Expr *) makeVar(rti, list_length(names), exprType(expr),
									   exprTypmod(expr), exprCollation(expr), 0);
		targets = lappend(targets, entry);
	}
	values->values_lists = rows;
	values->eref = makeAlias(values->eref->aliasname, names);
	query->targetList = targets;
}

List *
fa_whole_named_targets(Query *query)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	Bitmapset **sets[FA_RTE_COLUMN_SETS];
	List	   *targets = NIL;
	ListCell   *lc;

	if (fa_rte_column_sets(query, rte, sets) == 0)
		return query->targetList;
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst(lc);

		if (bms_is_member(entry->resno - FirstLowInvalidHeapAttributeNumber,
						  *sets[1]) ||
			contain_mutable_functions((Node *) entry->expr))
			targets = lappend(targets, entry);
	}
	/* there is no text for an INSERT of nothing but defaults */
	return targets == NIL ? query->targetList : targets;
}

/*
 * Takes out of a copy of an INSERT what is evaluated once for each row that
 * it names: its target list or, with several rows, their values.
 */
static void
whole_take_values(Query *query, List **targets_p, RangeTblEntry **values_p)
{
	ListCell   *lc;
	bool		from_query = false;
	Index		rti = 0;

	*targets_p = NIL;
	*values_p = NULL;
	if (query->commandType != CMD_INSERT)
		return;
	query->targetList = fa_whole_named_targets(query);
	query->rtable = list_copy(query->rtable);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if (rte->rtekind == RTE_VALUES)
		{
			RangeTblEntry *empty = makeNode(RangeTblEntry);

			*values_p = makeNode(RangeTblEntry);
			**values_p = *rte;
			whole_fold_targets(query, rti, *values_p);
			*empty = **values_p;
			empty->values_lists = NIL;
			lfirst(lc) = empty;
		}
		else if (rte->rtekind == RTE_SUBQUERY || rte->rtekind == RTE_CTE)
			from_query = true;
	}
	if (*values_p == NULL && !from_query)
	{
		*targets_p = query->targetList;
		query->targetList = NIL;
	}
}

static bool
whole_has_identity(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	bool		found = false;

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
		found = found || TupleDescAttr(RelationGetDescr(rel), i)->attidentity != '\0';
	table_close(rel, NoLock);
	return found;
}

/* What an INSERT or MERGE gives to an identity column has been drawn here. */
static void
whole_override_identity(Query *copy)
{
	ListCell   *lc;

	if ((copy->commandType != CMD_INSERT && copy->commandType != CMD_MERGE) ||
		!whole_has_identity(rt_fetch(copy->resultRelation, copy->rtable)->relid))
		return;
	if (copy->commandType == CMD_INSERT)
		copy->override = OVERRIDING_SYSTEM_VALUE;
	foreach(lc, copy->mergeActionList)
	{
		MergeAction *action = lfirst(lc);

		if (action->commandType == CMD_INSERT)
			action->override = OVERRIDING_SYSTEM_VALUE;
	}
}

/* One level of the statement, with buckets in the place of tables. */
static Query *
whole_query(Query *query, FaWhole *cx)
{
	FaWhole		around = *cx;
	Query	   *rest = makeNode(Query);
	Query	   *copy;
	List	   *targets;
	List	   *returning;
	List	   *security;
	List	   *checks;
	RangeTblEntry *values;
	ListCell   *lc;

	*rest = *query;
	/* columns that the primary key determines: a bucket shows none */
	if (query->constraintDeps != NIL ||
		whole_has_others(query, whole_pinned_entries(query, cx->pins)) ||
		!fa_row_security_take(rest, &security, &checks))
	{
		cx->failed = true;
		return query;
	}
	cx->checks = list_concat(cx->checks, checks);
	whole_take_values(rest, &targets, &values);
	returning = rest->returningList;
	rest->returningList = NIL;
	cx->conditional = false;
	cx->where = false;
	cx->once = false;
	cx->subqueries = query == cx->top && query->onConflict &&
		query->cteList == NIL;
	copy = query_tree_mutator(rest, whole_mutator, cx, QTW_IGNORE_JOINALIASES);
	/* there may be no row */
	cx->conditional = true;
	copy->returningList = (List *) whole_mutator((Node *) returning, cx);
	cx->conditional = false;
	/* not conditional: of every row, as PostgreSQL has them before all others */
	cx->where = true;
	cx->subqueries = query == cx->top && query->cteList == NIL;
	foreach(lc, security)
		copy->jointree->quals = make_and_qual(whole_mutator(lfirst(lc), cx),
											  copy->jointree->quals);
	cx->where = false;
	cx->once = true;
	if (targets)
		copy->targetList = (List *) whole_mutator((Node *) targets, cx);
	cx->subqueries = cx->subqueries && query->onConflict;
	foreach(lc, values ? copy->rtable : NIL)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_VALUES)
			rte->values_lists = (List *) whole_mutator((Node *) values->values_lists, cx);
	}
	cx->once = around.once;
	cx->conditional = around.conditional;
	cx->where = around.where;
	cx->subqueries = around.subqueries;
	if (!cx->failed)
		whole_override_identity(copy);
	return cx->by_table || cx->failed ? copy :
		fa_leaf_put_buckets(query, copy, cx->pins);
}

static Node *
whole_mutator(Node *node, void *context)
{
	FaWhole    *cx = context;
	bool		conditional = cx->conditional;
	bool		where = cx->where;
	Node	   *result;

	if (node == NULL || cx->failed)
		return node;
	switch (nodeTag(node))
	{
		case T_Query:
			return (Node *) whole_query((Query *) node, cx);
		case T_Const:
			/* written as they are; the peer's planner can make use of them */
			if (((Const *) node)->constisnull ||
				((Const *) node)->consttype == BOOLOID)
				return node;
			return fa_whole_parameter(node, cx);
		case T_Param:
			if (((Param *) node)->paramkind == PARAM_EXTERN)
				return fa_whole_parameter(node, cx);
			break;
		case T_SubLink:
			result = fa_whole_subquery((SubLink *) node, cx);
			if (result)
				return IsA(result, ScalarArrayOpExpr) ?
					whole_mutator(result, cx) : result;
			break;
		case T_OnConflictExpr:
			return whole_on_conflict((OnConflictExpr *) node, cx);
		case T_Var:
			if (((Var *) node)->varattno <= 0)
				cx->failed = true;
			return node;
		case T_CollateExpr:
			if (((CollateExpr *) node)->collOid >= FirstUnpinnedObjectId)
				cx->failed = true;
			break;
		case T_XmlExpr:
		case T_CurrentOfExpr:
		case T_SetToDefault:
			cx->failed = true;
			return node;
		default:
			break;
	}

	if (fa_peer_error_is(node))
		return whole_peer_error((FuncExpr *) node, cx);
	/* what is not the same there: its value from here, if it has one */
	if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr) ||
		check_functions_in_node(node, fa_function_is_foreign, NULL) ||
		(cx->once && !IsA(node, List) && !IsA(node, TargetEntry) &&
		 contain_volatile_functions(node)))
		return fa_whole_value(node, cx);
	if (IsA(node, FuncExpr) &&
		((FuncExpr *) node)->funcformat != COERCE_EXPLICIT_CALL &&
		list_length(((FuncExpr *) node)->args) > 1)
		return whole_cast((FuncExpr *) node, cx);
	/* of AND and OR in WHERE, the planner asks for all values, to estimate rows */
	if (IsA(node, FromExpr) || IsA(node, JoinExpr))
		cx->where = true;
	else if (IsA(node, CaseExpr) || IsA(node, CoalesceExpr) ||
			 (!cx->where && (is_andclause(node) || is_orclause(node))))
	{
		cx->conditional = true;
		cx->where = false;
	}
	result = expression_tree_mutator(node, whole_mutator, cx);
	cx->conditional = conditional;
	cx->where = where;
	return result;
}

/* Same owner, not us, for all; every bucket has the columns of its table. */
static FaFragment *
whole_owner(List *pins)
{
	FaFragment *first = NULL;
	ListCell   *lc;

	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);
		const FaFragment *fragment = fa_map_leaf(pin->leaf);

		if (fragment == NULL || fragment->local ||
			(first && fragment->owner != first->owner) ||
			!fa_leaf_has_columns(pin->relid, fa_leaf_bucket(pin)))
			return NULL;
		if (first == NULL)
		{
			first = palloc(sizeof(FaFragment));
			*first = *fragment;
		}
	}
	return first;
}

/* Surely not more rows than fit in memory? */
static bool
whole_has_few_rows(Query *query)
{
	Node	   *limit = query->limitCount;

	if (query->commandType != CMD_SELECT)
		return true;
	if (limit && IsA(limit, Const) && !((Const *) limit)->constisnull &&
		query->limitOption == LIMIT_OPTION_COUNT)
		return DatumGetInt64(((Const *) limit)->constvalue) <= 1000;
	return query->hasAggs && query->groupClause == NIL &&
		query->groupingSets == NIL && !query->hasTargetSRFs;
}

static bool
whole_can_receive(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->commandType == CMD_SELECT ? query->targetList :
			query->returningList)
	{
		TargetEntry *entry = lfirst(lc);

		if (!entry->resjunk && !fa_whole_can_send(exprType((Node *) entry->expr)))
			return false;
	}
	return true;
}

/* "orders 17, customers 4" */
static char *
whole_label(List *pins)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);

		appendStringInfo(&buf, "%s%s " INT64_FORMAT, buf.len ? ", " : "",
						 get_rel_name(pin->relid),
						 fa_map_leaf(pin->leaf)->fragment);
	}
	return buf.data;
}

/* Are there several fragments of one table? */
static bool
whole_is_by_table(List *pins)
{
	FaPin	   *first = linitial(pins);
	FaPin	   *second = list_length(pins) > 1 ? lsecond(pins) : NULL;

	return second && first->query == second->query && first->rti == second->rti;
}

PlannedStmt *
fa_whole_plan(Query *parse, List *pins, int cursor_options)
{
	FaWhole		cx = {0};
	FaFragment *fragment;
	PlannedStmt *plan;
	Query	   *query = parse;
	List	   *private;
	List	   *params = NIL;
	List	   *queries;
	List	   *rtes = NIL;
	List	   *invalid = NIL;
	ListCell   *lc;

	if (pins == NIL || (cursor_options & CURSOR_OPT_SCROLL) ||
		parse->utilityStmt != NULL)
		return NULL;
	fragment = whole_owner(pins);
	if (fragment == NULL || !whole_can_receive(parse))
		return NULL;
	cx.top = parse;
	cx.pins = pins;
	cx.by_table = whole_is_by_table(pins);
	/* there, the table has its policies, too, under the settings of a peer's session */
	if (cx.by_table && parse->hasRowSecurity)
		return NULL;
	query = whole_query(parse, &cx);
	if (cx.failed)
		return NULL;
	private = list_make5(makeString(fa_whole_text(query, &cx)),
						 makeInteger(fragment->owner),
						 makeConst(OIDOID, -1, InvalidOid, sizeof(Oid),
								   ObjectIdGetDatum(fragment->leaf), false, true),
						 makeBoolean(whole_has_few_rows(parse)),
						 makeString(whole_label(pins)));
	private = lappend(private, makeString(psprintf(INT64_FORMAT,
												   fragment->version)));
	private = lappend(private, fa_row_security_messages(cx.checks));
	private = lappend(private, cx.fallible);
	foreach(lc, cx.checks)
		cx.params = lappend(cx.params, ((WithCheckOption *) lfirst(lc))->qual);
	queries = fa_whole_queries(cx.params);
	private = lappend(private, queries);
	foreach(lc, cx.params)
		params = lappend(params, expression_planner_with_deps(copyObject(lfirst(lc)),
															  &rtes, &invalid));
	rtes = NIL;
	foreach(lc, pins)
	{
		FaPin	   *pin = lfirst(lc);
		ListCell   *parent;

		foreach(parent, pin->parents)
			rtes = lappend(rtes, fa_custom_rte(lfirst_oid(parent), pin->lockmode));
		rtes = lappend(rtes, fa_custom_rte(pin->leaf, pin->lockmode));
	}
	plan = fa_custom_plan(parse, &fa_remote_scan_methods, private, params, rtes);
	plan->invalItems = list_concat(plan->invalItems, invalid);
	fa_custom_plan_depends(plan, queries);
	plan->planTree->plan_rows = 1;
	return plan;
}
