/*
 * publish.c
 *	  Forecasts and their scores as rows.
 *
 * Predictions are replaced in bulk: one statement for many rows, updated in
 * place (the table is unlogged and half empty, so updates stay on the page).
 * A fragment without evidence has no row; the view gives it equal shares.
 * With many nodes only those that matter have one; the view spreads the rest.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/forecast.h"
#include "placement/hints.h"

#define CHUNK_ROWS 20000
#define ALL_NODES_UP_TO 16		/* nodes that each have a row */
#define LEAST_AFFINITY 0.002	/* of a row, above that number */
#define BUSIEST 24				/* fragments whose past forecasts are kept */

/* Rows on their way into fragaffinity.prediction. */
typedef struct Rows
{
	int			n;
	Datum	   *fragment;
	Datum	   *node;
	Datum	   *horizon;
	Datum	   *affinity;
	Datum	   *probability;
	Datum	   *rate;
	Datum	   *evidence;
	Datum	   *weights;
	Datum		made_at;
} Rows;

typedef struct Busy
{
	int			index;			/* fragment */
	double		rate;
} Busy;

static ArrayType *
array_of(Datum *values, int n, Oid type)
{
	switch (type)
	{
		case INT4OID:
			return construct_array(values, n, type, 4, true, TYPALIGN_INT);
		case TEXTOID:
			return construct_array(values, n, type, -1, false, TYPALIGN_INT);
		default:				/* int8, float8 */
			return construct_array(values, n, type, 8, FLOAT8PASSBYVAL,
								   TYPALIGN_DOUBLE);
	}
}

static void
flush_rows(Rows *rows)
{
	Oid			types[9] = {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
		FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID,
	TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		values[9];
	int			n = rows->n;

	if (n == 0)
		return;
	values[0] = PointerGetDatum(array_of(rows->fragment, n, INT8OID));
	values[1] = PointerGetDatum(array_of(rows->node, n, INT4OID));
	values[2] = PointerGetDatum(array_of(rows->horizon, n, INT4OID));
	values[3] = PointerGetDatum(array_of(rows->affinity, n, FLOAT8OID));
	values[4] = PointerGetDatum(array_of(rows->probability, n, FLOAT8OID));
	values[5] = PointerGetDatum(array_of(rows->rate, n, FLOAT8OID));
	values[6] = PointerGetDatum(array_of(rows->evidence, n, FLOAT8OID));
	values[7] = PointerGetDatum(array_of(rows->weights, n, TEXTOID));
	values[8] = rows->made_at;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args("INSERT INTO fragaffinity.prediction AS p"
							  " SELECT u.f, u.n, u.h, u.a, u.q, u.r, u.e,"
							  "  u.w::pg_catalog.jsonb, $9"
							  " FROM ROWS FROM (unnest($1), unnest($2), unnest($3),"
							  "  unnest($4), unnest($5), unnest($6), unnest($7),"
							  "  unnest($8)) AS u(f, n, h, a, q, r, e, w)"
							  " ON CONFLICT (fragment, node, horizon) DO UPDATE"
							  " SET affinity = EXCLUDED.affinity,"
							  "  access_probability = EXCLUDED.access_probability,"
							  "  expected_rate = EXCLUDED.expected_rate,"
							  "  evidence = EXCLUDED.evidence,"
							  "  weights = EXCLUDED.weights,"
							  "  made_at = EXCLUDED.made_at",
							  9, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not store predictions");
	PopActiveSnapshot();
	SPI_finish();
	rows->n = 0;
}

static Datum
weights_text(const FaForecast *forecast)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int m = 0; m < FA_NMODELS; m++)
	{
		if (m != FA_MODEL_MIXTURE)
			appendStringInfo(&buf, "%s\"%s\": %.3f", buf.len ? ", " : "{",
							 fa_model_name(m), forecast->weight[m]);
	}
	appendStringInfoChar(&buf, '}');
	return CStringGetTextDatum(buf.data);
}

/* Which of the predictor's nodes are still in the cluster. */
static bool *
present_nodes(const FaForecaster *f)
{
	bool	   *present = palloc0(sizeof(bool) * f->nnodes);
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		int			id = ((FaNode *) lfirst(lc))->id;

		if (id <= FA_MAX_NODE_ID && f->node_index[id] >= 0 &&
			f->node_index[id] < f->nnodes)
			present[f->node_index[id]] = true;
	}
	return present;
}

/* The rows of one forecast; shares of departed nodes go to the others. */
static void
add_rows(FaForecaster *f, const bool *present, int fragment, int h,
		 const FaForecast *forecast, Rows *rows)
{
	Datum		weights = weights_text(forecast);
	double		sum = 0;
	int			n;

	for (n = 0; n < f->nnodes; n++)
		sum += present[n] ? forecast->affinity[n] : 0;
	if (sum <= 0)
		return;
	for (n = 0; n < f->nnodes; n++)
	{
		int			r = rows->n;

		if (!present[n] || (f->nnodes > ALL_NODES_UP_TO &&
							forecast->affinity[n] < LEAST_AFFINITY * sum))
			continue;
		rows->fragment[r] = Int64GetDatum(f->fragments.fragment[fragment]);
		rows->node[r] = Int32GetDatum(f->node[n]);
		rows->horizon[r] = Int32GetDatum(f->horizons[h]);
		rows->affinity[r] = Float8GetDatum(forecast->affinity[n] / sum);
		rows->probability[r] = Float8GetDatum(forecast->access_probability[n]);
		rows->rate[r] = Float8GetDatum(forecast->expected_rate[n]);
		rows->evidence[r] = Float8GetDatum(forecast->evidence);
		rows->weights[r] = weights;
		rows->n++;
	}
}

static Rows *
make_rows(int n)
{
	Rows	   *rows = palloc0(sizeof(Rows));
	Datum	  **column[] = {&rows->fragment, &rows->node, &rows->horizon,
		&rows->affinity, &rows->probability, &rows->rate, &rows->evidence,
	&rows->weights};

	for (int i = 0; i < lengthof(column); i++)
		*column[i] = palloc(sizeof(Datum) * n);
	return rows;
}

/* Keeps the BUSIEST fragments, busiest first. */
static void
note_busy(Busy *busy, int *nbusy, int index, double rate)
{
	int			i;

	if (rate <= 0 || (*nbusy == BUSIEST && rate <= busy[BUSIEST - 1].rate))
		return;
	i = *nbusy < BUSIEST ? (*nbusy)++ : BUSIEST - 1;
	for (; i > 0 && busy[i - 1].rate < rate; i--)
		busy[i] = busy[i - 1];
	busy[i].index = index;
	busy[i].rate = rate;
}

static FaForecast *
make_forecast(int nnodes)
{
	FaForecast *forecast = palloc0(sizeof(FaForecast));

	forecast->affinity = palloc0(sizeof(double) * nnodes);
	forecast->access_probability = palloc0(sizeof(double) * nnodes);
	forecast->expected_rate = palloc0(sizeof(double) * nnodes);
	return forecast;
}

/* For the report: what is expected of the step that comes first. */
static void
store_past(FaForecaster *f, const bool *present, const Busy *busy, int nbusy)
{
	FaForecast *forecast = make_forecast(f->nnodes);
	StringInfoData sql;
	TimestampTz step = fa_forecast_step_start(f, f->last_step + f->horizons[0]);

	if (nbusy == 0)
		return;
	initStringInfo(&sql);
	for (int i = 0; i < nbusy; i++)
	{
		fa_predictor_forecast(f->predictor, busy[i].index, 0, forecast);
		for (int n = 0; n < f->nnodes; n++)
		{
			if (present[n])
				appendStringInfo(&sql, "%s (" INT64_FORMAT ", %d, %.6g, %.6g)",
								 sql.len ? "," : "", f->fragments.fragment[busy[i].index],
								 f->node[n], forecast->expected_rate[n],
								 forecast->affinity[n]);
		}
	}
	if (sql.len == 0)
		return;
	(void) fa_spi_exec("INSERT INTO fragaffinity.prediction_history"
					   " (step, width, fragment, node, horizon, expected_rate, affinity)"
					   " SELECT '%s', interval '%f s', v.f, v.n, %d, v.r, v.a"
					   " FROM (VALUES %s) AS v(f, n, r, a)"
					   " ON CONFLICT (step, fragment, node) DO NOTHING",
					   timestamptz_to_str(step), f->width_us / 1e6,
					   f->horizons[0], sql.data);
}

static void
append_bins(StringInfo buf, const FaScore *score)
{
	for (int b = 0; b < FA_PREDICT_CALIBRATION_BINS; b++)
		appendStringInfo(buf, "%s{\"n\": %.6g, \"p\": %.6g, \"hit\": %.6g}",
						 b ? ", " : "[", score->bin_n[b], score->bin_p[b],
						 score->bin_hit[b]);
	appendStringInfoChar(buf, ']');
}

static void
store_scores(FaForecaster *f)
{
	TimestampTz at = fa_forecast_step_start(f, f->last_step + 1);

	for (int h = 0; h < f->nhorizons; h++)
	{
		for (int m = 0; m < FA_NMODELS; m++)
		{
			FaScore		score = {0};
			StringInfoData bins;
			char		msle[32] = "NULL";

			fa_predictor_take_score(f->predictor, h, m, &score);
			if (score.n <= 0)
				continue;
			initStringInfo(&bins);
			append_bins(&bins, &score);
			if (score.rate_n > 0)
				snprintf(msle, sizeof(msle), "%.9g",
						 score.rate_msle / score.rate_n);
			(void) fa_spi_exec("INSERT INTO fragaffinity.prediction_score"
							   " (scored_at, horizon, model, accesses, log_loss,"
							   "  brier, top1, rate_msle, bins)"
							   " VALUES ('%s', %d, '%s', %.9g, %.9g, %.9g, %.9g, %s, '%s')"
							   " ON CONFLICT (scored_at, horizon, model) DO NOTHING",
							   timestamptz_to_str(at), f->horizons[h],
							   fa_model_name(m), score.n,
							   score.log_loss / score.n, score.brier / score.n,
							   score.top1 / score.n, msle, bins.data);
		}
	}
}

void
fa_forecast_publish(FaForecaster *f)
{
	bool	   *present = present_nodes(f);
	FaForecast *forecast = make_forecast(f->nnodes);
	FaHints    *hints = fa_hints_load(f);
	Rows	   *rows = make_rows(CHUNK_ROWS + f->nnodes);
	Busy		busy[BUSIEST];
	int			nbusy = 0;
	TimestampTz now = GetCurrentTimestamp();

	rows->made_at = TimestampTzGetDatum(now);
	f->busy = true;
	for (int i = 0; i < f->fragments.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int h = 0; h < f->nhorizons; h++)
		{
			double		rate = 0;

			fa_predictor_forecast(f->predictor, i, h, forecast);
			if (forecast->evidence <= 0)
				break;
			fa_hints_forecast(f, hints, i, h, forecast);
			if (h == 0)
			{
				for (int n = 0; n < f->nnodes; n++)
					rate += forecast->expected_rate[n];
				note_busy(busy, &nbusy, i, rate);
			}
			add_rows(f, present, i, h, forecast, rows);
			if (rows->n >= CHUNK_ROWS)
				flush_rows(rows);
		}
	}
	flush_rows(rows);
	/* what this round did not renew: dropped fragments, other horizons */
	(void) fa_spi_exec("DELETE FROM fragaffinity.prediction"
					   " WHERE made_at OPERATOR(pg_catalog.<>) '%s'",
					   timestamptz_to_str(now));
	store_past(f, present, busy, nbusy);
	store_scores(f);
	f->busy = false;
	fa_learning_report("predictor", fa_predictor_memory(f->predictor),
					   f->step_ms, f->training / (double) FA_PREDICT_TRAINING);
}
