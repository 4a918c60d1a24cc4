/*
 * spi.c
 *	  Short forms of SPI; see spi.h.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "core/format.h"
#include "core/spi.h"

/* Settings that the user's code changes meanwhile would be ours: taken back. */
static int
spi_execute_as(Oid user, const char *sql)
{
	SPIPlanPtr	plan = SPI_prepare(sql, 0, NULL);
	Oid			ourselves;
	int			sec_context;
	int			guc_level;
	int			ret;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	GetUserIdAndSecContext(&ourselves, &sec_context);
	SetUserIdAndSecContext(user, sec_context | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	ret = SPI_execute_plan(plan, NULL, NULL, false, 0);
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(ourselves, sec_context);
	return ret;
}

/*
 * Connects and runs, as the user if there is one; the caller copies what it
 * wants and finishes.
 */
static uint64
spi_run(Oid user, const char *sql, bool read_only)
{
	int			ret;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	ret = OidIsValid(user) ? spi_execute_as(user, sql) :
		SPI_execute(sql, read_only, 0);
	if (ret < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(ret));
	return SPI_processed;
}

/* Background workers have no snapshot of their own when they come here. */
static bool
spi_need_snapshot(void)
{
	if (ActiveSnapshotSet())
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

uint64
fa_spi_exec_as(Oid user, const char *sql)
{
	uint64		n;
	bool		pushed = spi_need_snapshot();

	n = spi_run(user, sql, false);
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();
	return n;
}

uint64
fa_spi_exec(const char *fmt,...)
{
	char	   *sql;
	uint64		n;

	FA_FORMAT(sql, fmt);
	n = fa_spi_exec_as(InvalidOid, sql);
	pfree(sql);
	return n;
}

static FaRows *
spi_copy_rows(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	FaRows	   *rows = palloc0(sizeof(FaRows));

	if (SPI_tuptable != NULL)
	{
		rows->nrows = (int) SPI_tuptable->numvals;
		rows->ncols = SPI_tuptable->tupdesc->natts;
		rows->value = palloc(sizeof(char **) * Max(rows->nrows, 1));
	}
	for (int i = 0; i < rows->nrows; i++)
	{
		rows->value[i] = palloc(sizeof(char *) * rows->ncols);
		for (int j = 0; j < rows->ncols; j++)
			rows->value[i][j] = SPI_getvalue(SPI_tuptable->vals[i],
											 SPI_tuptable->tupdesc, j + 1);
	}
	MemoryContextSwitchTo(old);
	return rows;
}

FaRows *
fa_spi_rows_as(Oid user, const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	FaRows	   *rows;
	bool		pushed = spi_need_snapshot();

	(void) spi_run(user, sql, false);
	rows = spi_copy_rows(context);
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();
	return rows;
}

FaRows *
fa_spi_rows(const char *fmt,...)
{
	char	   *sql;

	FA_FORMAT(sql, fmt);
	return fa_spi_rows_as(InvalidOid, sql);
}

FaRows *
fa_spi_rows_latest(const char *fmt,...)
{
	MemoryContext context = CurrentMemoryContext;
	FaRows	   *rows;
	char	   *sql;

	FA_FORMAT(sql, fmt);
	PushActiveSnapshot(GetLatestSnapshot());
	(void) spi_run(InvalidOid, sql, true);
	rows = spi_copy_rows(context);
	SPI_finish();
	PopActiveSnapshot();
	return rows;
}

char *
fa_spi_value(const char *fmt,...)
{
	char	   *sql;
	FaRows	   *rows;

	FA_FORMAT(sql, fmt);
	rows = fa_spi_rows_as(InvalidOid, sql);
	return rows->nrows > 0 && rows->ncols > 0 ? rows->value[0][0] : NULL;
}
