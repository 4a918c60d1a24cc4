/*
 * refusal.c
 *	  PostgreSQL's errors about partitions, in the words of the user's table.
 *
 * Buckets and leaves are not the user's business, and an error about them does
 * not say what to do.  Errors that only they can cause are replaced:
 *
 *	- a row that no bucket takes has no key: 23502, as on a plain table
 *	- a row that does not fit into its leaf any more, because its key is
 *	  another one than the statement's pin said, would have to go to another
 *	  fragment: 0A000
 *	- an upsert or MERGE of several fragments, or of another node's in WITH,
 *	  which has no plan
 *
 * Peers do so for what they run; what postgres_fdw raises has the result.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/refusal.h"

static bool
refusal_is(const ErrorData *edata, const char *message)
{
	return edata->message_id && strcmp(edata->message_id, message) == 0;
}

/* The distributed table that the relation of an error is part of. */
static const FaTable *
refusal_table(const ErrorData *edata)
{
	Oid			namespace;
	Oid			relid;
	List	   *ancestors;

	if (edata->schema_name == NULL || edata->table_name == NULL)
		return NULL;
	namespace = get_namespace_oid(edata->schema_name, true);
	relid = OidIsValid(namespace) ?
		get_relname_relid(edata->table_name, namespace) : InvalidOid;
	if (!OidIsValid(relid) || !get_rel_relispartition(relid))
		return NULL;
	ancestors = get_partition_ancestors(relid);
	return ancestors == NIL ? NULL : fa_map_table(llast_oid(ancestors));
}

static void
refusal_null_key(ErrorData *edata, const FaTable *table)
{
	char	   *name = get_rel_name(table->rel);
	char	   *key = get_attname(table->rel, table->key, true);

	if (name == NULL || key == NULL)
		return;
	edata->sqlerrcode = ERRCODE_NOT_NULL_VIOLATION;
	edata->message = psprintf(_("null value in column \"%s\" of relation \"%s\" violates not-null constraint"),
							  key, name);
	edata->schema_name = get_namespace_name(get_rel_namespace(table->rel));
	edata->table_name = name;
	edata->column_name = key;
}

static void
refusal_row_moves(ErrorData *edata, const char *name)
{
	edata->sqlerrcode = ERRCODE_FEATURE_NOT_SUPPORTED;
	edata->message = psprintf("cannot move a row of \"%s\" to another fragment by a change of its key",
							  name);
	edata->hint = pstrdup("Delete the row, and insert it with its new key, in one transaction.");
}

void
fa_refusal_of_row(ErrorData *edata, bool changes)
{
	const FaTable *table;

	if (edata->sqlerrcode != ERRCODE_CHECK_VIOLATION || edata->constraint_name)
		return;
	table = refusal_table(edata);
	if (table == NULL)
		return;
	/* a bucket takes every key but none */
	if (refusal_is(edata, "no partition of relation \"%s\" found for row") &&
		strcmp(edata->table_name, get_rel_name(table->rel)) != 0)
		refusal_null_key(edata, table);
	else if (changes &&
			 refusal_is(edata, "new row for relation \"%s\" violates partition constraint"))
		refusal_row_moves(edata, get_rel_name(table->rel));
}

/* Columns by which rows of a table belong to fragments. */
static Bitmapset *
refusal_key(Oid relid)
{
	const FaTable *table = fa_map_table(relid);
	Bitmapset  *columns = NULL;
	PartitionKey key;
	Relation	rel;

	if (table == NULL)
		return NULL;
	columns = bms_add_member(columns, table->key);
	rel = relation_open(relid, NoLock);
	key = RelationGetPartitionKey(rel);
	for (int i = 0; i < key->partnatts; i++)
		columns = bms_add_member(columns, key->partattrs[i]);
	relation_close(rel, NoLock);
	return columns;
}

/* Is one of the columns set to anything but what it is? */
static bool
refusal_sets(List *targets, Index rti, Bitmapset *columns)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		TargetEntry *entry = lfirst(lc);
		Var		   *var = (Var *) entry->expr;

		if (!entry->resjunk && bms_is_member(entry->resno, columns) &&
			!(IsA(var, Var) && var->varno == rti &&
			  var->varattno == entry->resno))
			return true;
	}
	return false;
}

/* Are the rows of an INSERT all given by it? */
static bool
refusal_gives_rows(Query *query)
{
	List	   *from = query->jointree->fromlist;

	return query->commandType == CMD_INSERT &&
		(from == NIL ||
		 (list_length(from) == 1 && IsA(linitial(from), RangeTblRef) &&
		  rt_fetch(linitial_node(RangeTblRef, from)->rtindex,
				   query->rtable)->rtekind == RTE_VALUES));
}

/* The upsert or MERGE of a distributed table in WITH; NULL: there is none. */
static Query *
refusal_in_with(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->hasModifyingCTE ? query->cteList : NIL)
	{
		Query	   *part = (Query *) ((CommonTableExpr *) lfirst(lc))->ctequery;

		if ((part->onConflict || part->commandType == CMD_MERGE) &&
			fa_map_table(rt_fetch(part->resultRelation, part->rtable)->relid))
			return part;
	}
	return NULL;
}

FaRefusal
fa_refusal_why(Query *query)
{
	Index		rti = query->resultRelation;
	Bitmapset  *key;
	ListCell   *lc;

	if (query->commandType != CMD_MERGE && query->onConflict == NULL)
		return refusal_in_with(query) ? FA_REFUSAL_WITH : FA_REFUSAL_NONE;
	key = refusal_key(rt_fetch(rti, query->rtable)->relid);
	if (query->onConflict && refusal_sets(query->onConflict->onConflictSet, rti, key))
		return FA_REFUSAL_KEY;
	foreach(lc, query->mergeActionList)
	{
		MergeAction *action = lfirst(lc);

		if (action->commandType == CMD_UPDATE &&
			refusal_sets(action->targetList, rti, key))
			return FA_REFUSAL_KEY;
	}
	return refusal_gives_rows(query) ? FA_REFUSAL_SENT : FA_REFUSAL_ROWS;
}

/* Is it by a view that has rights, or conditions, of its own? */
static bool
refusal_is_by_view(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->withCheckOptions)
	{
		if (fa_check_is_of_view(lfirst_node(WithCheckOption, lc)))
			return true;
	}
	return OidIsValid(fa_rte_check_as(query, rt_fetch(query->resultRelation,
													  query->rtable)));
}

void
fa_refusal_of_plan(ErrorData *edata, Query *query, FaRefusal why)
{
	const char *name;
	bool		unplanned;

	if (why == FA_REFUSAL_WITH)
	{
		if (edata->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE)
			edata->hint = pstrdup("In WITH, what is set and returned by an upsert can neither be the key nor be read from other parts of WITH, unless its rows are of one fragment of this node.");
		else if (refusal_is(edata, "cannot execute MERGE on relation \"%s\""))
		{
			edata->message = pstrdup("cannot execute MERGE in WITH on rows of several fragments, or of another node");
			edata->detail = NULL;
			edata->hint = pstrdup("Use a statement of its own, or INSERT ... ON CONFLICT.");
		}
		return;
	}
	name = get_rel_name(rt_fetch(query->resultRelation, query->rtable)->relid);
	unplanned = query->onConflict ?
		edata->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE :
		refusal_is(edata, "cannot execute MERGE on relation \"%s\"");
	if (unplanned && why == FA_REFUSAL_KEY)
	{
		edata->sqlerrcode = ERRCODE_FEATURE_NOT_SUPPORTED;
		edata->message = psprintf("cannot change the key of a row of \"%s\" by %s",
								  name, query->onConflict ?
								  "ON CONFLICT DO UPDATE" : "MERGE");
		edata->detail = NULL;
		edata->hint = pstrdup("Use UPDATE, which takes rows to the fragments of their new keys.");
	}
	else if (unplanned && query->onConflict)
		edata->hint = refusal_is_by_view(query) ?
			psprintf("Rows of other nodes can be upserted into \"%s\" itself, or by a view WITH (security_invoker) that has no condition.",
					 name) :
			why == FA_REFUSAL_ROWS ?
			psprintf("Rows of several fragments of \"%s\" can be upserted when they are given by VALUES.",
					 name) :
			pstrdup("What is computed from its rows must be so by immutable built-in functions, and without other tables' rows, for their owners to do it.");
	else if (query->commandType == CMD_MERGE &&
			 refusal_is(edata, "cannot execute MERGE on relation \"%s\""))
	{
		edata->message = psprintf("cannot execute MERGE on rows of several fragments of \"%s\"",
								  name);
		edata->detail = NULL;
		edata->hint = pstrdup("Add a condition by which the key equals a value, or use INSERT ... ON CONFLICT with VALUES.");
	}
}
