/*
 * forecast_state.c
 *	  The predictor's state in the catalog.
 *
 * Saved now and then and when the worker ends; history fills the gap after a
 * restart.  A state that was made for other settings, or by another version
 * of the predictor, is not used: history is read from its beginning instead.
 * reset_predictions() leaves an empty state that says from when to learn; the
 * worker sees that the state is not the one it wrote.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/forecast.h"

#define STATE_MOST_BYTES ((Size) 512 * 1024 * 1024)

/* The one row's time; otherwise when there is none. */
static TimestampTz
time_of(const char *sql, TimestampTz otherwise)
{
	TimestampTz found = otherwise;
	bool		isnull;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the predictor's state");
	if (SPI_processed == 1)
		found = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 1,
												  &isnull));
	PopActiveSnapshot();
	SPI_finish();
	return found;
}

TimestampTz
fa_forecast_state_time(void)
{
	return time_of("SELECT saved FROM fragaffinity.predictor_state", 0);
}

TimestampTz
fa_forecast_network_reset(void)
{
	return time_of("SELECT called FROM fragaffinity.network_reset", DT_NOBEGIN);
}

void
fa_learning_report(const char *part, Size bytes, double step_ms, double share)
{
	(void) fa_spi_exec("INSERT INTO fragaffinity.learning_state"
					   " (part, bytes, step_ms, share, updated)"
					   " VALUES ('%s', " UINT64_FORMAT ", %.3f, %.4f,"
					   "  pg_catalog.clock_timestamp())"
					   " ON CONFLICT (part) DO UPDATE SET"
					   "  bytes = EXCLUDED.bytes, step_ms = EXCLUDED.step_ms,"
					   "  share = EXCLUDED.share, updated = EXCLUDED.updated",
					   part, (uint64) bytes, step_ms, share);
}

static ArrayType *
make_array(int n, Oid type, const int *ints, const int64 *bigints)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = ints ? Int32GetDatum(ints[i]) : Int64GetDatum(bigints[i]);
	return construct_array(values, n, type, ints ? 4 : 8,
						   ints ? true : FLOAT8PASSBYVAL,
						   ints ? TYPALIGN_INT : TYPALIGN_DOUBLE);
}

void
fa_forecast_save(FaForecaster *f)
{
	Oid			types[7] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID,
	INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, BYTEAOID};
	Interval	width = {.time = f->width_us};
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[7];
	Size		size;
	bytea	   *state;

	if (!f->started || f->last_step == f->saved_step)
		return;
	f->busy = true;
	size = fa_predictor_save(f->predictor, NULL, 0);
	if (size > STATE_MOST_BYTES)
	{
		f->busy = false;
		f->saved_step = f->last_step;
		ereport(LOG,
				(errmsg("state of the predictor is too large to be saved: %zu bytes",
						size),
				 errhint("After a restart it is learned from history again.")));
		return;
	}
	state = palloc(VARHDRSZ + size);
	SET_VARSIZE(state, VARHDRSZ + size);
	(void) fa_predictor_save(f->predictor, VARDATA(state), size);
	f->busy = false;

	values[0] = TimestampTzGetDatum(now);
	values[1] = TimestampTzGetDatum(fa_forecast_step_start(f, f->last_step));
	values[2] = IntervalPGetDatum(&width);
	values[3] = PointerGetDatum(make_array(f->nhorizons, INT4OID, f->horizons,
										   NULL));
	values[4] = PointerGetDatum(make_array(f->nnodes, INT4OID, f->node, NULL));
	values[5] = PointerGetDatum(make_array(f->fragments.n, INT8OID, NULL,
										   f->fragments.fragment));
	values[6] = PointerGetDatum(state);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args("INSERT INTO fragaffinity.predictor_state AS s"
							  " (saved, last_step, width, horizons, nodes,"
							  "  fragments, state)"
							  " VALUES ($1, $2, $3, $4, $5, $6, $7)"
							  " ON CONFLICT (one) DO UPDATE SET saved = $1,"
							  "  last_step = $2, width = $3, horizons = $4,"
							  "  nodes = $5, fragments = $6, state = $7",
							  7, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not save the predictor's state");
	PopActiveSnapshot();
	SPI_finish();
	pfree(state);
	f->saved = now;
	f->saved_step = f->last_step;
}

/* The numbers of nodes and fragments, as the state has them. */
static void
restore_maps(FaForecaster *f, ArrayType *nodes, ArrayType *fragments)
{
	Datum	   *values;
	int			n;

	deconstruct_array(nodes, INT4OID, 4, true, TYPALIGN_INT, &values, NULL,
					  &n);
	for (int i = 0; i < n; i++)
		(void) fa_forecast_node_index(f, DatumGetInt32(values[i]));
	deconstruct_array(fragments, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &values, NULL, &n);
	for (int i = 0; i < n; i++)
		(void) fa_numbering_add(&f->fragments, DatumGetInt64(values[i]));
}

static bool
horizons_fit(const FaForecaster *f, ArrayType *array)
{
	Datum	   *values;
	int			n;

	deconstruct_array(array, INT4OID, 4, true, TYPALIGN_INT, &values, NULL,
					  &n);
	if (n != f->nhorizons)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (DatumGetInt32(values[i]) != f->horizons[i])
			return false;
	}
	return true;
}

static Datum
column(HeapTuple row, TupleDesc desc, int number)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, number, &isnull);

	if (isnull)
		elog(ERROR, "null in the predictor's state");
	return value;
}

bool
fa_forecast_restore(FaForecaster *f, const FaAllocator *allocator)
{
	HeapTuple	row;
	TupleDesc	desc;
	TimestampTz last;
	bytea	   *state;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute("SELECT last_step, width, horizons, nodes, fragments, state"
					" FROM fragaffinity.predictor_state", true, 1) !=
		SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the predictor's state");
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	last = DatumGetTimestampTz(column(row, desc, 1));
	state = DatumGetByteaPP(column(row, desc, 6));
	if (VARSIZE_ANY_EXHDR(state) == 0)
	{
		if (!TIMESTAMP_NOT_FINITE(last))
			f->learn_from = last / f->width_us + 1;
	}
	else if (DatumGetIntervalP(column(row, desc, 2))->time == f->width_us &&
			 horizons_fit(f, DatumGetArrayTypeP(column(row, desc, 3))))
		f->predictor = fa_predictor_restore(VARDATA_ANY(state),
											VARSIZE_ANY_EXHDR(state),
											allocator);
	if (f->predictor)
	{
		restore_maps(f, DatumGetArrayTypeP(column(row, desc, 4)),
					 DatumGetArrayTypeP(column(row, desc, 5)));
		f->last_step = f->saved_step = last / f->width_us;
		f->started = true;
	}
	PopActiveSnapshot();
	SPI_finish();
	return f->predictor != NULL;
}

PG_FUNCTION_INFO_V1(fa_sql_reset_predictions);

/* reset_predictions(since timestamptz) */
Datum
fa_sql_reset_predictions(PG_FUNCTION_ARGS)
{
	TimestampTz since = PG_ARGISNULL(0) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(0);

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to reset predictions")));
	if (fa_node_require_cluster() != fa_node_coordinator())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("predictions are made by the coordinator"),
				 errhint("Call reset_predictions on node \"%s\".",
						 fa_node_find(fa_node_coordinator())->name)));
	if (since > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot learn from history that lies in the future")));
	(void) fa_spi_exec("DELETE FROM fragaffinity.predictor_state");
	(void) fa_spi_exec("DELETE FROM fragaffinity.prediction");
	(void) fa_spi_exec("DELETE FROM fragaffinity.recommendation");
	(void) fa_spi_exec("DELETE FROM fragaffinity.division");
	(void) fa_spi_exec("INSERT INTO fragaffinity.predictor_state"
					   " (saved, last_step, width, horizons, nodes, fragments, state)"
					   " VALUES (pg_catalog.clock_timestamp(), '%s', '0', '{}', '{}', '{}', '')",
					   TIMESTAMP_IS_NOBEGIN(since) ? "-infinity" :
					   timestamptz_to_str(since));
	PG_RETURN_VOID();
}
