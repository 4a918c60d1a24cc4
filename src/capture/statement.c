/*
 * statement.c
 *	  Which fragments a statement would touch, found without running it.
 *
 * The statement is parsed, rewritten and planned; the leaves that the planner
 * did not prune are touched.  Rows of INSERT ... VALUES are placed by their
 * key.  Planning may evaluate functions: a caller with statements that are
 * not its own plans them as their author, in a restricted context.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "capture/statement.h"
#include "catalog/map.h"

#define MOST_ROWS 1000			/* of VALUES that are placed one by one */

static List *
add_fragment(List *fragments, int64 fragment)
{
	ListCell   *lc;
	int64	   *item;

	foreach(lc, fragments)
	{
		if (*(int64 *) lfirst(lc) == fragment)
			return fragments;
	}
	item = palloc(sizeof(int64));
	*item = fragment;
	return lappend(fragments, item);
}

/* Leaves that are left in the plan. */
static List *
plan_fragments(Query *query, const char *statement, List *fragments)
{
	PlannedStmt *plan = pg_plan_query(query, statement, CURSOR_OPT_PARALLEL_OK,
									  NULL);
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		const FaFragment *f = rte->rtekind == RTE_RELATION ?
			fa_map_leaf(rte->relid) : NULL;

		if (f)
			fragments = add_fragment(fragments, f->fragment);
	}
	return fragments;
}

static List *
statement_fragments(const char *statement, List *fragments)
{
	ListCell   *lc;

	foreach(lc, pg_parse_query(statement))
	{
		Oid		   *types = NULL;
		int			ntypes = 0;
		ListCell   *lq;
		List	   *queries = pg_analyze_and_rewrite_varparams(lfirst_node(RawStmt, lc),
															   statement, &types, &ntypes,
															   NULL);

		foreach(lq, queries)
		{
			Query	   *query = lfirst_node(Query, lq);

			/* a parameter that is not filled in prunes nothing */
			if (query->commandType != CMD_UTILITY && ntypes == 0)
				fragments = plan_fragments(query, statement, fragments);
		}
	}
	return fragments;
}

/* Where a row with this key lives. */
static List *
place_key(List *fragments, Oid rel, AttrNumber key, Const *value)
{
	Oid			out;
	bool		varlena;

	if (value->constisnull)
		return fragments;
	getTypeOutputInfo(value->consttype, &out, &varlena);
	return statement_fragments(psprintf("SELECT FROM %s WHERE %s = %s",
										quote_qualified_identifier(get_namespace_name(get_rel_namespace(rel)),
																   get_rel_name(rel)),
										quote_identifier(get_attname(rel, key, false)),
										quote_literal_cstr(OidOutputFunctionCall(out, value->constvalue))),
							   fragments);
}

static List *
place_expression(List *fragments, Oid rel, AttrNumber key, Node *expr)
{
	Node	   *value = eval_const_expressions(NULL, expr);

	return IsA(value, Const) ?
		place_key(fragments, rel, key, (Const *) value) : fragments;
}

/* Keys of INSERT ... VALUES that are constants. */
static List *
insert_fragments(Query *query, List *fragments)
{
	RangeTblEntry *target = rt_fetch(query->resultRelation, query->rtable);
	const FaTable *table = fa_map_table(target->relid);
	AttrNumber	key = table ? table->key : InvalidAttrNumber;
	ListCell   *lc;

	foreach(lc, table ? query->targetList : NIL)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = strip_implicit_coercions((Node *) entry->expr);
		RangeTblEntry *values = NULL;
		int			n = 0;
		ListCell   *row;

		if (entry->resno != key)
			continue;
		if (IsA(expr, Var))
			values = rt_fetch(((Var *) expr)->varno, query->rtable);
		if (values == NULL || values->rtekind != RTE_VALUES)
			return place_expression(fragments, target->relid, key, expr);
		foreach(row, values->values_lists)
		{
			if (n++ == MOST_ROWS)
				break;
			fragments = place_expression(fragments, target->relid, key,
										 list_nth(lfirst(row),
												  ((Var *) expr)->varattno - 1));
		}
	}
	return fragments;
}

List *
fa_statement_fragments(const char *statement)
{
	List	   *fragments = statement_fragments(statement, NIL);
	ListCell   *lc;

	foreach(lc, pg_parse_query(statement))
	{
		Oid		   *types = NULL;
		int			ntypes = 0;
		ListCell   *lq;

		if (!IsA(lfirst_node(RawStmt, lc)->stmt, InsertStmt))
			continue;
		foreach(lq, pg_analyze_and_rewrite_varparams(lfirst_node(RawStmt, lc),
													 statement, &types, &ntypes,
													 NULL))
		{
			Query	   *query = lfirst_node(Query, lq);

			if (query->commandType == CMD_INSERT && ntypes == 0)
				fragments = insert_fragments(query, fragments);
		}
	}
	return fragments;
}

/* Values of "parameters: $1 = '...', $2 = NULL", by number from 1. */
static char **
read_parameters(const char *detail, int *n_p)
{
	char	  **value = palloc0(sizeof(char *) * 1000);
	const char *at;
	int			n = 0;

	*n_p = 0;
	if (detail == NULL)
		return value;
	at = strstr(detail, "parameters: ");
	if (at == NULL)
		at = strstr(detail, "Parameters: ");
	at = at ? at + strlen("parameters: ") : NULL;
	while (at && *at == '$' && n < 999)
	{
		char	   *end;
		long		number = strtol(at + 1, &end, 10);
		const char *from;

		if (number != n + 1 || strncmp(end, " = ", 3) != 0)
			break;
		from = at = end + 3;
		if (*at == '\'')
		{
			for (at++; *at && (*at != '\'' || at[1] == '\''); at++)
				at += *at == '\'';
			if (*at == '\0')
				break;
			at++;
		}
		else
			at += strcspn(at, ",");
		value[++n] = pnstrdup(from, at - from);
		at = strncmp(at, ", ", 2) == 0 ? at + 2 : NULL;
	}
	*n_p = n;
	return value;
}

/* Puts the values in; quoted parts of the statement are left alone. */
static char *
fill_parameters(const char *statement, const char *detail)
{
	int			n;
	char	  **value = read_parameters(detail, &n);
	StringInfoData buf;
	char		quote = 0;

	if (n == 0)
		return pstrdup(statement);
	initStringInfo(&buf);
	for (const char *at = statement; *at; at++)
	{
		if (quote)
			quote = *at == quote ? 0 : quote;
		else if (*at == '\'' || *at == '"')
			quote = *at;
		else if (*at == '$' && isdigit((unsigned char) at[1]))
		{
			char	   *end;
			long		number = strtol(at + 1, &end, 10);

			if (number >= 1 && number <= n)
			{
				appendStringInfoString(&buf, value[number]);
				at = end - 1;
				continue;
			}
		}
		appendStringInfoChar(&buf, *at);
	}
	return buf.data;
}

char *
fa_statement_of_log(const FaLogRecord *record, double *elapsed_ms_p)
{
	const char *at = record->message;
	char	   *end;

	if (at == NULL)
		return NULL;
	if (strncmp(at, "duration: ", 10) == 0)
	{
		double		ms = strtod(at + 10, &end);

		if (end == at + 10 || strncmp(end, " ms  ", 5) != 0)
			return NULL;
		*elapsed_ms_p = ms;
		at = end + 5;
	}
	if (strncmp(at, "statement: ", 11) == 0)
		return pstrdup(at + 11);
	if (strncmp(at, "execute ", 8) != 0)
		return NULL;
	at = strstr(at, ": ");
	return at ? fill_parameters(at + 2, record->detail) : NULL;
}

PG_FUNCTION_INFO_V1(fa_sql_statement_fragments);

/* statement_fragments(statement text): planned with the caller's rights. */
Datum
fa_sql_statement_fragments(PG_FUNCTION_ARGS)
{
	char	   *statement = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List	   *fragments;
	Datum	   *values;
	int			n = 0;
	ListCell   *lc;

	PushActiveSnapshot(GetTransactionSnapshot());
	fragments = fa_statement_fragments(statement);
	PopActiveSnapshot();
	values = palloc(sizeof(Datum) * (list_length(fragments) + 1));
	foreach(lc, fragments)
		values[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, INT8OID, 8,
										  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
