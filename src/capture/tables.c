/*
 * tables.c
 *	  Writing batches into the catalog.
 *
 * A batch is one statement whose parameters are arrays in text form; the
 * collector passes on arrays as text just as they came from a peer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "capture/tables.h"
#include "core/background.h"

void
fa_stats_begin(void)
{
	fa_background_begin();
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
fa_stats_commit(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
}

uint64
fa_stats_exec(const char *sql, int nparams, char **params)
{
	Oid		   *types = palloc(sizeof(Oid) * Max(nparams, 1));
	Datum	   *values = palloc(sizeof(Datum) * Max(nparams, 1));
	char	   *nulls = palloc(Max(nparams, 1));
	uint64		processed;
	int			rc;

	for (int i = 0; i < nparams; i++)
	{
		types[i] = TEXTOID;
		nulls[i] = params[i] ? ' ' : 'n';
		values[i] = params[i] ? CStringGetTextDatum(params[i]) : (Datum) 0;
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	rc = SPI_execute_with_args(sql, nparams, types, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(rc));
	processed = SPI_processed;
	SPI_finish();
	return processed;
}

static void
array_separate(StringInfo buf)
{
	appendStringInfoChar(buf, buf->len == 0 ? '{' : ',');
}

void
fa_array_add_int(StringInfo buf, int64 value)
{
	array_separate(buf);
	appendStringInfo(buf, INT64_FORMAT, value);
}

void
fa_array_add_float(StringInfo buf, double value)
{
	array_separate(buf);
	appendStringInfo(buf, "%.17g", value);
}

void
fa_array_add_text(StringInfo buf, const char *value)
{
	array_separate(buf);
	appendStringInfoChar(buf, '"');
	for (const char *p = value; *p; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, *p);
	}
	appendStringInfoChar(buf, '"');
}

char *
fa_array_finish(StringInfo buf)
{
	if (buf->len == 0)
		appendStringInfoChar(buf, '{');
	appendStringInfoChar(buf, '}');
	return buf->data;
}
