/*
 * moves.c
 *	  Moves on a time line, and why each was made.
 *
 * Lanes are nodes, an arrow runs from the source's lane to the
 * destination's.  Moves of the same kind at the same pixel are one arrow.
 */
#include "postgres.h"

#include <math.h>

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

#define LANE_HEIGHT 46
#define COUNTS_HEIGHT 56		/* bars above the lanes */
#define SLOTS 320				/* positions on the time line */
#define MAX_ARROWS 600
#define MAX_ROWS 25

static const char *const triggers[] = {
	"predictive", "reactive", "manual", "drain", "rebalance"
};

/* 1-based; it names the classes t1..t5, d1..d5. */
static int
trigger_color(const char *trigger)
{
	for (int i = 0; i < lengthof(triggers); i++)
		if (strcmp(trigger, triggers[i]) == 0)
			return i + 1;
	return lengthof(triggers);
}

/* Condition: the move ended, or was asked for and has not ended, in range. */
static char *
range_sql(const FaReport *report)
{
	return psprintf("coalesce(finished, requested) >= %s "
					"AND coalesce(finished, requested) < %s",
					fa_report_time_sql(report->from),
					fa_report_time_sql(report->to));
}

static double
lane_y(const FaChart *chart, const FaReportNode *node)
{
	return chart->top + (node->color - 0.5) * LANE_HEIGHT;
}

/* source, destination, trigger, done, slot, number, fragments, reason */
static void
write_arrow(FaReport *report, FaChart *chart, char **value)
{
	StringInfo	out = report->out;
	FaReportNode *from = fa_report_node(report, atoi(value[0]));
	FaReportNode *to = fa_report_node(report, atoi(value[1]));
	int			color = trigger_color(value[2]);
	int			n = atoi(value[5]);
	double		x;
	double		y1;
	double		y2;
	double		sign;

	if (from == NULL || to == NULL || from->color == 0 || to->color == 0 ||
		from == to)
		return;
	x = fa_chart_x(chart, (atoi(value[4]) + 0.5) * report->nbins / SLOTS);
	y1 = lane_y(chart, from);
	y2 = lane_y(chart, to);
	sign = y2 > y1 ? 1 : -1;

	appendStringInfo(out, "<g><path class=\"mv t%d%s\" stroke-width=\"%.1f\" "
					 "d=\"M%.1f %.1fV%.1f\"/>", color,
					 value[3][0] == 't' ? "" : " dash",
					 Min(1 + log(n) / log(2), 5), x, y1, y2 - 6 * sign);
	if (value[3][0] == 't')
		appendStringInfo(out, "<path class=\"d%d\" d=\"M%.1f %.1fl-4.5 %.1fh9z\"/>",
						 color, x, y2, -8 * sign);
	else
		appendStringInfo(out, "<path class=\"bad\" d=\"M%.1f %.1fl8 8m0-8l-8 8\"/>",
						 x - 4, (y1 + y2) / 2 - 4);
	appendStringInfoString(out, "<title>");
	fa_html_text(out, value[6]);
	if (n > 3)
		appendStringInfo(out, " and %d more", n - 3);
	appendStringInfoString(out, ": ");
	fa_html_text(out, from->name);
	appendStringInfoString(out, " &#8594; ");
	fa_html_text(out, to->name);
	appendStringInfo(out, ", %s%s, ", value[2],
					 value[3][0] == 't' ? "" : ", failed");
	fa_html_text(out, value[8]);
	appendStringInfoString(out, ". ");
	fa_html_text_short(out, value[7], 160);
	appendStringInfoString(out, "</title></g>\n");
}

/* Stacked bars: how many moves ended in each bin, by trigger. */
static void
write_counts(FaReport *report, FaChart *lanes)
{
	FaChart		chart = *lanes;
	FaRows	   *rows;
	double	   *below = palloc0(sizeof(double) * report->nbins);

	rows = fa_spi_rows("SELECT %s AS bin, trigger, count(*) "
					   "FROM fragaffinity.move WHERE state = 'done' AND %s "
					   "GROUP BY 1, 2 ORDER BY 1, "
					   "array_position('{predictive,reactive,manual,drain}', "
					   "trigger)", fa_report_bin_sql(report, "finished"),
					   range_sql(report));
	chart.bottom = chart.height - COUNTS_HEIGHT;
	chart.top = 14;
	for (int pass = 0; pass < 2; pass++)
	{
		if (pass == 1)
			fa_chart_y_axis(&chart, FA_UNIT_COUNT, "moves");
		memset(below, 0, sizeof(double) * report->nbins);
		for (int i = 0; i < rows->nrows; i++)
		{
			char	  **value = rows->value[i];
			int			bin = atoi(value[0]);
			double		top;

			if (bin < 0 || bin >= report->nbins)
				continue;
			top = below[bin] + atof(value[2]);
			if (pass == 0)
				chart.y_max = Max(chart.y_max, 2 * ceil(top / 2));
			else
				appendStringInfo(chart.out, "<path class=\"d%d\" d=\"M%.1f %.1fV"
								 "%.1fH%.1fV%.1fz\"><title>%s: %s</title></path>\n",
								 trigger_color(value[1]),
								 fa_chart_x(&chart, bin) + 0.5,
								 fa_chart_y(&chart, below[bin]),
								 fa_chart_y(&chart, top),
								 fa_chart_x(&chart, bin + 1) - 0.5,
								 fa_chart_y(&chart, below[bin]), value[1],
								 value[2]);
			below[bin] = top;
		}
	}
}

static void
write_lanes(FaReport *report, FaChart *chart)
{
	StringInfo	out = report->out;

	for (int i = 0; i < report->ndrawn; i++)
	{
		double		y = lane_y(chart, report->drawn[i]);

		appendStringInfo(out, "<path class=\"n%d\" stroke-opacity=\".45\" d=\"M%d "
						 "%.1fH%d\"/><circle class=\"a%d\" cx=\"5\" cy=\"%.1f\" "
						 "r=\"5\"/><text class=\"row\" x=\"16\" y=\"%.1f\">",
						 report->drawn[i]->color, chart->left, y,
						 chart->width - chart->right, report->drawn[i]->color,
						 y, y + 4);
		fa_html_text_short(out, report->drawn[i]->name, 14);
		appendStringInfoString(out, "</text>\n");
	}
}

static void
write_timeline(FaReport *report)
{
	StringInfo	out = report->out;
	double		slot = report->nbins * report->bin_seconds / SLOTS;
	FaChart		chart = {
		.out = out,
		.width = 1000,
		.left = 110,
		.right = 8,
		.top = COUNTS_HEIGHT + 6,
		.bottom = 32,
		.x_max = report->nbins
	};
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT source, destination, trigger, done, slot, "
					   "count(*), array_to_string((array_agg('#' || fragment "
					   "ORDER BY finished))[1:3], ', '), "
					   "(array_agg(reason ORDER BY finished DESC))[1], "
					   "to_char(min(finished), 'DD Mon HH24:MI:SS') "
					   "FROM (SELECT *, state = 'done' AS done, "
					   "floor(date_part('epoch', finished - %s) / %.6f)::int "
					   "AS slot FROM fragaffinity.move "
					   "WHERE state IN ('done', 'failed') AND %s) m "
					   "WHERE slot BETWEEN 0 AND %d "
					   "GROUP BY 1, 2, 3, 4, 5 "
					   "ORDER BY count(*) DESC, slot, 1, 2 LIMIT %d",
					   fa_report_time_sql(report->start), slot,
					   range_sql(report), SLOTS - 1, MAX_ARROWS);
	chart.height = chart.top + chart.bottom + report->ndrawn * LANE_HEIGHT;

	appendStringInfoString(out, "<p class=\"legend\">");
	for (int i = 1; i <= lengthof(triggers); i++)
		appendStringInfo(out, "<span><svg style=\"width:12px;height:12px\" "
						 "viewBox=\"0 0 12 12\"><path class=\"d%d\" "
						 "d=\"M6 11L1 2h10z\"/></svg>%s</span> ",
						 i, triggers[i - 1]);
	appendStringInfoString(out, "<span><svg style=\"width:12px;height:12px\" "
						   "viewBox=\"0 0 12 12\"><path class=\"bad\" "
						   "d=\"M2 2l8 8m0-8l-8 8\"/></svg>failed</span></p>\n"
						   "<div class=\"wide\">\n");
	fa_chart_begin(&chart, "Moves between nodes over time");
	fa_chart_time_axis(&chart, report->ticks, report->nticks, true);
	write_counts(report, &chart);
	write_lanes(report, &chart);
	for (int i = 0; i < rows->nrows; i++)
		write_arrow(report, &chart, rows->value[i]);
	fa_chart_end(&chart);
	appendStringInfoString(out, "</div>\n");
	if (rows->nrows == MAX_ARROWS)
		appendStringInfoString(out, "<p class=\"note\">The most frequent routes "
							   "are drawn; the bars count all moves.</p>\n");
}

static void
cell_ms(StringInfo out, const char *value)
{
	appendStringInfoString(out, "<td class=\"num\">");
	fa_html_ms(out, value != NULL ? atof(value) : NAN);
	appendStringInfoString(out, "</td>");
}

static void
cell_bytes(StringInfo out, const char *value)
{
	appendStringInfoString(out, "<td class=\"num\">");
	fa_html_bytes(out, value != NULL ? atof(value) : NAN);
	appendStringInfoString(out, "</td>");
}

static void
write_by_trigger(FaReport *report)
{
	static const char *const heads[] = {
		"Trigger", "Done", "Failed", "Cancelled", "Under way", "Data",
		"Pause, median", "Pause, longest", "Lead, median"
	};
	StringInfo	out = report->out;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT trigger, count(*) FILTER (WHERE state = 'done'),"
					   " count(*) FILTER (WHERE state = 'failed'),"
					   " count(*) FILTER (WHERE state = 'cancelled'),"
					   " count(*) FILTER (WHERE state NOT IN"
					   " ('done', 'failed', 'cancelled')),"
					   " sum(bytes) FILTER (WHERE state = 'done'),"
					   " percentile_cont(0.5) WITHIN GROUP (ORDER BY pause_ms)"
					   " FILTER (WHERE state = 'done'),"
					   " max(pause_ms) FILTER (WHERE state = 'done'),"
					   " percentile_cont(0.5) WITHIN GROUP (ORDER BY lead_ms)"
					   " FILTER (WHERE state = 'done') "
					   "FROM fragaffinity.move WHERE %s GROUP BY 1 "
					   "ORDER BY array_position('{predictive,reactive,manual,"
					   "drain}', trigger)", range_sql(report));
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 1);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];

		appendStringInfo(out, "<tr><td>%s</td>", value[0]);
		for (int column = 1; column <= 4; column++)
			appendStringInfo(out, "<td class=\"num\">%s</td>", value[column]);
		cell_bytes(out, value[5]);
		for (int column = 6; column <= 8; column++)
			cell_ms(out, value[column]);
		appendStringInfoString(out, "</tr>\n");
	}
	fa_html_table_end(out);
}

/* Where to, and what became of it when it is not simply done. */
static void
write_route(FaReport *report, char **value)
{
	StringInfo	out = report->out;

	appendStringInfoString(out, "<td class=\"nw\">");
	fa_report_node_name(report, atoi(value[3]));
	appendStringInfoString(out, " &#8594; ");
	fa_report_node_name(report, atoi(value[4]));
	appendStringInfoString(out, "</td><td class=\"nw\">");
	fa_html_text(out, value[5]);
	if (strcmp(value[6], "done") != 0)
	{
		appendStringInfoString(out, ", ");
		fa_html_text(out, value[6]);
	}
	appendStringInfoString(out, "</td>");
}

static void
write_recent(FaReport *report, int total)
{
	static const char *const heads[] = {
		"Time, and why", "Fragment", "Route", "Trigger", "Data", "Took",
		"Pause", "Lead"
	};
	StringInfo	out = report->out;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT to_char(coalesce(m.finished, m.requested),"
					   " 'DD Mon HH24:MI:SS'), m.fragment, t.rel::text,"
					   " m.source, m.destination, m.trigger, m.state,"
					   " concat_ws('; ', m.reason, m.error), m.bytes,"
					   " date_part('epoch', m.finished - m.started) * 1000,"
					   " m.pause_ms, m.lead_ms "
					   "FROM fragaffinity.move m "
					   "LEFT JOIN fragaffinity.fragment f USING (fragment) "
					   "LEFT JOIN fragaffinity.distributed_table t "
					   "USING (table_id) WHERE %s "
					   "ORDER BY coalesce(m.finished, m.requested) DESC, m.move "
					   "LIMIT %d", range_sql(report), MAX_ROWS);
	appendStringInfo(out, "<h3>%s</h3>\n",
					 total > MAX_ROWS ? "The latest moves" : "All moves");
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 4);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];
		FaReportFragment fragment = {
			.id = strtoll(value[1], NULL, 10),
			.table = value[2]
		};

		appendStringInfo(out, "<tr class=\"first\"><td class=\"nw\">%s</td>"
						 "<td class=\"nw\">", value[0]);
		fa_report_fragment_name(report, &fragment, 40);
		appendStringInfoString(out, "</td>");
		write_route(report, value);
		cell_bytes(out, value[8]);
		for (int column = 9; column <= 11; column++)
			cell_ms(out, value[column]);
		appendStringInfo(out, "</tr>\n<tr class=\"why\"><td colspan=\"%d\">",
						 (int) lengthof(heads));
		fa_html_text_short(out, value[7], 400);
		appendStringInfoString(out, "</td></tr>\n");
	}
	fa_html_table_end(out);
	if (total > MAX_ROWS)
		appendStringInfo(out, "<p class=\"note\">%d of %d moves; all are in the "
						 "view fragaffinity.moves.</p>\n", MAX_ROWS, total);
}

void
fa_report_moves(FaReport *report)
{
	int			total;

	total = atoi(fa_spi_value("SELECT count(*) FROM fragaffinity.move "
							  "WHERE %s", range_sql(report)));
	fa_report_section(report, "moves", "Moves",
					  "Each arrow is a fragment that changed its owner, from the "
					  "lane of the old to the lane of the new. Lead is how long "
					  "before the demand the data was there; below zero, "
					  "it came after.");
	if (total == 0)
		appendStringInfoString(report->out,
							   "<p>Nothing moved in this range.</p>\n");
	else
	{
		write_timeline(report);
		write_by_trigger(report);
		write_recent(report, total);
	}
	fa_report_section_end(report);
}
