/*
 * plain_input.c
 *	  Settings by which a session reads what peers have written.
 *
 * Peers write dates, intervals and numbers such that any setting reads them alike.
 * There is no such way for a null in an array, nor for XML that is no document.
 * Changed as in plain_output.c.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/xml.h"

#include "core/plain_input.h"

bool
fa_plain_input_differs(void)
{
	return !Array_nulls || xmloption != XMLOPTION_CONTENT;
}

void
fa_plain_input_begin(FaPlainInput *before_p)
{
	before_p->array_nulls = Array_nulls;
	before_p->xml_option = xmloption;
	Array_nulls = true;
	xmloption = XMLOPTION_CONTENT;
}

void
fa_plain_input_end(const FaPlainInput *before)
{
	Array_nulls = before->array_nulls;
	xmloption = before->xml_option;
}
