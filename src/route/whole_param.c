/*
 * whole_param.c
 *	  The parameters of a statement that is sent whole.
 *
 * Most of them are constants.  Others are what depends on the session or the
 * moment, or is by functions that the user made, and is the same for all rows: it
 * is evaluated once, here.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "route/peer_error.h"
#include "route/pin.h"
#include "route/row_query.h"
#include "route/whole.h"

#define MAX_PARAMETERS 30000	/* the protocol can 65535 */

/* Things that need the rows or the place where they stand. */
static bool
whole_needs_rows(Node *node, void *context)
{
	FaWhole    *cx = context;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && cx->subqueries)
		return contain_vars_of_level(node, 0);
	if (IsA(node, Var) || IsA(node, Aggref) || IsA(node, GroupingFunc) ||
		IsA(node, WindowFunc) || IsA(node, SubLink) || IsA(node, Query) ||
		IsA(node, CaseTestExpr) || IsA(node, CoerceToDomainValue) ||
		IsA(node, SetToDefault) || IsA(node, CurrentOfExpr) ||
		(IsA(node, Param) && ((Param *) node)->paramkind != PARAM_EXTERN))
		return true;
	return expression_tree_walker(node, whole_needs_rows, cx);
}

/* Has the expression a value whatever happens?  current_timestamp, now() */
static bool
whole_cannot_fail(Node *node)
{
	FuncExpr   *func = (FuncExpr *) node;

	return IsA(node, SQLValueFunction) ||
		(IsA(func, FuncExpr) && func->args == NIL &&
		 func->funcid < FirstUnpinnedObjectId);
}

bool
fa_whole_can_send(Oid type)
{
	if (type >= FirstNormalObjectId)
		return get_typtype(type) != TYPTYPE_COMPOSITE;
	switch (type)
	{
		case RECORDOID:
		case RECORDARRAYOID:
		case UNKNOWNOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return false;
		default:
			return get_typtype(type) != TYPTYPE_PSEUDO;
	}
}

/* A reference to the parameter of this number. */
static Node *
param_reference(int number, Node *expr)
{
	Oid			type = exprType(expr);
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = -1;
	param->paramcollid = exprCollation(expr);
	param->location = -1;
	return (Node *) makeRelabelType((Expr *) param, type, -1,
									exprCollation(expr), COERCE_EXPLICIT_CAST);
}

/* Can one more expression, and perhaps its error, be a parameter? */
static bool
param_fits(Node *expr, FaWhole *cx)
{
	if (!fa_whole_can_send(exprType(expr)) ||
		list_length(cx->params) + 1 >= MAX_PARAMETERS)
		cx->failed = true;
	return !cx->failed;
}

/*
 * Equal ones are the same, so that an expression in GROUP BY is still found in
 * the target list.
 */
Node *
fa_whole_parameter(Node *expr, FaWhole *cx)
{
	ListCell   *lc;
	int			number = 0;

	if (!param_fits(expr, cx))
		return expr;
	/* a long list of values has few that are equal */
	foreach(lc, list_length(cx->params) < 100 ? cx->params : NIL)
	{
		if (equal(lfirst(lc), expr) && !contain_volatile_functions(expr) &&
			!list_member_int(cx->fallible, foreach_current_index(lc)))
			number = foreach_current_index(lc) + 1;
	}
	if (number == 0)
	{
		cx->params = lappend(cx->params, expr);
		number = list_length(cx->params);
	}
	return param_reference(number, expr);
}

/*
 * The same for one that is evaluated here without being asked for, perhaps: if
 * that fails, it is the peer who raises the error, when it does ask.
 */
static Node *
param_fallible(Node *expr, FaWhole *cx)
{
	Node	   *no_error = (Node *) makeNullConst(TEXTOID, -1,
												  DEFAULT_COLLATION_OID);
	Node	   *error;
	NullTest   *fine = makeNode(NullTest);
	CaseWhen   *when = makeNode(CaseWhen);
	CaseExpr   *result = makeNode(CaseExpr);
	ListCell   *lc;
	int			place = -1;

	if (!param_fits(expr, cx))
		return expr;
	foreach(lc, cx->fallible)
	{
		if (equal(list_nth(cx->params, lfirst_int(lc)), expr))
			place = lfirst_int(lc);
	}
	if (place < 0)
	{
		place = list_length(cx->params);
		cx->params = lappend(lappend(cx->params, expr), no_error);
		cx->fallible = lappend_int(cx->fallible, place);
	}
	error = param_reference(place + 2, no_error);
	fine->arg = (Expr *) error;
	fine->nulltesttype = IS_NULL;
	fine->location = -1;
	/* not the other way round: folded where the parameters are known */
	when->expr = (Expr *) makeBoolExpr(OR_EXPR, list_make2(fine, fa_peer_error(error)), -1);
	when->result = (Expr *) param_reference(place + 1, expr);
	when->location = -1;
	result->casetype = exprType(expr);
	result->casecollid = exprCollation(expr);
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(exprType(expr), -1,
											   exprCollation(expr));
	result->location = -1;
	return (Node *) result;
}

Node *
fa_whole_value(Node *expr, FaWhole *cx)
{
	bool		is_volatile = contain_volatile_functions(expr);

	if (whole_needs_rows(expr, cx) || (is_volatile && !cx->once))
	{
		cx->failed = true;
		return expr;
	}
	return cx->conditional && !is_volatile && !whole_cannot_fail(expr) ?
		param_fallible(expr, cx) : fa_whole_parameter(expr, cx);
}

/* Are all distributed tables in it sent with the statement, and no others there? */
static bool
subquery_is_pinned(Node *node, void *context)
{
	FaWhole    *cx = context;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		foreach(lc, cx->pins)
		{
			if (((FaPin *) lfirst(lc))->query == (Query *) node)
				return true;
		}
		return query_tree_walker((Query *) node, subquery_is_pinned, cx, 0);
	}
	return expression_tree_walker(node, subquery_is_pinned, cx);
}

/* IN (SELECT ...) and the like: a comparison with the array of what it gives. */
static Node *
subquery_as_array(SubLink *link)
{
	OpExpr	   *test = (OpExpr *) link->testexpr;
	SubLink    *values = makeNode(SubLink);
	ScalarArrayOpExpr *result = makeNode(ScalarArrayOpExpr);
	Node	   *array = (Node *) values;
	Node	   *right;
	Oid			type;

	if (!IsA(test, OpExpr) || list_length(test->args) != 2)
		return NULL;
	right = lsecond(test->args);
	type = get_array_type(exprType(right));
	if (IsA(right, RelabelType))
		right = (Node *) ((RelabelType *) right)->arg;
	if (!IsA(right, Param) || !OidIsValid(type) ||
		!OidIsValid(get_array_type(exprType(right))) ||
		OidIsValid(get_element_type(exprType(right))))
		return NULL;
	values->subLinkType = ARRAY_SUBLINK;
	values->subselect = link->subselect;
	values->location = -1;
	if (exprType(array) != type)
		array = (Node *) makeRelabelType((Expr *) array, type, -1,
										 exprCollation(lsecond(test->args)),
										 COERCE_EXPLICIT_CAST);
	result->opno = test->opno;
	result->opfuncid = test->opfuncid;
	result->useOr = link->subLinkType == ANY_SUBLINK;
	result->inputcollid = test->inputcollid;
	result->args = list_make2(linitial(test->args), array);
	result->location = -1;
	return (Node *) result;
}

Node *
fa_whole_subquery(SubLink *link, FaWhole *cx)
{
	/* one that locks rows is more than a value */
	if (!cx->subqueries || ((Query *) link->subselect)->rowMarks != NIL ||
		subquery_is_pinned(link->subselect, cx) ||
		contain_vars_of_level(link->subselect, 1))
		return NULL;
	switch (link->subLinkType)
	{
		case EXISTS_SUBLINK:
		case EXPR_SUBLINK:
		case ARRAY_SUBLINK:
			return fa_whole_value((Node *) link, cx);
		case ANY_SUBLINK:
		case ALL_SUBLINK:
			return subquery_as_array(link);
		default:
			return NULL;
	}
}

List *
fa_whole_queries(List *exprs)
{
	List	   *queries = NIL;
	bool		any = false;
	ListCell   *lc;

	foreach(lc, exprs)
	{
		Node	   *expr = lfirst(lc);
		PlannedStmt *query = NULL;

		if (checkExprHasSubLink(expr))
		{
			query = fa_row_query_plan(list_make1(expr));
			lfirst(lc) = makeNullConst(exprType(expr), -1, exprCollation(expr));
			any = true;
		}
		queries = lappend(queries, query);
	}
	return any ? queries : NIL;
}
