/*
 * scan_keys.c
 *	  Index scans of a kept plan, started for one execution's values.
 *
 * A plan that is to serve all values has parameters in its scan keys.  The
 * executor compiles each of them, for each execution, and has a memory context
 * for what they come to.  It also compiles the index's condition as one about
 * rows, which a B-tree never asks for.  All this takes longer than the scan.
 *
 * But a plan that is kept by us, not by the plan cache, may be changed: while the
 * executor makes its state of it, values are in the place of parameters, and that
 * condition is left out.  Afterwards the plan is as it was: EXPLAIN shows it, and
 * the rechecks of rows that were changed meanwhile are made of it.  So it does not
 * matter how many executions there are at a time.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "core/fa_compat.h"
#include "route/param_value.h"
#include "route/scan_keys.h"

/* A parameter in a scan key. */
typedef struct Key
{
	Expr	  **place;
	Param	   *param;
	Const	   *value;			/* that takes its place, except the value */
} Key;

/* The condition about rows of one scan. */
typedef struct Condition
{
	List	  **place;
	List	   *quals;
} Condition;

struct FaScanKeys
{
	int			nkeys;
	int			nconditions;
	Key		   *key;
	Condition  *condition;
};

/* Where the clause of an index has its parameter; NULL when it has none. */
static Expr **
keys_find_param(Node *clause)
{
	OpExpr	   *op = (OpExpr *) clause;
	Expr	  **place;

	if (!IsA(clause, OpExpr) || list_length(op->args) != 2)
		return NULL;
	place = (Expr **) &llast(op->args);
	if (IsA(*place, RelabelType))
		place = &((RelabelType *) *place)->arg;
	return IsA(*place, Param) && ((Param *) *place)->paramkind == PARAM_EXTERN ?
		place : NULL;
}

static void
keys_add(FaScanKeys *keys, List *quals)
{
	ListCell   *lc;

	foreach(lc, quals)
	{
		Expr	  **place = keys_find_param(lfirst(lc));
		Key		   *key;
		Param	   *param;
		int16		len;
		bool		byval;

		if (place == NULL)
			continue;
		param = (Param *) *place;
		get_typlenbyval(param->paramtype, &len, &byval);
		keys->key = keys->key ?
			repalloc(keys->key, sizeof(Key) * (keys->nkeys + 1)) :
			palloc(sizeof(Key));
		key = &keys->key[keys->nkeys++];
		key->place = place;
		key->param = param;
		key->value = makeConst(param->paramtype, param->paramtypmod,
							   param->paramcollid, len, (Datum) 0, true, byval);
	}
}

static bool
keys_is_btree(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	bool		is;

	if (!HeapTupleIsValid(tuple))
		return false;
	is = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
	ReleaseSysCache(tuple);
	return is;
}

/* quals: what a scan of the index asks of rows that it is not sure of */
static void
keys_add_condition(FaScanKeys *keys, Oid index, List **quals)
{
	Condition  *condition;

	if (*quals == NIL || !keys_is_btree(index))
		return;
	keys->condition = keys->condition ?
		repalloc(keys->condition, sizeof(Condition) * (keys->nconditions + 1)) :
		palloc(sizeof(Condition));
	condition = &keys->condition[keys->nconditions++];
	condition->place = quals;
	condition->quals = *quals;
}

static void
keys_add_plan(FaScanKeys *keys, Plan *plan)
{
	if (plan == NULL)
		return;
	if (IsA(plan, IndexScan))
	{
		IndexScan  *scan = (IndexScan *) plan;

		keys_add(keys, scan->indexqual);
		keys_add_condition(keys, scan->indexid, &scan->indexqualorig);
	}
	else if (IsA(plan, IndexOnlyScan))
	{
		IndexOnlyScan *scan = (IndexOnlyScan *) plan;

		keys_add(keys, scan->indexqual);
		keys_add_condition(keys, scan->indexid, &scan->recheckqual);
	}
	keys_add_plan(keys, plan->lefttree);
	keys_add_plan(keys, plan->righttree);
}

FaScanKeys *
fa_scan_keys_collect(PlannedStmt *plan)
{
	FaScanKeys *keys = palloc0(sizeof(FaScanKeys));
	ListCell   *lc;

	keys_add_plan(keys, plan->planTree);
	foreach(lc, plan->subplans)
		keys_add_plan(keys, lfirst(lc));
	if (keys->nkeys > 0 || keys->nconditions > 0)
		return keys;
	pfree(keys);
	return NULL;
}

/* Puts the value in the parameter's place, where it can be used as it is. */
static void
key_put_value(Key *key, ParamListInfo params)
{
	Const	   *value = key->value;
	ParamExternData space;
	const ParamExternData *data = fa_param_value(key->param, params, &space);

	if (data == NULL ||
		(value->constlen == -1 && !data->isnull &&
		 VARATT_IS_EXTENDED(DatumGetPointer(data->value))))
		return;
	value->constvalue = data->value;
	value->constisnull = data->isnull;
	*key->place = (Expr *) value;
}

void
fa_scan_keys_put(FaScanKeys *keys, ParamListInfo params)
{
	for (int i = 0; i < keys->nkeys; i++)
		key_put_value(&keys->key[i], params);
	for (int i = 0; i < keys->nconditions; i++)
		*keys->condition[i].place = NIL;
}

void
fa_scan_keys_restore(FaScanKeys *keys)
{
	for (int i = 0; i < keys->nkeys; i++)
		*keys->key[i].place = (Expr *) keys->key[i].param;
	for (int i = 0; i < keys->nconditions; i++)
		*keys->condition[i].place = keys->condition[i].quals;
}
