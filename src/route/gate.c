/*
 * gate.c
 *	  Statements wait outside while a fragment that they touch is cut over.
 *
 * The planner is the last stop before the buckets' locks are taken.  A
 * statement that meets a closed gate there waits for it to open, without a
 * place in the lock's queue and without a lock that the mover could wait for,
 * and is then planned against the new owner.  The wait is bounded
 * (cutover_wait); after it the statement queues on the lock as any would.
 *
 * A transaction that has a lock on the bucket or its leaf already must not wait
 * here: the mover waits for that very lock.
 *
 * Which fragments a statement touches is not known before it is planned, so
 * the bucket's partition constraint is tested with the columns that the
 * statement fixes; what cannot be excluded is waited for.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "route/gate.h"

typedef struct GateSearch
{
	FaFragment *fragment;		/* in cut-over */
	Oid			root;			/* its table */
	ParamListInfo params;
	bool		touched;
} GateSearch;

/* Columns of one relation that a query fixes: root's attno -> Const. */
typedef struct FixedColumns
{
	Index		rti;
	int			natts;
	Const	  **value;			/* by attno - 1; NULL: not fixed */
} FixedColumns;

/* Value of a parameter, where it is known by now; else the node itself. */
static Node *
gate_known_param(Node *node, void *context)
{
	ParamListInfo params = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		params && params->paramFetch == NULL &&
		((Param *) node)->paramid <= params->numParams)
	{
		Param	   *param = (Param *) node;
		ParamExternData *data = &params->params[param->paramid - 1];
		int16		len;
		bool		byval;

		if (data->ptype != param->paramtype)
			return node;
		get_typlenbyval(param->paramtype, &len, &byval);
		return (Node *) makeConst(param->paramtype, param->paramtypmod,
								  param->paramcollid, len, data->value,
								  data->isnull, byval);
	}
	return expression_tree_mutator(node, gate_known_param, context);
}

/* The expression as a constant of the wanted type; NULL when it is none. */
static Const *
gate_constant(Node *node, Oid type, int32 typmod, ParamListInfo params)
{
	if (contain_vars_of_level(node, 0) || contain_volatile_functions(node) ||
		contain_subplans(node))
		return NULL;
	node = gate_known_param(node, params);
	node = coerce_to_target_type(NULL, node, exprType(node), type, typmod,
								 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	if (node == NULL)
		return NULL;
	node = eval_const_expressions(NULL, node);
	return IsA(node, Const) && !((Const *) node)->constisnull ?
		(Const *) node : NULL;
}

static void
gate_fix(FixedColumns *fixed, Node *left, Node *right, Oid op,
		 ParamListInfo params)
{
	Var		   *var = (Var *) left;
	Oid			family;

	if (!IsA(var, Var) || var->varno != fixed->rti || var->varlevelsup != 0 ||
		var->varattno <= 0 || var->varattno > fixed->natts)
		return;
	family = lookup_type_cache(var->vartype, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	if (get_op_opfamily_strategy(op, family) == BTEqualStrategyNumber)
		fixed->value[var->varattno - 1] = gate_constant(right, var->vartype,
														-1, params);
}

/* Equalities that every row must meet. */
static void
gate_fix_quals(FixedColumns *fixed, Node *quals, ParamListInfo params)
{
	ListCell   *lc;

	if (quals == NULL)
		return;
	if (is_andclause(quals))
	{
		foreach(lc, ((BoolExpr *) quals)->args)
			gate_fix_quals(fixed, lfirst(lc), params);
	}
	else if (is_opclause(quals) && list_length(((OpExpr *) quals)->args) == 2)
	{
		OpExpr	   *op = (OpExpr *) quals;

		gate_fix(fixed, linitial(op->args), lsecond(op->args), op->opno, params);
		gate_fix(fixed, lsecond(op->args), linitial(op->args), op->opno, params);
	}
}

/* Constants of a one-row INSERT. */
static void
gate_fix_insert(FixedColumns *fixed, Query *query, ParamListInfo params)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = (Node *) entry->expr;

		if (entry->resno <= fixed->natts)
			fixed->value[entry->resno - 1] = gate_constant(expr, exprType(expr),
														   exprTypmod(expr), params);
	}
}

static Node *
gate_substitute(Node *node, void *context)
{
	FixedColumns *fixed = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno > 0 && var->varattno <= fixed->natts &&
			fixed->value[var->varattno - 1])
			return (Node *) fixed->value[var->varattno - 1];
	}
	return expression_tree_mutator(node, gate_substitute, context);
}

/*
 * Could a row with these columns be in the bucket?  It is looked at without a lock,
 * as nobody may have one here: its constraint stays as long as the bucket is there.
 */
static bool
gate_bucket_possible(Oid bucket, Oid root, FixedColumns *fixed)
{
	Relation	rel = RelationIdGetRelation(bucket);
	FixedColumns here = {0};
	Node	   *qual;
	bool		possible;

	if (rel == NULL)
		return true;
	here.natts = RelationGetNumberOfAttributes(rel);
	here.value = palloc0(sizeof(Const *) * here.natts);
	for (int i = 0; i < fixed->natts; i++)
	{
		AttrNumber	attno;

		if (fixed->value[i] == NULL)
			continue;
		attno = get_attnum(bucket, get_attname(root, i + 1, false));
		if (attno > 0)
			here.value[attno - 1] = fixed->value[i];
	}
	qual = (Node *) make_ands_explicit(copyObject(RelationGetPartitionQual(rel)));
	qual = eval_const_expressions(NULL, gate_substitute(qual, &here));
	possible = !(IsA(qual, Const) && (((Const *) qual)->constisnull ||
									  !DatumGetBool(((Const *) qual)->constvalue)));
	RelationClose(rel);
	return possible;
}

/* The statement names the table: analysis has locked it. */
static int
gate_column_count(Oid root)
{
	Relation	rel = relation_open(root, NoLock);
	int			n = RelationGetNumberOfAttributes(rel);

	relation_close(rel, NoLock);
	return n;
}

static void
gate_check_relation(GateSearch *search, Query *query, Index rti)
{
	FixedColumns fixed = {0};

	fixed.rti = rti;
	fixed.natts = gate_column_count(search->root);
	fixed.value = palloc0(sizeof(Const *) * fixed.natts);
	if (query->jointree)
		gate_fix_quals(&fixed, query->jointree->quals, search->params);
	if (query->commandType == CMD_INSERT && query->resultRelation == rti)
		gate_fix_insert(&fixed, query, search->params);
	if (gate_bucket_possible(search->fragment->bucket, search->root, &fixed))
		search->touched = true;
}

static bool
gate_walker(Node *node, void *context)
{
	GateSearch *search = context;

	if (node == NULL || search->touched)
		return search->touched;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		Index		rti = 0;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);

			rti++;
			if (rte->rtekind == RTE_RELATION && rte->relid == search->root)
				gate_check_relation(search, query, rti);
		}
		return query_tree_walker(query, gate_walker, context, 0);
	}
	return expression_tree_walker(node, gate_walker, context);
}

/* Has this transaction a lock that the mover waits for? */
static bool
gate_is_inside(const FaFragment *fragment)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, fragment->bucket);
	if (fa_lock_held_by_me(&tag, AccessShareLock))
		return true;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, fragment->leaf);
	return fa_lock_held_by_me(&tag, AccessShareLock);
}

static void
gate_wait_for_slot(Query *parse, ParamListInfo params, int slot)
{
	GateSearch	search = {0};
	FaTable    *table;

	search.fragment = fa_map_fragment(fa_slot_get(slot)->fragment);
	if (search.fragment == NULL || gate_is_inside(search.fragment))
		return;
	table = fa_map_table_by_id(search.fragment->table_id);
	if (table == NULL)
		return;
	search.root = table->rel;
	search.params = params;
	(void) gate_walker((Node *) parse, &search);
	if (search.touched)
		(void) fa_gate_wait(slot, fa_setting_int("cutover_wait", 0));
}

/* Does the statement name a partitioned table at all? */
static bool
gate_names_partitioned(Query *parse)
{
	ListCell   *lc;

	foreach(lc, parse->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_RELATION || rte->relkind == RELKIND_PARTITIONED_TABLE)
			return true;
	}
	return parse->cteList != NIL || parse->hasSubLinks;
}

static void
gate_wait(Query *parse, ParamListInfo params)
{
	if (!gate_names_partitioned(parse) || !fa_extension_exists())
		return;
	for (int i = fa_gate_next(0); i >= 0; i = fa_gate_next(i + 1))
	{
		if (fa_slot_get(i)->dbid == MyDatabaseId)
			gate_wait_for_slot(parse, params, i);
	}
}

void
fa_gate_wait_statement(Query *parse, ParamListInfo params)
{
	if (fa_gate_any())
		gate_wait(parse, params);
}

void
fa_gate_wait_bucket(Oid bucket)
{
	if (!fa_gate_any())
		return;
	for (int i = fa_gate_next(0); i >= 0; i = fa_gate_next(i + 1))
	{
		FaFragmentSlot *slot = fa_slot_get(i);
		FaFragment *fragment;

		if (slot->dbid != MyDatabaseId)
			continue;
		fragment = fa_map_fragment(slot->fragment);
		if (fragment == NULL || fragment->bucket != bucket)
			continue;
		if (!gate_is_inside(fragment))
			(void) fa_gate_wait(i, fa_setting_int("cutover_wait", 0));
	}
}
