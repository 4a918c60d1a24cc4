/*
 * quality.c
 *	  How good the predictions were: log loss by model, calibration.
 */
#include "postgres.h"

#include <math.h>

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

#define MAX_MODELS 8
#define MAX_BINS 20

typedef struct Models
{
	int			horizon;		/* the one that is drawn */
	int			n;
	char	   *name[MAX_MODELS];
	int			color[MAX_MODELS];
	double	   *series[MAX_MODELS];
} Models;

static char *
range_sql(const FaReport *report)
{
	return psprintf("scored_at >= %s AND scored_at < %s",
					fa_report_time_sql(report->from),
					fa_report_time_sql(report->to));
}

/* The published mixture is the heavy line, the static floor the dotted. */
static const char *
model_class(const Models *models, int i)
{
	if (strcmp(models->name[i], "mixture") == 0)
		return "all";
	if (strcmp(models->name[i], "static") == 0)
		return "ref";
	return psprintf("n%d", models->color[i]);
}

static void
load_models(FaReport *report, Models *models)
{
	FaRows	   *rows;
	int			color = 0;

	rows = fa_spi_rows("SELECT model, %s AS bin, "
					   "sum(log_loss * accesses) / sum(accesses) "
					   "FROM fragaffinity.prediction_score "
					   "WHERE %s AND horizon = %d AND accesses > 0 "
					   "GROUP BY 1, 2 ORDER BY 1, 2",
					   fa_report_bin_sql(report, "scored_at"),
					   range_sql(report), models->horizon);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];
		int			bin = atoi(value[1]);

		if (models->n == 0 ||
			strcmp(models->name[models->n - 1], value[0]) != 0)
		{
			if (models->n == MAX_MODELS)
				break;
			models->name[models->n] = value[0];
			models->color[models->n] = strcmp(value[0], "mixture") == 0 ||
				strcmp(value[0], "static") == 0 ? 0 : ++color;
			models->series[models->n] = palloc(sizeof(double) * report->nbins);
			for (int b = 0; b < report->nbins; b++)
				models->series[models->n][b] = NAN;
			models->n++;
		}
		/* the last step is scored when its horizon has passed */
		if (bin >= 0 && bin < report->nbins)
			models->series[models->n - 1][bin] = atof(value[2]);
	}
}

static void
write_log_loss(FaReport *report, Models *models)
{
	FaChartLabel labels[MAX_MODELS];
	int			nlabels = 0;
	FaChart		chart = {
		.out = report->out,
		.width = 480,
		.height = 270,
		.left = 44,
		.right = 62,
		.top = 10,
		.bottom = 32,
		.x_max = report->nbins
	};

	for (int i = 0; i < models->n; i++)
		for (int bin = 0; bin < report->nbins; bin++)
			if (models->series[i][bin] > chart.y_max)
				chart.y_max = models->series[i][bin];
	/* near nothing, differences are noise */
	chart.y_max = fa_chart_round_up(Max(chart.y_max, 0.1));

	appendStringInfoString(report->out, "<figure><figcaption>Log loss "
						   "<span>of each access's node; less is better"
						   "</span></figcaption>\n");
	fa_chart_begin(&chart, "Log loss of each model over time");
	fa_chart_y_axis(&chart, FA_UNIT_PLAIN, NULL);
	fa_chart_time_axis(&chart, report->few_ticks, report->nfew_ticks, true);
	for (int i = 0; i < models->n; i++)
	{
		const char *class = model_class(models, i);

		fa_chart_line(&chart, psprintf("ln thin %s", class),
					  models->series[i], report->nbins);
		for (int bin = report->nbins - 1; bin >= 0; bin--)
			if (!isnan(models->series[i][bin]))
			{
				labels[nlabels].y = models->series[i][bin];
				labels[nlabels].text = models->name[i];
				labels[nlabels++].class = class;
				break;
			}
	}
	fa_chart_end_labels(&chart, labels, nlabels);
	fa_chart_end(&chart);
	appendStringInfoString(report->out, "</figure>\n");
}

/* Forecast probability against how often it came true, by tenths. */
static void
write_calibration(FaReport *report, Models *models)
{
	StringInfo	out = report->out;
	double		most = 0;
	FaRows	   *rows;
	FaChart		chart = {
		.out = out,
		.width = 480,
		.height = 270,
		.left = 44,
		.right = 10,
		.top = 10,
		.bottom = 40,
		.x_max = 1,
		.y_max = 1
	};

	rows = fa_spi_rows("SELECT i, sum((b->>'n')::float8), "
					   "sum((b->>'p')::float8) / sum((b->>'n')::float8), "
					   "sum((b->>'hit')::float8) / sum((b->>'n')::float8) "
					   "FROM fragaffinity.prediction_score, "
					   "jsonb_array_elements(bins) WITH ORDINALITY e(b, i) "
					   "WHERE %s AND horizon = %d AND model = 'mixture' "
					   "AND (b->>'n')::float8 > 0 "
					   "GROUP BY i ORDER BY i LIMIT %d",
					   range_sql(report), models->horizon, MAX_BINS);
	if (rows->nrows == 0)
		return;
	for (int i = 0; i < rows->nrows; i++)
		most = Max(most, atof(rows->value[i][1]));

	appendStringInfoString(out, "<figure><figcaption>Calibration <span>on the "
						   "line: what was given 70 % came 70 % of the time"
						   "</span></figcaption>\n");
	fa_chart_begin(&chart, "Predicted share against actual share");
	fa_chart_y_axis(&chart, FA_UNIT_PERCENT, NULL);
	appendStringInfo(out, "<path class=\"ref\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n",
					 fa_chart_x(&chart, 0), fa_chart_y(&chart, 0),
					 fa_chart_x(&chart, 1), fa_chart_y(&chart, 1));
	for (int i = 0; i <= 4; i++)
		appendStringInfo(out, "<text class=\"m\" x=\"%.1f\" y=\"%d\">%d&#160;%%"
						 "</text>\n", fa_chart_x(&chart, i / 4.0),
						 chart.height - chart.bottom + 15, i * 25);
	appendStringInfo(out, "<text class=\"m\" x=\"%.1f\" y=\"%d\">predicted "
					 "share</text>\n<path class=\"ln thin n1\" d=\"",
					 fa_chart_x(&chart, 0.5), chart.height - 6);
	for (int i = 0; i < rows->nrows; i++)
		appendStringInfo(out, "%c%.1f %.1f", i == 0 ? 'M' : 'L',
						 fa_chart_x(&chart, atof(rows->value[i][2])),
						 fa_chart_y(&chart, atof(rows->value[i][3])));
	appendStringInfoString(out, "\"/>\n");
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];

		appendStringInfo(out, "<circle class=\"a1\" cx=\"%.1f\" cy=\"%.1f\" "
						 "r=\"%.1f\"><title>predicted ",
						 fa_chart_x(&chart, atof(value[2])),
						 fa_chart_y(&chart, atof(value[3])),
						 2.5 + 4 * sqrt(atof(value[1]) / most));
		fa_html_percent(out, atof(value[2]));
		appendStringInfoString(out, ", came ");
		fa_html_percent(out, atof(value[3]));
		appendStringInfoString(out, ", weight ");
		fa_html_count(out, atof(value[1]));
		appendStringInfoString(out, "</title></circle>\n");
	}
	fa_chart_end(&chart);
	appendStringInfoString(out, "</figure>\n");
}

static void
write_scores(FaReport *report)
{
	static const char *const heads[] = {
		"Horizon, steps", "Model", "Accesses scored", "Log loss",
		"Against static", "Brier", "Right node first"
	};
	StringInfo	out = report->out;
	FaRows	   *rows;

	rows = fa_spi_rows("WITH s AS (SELECT horizon, model, sum(accesses) AS n, "
					   "sum(log_loss * accesses) / sum(accesses) AS log_loss, "
					   "sum(brier * accesses) / sum(accesses) AS brier, "
					   "sum(top1 * accesses) / sum(accesses) AS top1 "
					   "FROM fragaffinity.prediction_score "
					   "WHERE %s AND accesses > 0 GROUP BY 1, 2) "
					   "SELECT s.horizon, s.model, s.n, "
					   "to_char(s.log_loss, 'FM990.000'), "
					   "CASE WHEN f.log_loss > 0.001 "
					   "THEN 1 - s.log_loss / f.log_loss END, "
					   "to_char(s.brier, 'FM990.000'), s.top1 "
					   "FROM s LEFT JOIN s f ON f.horizon = s.horizon "
					   "AND f.model = 'static' ORDER BY 1, "
					   "s.model = 'mixture' DESC, s.log_loss LIMIT 40",
					   range_sql(report));
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 2);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];

		appendStringInfo(out, "<tr%s><td>%s</td>",
						 strcmp(value[1], "mixture") == 0 ?
						 " class=\"set\"" : "", value[0]);
		fa_html_cell_text(out, value[1]);
		appendStringInfoString(out, "<td class=\"num\">");
		fa_html_count(out, atof(value[2]));
		appendStringInfo(out, "</td><td class=\"num\">%s</td>"
						 "<td class=\"num\">", value[3]);
		if (value[4] == NULL || strcmp(value[1], "static") == 0)
			appendStringInfoString(out, "&#8211;");
		else
			appendStringInfo(out, "%s%.1f&#160;%%", atof(value[4]) > 0 ?
							 "&#8722;" : "+", fabs(atof(value[4]) * 100));
		appendStringInfo(out, "</td><td class=\"num\">%s</td>"
						 "<td class=\"num\">", value[5]);
		fa_html_percent(out, atof(value[6]));
		appendStringInfoString(out, "</td></tr>\n");
	}
	fa_html_table_end(out);
}

void
fa_report_quality(FaReport *report)
{
	Models		models = {0};
	char	   *horizon;

	horizon = fa_spi_value("SELECT horizon FROM fragaffinity.prediction_score "
						   "WHERE %s AND accesses > 0 GROUP BY 1 "
						   "ORDER BY count(*) DESC, 1 LIMIT 1",
						   range_sql(report));
	fa_report_section(report, "quality", "Prediction quality",
					  "Every prediction is scored when its time has come. Static "
					  "is the long-run share of each node, the floor to beat; the "
					  "mixture is what decides.");
	if (horizon == NULL)
		appendStringInfoString(report->out, "<p>No prediction was scored in this "
							   "range.</p>\n");
	else
	{
		models.horizon = atoi(horizon);
		load_models(report, &models);
		appendStringInfo(report->out, "<p class=\"note\">Drawn: predictions %d "
						 "step%s ahead.</p>\n<div class=\"pair quality\">\n",
						 models.horizon, models.horizon == 1 ? "" : "s");
		write_log_loss(report, &models);
		write_calibration(report, &models);
		appendStringInfoString(report->out, "</div>\n");
		write_scores(report);
	}
	fa_report_section_end(report);
}
