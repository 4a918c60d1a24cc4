/*
 * row_image.c
 *	  A row that a statement works at, as parameters of queries; see row_image.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/plain_output.h"
#include "route/row_image.h"
#include "route/row_query.h"
#include "route/row_security.h"

/* The greatest number of a parameter of the statement. */
static bool
row_find_parameters(Node *node, void *context)
{
	int		   *last = context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		*last = Max(*last, ((Param *) node)->paramid);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, row_find_parameters, context, 0);
	return expression_tree_walker(node, row_find_parameters, context);
}

bool
fa_row_plan_begin(FaRowPlan *plan, Query *query)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	ListCell   *lc;

	memset(plan, 0, sizeof(*plan));
	if (fa_map_table(rte->relid) == NULL ||
		OidIsValid(fa_rte_check_as(query, rte)))
		return false;
	foreach(lc, query->withCheckOptions)
	{
		if (fa_check_is_of_view(lfirst_node(WithCheckOption, lc)))
			return false;
	}
	plan->query = query;
	plan->rel = table_open(rte->relid, NoLock);
	(void) row_find_parameters((Node *) query, &plan->first);
	return true;
}

int
fa_row_parameter(FaRowPlan *plan, FaRowImage image, AttrNumber attno)
{
	return plan->first + image * RelationGetNumberOfAttributes(plan->rel) + attno;
}

static Param *
row_param(int number, Oid type, int32 typmod, Oid collation)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = typmod;
	param->paramcollid = collation;
	param->location = -1;
	return param;
}

static Node *
row_column(FaRowPlan *plan, FaRowImage image, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(plan->rel), attno - 1);

	if (att->attisdropped)
		return (Node *) makeNullConst(INT4OID, -1, InvalidOid);
	/* of a row that is not stored yet, it is computed */
	if (att->attgenerated != '\0' && image != FA_ROW_OLD)
	{
		Node	   *expr = build_column_default(plan->rel, attno);

		ChangeVarNodes(expr, 1, plan->query->resultRelation, 0);
		return fa_row_expr(plan, image, expr);
	}
	if (image == FA_ROW_OLD ||
		(image == FA_ROW_CHANGED && !bms_is_member(attno, plan->set)))
		plan->old = bms_add_member(plan->old, attno);
	return (Node *) row_param(fa_row_parameter(plan, image, attno), att->atttypid,
							  att->atttypmod, att->attcollation);
}

/* The row as one value. */
static Node *
row_whole(FaRowPlan *plan, FaRowImage image, Oid type)
{
	RowExpr    *row = makeNode(RowExpr);
	TupleDesc	desc = RelationGetDescr(plan->rel);

	for (AttrNumber attno = 1; attno <= desc->natts; attno++)
	{
		row->args = lappend(row->args, row_column(plan, image, attno));
		row->colnames = lappend(row->colnames,
								makeString(pstrdup(NameStr(TupleDescAttr(desc, attno - 1)->attname))));
	}
	row->row_typeid = type;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->location = -1;
	return (Node *) row;
}

/* A column of the statement's source. */
static Node *
row_source(FaRowPlan *plan, Var *var)
{
	Var		   *own = copyObject(var);
	int			place = 0;
	ListCell   *lc;

	own->varlevelsup = 0;
	foreach(lc, plan->source)
	{
		if (equal(lfirst(lc), own))
			break;
		place++;
	}
	if (lc == NULL)
		plan->source = lappend(plan->source, own);
	return (Node *) row_param(fa_row_parameter(plan, FA_ROW_IMAGES, place + 1),
							  var->vartype, var->vartypmod, var->varcollid);
}

static Node *
row_var(FaRowPlan *plan, Var *var)
{
	FaRowImage	image = var->varno == plan->excluded ? FA_ROW_NEW : plan->image;

	if (fa_var_is_of_other_row(var))
		plan->failed = true;
	if (var->varno != plan->query->resultRelation && var->varno != plan->excluded)
		return row_source(plan, var);
	if (var->varattno < 0)
	{
		plan->failed = true;
		return (Node *) var;
	}
	return var->varattno == 0 ? row_whole(plan, image, var->vartype) :
		row_column(plan, image, var->varattno);
}

/* A part of the statement's WITH has no rows in a query of its own. */
static void
row_check_ctes(FaRowPlan *plan, Query *query)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_CTE && rte->ctelevelsup >= plan->depth)
			plan->failed = true;
	}
}

static Node *
row_mutator(Node *node, void *context)
{
	FaRowPlan  *plan = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == plan->depth)
		return row_var(plan, (Var *) node);
	if (IsA(node, Query))
	{
		plan->depth++;
		row_check_ctes(plan, (Query *) node);
		node = (Node *) query_tree_mutator((Query *) node, row_mutator, plan, 0);
		plan->depth--;
		return node;
	}
	return expression_tree_mutator(node, row_mutator, plan);
}

Node *
fa_row_expr(FaRowPlan *plan, FaRowImage image, Node *expr)
{
	FaRowImage	outer_image = plan->image;
	Index		outer_depth = plan->depth;
	Node	   *result;

	plan->image = image;
	plan->depth = 0;
	result = row_mutator(expr, plan);
	plan->image = outer_image;
	plan->depth = outer_depth;
	return result;
}

PlannedStmt *
fa_row_exprs_plan(FaRowPlan *plan, FaRowImage image, List *exprs)
{
	exprs = (List *) fa_row_expr(plan, image, (Node *) exprs);
	return exprs == NIL || plan->failed ? NULL : fa_row_query_plan(exprs);
}

List *
fa_row_checks_plan(FaRowPlan *plan, FaRowImage image, WCOKind kind)
{
	CaseExpr   *cases = makeNode(CaseExpr);
	List	   *checks = NIL;
	ListCell   *lc;

	/* the number, from 1, of the first that is not met */
	cases->casetype = INT4OID;
	cases->location = -1;
	cases->defresult = (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
										  Int32GetDatum(0), false, true);
	foreach(lc, plan->query->withCheckOptions)
	{
		WithCheckOption *check = lfirst(lc);

		if (check->kind != kind)
			continue;
		checks = lappend(checks, check);
		cases->args = lappend(cases->args,
							  fa_row_security_unless(check->qual,
													 (Node *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
																		Int32GetDatum(list_length(checks)),
																		false, true)));
	}
	if (checks == NIL)
		return NIL;
	return list_make2(fa_row_exprs_plan(plan, image, list_make1(cases)),
					  fa_row_security_messages(checks));
}

static uint32
row_key_hash(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return string_hash(text, strlen(text) + 1);
}

static int
row_key_compare(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

void
fa_row_state_begin(FaRowState *state, EState *estate, Oid relid, int first,
				   int nsource)
{
	ParamListInfo outer = estate->es_param_list_info;
	Relation	rel = table_open(relid, NoLock);
	HASHCTL		ctl;

	state->estate = estate;
	state->first = first;
	state->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, NoLock);
	state->context = CurrentMemoryContext;
	state->params = makeParamList(first + FA_ROW_IMAGES * state->desc->natts +
								  nsource);
	memset(state->params->params, 0,
		   state->params->numParams * sizeof(ParamExternData));
	for (int i = 0; i < first; i++)
	{
		ParamExternData work;

		if (outer == NULL || i >= outer->numParams)
			elog(ERROR, "no value found for parameter %d", i + 1);
		state->params->params[i] = outer->paramFetch ?
			*outer->paramFetch(outer, i + 1, false, &work) : outer->params[i];
	}
	for (int image = 0; image < FA_ROW_IMAGES; image++)
	{
		for (int i = 0; i < state->desc->natts; i++)
		{
			ParamExternData *value = fa_row_value(state, image, i + 1);

			value->ptype = TupleDescAttr(state->desc, i)->atttypid;
			value->isnull = true;
		}
	}
	ctl.keysize = sizeof(char *);
	ctl.entrysize = sizeof(char *);
	ctl.hash = row_key_hash;
	ctl.match = row_key_compare;
	ctl.hcxt = state->context;
	state->changed = hash_create("fragaffinity rows changed", 256, &ctl,
								 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

ParamExternData *
fa_row_value(FaRowState *state, FaRowImage image, AttrNumber attno)
{
	return &state->params->params[state->first + image * state->desc->natts + attno - 1];
}

void
fa_row_clear(FaRowState *state)
{
	for (int i = state->first; i < state->params->numParams; i++)
	{
		state->params->params[i].value = (Datum) 0;
		state->params->params[i].isnull = true;
	}
}

void
fa_row_store(FaRowState *state, FaRowImage image, List *columns, TupleTableSlot *row)
{
	ListCell   *lc;

	slot_getallattrs(row);
	foreach(lc, columns)
	{
		ParamExternData *value = fa_row_value(state, image, lfirst_int(lc));

		value->value = row->tts_values[foreach_current_index(lc)];
		value->isnull = row->tts_isnull[foreach_current_index(lc)];
	}
}

void
fa_row_change(FaRowState *state, List *columns, TupleTableSlot *row)
{
	for (AttrNumber attno = 1; attno <= state->desc->natts; attno++)
		*fa_row_value(state, FA_ROW_CHANGED, attno) =
			*fa_row_value(state, FA_ROW_OLD, attno);
	fa_row_store(state, FA_ROW_CHANGED, columns, row);
}

bool
fa_row_test(FaRowState *state, PlannedStmt *test)
{
	TupleTableSlot *row;
	Datum		value;
	bool		isnull;

	if (test == NULL)
		return true;
	row = fa_row_query_run(test, state->estate, state->params);
	value = slot_getattr(row, 1, &isnull);
	return !isnull && DatumGetBool(value);
}

void
fa_row_meet_checks(FaRowState *state, List *checks)
{
	TupleTableSlot *row;
	bool		isnull;
	int			failed;

	if (checks == NIL)
		return;
	row = fa_row_query_run(linitial(checks), state->estate, state->params);
	failed = DatumGetInt32(slot_getattr(row, 1, &isnull));
	if (failed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg_internal("%s", strVal(list_nth(lsecond(checks), failed - 1)))));
}

/* Its values as text, which tells rows apart that are there at the same time. */
static char *
row_key(FaRowState *state, FaRowImage image, List *key)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, key)
	{
		ParamExternData *value = fa_row_value(state, image, lfirst_int(lc));
		Oid			output;
		bool		varlena;
		char	   *volatile text = NULL;
		FaPlainOutput own;

		if (value->isnull)
		{
			appendStringInfoString(&buf, "-:");
			continue;
		}
		getTypeOutputInfo(value->ptype, &output, &varlena);
		fa_plain_output_begin(&own);
		PG_TRY();
		{
			text = OidOutputFunctionCall(output, value->value);
		}
		PG_FINALLY();
		{
			fa_plain_output_end(&own);
		}
		PG_END_TRY();
		appendStringInfo(&buf, "%zu:%s", strlen(text), text);
	}
	return buf.data;
}

bool
fa_row_note(FaRowState *state, FaRowImage image, List *key)
{
	char	   *text = MemoryContextStrdup(state->context, row_key(state, image, key));
	bool		found;

	(void) hash_search(state->changed, &text, HASH_ENTER, &found);
	return !found;
}

bool
fa_row_is_noted(FaRowState *state, FaRowImage image, List *key)
{
	char	   *text = row_key(state, image, key);

	return hash_search(state->changed, &text, HASH_FIND, NULL) != NULL;
}

TupleTableSlot *
fa_row_execute(FaRowState *state, PlannedStmt *plan, uint64 *processed_p)
{
	return state->rows ?
		fa_row_query_change_beside(plan, state->estate, state->params, processed_p) :
		fa_row_query_change(plan, state->estate, state->params, processed_p);
}
