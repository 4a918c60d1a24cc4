/*
 * divide_size.c
 *	  Fragments that are too large, and parts that need not be apart.
 *
 * A fragment of more than divide_above times fragment_size is divided whoever
 * uses it: about fragment_size of it is cut off, again and again, as a
 * split's clients wait while its rows are written.  What its files hold may be
 * much free room, after a split above all; how much is rows only the owner can
 * tell, which then leaves it as it is.
 *
 * A part that nobody but its owner has used for merge_after goes back to the
 * rest, or to the part beside it, once they have the same owner; if what comes
 * of it is not soon to be divided again.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "core/settings.h"
#include "core/spi.h"
#include "placement/divide.h"

#define LARGEST_PART 0.5		/* of a fragment that is cut off for its size */
#define UNITED 0.9				/* of the limit above which it is divided */
#define UNITE_MS 60000			/* between two unions of a fragment, at most */
#define REMEMBERED "30 days"	/* how long a failure is */

void
fa_divide_by_size(FaPlaceInput *input, const FaPlaceRow *row)
{
	FaTablePolicy *table = fa_controller_policy(input, row->table_id);
	FaDivideNote note = {.fragment = row->fragment};
	double		share;

	if (table->divide_bytes <= 0 || row->bytes <= table->divide_bytes)
		return;
	share = Min(table->unknown_bytes / row->bytes, LARGEST_PART);
	note.reason = psprintf("%.0f MB on disk, %.1f times fragment_size; the last %.0f %% of its rows would be a fragment",
						   row->bytes / (1024 * 1024),
						   row->bytes / table->unknown_bytes, 100 * share);
	fa_divide_judge(input, row, NULL, &note);
	if (note.verdict == NULL && table->act)
		fa_divide_ask(row->fragment, input->name[row->owner].id,
					  table->policy.min_residency_ms,
					  psprintf("SELECT fragaffinity.request_size_division(" INT64_FORMAT
							   ", %.6g, %.6g)", row->fragment, share,
							   table->divide_bytes));
	fa_divide_note(&note);
}

/* A part, and what it could be united with. */
static void
unite_pair(FaPlaceInput *input, FaPlaceRow *part, FaPlaceRow *rest,
		   double rest_ms)
{
	FaTablePolicy *table = fa_controller_policy(input, part->table_id);
	FaDivideNote note = {.fragment = part->fragment,.merge = true};

	note.reason = psprintf("no other node has used it for merge_after; goes to fragment " INT64_FORMAT,
						   rest->fragment);
	fa_divide_judge(input, part, rest, &note);
	if (note.verdict == NULL && table->act)
		fa_divide_ask(rest->fragment, input->name[rest->owner].id, rest_ms,
					  psprintf("SELECT fragaffinity.request_union(" INT64_FORMAT
							   ", " INT64_FORMAT ")", rest->fragment,
							   part->fragment));
	fa_divide_note(&note);
}

static void
unite_table(FaPlaceInput *input, int table_id)
{
	FaTablePolicy *table = fa_controller_policy(input, table_id);
	double		after_ms = fa_setting_float("merge_after", table_id);
	FaRows	   *rows;

	/* the rest, which takes any part; else the range that follows */
	rows = fa_spi_rows("WITH cold AS (SELECT f.* FROM fragaffinity.fragment f"
					   "  WHERE f.table_id = %d AND f.home <> f.bucket"
					   "   AND f.made < now() - interval '%.0f ms'"
					   "   AND NOT EXISTS (SELECT FROM fragaffinity.access_total t"
					   "    WHERE t.fragment = f.fragment AND t.node <> f.owner"
					   "     AND t.last_access > now() - interval '%.0f ms'))"
					   " SELECT DISTINCT ON (f.fragment) f.fragment, r.fragment"
					   " FROM cold f JOIN fragaffinity.fragment r"
					   "  ON r.home = f.home AND r.owner = f.owner"
					   "  AND r.fragment <> f.fragment"
					   "  AND (r.key_from IS NULL AND r.key_to IS NULL"
					   "   OR r.key_from = f.key_to"
					   "    AND r.fragment IN (SELECT fragment FROM cold))"
					   " WHERE f.key_from IS NOT NULL OR f.key_to IS NOT NULL"
					   " ORDER BY f.fragment, r.key_from NULLS FIRST",
					   table_id, after_ms, after_ms);
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *part = fa_controller_row(input, strtoi64(rows->value[i][0], NULL, 10));
		FaPlaceRow *rest = fa_controller_row(input, strtoi64(rows->value[i][1], NULL, 10));

		if (part && rest && part->owner >= 0 && rest->owner >= 0 &&
			part->bytes <= table->unknown_bytes &&
			(table->divide_bytes <= 0 ||
			 part->bytes + rest->bytes <= UNITED * table->divide_bytes))
			unite_pair(input, part, rest, Min(after_ms, UNITE_MS));
	}
}

void
fa_divide_unite(FaPlaceInput *input)
{
	FaRows	   *rows = fa_spi_rows("SELECT DISTINCT table_id FROM fragaffinity.fragment"
								   " WHERE home <> bucket");

	(void) fa_spi_exec("DELETE FROM fragaffinity.division_failure d"
					   " WHERE d.failed < now() - interval '" REMEMBERED "'"
					   "  OR NOT EXISTS (SELECT FROM fragaffinity.fragment f"
					   "   WHERE f.fragment = d.fragment)");
	for (int i = 0; i < rows->nrows; i++)
	{
		int			table_id = atoi(rows->value[i][0]);

		if (fa_controller_policy(input, table_id)->decide)
			unite_table(input, table_id);
	}
}
