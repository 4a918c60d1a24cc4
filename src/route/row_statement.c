/*
 * row_statement.c
 *	  Plans of statements about one row, whose values are parameters.
 *
 * They are statements on the user's table, without row security, and are planned as
 * any others: they find the row's fragment wherever it is when they are executed.
 * What they may do has been checked for the statement that they are part of.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "core/fa_compat.h"
#include "route/row_image.h"

/* The statement, which only names the target. */
static Query *
statement_parse(FaRowPlan *plan, const char *sql)
{
	TupleDesc	desc = RelationGetDescr(plan->rel);
	int			ntypes = plan->first + FA_ROW_IMAGES * desc->natts;
	Oid		   *types = palloc0(sizeof(Oid) * Max(ntypes, 1));
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	Query	   *query;
	ListCell   *lc;

	for (int i = plan->first; i < ntypes; i++)
		types[i] = TupleDescAttr(desc, (i - plan->first) % desc->natts)->atttypid;
	query = parse_analyze_fixedparams(raw, sql, types, ntypes, NULL);
	foreach(lc, query->rtable)
		fa_rte_check_nothing(query, lfirst(lc));
	return query;
}

static PlannedStmt *
statement_plan(FaRowPlan *plan, const char *sql)
{
	return planner(statement_parse(plan, sql), sql, 0, NULL);
}

static const char *
statement_table(FaRowPlan *plan)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(plan->rel)),
									  RelationGetRelationName(plan->rel));
}

static const char *
statement_column(FaRowPlan *plan, AttrNumber attno)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(plan->rel), attno - 1)->attname));
}

static void
statement_columns(StringInfo buf, FaRowPlan *plan, List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
		appendStringInfo(buf, "%s%s", foreach_current_index(lc) ? ", " : "",
						 statement_column(plan, lfirst_int(lc)));
}

/* "=" of a type, whatever the search path. */
static char *
statement_equals(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(entry->eq_opr));
	Form_pg_operator op;
	char	   *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type %u has no equality", type);
	op = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(op->oprnamespace)),
					NameStr(op->oprname));
	ReleaseSysCache(tuple);
	return text;
}

/* Nulls are in conflict where an index has them not distinct. */
static void
statement_where(StringInfo buf, FaRowPlan *plan, FaRowImage image, List *key)
{
	ListCell   *lc;

	foreach(lc, key)
	{
		AttrNumber	attno = lfirst_int(lc);
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(plan->rel), attno - 1);
		const char *column = statement_column(plan, attno);
		int			number = fa_row_parameter(plan, image, attno);

		appendStringInfo(buf, " %s (%s %s $%d",
						 foreach_current_index(lc) ? "AND" : "WHERE", column,
						 statement_equals(att->atttypid), number);
		if (!att->attnotnull)
			appendStringInfo(buf, " OR (%s IS NULL AND $%d IS NULL)", column, number);
		appendStringInfoChar(buf, ')');
	}
}

/* The planner wants them in the table's order. */
static int
statement_compare_targets(const ListCell *a, const ListCell *b)
{
	return lfirst_node(TargetEntry, a)->resno - lfirst_node(TargetEntry, b)->resno;
}

PlannedStmt *
fa_row_insert_plan(FaRowPlan *plan, List *columns, List *arbiter)
{
	StringInfoData buf;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s (", statement_table(plan));
	statement_columns(&buf, plan, columns);
	appendStringInfoString(&buf, ") VALUES (");
	foreach(lc, columns)
		appendStringInfo(&buf, "%s$%d", foreach_current_index(lc) ? ", " : "",
						 fa_row_parameter(plan, FA_ROW_NEW, lfirst_int(lc)));
	appendStringInfoChar(&buf, ')');
	if (arbiter != NIL)
	{
		appendStringInfoString(&buf, " ON CONFLICT (");
		statement_columns(&buf, plan, arbiter);
		appendStringInfoString(&buf, ") DO NOTHING");
	}
	query = statement_parse(plan, buf.data);
	/* defaults that a peer computes itself (fa_whole_named_targets) */
	foreach(lc, plan->query->commandType == CMD_INSERT ? plan->query->targetList : NIL)
	{
		TargetEntry *entry = lfirst(lc);

		if (!entry->resjunk && !list_member_int(columns, entry->resno))
			query->targetList = lappend(query->targetList, copyObject(entry));
	}
	list_sort(query->targetList, statement_compare_targets);
	return planner(query, buf.data, 0, NULL);
}

PlannedStmt *
fa_row_lock_plan(FaRowPlan *plan, FaRowImage image, List *key, List *columns)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	statement_columns(&buf, plan, columns);
	appendStringInfo(&buf, " FROM %s", statement_table(plan));
	statement_where(&buf, plan, image, key);
	appendStringInfoString(&buf, " LIMIT 1 FOR NO KEY UPDATE");
	return statement_plan(plan, buf.data);
}

PlannedStmt *
fa_row_update_plan(FaRowPlan *plan, List *key, List *columns)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "UPDATE %s SET ", statement_table(plan));
	foreach(lc, columns)
		appendStringInfo(&buf, "%s%s = $%d", foreach_current_index(lc) ? ", " : "",
						 statement_column(plan, lfirst_int(lc)),
						 fa_row_parameter(plan, FA_ROW_CHANGED, lfirst_int(lc)));
	statement_where(&buf, plan, FA_ROW_OLD, key);
	return statement_plan(plan, buf.data);
}

PlannedStmt *
fa_row_delete_plan(FaRowPlan *plan, List *key)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "DELETE FROM %s", statement_table(plan));
	statement_where(&buf, plan, FA_ROW_OLD, key);
	return statement_plan(plan, buf.data);
}
