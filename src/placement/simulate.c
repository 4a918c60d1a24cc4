/*
 * simulate.c
 *	  What the controller would have done with recorded history.
 *
 * simulate(from, to, settings) replays the steps through a predictor of its
 * own, from the beginning of history on, and from "from" on through the real
 * decisions, with the settings given.  A move takes effect with the next step.
 * Nodes count as up, no other move as under way, and the round trip between
 * two other nodes as a usual one.  Three rows come out:
 *
 *	recorded	what happened
 *	unmoved		every fragment stays where it was at "from"
 *	simulated	the decisions are carried out
 *
 * The settings are written into the catalog in a subtransaction, read as the
 * controller reads them, and rolled back: nothing of it is ever seen.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/controller.h"
#include "placement/cost.h"

#define BATCH_STEPS 64
#define RECENT_STEPS 12			/* as the controller looks back */
#define HOUR_US (INT64CONST(3600) * 1000000)

typedef struct Tally
{
	double		accesses;
	double		remote;
	int64		moves;
	double		bytes;
} Tally;

/* A simulated move, for the hour's budget. */
typedef struct Moved
{
	TimestampTz at;
	double		bytes;
} Moved;

typedef struct Simulation
{
	FaPlaceInput *input;
	FaForecaster *f;
	int		   *unmoved;		/* owner at the start, by row */
	double	   *since_ms;		/* since the row's last move, by row */
	char	  **window;			/* move_window, by policy */
	TimestampTz now;
	Moved	   *moved;			/* oldest first */
	int			nmoved;
	int			moved_allocated;
	Tally		tally[2];		/* unmoved, simulated */
} Simulation;

/* Settings that a replay can have; the others are about the cluster. */
static const char *const allowed[] = {
	"doubt", "hysteresis", "max_concurrent_moves", "max_move_bytes_per_hour",
	"max_moves_per_hour", "max_moves_per_node", "migration_threshold",
	"min_residency", "move_cost", "move_cost_factor", "move_window",
	"prediction_horizons", "reactive", "reactive_steps", "reactive_threshold"
};

static void
write_settings(Jsonb *settings)
{
	FaRows	   *rows = fa_spi_rows("SELECT e.key, e.value FROM jsonb_each_text(%s::jsonb) e",
								   quote_literal_cstr(JsonbToCString(NULL, &settings->root,
																	 VARSIZE(settings))));

	for (int i = 0; i < rows->nrows; i++)
	{
		const char *name = rows->value[i][0];
		const char *value = rows->value[i][1];
		const FaSettingDef *def = fa_setting_find(name);
		bool		known = false;

		for (int k = 0; k < lengthof(allowed); k++)
			known |= strcmp(name, allowed[k]) == 0;
		if (def == NULL || !known)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" cannot be simulated", name),
					 errhint("Give settings that decide about moves, such as migration_threshold or min_residency.")));
		if (value == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("setting \"%s\" needs a value", name)));
		fa_setting_check(def, value);
		(void) fa_spi_exec("DELETE FROM fragaffinity.setting WHERE name = %s",
						   quote_literal_cstr(name));
		(void) fa_spi_exec("INSERT INTO fragaffinity.setting (name, value) VALUES (%s, %s)",
						   quote_literal_cstr(name), quote_literal_cstr(value));
	}
}

/* Owners at the start, from the moves since. */
static void
rewind_owners(Simulation *sim, TimestampTz from)
{
	FaPlaceInput *input = sim->input;
	FaRows	   *rows = fa_spi_rows("SELECT DISTINCT ON (fragment) fragment, source"
								   " FROM fragaffinity.move"
								   " WHERE state = 'done' AND finished > '%s'"
								   " ORDER BY fragment, finished",
								   timestamptz_to_str(from));

	for (int i = 0; i < input->cluster.nnodes; i++)
	{
		FaPlaceNode *node = &input->cluster.node[i];

		node->alive = true;
		node->draining = false;
		node->used = node->incoming = node->outgoing = 0;
	}
	input->inflight = 0;
	input->nrecent = RECENT_STEPS;
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = fa_controller_row(input, strtoll(rows->value[i][0], NULL, 10));
		int			source = atoi(rows->value[i][1]);

		if (row && source >= 1 && source <= FA_MAX_NODE_ID &&
			input->place[source] >= 0)
			row->owner = input->place[source];
	}
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		row->previous_owner = -1;
		row->since_move_ms = INFINITY;
		row->moving = false;
		sim->unmoved[i] = row->owner;
		sim->since_ms[i] = INFINITY;
		row->recent = palloc0(sizeof(double) * RECENT_STEPS *
							  input->cluster.nnodes);
		if (row->owner >= 0)
			input->cluster.node[row->owner].used += row->bytes;
	}
}

/* Everything that depends on settings, read while they are in force. */
static void
prepare(Simulation *sim, Jsonb *settings, TimestampTz from)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ListCell   *lc;
	int			n = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	write_settings(settings);
	fa_cost_refresh_own();
	sim->f = fa_forecast_make(context);
	fa_forecast_begin(sim->f);
	sim->input = fa_controller_gather(NULL);
	sim->unmoved = palloc(sizeof(int) * (sim->input->nrows + 1));
	sim->since_ms = palloc(sizeof(double) * (sim->input->nrows + 1));
	rewind_owners(sim, from);
	for (int i = 0; i < sim->input->nrows; i++)
		(void) fa_controller_policy(sim->input, sim->input->row[i].table_id);
	sim->window = palloc0(sizeof(char *) *
						  (list_length(sim->input->policies) + 1));
	foreach(lc, sim->input->policies)
	{
		FaTablePolicy *t = lfirst(lc);

		t->decide = t->act = true;
		t->policy.unpaid = 0;
		sim->window[n++] = fa_setting_text("move_window", t->table_id);
	}
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* Counts a step's accesses against both placements. */
static void
count_step(Simulation *sim, const FaStepBatch *batch, int first)
{
	FaPlaceInput *input = sim->input;
	int			nn = input->cluster.nnodes;

	for (int i = 0; i < input->nrows; i++)
	{
		double	   *recent = input->row[i].recent;

		memmove(recent + nn, recent, sizeof(double) * nn * (RECENT_STEPS - 1));
		memset(recent, 0, sizeof(double) * nn);
	}
	for (int c = first; c < batch->next_cell; c++)
	{
		const FaCell *cell = &batch->cells[c];
		FaPlaceRow *row = fa_controller_row(input,
											sim->f->fragment[cell->fragment]);
		int			place = cell->node >= 0 ?
			input->place[sim->f->node[cell->node]] : -1;

		if (row == NULL || place < 0 || row->owner < 0)
			continue;
		row->recent[place] += cell->count;
		for (int k = 0; k < 2; k++)
		{
			int			owner = k == 0 ? sim->unmoved[row - input->row] :
				row->owner;

			sim->tally[k].accesses += cell->count;
			if (owner != place)
				sim->tally[k].remote += cell->count;
		}
	}
}

static void
take_move(void *arg, FaPlaceRow *row, const FaDecision *decision)
{
	Simulation *sim = arg;

	row->previous_owner = row->owner;
	row->owner = decision->destination;
	sim->since_ms[row - sim->input->row] = 0;
	sim->tally[1].moves++;
	sim->tally[1].bytes += row->bytes;
	if (sim->nmoved == sim->moved_allocated)
	{
		sim->moved_allocated = Max(64, sim->moved_allocated * 2);
		sim->moved = sim->moved ?
			repalloc(sim->moved, sizeof(Moved) * sim->moved_allocated) :
			MemoryContextAlloc(GetMemoryChunkContext(sim->unmoved),
							   sizeof(Moved) * sim->moved_allocated);
	}
	sim->moved[sim->nmoved++] = (Moved) {sim->now, row->bytes};
}

static void
decide_step(Simulation *sim)
{
	FaPlaceInput *input = sim->input;
	FaPlaceCluster *cluster = &input->cluster;
	int			old = 0;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, input->policies)
		((FaTablePolicy *) lfirst(lc))->policy.closed = !fa_setting_hours(sim->window[n++], fa_controller_minute(sim->now));
	while (old < sim->nmoved && sim->moved[old].at <= sim->now - HOUR_US)
		old++;
	sim->nmoved -= old;
	if (sim->nmoved > 0)
		memmove(sim->moved, sim->moved + old, sizeof(Moved) * sim->nmoved);
	cluster->moves_hour = sim->nmoved;
	cluster->bytes_hour = 0;
	for (int i = 0; i < sim->nmoved; i++)
		cluster->bytes_hour += sim->moved[i].bytes;
	for (int i = 0; i < input->nrows; i++)
	{
		sim->since_ms[i] += cluster->step_ms;
		input->row[i].since_move_ms = sim->since_ms[i];
	}
	for (int i = 0; i < cluster->nnodes; i++)
		cluster->node[i].incoming = cluster->node[i].outgoing = 0;
	/* what is admitted is booked as under way, which it is no more */
	fa_controller_plan(input, sim->f, take_move, sim);
	for (int i = 0; i < cluster->nnodes; i++)
		cluster->node[i].used = 0;
	for (int i = 0; i < input->nrows; i++)
	{
		if (input->row[i].owner >= 0)
			cluster->node[input->row[i].owner].used += input->row[i].bytes;
	}
}

static void
replay(Simulation *sim, TimestampTz from, TimestampTz to)
{
	FaForecaster *f = sim->f;
	int64		next;
	int64		end = to / f->width_us;

	if (!fa_forecast_first_step(f, &next))
		return;
	while (next < end)
	{
		FaStepBatch batch;
		int64		upto = Min(next + BATCH_STEPS, end);
		MemoryContext temp = AllocSetContextCreate(CurrentMemoryContext,
												   "fragaffinity simulation",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(temp);

		fa_forecast_read(f, next, upto, &batch);
		for (; next < upto; next++)
		{
			int			first = batch.next_cell;

			CHECK_FOR_INTERRUPTS();
			fa_forecast_feed(f, next, next + 1, &batch);
			sim->now = fa_forecast_step_start(f, next + 1);
			if (sim->now <= from)
				continue;
			count_step(sim, &batch, first);
			decide_step(sim);
		}
		MemoryContextSwitchTo(old);
		MemoryContextDelete(temp);
	}
}

static void
put_row(ReturnSetInfo *rsinfo, const char *variant, const Tally *t)
{
	Datum		values[5];
	bool		nulls[5] = {0};

	values[0] = CStringGetTextDatum(variant);
	values[1] = Float8GetDatum(t->accesses);
	values[2] = Float8GetDatum(t->accesses > 0 ? t->remote / t->accesses : 0);
	nulls[2] = !(t->accesses > 0);
	values[3] = Int64GetDatum(t->moves);
	values[4] = Int64GetDatum((int64) t->bytes);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* What was counted and moved in that time. */
static Tally
recorded(int64 width_us, TimestampTz from, TimestampTz to)
{
	Tally		t = {0};
	char	   *a = pstrdup(timestamptz_to_str(from));
	char	   *b = pstrdup(timestamptz_to_str(to));
	FaRows	   *rows = fa_spi_rows("SELECT COALESCE(sum(calls), 0), COALESCE(sum(remote_calls), 0)"
								   " FROM fragaffinity.history"
								   " WHERE step >= '%s' AND step < '%s' AND width <= interval '%f s'",
								   a, b, (double) width_us / 1e6);

	t.accesses = atof(rows->value[0][0]);
	t.remote = atof(rows->value[0][1]);
	rows = fa_spi_rows("SELECT count(*), COALESCE(sum(bytes), 0)"
					   " FROM fragaffinity.move WHERE state = 'done'"
					   "  AND finished >= '%s' AND finished < '%s'", a, b);
	t.moves = strtoll(rows->value[0][0], NULL, 10);
	t.bytes = atof(rows->value[0][1]);
	return t;
}

PG_FUNCTION_INFO_V1(fa_sql_simulate);

/* simulate(from, to, settings) */
Datum
fa_sql_simulate(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz from = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz to = PG_GETARG_TIMESTAMPTZ(1);
	Jsonb	   *settings = PG_GETARG_JSONB_P(2);
	Simulation	sim = {0};
	Tally		was;

	if (fa_node_require_cluster() != fa_node_coordinator())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("history is collected by the coordinator"),
				 errhint("Call simulate on node \"%s\".",
						 fa_node_find(fa_node_coordinator())->name)));
	if (TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to) || from >= to ||
		to > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a simulation needs a start before its end, and both in the past")));
	if (!JB_ROOT_IS_OBJECT(settings))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("settings must be a JSON object"),
				 errhint("For example: {\"migration_threshold\": 0.5}")));
	InitMaterializedSRF(fcinfo, 0);
	prepare(&sim, settings, from);
	/* whole steps: from the first that begins in the time */
	from = (from + sim.f->width_us - 1) / sim.f->width_us * sim.f->width_us;
	to = to / sim.f->width_us * sim.f->width_us;
	replay(&sim, from, to);
	was = recorded(sim.f->width_us, from, to);
	put_row(rsinfo, "recorded", &was);
	put_row(rsinfo, "unmoved", &sim.tally[0]);
	put_row(rsinfo, "simulated", &sim.tally[1]);
	return (Datum) 0;
}
