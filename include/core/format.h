/*
 * format.h
 *	  A formatted string of any length, in the current memory context.
 */
#ifndef FA_CORE_FORMAT_H
#define FA_CORE_FORMAT_H

#include "lib/stringinfo.h"

/* Declares sql as a palloc'd, formatted copy of the caller's fmt and "...". */
#define FA_FORMAT(sql, fmt) \
	do { \
		StringInfoData fa_format_buf; \
		initStringInfo(&fa_format_buf); \
		for (;;) \
		{ \
			va_list		fa_format_args; \
			int			fa_format_needed; \
			va_start(fa_format_args, fmt); \
			fa_format_needed = appendStringInfoVA(&fa_format_buf, fmt, \
												  fa_format_args); \
			va_end(fa_format_args); \
			if (fa_format_needed == 0) \
				break; \
			enlargeStringInfo(&fa_format_buf, fa_format_needed); \
		} \
		(sql) = fa_format_buf.data; \
	} while (0)

#endif							/* FA_CORE_FORMAT_H */
