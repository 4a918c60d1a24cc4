/*
 * report.h
 *	  What a report shows, and its sections.
 *
 * Time is divided into bins, at most FA_REPORT_MAX_BINS; everything drawn is
 * aggregated to them by the queries, so that the page stays small whatever
 * the history holds.
 */
#ifndef FA_REPORT_REPORT_H
#define FA_REPORT_REPORT_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "report/chart.h"

#define FA_REPORT_MAX_BINS 100
#define FA_REPORT_MAX_NODES 8	/* drawn: as many as there are colours */
#define FA_REPORT_MAX_FRAGMENTS 20	/* rows of a heat map */
#define FA_REPORT_MAX_CELLS 5800	/* of all heat maps together */
#define FA_REPORT_FORECASTS 6	/* fragments drawn against their forecast */
#define FA_REPORT_MAX_TABLES 20
#define FA_REPORT_MAX_TICKS 16

/* Sums over accesses. */
typedef struct FaReportSums
{
	double		calls;
	double		remote_calls;
	double		elapsed_ms;
	double		remote_elapsed_ms;
	double		unmoved_calls;	/* would be remote, had nothing moved */
} FaReportSums;

typedef struct FaReportNode
{
	int			id;
	char	   *name;
	char	   *address;
	char	   *region;			/* or NULL */
	char	   *state;
	int			fragments;		/* owned now */
	int			color;			/* 1..FA_REPORT_MAX_NODES; 0: not drawn */
	FaReportSums total;
	FaReportSums *bin;			/* nbins */
	bool	   *known;			/* nbins: was the node observed? */
} FaReportNode;

typedef struct FaReportFragment
{
	int64		id;
	char	   *table;			/* or NULL: no longer there */
	int			first_owner;	/* at the start of the report */
	int			home;			/* drawn node with the most accesses, or -1 */
	FaReportSums total;
	double	   *calls;			/* [drawn node][bin] */
	double	   *forecast;		/* likewise, accesses per second; NaN: none */
	int		   *owner;			/* [bin]: node id at its end */
} FaReportFragment;

typedef struct FaReportTable
{
	char	   *name;
	int			fragments;
	FaReportSums total;
} FaReportTable;

typedef struct FaReport
{
	StringInfo	out;
	TimestampTz from;			/* as asked for */
	TimestampTz to;
	bool		empty;			/* neither history nor moves in it */

	int			self;			/* 0: not in a cluster */
	int			coordinator;

	/* what is drawn */
	TimestampTz start;			/* of the first bin */
	TimestampTz first;			/* first and last moment of what is on record */
	TimestampTz last;
	double		bin_seconds;
	double		step_seconds;	/* of history, where it is coarsest */
	int			nbins;
	char	   *range_sql;		/* "step" lies in what is drawn */
	FaTick		ticks[FA_REPORT_MAX_TICKS];
	int			nticks;
	FaTick		few_ticks[FA_REPORT_MAX_TICKS]; /* for small charts */
	int			nfew_ticks;

	FaReportNode *nodes;
	int			nnodes;
	FaReportNode **drawn;		/* busiest, by id; color - 1 is the index */
	int			ndrawn;

	FaReportFragment *fragments;	/* busiest, most accesses first */
	int			nfragments;
	FaReportTable *tables;		/* busiest, most accesses first */
	int			ntables;
	int			fragments_known;	/* in the catalog */
	int			fragments_used; /* with accesses in the range */
	double		forecast_ahead; /* seconds; 0: no forecasts kept */

	FaReportSums total;
	double		saved_ms;		/* remote time that moves saved */
} FaReport;

/* in data.c and series.c: everything above from "self" on */
extern void fa_report_load(FaReport *report);
extern void fa_report_load_series(FaReport *report);

/* SQL of the bin a timestamp lies in, palloc'd. */
extern char *fa_report_bin_sql(const FaReport *report, const char *column);
extern char *fa_report_time_sql(TimestampTz time);

/*
 * Seconds of a bin that are on record: at both ends less than the bin, but
 * never less than a step, which counts where it starts.
 */
extern double fa_report_bin_seconds(const FaReport *report, int bin);
extern FaReportNode *fa_report_node(const FaReport *report, int id);

/* Names; escaped. */
extern void fa_report_node_name(FaReport *report, int id);
extern void fa_report_fragment_name(FaReport *report,
									const FaReportFragment *fragment,
									int max_chars);

/* Start of a bin and the like, in the session's time zone; palloc'd. */
extern char *fa_report_time(TimestampTz time, const char *format);
extern char *fa_report_bin_time(const FaReport *report, int bin);

/* Pieces all sections share, in report.c. */
extern void fa_report_section(FaReport *report, const char *id,
							  const char *title, const char *lead);
extern void fa_report_section_end(FaReport *report);
extern void fa_report_node_legend(FaReport *report);

/* Sections, each in the file of its name. */
extern void fa_report_style(StringInfo out);
extern void fa_report_overview(FaReport *report);
extern void fa_report_heat(FaReport *report);
extern void fa_report_forecast(FaReport *report);
extern void fa_report_moves(FaReport *report);
extern void fa_report_load_over_time(FaReport *report);
extern void fa_report_quality(FaReport *report);
extern void fa_report_tables(FaReport *report);

#endif							/* FA_REPORT_REPORT_H */
