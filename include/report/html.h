/*
 * html.h
 *	  Text of an HTML page: escaping and numbers as people read them.
 */
#ifndef FA_REPORT_HTML_H
#define FA_REPORT_HTML_H

#include "lib/stringinfo.h"

/*
 * Appends text, in the database's encoding, so that it can stand in content
 * and in a quoted attribute.  What is appended is ASCII alone: the page can
 * be stored in any client encoding.  NULL appends nothing.
 */
extern void fa_html_text(StringInfo out, const char *text);

/* As fa_html_text, cut to max_chars with an ellipsis at the end. */
extern void fa_html_text_short(StringInfo out, const char *text,
							   int max_chars);

/* Numbers; not finite: a dash. */
extern void fa_html_count(StringInfo out, double value);	/* 950, 12.4 k */
extern void fa_html_exact(StringInfo out, double value);	/* 12,431 */
extern void fa_html_percent(StringInfo out, double share);	/* 0.431: 43.1 % */
extern void fa_html_ms(StringInfo out, double ms);	/* 0.42 ms, 3 min 5 s */
extern void fa_html_bytes(StringInfo out, double bytes);

/* Parts of a table; class may be NULL. */
extern void fa_html_table_begin(StringInfo out, const char *caption,
								const char *const *heads, int nheads,
								int first_number);
extern void fa_html_cell_text(StringInfo out, const char *text);
extern void fa_html_table_end(StringInfo out);

#endif							/* FA_REPORT_HTML_H */
