/*
 * html.c
 *	  Text of an HTML page: escaping and numbers as people read them.
 *
 * Names, settings and reasons come from users; every one of them passes
 * fa_html_text().  Characters beyond ASCII become numeric references, so the
 * page does not depend on the encoding that a client stores it in.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"

#include "report/html.h"

#define REPLACEMENT "&#xfffd;"
#define DASH "&#8211;"

static void
append_char(StringInfo out, const unsigned char *s, int len)
{
	if (len > 1)
		appendStringInfo(out, "&#x%x;", (unsigned int) utf8_to_unicode(s));
	else if (*s == '<')
		appendStringInfoString(out, "&lt;");
	else if (*s == '>')
		appendStringInfoString(out, "&gt;");
	else if (*s == '&')
		appendStringInfoString(out, "&amp;");
	else if (*s == '"')
		appendStringInfoString(out, "&quot;");
	else if (*s == '\'')
		appendStringInfoString(out, "&#39;");
	else if (*s == '\n' || *s == '\t' || *s == '\r')
		appendStringInfoChar(out, ' ');
	else if (*s < 0x20 || *s >= 0x7f)
		appendStringInfoString(out, REPLACEMENT);
	else
		appendStringInfoChar(out, (char) *s);
}

/* Length of the legal UTF-8 character at s; 1 for a byte that is none. */
static int
char_length(const unsigned char *s, const unsigned char *end)
{
	int			len = pg_utf_mblen(s);

	if (len > end - s || !pg_utf8_islegal(s, len))
		return 1;
	return len;
}

void
fa_html_text_short(StringInfo out, const char *text, int max_chars)
{
	const unsigned char *s;
	const unsigned char *end;
	char	   *utf8;
	int			nchars = 0;
	int			drawn = 0;

	if (text == NULL)
		return;
	utf8 = unconstify(char *, text);
	/* SQL_ASCII is whatever the clients sent: taken for UTF-8 where it is */
	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	end = (unsigned char *) utf8 + strlen(utf8);
	for (s = (unsigned char *) utf8; s < end; s += char_length(s, end))
		nchars++;
	for (s = (unsigned char *) utf8; s < end; s += char_length(s, end))
	{
		if (nchars > max_chars && drawn == max_chars - 1)
		{
			appendStringInfoString(out, "&#8230;");
			break;
		}
		append_char(out, s, char_length(s, end));
		drawn++;
	}
}

void
fa_html_text(StringInfo out, const char *text)
{
	fa_html_text_short(out, text, PG_INT32_MAX);
}

void
fa_html_count(StringInfo out, double value)
{
	double		size = fabs(value);

	if (!isfinite(value))
		appendStringInfoString(out, DASH);
	else if (size >= 999.5e6)
		appendStringInfo(out, "%.2f G", value / 1e9);
	else if (size >= 999.5e3)
		appendStringInfo(out, size >= 1e8 ? "%.0f M" :
						 size >= 1e7 ? "%.1f M" : "%.2f M", value / 1e6);
	else if (size >= 9999.5)
		appendStringInfo(out, size >= 1e5 ? "%.0f k" : "%.1f k", value / 1e3);
	else if (size >= 99.95 || size == floor(size))
		fa_html_exact(out, value);
	else if (size >= 1)
		appendStringInfo(out, "%.1f", value);
	else
		appendStringInfo(out, "%.2g", value);
}

void
fa_html_exact(StringInfo out, double value)
{
	char		digits[64];
	int			len;

	if (!isfinite(value) || fabs(value) > 1e18)
	{
		appendStringInfoString(out, DASH);
		return;
	}
	len = snprintf(digits, sizeof(digits), "%.0f", fabs(value));
	if (value < 0 && strcmp(digits, "0") != 0)
		appendStringInfoString(out, "&#8722;");
	for (int i = 0; i < len; i++)
	{
		if (i > 0 && (len - i) % 3 == 0)
			appendStringInfoChar(out, ',');
		appendStringInfoChar(out, digits[i]);
	}
}

void
fa_html_percent(StringInfo out, double share)
{
	if (!isfinite(share))
		appendStringInfoString(out, DASH);
	else
		appendStringInfo(out, "%.1f&#160;%%", share * 100);
}

/* 125 of the small unit, 60 to the large one: "2 min 5 s". */
static void
append_pair(StringInfo out, int small, const char *large_unit,
			const char *small_unit)
{
	appendStringInfo(out, "%d&#160;%s", small / 60, large_unit);
	if (small % 60 != 0)
		appendStringInfo(out, " %d&#160;%s", small % 60, small_unit);
}

void
fa_html_ms(StringInfo out, double ms)
{
	double		size = fabs(ms);
	double		s = size / 1000;

	if (!isfinite(ms))
	{
		appendStringInfoString(out, DASH);
		return;
	}
	if (ms < 0)
		appendStringInfoString(out, "&#8722;");
	if (size < 0.0005)
		appendStringInfoString(out, "0&#160;ms");
	else if (size < 999.5)
		appendStringInfo(out, size < 0.995 ? "%.2f&#160;ms" :
						 size < 99.5 ? "%.1f&#160;ms" : "%.0f&#160;ms", size);
	else if (s < 59.95 && s == floor(s))
		appendStringInfo(out, "%.0f&#160;s", s);
	else if (s < 59.95)
		appendStringInfo(out, "%.1f&#160;s", s);
	else if (s < 3599.5)
		append_pair(out, (int) (s + 0.5), "min", "s");
	else if (s < 172800)
		append_pair(out, (int) (s / 60 + 0.5), "h", "min");
	else
		appendStringInfo(out, "%.1f&#160;days", s / 86400);
}

void
fa_html_bytes(StringInfo out, double bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	int			unit = 0;

	if (!isfinite(bytes))
	{
		appendStringInfoString(out, DASH);
		return;
	}
	while (bytes >= 1000 && unit < lengthof(units) - 1)
	{
		bytes /= 1024;
		unit++;
	}
	appendStringInfo(out, unit == 0 || bytes >= 99.5 ? "%.0f&#160;%s" :
					 "%.1f&#160;%s", bytes, units[unit]);
}

/* Columns from first_number on are set as numbers, to the right. */
void
fa_html_table_begin(StringInfo out, const char *caption,
					const char *const *heads, int nheads, int first_number)
{
	appendStringInfoString(out, "<div class=\"wide\"><table>\n");
	if (caption != NULL)
		appendStringInfo(out, "<caption>%s</caption>\n", caption);
	appendStringInfoString(out, "<thead><tr>");
	for (int i = 0; i < nheads; i++)
		appendStringInfo(out, "<th scope=\"col\"%s>%s</th>",
						 i >= first_number ? " class=\"num\"" : "", heads[i]);
	appendStringInfoString(out, "</tr></thead>\n<tbody>\n");
}

void
fa_html_cell_text(StringInfo out, const char *text)
{
	appendStringInfoString(out, "<td>");
	fa_html_text(out, text);
	appendStringInfoString(out, "</td>");
}

void
fa_html_table_end(StringInfo out)
{
	appendStringInfoString(out, "</tbody></table></div>\n");
}
