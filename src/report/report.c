/*
 * report.c
 *	  fragaffinity.report(): one self-contained HTML page.
 *
 * The function runs with its owner's rights, so that monitoring roles need
 * no table; it reads and changes nothing.  Data is loaded first (data.c,
 * series.c), then every section writes its part.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

PG_FUNCTION_INFO_V1(fa_sql_report);

static void
check_range(FunctionCallInfo fcinfo, FaReport *report)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"from\" and \"to\" must not be null"),
				 errhint("Leave them out for the last day.")));
	report->from = PG_GETARG_TIMESTAMPTZ(0);
	report->to = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(report->from) || TIMESTAMP_NOT_FINITE(report->to))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"from\" and \"to\" must be finite"),
				 errhint("Give two points in time, for example "
						 "now() - interval '7 days' and now().")));
	if (report->from >= report->to)
	{
		/* the function's result is overwritten by its next call */
		char	   *from = pstrdup(timestamptz_to_str(report->from));

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"from\" must be before \"to\""),
				 errdetail("A report from %s to %s would show nothing.",
						   from, timestamptz_to_str(report->to)),
				 errhint("Give the earlier point in time first.")));
	}
}

void
fa_report_section(FaReport *report, const char *id, const char *title,
				  const char *lead)
{
	appendStringInfo(report->out,
					 "<section id=\"%s\">\n<h2>%s</h2>\n", id, title);
	if (lead != NULL)
		appendStringInfo(report->out, "<p class=\"lead\">%s</p>\n", lead);
}

void
fa_report_section_end(FaReport *report)
{
	appendStringInfoString(report->out, "</section>\n");
}

void
fa_report_node_legend(FaReport *report)
{
	appendStringInfoString(report->out, "<p class=\"legend\">");
	for (int i = 0; i < report->ndrawn; i++)
	{
		appendStringInfo(report->out, "<span><i class=\"key b%d\"></i>",
						 report->drawn[i]->color);
		fa_html_text(report->out, report->drawn[i]->name);
		appendStringInfoString(report->out, "</span> ");
	}
	if (report->ndrawn < report->nnodes)
		appendStringInfo(report->out, "<span>the busiest %d of %d nodes</span>",
						 report->ndrawn, report->nnodes);
	appendStringInfoString(report->out, "</p>\n");
}

static void
write_page(FaReport *report)
{
	StringInfo	out = report->out;

	appendStringInfoString(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
						   "<meta charset=\"utf-8\"/>\n"
						   "<meta name=\"viewport\" content=\"width=device-width,"
						   " initial-scale=1\"/>\n"
						   "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
						   "<title>fragaffinity report</title>\n<style>\n");
	fa_report_style(out);
	appendStringInfoString(out, "</style>\n</head>\n<body>\n<main>\n");
	fa_report_overview(report);
	if (!report->empty)
	{
		fa_report_heat(report);
		fa_report_forecast(report);
		fa_report_moves(report);
		fa_report_load_over_time(report);
		fa_report_quality(report);
	}
	fa_report_tables(report);
	appendStringInfoString(out, "</main>\n</body>\n</html>\n");
}

Datum
fa_sql_report(PG_FUNCTION_ARGS)
{
	FaReport	report = {0};
	StringInfoData page;

	check_range(fcinfo, &report);
	initStringInfo(&page);
	report.out = &page;
	fa_report_load(&report);
	write_page(&report);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page.data, page.len));
}
