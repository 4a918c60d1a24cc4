/*
 * pin.c
 *	  Finds the relations of a statement that its conditions pin.
 *
 * Every level of the statement (the query itself, subqueries, sublinks, CTEs)
 * has for each column of its range table what is known of it.  "Known to be
 * v" means: rows with another value do not matter to the level's result, so a
 * relation may be read through the fragment of v alone.  It comes from
 *
 *	- equalities in WHERE and in the ON of inner joins; in the ON of an outer
 *	  join for the side that may be null
 *	- IN lists and = ANY (array)
 *	- the values of an INSERT
 *	- a subquery or VALUES whose column is the same in every row
 *	- equalities with other columns of which it is known, also of the levels
 *	  around
 *
 * The conditions stay in the query: a pin says where to look, not what for.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/pin_level.h"

/* More alternatives than this are not worth looking at. */
#define MAX_ALTERNATIVES 100

/* A column equals an expression, for the relations of the scope. */
typedef struct Equality
{
	Var		   *var;
	Node	   *expr;
	Bitmapset  *scope;			/* NULL: all */
} Equality;

typedef struct CollectContext
{
	FaLevel	   *level;
	List	   *pins;
} CollectContext;

static void pin_collect_level(Query *query, FaLevel *outer, FaKnown *pushed,
							  CollectContext *cx);

/* Anything that has no value outside of the query? */
static bool
pin_needs_query(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubLink:
		case T_CurrentOfExpr:
		case T_SetToDefault:
		case T_NextValueExpr:
		case T_CaseTestExpr:
		case T_CoerceToDomainValue:
		case T_Query:
			return true;
		case T_Param:
			if (((Param *) node)->paramkind != PARAM_EXTERN)
				return true;
			break;
		default:
			break;
	}
	return expression_tree_walker(node, pin_needs_query, context);
}

bool
fa_pin_has_value(Node *node)
{
	if (IsA(node, Const) ||
		(IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN))
		return true;
	return !pin_needs_query(node, NULL) && !contain_volatile_functions(node) &&
		!expression_returns_set(node);
}

/* The expression in a column's type, if it has a value there; else NULL. */
static Node *
pin_as_type(Node *expr, Oid type)
{
	if (expr == NULL || !fa_pin_has_value(expr))
		return NULL;
	if (exprType(expr) == type)
		return expr;
	return coerce_to_target_type(NULL, copyObject(expr), exprType(expr), type,
								 -1, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST,
								 -1);
}

FaKnown *
fa_level_known(FaLevel *level, Var *var)
{
	for (Index up = var->varlevelsup; up > 0 && level; up--)
		level = level->outer;
	if (level == NULL || var->varno < 1 || var->varno > level->nrtes ||
		var->varattno < 1 || var->varattno > level->natts[var->varno - 1])
		return NULL;
	return &level->known[var->varno - 1][var->varattno - 1];
}

/* A variable, perhaps under a change of type that changes no value. */
static inline Var *
pin_variable(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node && IsA(node, Var) ? (Var *) node : NULL;
}

static void
level_add_equality(FaLevel *level, Node *left, Node *right, Bitmapset *scope)
{
	Var		   *var = pin_variable(left);
	FaKnown    *known;
	Equality   *eq;

	if (var == NULL || var->varlevelsup != 0 ||
		(scope && !bms_is_member(var->varno, scope)))
		return;
	known = fa_level_known(level, var);
	if (known == NULL || known->exprs != NIL)
		return;
	/* most are with a value, and then there is nothing to derive */
	if ((IsA(right, Const) ||
		 (IsA(right, Param) && ((Param *) right)->paramkind == PARAM_EXTERN)) &&
		exprType(right) == fa_pin_base_type(var->vartype))
	{
		known->exprs = list_make1(right);
		return;
	}
	eq = palloc(sizeof(Equality));
	eq->var = var;
	eq->expr = right;
	eq->scope = scope;
	level->equalities = lappend(level->equalities, eq);
}

/* var IN (...), var = ANY (array) */
static void
level_add_any(FaLevel *level, ScalarArrayOpExpr *op, Bitmapset *scope)
{
	Var		   *var = pin_variable(linitial(op->args));
	Node	   *array = lsecond(op->args);
	FaKnown    *known;
	Oid			type;

	if (!op->useOr || var == NULL || var->varlevelsup != 0 ||
		(scope && !bms_is_member(var->varno, scope)) ||
		!fa_pin_is_equality(op->opno, op->inputcollid, var))
		return;
	known = fa_level_known(level, var);
	if (known == NULL || known->exprs != NIL)
		return;
	type = fa_pin_base_type(var->vartype);
	if (IsA(array, ArrayExpr) && !((ArrayExpr *) array)->multidims &&
		list_length(((ArrayExpr *) array)->elements) <= MAX_ALTERNATIVES)
	{
		List	   *exprs = NIL;
		ListCell   *lc;

		foreach(lc, ((ArrayExpr *) array)->elements)
		{
			Node	   *expr = pin_as_type(lfirst(lc), type);

			if (expr == NULL)
				return;
			exprs = lappend(exprs, expr);
		}
		known->exprs = exprs;
		return;
	}
	array = pin_as_type(array, get_array_type(type));
	if (array)
	{
		known->exprs = list_make1(array);
		known->array = true;
	}
}

static void
level_add_quals(FaLevel *level, Node *quals, Bitmapset *scope)
{
	ListCell   *lc;

	if (quals == NULL)
		return;
	if (IsA(quals, List))
	{
		foreach(lc, (List *) quals)
			level_add_quals(level, lfirst(lc), scope);
	}
	else if (is_andclause(quals))
		level_add_quals(level, (Node *) ((BoolExpr *) quals)->args, scope);
	else if (is_opclause(quals) && list_length(((OpExpr *) quals)->args) == 2)
	{
		OpExpr	   *op = (OpExpr *) quals;
		Node	   *left = linitial(op->args);
		Node	   *right = lsecond(op->args);
		Var		   *var = pin_variable(left) ? pin_variable(left) :
			pin_variable(right);

		if (var == NULL || !fa_pin_is_equality(op->opno, op->inputcollid, var))
			return;
		level_add_equality(level, left, right, scope);
		level_add_equality(level, right, left, scope);
	}
	else if (IsA(quals, ScalarArrayOpExpr))
		level_add_any(level, (ScalarArrayOpExpr *) quals, scope);
	else if (IsA(quals, Var) && ((Var *) quals)->vartype == BOOLOID)
		level_add_equality(level, quals, (Node *) makeBoolConst(true, false),
						   scope);
}

static void
level_add_joins(FaLevel *level, Node *node)
{
	if (node == NULL)
		return;
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		ListCell   *lc;
		Bitmapset  *scope = NULL;

		foreach(lc, from->fromlist)
			level_add_joins(level, lfirst(lc));
		/* MERGE's condition says nothing about the source */
		if (level->query->commandType == CMD_MERGE)
		{
			scope = bms_make_singleton(level->query->resultRelation);
			level_add_quals(level, fa_merge_condition(level->query), scope);
		}
		else
			level_add_quals(level, from->quals, scope);
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		level_add_joins(level, join->larg);
		level_add_joins(level, join->rarg);
		if (join->jointype == JOIN_INNER)
			level_add_quals(level, join->quals, fa_pin_relids(node));
		else if (join->jointype == JOIN_LEFT)
			level_add_quals(level, join->quals, fa_pin_relids(join->rarg));
		else if (join->jointype == JOIN_RIGHT)
			level_add_quals(level, join->quals, fa_pin_relids(join->larg));
	}
}

/* Derives what columns are from the equalities, until nothing new comes. */
static void
level_close(FaLevel *level)
{
	bool		again = level->equalities != NIL;

	while (again)
	{
		ListCell   *lc;

		again = false;
		foreach(lc, level->equalities)
		{
			Equality   *eq = lfirst(lc);
			FaKnown    *known = fa_level_known(level, eq->var);
			Oid			type = fa_pin_base_type(eq->var->vartype);
			Var		   *other = pin_variable(eq->expr);
			Node	   *expr;

			if (known->exprs != NIL)
				continue;
			if (other)
			{
				FaKnown    *from = fa_level_known(level, other);

				if (from == NULL || from->exprs == NIL ||
					(other->varcollid != eq->var->varcollid &&
					 fa_pin_collation_is_loose(other->varcollid)))
					continue;
				if (fa_pin_base_type(other->vartype) == type)
					*known = *from;
				else if (!from->array && list_length(from->exprs) == 1 &&
						 (expr = pin_as_type(linitial(from->exprs), type)) != NULL)
					known->exprs = list_make1(expr);
			}
			else if ((expr = pin_as_type(eq->expr, type)) != NULL)
				known->exprs = list_make1(expr);
			if (known->exprs != NIL)
				again = true;
		}
	}
}

/* Columns of VALUES with these rows, by target column. */
static void
level_know_values(FaKnown *known, List *rows, AttrNumber column)
{
	List	   *exprs = NIL;
	ListCell   *lc;

	if (list_length(rows) > MAX_ALTERNATIVES)
		return;
	foreach(lc, rows)
	{
		Node	   *expr = list_nth(lfirst(lc), column - 1);

		if (!fa_pin_has_value(expr))
			return;
		exprs = lappend(exprs, expr);
	}
	known->exprs = exprs;
	known->array = false;
}

/* What an INSERT puts into its columns. */
static void
level_know_inserted(FaLevel *level, Index rti, List *targets)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = (Node *) entry->expr;
		FaKnown    *known;
		RangeTblEntry *rte;

		if (entry->resjunk || entry->resno > level->natts[rti - 1])
			continue;
		known = &level->known[rti - 1][entry->resno - 1];
		if (IsA(expr, Var) && ((Var *) expr)->varlevelsup == 0)
		{
			rte = rt_fetch(((Var *) expr)->varno, level->query->rtable);
			if (rte->rtekind == RTE_VALUES)
				level_know_values(known, rte->values_lists,
								  ((Var *) expr)->varattno);
		}
		else if (fa_pin_has_value(expr))
			known->exprs = list_make1(expr);
	}
}

/* The value that a query's expression has in every row; NULL: no such. */
static Node *
pin_same_value(Query *query, Node *expr)
{
	RangeTblEntry *rte;
	Var		   *var = (Var *) expr;
	TargetEntry *entry;

	if (!IsA(expr, Var))
		return fa_pin_has_value(expr) ? expr : NULL;
	if (var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_VALUES && list_length(rte->values_lists) == 1)
		return pin_same_value(query, list_nth(linitial(rte->values_lists),
											  var->varattno - 1));
	if (rte->rtekind != RTE_SUBQUERY || rte->subquery->setOperations != NULL)
		return NULL;
	entry = get_tle_by_resno(rte->subquery->targetList, var->varattno);
	return entry ? pin_same_value(rte->subquery, (Node *) entry->expr) : NULL;
}

/* Columns that are the same in every row of a subquery or VALUES. */
static void
level_know_rows(FaLevel *level, Index rti, RangeTblEntry *rte)
{
	for (int i = 0; rte->rtekind != RTE_RELATION && i < level->natts[rti - 1]; i++)
	{
		Var			var = {.xpr.type = T_Var,.varno = rti,.varattno = i + 1};
		Node	   *value = pin_same_value(level->query, (Node *) &var);

		if (value)
			level->known[rti - 1][i].exprs = list_make1(value);
	}
}

static void
level_fill(FaLevel *level, FaKnown *pushed)
{
	Index		rti = 0;
	ListCell   *lc;

	level->nrtes = list_length(level->query->rtable);
	if (level->nrtes == 1)
	{
		level->natts = &level->natts_of_one;
		level->known = &level->known_of_one;
	}
	else
	{
		level->natts = palloc0(sizeof(int) * level->nrtes);
		level->known = palloc0(sizeof(FaKnown *) * level->nrtes);
	}
	foreach(lc, level->query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		int			natts = list_length(rte->eref->colnames);

		rti++;
		if (rte->rtekind != RTE_SUBQUERY && rte->rtekind != RTE_VALUES &&
			rte->rtekind != RTE_RELATION)
			continue;
		level->natts[rti - 1] = natts;
		level->known[rti - 1] = palloc0(sizeof(FaKnown) * Max(natts, 1));
		level_know_rows(level, rti, rte);
		/* rows that row security hides do not matter to anything */
		if (rte->securityQuals != NIL)
			level_add_quals(level, (Node *) rte->securityQuals,
							bms_make_singleton(rti));
	}
	if (level->query->commandType == CMD_INSERT)
		level_know_inserted(level, level->query->resultRelation,
							level->query->targetList);

	/* what the level around says about our columns holds for what they show */
	foreach(lc, pushed ? level->query->targetList : NIL)
	{
		TargetEntry *entry = lfirst(lc);
		Var		   *var = (Var *) entry->expr;
		FaKnown    *known;

		if (entry->resjunk || !IsA(var, Var) || var->varlevelsup != 0 ||
			pushed[entry->resno - 1].exprs == NIL)
			continue;
		known = fa_level_known(level, var);
		if (known)
			*known = pushed[entry->resno - 1];
	}
	level_add_joins(level, (Node *) level->query->jointree);
	level_close(level);
}

/* May conditions on a subquery's columns be applied inside of it? */
static bool
pin_can_push(Query *query)
{
	return query->commandType == CMD_SELECT && !query->hasAggs &&
		!query->hasWindowFuncs && !query->hasTargetSRFs &&
		query->groupClause == NIL && query->groupingSets == NIL &&
		query->distinctClause == NIL && query->setOperations == NULL &&
		query->limitCount == NULL && query->limitOffset == NULL;
}

static void
pin_add(FaLevel *level, Index rti, RangeTblEntry *rte, CollectContext *cx)
{
	const FaTable *table = fa_map_table(rte->relid);
	FaKnown    *known = level->known[rti - 1];
	FaPin	   *pin;

	if (table && (table->key <= 0 || table->key > level->natts[rti - 1] ||
				  known[table->key - 1].exprs == NIL))
		return;
	pin = palloc0(sizeof(FaPin));
	pin->query = level->query;
	pin->rti = rti;
	pin->relid = rte->relid;
	pin->lockmode = rte->rellockmode;
	pin->natts = level->natts[rti - 1];
	pin->known = known;
	if (rti == level->query->resultRelation)
		fa_pin_find_written(level, pin);
	cx->pins = lappend(cx->pins, pin);
}

static bool
pin_walker(Node *node, void *context)
{
	CollectContext *cx = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		pin_collect_level((Query *) node, cx->level, NULL, cx);
		return false;
	}
	return expression_tree_walker(node, pin_walker, context);
}

/*
 * Where a row that is written can be named as it becomes, or as the row in
 * conflict is, nothing is known of it.
 */
static void
pin_collect_sublinks(FaLevel *level, CollectContext *cx)
{
	Query	   *query = level->query;
	Query		rest = *query;
	int			rti = query->resultRelation;
	int			natts;

	rest.returningList = NIL;
	rest.onConflict = NULL;
	(void) query_tree_walker(&rest, pin_walker, cx, QTW_IGNORE_RT_SUBQUERIES);
	if (rti == 0)
		return;
	natts = level->natts[rti - 1];
	level->natts[rti - 1] = 0;
	(void) pin_walker((Node *) query->returningList, cx);
	(void) pin_walker((Node *) query->onConflict, cx);
	level->natts[rti - 1] = natts;
}

static void
pin_collect_level(Query *query, FaLevel *outer, FaKnown *pushed,
				  CollectContext *cx)
{
	FaLevel		level = {0};
	FaLevel	   *around = cx->level;
	Index		rti = 0;
	ListCell   *lc;

	level.outer = outer;
	level.query = query;
	level_fill(&level, pushed);
	cx->level = &level;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if (fa_pin_is_distributed(query, rti, rte))
			pin_add(&level, rti, rte, cx);
		else if (rte->rtekind == RTE_SUBQUERY)
			pin_collect_level(rte->subquery, &level,
							  pin_can_push(rte->subquery) ?
							  level.known[rti - 1] : NULL, cx);
	}
	if (query->hasSubLinks || query->cteList != NIL)
		pin_collect_sublinks(&level, cx);
	cx->level = around;
}

List *
fa_pin_collect(Query *query)
{
	CollectContext cx = {0};

	pin_collect_level(query, NULL, NULL, &cx);
	return cx.pins;
}
