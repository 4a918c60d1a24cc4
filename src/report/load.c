/*
 * load.c
 *	  Local share, latency and active sessions of each node over time.
 */
#include "postgres.h"

#include <math.h>

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

typedef double (*FaRate) (const FaReportSums *sums);

static double
local_share(const FaReportSums *sums)
{
	return sums->calls > 0 ? 1 - sums->remote_calls / sums->calls : NAN;
}

static double
unmoved_share(const FaReportSums *sums)
{
	return sums->calls > 0 ? 1 - sums->unmoved_calls / sums->calls : NAN;
}

static double
mean_ms(const FaReportSums *sums)
{
	return sums->calls > 0 ? sums->elapsed_ms / sums->calls : NAN;
}

static double *
node_series(const FaReport *report, const FaReportNode *node, FaRate rate)
{
	double	   *values = palloc(sizeof(double) * report->nbins);

	for (int bin = 0; bin < report->nbins; bin++)
		values[bin] = rate(&node->bin[bin]);
	return values;
}

/* All nodes together. */
static double *
total_series(const FaReport *report, FaRate rate)
{
	double	   *values = palloc(sizeof(double) * report->nbins);

	for (int bin = 0; bin < report->nbins; bin++)
	{
		FaReportSums sums = {0};

		for (int i = 0; i < report->nnodes; i++)
		{
			const FaReportSums *of = &report->nodes[i].bin[bin];

			sums.calls += of->calls;
			sums.remote_calls += of->remote_calls;
			sums.elapsed_ms += of->elapsed_ms;
			sums.unmoved_calls += of->unmoved_calls;
		}
		values[bin] = rate(&sums);
	}
	return values;
}

static double
last_value(const double *values, int n)
{
	while (n > 0 && isnan(values[n - 1]))
		n--;
	return n > 0 ? values[n - 1] : NAN;
}

static double
max_value(const double *values, int n)
{
	double		max = 0;

	for (int i = 0; i < n; i++)
		if (!isnan(values[i]))
			max = Max(max, values[i]);
	return max;
}

static void
add_label(FaChartLabel *labels, int *nlabels, const double *values, int n,
		  const char *text, const char *class)
{
	double		y = last_value(values, n);

	if (isnan(y))
		return;
	labels[*nlabels].y = y;
	labels[*nlabels].text = text;
	labels[*nlabels].class = class;
	(*nlabels)++;
}

/*
 * One line a node; series has report->ndrawn entries.  all and ref may be
 * NULL: the cluster's line, and what it is compared with.
 */
static void
write_chart(FaReport *report, const char *title, const char *note,
			FaChartUnit unit, double **series, double *all, double *ref)
{
	FaChartLabel labels[FA_CHART_MAX_LABELS];
	int			nlabels = 0;
	FaChart		chart = {
		.out = report->out,
		.width = 1000,
		.height = 230,
		.left = 56,
		.right = 106,
		.top = 10,
		.bottom = 32,
		.x_max = report->nbins,
		.y_max = unit == FA_UNIT_PERCENT ? 1 : 0
	};

	for (int i = 0; i < report->ndrawn; i++)
		if (unit != FA_UNIT_PERCENT)
			chart.y_max = Max(chart.y_max, max_value(series[i], report->nbins));
	if (unit != FA_UNIT_PERCENT)
		chart.y_max = fa_chart_round_up(chart.y_max);

	appendStringInfo(report->out, "<figure><figcaption>%s <span>%s</span>"
					 "</figcaption><div class=\"wide\">\n", title, note);
	fa_chart_begin(&chart, title);
	fa_chart_y_axis(&chart, unit, NULL);
	fa_chart_time_axis(&chart, report->ticks, report->nticks, true);
	if (ref != NULL)
	{
		fa_chart_line(&chart, "ln ref", ref, report->nbins);
		add_label(labels, &nlabels, ref, report->nbins, "without moves", "ref");
	}
	for (int i = 0; i < report->ndrawn; i++)
	{
		fa_chart_line(&chart, psprintf("ln thin n%d", i + 1), series[i],
					  report->nbins);
		add_label(labels, &nlabels, series[i], report->nbins,
				  report->drawn[i]->name, psprintf("n%d", i + 1));
	}
	if (all != NULL)
	{
		fa_chart_line(&chart, "ln all", all, report->nbins);
		add_label(labels, &nlabels, all, report->nbins, "all nodes", "all");
	}
	fa_chart_end_labels(&chart, labels, nlabels);
	fa_chart_end(&chart);
	appendStringInfoString(report->out, "</div></figure>\n");
}

static void
write_history_charts(FaReport *report, bool moved)
{
	double	   *series[FA_REPORT_MAX_NODES];

	for (int i = 0; i < report->ndrawn; i++)
		series[i] = node_series(report, report->drawn[i], local_share);
	write_chart(report, "Local share",
				moved ? "accesses whose data was on the client's own node; dotted: "
				"without the moves since the start" :
				"accesses whose data was on the client's own node",
				FA_UNIT_PERCENT, series, total_series(report, local_share),
				moved ? total_series(report, unmoved_share) : NULL);

	for (int i = 0; i < report->ndrawn; i++)
		series[i] = node_series(report, report->drawn[i], mean_ms);
	write_chart(report, "Latency", "mean time of an access",
				FA_UNIT_MS, series, total_series(report, mean_ms), NULL);
}

/* Active sessions, from the sampler's metrics. */
static void
write_sessions(FaReport *report)
{
	double	   *series[FA_REPORT_MAX_NODES];
	FaRows	   *rows;
	bool		any = false;

	rows = fa_spi_rows("SELECT node, %s AS bin, avg(active::float8) "
					   "FROM fragaffinity.metric WHERE sampled >= %s "
					   "AND sampled < %s GROUP BY 1, 2",
					   fa_report_bin_sql(report, "sampled"),
					   fa_report_time_sql(Max(report->start, report->from)),
					   fa_report_time_sql(report->to));
	for (int i = 0; i < report->ndrawn; i++)
	{
		series[i] = palloc(sizeof(double) * report->nbins);
		for (int bin = 0; bin < report->nbins; bin++)
			series[i][bin] = NAN;
	}
	for (int i = 0; i < rows->nrows; i++)
	{
		FaReportNode *node = fa_report_node(report, atoi(rows->value[i][0]));
		int			bin = atoi(rows->value[i][1]);

		if (node == NULL || node->color == 0 || bin < 0 ||
			bin >= report->nbins)
			continue;
		series[node->color - 1][bin] = atof(rows->value[i][2]);
		any = true;
	}
	if (any)
		write_chart(report, "Active sessions",
					"mean number running a statement",
					FA_UNIT_COUNT, series, NULL, NULL);
}

void
fa_report_load_over_time(FaReport *report)
{
	fa_report_section(report, "load", "Local share and latency of each node",
					  NULL);
	fa_report_node_legend(report);
	write_history_charts(report, report->total.unmoved_calls !=
						 report->total.remote_calls);
	write_sessions(report);
	fa_report_section_end(report);
}
