/*
 * plain_output.c
 *	  Settings by which text leaves one session for another.
 *
 * Only the variables that output functions look at are changed, and only while
 * they run: the settings' own machinery would cost each statement a walk over all
 * settings of the server.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/float.h"

#include "core/plain_output.h"

void
fa_plain_output_begin(FaPlainOutput *before_p)
{
	before_p->date_style = DateStyle;
	before_p->interval_style = IntervalStyle;
	before_p->float_digits = extra_float_digits;
	DateStyle = USE_ISO_DATES;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = Max(extra_float_digits, 3);
}

void
fa_plain_output_end(const FaPlainOutput *before)
{
	DateStyle = before->date_style;
	IntervalStyle = before->interval_style;
	extra_float_digits = before->float_digits;
}
