/*
 * pin_written.c
 *	  Columns that a modification may give other values than a pin knows.
 *
 * The fragment of a row must not depend on one of them, else the row may have
 * to go elsewhere.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"

#include "route/pin_level.h"

/*
 * Columns that an upsert changes, other than to what they are or to what the row
 * that was to be inserted has.
 */
static Bitmapset *
written_by_conflict(List *targets, Index target, Index excluded)
{
	Bitmapset  *written = NULL;
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);
		Var		   *var = (Var *) entry->expr;

		if (entry->resjunk ||
			(IsA(var, Var) && var->varattno == entry->resno &&
			 (var->varno == excluded || var->varno == target)))
			continue;
		written = bms_add_member(written, entry->resno);
	}
	return written;
}

/* Replaces variables of this level by what they are known to be. */
static Node *
written_substitute(Node *node, void *context)
{
	FaLevel	   *level = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		FaKnown    *known = ((Var *) node)->varlevelsup == 0 ?
			fa_level_known(level, (Var *) node) : NULL;

		return known && !known->array && list_length(known->exprs) == 1 ?
			linitial(known->exprs) : node;
	}
	return expression_tree_mutator(node, written_substitute, context);
}

/* The same value, without the check that it is in a domain. */
static Node *
written_value(Node *expr)
{
	while (expr && (IsA(expr, CoerceToDomain) || IsA(expr, RelabelType)))
		expr = IsA(expr, RelabelType) ? (Node *) ((RelabelType *) expr)->arg :
			(Node *) ((CoerceToDomain *) expr)->arg;
	return expr;
}

static bool
written_equal(Node *one, Node *other)
{
	return equal(written_value(one), written_value(other));
}

/* Columns that an UPDATE changes: to what is known, to a value, or freely. */
static void
written_by_update(FaLevel *level, FaPin *pin, List *targets)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);
		int			column = entry->resno - 1;
		List	   *known;
		Node	   *expr;

		if (entry->resjunk)
			continue;
		if (column >= pin->natts)
		{
			pin->written = bms_add_member(pin->written, entry->resno);
			continue;
		}
		known = pin->known[column].array ? NIL : pin->known[column].exprs;
		expr = written_substitute((Node *) entry->expr, level);
		if ((list_length(known) == 1 && written_equal(expr, linitial(known))) ||
			(IsA(expr, Var) && ((Var *) expr)->varno == pin->rti &&
			 ((Var *) expr)->varlevelsup == 0 &&
			 ((Var *) expr)->varattno == entry->resno))
			continue;			/* as it is */
		if (!fa_pin_has_value(expr))
		{
			pin->written = bms_add_member(pin->written, entry->resno);
			continue;
		}
		if (pin->becomes == NULL)
			pin->becomes = palloc0(sizeof(List *) * pin->natts);
		pin->becomes[column] = lappend(pin->becomes[column], expr);
	}
}

/* Columns in which a row that MERGE inserts may differ from what it sought. */
static Bitmapset *
written_by_merge(FaLevel *level, FaPin *pin, MergeAction *action)
{
	Bitmapset  *differs = NULL;

	for (int i = 0; i < pin->natts; i++)
	{
		Node	   *expr = NULL;
		ListCell   *lc;

		if (pin->known[i].exprs == NIL)
			continue;
		foreach(lc, action->targetList)
		{
			TargetEntry *entry = lfirst(lc);

			if (entry->resno == i + 1)
				expr = written_substitute((Node *) entry->expr, level);
		}
		if (list_length(pin->known[i].exprs) != 1 ||
			!written_equal(expr, linitial(pin->known[i].exprs)))
			differs = bms_add_member(differs, i + 1);
	}
	return differs;
}

void
fa_pin_find_written(FaLevel *level, FaPin *pin)
{
	Query	   *query = level->query;
	ListCell   *lc;

	if (query->commandType == CMD_UPDATE)
		written_by_update(level, pin, query->targetList);
	if (query->commandType == CMD_INSERT && query->onConflict)
		pin->written = written_by_conflict(query->onConflict->onConflictSet,
											query->resultRelation,
										   query->onConflict->exclRelIndex);
	foreach(lc, query->commandType == CMD_MERGE ? query->mergeActionList : NIL)
	{
		MergeAction *action = lfirst(lc);

		if (action->commandType == CMD_UPDATE)
			written_by_update(level, pin, action->targetList);
		else if (action->commandType == CMD_INSERT)
			pin->written = bms_join(pin->written,
									written_by_merge(level, pin, action));
	}
}

/* Relations under a node of the join tree. */
Bitmapset *
fa_pin_relids(Node *node)
{
	Bitmapset  *relids = NULL;

	if (IsA(node, RangeTblRef))
		return bms_make_singleton(((RangeTblRef *) node)->rtindex);
	if (IsA(node, JoinExpr))
		return bms_join(fa_pin_relids(((JoinExpr *) node)->larg),
						fa_pin_relids(((JoinExpr *) node)->rarg));
	if (IsA(node, FromExpr))
	{
		ListCell   *lc;

		foreach(lc, ((FromExpr *) node)->fromlist)
			relids = bms_join(relids, fa_pin_relids(lfirst(lc)));
	}
	return relids;
}
