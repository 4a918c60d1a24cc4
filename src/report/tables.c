/*
 * tables.c
 *	  Nodes, busiest fragments, pending decisions and settings.
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"

#include "core/settings.h"
#include "core/spi.h"
#include "report/html.h"
#include "report/report.h"

#define MAX_NODE_ROWS 50
#define MAX_RECOMMENDATIONS 15

static void
cell_begin(StringInfo out)
{
	appendStringInfoString(out, "<td class=\"num\">");
}

static void
cell_end(StringInfo out)
{
	appendStringInfoString(out, "</td>");
}

static void
cell_sums(StringInfo out, const FaReportSums *sums)
{
	cell_begin(out);
	fa_html_count(out, sums->calls);
	cell_end(out);
	cell_begin(out);
	fa_html_percent(out, 1 - sums->remote_calls / sums->calls);
	cell_end(out);
	cell_begin(out);
	fa_html_percent(out, 1 - sums->unmoved_calls / sums->calls);
	cell_end(out);
	cell_begin(out);
	fa_html_ms(out, (sums->elapsed_ms - sums->remote_elapsed_ms) /
			   (sums->calls - sums->remote_calls));
	cell_end(out);
	cell_begin(out);
	fa_html_ms(out, sums->remote_elapsed_ms / sums->remote_calls);
	cell_end(out);
}

static void
write_nodes(FaReport *report)
{
	static const char *const heads[] = {
		"Node", "Address", "Region", "State", "Fragments", "Accesses",
		"Local share", "Without moves", "Local time", "Remote time"
	};
	StringInfo	out = report->out;

	fa_report_section(report, "nodes", "Nodes", NULL);
	if (report->nnodes == 0)
		appendStringInfoString(out, "<p>No node is known.</p>\n");
	else
	{
		fa_html_table_begin(out, NULL, heads, lengthof(heads), 4);
		for (int i = 0; i < Min(report->nnodes, MAX_NODE_ROWS); i++)
		{
			FaReportNode *node = &report->nodes[i];

			appendStringInfoString(out, "<tr><td class=\"nw\">");
			if (node->color > 0)
				appendStringInfo(out, "<span class=\"dot b%d\"></span>",
								 node->color);
			fa_html_text(out, node->name);
			appendStringInfoString(out, "</td>");
			fa_html_cell_text(out, node->address);
			fa_html_cell_text(out, node->region);
			fa_html_cell_text(out, node->id == report->coordinator ?
							  psprintf("%s, coordinator", node->state) :
							  node->state);
			cell_begin(out);
			fa_html_exact(out, node->fragments);
			cell_end(out);
			cell_sums(out, &node->total);
			appendStringInfoString(out, "</tr>\n");
		}
		fa_html_table_end(out);
		if (report->nnodes > MAX_NODE_ROWS)
			appendStringInfo(out, "<p class=\"note\">%d of %d nodes.</p>\n",
							 MAX_NODE_ROWS, report->nnodes);
	}
	fa_report_section_end(report);
}

/* Share of each drawn node, as one bar; exact numbers in its tooltip. */
static void
write_share_bar(FaReport *report, const FaReportFragment *fragment)
{
	StringInfo	out = report->out;
	double		x = 0;

	appendStringInfoString(out, "<td><svg viewBox=\"0 0 160 12\" style=\"width:"
						   "160px\" role=\"img\" aria-label=\"share of each "
						   "node\"><rect class=\"unknown\" width=\"160\" "
						   "height=\"12\"/>");
	for (int node = 0; node < report->ndrawn; node++)
	{
		double		calls = 0;
		double		width;

		for (int bin = 0; bin < report->nbins; bin++)
			calls += fragment->calls[node * report->nbins + bin];
		width = 160 * calls / fragment->total.calls;
		if (width < 0.05)
			continue;
		appendStringInfo(out, "<rect class=\"a%d\" x=\"%.1f\" width=\"%.1f\" "
						 "height=\"12\"><title>", node + 1, x, width);
		fa_html_text(out, report->drawn[node]->name);
		appendStringInfoString(out, ": ");
		fa_html_percent(out, calls / fragment->total.calls);
		appendStringInfoString(out, "</title></rect>");
		x += width;
	}
	appendStringInfoString(out, "</svg></td>");
}

static void
write_tables(FaReport *report)
{
	static const char *const heads[] = {
		"Table", "Fragments", "Accesses", "Local share", "Without moves",
		"Local time", "Remote time"
	};
	StringInfo	out = report->out;

	fa_report_section(report, "tables", "Tables", NULL);
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 1);
	for (int i = 0; i < report->ntables; i++)
	{
		appendStringInfoString(out, "<tr>");
		fa_html_cell_text(out, report->tables[i].name);
		cell_begin(out);
		fa_html_exact(out, report->tables[i].fragments);
		cell_end(out);
		cell_sums(out, &report->tables[i].total);
		appendStringInfoString(out, "</tr>\n");
	}
	fa_html_table_end(out);
	if (report->ntables == FA_REPORT_MAX_TABLES)
		appendStringInfo(out, "<p class=\"note\">The busiest %d.</p>\n",
						 FA_REPORT_MAX_TABLES);
	fa_report_section_end(report);
}

static void
write_fragments(FaReport *report)
{
	static const char *const heads[] = {
		"Fragment", "Owner at the end", "Accesses by node", "Accesses",
		"Local share", "Without moves", "Local time", "Remote time"
	};
	StringInfo	out = report->out;

	fa_report_section(report, "fragments", "Busiest fragments", NULL);
	fa_report_node_legend(report);
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 3);
	for (int i = 0; i < report->nfragments; i++)
	{
		FaReportFragment *fragment = &report->fragments[i];

		appendStringInfoString(out, "<tr><td class=\"nw\">");
		fa_report_fragment_name(report, fragment, 48);
		appendStringInfoString(out, "</td><td>");
		if (fragment->table != NULL)
			fa_report_node_name(report, fragment->owner[report->nbins - 1]);
		appendStringInfoString(out, "</td>");
		write_share_bar(report, fragment);
		cell_sums(out, &fragment->total);
		appendStringInfoString(out, "</tr>\n");
	}
	fa_html_table_end(out);
	fa_report_section_end(report);
}

static void
write_recommendations(FaReport *report)
{
	static const char *const heads[] = {
		"Fragment", "Route", "Verdict", "Why", "Expected to save", "Cost"
	};
	StringInfo	out = report->out;
	FaRows	   *rows;

	/* not replicated */
	if (RecoveryInProgress())
		return;
	rows = fa_spi_rows("SELECT r.fragment, t.rel::text, r.source, "
					   "r.destination, r.verdict, r.reason, "
					   "r.expected_benefit, r.cost "
					   "FROM fragaffinity.recommendation r "
					   "LEFT JOIN fragaffinity.fragment f USING (fragment) "
					   "LEFT JOIN fragaffinity.distributed_table t "
					   "USING (table_id) "
					   "ORDER BY r.verdict = 'move' DESC, "
					   "r.expected_benefit DESC, r.fragment LIMIT %d",
					   MAX_RECOMMENDATIONS);
	if (rows->nrows == 0)
		return;
	fa_report_section(report, "recommendations", "What the controller sees now",
					  "The latest step's candidates: what it would move, and "
					  "what holds the others back.");
	fa_html_table_begin(out, NULL, heads, lengthof(heads), 4);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **value = rows->value[i];
		FaReportFragment fragment = {
			.id = strtoll(value[0], NULL, 10),
			.table = value[1]
		};

		appendStringInfoString(out, "<tr><td class=\"nw\">");
		fa_report_fragment_name(report, &fragment, 32);
		appendStringInfoString(out, "</td><td class=\"nw\">");
		fa_report_node_name(report, atoi(value[2]));
		appendStringInfoString(out, " &#8594; ");
		fa_report_node_name(report, atoi(value[3]));
		appendStringInfoString(out, "</td>");
		fa_html_cell_text(out, value[4]);
		appendStringInfoString(out, "<td class=\"why\">");
		fa_html_text_short(out, value[5], 400);
		appendStringInfoString(out, "</td>");
		cell_begin(out);
		fa_html_ms(out, atof(value[6]));
		cell_end(out);
		cell_begin(out);
		fa_html_ms(out, atof(value[7]));
		cell_end(out);
		appendStringInfoString(out, "</tr>\n");
	}
	fa_html_table_end(out);
	fa_report_section_end(report);
}

static void
write_settings(FaReport *report)
{
	static const char *const heads[] = {
		"Setting", "Value", "Default", "Meaning"
	};
	StringInfo	out = report->out;
	FaRows	   *rows;

	fa_report_section(report, "settings", "Settings",
					  "Bold: set by fragaffinity.configure().");
	fa_html_table_begin(out, NULL, heads, lengthof(heads), lengthof(heads));
	for (const FaSettingDef *def = fa_setting_defs; def->name != NULL; def++)
	{
		char	   *value =
			fa_spi_value("SELECT value FROM fragaffinity.setting "
						 "WHERE name = '%s' AND table_id = 0", def->name);

		appendStringInfoString(out, value != NULL ? "<tr class=\"set\">" : "<tr>");
		fa_html_cell_text(out, def->name);
		fa_html_cell_text(out, value != NULL ? value : def->default_value);
		fa_html_cell_text(out, def->default_value);
		appendStringInfo(out, "<td class=\"note\" style=\"font-weight:400\">");
		fa_html_text(out, def->description);
		appendStringInfoString(out, "</td></tr>\n");
	}
	rows = fa_spi_rows("SELECT s.name, s.value, t.rel::text "
					   "FROM fragaffinity.setting s "
					   "JOIN fragaffinity.distributed_table t USING (table_id) "
					   "ORDER BY 1, 3 LIMIT 100");
	for (int i = 0; i < rows->nrows; i++)
	{
		const FaSettingDef *def = fa_setting_find(rows->value[i][0]);

		appendStringInfoString(out, "<tr class=\"set\">");
		fa_html_cell_text(out, psprintf("%s for %s", rows->value[i][0],
										rows->value[i][2]));
		fa_html_cell_text(out, rows->value[i][1]);
		fa_html_cell_text(out, def != NULL ? def->default_value : NULL);
		appendStringInfoString(out, "<td></td></tr>\n");
	}
	fa_html_table_end(out);
	fa_report_section_end(report);
}

void
fa_report_tables(FaReport *report)
{
	if (report->ntables > 0)
		write_tables(report);
	if (report->nfragments > 0)
		write_fragments(report);
	write_recommendations(report);
	write_nodes(report);
	write_settings(report);
}
