/*
 * row_upsert.c
 *	  INSERT ... ON CONFLICT of rows that are elsewhere, row by row.
 *
 * For each row that is proposed, in the order that PostgreSQL has:
 *
 *	1. the checks of new rows
 *	2. it is inserted; nothing is done when the arbiter finds one in conflict
 *	3. else that one is locked and fetched; when it has gone meanwhile: again 2.
 *	4. the WHERE of DO UPDATE, the checks of the row in conflict, SET, the checks of
 *	   what becomes of it
 *	5. it is updated
 *
 * Everything is evaluated here; only 2., 3. and 5. are done where the row is.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "core/fa_compat.h"
#include "route/refusal.h"
#include "route/row_image.h"
#include "route/row_query.h"
#include "route/whole.h"

typedef enum UpsertPrivate
{
	UPSERT_SOURCE,				/* PlannedStmt, as all that are not said to be others;
								 * NULL: rows are given */
	UPSERT_COLUMNS,				/* List of int: attnos of what it gives */
	UPSERT_NEW_CHECKS,			/* of fa_row_checks_plan() */
	UPSERT_INSERT,
	UPSERT_RETURN_NEW,			/* NULL: nothing is returned */
	UPSERT_KEY,					/* List of int: the arbiter's columns */
	UPSERT_GENERATED,			/* List of int: those of them that are generated */
	UPSERT_NEW_GENERATED,		/* their values in the new row; NULL: none are */
	UPSERT_LOCK,				/* NULL: DO NOTHING */
	UPSERT_OLD,					/* List of int: attnos of what it gives */
	UPSERT_WHERE,				/* may be NULL */
	UPSERT_OLD_CHECKS,
	UPSERT_SET,
	UPSERT_SET_COLUMNS,			/* List of int */
	UPSERT_CHANGED_CHECKS,
	UPSERT_UPDATE,
	UPSERT_RETURN_CHANGED,
	UPSERT_CHANGED_GENERATED
} UpsertPrivate;

typedef struct Upsert
{
	FaRowState *state;
	List	   *private;
	Tuplestorestate *returned;
} Upsert;

/* The arbiter's columns; NIL when it is not just columns. */
static List *
upsert_key(OnConflictExpr *conflict)
{
	List	   *key = NIL;
	ListCell   *lc;

	if (OidIsValid(conflict->constraint) || conflict->arbiterWhere != NULL)
		return NIL;
	foreach(lc, conflict->arbiterElems)
	{
		InferenceElem *elem = lfirst(lc);
		Var		   *var = (Var *) elem->expr;

		if (!IsA(var, Var) || var->varattno <= 0 ||
			OidIsValid(elem->infercollid) || OidIsValid(elem->inferopclass))
			return NIL;
		key = lappend_int(key, var->varattno);
	}
	return key;
}

/* Those of the key's columns that are computed from others. */
static List *
upsert_generated(FaRowPlan *plan, List *key)
{
	List	   *generated = NIL;
	ListCell   *lc;

	foreach(lc, key)
	{
		if (TupleDescAttr(RelationGetDescr(plan->rel), lfirst_int(lc) - 1)->attgenerated != '\0')
			generated = lappend_int(generated, lfirst_int(lc));
	}
	return generated;
}

/* Their values: a row is looked for, and known again, by them, too. */
static PlannedStmt *
upsert_generated_plan(FaRowPlan *plan, FaRowImage image, List *generated)
{
	List	   *vars = NIL;
	ListCell   *lc;

	foreach(lc, generated)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(plan->rel),
											  lfirst_int(lc) - 1);

		vars = lappend(vars, makeVar(plan->query->resultRelation, att->attnum,
									 att->atttypid, att->atttypmod,
									 att->attcollation, 0));
	}
	return fa_row_exprs_plan(plan, image, vars);
}

/* Columns that a target list gives values to. */
static List *
upsert_columns(List *targets)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);

		if (!entry->resjunk)
			columns = lappend_int(columns, entry->resno);
	}
	return columns;
}

/* Those of rows that PostgreSQL's own plan of an INSERT gives. */
static List *
upsert_all_columns(FaRowPlan *plan)
{
	List	   *columns = NIL;

	for (AttrNumber attno = 1; attno <= RelationGetNumberOfAttributes(plan->rel); attno++)
		columns = lappend_int(columns, attno);
	return columns;
}

/* The rows that are proposed. */
static PlannedStmt *
upsert_source(FaRowPlan *plan)
{
	Query	   *query;
	Index		rti = 0;
	ListCell   *lc;

	if (plan->beside)
		return NULL;
	query = copyObject(plan->query);
	foreach(lc, query->rtable)
	{
		rti++;
		if (rti == query->resultRelation || rti == plan->excluded)
		{
			RangeTblEntry *rte = makeNode(RangeTblEntry);

			rte->rtekind = RTE_RESULT;
			rte->eref = makeAlias("*RESULT*", NIL);
			lfirst(lc) = rte;
		}
	}
	query->commandType = CMD_SELECT;
	query->resultRelation = 0;
	query->onConflict = NULL;
	query->withCheckOptions = NIL;
	query->returningList = NIL;
	/* numbers of columns are no longer those of the table */
	foreach(lc, query->targetList)
		lfirst_node(TargetEntry, lc)->resno = foreach_current_index(lc) + 1;
	return planner(query, "", 0, NULL);
}

/* What the place of a list has in custom_private. */
static List *
upsert_update(FaRowPlan *plan, List *key, List *generated)
{
	OnConflictExpr *conflict = plan->query->onConflict;
	List	   *set = upsert_columns(conflict->onConflictSet);
	List	   *where = conflict->onConflictWhere ?
		list_make1(conflict->onConflictWhere) : NIL;
	PlannedStmt *test;
	PlannedStmt *values;
	PlannedStmt *returned;
	PlannedStmt *changed;
	List	   *old_checks;
	List	   *checks;
	List	   *old = NIL;
	ListCell   *lc;
	int			attno = -1;

	foreach(lc, set)
		plan->set = bms_add_member(plan->set, lfirst_int(lc));
	foreach(lc, key)
		plan->old = bms_add_member(plan->old, lfirst_int(lc));
	test = fa_row_exprs_plan(plan, FA_ROW_OLD, where);
	old_checks = fa_row_checks_plan(plan, FA_ROW_OLD, WCO_RLS_CONFLICT_CHECK);
	values = fa_row_exprs_plan(plan, FA_ROW_OLD, conflict->onConflictSet);
	checks = fa_row_checks_plan(plan, FA_ROW_CHANGED, WCO_RLS_UPDATE_CHECK);
	returned = fa_row_exprs_plan(plan, FA_ROW_CHANGED, plan->query->returningList);
	changed = upsert_generated_plan(plan, FA_ROW_CHANGED, generated);
	if (plan->failed)
		return NIL;
	while ((attno = bms_next_member(plan->old, attno)) >= 0)
		old = lappend_int(old, attno);
	return list_concat(list_make5(fa_row_lock_plan(plan, FA_ROW_NEW, key, old), old,
								  test, old_checks, values),
					   list_make5(set, checks, fa_row_update_plan(plan, key, set),
								  returned, changed));
}

List *
fa_row_upsert_plan(FaRowPlan *plan)
{
	Query	   *query = plan->query;
	OnConflictExpr *conflict = query->onConflict;
	List	   *key = upsert_key(conflict);
	List	   *generated = upsert_generated(plan, key);
	List	   *columns = plan->beside ? upsert_all_columns(plan) :
		upsert_columns(query->targetList);
	List	   *checks;
	List	   *private;
	PlannedStmt *returned;

	if (key == NIL || columns == NIL || fa_refusal_why(query) == FA_REFUSAL_KEY)
		return NIL;
	plan->excluded = conflict->exclRelIndex;
	checks = fa_row_checks_plan(plan, FA_ROW_NEW, WCO_RLS_INSERT_CHECK);
	returned = fa_row_exprs_plan(plan, FA_ROW_NEW, query->returningList);
	if (plan->failed)
		return NIL;
	private = list_make5(upsert_source(plan), columns, checks,
						 fa_row_insert_plan(plan, upsert_columns(fa_whole_named_targets(query)),
											key),
						 returned);
	private = lappend(lappend(private, key), generated);
	private = lappend(private, upsert_generated_plan(plan, FA_ROW_NEW, generated));
	if (conflict->action == ONCONFLICT_UPDATE)
		private = list_concat(private, upsert_update(plan, key, generated));
	else
		private = lappend(private, NULL);
	return plan->failed || plan->source != NIL ? NIL : private;
}

static void *
upsert_private(Upsert *upsert, UpsertPrivate which)
{
	return list_nth(upsert->private, which);
}

/* Computes what of an image's key is generated. */
static void
upsert_generate(Upsert *upsert, FaRowImage image, UpsertPrivate which)
{
	FaRowState *state = upsert->state;
	PlannedStmt *values = upsert_private(upsert, which);

	if (values)
		fa_row_store(state, image, upsert_private(upsert, UPSERT_GENERATED),
					 fa_row_query_run(values, state->estate, state->params));
}

static void
upsert_return(Upsert *upsert, UpsertPrivate which)
{
	PlannedStmt *returned = upsert_private(upsert, which);

	if (returned)
		tuplestore_puttupleslot(upsert->returned,
								fa_row_query_run(returned, upsert->state->estate,
												 upsert->state->params));
}

static void
upsert_raise_twice(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CARDINALITY_VIOLATION),
			 errmsg("ON CONFLICT DO UPDATE command cannot affect row a second time"),
			 errhint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")));
}

/*
 * Locks, and gives, the row in conflict; NULL: it has gone meanwhile.  Beside others
 * one that the statement has changed is passed over; but then it is there.
 */
static TupleTableSlot *
upsert_lock(Upsert *upsert, PlannedStmt *lock)
{
	FaRowState *state = upsert->state;
	TupleTableSlot *old = fa_row_execute(state, lock, NULL);

	if (old || state->rows == NULL ||
		fa_row_query_change(lock, state->estate, state->params, NULL) == NULL)
		return old;
	/* unless somebody else has inserted it just now */
	old = fa_row_execute(state, lock, NULL);
	if (old == NULL)
		upsert_raise_twice();
	return old;
}

static void
upsert_count(Upsert *upsert)
{
	if (upsert->state->counts)
		upsert->state->estate->es_processed++;
}

/* Updates the row in conflict, which is locked, and is FA_ROW_OLD. */
static void
upsert_update_row(Upsert *upsert)
{
	FaRowState *state = upsert->state;
	EState	   *estate = state->estate;
	List	   *key = upsert_private(upsert, UPSERT_KEY);
	List	   *old_checks = upsert_private(upsert, UPSERT_OLD_CHECKS);
	uint64		processed;

	if (fa_row_is_noted(state, FA_ROW_OLD, key))
		upsert_raise_twice();
	if (!FA_CONFLICT_WHERE_FIRST)
		fa_row_meet_checks(state, old_checks);
	if (!fa_row_test(state, upsert_private(upsert, UPSERT_WHERE)))
		return;
	if (FA_CONFLICT_WHERE_FIRST)
		fa_row_meet_checks(state, old_checks);
	fa_row_change(state, upsert_private(upsert, UPSERT_SET_COLUMNS),
				  fa_row_query_run(upsert_private(upsert, UPSERT_SET), estate,
								   state->params));
	fa_row_meet_checks(state, upsert_private(upsert, UPSERT_CHANGED_CHECKS));
	(void) fa_row_execute(state, upsert_private(upsert, UPSERT_UPDATE), &processed);
	if (processed != 1)
		elog(ERROR, "a row that was locked was not found");
	upsert_generate(upsert, FA_ROW_CHANGED, UPSERT_CHANGED_GENERATED);
	(void) fa_row_note(state, FA_ROW_CHANGED, key);
	upsert_count(upsert);
	upsert_return(upsert, UPSERT_RETURN_CHANGED);
}

/* Inserts FA_ROW_NEW, or does what is to be done instead. */
static void
upsert_row(Upsert *upsert)
{
	FaRowState *state = upsert->state;
	PlannedStmt *lock = upsert_private(upsert, UPSERT_LOCK);

	fa_row_meet_checks(state, upsert_private(upsert, UPSERT_NEW_CHECKS));
	upsert_generate(upsert, FA_ROW_NEW, UPSERT_NEW_GENERATED);
	for (;;)
	{
		TupleTableSlot *old;
		uint64		inserted;

		CHECK_FOR_INTERRUPTS();
		(void) fa_row_execute(state, upsert_private(upsert, UPSERT_INSERT), &inserted);
		if (inserted > 0)
		{
			(void) fa_row_note(state, FA_ROW_NEW, upsert_private(upsert, UPSERT_KEY));
			upsert_count(upsert);
			upsert_return(upsert, UPSERT_RETURN_NEW);
			return;
		}
		if (lock == NULL)
			return;
		old = upsert_lock(upsert, lock);
		if (old)
		{
			fa_row_store(state, FA_ROW_OLD, upsert_private(upsert, UPSERT_OLD), old);
			upsert_update_row(upsert);
			return;
		}
	}
}

void
fa_row_upsert_explain(List *private, Oid relid, ExplainState *es)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, list_nth(private, UPSERT_KEY))
		columns = lappend(columns, get_attname(relid, lfirst_int(lc), false));
	ExplainPropertyText("Conflict Resolution",
						list_nth(private, UPSERT_LOCK) ? "UPDATE" : "NOTHING", es);
	ExplainPropertyList("Conflict Arbiter Columns", columns, es);
}

void
fa_row_upsert_run(FaRowState *state, List *private, Tuplestorestate *returned,
				  MemoryContext row_context)
{
	Upsert		upsert = {state, private, returned};
	FaRowSource *source = fa_row_source_begin(state, upsert_private(&upsert, UPSERT_SOURCE));

	for (;;)
	{
		MemoryContext caller = MemoryContextSwitchTo(row_context);
		TupleTableSlot *row = fa_row_source_next(source);

		if (row)
		{
			fa_row_clear(state);
			fa_row_store(state, FA_ROW_NEW, upsert_private(&upsert, UPSERT_COLUMNS), row);
			upsert_row(&upsert);
		}
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row_context);
		if (row == NULL)
			break;
	}
	fa_row_source_end(source);
}
