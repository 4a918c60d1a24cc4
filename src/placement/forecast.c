/*
 * forecast.c
 *	  The predictor's life in the coordinator's worker.
 *
 * Steps of history_interval are taken in order.  The newest one is taken when
 * every node that answers has delivered it, or after a grace time; what is
 * missing then is unknown, not zero.  After a start the predictor is restored
 * from the catalog and catches up from history, some tenths of a second a
 * call, so that the worker's other duties go on; forecasts are published when
 * it is up to date.
 *
 * The predictor's memory is its own context.  An error raised inside it (out
 * of memory, a cancelled query) leaves it unusable: it is then dropped and
 * comes back from the saved state and history.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/forecast.h"

#define BATCH_STEPS 64			/* read from history at once */
#define CATCH_UP_MS 300			/* of each call */
#define GRACE_LEAST_MS 5000
#define GRACE_MOST_MS 15000
#define SEASON_MOST_STEPS 10080 /* a week of minutes */

static FaForecaster *forecaster = NULL;
static bool behind = false;

FaForecaster *
fa_forecast_get(void)
{
	return forecaster;
}

bool
fa_forecast_is_behind(void)
{
	return behind;
}

static void *
predictor_alloc(void *arg, size_t size)
{
	return MemoryContextAllocExtended((MemoryContext) arg, size ? size : 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
predictor_release(void *arg, void *ptr)
{
	if (ptr)
		pfree(ptr);
}

void
fa_forecast_drop(void)
{
	if (forecaster == NULL)
		return;
	MemoryContextDelete(forecaster->context);
	forecaster = NULL;
}

void
fa_forecast_recover(void)
{
	if (forecaster && forecaster->busy)
		fa_forecast_drop();
}

TimestampTz
fa_forecast_step_start(const FaForecaster *f, int64 step)
{
	return step * f->width_us;
}

/* Floor, also before 2000. */
int64
fa_forecast_step_of(const FaForecaster *f, TimestampTz t)
{
	int64		step = t / f->width_us;

	return t < 0 && t % f->width_us != 0 ? step - 1 : step;
}

int
fa_forecast_node_index(FaForecaster *f, int node)
{
	if (node < 1 || node > FA_MAX_NODE_ID)
		return -1;
	if (f->node_index[node] < 0)
	{
		f->node = repalloc(f->node, sizeof(int) * (f->nnodes + 1));
		f->node[f->nnodes] = node;
		f->node_index[node] = f->nnodes++;
	}
	return f->node_index[node];
}

/* Horizons as set; returns their number. */
static int
read_horizons(int *horizons)
{
	char	   *text = fa_setting_text("prediction_horizons", 0);
	int			n = 0;

	while (*text && n < FA_PREDICT_MAX_HORIZONS)
	{
		char	   *end;
		long		h = strtol(text, &end, 10);

		if (end == text)
			break;
		horizons[n++] = (int) h;
		text = end + strspn(end, ", ");
	}
	return n;
}

FaForecaster *
fa_forecast_make(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent,
												  "fragaffinity predictor",
												  ALLOCSET_DEFAULT_SIZES);
	FaForecaster *f = MemoryContextAllocZero(context, sizeof(FaForecaster));

	f->context = context;
	f->node = MemoryContextAlloc(context, sizeof(int));
	fa_numbering_init(&f->fragments, context, 64);
	memset(f->node_index, 0xff, sizeof(f->node_index));
	f->learn_from = PG_INT64_MIN;
	f->training = FA_PREDICT_TRAINING;
	f->width_us = fa_setting_int("history_interval", 0) * 1000;
	f->nhorizons = read_horizons(f->horizons);
	return f;
}

static FaAllocator
allocator_of(FaForecaster *f)
{
	return (FaAllocator) {
		predictor_alloc, predictor_release, f->context
	};
}

void
fa_forecast_begin(FaForecaster *f)
{
	FaPredictorConfig config = {0};
	FaAllocator allocator = allocator_of(f);
	ListCell   *lc;

	foreach(lc, fa_node_list())
		(void) fa_forecast_node_index(f, ((FaNode *) lfirst(lc))->id);
	config.nhorizons = f->nhorizons;
	memcpy(config.horizons, f->horizons, sizeof(config.horizons));
	config.max_season = Min(7 * USECS_PER_DAY / f->width_us,
							SEASON_MOST_STEPS);
	f->predictor = fa_predictor_create(&config, f->nnodes,
									   Max(f->fragments.n, 1), &allocator);
}

/* Was reset_network() called since? */
static void
obey_reset(FaForecaster *f)
{
	TimestampTz called = fa_forecast_network_reset();

	if (called <= f->network_since)
		return;
	fa_predictor_reset_network(f->predictor);
	f->network_since = called;
	ereport(LOG, (errmsg("the predictor's network begins anew")));
}

/*
 * The forecaster that fits the settings and the saved state: the one in
 * memory, or else a new one.
 */
static FaForecaster *
open_forecaster(void)
{
	int64		width_us = fa_setting_int("history_interval", 0) * 1000;
	int			horizons[FA_PREDICT_MAX_HORIZONS] = {0};
	int			nhorizons = read_horizons(horizons);
	TimestampTz saved = fa_forecast_state_time();
	FaForecaster *f = forecaster;
	FaAllocator allocator;

	if (f && f->width_us == width_us && f->nhorizons == nhorizons &&
		memcmp(f->horizons, horizons, sizeof(horizons)) == 0 &&
		f->saved == saved)
	{
		obey_reset(f);
		return f;
	}

	fa_forecast_drop();
	forecaster = f = fa_forecast_make(TopMemoryContext);
	f->busy = true;				/* until it is whole */
	f->saved = f->network_since = saved;
	allocator = allocator_of(f);
	if (saved == 0 || !fa_forecast_restore(f, &allocator))
	{
		fa_forecast_begin(f);
		f->network_since = GetCurrentTimestamp();
	}
	obey_reset(f);
	f->busy = false;
	return f;
}

/* Has every node that answers delivered this step? */
static bool
step_is_complete(const FaForecaster *f, int64 step)
{
	FaRows	   *rows = fa_spi_rows("SELECT node FROM fragaffinity.node n"
								   " WHERE NOT EXISTS (SELECT FROM fragaffinity.history_step h"
								   "  WHERE h.node OPERATOR(pg_catalog.=) n.node"
								   "  AND h.step OPERATOR(pg_catalog.=) '%s')",
								   timestamptz_to_str(fa_forecast_step_start(f, step)));

	for (int i = 0; i < rows->nrows; i++)
	{
		int			node = atoi(rows->value[i][0]);
		FaNodeHealth health;

		if (node == fa_node_self() || !fa_node_health(node, &health) ||
			!health.known || health.alive)
			return false;
	}
	return true;
}

/* The newest step that should be taken by now. */
static int64
newest_due_step(const FaForecaster *f)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		step = fa_forecast_step_of(f, now) - 1;
	int64		grace_us = f->width_us / 4;

	grace_us = Min(Max(grace_us, GRACE_LEAST_MS * 1000L), GRACE_MOST_MS * 1000L);
	while (now < fa_forecast_step_start(f, step + 1) + grace_us &&
		   (!f->started || step > f->last_step) &&
		   !step_is_complete(f, step))
		step--;
	return step;
}

bool
fa_forecast_first_step(FaForecaster *f, int64 *step_p)
{
	char	   *first = fa_spi_value("SELECT extract(epoch FROM min(step))"
									 " FROM fragaffinity.history_step");
	TimestampTz t;

	if (first == NULL)
		return false;
	t = (TimestampTz) (atof(first) * USECS_PER_SEC) -
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	*step_p = Max(fa_forecast_step_of(f, t), f->learn_from);
	return true;
}

bool
fa_forecast_take_steps(void)
{
	FaForecaster *f = open_forecaster();
	TimestampTz began = GetCurrentTimestamp();
	int64		due = newest_due_step(f);
	int64		next;

	behind = false;
	if (f->started)
		next = f->last_step + 1;
	else if (!fa_forecast_first_step(f, &next))
		return false;
	if (next > due)
		return false;
	fa_predictor_load(f->predictor, due);
	while (next <= due)
	{
		FaStepBatch batch;
		int64		to = Min(next + BATCH_STEPS, due + 1);
		MemoryContext temp = AllocSetContextCreate(CurrentMemoryContext,
												   "fragaffinity history",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(temp);

		fa_forecast_read(f, next, to, &batch);
		fa_forecast_feed(f, next, to, &batch);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(temp);
		next = to;
		if (next <= due &&
			TimestampDifferenceExceeds(began, GetCurrentTimestamp(),
									   CATCH_UP_MS))
		{
			behind = true;
			return false;
		}
	}
	return true;
}
