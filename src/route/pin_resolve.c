/*
 * pin_resolve.c
 *	  From a pin's values to its fragment: down the partitions of its table.
 *
 * This is what pruning and tuple routing do, for values that are known
 * before either has a plan to work on, and without looking at any other
 * partition: what it costs does not depend on how many there are.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "capture/heat.h"
#include "catalog/map.h"
#include "core/shmem.h"
#include "route/gate.h"
#include "route/hash_step.h"
#include "route/param_value.h"
#include "route/pin.h"
#include "route/pin_partition.h"

#define MAX_DEPTH 16
#define MAX_VALUES 1000
#define FEW_COLUMNS 16

/* Values of one column: alternatives. */
typedef struct Values
{
	int			n;
	Datum	   *value;
	Datum		one;			/* most have one */
	bool		null;			/* the one value is NULL */
} Values;

typedef struct Resolve
{
	FaPin	   *pin;
	ParamListInfo params;
	bool		final;
	bool		later;			/* a value is not known yet */
	bool		uncertain;		/* a value was taken that may come out otherwise */
	bool		executed;		/* it may have run statements */
	Values	   *values;			/* by attno - 1; n = 0: not asked for yet */
	Values	   *after;			/* of columns that the statement changes */
	bool		moves;			/* the last step's columns are such */
	bool		nowhere;		/* the one row has no partition in the last step */
} Resolve;

static bool
resolve_needs_execution(Node *node, void *context)
{
	ParamListInfo params = context;

	if (node == NULL)
		return false;
	if (IsA(node, Param))
	{
		ParamExternData space;
		const ParamExternData *data = fa_param_value((Param *) node, params, &space);

		return data == NULL || !(data->pflags & PARAM_FLAG_CONST);
	}
	return expression_tree_walker(node, resolve_needs_execution, context);
}

bool
fa_function_is_foreign(Oid function, void *context)
{
	return function >= FirstUnpinnedObjectId ||
		func_volatile(function) != PROVOLATILE_IMMUTABLE;
}

/*
 * May the expression have another value when it is evaluated again?  What a
 * user says of his functions is believed for reading, as PostgreSQL does, but
 * not where a row would end in a fragment that it does not belong to.
 */
static bool
resolve_is_uncertain(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction) ||
		check_functions_in_node(node, fa_function_is_foreign, NULL))
		return true;
	return expression_tree_walker(node, resolve_is_uncertain, context);
}

/* Value of an expression without variables; false when it is NULL. */
static bool
resolve_evaluate(Node *expr, ParamListInfo params, Datum *value_p)
{
	ParamExternData space;
	const ParamExternData *param = IsA(expr, Param) ?
		fa_param_value((Param *) expr, params, &space) : NULL;
	EState	   *estate;
	ExprContext *econtext;
	MemoryContext caller = CurrentMemoryContext;
	int16		len;
	bool		byval;
	bool		isnull;
	Datum		value;

	if (IsA(expr, Const))
	{
		*value_p = ((Const *) expr)->constvalue;
		return !((Const *) expr)->constisnull;
	}
	if (param)
	{
		*value_p = param->value;
		return !param->isnull;
	}
	estate = CreateExecutorState();
	estate->es_param_list_info = params;
	econtext = GetPerTupleExprContext(estate);
	get_typlenbyval(exprType(expr), &len, &byval);
	value = ExecEvalExprSwitchContext(ExecPrepareExpr((Expr *) copyObject(expr), estate),
									  econtext, &isnull);
	MemoryContextSwitchTo(caller);
	if (!isnull)
		*value_p = datumCopy(value, byval, len);
	FreeExecutorState(estate);
	return !isnull;
}

/* The elements of an array, as alternatives. */
static bool
resolve_array(Values *values, Node *expr, Datum array)
{
	Oid			type = get_element_type(exprType(expr));
	bool	   *nulls;
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(array), type, len, byval, align,
					  &values->value, &nulls, &values->n);
	if (values->n == 0 || values->n > MAX_VALUES)
		return false;
	for (int i = 0; i < values->n; i++)
	{
		if (nulls[i])
			return false;
	}
	return true;
}

/* Evaluates one of a pin's expressions; false when that must wait. */
static bool
resolve_expression(Resolve *r, Node *expr, Datum *value_p, bool *isnull_p)
{
	if (!r->final && !IsA(expr, Const) &&
		(resolve_needs_execution(expr, r->params) ||
		 contain_mutable_functions(expr)))
	{
		r->later = true;
		return false;
	}
	if (!IsA(expr, Const) && !IsA(expr, Param))
	{
		r->executed = true;
		r->uncertain = r->uncertain || resolve_is_uncertain(expr, NULL);
	}
	*isnull_p = !resolve_evaluate(expr, r->params, value_p);
	return true;
}

/* A column's one value, if it is there to be taken. */
static inline bool
resolve_at_once(Resolve *r, FaKnown *known, Values *values)
{
	Node	   *expr = linitial(known->exprs);
	ParamExternData space;
	const ParamExternData *param;

	if (known->array || list_length(known->exprs) != 1)
		return false;
	if (IsA(expr, Const) && !((Const *) expr)->constisnull)
		values->one = ((Const *) expr)->constvalue;
	else if (r->final && IsA(expr, Param) &&
			 (param = fa_param_value((Param *) expr, r->params, &space)) != NULL &&
			 !param->isnull)
		values->one = param->value;
	else
		return false;
	values->value = &values->one;
	values->n = 1;
	return true;
}

/* All values of a column; false when they cannot be had (now). */
static bool
resolve_values(Resolve *r, AttrNumber attno, Values **values_p)
{
	FaKnown    *known;
	Values	   *values;
	ListCell   *lc;
	int			n = 0;

	if (attno < 1 || attno > r->pin->natts ||
		(r->pin->written && bms_is_member(attno, r->pin->written)))
		return false;
	known = &r->pin->known[attno - 1];
	values = &r->values[attno - 1];
	*values_p = values;
	if (values->n > 0)
		return true;
	if (known->exprs == NIL)
		return false;
	if (resolve_at_once(r, known, values))
		return true;
	values->value = list_length(known->exprs) == 1 ? &values->one :
		palloc(sizeof(Datum) * list_length(known->exprs));
	foreach(lc, known->exprs)
	{
		Node	   *expr = lfirst(lc);
		bool		isnull;

		if (!resolve_expression(r, expr, &values->value[n++], &isnull))
			return false;
		if (isnull)
		{
			/* a row with NULL goes somewhere, for its constraints to be met */
			values->null = r->pin->query->commandType == CMD_INSERT &&
				r->pin->rti == r->pin->query->resultRelation &&
				list_length(known->exprs) == 1;
			if (!values->null)
				return false;
		}
		if (known->array)
			return resolve_array(values, expr, values->value[0]);
	}
	values->n = n;
	return true;
}

/* The same for the rows as the statement makes them. */
static bool
resolve_values_after(Resolve *r, AttrNumber attno, Values **values_p)
{
	List	   *exprs = attno < 1 || attno > r->pin->natts ? NIL :
		r->pin->becomes[attno - 1];
	Values	   *values;
	ListCell   *lc;
	int			n = 0;

	if (exprs == NIL)
		return resolve_values(r, attno, values_p);
	values = &r->after[attno - 1];
	*values_p = values;
	if (values->n > 0)
		return true;
	values->value = list_length(exprs) == 1 ? &values->one :
		palloc(sizeof(Datum) * list_length(exprs));
	foreach(lc, exprs)
	{
		bool		isnull;

		if (!resolve_expression(r, lfirst(lc), &values->value[n++], &isnull) ||
			isnull)
			return false;
	}
	values->n = n;
	return true;
}

/* The pin's column that is column attno of another relation of its tree. */
static AttrNumber
resolve_column(FaPin *pin, Oid relid, AttrNumber attno)
{
	if (relid == pin->relid || attno == 0)
		return attno;
	return get_attnum(pin->relid, get_attname(relid, attno, false));
}

/*
 * The one partition that a column's alternatives lead to, of a relation that is
 * divided by hash of it; InvalidOid when there is no such.
 */
static Oid
resolve_hash_step(Resolve *r, Oid relid, FaHashStep *step, bool after)
{
	AttrNumber	attno = resolve_column(r->pin, relid, step->attno);
	Values	   *values;
	Oid			child;

	if (!(after ? resolve_values_after(r, attno, &values) :
		  resolve_values(r, attno, &values)))
		return InvalidOid;
	if (r->executed && (step = fa_hash_step(relid)) == NULL)
		return InvalidOid;
	r->moves = r->pin->becomes && r->pin->becomes[attno - 1] != NIL;
	child = fa_hash_step_child(step, values->value[0], values->null);
	r->nowhere = !OidIsValid(child) && values->n == 1;
	for (int i = 1; i < values->n; i++)
	{
		if (fa_hash_step_child(step, values->value[i], false) != child)
			return InvalidOid;
	}
	return child;
}

/*
 * The one partition that all alternatives lead to, of rows before or after the
 * statement; InvalidOid when there is no such.  The relation is locked.
 */
static Oid
resolve_step(Resolve *r, Oid relid, bool after)
{
	FaHashStep *step = fa_hash_step(relid);
	Relation	rel;
	PartitionKey key;
	Values	   *values[PARTITION_MAX_KEYS];
	Oid			found = InvalidOid;
	int			n = 1;

	r->moves = false;
	if (step)
		return resolve_hash_step(r, relid, step, after);
	rel = relation_open(relid, NoLock);
	key = RelationGetPartitionKey(rel);
	if (fa_map_is_bucket(relid))
	{
		PartitionDesc desc = RelationGetPartitionDesc(rel, true);

		/* one that is not split needs no key */
		if (desc->nparts == 1)
		{
			found = desc->oids[0];
			relation_close(rel, NoLock);
			return found;
		}
	}
	for (int i = 0; i < key->partnatts; i++)
	{
		AttrNumber	attno = resolve_column(r->pin, relid, key->partattrs[i]);

		if (key->partattrs[i] == 0 ||
			!(after ? resolve_values_after(r, attno, &values[i]) :
			  resolve_values(r, attno, &values[i])))
			n = 0;
		/* several columns with alternatives: the rows pair them up */
		else if (values[i]->n > 1 && key->partnatts > 1)
			n = 0;
		else
			n = Min(n, 1) * values[i]->n;
		if (n > 0 && r->pin->becomes && r->pin->becomes[attno - 1] != NIL)
			r->moves = true;
	}
	for (int row = 0; row < n; row++)
	{
		Datum		value[PARTITION_MAX_KEYS];
		bool		isnull[PARTITION_MAX_KEYS];
		Oid			child;

		for (int i = 0; i < key->partnatts; i++)
		{
			value[i] = values[i]->value[row];
			isnull[i] = values[i]->null;
		}
		child = fa_pin_partition(rel, key, value, isnull);
		r->nowhere = !OidIsValid(child) && n == 1;
		if (!OidIsValid(child) || (row > 0 && child != found))
		{
			found = InvalidOid;
			break;
		}
		found = child;
	}
	relation_close(rel, NoLock);
	return found;
}

/* Now and then capture is told which key the statement is about. */
static void
resolve_tell_key(Resolve *r)
{
	const FaTable *table;
	AttrNumber	key;
	Values	   *values;

	if (!fa_heat_due())
		return;
	table = fa_map_table(r->pin->relid);
	key = table ? table->key : InvalidAttrNumber;
	values = key > 0 && key <= r->pin->natts ? &r->values[key - 1] : NULL;
	/* of several, the first does: they are in one fragment */
	if (values && values->n > 0 && !values->null)
		fa_heat_note(r->pin->leaf, get_atttype(r->pin->relid, key),
					 values->value[0]);
	else
		fa_heat_note(InvalidOid, InvalidOid, (Datum) 0);
}

/*
 * If the relation is the bucket of a heap on this node: the heap, locked alone;
 * whoever takes a bucket's leaf from it, or needs the bucket without readers or
 * writers, locks the leaf, too.  InvalidOid when there is none, or it has been
 * exchanged by now.  Waits while the bucket is cut over.
 */
static Oid
resolve_lock_heap(Oid bucket, LOCKMODE lockmode)
{
	const FaFragment *f = fa_map_bucket(bucket);
	Oid			leaf;

	if (f == NULL)
		return InvalidOid;
	if (fa_gate_any())
	{
		fa_gate_wait_bucket(bucket);
		f = fa_map_bucket(bucket);
	}
	if (f == NULL || !f->local)
		return InvalidOid;
	leaf = f->leaf;
	LockRelationOid(leaf, lockmode);
	f = fa_map_leaf(leaf);
	if (f && f->local && f->bucket == bucket)
		return leaf;
	UnlockRelationOid(leaf, lockmode);
	return InvalidOid;
}

/* The pin is on this leaf. */
static FaPinResult
resolve_found(Resolve *r, Oid leaf)
{
	r->pin->leaf = leaf;
	r->pin->proven = r->pin->rti == r->pin->query->resultRelation &&
		!r->uncertain && !fa_map_is_bucket(r->pin->relid);
	resolve_tell_key(r);
	return FA_PIN_HERE;
}

/* No fragment was found. */
static FaPinResult
resolve_not_found(Resolve *r)
{
	Query	   *query = r->pin->query;

	if (r->later)
		return FA_PIN_LATER;
	return r->nowhere && !r->uncertain && query->commandType == CMD_INSERT &&
		r->pin->rti == query->resultRelation ? FA_PIN_NOWHERE : FA_PIN_NONE;
}

FaPinResult
fa_pin_resolve(FaPin *pin, ParamListInfo params, bool final)
{
	Values		values[FEW_COLUMNS];
	Resolve		r = {pin, params, final};
	Oid			relid = pin->relid;
	Oid			heap;

	r.values = pin->natts <= FEW_COLUMNS ? values :
		palloc(sizeof(Values) * pin->natts);
	memset(r.values, 0, sizeof(Values) * pin->natts);
	if (pin->becomes)
		r.after = palloc0(sizeof(Values) * Max(pin->natts, 1));
	pin->parents = NIL;
	for (int depth = 0; depth < MAX_DEPTH; depth++)
	{
		Oid			child = resolve_step(&r, relid, false);

		if (!OidIsValid(child) ||
			(r.moves && resolve_step(&r, relid, true) != child))
			return resolve_not_found(&r);
		heap = resolve_lock_heap(child, pin->lockmode);
		if (OidIsValid(heap))
			return resolve_found(&r, heap);
		LockRelationOid(child, pin->lockmode);
		if (fa_map_leaf(child))
			return resolve_found(&r, child);
		if (get_rel_relkind(child) != RELKIND_PARTITIONED_TABLE)
			return FA_PIN_NONE;
		pin->parents = lappend_oid(pin->parents, child);
		relid = child;
	}
	return FA_PIN_NONE;
}

/* A pin like another, on one value of a column. */
static FaPin *
resolve_alternative(FaPin *pin, AttrNumber attno, Datum value)
{
	FaPin	   *one = palloc(sizeof(FaPin));
	Oid			type;
	Oid			collation;
	int32		typmod;
	int16		len;
	bool		byval;

	*one = *pin;
	one->known = palloc(sizeof(FaKnown) * pin->natts);
	memcpy(one->known, pin->known, sizeof(FaKnown) * pin->natts);
	get_atttypetypmodcoll(pin->relid, attno, &type, &typmod, &collation);
	type = getBaseType(type);
	get_typlenbyval(type, &len, &byval);
	one->known[attno - 1].array = false;
	one->known[attno - 1].exprs = list_make1(makeConst(type, -1, collation, len,
													   value, false, byval));
	return one;
}

List *
fa_pin_resolve_each(FaPin *pin, ParamListInfo params, bool final)
{
	const FaTable *table = fa_map_table(pin->relid);
	Resolve		r = {pin, params, final};
	Values	   *values;
	List	   *pins = NIL;

	r.values = palloc0(sizeof(Values) * Max(pin->natts, 1));
	if (table == NULL || !resolve_values(&r, table->key, &values))
		return NIL;
	for (int i = 0; i < values->n; i++)
	{
		FaPin	   *one = resolve_alternative(pin, table->key, values->value[i]);
		ListCell   *lc;

		if (fa_pin_resolve(one, params, final) != FA_PIN_HERE)
			return NIL;
		foreach(lc, pins)
		{
			if (((FaPin *) lfirst(lc))->leaf == one->leaf)
				break;
		}
		if (lc == NULL)
			pins = lappend(pins, one);
	}
	return pins;
}
