/*
 * decode.c
 *	  Output plugin: the changes of one leaf, for the logical path of a move.
 *
 * Runs in a walsender on the source.  The mover makes a temporary slot with
 * this plugin, so nothing is left when it dies.  The format is in changes.h.
 */
#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "libpq/pqformat.h"
#include "replication/logical.h"
#include "replication/output_plugin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "migrate/changes.h"

typedef struct DecodeState
{
	Oid			relation;		/* leaf whose changes are wanted */
	bool		described;		/* columns sent */
	MemoryContext row_context;	/* reset after each change */
} DecodeState;

extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *cb);

/*
 * Stored generated columns too: without them a full replica identity would
 * not be found.
 */
static bool
column_is_sent(Form_pg_attribute att)
{
	return !att->attisdropped &&
		(att->attgenerated == '\0' ||
		 att->attgenerated == ATTRIBUTE_GENERATED_STORED);
}

static void
write_columns(StringInfo out, TupleDesc desc)
{
	int			n = 0;

	for (int i = 0; i < desc->natts; i++)
		n += column_is_sent(TupleDescAttr(desc, i));
	pq_sendbyte(out, 'R');
	pq_sendbyte(out, FA_CHANGES_VERSION);
	pq_sendint16(out, n);
	for (int i = 0; i < desc->natts; i++)
	{
		if (column_is_sent(TupleDescAttr(desc, i)))
			pq_sendstring(out, NameStr(TupleDescAttr(desc, i)->attname));
	}
}

static void
write_row(StringInfo out, TupleDesc desc, HeapTuple tuple)
{
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	int			n = 0;

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
		n += column_is_sent(TupleDescAttr(desc, i));
	pq_sendint16(out, n);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid			output;
		bool		isvarlena;
		char	   *text;
		int			len;

		if (!column_is_sent(att))
			continue;
		if (nulls[i])
		{
			pq_sendbyte(out, 'n');
			continue;
		}
		if (att->attlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
		{
			pq_sendbyte(out, 'u');
			continue;
		}
		getTypeOutputInfo(att->atttypid, &output, &isvarlena);
		text = OidOutputFunctionCall(output, values[i]);
		len = strlen(text);
		pq_sendbyte(out, 't');
		pq_sendint32(out, len);
		pq_sendbytes(out, text, len);
	}
}

static void
decode_startup(LogicalDecodingContext *ctx, OutputPluginOptions *opt,
			   bool is_init)
{
	DecodeState *state = palloc0(sizeof(DecodeState));
	ListCell   *lc;

	ctx->output_plugin_private = state;
	opt->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	state->row_context = AllocSetContextCreate(ctx->context,
											   "fragaffinity decoded row",
											   ALLOCSET_DEFAULT_SIZES);
	foreach(lc, ctx->output_plugin_options)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "relation") == 0 && def->arg)
			state->relation = atooid(strVal(def->arg));
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized option \"%s\" of output plugin \"fragaffinity\"",
							def->defname)));
	}
	if (!is_init && !OidIsValid(state->relation))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("output plugin \"fragaffinity\" needs the option \"relation\"")));
}

static void
decode_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	/* sent with the first change that is wanted */
	txn->output_plugin_private = NULL;
}

/* Sends what precedes a change: the begin of its transaction. */
static void
decode_ensure_begun(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	if (txn->output_plugin_private != NULL)
		return;
	txn->output_plugin_private = txn;	/* only a mark */
	OutputPluginPrepareWrite(ctx, false);
	pq_sendbyte(ctx->out, 'B');
	OutputPluginWrite(ctx, false);
}

static void
decode_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn,
			  XLogRecPtr commit_lsn)
{
	bool		sent = txn->output_plugin_private != NULL;

	txn->output_plugin_private = NULL;
	OutputPluginUpdateProgress(ctx, !sent);
	if (!sent)
		return;
	OutputPluginPrepareWrite(ctx, true);
	pq_sendbyte(ctx->out, 'C');
	OutputPluginWrite(ctx, true);
}

static void
decode_describe(LogicalDecodingContext *ctx, DecodeState *state,
				TupleDesc desc)
{
	if (state->described)
		return;
	OutputPluginPrepareWrite(ctx, false);
	write_columns(ctx->out, desc);
	OutputPluginWrite(ctx, false);
	state->described = true;
}

static void
decode_write_change(StringInfo out, TupleDesc desc, ReorderBufferChange *change)
{
	HeapTuple	old = fa_change_tuple(change->data.tp.oldtuple);
	HeapTuple	new = fa_change_tuple(change->data.tp.newtuple);

	switch (change->action)
	{
		case REORDER_BUFFER_CHANGE_INSERT:
			pq_sendbyte(out, 'I');
			write_row(out, desc, new);
			break;
		case REORDER_BUFFER_CHANGE_UPDATE:
			pq_sendbyte(out, 'U');
			pq_sendbyte(out, old ? 'o' : '-');
			if (old)
				write_row(out, desc, old);
			write_row(out, desc, new);
			break;
		case REORDER_BUFFER_CHANGE_DELETE:
			if (old == NULL)
				elog(ERROR, "deleted row has no replica identity");
			pq_sendbyte(out, 'D');
			write_row(out, desc, old);
			break;
		default:
			elog(ERROR, "unexpected change of a row: %d", (int) change->action);
	}
}

static void
decode_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn,
			  Relation relation, ReorderBufferChange *change)
{
	DecodeState *state = ctx->output_plugin_private;
	TupleDesc	desc = RelationGetDescr(relation);
	MemoryContext old;

	if (RelationGetRelid(relation) != state->relation)
		return;
	decode_ensure_begun(ctx, txn);
	old = MemoryContextSwitchTo(state->row_context);
	decode_describe(ctx, state, desc);
	OutputPluginPrepareWrite(ctx, true);
	decode_write_change(ctx->out, desc, change);
	OutputPluginWrite(ctx, true);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
}

static void
decode_truncate(LogicalDecodingContext *ctx, ReorderBufferTXN *txn,
				int nrelations, Relation relations[],
				ReorderBufferChange *change)
{
	DecodeState *state = ctx->output_plugin_private;

	for (int i = 0; i < nrelations; i++)
	{
		if (RelationGetRelid(relations[i]) != state->relation)
			continue;
		decode_ensure_begun(ctx, txn);
		OutputPluginPrepareWrite(ctx, true);
		pq_sendbyte(ctx->out, 'T');
		OutputPluginWrite(ctx, true);
	}
}

void
_PG_output_plugin_init(OutputPluginCallbacks *cb)
{
	cb->startup_cb = decode_startup;
	cb->begin_cb = decode_begin;
	cb->change_cb = decode_change;
	cb->truncate_cb = decode_truncate;
	cb->commit_cb = decode_commit;
}
