/*
 * copy_text.c
 *	  What a peer gets of a line of a COPY.
 *
 * The line as it is, when it is in the format that peers read, and all of its
 * values mean the same in any session.  Else fields in that format; those whose
 * meaning depends on settings are read here, and written as all servers read
 * them.  What defaults depend on is here, too: so they are computed here, once,
 * as none of them is volatile.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/copyfrom_internal.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/plain_output.h"
#include "route/copy_writers.h"

/* Is the text of a value the same value in every session? */
static bool
type_is_settled(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case UUIDOID:
		case BYTEAOID:
		case JSONOID:
		case JSONBOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
			return true;
		default:
			return false;
	}
}

static void
text_output(Oid type, FmgrInfo *output)
{
	Oid			function;
	bool		varlena;

	getTypeOutputInfo(type, &function, &varlena);
	fmgr_info(function, output);
}

/* Columns that are not in the line, but have a default that is not constant. */
static void
text_add_defaults(FaCopyText *text)
{
	Relation	rel = text->state->rel;
	TupleDesc	desc = RelationGetDescr(rel);
	FaRowStream *row = fa_row_stream_hold();
	EState	   *estate = CreateExecutorState();
	FaPlainOutput own;

	fa_plain_output_begin(&own);
	PG_TRY();
	{
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);
			Node	   *expr;
			FmgrInfo	output;
			Datum		value;
			bool		isnull;

			if (att->attisdropped || att->attgenerated != '\0' ||
				!att->atthasdef ||
				list_member_int(text->state->attnumlist, i + 1) ||
				!contain_mutable_functions(expr = build_column_default(rel, i + 1)))
				continue;
			value = ExecEvalExprSwitchContext(ExecPrepareExpr((Expr *) expr, estate),
											  GetPerTupleExprContext(estate),
											  &isnull);
			text_output(att->atttypid, &output);
			fa_row_stream_value(row, isnull ? NULL :
								OutputFunctionCall(&output, value), false);
			text->columns = lappend(text->columns,
									pstrdup(NameStr(att->attname)));
		}
	}
	PG_FINALLY();
	{
		fa_plain_output_end(&own);
	}
	PG_END_TRY();
	FreeExecutorState(estate);
	text->defaults = row->buf.data;
}

void
fa_copy_text_begin(FaCopyText *text, CopyFromState state)
{
	TupleDesc	desc = RelationGetDescr(state->rel);
	ListCell   *lc;

	memset(text, 0, sizeof(*text));
	text->state = state;
	text->as_it_is = !state->opts.csv_mode &&
		strcmp(state->opts.delim, "\t") == 0 &&
		strcmp(state->opts.null_print, "\\N") == 0;
	text->output = palloc0(sizeof(FmgrInfo) * list_length(state->attnumlist));
	foreach(lc, state->attnumlist)
	{
		Form_pg_attribute att = TupleDescAttr(desc, lfirst_int(lc) - 1);

		text->columns = lappend(text->columns,
								pstrdup(NameStr(att->attname)));
		if (type_is_settled(att->atttypid))
			continue;
		text_output(att->atttypid, &text->output[foreach_current_index(lc)]);
		text->as_it_is = false;
	}
	text_add_defaults(text);
	text->row = fa_row_stream_hold();
	text->context = AllocSetContextCreate(CurrentMemoryContext,
										  "fragaffinity COPY text",
										  ALLOCSET_DEFAULT_SIZES);
}

/* A field as a value of any session. */
static char *
text_settle(FaCopyText *text, int field, char *string)
{
	CopyFromState state = text->state;
	int			i = list_nth_int(state->attnumlist, field) - 1;
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(state->rel), i);
	FaPlainOutput own;
	Datum		value;

	state->cur_attname = NameStr(att->attname);
	state->cur_attval = string;
	value = InputFunctionCall(&state->in_functions[i], string,
							  state->typioparams[i], att->atttypmod);
	state->cur_attname = NULL;
	state->cur_attval = NULL;
	fa_plain_output_begin(&own);
	PG_TRY();
	{
		string = OutputFunctionCall(&text->output[field], value);
	}
	PG_FINALLY();
	{
		fa_plain_output_end(&own);
	}
	PG_END_TRY();
	return string;
}

StringInfo
fa_copy_text_line(FaCopyText *text, char **fields, int len)
{
	int			n = list_length(text->state->attnumlist);
	MemoryContext caller;

	resetStringInfo(&text->row->buf);
	if (text->as_it_is)
		appendBinaryStringInfo(&text->row->buf, text->state->line_buf.data, len);
	else
	{
		MemoryContextReset(text->context);
		caller = MemoryContextSwitchTo(text->context);
		for (int i = 0; i < n; i++)
		{
			char	   *value = fields[i];

			if (value && OidIsValid(text->output[i].fn_oid))
				value = text_settle(text, i, value);
			fa_row_stream_value(text->row, value, i == 0);
		}
		MemoryContextSwitchTo(caller);
	}
	appendStringInfoString(&text->row->buf, text->defaults);
	return &text->row->buf;
}
