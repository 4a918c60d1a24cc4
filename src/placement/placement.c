/*
 * placement.c
 *	  The coordinator's periodic work: forecast, decide, ask, judge.
 *
 * Each part is a transaction of its own, so an error in one (the worker logs
 * it) does not undo the others; what it left is done at the next step.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/controller.h"
#include "placement/divide.h"
#include "placement/forecast.h"
#include "placement/group.h"
#include "placement/placement.h"

#define LOOK_MS 1000			/* between looks at drains and requests */
#define SOON_MS 10				/* when there is more to do at once */
#define SAVE_MS (5 * 60 * 1000)
#define TIDY_MS (10 * 60 * 1000)
#define KEPT_WITHOUT_SETTING_MS (30 * 86400.0 * 1000)

static void
begin(void)
{
	/* else now() stands still in a background worker */
	SetCurrentStatementStartTimestamp();
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static bool
passed(TimestampTz *last, int ms)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last != 0 && *last <= now && !TimestampDifferenceExceeds(*last, now, ms))
		return false;
	*last = now;
	return true;
}

/* Old scores and forecasts go with the history. */
static void
tidy(void)
{
	double		kept = fa_setting_find("history_retention") ?
		fa_setting_float("history_retention", 0) : KEPT_WITHOUT_SETTING_MS;

	(void) fa_spi_exec("DELETE FROM fragaffinity.prediction_score"
					   " WHERE scored_at < now() - interval '%.0f ms'", kept);
	(void) fa_spi_exec("DELETE FROM fragaffinity.prediction_history"
					   " WHERE step < now() - interval '%.0f ms'", kept);
}

/*
 * The worker ends: what it learned since it saved last is kept, too.  An
 * error here ends the worker, which it does anyway.
 */
static void
save_exit(int code, Datum arg)
{
	FaForecaster *f = fa_forecast_get();

	AbortOutOfAnyTransaction();
	if (f == NULL || f->busy || !f->started)
		return;
	begin();
	if (fa_extension_exists() && fa_node_self() == fa_node_coordinator() &&
		fa_forecast_state_time() == f->saved)
		fa_forecast_save(f);
	end();
}

/* Set by a step that came to its end, so that errors do not come in a row. */
static int	wanted_ms = LOOK_MS;

int
fa_placement_tick_ms(void)
{
	return Min(fa_capture_tick_ms(), wanted_ms);
}

static int
next_step_ms(void)
{
	return fa_forecast_is_behind() ? SOON_MS : Max(fa_request_due_ms(), SOON_MS);
}

void
fa_placement_step(void)
{
	static bool attached = false;
	static TimestampTz looked = 0;
	static TimestampTz saved = 0;
	static TimestampTz tidied = 0;
	bool		fresh;
	int			self;

	if (!attached)
		before_shmem_exit(save_exit, (Datum) 0);
	attached = true;
	wanted_ms = LOOK_MS;
	fa_forecast_recover();
	begin();
	self = fa_node_self();
	if (self == 0 || self != fa_node_coordinator())
	{
		fa_forecast_drop();
		end();
		return;
	}
	fresh = fa_forecast_take_steps();
	if (fresh)
		fa_forecast_publish(fa_forecast_get());
	end();

	if (passed(&looked, LOOK_MS) || fresh)
	{
		begin();
		fa_controller_decide(fresh ? fa_forecast_get() : NULL);
		end();
		fa_request_send();
		fa_divide_send();
	}
	else if (fa_request_due_ms() == 0)
		fa_request_send();
	wanted_ms = next_step_ms();
	if (!fresh)
		return;

	begin();
	fa_co_access_look(fa_forecast_get());
	end();
	begin();
	fa_outcome_judge(fa_forecast_get());
	if (passed(&tidied, TIDY_MS))
		tidy();
	end();
	if (passed(&saved, SAVE_MS))
	{
		begin();
		fa_forecast_save(fa_forecast_get());
		end();
	}
}
