/*
 * forecast_batch.c
 *	  Steps of history from the catalog to the predictor.
 *
 * With a step's accesses goes what was foreseen at its end, where that is
 * still kept: what open sessions were about to do, and what roles did.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "placement/forecast.h"

static SPITupleTable *
select_between(const char *sql, int64 from_us, int64 to_us, int64 width_us)
{
	Oid			types[3] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID};
	Interval	width = {.time = width_us};
	Datum		values[3];

	values[0] = TimestampTzGetDatum(from_us);
	values[1] = TimestampTzGetDatum(to_us);
	values[2] = IntervalPGetDatum(&width);
	if (SPI_execute_with_args(sql, 3, types, values, NULL, true, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read history");
	return SPI_tuptable;
}

/*
 * Puts rows of step, node, fragment and a number where they are needed, one by
 * one: a batch can be of millions, and a table of them would be copied twice.
 */
typedef struct CellReceiver
{
	DestReceiver pub;
	FaForecaster *f;
	MemoryContext context;		/* of the arrays */
	int			allocated;
	int			n;
	int64	   *step;
	FaCell	   *cells;
} CellReceiver;

static void
receiver_grow(CellReceiver *r)
{
	r->allocated = r->allocated ? 2 * r->allocated : 1024;
	if (r->cells == NULL)
	{
		r->step = MemoryContextAllocHuge(r->context, sizeof(int64) * r->allocated);
		r->cells = MemoryContextAllocHuge(r->context, sizeof(FaCell) * r->allocated);
		return;
	}
	r->step = repalloc_huge(r->step, sizeof(int64) * r->allocated);
	r->cells = repalloc_huge(r->cells, sizeof(FaCell) * r->allocated);
}

static bool
receive_cell(TupleTableSlot *slot, DestReceiver *self)
{
	CellReceiver *r = (CellReceiver *) self;

	if (r->n == r->allocated)
		receiver_grow(r);
	slot_getallattrs(slot);
	r->step[r->n] =
		fa_forecast_step_of(r->f, DatumGetTimestampTz(slot->tts_values[0]));
	r->cells[r->n++] = (FaCell) {
		.node = fa_forecast_node_index(r->f, DatumGetInt32(slot->tts_values[1])),
		.fragment = fa_numbering_add(&r->f->fragments,
									 DatumGetInt64(slot->tts_values[2])),
		.count = DatumGetFloat8(slot->tts_values[3])
	};
	return true;
}

static void
receiver_begin(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receiver_end(DestReceiver *self)
{
}

/* Rows of step, node, fragment and a number, in the order of their steps. */
static void
read_cells(FaForecaster *f, MemoryContext outer, const char *sql,
		   TimestampTz from, TimestampTz to, int *n_p, int64 **step_p,
		   FaCell **cells_p)
{
	CellReceiver r = {
		.pub = {receive_cell, receiver_begin, receiver_end, receiver_end, DestTuplestore},
		.f = f,.context = outer
	};
	SPIExecuteOptions options = {.read_only = true,.dest = &r.pub};
	Interval	width = {.time = f->width_us};
	ParamListInfo params = makeParamList(3);

	params->params[0].value = TimestampTzGetDatum(from);
	params->params[1].value = TimestampTzGetDatum(to);
	params->params[2].value = IntervalPGetDatum(&width);
	for (int i = 0; i < 3; i++)
	{
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = i < 2 ? TIMESTAMPTZOID : INTERVALOID;
	}
	options.params = params;
	if (SPI_execute_extended(sql, &options) != SPI_OK_SELECT)
		elog(ERROR, "could not read history");
	*n_p = r.n;
	*step_p = r.step;
	*cells_p = r.cells;
}

/* Column of a row that has no nulls. */
static Datum
value_of(SPITupleTable *table, int row, int column)
{
	bool		isnull;

	return SPI_getbinval(table->vals[row], table->tupdesc, column, &isnull);
}

/* The same number for a role and application on every node. */
static uint64
profile_key(const char *role, const char *application)
{
	uint64		key = hash_bytes_extended((const unsigned char *) application,
										  strlen(application),
										  hash_bytes((const unsigned char *) role,
													 strlen(role)));

	return key ? key : 1;
}

static void
read_use(FaForecaster *f, MemoryContext outer, SPITupleTable *table,
		 FaStepBatch *batch)
{
	int			n = (int) table->numvals;

	batch->use_step = MemoryContextAllocHuge(outer, sizeof(int64) * (n + 1));
	batch->use = MemoryContextAllocHuge(outer, sizeof(FaProfileUse) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		FaProfileUse *u = &batch->use[i];

		batch->use_step[i] =
			fa_forecast_step_of(f, DatumGetTimestampTz(value_of(table, i, 1)));
		u->node = fa_forecast_node_index(f, DatumGetInt32(value_of(table, i, 2)));
		u->fragment = fa_numbering_add(&f->fragments,
									   DatumGetInt64(value_of(table, i, 3)));
		u->accesses = DatumGetFloat8(value_of(table, i, 4));
		u->arrivals = DatumGetFloat8(value_of(table, i, 5));
		u->profile = profile_key(NameStr(*DatumGetName(value_of(table, i, 6))),
								 TextDatumGetCString(value_of(table, i, 7)));
	}
	batch->nuse = n;
}

void
fa_forecast_read(FaForecaster *f, int64 from, int64 to, FaStepBatch *batch)
{
	MemoryContext outer = CurrentMemoryContext;
	TimestampTz first = fa_forecast_step_start(f, from);
	TimestampTz last = fa_forecast_step_start(f, to);
	SPITupleTable *table;

	memset(batch, 0, sizeof(*batch));
	SPI_connect();
	read_cells(f, outer, "SELECT step, node, fragment, calls::float8"
			   " FROM fragaffinity.history"
			   " WHERE step >= $1 AND step < $2 AND width <= $3"
			   " ORDER BY step", first, last, &batch->ncells,
			   &batch->cell_step, &batch->cells);
	read_cells(f, outer, "SELECT step, node, fragment, accesses"
			   " FROM fragaffinity.session_forecast"
			   " WHERE step >= $1 AND step < $2 AND $3 IS NOT NULL"
			   " ORDER BY step", first, last, &batch->nexpected,
			   &batch->expected_step, &batch->expected);
	table = select_between("SELECT step, node, fragment, accesses, arrivals,"
						   "  role, application"
						   " FROM fragaffinity.profile_use"
						   " WHERE step >= $1 AND step < $2 AND $3 IS NOT NULL"
						   " ORDER BY step", first, last, f->width_us);
	read_use(f, outer, table, batch);
	table = select_between("SELECT step, node FROM fragaffinity.history_step"
						   " WHERE step >= $1 AND step < $2 AND $3 IS NOT NULL"
						   " ORDER BY step", first, last, f->width_us);
	batch->nknown = (int) table->numvals;
	batch->known_node = MemoryContextAllocHuge(outer, sizeof(int) *
											   (batch->nknown + 1));
	batch->known_step = MemoryContextAllocHuge(outer, sizeof(int64) *
											   (batch->nknown + 1));
	for (int i = 0; i < batch->nknown; i++)
	{
		batch->known_step[i] =
			fa_forecast_step_of(f, DatumGetTimestampTz(value_of(table, i, 1)));
		batch->known_node[i] =
			fa_forecast_node_index(f, DatumGetInt32(value_of(table, i, 2)));
	}
	SPI_finish();
}

/* Items from *at_p on that belong to steps up to this one; *at_p moves on. */
static int
take_until(const int64 *steps, int n, int64 step, int *at_p)
{
	int			first = *at_p;

	while (*at_p < n && steps[*at_p] <= step)
		(*at_p)++;
	return first;
}

/* What was foreseen at the end of the step. */
static void
tell(FaForecaster *f, int64 step, FaStepBatch *batch)
{
	int			e = take_until(batch->expected_step, batch->nexpected, step,
							   &batch->next_expected);
	int			u = take_until(batch->use_step, batch->nuse, step,
							   &batch->next_use);

	if (batch->next_expected > e)
		fa_predictor_expect(f->predictor, step, batch->expected + e,
							batch->next_expected - e);
	if (batch->next_use > u)
		fa_predictor_use(f->predictor, step, batch->use + u,
						 batch->next_use - u);
}

/*
 * The network learns from fewer fragments a step when a step takes more of a
 * processor than it may.
 */
static void
fit_budget(FaForecaster *f, double spent_ms, int64 steps)
{
	double		most = fa_setting_float("prediction_budget", 0) *
		(double) f->width_us / 1000 * (double) steps;

	f->step_ms = spent_ms / (double) steps;
	if (spent_ms > most)
		f->training = Max(f->training / 2, 0);
	else if (spent_ms < most / 4)
		f->training = Min(Max(f->training * 2, 1), FA_PREDICT_TRAINING);
	fa_predictor_train(f->predictor, f->training);
}

void
fa_forecast_feed(FaForecaster *f, int64 from, int64 to, FaStepBatch *batch)
{
	bool	   *known = palloc(sizeof(bool) * f->nnodes);
	instr_time	began;
	instr_time	spent;

	f->busy = true;
	INSTR_TIME_SET_CURRENT(began);
	fa_predictor_resize(f->predictor, f->nnodes, Max(f->fragments.n, 1));
	for (int64 step = from; step < to; step++)
	{
		bool		any = false;
		int			first;
		int			k;

		CHECK_FOR_INTERRUPTS();
		memset(known, 0, sizeof(bool) * f->nnodes);
		k = take_until(batch->known_step, batch->nknown, step,
					   &batch->next_known);
		for (; k < batch->next_known; k++)
		{
			if (batch->known_node[k] >= 0)
				any = known[batch->known_node[k]] = true;
		}
		first = take_until(batch->cell_step, batch->ncells, step,
						   &batch->next_cell);
		tell(f, step, batch);
		if (any || step == to - 1)
			(void) fa_predictor_observe(f->predictor, step,
										batch->cells + first,
										batch->next_cell - first, known);
	}
	INSTR_TIME_SET_CURRENT(spent);
	INSTR_TIME_SUBTRACT(spent, began);
	if (to > from)
		fit_budget(f, INSTR_TIME_GET_MILLISEC(spent), to - from);
	f->busy = false;
	f->last_step = to - 1;
	f->started = true;
	pfree(known);
}
