/*
 * plain_output.h
 *	  Values as text that means the same in any session.
 */
#ifndef FA_CORE_PLAIN_OUTPUT_H
#define FA_CORE_PLAIN_OUTPUT_H

/* What output functions of the session look at. */
typedef struct FaPlainOutput
{
	int			date_style;
	int			interval_style;
	int			float_digits;
} FaPlainOutput;

/*
 * Between the two, output functions write such text.  The end must come after an
 * error as well (PG_FINALLY): nothing else puts the session's own back.
 */
extern void fa_plain_output_begin(FaPlainOutput *before_p);
extern void fa_plain_output_end(const FaPlainOutput *before);

#endif							/* FA_CORE_PLAIN_OUTPUT_H */
