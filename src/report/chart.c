/*
 * chart.c
 *	  Pieces of SVG charts: frame, axes, lines, cells, labels.
 */
#include "postgres.h"

#include <math.h>

#include "report/chart.h"
#include "report/html.h"

#define LABEL_HEIGHT 12.0

void
fa_chart_begin(FaChart *chart, const char *label)
{
	appendStringInfo(chart->out,
					 "<svg viewBox=\"0 0 %d %d\" role=\"img\" "
					 "aria-label=\"%s\">\n",
					 chart->width, chart->height, label);
}

void
fa_chart_end(FaChart *chart)
{
	appendStringInfoString(chart->out, "</svg>\n");
}

double
fa_chart_x(const FaChart *chart, double x)
{
	double		span = chart->width - chart->left - chart->right;

	return chart->left + (chart->x_max > 0 ? x / chart->x_max : 0) * span;
}

double
fa_chart_y(const FaChart *chart, double y)
{
	double		span = chart->height - chart->top - chart->bottom;

	return chart->height - chart->bottom -
		(chart->y_max > 0 ? y / chart->y_max : 0) * span;
}

double
fa_chart_round_up(double value)
{
	static const double steps[] = {1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10};
	double		unit;

	if (!(value > 0) || !isfinite(value))
		return 1;
	unit = pow(10, floor(log10(value)));
	for (int i = 0; i < lengthof(steps); i++)
		if (value <= steps[i] * unit * 1.0000001)
			return steps[i] * unit;
	return 10 * unit;
}

static void
append_value(StringInfo out, double value, FaChartUnit unit)
{
	switch (unit)
	{
		case FA_UNIT_COUNT:
			fa_html_count(out, value);
			break;
		case FA_UNIT_PERCENT:
			appendStringInfo(out, "%.0f&#160;%%", value * 100);
			break;
		case FA_UNIT_MS:
			if (value == 0)
				appendStringInfoString(out, "0");
			else
				fa_html_ms(out, value);
			break;
		case FA_UNIT_PLAIN:
			appendStringInfo(out, "%.2f", value);
			break;
	}
}

void
fa_chart_y_axis(FaChart *chart, FaChartUnit unit, const char *title)
{
	StringInfo	out = chart->out;
	int			nticks = chart->height - chart->top - chart->bottom > 110 ? 4 : 2;

	appendStringInfoString(out, "<g class=\"axis\">\n");
	if (title != NULL)
		appendStringInfo(out, "<text x=\"0\" y=\"%d\">%s</text>\n",
						 chart->top - 8, title);
	for (int i = 0; i <= nticks; i++)
	{
		double		value = chart->y_max * i / nticks;
		double		y = fa_chart_y(chart, value);

		appendStringInfo(out, "<path class=\"%s\" d=\"M%d %.1fH%d\"/>"
						 "<text class=\"e\" x=\"%d\" y=\"%.1f\">",
						 i == 0 ? "base" : "grid", chart->left, y,
						 chart->width - chart->right, chart->left - 6, y + 3.5);
		append_value(out, value, unit);
		appendStringInfoString(out, "</text>\n");
	}
	appendStringInfoString(out, "</g>\n");
}

void
fa_chart_time_axis(FaChart *chart, const FaTick *ticks, int nticks,
				   bool labels)
{
	StringInfo	out = chart->out;
	int			bottom = chart->height - chart->bottom;

	appendStringInfoString(out, "<g class=\"axis\">\n");
	for (int i = 0; i < nticks; i++)
	{
		double		x = fa_chart_x(chart, ticks[i].x);
		char		anchor;

		appendStringInfo(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>",
						 x, chart->top, bottom + (labels ? 4 : 0));
		if (!labels)
			continue;
		/* not over the right edge, where it would be cut */
		anchor = x + 24 > chart->width ? 'e' : 'm';
		appendStringInfo(out, "<text class=\"%c\" x=\"%.1f\" y=\"%d\">%s</text>",
						 anchor, x, bottom + 15, ticks[i].label);
		if (ticks[i].date != NULL)
			appendStringInfo(out, "<text class=\"%c\" x=\"%.1f\" y=\"%d\">%s"
							 "</text>", anchor, x, bottom + 27, ticks[i].date);
		appendStringInfoChar(out, '\n');
	}
	appendStringInfoString(out, "</g>\n");
}

/*
 * Runs of known values; a run of one value is a short dash, so that it shows.
 */
void
fa_chart_line(FaChart *chart, const char *class, const double *values, int n)
{
	StringInfo	out = chart->out;
	bool		drawing = false;

	appendStringInfo(out, "<path class=\"%s\" d=\"", class);
	for (int i = 0; i < n; i++)
	{
		bool		alone;

		if (isnan(values[i]))
		{
			drawing = false;
			continue;
		}
		alone = !drawing && (i + 1 == n || isnan(values[i + 1]));
		appendStringInfo(out, "%c%.1f %.1f", drawing ? 'L' : 'M',
						 fa_chart_x(chart, i + (alone ? 0.2 : 0.5)),
						 fa_chart_y(chart, values[i]));
		if (alone)
			appendStringInfo(out, "H%.1f", fa_chart_x(chart, i + 0.8));
		drawing = true;
	}
	appendStringInfoString(out, "\"/>\n");
}

void
fa_chart_area(FaChart *chart, const char *class, const double *values, int n)
{
	StringInfo	out = chart->out;
	double		zero = fa_chart_y(chart, 0);

	appendStringInfo(out, "<path class=\"%s\" d=\"", class);
	for (int i = 0; i < n; i++)
	{
		int			first = i;

		if (isnan(values[i]))
			continue;
		appendStringInfo(out, "M%.1f %.1f", fa_chart_x(chart, i + 0.5), zero);
		for (; i < n && !isnan(values[i]); i++)
			appendStringInfo(out, "L%.1f %.1f", fa_chart_x(chart, i + 0.5),
							 fa_chart_y(chart, values[i]));
		if (i - first == 1)
			appendStringInfo(out, "h1");
		appendStringInfo(out, "V%.1fZ", zero);
	}
	appendStringInfoString(out, "\"/>\n");
}

static int
compare_labels(const void *a, const void *b)
{
	double		ya = ((const FaChartLabel *) a)->y;
	double		yb = ((const FaChartLabel *) b)->y;

	return ya < yb ? 1 : ya > yb ? -1 : 0;
}

void
fa_chart_end_labels(FaChart *chart, FaChartLabel *labels, int n)
{
	double		pos[FA_CHART_MAX_LABELS];
	double		limit = chart->height - chart->bottom + 4;
	int			x = chart->width - chart->right + 6;

	n = Min(n, FA_CHART_MAX_LABELS);
	qsort(labels, n, sizeof(FaChartLabel), compare_labels);
	for (int i = 0; i < n; i++)
	{
		pos[i] = fa_chart_y(chart, labels[i].y) + 3.5;
		if (i > 0)
			pos[i] = Max(pos[i], pos[i - 1] + LABEL_HEIGHT);
	}
	/* pushed below the plot: pull back up */
	for (int i = n - 1; i >= 0; i--)
	{
		pos[i] = Min(pos[i], limit);
		limit = pos[i] - LABEL_HEIGHT;
	}
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(chart->out,
						 "<text class=\"lab %s\" x=\"%d\" y=\"%.1f\">",
						 labels[i].class, x, pos[i]);
		fa_html_text_short(chart->out, labels[i].text,
						   Max(4, (chart->right - 8) / 6));
		appendStringInfoString(chart->out, "</text>\n");
	}
}

int
fa_chart_heat_level(double value, double max)
{
	int			level = FA_CHART_HEAT_LEVELS;

	if (!(value > 0))
		return 0;
	while (level > 1 && value <= max / 2)
	{
		max /= 2;
		level--;
	}
	return level;
}
