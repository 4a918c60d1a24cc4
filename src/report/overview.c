/*
 * overview.c
 *	  Head of the report: what it covers, and its figures in tiles.
 */
#include "postgres.h"

#include <math.h>

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

static void
tile_begin(FaReport *report, const char *what)
{
	appendStringInfo(report->out,
					 "<div class=\"tile\"><span class=\"what\">%s</span><b>",
					 what);
}

static void
tile_note(FaReport *report)
{
	appendStringInfoString(report->out, "</b><span>");
}

static void
tile_end(FaReport *report)
{
	appendStringInfoString(report->out, "</span></div>\n");
}

static void
write_head(FaReport *report)
{
	StringInfo	out = report->out;
	const char *format = "DD Mon YYYY HH24:MI:SS";

	appendStringInfoString(out, "<header>\n<h1>Where the data was, and where it "
						   "was wanted</h1>\n<p class=\"sub\">");
	appendStringInfo(out, "fragaffinity report, %s to ",
					 fa_report_time(report->from, format));
	appendStringInfo(out, "%s ", fa_report_time(report->to, format));
	fa_html_text(out, fa_spi_value("SELECT current_setting('TimeZone')"));
	appendStringInfoString(out, "</p>\n<p class=\"sub\">");
	if (!report->empty)
	{
		TimestampTz end = report->start + (TimestampTz)
			(report->nbins * report->bin_seconds * USECS_PER_SEC);

		appendStringInfo(out, "Drawn: %s to ",
						 fa_report_time(Max(report->start, report->from),
										format));
		appendStringInfo(out, "%s, which is what history covers, in steps of ",
						 fa_report_time(Min(end, report->to), format));
		fa_html_ms(out, report->bin_seconds * 1000);
		appendStringInfoString(out, ". ");
	}
	appendStringInfo(out, "Made %s from database ",
					 fa_spi_value("SELECT to_char(now(), '%s')", format));
	fa_html_text(out, fa_spi_value("SELECT current_database()"));
	appendStringInfoString(out, ", fragaffinity ");
	fa_html_text(out, fa_spi_value("SELECT extversion FROM pg_extension "
								   "WHERE extname = 'fragaffinity'"));
	appendStringInfoString(out, ".</p>\n");
	if (!report->empty)
		appendStringInfoString(out, "<nav><a href=\"#heat\">Demand</a>"
							   "<a href=\"#forecast\">Forecast</a>"
							   "<a href=\"#moves\">Moves</a>"
							   "<a href=\"#load\">Local share and latency</a>"
							   "<a href=\"#quality\">Prediction quality</a>"
							   "<a href=\"#fragments\">Busiest fragments</a>"
							   "<a href=\"#settings\">Settings</a></nav>\n");
	appendStringInfoString(out, "</header>\n");
}

static void
write_notices(FaReport *report)
{
	StringInfo	out = report->out;

	if (report->self == 0)
		appendStringInfoString(out, "<p class=\"warn\">This database belongs to "
							   "no cluster yet: call fragaffinity.add_node() "
							   "to make it the first node.</p>\n");
	else if (report->self != report->coordinator)
	{
		appendStringInfoString(out, "<p class=\"warn\">Node ");
		fa_report_node_name(report, report->self);
		appendStringInfoString(out, " keeps its own recent history only. The "
							   "history of all nodes is with the coordinator, ");
		fa_report_node_name(report, report->coordinator);
		appendStringInfoString(out, ": make the report there.</p>\n");
	}
	if (report->empty)
		appendStringInfoString(out, "<section><h2>No history</h2><p>Neither "
							   "accesses nor moves were recorded in this range. "
							   "Accesses appear one history step after the first "
							   "statement on a distributed table; history older "
							   "than the retention is gone.</p></section>\n");
}

static void
write_cluster_tiles(FaReport *report)
{
	StringInfo	out = report->out;
	FaReportSums *total = &report->total;
	double		seconds = report->nbins * report->bin_seconds;

	tile_begin(report, "Nodes");
	fa_html_exact(out, report->nnodes);
	tile_note(report);
	if (report->coordinator != 0)
	{
		appendStringInfoString(out, "coordinator ");
		fa_report_node_name(report, report->coordinator);
	}
	tile_end(report);

	tile_begin(report, "Fragments");
	fa_html_exact(out, report->fragments_known);
	tile_note(report);
	fa_html_exact(out, report->fragments_used);
	appendStringInfoString(out, " of them accessed");
	tile_end(report);

	tile_begin(report, "Accesses");
	fa_html_count(out, total->calls);
	tile_note(report);
	fa_html_count(out, total->calls / seconds);
	appendStringInfoString(out, " a second");
	tile_end(report);

	tile_begin(report, "Local share");
	fa_html_percent(out, 1 - total->remote_calls / total->calls);
	tile_note(report);
	appendStringInfoString(out, "without moves: ");
	fa_html_percent(out, 1 - total->unmoved_calls / total->calls);
	tile_end(report);

	tile_begin(report, "Mean access");
	fa_html_ms(out, total->elapsed_ms / total->calls);
	tile_note(report);
	appendStringInfoString(out, "local ");
	fa_html_ms(out, (total->elapsed_ms - total->remote_elapsed_ms) /
			   (total->calls - total->remote_calls));
	appendStringInfoString(out, ", remote ");
	fa_html_ms(out, total->remote_elapsed_ms / total->remote_calls);
	tile_end(report);
}

static void
write_move_tiles(FaReport *report)
{
	StringInfo	out = report->out;
	FaRows	   *rows;
	char	  **value;

	rows = fa_spi_rows("SELECT count(*) FILTER (WHERE done),"
					   " count(*) FILTER (WHERE done AND trigger = 'predictive'),"
					   " count(*) FILTER (WHERE state = 'failed'),"
					   " coalesce(sum(bytes) FILTER (WHERE done), 0),"
					   " percentile_cont(0.5) WITHIN GROUP (ORDER BY pause_ms)"
					   " FILTER (WHERE done),"
					   " max(pause_ms) FILTER (WHERE done) "
					   "FROM (SELECT *, state = 'done' AS done "
					   "FROM fragaffinity.move "
					   "WHERE coalesce(finished, requested) >= %s "
					   "AND coalesce(finished, requested) < %s) m",
					   fa_report_time_sql(report->from),
					   fa_report_time_sql(report->to));
	value = rows->value[0];

	tile_begin(report, "Moves");
	fa_html_exact(out, atof(value[0]));
	tile_note(report);
	appendStringInfo(out, "%s predicted, %s failed; ", value[1], value[2]);
	fa_html_bytes(out, atof(value[3]));
	tile_end(report);

	tile_begin(report, "Pause of a move");
	fa_html_ms(out, value[4] != NULL ? atof(value[4]) : NAN);
	tile_note(report);
	appendStringInfoString(out, "median; longest ");
	fa_html_ms(out, value[5] != NULL ? atof(value[5]) : NAN);
	tile_end(report);

	tile_begin(report, "Remote time saved");
	fa_html_ms(out, report->saved_ms);
	tile_note(report);
	appendStringInfoString(out, "estimate: accesses made local, times what a "
						   "remote one costs more");
	tile_end(report);
}

void
fa_report_overview(FaReport *report)
{
	write_head(report);
	write_notices(report);
	if (report->empty)
		return;
	appendStringInfoString(report->out, "<div class=\"tiles\">\n");
	write_cluster_tiles(report);
	write_move_tiles(report);
	appendStringInfoString(report->out, "</div>\n");
}
