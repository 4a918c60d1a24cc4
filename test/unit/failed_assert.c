/*
 * failed_assert.c
 *	  What a failed Assert() of an assert-enabled server's headers calls.
 *
 * It stands apart from those headers, as its arguments differ between versions.
 */
#include <stdio.h>
#include <stdlib.h>

void		ExceptionalCondition(const char *condition);

void
ExceptionalCondition(const char *condition)
{
	fprintf(stderr, "failed Assert(\"%s\")\n", condition);
	abort();
}
