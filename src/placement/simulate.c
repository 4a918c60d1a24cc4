/*
 * simulate.c
 *	  What the controller would have done with recorded history.
 *
 * simulate(from, to, settings) replays history under several policies at once
 * (simulate_replay.c), each with a row for every table and one for all:
 *
 *	recorded	what happened
 *	never		every fragment stays where it was at "from"
 *	reactive	moves follow what has been seen, without forecasts
 *	simulated	moves by forecasts: the decisions, with the settings given
 *	optimum		the cheapest moves in hindsight, held back by no limit
 *
 * settings is an object, or an array of objects to be compared; then the
 * variant of each is its text in place of "simulated"; the first one's settings
 * are those of "reactive", the last one's those of "optimum".
 *
 * The settings are written into the catalog in a subtransaction, read as the
 * controller reads them, and rolled back: nothing of it is ever seen.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/simulate.h"

/* Settings that a replay can have; the others are about the cluster. */
static const char *const allowed[] = {
	"co_access", "doubt", "hysteresis", "max_concurrent_moves", "max_move_bytes_per_hour",
	"max_moves_per_hour", "max_moves_per_node", "migration_threshold",
	"min_residency", "move_cost", "move_cost_factor", "move_window",
	"prediction_horizons", "predictive", "reactive", "reactive_steps",
	"reactive_threshold"
};

/* What history says, by table of the simulation. */
typedef struct Recorded
{
	FaSimTally *tally;
	double	   *local_ms;		/* mean of a local access; -1: not known */
	Oid		   *table;
} Recorded;

static void
write_settings(const char *settings)
{
	FaRows	   *rows = fa_spi_rows("SELECT e.key, e.value FROM jsonb_each_text(%s::jsonb) e",
								   quote_literal_cstr(settings));

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

/* The settings to compare, each as text. */
static FaRows *
split_settings(Jsonb *settings)
{
	char	   *text = JsonbToCString(NULL, &settings->root, VARSIZE(settings));
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT e, jsonb_typeof(e) FROM (SELECT %s::jsonb) s (j),"
					   " jsonb_array_elements(CASE jsonb_typeof(j)"
					   "  WHEN 'array' THEN j ELSE jsonb_build_array(j) END) e",
					   quote_literal_cstr(text));
	for (int i = 0; i < rows->nrows; i++)
	{
		if (strcmp(rows->value[i][1], "object") != 0)
			rows->nrows = 0;
	}
	if (rows->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("settings must be a JSON object, or an array of them"),
				 errhint("For example: {\"migration_threshold\": 0.5}")));
	return rows;
}

/* In a subtransaction that has the settings. */
static void
add_variants(FaSimulation *sim, const char *settings, int i, int n,
			 TimestampTz from, TimestampTz to)
{
	ListCell   *lc;

	if (i == 0)
	{
		fa_simulate_begin(sim, from, to);
		(void) fa_simulate_add(sim, "never", FA_SIM_NEVER);
		foreach(lc, fa_simulate_add(sim, "reactive", FA_SIM_DECIDE)->input->policies)
		{
			FaTablePolicy *t = lfirst(lc);

			t->predictive = false;
			t->policy.reactive = true;
		}
	}
	else
	{
		FaForecaster *other = fa_forecast_make(sim->context);

		if (memcmp(other->horizons, sim->f->horizons,
				   sizeof(other->horizons)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("settings that are compared must have the same prediction_horizons"),
					 errhint("Simulate them one by one.")));
	}
	(void) fa_simulate_add(sim, n == 1 ? "simulated" : settings, FA_SIM_DECIDE);
	if (i == n - 1)
		(void) fa_simulate_add(sim, "optimum", FA_SIM_OPTIMUM);
}

/* Everything that depends on settings, read while they are in force. */
static void
prepare(FaSimulation *sim, FaRows *settings, TimestampTz from,
		TimestampTz to)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	for (int i = 0; i < settings->nrows; i++)
	{
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		PG_TRY();
		{
			write_settings(settings->value[i][0]);
			add_variants(sim, settings->value[i][0], i, settings->nrows,
						 from, to);
			RollbackAndReleaseCurrentSubTransaction();
		}
		PG_CATCH();
		{
			ErrorData  *error;

			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			/* else the client's session would be left in it */
			RollbackAndReleaseCurrentSubTransaction();
			CurrentResourceOwner = owner;
			ReThrowError(error);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
}

static int
find_table(const FaSimulation *sim, const char *id)
{
	for (int t = 0; t < sim->ntables; t++)
	{
		if (sim->table_id[t] == atoi(id))
			return t;
	}
	return -1;
}

static void
read_accesses(FaSimulation *sim, Recorded *r, const char *from,
			  const char *to)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT f.table_id, sum(h.calls), sum(h.remote_calls),"
					   " sum(h.elapsed_ms - h.remote_elapsed_ms),"
					   " sum(h.remote_elapsed_ms)"
					   " FROM fragaffinity.history h JOIN fragaffinity.fragment f"
					   "  ON f.fragment OPERATOR(pg_catalog.=) h.fragment"
					   " WHERE h.step >= '%s' AND h.step < '%s' AND h.width <= interval '%f s'"
					   " GROUP BY 1", from, to, sim->f->width_us / 1e6);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		int			t = find_table(sim, v[0]);
		double		local = atof(v[1]) - atof(v[2]);
		FaSimTally *tally;

		if (t < 0)
			continue;
		tally = &r->tally[t];
		tally->accesses = atof(v[1]);
		tally->remote = atof(v[2]);
		if (local <= 0)
			continue;
		r->local_ms[t] = atof(v[3]) / local;
		tally->waiting_ms = Max(atof(v[4]) - tally->remote * r->local_ms[t], 0);
	}
}

static void
read_moves(FaSimulation *sim, Recorded *r, const char *from, const char *to)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT f.table_id, count(*), COALESCE(sum(m.bytes), 0),"
					   " sum(1000 * extract(epoch FROM m.finished - m.started))"
					   " FROM fragaffinity.move m JOIN fragaffinity.fragment f"
					   "  ON f.fragment OPERATOR(pg_catalog.=) m.fragment"
					   " WHERE m.state = 'done' AND m.finished >= '%s' AND m.finished < '%s'"
					   " GROUP BY 1", from, to);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		int			t = find_table(sim, v[0]);
		FaTablePolicy *p;

		if (t < 0)
			continue;
		p = fa_controller_policy(sim->variant[0].input, sim->table_id[t]);
		r->tally[t].moves = strtoll(v[1], NULL, 10);
		r->tally[t].bytes = atof(v[2]);
		r->tally[t].moving_ms = r->tally[t].moves * p->cost_fixed_ms +
			(v[3] ? p->cost_factor * atof(v[3]) : 0);
	}
}

/* What was counted and moved in that time, and the tables' names. */
static void
read_recorded(FaSimulation *sim, TimestampTz from, TimestampTz to,
			  Recorded *r)
{
	char	   *a = pstrdup(timestamptz_to_str(from));
	char	   *b = pstrdup(timestamptz_to_str(to));
	int			n = sim->ntables + 1;
	FaRows	   *rows;

	r->tally = palloc0(sizeof(FaSimTally) * n);
	r->local_ms = palloc(sizeof(double) * n);
	r->table = palloc0(sizeof(Oid) * n);
	for (int t = 0; t < sim->ntables; t++)
		r->local_ms[t] = -1;
	read_accesses(sim, r, a, b);
	read_moves(sim, r, a, b);
	rows = fa_spi_rows("SELECT table_id, rel::oid FROM fragaffinity.distributed_table");
	for (int i = 0; i < rows->nrows; i++)
	{
		int			t = find_table(sim, rows->value[i][0]);

		if (t >= 0)
			r->table[t] = strtoul(rows->value[i][1], NULL, 10);
	}
}

static void
put_row(ReturnSetInfo *rsinfo, const char *variant, Oid table,
		const FaSimTally *t, double local_ms)
{
	Datum		values[8];
	bool		nulls[8] = {0};
	bool		used = t->accesses > 0;

	values[0] = CStringGetTextDatum(variant);
	values[1] = ObjectIdGetDatum(table);
	nulls[1] = !OidIsValid(table);
	values[2] = Float8GetDatum(t->accesses);
	values[3] = Float8GetDatum(used ? t->remote / t->accesses : 0);
	nulls[3] = !used;
	values[4] = Int64GetDatum(t->moves);
	values[5] = Int64GetDatum((int64) t->bytes);
	values[6] = Float8GetDatum(used ? local_ms + t->waiting_ms / t->accesses : 0);
	nulls[6] = !used || local_ms < 0;
	values[7] = Float8GetDatum(t->waiting_ms + t->moving_ms);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* A variant's rows: each table, then all. */
static void
put_variant(ReturnSetInfo *rsinfo, const FaSimulation *sim,
			const char *variant, const FaSimTally *tally, const Recorded *r)
{
	FaSimTally	all = {0};
	double		local_ms = 0;	/* of all accesses; -1: not known */

	for (int t = 0; t < sim->ntables; t++)
	{
		put_row(rsinfo, variant, r->table[t], &tally[t], r->local_ms[t]);
		all.accesses += tally[t].accesses;
		all.remote += tally[t].remote;
		all.waiting_ms += tally[t].waiting_ms;
		all.moving_ms += tally[t].moving_ms;
		all.moves += tally[t].moves;
		all.bytes += tally[t].bytes;
		if (tally[t].accesses > 0)
			local_ms = local_ms < 0 || r->local_ms[t] < 0 ? -1 :
				local_ms + tally[t].accesses * r->local_ms[t];
	}
	put_row(rsinfo, variant, InvalidOid, &all,
			local_ms > 0 ? local_ms / all.accesses : local_ms);
}

PG_FUNCTION_INFO_V1(fa_sql_simulate);

/* simulate(from, to, settings) */
Datum
fa_sql_simulate(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz from = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz to = PG_GETARG_TIMESTAMPTZ(1);
	FaSimulation sim = {0};
	Recorded	was;

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
	InitMaterializedSRF(fcinfo, 0);
	prepare(&sim, split_settings(PG_GETARG_JSONB_P(2)), from, to);
	/* whole steps: from the first that begins in the time */
	from = (from + sim.f->width_us - 1) / sim.f->width_us * sim.f->width_us;
	to = to / sim.f->width_us * sim.f->width_us;
	fa_simulate_replay(&sim, from, to);
	read_recorded(&sim, from, to, &was);
	put_variant(rsinfo, &sim, "recorded", was.tally, &was);
	for (int i = 0; i < sim.nvariants; i++)
		put_variant(rsinfo, &sim, sim.variant[i].name, sim.variant[i].tally,
					&was);
	return (Datum) 0;
}
