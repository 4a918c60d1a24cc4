/*
 * rollup.c
 *	  Keeps the tables of statistics small.
 *
 * History is kept in steps for history_retention, then in hours for
 * history_hours_retention, then in days for history_days_retention.  A coarse
 * row starts where its first fine row may start, and replaces all fine rows
 * of its time in one statement, so that no reader counts twice.  At most a
 * few hours or days are rolled up at a time; after a long stop it takes some
 * rounds.
 *
 * Times to compare with are computed here: with a volatile function in its place
 * a statement reads all of history to find nothing, each time.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "capture/tables.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"

/* Of what is known of fragments whose partition was dropped. */
#define FORGET_AFTER_MS 10000
#define PERIOD_US INT64CONST(30000000)
#define MAX_CHUNKS 24

/* The time that was so long ago, as a literal. */
static const char *
ago(double ms)
{
	TimestampTz t = GetCurrentTimestamp() - (TimestampTz) (ms * 1000);

	return psprintf("timestamptz '%s'", timestamptz_to_str(t));
}

/* Rolls up the oldest hour or day that is due; false when there is none. */
static bool
rollup_chunk(const char *unit, const char *finer_than, double retention_ms)
{
	char	   *chunk = fa_spi_value(
		"SELECT date_trunc('%s', min(step), 'UTC') FROM fragaffinity.history "
		"WHERE width < interval '%s' AND step < date_trunc('%s', %s, 'UTC')",
		unit, finer_than, unit, ago(retention_ms));

	if (chunk == NULL)
		return false;
	fa_spi_exec(
		"WITH fine AS (DELETE FROM fragaffinity.history "
		" WHERE width < interval '%s' AND step >= '%s'::timestamptz "
		" AND step < '%s'::timestamptz + interval '%s' RETURNING *) "
		"INSERT INTO fragaffinity.history AS h "
		"SELECT '%s'::timestamptz, interval '%s', node, fragment, "
		" sum(calls), sum(remote_calls), sum(rows_read), sum(rows_written), "
		" sum(elapsed_ms), sum(remote_elapsed_ms) FROM fine "
		"GROUP BY node, fragment "
		"ON CONFLICT (step, node, fragment) DO UPDATE SET "
		" width = excluded.width, "
		" calls = h.calls + excluded.calls, "
		" remote_calls = h.remote_calls + excluded.remote_calls, "
		" rows_read = h.rows_read + excluded.rows_read, "
		" rows_written = h.rows_written + excluded.rows_written, "
		" elapsed_ms = h.elapsed_ms + excluded.elapsed_ms, "
		" remote_elapsed_ms = h.remote_elapsed_ms + excluded.remote_elapsed_ms",
		finer_than, chunk, chunk, finer_than, chunk, finer_than);
	return true;
}

static void
rollup_run(const char *unit, const char *width, const char *setting)
{
	for (int i = 0; i < MAX_CHUNKS; i++)
	{
		bool		more;

		fa_stats_begin();
		more = rollup_chunk(unit, width, fa_setting_float(setting, 0));
		fa_stats_commit();
		if (!more)
			break;
	}
}

/* What is too old, and what belongs to fragments or times that are not. */
static void
rollup_delete(void)
{
	double		steps = fa_setting_float("history_retention", 0);
	int64		limit = fa_setting_int("transition_limit", 0);
	double		half_life = fa_setting_float("transition_half_life", 0);

	fa_spi_exec("DELETE FROM fragaffinity.history WHERE step < %s "
				"OR step > %s + interval '1 day'",
				ago(fa_setting_float("history_days_retention", 0)), ago(0));
	fa_spi_exec("DELETE FROM fragaffinity.history_step WHERE step < "
				"date_trunc('hour', %s, 'UTC') "
				"OR step > %s + interval '1 day'", ago(steps), ago(0));
	fa_spi_exec("DELETE FROM fragaffinity.metric WHERE sampled < %s "
				"OR sampled > %s + interval '1 day'",
				ago(fa_setting_float("metric_retention", 0)), ago(0));
	fa_spi_exec("DELETE FROM fragaffinity.key_sample WHERE sampled < %s "
				"OR sampled > %s + interval '1 hour'",
				ago(fa_setting_float("heat_window", 0)), ago(0));
	fa_spi_exec("DELETE FROM fragaffinity.access_total t WHERE NOT EXISTS "
				"(SELECT FROM fragaffinity.fragment f "
				" WHERE f.fragment = t.fragment) "
				"OR NOT EXISTS (SELECT FROM fragaffinity.node n "
				" WHERE n.node = t.node)");
	fa_spi_exec("DELETE FROM fragaffinity.transition t WHERE NOT EXISTS "
				"(SELECT FROM fragaffinity.node n WHERE n.node = t.node)");
	fa_spi_exec("DELETE FROM fragaffinity.fragment_size s WHERE NOT EXISTS "
				"(SELECT FROM fragaffinity.fragment f "
				" WHERE f.fragment = s.fragment)");
	/* the lightest transitions beyond the limit of their node go */
	fa_spi_exec("DELETE FROM fragaffinity.transition t USING "
				"(SELECT ctid, row_number() OVER (PARTITION BY node ORDER BY "
				"  ln(greatest(weight, 1e-300)) + ln(2) * extract(epoch FROM updated - "
				"   clock_timestamp()) / %g DESC) AS rank "
				" FROM fragaffinity.transition) o "
				"WHERE o.rank > " INT64_FORMAT " AND t.ctid = o.ctid",
				half_life / 1000, limit);
}

/*
 * Fragments whose partition was dropped, a while after that: sessions may have had
 * accesses to tell.  Not by whoever drops it: rows that its prepared transaction has
 * deleted would be waited for by the worker that is to finish that transaction.
 */
static void
rollup_forget_dropped(void)
{
	static const struct
	{
		const char *table;
		const char *column;
	}			columns[] = {
		{"history", "fragment"}, {"prediction_history", "fragment"},
		{"co_access_pair", "fragment"}, {"co_access_pair", "other"},
		{"transition", "from_fragment"}, {"transition", "to_fragment"},
		{"key_sample", "fragment"}, {"planned_move", "fragment"},
		{"recommendation", "fragment"}, {"division", "fragment"},
		{"division_failure", "fragment"}
	};
	char	   *fragments;

	fragments = fa_spi_value("SELECT pg_catalog.array_agg(fragment) "
							 "FROM fragaffinity.dropped_fragment WHERE dropped < %s",
							 ago(FORGET_AFTER_MS));
	if (fragments == NULL)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		fa_spi_exec("DELETE FROM fragaffinity.%s WHERE %s = ANY ('%s')",
					columns[i].table, columns[i].column, fragments);
	fa_spi_exec("DELETE FROM fragaffinity.dropped_fragment WHERE fragment = ANY ('%s')",
				fragments);
}

void
fa_history_maintain(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		member;

	if (last != 0 && now >= last && now - last < PERIOD_US)
		return;
	last = now;
	fa_stats_begin();
	member = fa_extension_exists() && fa_node_self() != 0;
	if (member)
	{
		rollup_delete();
		rollup_forget_dropped();
	}
	fa_stats_commit();
	if (!member)
		return;
	rollup_run("hour", "1 hour", "history_retention");
	rollup_run("day", "1 day", "history_hours_retention");
}
