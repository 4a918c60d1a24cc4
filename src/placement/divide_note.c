/*
 * divide_note.c
 *	  What is to be divided or united, or why it is not: for people.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "core/spi.h"
#include "placement/divide.h"

#define NOTES 1000				/* kept at most, of a kind */

static StringInfo notes = NULL; /* VALUES rows, in the transaction's memory */
static int	nnotes = 0;

void
fa_divide_forget_notes(void)
{
	nnotes = 0;
}

void
fa_divide_note(const FaDivideNote *note)
{
	const char *kind = note->merge ? "merge" : "split";

	if (nnotes >= NOTES)
		return;
	if (nnotes == 0)
		notes = makeStringInfo();
	appendStringInfo(notes, "%s(" INT64_FORMAT ", '%s', nullif(%d, 0), %.6g, %.6g, %s, %s)",
					 nnotes++ ? ", " : "", note->fragment, kind,
					 note->destination, note->benefit_ms, note->cost_ms,
					 quote_literal_cstr(note->verdict ? note->verdict : kind),
					 quote_literal_cstr(note->reason));
}

void
fa_divide_write_notes(bool merges)
{
	int			n = nnotes;

	nnotes = 0;
	(void) fa_spi_exec("DELETE FROM fragaffinity.division WHERE kind = '%s'",
					   merges ? "merge" : "split");
	if (n > 0)
		(void) fa_spi_exec("INSERT INTO fragaffinity.division"
						   " (fragment, kind, destination, expected_benefit, cost,"
						   "  verdict, reason)"
						   " VALUES %s", notes->data);
}
