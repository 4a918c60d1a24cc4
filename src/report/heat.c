/*
 * heat.c
 *	  Demand of the busiest fragments by node over time, and their owners.
 *
 * One panel a node, the same fragments in the same order in each, so that a
 * fragment's demand is followed from panel to panel.  The line under a cell
 * says that the node owned the fragment then.
 */
#include "postgres.h"

#include <math.h>

#include "report/html.h"
#include "report/report.h"

#define ROW_HEIGHT 16
#define CELL_HEIGHT 11
#define CHART_WIDTH 1000
#define LABEL_WIDTH 150

/* By home node, then by number: what belongs together stands together. */
static int
compare_homes(const void *a, const void *b)
{
	const FaReportFragment *fa = *(FaReportFragment *const *) a;
	const FaReportFragment *fb = *(FaReportFragment *const *) b;

	if (fa->home != fb->home)
		return fa->home - fb->home;
	return fa->id < fb->id ? -1 : fa->id > fb->id;
}

static FaReportFragment **
order_fragments(FaReport *report)
{
	FaReportFragment **order = palloc(sizeof(FaReportFragment *) *
									  Max(report->nfragments, 1));

	for (int i = 0; i < report->nfragments; i++)
		order[i] = &report->fragments[i];
	qsort(order, report->nfragments, sizeof(FaReportFragment *),
		  compare_homes);
	return order;
}

static double
find_max(FaReport *report)
{
	double		max = 0;

	for (int i = 0; i < report->nfragments; i++)
		for (int cell = 0; cell < report->ndrawn * report->nbins; cell++)
			max = Max(max, report->fragments[i].calls[cell]);
	return max;
}

/* Steps in which the node was not observed, over all rows of its panel. */
static void
write_unknown(FaReport *report, FaChart *chart, const FaReportNode *node)
{
	int			bin = 0;

	while (bin < report->nbins)
	{
		int			first = bin;

		while (bin < report->nbins && !node->known[bin])
			bin++;
		if (bin > first)
		{
			double		x = fa_chart_x(chart, first);

			appendStringInfo(chart->out, "<rect class=\"unknown\" x=\"%.1f\" "
							 "y=\"%d\" width=\"%.1f\" height=\"%d\"><title>no "
							 "history of this node</title></rect>\n",
							 x, chart->top, fa_chart_x(chart, bin) - x,
							 chart->height - chart->top - chart->bottom);
		}
		bin++;
	}
}

static void
write_cells(FaReport *report, FaChart *chart, const FaReportFragment *fragment,
			const FaReportNode *node, double max, int y, char **times)
{
	StringInfo	out = chart->out;
	double	   *calls = fragment->calls + (node->color - 1) * report->nbins;
	double		width = fa_chart_x(chart, 1) - fa_chart_x(chart, 0);

	for (int bin = 0; bin < report->nbins; bin++)
	{
		int			level = fa_chart_heat_level(calls[bin], max);

		if (level == 0)
			continue;
		appendStringInfo(out, "<path class=\"h%d\" d=\"M%.1f %dh%.1fv%dh-%.1fz\">"
						 "<title>#" INT64_FORMAT " %s: ", level,
						 fa_chart_x(chart, bin), y, width + 0.1,
						 CELL_HEIGHT, width + 0.1, fragment->id, times[bin]);
		fa_html_exact(out, calls[bin]);
		appendStringInfoString(out, "</title></path>\n");
	}
}

static void
write_owned(FaReport *report, FaChart *chart, const FaReportFragment *fragment,
			const FaReportNode *node, int y)
{
	StringInfo	out = chart->out;
	int			bin = 0;
	bool		begun = false;

	while (bin < report->nbins)
	{
		int			first = bin;

		while (bin < report->nbins && fragment->owner[bin] == node->id)
			bin++;
		if (bin > first)
		{
			appendStringInfo(out, "%sM%.1f %.1fH%.1f",
							 begun ? "" : "<path class=\"own\" d=\"",
							 fa_chart_x(chart, first), y + CELL_HEIGHT + 2.0,
							 fa_chart_x(chart, bin));
			begun = true;
		}
		bin++;
	}
	if (begun)
		appendStringInfoString(out, "\"/>\n");
}

static void
write_panel(FaReport *report, FaReportFragment **order,
			const FaReportNode *node, double max, char **times, bool last)
{
	FaChart		chart = {
		.out = report->out,
		.width = CHART_WIDTH,
		.left = LABEL_WIDTH,
		.right = 4,
		.top = 20,
		.bottom = last ? 32 : 6,
		.x_max = report->nbins
	};

	chart.height = chart.top + chart.bottom + report->nfragments * ROW_HEIGHT;
	fa_chart_begin(&chart, "Accesses of one node by fragment over time");
	appendStringInfo(chart.out, "<circle class=\"a%d\" cx=\"5\" cy=\"9\" r=\"5\"/>"
					 "<text class=\"head\" x=\"16\" y=\"13\">", node->color);
	fa_html_text(chart.out, node->name);
	appendStringInfo(chart.out, "</text>\n<rect class=\"bg\" x=\"%d\" y=\"%d\" "
					 "width=\"%d\" height=\"%d\"/>\n", chart.left, chart.top,
					 chart.width - chart.left - chart.right,
					 report->nfragments * ROW_HEIGHT);
	write_unknown(report, &chart, node);
	fa_chart_time_axis(&chart, report->ticks, report->nticks, last);
	for (int i = 0; i < report->nfragments; i++)
	{
		int			y = chart.top + i * ROW_HEIGHT;

		appendStringInfo(chart.out, "<text class=\"e row\" x=\"%d\" y=\"%d\">",
						 chart.left - 6, y + 11);
		fa_report_fragment_name(report, order[i], 24);
		appendStringInfoString(chart.out, "<title>");
		fa_report_fragment_name(report, order[i], PG_INT32_MAX);
		appendStringInfoString(chart.out, "</title></text>\n");
		write_cells(report, &chart, order[i], node, max, y, times);
		write_owned(report, &chart, order[i], node, y);
	}
	fa_chart_end(&chart);
}

static void
write_heat_legend(FaReport *report, double max)
{
	StringInfo	out = report->out;
	double		bound = max;

	for (int i = 1; i < FA_CHART_HEAT_LEVELS; i++)
		bound /= 2;
	appendStringInfoString(out, "<p class=\"legend\"><span>Accesses in ");
	fa_html_ms(out, report->bin_seconds * 1000);
	appendStringInfoString(out, ", up to:</span>");
	for (int i = 1; i <= FA_CHART_HEAT_LEVELS; i++)
	{
		/* accesses are whole: a level without one is never drawn */
		if (floor(bound) > floor(bound / 2))
		{
			appendStringInfo(out, "<span><i class=\"key h h%d\"></i>", i);
			fa_html_count(out, floor(bound));
			appendStringInfoString(out, "</span> ");
		}
		bound *= 2;
	}
	appendStringInfoString(out, "<span><i class=\"key ko\"></i>the node owned "
						   "the fragment</span>");
	for (int i = 0; i < report->ndrawn; i++)
		for (int bin = 0; bin < report->nbins; bin++)
			if (!report->drawn[i]->known[bin])
			{
				appendStringInfoString(out, "<span><i class=\"key\" style=\""
									   "background:var(--line)\"></i>not "
									   "observed</span>");
				i = report->ndrawn;
				break;
			}
	appendStringInfoString(out, "</p>\n");
}

void
fa_report_heat(FaReport *report)
{
	FaReportFragment **order = order_fragments(report);
	double		max = find_max(report);
	char	  **times;

	fa_report_section(report, "heat", "Demand by node, and who owned the data",
					  "The busiest fragments, the same rows for every node. Cells "
					  "are demand; the line under a row runs where the node owned "
					  "the fragment. Demand without a line is remote access.");
	if (report->nfragments == 0 || max == 0)
		appendStringInfoString(report->out, "<p>No accesses in this range.</p>\n");
	else
	{
		times = palloc(sizeof(char *) * report->nbins);
		for (int bin = 0; bin < report->nbins; bin++)
			times[bin] = fa_report_bin_time(report, bin);
		write_heat_legend(report, max);
		appendStringInfoString(report->out, "<div class=\"wide\">\n");
		for (int i = 0; i < report->ndrawn; i++)
			write_panel(report, order, report->drawn[i], max, times,
						i == report->ndrawn - 1);
		appendStringInfoString(report->out, "</div>\n");
		if (report->fragments_used > report->nfragments)
			appendStringInfo(report->out, "<p class=\"note\">%d of %d accessed "
							 "fragments are drawn.</p>\n", report->nfragments,
							 report->fragments_used);
	}
	fa_report_section_end(report);
}
