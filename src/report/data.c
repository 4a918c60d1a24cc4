/*
 * data.c
 *	  What a report is about: its nodes, its time range, its totals.
 *
 * The range drawn is what history covers of the range asked for, so that
 * three minutes of history fill the page and not a pixel of a day.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "core/spi.h"
#include "report/report.h"

static void
load_nodes(FaReport *report)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT node, coordinator FROM fragaffinity.local_node");
	if (rows->nrows > 0)
	{
		report->self = atoi(rows->value[0][0]);
		report->coordinator = atoi(rows->value[0][1]);
	}

	rows = fa_spi_rows("SELECT n.node, n.name, n.host, n.port, n.dbname, "
					   "n.region, n.state, "
					   "(SELECT count(*) FROM fragaffinity.fragment f "
					   " WHERE f.owner = n.node) "
					   "FROM fragaffinity.node n ORDER BY n.node");
	report->nnodes = rows->nrows;
	report->nodes = palloc0(sizeof(FaReportNode) * Max(rows->nrows, 1));
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportNode *node = &report->nodes[i];
		char	  **value = rows->value[i];

		node->id = atoi(value[0]);
		node->name = value[1];
		node->address = psprintf("%s:%s/%s", value[2], value[3], value[4]);
		node->region = value[5];
		node->state = value[6];
		node->fragments = atoi(value[7]);
		report->fragments_known += node->fragments;
	}
}

FaReportNode *
fa_report_node(const FaReport *report, int id)
{
	for (int i = 0; i < report->nnodes; i++)
		if (report->nodes[i].id == id)
			return &report->nodes[i];
	return NULL;
}

char *
fa_report_time_sql(TimestampTz time)
{
	return psprintf("('2000-01-01 00:00:00+00'::pg_catalog.timestamptz + "
					"'" INT64_FORMAT " microseconds'::pg_catalog.interval)",
					time);
}

char *
fa_report_bin_sql(const FaReport *report, const char *column)
{
	return psprintf("pg_catalog.floor(pg_catalog.date_part('epoch', %s - %s)"
					" / %.3f)::integer", column,
					fa_report_time_sql(report->start), report->bin_seconds);
}

char *
fa_report_time(TimestampTz time, const char *format)
{
	return fa_spi_value("SELECT pg_catalog.to_char(%s, '%s')",
						fa_report_time_sql(time), format);
}

char *
fa_report_bin_time(const FaReport *report, int bin)
{
	TimestampTz time = report->start +
		(TimestampTz) (bin * report->bin_seconds * USECS_PER_SEC);

	return fa_report_time(time, report->bin_seconds < 60 ?
						  "DD Mon HH24:MI:SS" : "DD Mon HH24:MI");
}

/*
 * First and last moment of history and moves in the range, as seconds after
 * its start; false when there is none.  Rolled-up steps are wider than
 * fresh ones: bins are at least as wide as the widest.
 */
static bool
find_extent(FaReport *report, double *first_p, double *last_p,
			double *width_p)
{
	char	   *from = fa_report_time_sql(report->from);
	char	   *to = fa_report_time_sql(report->to);
	FaRows	   *rows;

	rows = fa_spi_rows("WITH ends AS ("
					   "(SELECT step, width FROM fragaffinity.history "
					   " WHERE step >= %s AND step < %s "
					   " ORDER BY step LIMIT 1) UNION ALL "
					   "(SELECT step, width FROM fragaffinity.history "
					   " WHERE step >= %s AND step < %s "
					   " ORDER BY step DESC LIMIT 1)) "
					   "SELECT pg_catalog.min(x), pg_catalog.max(y), "
					   "pg_catalog.max(w) FROM ("
					   "SELECT pg_catalog.date_part('epoch', step - %s) x,"
					   " pg_catalog.date_part('epoch', step + width - %s) y,"
					   " pg_catalog.date_part('epoch', width) w FROM ends "
					   "UNION ALL "
					   "SELECT pg_catalog.date_part('epoch', finished - %s),"
					   " pg_catalog.date_part('epoch', finished - %s), 0 "
					   "FROM fragaffinity.move "
					   "WHERE finished >= %s AND finished < %s) e",
					   from, to, from, to, from, from, from, from, from, to);
	if (rows->value[0][0] == NULL)
		return false;
	*first_p = atof(rows->value[0][0]);
	*last_p = Min(atof(rows->value[0][1]),
				  (report->to - report->from) / 1e6);
	*width_p = atof(rows->value[0][2]);
	return true;
}

double
fa_report_bin_seconds(const FaReport *report, int bin)
{
	int64		width = (int64) (report->bin_seconds * USECS_PER_SEC);
	TimestampTz start = report->start + bin * width;

	return Max((Min(start + width, report->last) -
				Max(start, report->first)) / 1e6, report->step_seconds);
}

/* Cuts the range into bins of a round width, on round local times. */
static void
choose_bins(FaReport *report, double first, double last, double width)
{
	static const double widths[] = {
		1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200,
		10800, 14400, 21600, 28800, 43200, 86400, 172800, 604800, 1209600, 2592000,
		7776000, 31536000
	};
	TimestampTz start;
	TimestampTz aligned;
	int64		bin;
	int64		zone;
	int			i = 0;

	last = Max(last, first + 1);
	/* one bin may be lost to the alignment of the start */
	while (i < lengthof(widths) - 1 &&
		   (widths[i] < width ||
			(last - first) / widths[i] > FA_REPORT_MAX_BINS - 1))
		i++;
	report->bin_seconds = widths[i];
	report->step_seconds = width;
	/* beyond the longest round width */
	while ((last - first) / report->bin_seconds > FA_REPORT_MAX_BINS - 1)
		report->bin_seconds *= 2;

	start = report->from + (TimestampTz) (first * USECS_PER_SEC);
	report->first = start;
	report->last = report->from + (TimestampTz) (last * USECS_PER_SEC);
	zone = (int64) atof(fa_spi_value("SELECT pg_catalog.date_part('timezone', %s)",
									 fa_report_time_sql(start)));
	bin = (int64) (report->bin_seconds * USECS_PER_SEC);
	aligned = start + zone * USECS_PER_SEC;
	aligned -= ((aligned % bin) + bin) % bin;
	report->start = aligned - zone * USECS_PER_SEC;
	report->nbins = (int) ceil((last - first +
								(start - report->start) / 1e6) /
							   report->bin_seconds);
	report->nbins = Min(Max(report->nbins, 1), FA_REPORT_MAX_BINS);
	/* history from before "from" stays out although its bin begins there */
	report->range_sql =
		psprintf("step >= %s AND step < %s",
				 fa_report_time_sql(Max(report->start, report->from)),
				 fa_report_time_sql(report->to));
}

/*
 * Ticks on round local times, at most max of them; a date where the day
 * changes.  Returns how many.
 */
static int
load_ticks(FaReport *report, FaTick *ticks, int max)
{
	static const int steps[] = {
		1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
		43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000
	};
	double		span = report->nbins * report->bin_seconds;
	char	   *start = fa_report_time_sql(report->start);
	FaRows	   *rows;
	int			i = 0;
	int			n = 0;

	while (i < lengthof(steps) - 1 && span / steps[i] > max)
		i++;
	rows = fa_spi_rows("WITH zone AS (SELECT "
					   "pg_catalog.current_setting('TimeZone') AS tz) "
					   "SELECT pg_catalog.date_part('epoch', "
					   "(g AT TIME ZONE tz) - %s) AS x, "
					   "pg_catalog.to_char(g, '%s'), "
					   "pg_catalog.to_char(g, 'DD Mon') "
					   "FROM zone, pg_catalog.generate_series("
					   "pg_catalog.date_bin('%d s', %s AT TIME ZONE tz, "
					   "'2000-01-03'), (%s + '%.0f s'::interval) "
					   "AT TIME ZONE tz, '%d s') g ORDER BY 1",
					   start, steps[i] < 60 ? "HH24:MI:SS" :
					   steps[i] < 86400 ? "HH24:MI" : "DD Mon YYYY",
					   steps[i], start, start, span, steps[i]);
	for (int row = 0; row < rows->nrows && n < FA_REPORT_MAX_TICKS; row++)
	{
		char	  **value = rows->value[row];
		double		x = atof(value[0]);
		bool		same_day = row > 0 &&
			strcmp(value[2], rows->value[row - 1][2]) == 0;

		if (x < 0 || x > span)
			continue;
		ticks[n].x = x / report->bin_seconds;
		ticks[n].label = value[1];
		ticks[n].date = steps[i] < 86400 && (n == 0 || !same_day) ?
			value[2] : NULL;
		n++;
	}
	return n;
}

static void
read_sums(FaReportSums *sums, char **value)
{
	sums->calls = atof(value[0]);
	sums->remote_calls = atof(value[1]);
	sums->elapsed_ms = atof(value[2]);
	sums->remote_elapsed_ms = atof(value[3]);
	sums->unmoved_calls = atof(value[4]);
}

static void
add_fragment(FaReport *report, char **value)
{
	FaReportFragment *fragment = &report->fragments[report->nfragments++];

	fragment->id = strtoll(value[1], NULL, 10);
	fragment->table = value[8];
	fragment->first_owner = value[2] != NULL ? atoi(value[2]) : 0;
	fragment->home = -1;
	read_sums(&fragment->total, value + 3);
}

static void
add_table(FaReport *report, char **value)
{
	FaReportTable *table = &report->tables[report->ntables++];

	table->fragments = atoi(value[2]);
	table->name = value[8];
	read_sums(&table->total, value + 3);
}

static void
add_bin(FaReport *report, char **value)
{
	FaReportNode *node = fa_report_node(report, atoi(value[2]));
	int			bin = atoi(value[1]);

	/* a removed node's history counts in the totals alone */
	if (node == NULL || bin < 0 || bin >= report->nbins)
		return;
	read_sums(&node->bin[bin], value + 3);
	node->known[bin] = true;
}

static void
add_sums(FaReportSums *to, const FaReportSums *from)
{
	to->calls += from->calls;
	to->remote_calls += from->remote_calls;
	to->elapsed_ms += from->elapsed_ms;
	to->remote_elapsed_ms += from->remote_elapsed_ms;
	to->unmoved_calls += from->unmoved_calls;
}

/*
 * All sums in one pass over the history.  Had nothing moved, an access would
 * be remote unless it came from the owner at the start: the source of the
 * first move since, or the owner of today.
 */
static void
load_totals(FaReport *report)
{
	char	   *start = fa_report_time_sql(Max(report->start, report->from));
	FaRows	   *rows;

	rows = fa_spi_rows(
					   "WITH first_move AS MATERIALIZED ("
					   "SELECT DISTINCT ON (fragment) fragment, source "
					   "FROM fragaffinity.move WHERE state = 'done' "
					   "AND finished >= %s ORDER BY fragment, finished), "
					   "place AS MATERIALIZED ("
					   "SELECT f.fragment, coalesce(m.source, f.owner) AS owner, "
					   "f.table_id FROM fragaffinity.fragment f "
					   "LEFT JOIN first_move m USING (fragment)), "
					   "agg AS MATERIALIZED ("
					   "SELECT GROUPING(bin) AS by_fragment, bin, node, fragment,"
					   " sum(calls::float8) AS calls,"
					   " sum(remote_calls::float8) AS remote_calls,"
					   " sum(elapsed_ms) AS elapsed_ms,"
					   " sum(remote_elapsed_ms) AS remote_elapsed_ms,"
					   " sum(CASE WHEN owner IS NULL THEN remote_calls"
					   " WHEN node <> owner THEN calls ELSE 0 END::float8)"
					   " AS unmoved_calls, min(owner) AS owner "
					   "FROM (SELECT h.*, p.owner, %s AS bin "
					   "FROM fragaffinity.history h LEFT JOIN place p "
					   "USING (fragment) WHERE %s) s "
					   "GROUP BY GROUPING SETS ((bin, node), (fragment))), "
					   "busiest AS (SELECT * FROM agg WHERE by_fragment = 1 "
					   "ORDER BY calls DESC, fragment LIMIT %d) "
					   "SELECT 'b' AS kind, bin::bigint AS a, node AS b, calls,"
					   " remote_calls, elapsed_ms, remote_elapsed_ms,"
					   " unmoved_calls, NULL::text AS name "
					   "FROM agg WHERE by_fragment = 0 "
					   "UNION ALL SELECT 't', count(*), NULL, sum(calls),"
					   " sum(remote_calls), sum(elapsed_ms),"
					   " sum(remote_elapsed_ms), sum(unmoved_calls), NULL "
					   "FROM agg WHERE by_fragment = 1 HAVING count(*) > 0 "
					   "UNION ALL SELECT 'f', b.fragment, b.owner, calls,"
					   " remote_calls, elapsed_ms, remote_elapsed_ms,"
					   " unmoved_calls, t.rel::text "
					   "FROM busiest b LEFT JOIN place p USING (fragment) "
					   "LEFT JOIN fragaffinity.distributed_table t "
					   "USING (table_id) "
					   "UNION ALL (SELECT 'd', table_id, count(*)::int,"
					   " sum(calls), sum(remote_calls), sum(elapsed_ms),"
					   " sum(remote_elapsed_ms), sum(unmoved_calls), t.rel::text "
					   "FROM place p JOIN fragaffinity.distributed_table t "
					   "USING (table_id) LEFT JOIN (SELECT * FROM agg "
					   "WHERE by_fragment = 1) a USING (fragment) "
					   "GROUP BY table_id, t.rel HAVING sum(calls) > 0 "
					   "ORDER BY 4 DESC, 2 LIMIT %d) ORDER BY 1, 4 DESC, 2",
					   start, fa_report_bin_sql(report, "step"),
					   report->range_sql, FA_REPORT_MAX_FRAGMENTS,
					   FA_REPORT_MAX_TABLES);

	report->fragments = palloc0(sizeof(FaReportFragment) *
								FA_REPORT_MAX_FRAGMENTS);
	report->tables = palloc0(sizeof(FaReportTable) * FA_REPORT_MAX_TABLES);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];

		if (value[0][0] == 'b')
			add_bin(report, value);
		else if (value[0][0] == 'f')
			add_fragment(report, value);
		else if (value[0][0] == 'd')
			add_table(report, value);
		else
		{
			report->fragments_used = atoi(value[1]);
			read_sums(&report->total, value + 3);
		}
	}
	for (int i = 0; i < report->nnodes; i++)
		for (int bin = 0; bin < report->nbins; bin++)
			add_sums(&report->nodes[i].total, &report->nodes[i].bin[bin]);
}

static int
compare_nodes(const void *a, const void *b)
{
	const FaReportNode *na = *(FaReportNode *const *) a;
	const FaReportNode *nb = *(FaReportNode *const *) b;

	if (na->total.calls != nb->total.calls)
		return na->total.calls < nb->total.calls ? 1 : -1;
	return na->id - nb->id;
}

/* Gives the busiest nodes a colour each, in the order of their ids. */
static void
choose_nodes(FaReport *report)
{
	FaReportNode **order = palloc(sizeof(FaReportNode *) *
								  Max(report->nnodes, 1));

	for (int i = 0; i < report->nnodes; i++)
		order[i] = &report->nodes[i];
	qsort(order, report->nnodes, sizeof(FaReportNode *), compare_nodes);
	for (int i = 0; i < Min(report->nnodes, FA_REPORT_MAX_NODES); i++)
		order[i]->color = 1;

	report->drawn = order;
	for (int i = 0; i < report->nnodes; i++)
		if (report->nodes[i].color > 0)
		{
			report->nodes[i].color = report->ndrawn + 1;
			report->drawn[report->ndrawn++] = &report->nodes[i];
		}
}

/*
 * Remote time saved: for each node, the accesses that moves made local (or
 * remote, counted against it) times what a remote access cost there more
 * than a local one.  A node that made only one kind takes the average's.
 */
static double
saved_ms(const FaReport *report)
{
	double		saved = 0;

	for (int i = 0; i < report->nnodes; i++)
	{
		const FaReportSums *sums = &report->nodes[i].total;
		const FaReportSums *rates = sums;
		double		local;
		double		remote;

		if (sums->remote_calls == 0 || sums->remote_calls == sums->calls)
			rates = &report->total;
		if (rates->remote_calls == 0 || rates->remote_calls == rates->calls)
			continue;
		remote = rates->remote_elapsed_ms / rates->remote_calls;
		local = (rates->elapsed_ms - rates->remote_elapsed_ms) /
			(rates->calls - rates->remote_calls);
		saved += (sums->unmoved_calls - sums->remote_calls) * (remote - local);
	}
	return saved;
}

void
fa_report_load(FaReport *report)
{
	double		first;
	double		last;
	double		width;

	load_nodes(report);
	if (!find_extent(report, &first, &last, &width))
	{
		report->empty = true;
		return;
	}
	choose_bins(report, first, last, width);
	report->nticks = load_ticks(report, report->ticks, 12);
	report->nfew_ticks = load_ticks(report, report->few_ticks, 5);
	for (int i = 0; i < report->nnodes; i++)
	{
		report->nodes[i].bin = palloc0(sizeof(FaReportSums) * report->nbins);
		report->nodes[i].known = palloc0(sizeof(bool) * report->nbins);
	}
	load_totals(report);
	choose_nodes(report);
	report->saved_ms = saved_ms(report);
	fa_report_load_series(report);
}
