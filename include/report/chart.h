/*
 * chart.h
 *	  Pieces of SVG charts: frame, axes, lines, cells, labels.
 *
 * A chart maps x in [0, x_max] and y in [0, y_max] to a plot area inside its
 * margins.  Colours are classes, so that light, dark and print differ in the
 * style sheet alone: n1..n8 are nodes, h1..h7 the heat ramp.
 */
#ifndef FA_REPORT_CHART_H
#define FA_REPORT_CHART_H

#include "lib/stringinfo.h"

#define FA_CHART_HEAT_LEVELS 7
#define FA_CHART_MAX_LABELS 12

typedef struct FaTick
{
	double		x;				/* in units of the x axis */
	char	   *label;
	char	   *date;			/* second line, or NULL */
} FaTick;

/* How the numbers of an axis are written. */
typedef enum FaChartUnit
{
	FA_UNIT_COUNT,
	FA_UNIT_PERCENT,			/* values are shares */
	FA_UNIT_MS,
	FA_UNIT_PLAIN				/* two decimals */
} FaChartUnit;

typedef struct FaChart
{
	StringInfo	out;
	int			width;
	int			height;
	int			left;			/* margins */
	int			right;
	int			top;
	int			bottom;
	double		x_max;
	double		y_max;
} FaChart;

/* A name at the right end of a line. */
typedef struct FaChartLabel
{
	double		y;				/* value */
	const char *text;
	const char *class;
} FaChartLabel;

/* label describes the chart to who cannot see it; plain ASCII, not escaped. */
extern void fa_chart_begin(FaChart *chart, const char *label);
extern void fa_chart_end(FaChart *chart);

extern double fa_chart_x(const FaChart *chart, double x);
extern double fa_chart_y(const FaChart *chart, double y);

/* Smallest round number from which an axis can be divided evenly. */
extern double fa_chart_round_up(double value);

extern void fa_chart_y_axis(FaChart *chart, FaChartUnit unit,
							const char *title);
extern void fa_chart_time_axis(FaChart *chart, const FaTick *ticks,
							   int nticks, bool labels);

/*
 * One value a bin, drawn at the middle of it; NaN breaks the line.  An area
 * goes down to zero.
 */
extern void fa_chart_line(FaChart *chart, const char *class,
						  const double *values, int n);
extern void fa_chart_area(FaChart *chart, const char *class,
						  const double *values, int n);

/* Labels move apart where they would cover each other. */
extern void fa_chart_end_labels(FaChart *chart, FaChartLabel *labels, int n);

/* 0 for nothing, 1..FA_CHART_HEAT_LEVELS by halves of max. */
extern int	fa_chart_heat_level(double value, double max);

#endif							/* FA_REPORT_CHART_H */
