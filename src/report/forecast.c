/*
 * forecast.c
 *	  What was forecast for the busiest fragments, beside what came.
 */
#include "postgres.h"

#include <math.h>

#include "report/html.h"
#include "report/report.h"

#define MAX_LINES 4				/* nodes in one small chart */

/* The fragment's nodes with the most accesses; returns how many. */
static int
choose_nodes(const FaReport *report, const FaReportFragment *fragment,
			 int *nodes)
{
	double		sums[FA_REPORT_MAX_NODES] = {0};
	int			n = 0;

	for (int node = 0; node < report->ndrawn; node++)
		for (int bin = 0; bin < report->nbins; bin++)
		{
			int			cell = node * report->nbins + bin;

			sums[node] += fragment->calls[cell];
			if (!isnan(fragment->forecast[cell]))
				sums[node] += fragment->forecast[cell];
		}
	while (n < MAX_LINES)
	{
		int			best = -1;

		for (int node = 0; node < report->ndrawn; node++)
			if (sums[node] > 0 && (best < 0 || sums[node] > sums[best]))
				best = node;
		if (best < 0)
			break;
		sums[best] = 0;
		nodes[n++] = best;
	}
	return n;
}

/* Accesses per second; not a number where the node was not observed. */
static double *
actual_rates(const FaReport *report, const FaReportFragment *fragment,
			 int node)
{
	double	   *rates = palloc(sizeof(double) * report->nbins);

	for (int bin = 0; bin < report->nbins; bin++)
	{
		double		seconds = fa_report_bin_seconds(report, bin);

		rates[bin] = report->drawn[node]->known[bin] && seconds > 0 ?
			fragment->calls[node * report->nbins + bin] / seconds : NAN;
	}
	return rates;
}

static double
max_rate(const FaReport *report, const double *actual, const double *forecast)
{
	double		max = 0;

	for (int bin = 0; bin < report->nbins; bin++)
	{
		if (!isnan(actual[bin]))
			max = Max(max, actual[bin]);
		if (!isnan(forecast[bin]))
			max = Max(max, forecast[bin]);
	}
	return max;
}

static void
write_fragment(FaReport *report, const FaReportFragment *fragment)
{
	StringInfo	out = report->out;
	int			nodes[MAX_LINES];
	int			n = choose_nodes(report, fragment, nodes);
	double	   *actual[MAX_LINES];
	FaChart		chart = {
		.out = out,
		.width = 480,
		.height = 190,
		.left = 44,
		.right = 10,
		.top = 18,
		.bottom = 32,
		.x_max = report->nbins
	};

	for (int i = 0; i < n; i++)
	{
		actual[i] = actual_rates(report, fragment, nodes[i]);
		chart.y_max = Max(chart.y_max,
						  max_rate(report, actual[i], fragment->forecast +
								   nodes[i] * report->nbins));
	}
	chart.y_max = fa_chart_round_up(chart.y_max);

	appendStringInfoString(out, "<figure><figcaption>");
	fa_report_fragment_name(report, fragment, 40);
	appendStringInfoString(out, " <span>");
	fa_html_count(out, fragment->total.calls);
	appendStringInfoString(out, " accesses</span></figcaption>\n");
	fa_chart_begin(&chart, "Accesses per second by node: forecast and actual");
	fa_chart_y_axis(&chart, FA_UNIT_COUNT, "accesses/s");
	fa_chart_time_axis(&chart, report->few_ticks, report->nfew_ticks, true);
	for (int i = 0; i < n; i++)
		fa_chart_area(&chart, psprintf("area a%d", nodes[i] + 1), actual[i],
					  report->nbins);
	for (int i = 0; i < n; i++)
	{
		fa_chart_line(&chart, psprintf("ln thin n%d", nodes[i] + 1), actual[i],
					  report->nbins);
		fa_chart_line(&chart, psprintf("ln dash n%d", nodes[i] + 1),
					  fragment->forecast + nodes[i] * report->nbins,
					  report->nbins);
	}
	fa_chart_end(&chart);
	appendStringInfoString(out, "</figure>\n");
}

void
fa_report_forecast(FaReport *report)
{
	StringInfo	out = report->out;

	fa_report_section(report, "forecast", "Forecast against actual", NULL);
	if (report->forecast_ahead > 0)
	{
		appendStringInfoString(out, "<p class=\"lead\">Filled: accesses that "
							   "came. Dashed: what had been forecast for that "
							   "time ");
		fa_html_ms(out, report->forecast_ahead * 1000);
		appendStringInfoString(out, " before.</p>\n");
	}
	else
		appendStringInfoString(out, "<p class=\"lead\">Accesses of the busiest "
							   "fragments. No forecasts of them are on record "
							   "for this range.</p>\n");
	fa_report_node_legend(report);
	appendStringInfoString(out, "<div class=\"pair\">\n");
	for (int i = 0; i < Min(report->nfragments, FA_REPORT_FORECASTS); i++)
		write_fragment(report, &report->fragments[i]);
	appendStringInfoString(out, "</div>\n");
	fa_report_section_end(report);
}
