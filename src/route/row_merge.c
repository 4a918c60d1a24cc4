/*
 * row_merge.c
 *	  MERGE of rows that are elsewhere, row by row.
 *
 * The source is joined with the target by a SELECT, to whose end nothing is changed.
 * For each of its rows, with a row of the target or without one, the first action
 * whose condition is met is evaluated here, with the checks of row security in
 * PostgreSQL's order.  Then the row of the target is locked where it is.  If it is
 * another by now, it is looked at anew, by the join's condition too, as PostgreSQL
 * does; if it has gone, or does not match any more, the source's row is one without.
 */
#include "postgres.h"

#include "access/genam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/refusal.h"
#include "route/row_image.h"
#include "route/row_query.h"

typedef enum MergePrivate
{
	MERGE_ROWS,					/* PlannedStmt: FA_ROW_OLD's columns, the source's */
	MERGE_KEY,					/* List of int: attnos of the primary key */
	MERGE_OLD,					/* List of int: those of FA_ROW_OLD */
	MERGE_LOCK,					/* PlannedStmt: gives them */
	MERGE_MATCHES,				/* PlannedStmt: the join's condition, for one row */
	MERGE_ACTIONS				/* List of List */
} MergePrivate;

typedef enum ActionPrivate
{
	ACTION_KIND,				/* List of int: is for rows that match, CmdType */
	ACTION_WHEN,				/* PlannedStmt; NULL: always */
	ACTION_OLD_CHECKS,
	ACTION_VALUES,				/* PlannedStmt; NULL: has no new row */
	ACTION_COLUMNS,				/* List of int: attnos of what it gives */
	ACTION_NEW_CHECKS,
	ACTION_CHANGE				/* PlannedStmt; NULL: does nothing */
} ActionPrivate;

typedef struct Merge
{
	FaRowState *state;
	List	   *private;
} Merge;

/*
 * Columns of the primary key, by which a row is found again.  The table only shows
 * it, as an index that is not valid.
 */
static List *
merge_key(Relation rel)
{
	List	   *key = NIL;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		for (int i = 0; index->rd_index->indisprimary &&
			 i < index->rd_index->indnkeyatts; i++)
			key = lappend_int(key, index->rd_index->indkey.values[i]);
		index_close(index, AccessShareLock);
	}
	return key;
}

/* The plan that tells whether a condition, or each of a list, is met. */
static PlannedStmt *
merge_condition_plan(FaRowPlan *plan, Node *condition)
{
	return condition == NULL ? NULL :
		fa_row_exprs_plan(plan, FA_ROW_OLD,
						  list_make1(make_ands_explicit(IsA(condition, List) ?
														(List *) condition :
														list_make1(condition))));
}

static List *
merge_action_plan(FaRowPlan *plan, MergeAction *action, List *key)
{
	CmdType		command = action->commandType;
	bool		update = command == CMD_UPDATE;
	PlannedStmt *when = merge_condition_plan(plan, action->qual);
	PlannedStmt *values = NULL;
	PlannedStmt *change = NULL;
	List	   *columns = NIL;
	List	   *checks = NIL;
	List	   *old_checks = NIL;
	ListCell   *lc;

	foreach(lc, command == CMD_DELETE ? NIL : action->targetList)
	{
		TargetEntry *entry = lfirst(lc);

		if (!entry->resjunk)
			columns = lappend_int(columns, entry->resno);
	}
	if (update || command == CMD_DELETE)
		old_checks = fa_row_checks_plan(plan, FA_ROW_OLD, update ?
										WCO_RLS_MERGE_UPDATE_CHECK :
										WCO_RLS_MERGE_DELETE_CHECK);
	if (update || command == CMD_INSERT)
	{
		values = fa_row_exprs_plan(plan, FA_ROW_OLD, action->targetList);
		bms_free(plan->set);
		plan->set = NULL;
		foreach(lc, columns)
			plan->set = bms_add_member(plan->set, lfirst_int(lc));
		checks = update ?
			fa_row_checks_plan(plan, FA_ROW_CHANGED, WCO_RLS_UPDATE_CHECK) :
			fa_row_checks_plan(plan, FA_ROW_NEW, WCO_RLS_INSERT_CHECK);
	}
	if (plan->failed || (values && columns == NIL))
	{
		plan->failed = true;
		return NIL;
	}
	if (update)
		change = fa_row_update_plan(plan, key, columns);
	else if (command == CMD_DELETE)
		change = fa_row_delete_plan(plan, key);
	else if (command == CMD_INSERT)
		change = fa_row_insert_plan(plan, columns, NIL);
	return lappend(lappend(list_make5(list_make2_int(fa_merge_action_matched(action),
													 command),
									  when, old_checks, values, columns),
						   checks), change);
}

/* An outer join keeps the source's rows without a match, if they have actions. */
static Index
merge_join(Query *query, Node *condition)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	JoinExpr   *join = makeNode(JoinExpr);
	RangeTblRef *target = makeNode(RangeTblRef);
	ListCell   *lc;

	join->jointype = JOIN_INNER;
	foreach(lc, query->mergeActionList)
	{
		if (!fa_merge_action_matched(lfirst(lc)))
			join->jointype = JOIN_RIGHT;
	}
	rte->rtekind = RTE_JOIN;
	rte->jointype = join->jointype;
	rte->eref = makeAlias("*MERGE*", NIL);
	rte->inFromCl = true;
	query->rtable = lappend(query->rtable, rte);
	target->rtindex = query->resultRelation;
	join->larg = (Node *) target;
	join->rarg = linitial(query->jointree->fromlist);
	join->quals = condition;
	join->rtindex = list_length(query->rtable);
	query->jointree = makeFromExpr(list_make1(join), NULL);
	return join->jointype == JOIN_RIGHT ? join->rtindex : 0;
}

/* The source's rows, with those of the target that match them. */
static PlannedStmt *
merge_rows_plan(FaRowPlan *plan, List *old)
{
	Query	   *query = copyObject(plan->query);
	Index		target = query->resultRelation;
	Index		join = merge_join(query, fa_merge_condition(query));
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, old)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(plan->rel),
											  lfirst_int(lc) - 1);
		Var		   *var = makeVar(target, att->attnum, att->atttypid,
								  att->atttypmod, att->attcollation, 0);

		if (join != 0)
			fa_var_nulled_by(var, join);
		targets = lappend(targets, makeTargetEntry((Expr *) var,
												   list_length(targets) + 1, NULL, false));
	}
	foreach(lc, plan->source)
		targets = lappend(targets, makeTargetEntry(copyObject(lfirst(lc)),
												   list_length(targets) + 1, NULL, false));
	query->commandType = CMD_SELECT;
	query->resultRelation = 0;
	query->targetList = targets;
	fa_merge_forget(query);
	query->withCheckOptions = NIL;
	return planner(query, "", 0, NULL);
}

List *
fa_row_merge_plan(FaRowPlan *plan)
{
	Query	   *query = plan->query;
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	Node	   *condition = fa_merge_condition(query);
	List	   *key = merge_key(plan->rel);
	List	   *actions = NIL;
	List	   *old = NIL;
	PlannedStmt *matches;
	ListCell   *lc;
	int			attno = -1;

	if (key == NIL || condition == NULL || query->returningList != NIL ||
		list_length(query->jointree->fromlist) != 1 ||
		fa_refusal_why(query) == FA_REFUSAL_KEY)
		return NIL;
	foreach(lc, key)
		plan->old = bms_add_member(plan->old, lfirst_int(lc));
	plan->old = bms_add_member(plan->old, fa_map_table(rte->relid)->key);
	/* a new version of a row must be visible, too */
	matches = merge_condition_plan(plan, (Node *) lappend(list_copy(rte->securityQuals),
														  condition));
	foreach(lc, query->mergeActionList)
		actions = lappend(actions, merge_action_plan(plan, lfirst(lc), key));
	if (plan->failed)
		return NIL;
	while ((attno = bms_next_member(plan->old, attno)) >= 0)
		old = lappend_int(old, attno);
	return lappend(list_make5(merge_rows_plan(plan, old), key, old,
							  fa_row_lock_plan(plan, FA_ROW_OLD, key, old), matches),
				   actions);
}

static void *
merge_private(Merge *merge, MergePrivate which)
{
	return list_nth(merge->private, which);
}

static CmdType
action_command(List *action)
{
	return lsecond_int(list_nth(action, ACTION_KIND));
}

/* The first action for such a row whose condition is met; NIL: none is. */
static List *
merge_action(Merge *merge, bool matched)
{
	ListCell   *lc;

	foreach(lc, merge_private(merge, MERGE_ACTIONS))
	{
		List	   *action = lfirst(lc);

		if ((linitial_int(list_nth(action, ACTION_KIND)) != 0) == matched &&
			fa_row_test(merge->state, list_nth(action, ACTION_WHEN)))
			return action_command(action) == CMD_NOTHING ? NIL : action;
	}
	return NIL;
}

/* Evaluates what it makes of the row, and its checks. */
static void
merge_evaluate(Merge *merge, List *action)
{
	FaRowState *state = merge->state;
	PlannedStmt *values = list_nth(action, ACTION_VALUES);
	List	   *columns = list_nth(action, ACTION_COLUMNS);

	fa_row_meet_checks(state, list_nth(action, ACTION_OLD_CHECKS));
	if (values)
	{
		TupleTableSlot *row = fa_row_query_run(values, state->estate, state->params);

		if (action_command(action) == CMD_UPDATE)
			fa_row_change(state, columns, row);
		else
			fa_row_store(state, FA_ROW_NEW, columns, row);
	}
	fa_row_meet_checks(state, list_nth(action, ACTION_NEW_CHECKS));
}

static void
merge_change(Merge *merge, List *action)
{
	FaRowState *state = merge->state;
	uint64		processed;

	(void) fa_row_query_change(list_nth(action, ACTION_CHANGE), state->estate,
							   state->params, &processed);
	if (processed != 1)
		elog(ERROR, "a row that was locked was not found");
	if (state->counts)
		state->estate->es_processed++;
}

/* Is the row FA_ROW_OLD?  If not, it becomes that. */
static bool
merge_is_same(Merge *merge, TupleTableSlot *row)
{
	FaRowState *state = merge->state;
	List	   *old = merge_private(merge, MERGE_OLD);
	bool		same = true;
	ListCell   *lc;

	slot_getallattrs(row);
	foreach(lc, old)
	{
		int			i = foreach_current_index(lc);
		ParamExternData *value = fa_row_value(state, FA_ROW_OLD, lfirst_int(lc));
		Form_pg_attribute att = TupleDescAttr(state->desc, lfirst_int(lc) - 1);

		same = same && value->isnull == row->tts_isnull[i] &&
			(value->isnull ||
			 datum_image_eq(value->value, row->tts_values[i], att->attbyval, att->attlen));
	}
	fa_row_store(state, FA_ROW_OLD, old, row);
	return same;
}

/* A row of the source with FA_ROW_OLD; false when they do not match any more. */
static bool
merge_matched(Merge *merge)
{
	FaRowState *state = merge->state;
	List	   *key = merge_private(merge, MERGE_KEY);
	bool		locked = false;

	for (;;)
	{
		List	   *action = merge_action(merge, true);
		TupleTableSlot *row;

		if (action == NIL)
			return true;
		merge_evaluate(merge, action);
		if (!locked)
		{
			if (fa_row_is_noted(state, FA_ROW_OLD, key))
				ereport(ERROR,
						(errcode(ERRCODE_CARDINALITY_VIOLATION),
						 errmsg("%s command cannot affect row a second time", "MERGE"),
						 errhint("Ensure that not more than one source row matches any one target row.")));
			row = fa_row_query_change(merge_private(merge, MERGE_LOCK), state->estate,
									  state->params, NULL);
			if (row == NULL)
				return false;
			locked = true;
			if (!merge_is_same(merge, row))
			{
				if (!fa_row_test(state, merge_private(merge, MERGE_MATCHES)))
					return false;
				continue;
			}
		}
		merge_change(merge, action);
		(void) fa_row_note(state, FA_ROW_OLD, key);
		return true;
	}
}

static void
merge_row(Merge *merge)
{
	FaRowState *state = merge->state;
	/* no row of the target has a key that is null */
	bool		matched = !fa_row_value(state, FA_ROW_OLD,
										linitial_int(merge_private(merge, MERGE_KEY)))->isnull;
	List	   *action;

	if (matched && merge_matched(merge))
		return;
	action = merge_action(merge, false);
	if (action == NIL)
		return;
	merge_evaluate(merge, action);
	merge_change(merge, action);
}

void
fa_row_merge_run(FaRowState *state, List *private, MemoryContext row_context)
{
	Merge		merge = {state, private};
	List	   *old = merge_private(&merge, MERGE_OLD);
	int			nold = list_length(old);
	int			first_source = state->first + FA_ROW_IMAGES * state->desc->natts;
	FaRowSource *source = fa_row_source_begin(state, merge_private(&merge, MERGE_ROWS));
	TupleTableSlot *row;

	while ((row = fa_row_source_next(source)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		fa_row_clear(state);
		fa_row_store(state, FA_ROW_OLD, old, row);
		for (int i = nold; i < row->tts_tupleDescriptor->natts; i++)
		{
			ParamExternData *value = &state->params->params[first_source + i - nold];

			value->value = row->tts_values[i];
			value->isnull = row->tts_isnull[i];
			value->ptype = TupleDescAttr(row->tts_tupleDescriptor, i)->atttypid;
		}
		merge_row(&merge);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row_context);
	}
	fa_row_source_end(source);
}
