/*
 * series.c
 *	  What happened to the busiest fragments, bin by bin.
 */
#include "postgres.h"

#include <math.h>

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

/* Fewer rows of heat maps where there are many nodes and bins. */
static void
limit_fragments(FaReport *report)
{
	int			cells = Max(report->ndrawn * report->nbins, 1);
	int			limit = Max(FA_REPORT_MAX_CELLS / cells, 8);

	report->nfragments = Min(report->nfragments, limit);
}

static FaReportFragment *
find_fragment(const FaReport *report, int64 id)
{
	for (int i = 0; i < report->nfragments; i++)
		if (report->fragments[i].id == id)
			return &report->fragments[i];
	return NULL;
}

static char *
fragment_array(const FaReport *report)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "'{");
	for (int i = 0; i < report->nfragments; i++)
		appendStringInfo(&buf, "%s" INT64_FORMAT, i > 0 ? "," : "",
						 report->fragments[i].id);
	appendStringInfoString(&buf, "}'::bigint[]");
	return buf.data;
}

/* Cell of a row (fragment, node, bin, ...), or -1 when it is not drawn. */
static int
find_cell(const FaReport *report, char **value, FaReportFragment **fragment_p)
{
	FaReportNode *node = fa_report_node(report, atoi(value[1]));
	int			bin = atoi(value[2]);

	*fragment_p = find_fragment(report, strtoll(value[0], NULL, 10));
	if (*fragment_p == NULL || node == NULL || node->color == 0 ||
		bin < 0 || bin >= report->nbins)
		return -1;
	return (node->color - 1) * report->nbins + bin;
}

static void
load_cells(FaReport *report)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT fragment, node, %s AS bin, sum(calls::float8) "
					   "FROM fragaffinity.history WHERE %s "
					   "AND fragment = ANY (%s) GROUP BY 1, 2, 3",
					   fa_report_bin_sql(report, "step"), report->range_sql,
					   fragment_array(report));
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportFragment *fragment;
		int			cell = find_cell(report, rows->value[i], &fragment);

		if (cell >= 0)
			fragment->calls[cell] = atof(rows->value[i][3]);
	}

	for (int i = 0; i < report->nfragments; i++)
	{
		FaReportFragment *fragment = &report->fragments[i];
		double		most = 0;

		for (int node = 0; node < report->ndrawn; node++)
		{
			double		calls = 0;

			for (int bin = 0; bin < report->nbins; bin++)
				calls += fragment->calls[node * report->nbins + bin];
			if (calls > most)
			{
				most = calls;
				fragment->home = node;
			}
		}
	}
}

/* Of the horizons kept, the one with the most forecasts. */
static void
load_forecasts(FaReport *report)
{
	FaRows	   *rows;
	int			horizon;

	rows = fa_spi_rows("SELECT horizon, horizon * avg(date_part('epoch', width))"
					   " FROM fragaffinity.prediction_history WHERE %s "
					   "GROUP BY horizon ORDER BY count(*) DESC, 1 LIMIT 1",
					   report->range_sql);
	if (rows->nrows == 0)
		return;
	horizon = atoi(rows->value[0][0]);
	report->forecast_ahead = atof(rows->value[0][1]);

	rows = fa_spi_rows("SELECT fragment, node, %s AS bin, "
					   "avg(expected_rate / date_part('epoch', width)) "
					   "FROM fragaffinity.prediction_history WHERE %s "
					   "AND horizon = %d AND fragment = ANY (%s) "
					   "GROUP BY 1, 2, 3",
					   fa_report_bin_sql(report, "step"), report->range_sql,
					   horizon, fragment_array(report));
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportFragment *fragment;
		int			cell = find_cell(report, rows->value[i], &fragment);

		if (cell >= 0)
			fragment->forecast[cell] = atof(rows->value[i][3]);
	}
}

static void
load_owners(FaReport *report)
{
	char	   *bin_sql = fa_report_bin_sql(report, "finished");
	FaRows	   *rows;

	for (int i = 0; i < report->nfragments; i++)
		for (int bin = 0; bin < report->nbins; bin++)
			report->fragments[i].owner[bin] = report->fragments[i].first_owner;

	rows = fa_spi_rows("SELECT fragment, destination, %s "
					   "FROM fragaffinity.move WHERE state = 'done' "
					   "AND finished >= %s AND finished < %s "
					   "AND fragment = ANY (%s) ORDER BY finished",
					   bin_sql, fa_report_time_sql(report->start),
					   fa_report_time_sql(report->to), fragment_array(report));
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportFragment *fragment =
			find_fragment(report, strtoll(rows->value[i][0], NULL, 10));

		if (fragment == NULL)
			continue;
		for (int bin = Max(atoi(rows->value[i][2]), 0); bin < report->nbins; bin++)
			fragment->owner[bin] = atoi(rows->value[i][1]);
	}
}

/* A step without accesses is known where its history was complete. */
static void
load_known(FaReport *report)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT DISTINCT node, %s "
					   "FROM fragaffinity.history_step WHERE %s",
					   fa_report_bin_sql(report, "step"), report->range_sql);
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportNode *node = fa_report_node(report,
											atoi(rows->value[i][0]));
		int			bin = atoi(rows->value[i][1]);

		if (node != NULL && bin >= 0 && bin < report->nbins)
			node->known[bin] = true;
	}
}

void
fa_report_load_series(FaReport *report)
{
	int			ncells;

	limit_fragments(report);
	ncells = Max(report->ndrawn * report->nbins, 1);
	for (int i = 0; i < report->nfragments; i++)
	{
		FaReportFragment *fragment = &report->fragments[i];

		fragment->calls = palloc0(sizeof(double) * ncells);
		fragment->forecast = palloc(sizeof(double) * ncells);
		fragment->owner = palloc0(sizeof(int) * report->nbins);
		for (int cell = 0; cell < ncells; cell++)
			fragment->forecast[cell] = NAN;
	}
	load_cells(report);
	load_forecasts(report);
	load_owners(report);
	load_known(report);
}

void
fa_report_node_name(FaReport *report, int id)
{
	FaReportNode *node = fa_report_node(report, id);

	if (node != NULL)
		fa_html_text(report->out, node->name);
	else
		appendStringInfo(report->out, "node %d", id);
}

/* The table's name gives way, the number stays. */
void
fa_report_fragment_name(FaReport *report, const FaReportFragment *fragment,
						int max_chars)
{
	char	   *number = psprintf(" #" INT64_FORMAT, fragment->id);
	const char *table = fragment->table != NULL ? fragment->table : "removed";

	/* the schema everybody has is no news */
	if (strncmp(table, "public.", 7) == 0)
		table += 7;
	fa_html_text_short(report->out, table,
					   Max(max_chars - (int) strlen(number), 4));
	appendStringInfoString(report->out, number);
}
