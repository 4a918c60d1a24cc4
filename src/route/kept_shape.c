/*
 * kept_shape.c
 *	  What statements that differ in their constants only have in common.
 *
 * Two statements have the same shape when their queries are equal but for the
 * constants that a scan finds.  It takes only those whose values mean nothing to
 * PostgreSQL before execution.  The others stay in the shape and so are the same
 * whenever a plan is used again:
 *
 *	- NULL, and of type boolean: they decide what is left of a condition
 *	- names of objects (regclass): a plan depends on what they name
 *	- LIMIT, and what ON CONFLICT infers an index by
 *	- the lengths that casts are to: types of results tell them
 *	- inside of CASE, OR and the like, where planning computes some expressions of
 *	  constants and leaves out others
 *
 * A function of constants alone is computed when PostgreSQL plans, and its error
 * comes whether or not there is a row to compute it for; so it is here.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/functions.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "route/kept.h"

/* Long lists are not worth a look: what is saved is little beside them. */
#define MAX_EXACT 200

/* Nor are deep expressions; and what walks here does not watch the stack. */
#define MAX_DEPTH 64

static void scan_node(FaShapeScan *scan, Node **place, bool inside);

static inline void
scan_mix(FaShapeScan *scan, uint32 what)
{
	scan->hash = (scan->hash ^ what) * 0x01000193;
}

static bool
shape_function_is_users(Oid function, void *context)
{
	return function >= FirstUnpinnedObjectId;
}

/* A constant that belongs to the shape. */
static void
scan_mix_const(FaShapeScan *scan, Const *c)
{
	scan_mix(scan, c->consttype);
	scan_mix(scan, c->constisnull ? 0 :
			 datum_image_hash(c->constvalue, c->constbyval, c->constlen));
}

/*
 * True when an expression whose constants all belong to the shape may not be in
 * one.  What users define may be inlined, and change.
 */
static bool
exact_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (++((FaShapeScan *) context)->nexact > MAX_EXACT)
		return true;
	scan_mix(context, nodeTag(node));
	switch (nodeTag(node))
	{
		case T_Const:
			scan_mix_const(context, (Const *) node);
			break;
		case T_List:
		case T_Var:
		case T_SQLValueFunction:
		case T_BoolExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_RelabelType:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_CoalesceExpr:
		case T_ArrayExpr:
			break;
		case T_OpExpr:
		case T_FuncExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_CoerceViaIO:
			if (check_functions_in_node(node, shape_function_is_users, NULL))
				return true;
			break;
		default:
			return true;
	}
	return expression_tree_walker(node, exact_walker, context);
}

/* Is the value of no concern to planning? */
static inline bool
const_is_free(Const *c)
{
	switch (c->consttype)
	{
		case BOOLOID:
		case UNKNOWNOID:
		case RECORDOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return false;
		default:
			return !c->constisnull;
	}
}

static inline void
scan_add_value(FaShapeScan *scan, Node **place)
{
	if (scan->find_values)
		scan->values[scan->nvalues++] = place;
}

static inline void
scan_const(FaShapeScan *scan, Node **place, bool inside)
{
	Const	   *c = (Const *) *place;

	if (!const_is_free(c))
	{
		scan_mix_const(scan, c);
		return;
	}
	scan_mix(scan, c->consttype);
	if (scan->nconsts + scan->nparams == FA_SHAPE_CONSTS)
	{
		scan->failed = true;
		return;
	}
	scan->consts[scan->nconsts++] = c;
	if (!inside)
		scan_add_value(scan, place);
}

/* Of a value that planning would take for a constant. */
static inline void
scan_param(FaShapeScan *scan, Node **place, bool inside)
{
	Param	   *param = (Param *) *place;
	ParamListInfo params = scan->params;
	ParamExternData *data;

	if (param->paramkind != PARAM_EXTERN || params == NULL ||
		params->paramFetch || param->paramid > params->numParams ||
		scan->nconsts + scan->nparams == FA_SHAPE_CONSTS)
	{
		scan->failed = true;
		return;
	}
	data = &params->params[param->paramid - 1];
	if (!(data->pflags & PARAM_FLAG_CONST) || data->ptype != param->paramtype)
	{
		scan->failed = true;
		return;
	}
	scan_mix(scan, param->paramid);
	scan->nparams++;
	if (!inside)
		scan_add_value(scan, place);
}

/* The arguments of an operator or function; NIL of anything else. */
static inline List *
shape_arguments(Node *node, Oid *function_p, Oid *collation_p)
{
	*function_p = *collation_p = InvalidOid;
	if (IsA(node, FuncExpr))
	{
		*function_p = ((FuncExpr *) node)->funcid;
		*collation_p = ((FuncExpr *) node)->inputcollid;
		return ((FuncExpr *) node)->args;
	}
	if (IsA(node, OpExpr))
	{
		set_opfuncid((OpExpr *) node);
		*function_p = ((OpExpr *) node)->opfuncid;
		*collation_p = ((OpExpr *) node)->inputcollid;
		return ((OpExpr *) node)->args;
	}
	return NIL;
}

/* What is under changes of type that change no value. */
static inline Node *
shape_value(Node *node)
{
	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static inline bool
shape_is_given(Node *node)
{
	return IsA(node, Const) || IsA(node, Param);
}

/*
 * Is it a function of constants that planning computes?  None of types that users
 * define: how those compare is up to functions of theirs, which may execute
 * statements while the shape has the constants of this one.
 */
static bool
shape_is_computed(Node *node)
{
	Oid			function;
	Oid			collation;
	List	   *args = shape_arguments(node, &function, &collation);
	ListCell   *lc;

	if (args == NIL || func_volatile(function) != PROVOLATILE_IMMUTABLE ||
		(IsA(node, FuncExpr) && ((FuncExpr *) node)->funcvariadic))
		return false;
	foreach(lc, args)
	{
		Node	   *arg = shape_value(lfirst(lc));

		if (exprType(lfirst(lc)) >= FirstUnpinnedObjectId ||
			exprType(arg) >= FirstUnpinnedObjectId ||
			(!shape_is_given(arg) && !shape_is_computed(arg)))
			return false;
	}
	return true;
}

static inline bool
shape_is_cast(Node *node)
{
	return IsA(node, FuncExpr) &&
		((FuncExpr *) node)->funcformat != COERCE_EXPLICIT_CALL;
}

static void
scan_arguments(FaShapeScan *scan, Node **place, List *args, bool inside)
{
	bool		computed = scan->find_values && !inside &&
		shape_is_computed(*place);
	int			before = scan->nconsts + scan->nparams;
	ListCell   *lc;

	foreach(lc, args)
	{
		/* a cast has one argument, and how long its result is to be */
		if (foreach_current_index(lc) == 0 || !shape_is_cast(*place))
			scan_node(scan, (Node **) &lfirst(lc), inside || computed);
		else if (exact_walker(lfirst(lc), scan))
			scan->failed = true;
	}
	if (computed && scan->nconsts + scan->nparams > before)
		scan_add_value(scan, place);
}

/* inside: of a value that has been found. */
static void
scan_node(FaShapeScan *scan, Node **place, bool inside)
{
	Node	   *node = *place;

	if (scan->failed)
		return;
	if (scan->depth == MAX_DEPTH)
	{
		scan->failed = true;
		return;
	}
	scan->depth++;
	scan_mix(scan, nodeTag(node));
	switch (nodeTag(node))
	{
		case T_Var:
			scan_mix(scan, ((Var *) node)->varattno);
			break;
		case T_Const:
			scan_const(scan, place, inside);
			break;
		case T_Param:
			scan_param(scan, place, inside);
			break;
		case T_OpExpr:
			scan_mix(scan, ((OpExpr *) node)->opno);
			if (((OpExpr *) node)->opno >= FirstUnpinnedObjectId)
				scan->failed = true;
			else
				scan_arguments(scan, place, ((OpExpr *) node)->args, inside);
			break;
		case T_FuncExpr:
			scan_mix(scan, ((FuncExpr *) node)->funcid);
			if (((FuncExpr *) node)->funcid >= FirstUnpinnedObjectId)
				scan->failed = true;
			else
				scan_arguments(scan, place, ((FuncExpr *) node)->args, inside);
			break;
		case T_RelabelType:
			scan_node(scan, (Node **) &((RelabelType *) node)->arg, inside);
			break;
		default:
			if (exact_walker(node, scan))
				scan->failed = true;
			break;
	}
	scan->depth--;
}

static void
scan_targets(FaShapeScan *scan, List *targets)
{
	ListCell   *lc;

	scan_mix(scan, list_length(targets));
	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		scan_mix(scan, entry->resno);
		if (entry->resname && entry->resname[0])
			scan_mix(scan, entry->resname[strlen(entry->resname) - 1]);
		scan_node(scan, (Node **) &entry->expr, false);
	}
}

/* A condition that planning reduces to a constant is none of ours. */
static void
scan_condition(FaShapeScan *scan, Node **place)
{
	if (*place && IsA(*place, Const))
		scan->failed = true;
	else if (*place)
		scan_node(scan, place, false);
}

static void
scan_quals(FaShapeScan *scan, Node **place)
{
	ListCell   *lc;

	if (*place == NULL || !is_andclause(*place))
	{
		scan_condition(scan, place);
		return;
	}
	foreach(lc, ((BoolExpr *) *place)->args)
		scan_condition(scan, (Node **) &lfirst(lc));
}

/* What an index is inferred by: columns, and a condition that planning proves. */
static void
scan_arbiter(FaShapeScan *scan, OnConflictExpr *conflict)
{
	ListCell   *lc;

	foreach(lc, conflict->arbiterElems)
	{
		if (!IsA(lfirst_node(InferenceElem, lc)->expr, Var))
			scan->failed = true;
	}
	if (exact_walker(conflict->arbiterWhere, scan))
		scan->failed = true;
}

/* One table, and no clause that makes other rows of its rows. */
static bool
shape_is_simple(Query *query)
{
	RangeTblEntry *rte = linitial(query->rtable);
	int			nrtes = query->onConflict && query->onConflict->exclRelIndex ? 2 : 1;

	if (query->commandType != CMD_SELECT && query->commandType != CMD_INSERT &&
		query->commandType != CMD_UPDATE && query->commandType != CMD_DELETE)
		return false;
	return list_length(query->rtable) == nrtes &&
		rte->rtekind == RTE_RELATION && rte->securityQuals == NIL &&
		rte->tablesample == NULL &&
		list_length(query->jointree->fromlist) ==
		(query->commandType == CMD_INSERT ? 0 : 1) &&
		!query->hasAggs && !query->hasWindowFuncs && !query->hasTargetSRFs &&
		!query->hasSubLinks && !query->hasDistinctOn && !query->hasRowSecurity &&
		query->cteList == NIL && query->groupClause == NIL &&
		query->groupingSets == NIL && query->havingQual == NULL &&
		query->distinctClause == NIL && query->setOperations == NULL &&
		query->withCheckOptions == NIL && query->utilityStmt == NULL;
}

bool
fa_shape_scan(Query *query, ParamListInfo params, bool find_values,
			  FaShapeScan *scan)
{
	scan->params = params;
	scan->nparams = 0;
	scan->nexact = 0;
	scan->depth = 0;
	scan->hash = 0;
	scan->nconsts = 0;
	scan->nvalues = 0;
	scan->find_values = find_values;
	scan->failed = false;
	if (!shape_is_simple(query))
		return false;
	scan_mix(scan, query->commandType);
	scan_mix(scan, linitial_node(RangeTblEntry, query->rtable)->relid);
	scan_targets(scan, query->targetList);
	scan_quals(scan, &query->jointree->quals);
	scan_targets(scan, query->returningList);
	if (query->onConflict)
	{
		scan_mix(scan, query->onConflict->action);
		scan_arbiter(scan, query->onConflict);
		scan_targets(scan, query->onConflict->onConflictSet);
		scan_quals(scan, &query->onConflict->onConflictWhere);
	}
	if (exact_walker(query->limitCount, scan) ||
		exact_walker(query->limitOffset, scan))
		return false;
	return !scan->failed && scan->nconsts + scan->nparams > 0;
}

static int
value_count_functions(Node *node)
{
	Oid			function;
	Oid			collation;
	int			n = 1;
	ListCell   *lc;

	if (shape_is_given(node))
		return 0;
	foreach(lc, shape_arguments(node, &function, &collation))
		n += value_count_functions(shape_value(lfirst(lc)));
	return n;
}

static void
value_find_functions(Node *node, FmgrInfo **next)
{
	Oid			function;
	Oid			collation;
	List	   *args;
	ListCell   *lc;

	if (shape_is_given(node))
		return;
	args = shape_arguments(node, &function, &collation);
	fmgr_info(function, *next);
	fmgr_info_set_expr(node, *next);
	(*next)++;
	foreach(lc, args)
		value_find_functions(shape_value(lfirst(lc)), next);
}

void
fa_shape_value_prepare(FaShapeValue *value, Node *expr)
{
	FmgrInfo   *next;

	value->expr = expr;
	value->functions = next = palloc0(sizeof(FmgrInfo) *
									  Max(value_count_functions(expr), 1));
	value_find_functions(expr, &next);
}

static Datum
value_compute(Node *node, FmgrInfo **next, ParamListInfo params, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	FmgrInfo   *function = *next;
	FmgrInfo	own;
	Oid			oid;
	Oid			collation;
	List	   *args;
	bool		any_null = false;
	Datum		result;
	ListCell   *lc;

	if (IsA(node, Const))
	{
		*isnull = ((Const *) node)->constisnull;
		return ((Const *) node)->constvalue;
	}
	if (IsA(node, Param))
	{
		ParamExternData *data = &params->params[((Param *) node)->paramid - 1];

		*isnull = data->isnull;
		return data->value;
	}
	args = shape_arguments(node, &oid, &collation);
	(*next)++;
	/* one in SQL leaves an execution there that an error does not end */
	if (function->fn_addr == fmgr_sql)
	{
		fmgr_info(oid, &own);
		fmgr_info_set_expr(node, &own);
		function = &own;
	}
	InitFunctionCallInfoData(*fcinfo, function, list_length(args), collation,
							 NULL, NULL);
	foreach(lc, args)
	{
		NullableDatum *arg = &fcinfo->args[foreach_current_index(lc)];

		arg->value = value_compute(shape_value(lfirst(lc)), next, params,
								   &arg->isnull);
		any_null = any_null || arg->isnull;
	}
	*isnull = any_null && function->fn_strict;
	if (*isnull)
		return (Datum) 0;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

Datum
fa_shape_value_compute(FaShapeValue *value, ParamListInfo params, bool *isnull)
{
	FmgrInfo   *next = value->functions;

	return value_compute(value->expr, &next, params, isnull);
}
