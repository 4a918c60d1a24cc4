/*
 * divide_rest.c
 *	  Divisions and unions that failed: not again so soon.
 *
 * Above all what split_timeout ended, for which clients of the bucket have
 * waited in vain.  What made it fail (many rows, long transactions, a node
 * that is down) is mostly still there a moment later, so after each failure in
 * a row it rests twice as long as before.  The owner's process, which alone
 * knows how it ended, tells the coordinator; a failure that could not be told
 * counts as none.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/remote.h"
#include "placement/divide.h"

PG_FUNCTION_INFO_V1(fa_sql_division_rests);

#define LONGEST_REST_MS (24 * 3600000.0)
#define MAX_DOUBLINGS 20
#define TELL_TIMEOUT_MS 30000

static FaRows *failures = NULL; /* in the transaction's memory */

void
fa_divide_read_failures(void)
{
	failures = fa_spi_rows("SELECT fragment, kind, failures,"
						   " 1000 * extract(epoch FROM clock_timestamp() - failed),"
						   " error FROM fragaffinity.division_failure");
}

/*
 * ms from the last failure on.  Not less than clients had to wait, were they to
 * wait as long again each time.
 */
static double
rest_ms(int table_id, int failed)
{
	double		residency = fa_setting_float("min_residency", table_id);
	double		once = Max(residency, fa_setting_int("split_timeout", table_id));
	double		rest = once * (1 << Min(failed, MAX_DOUBLINGS));

	return Max(Min(rest, LONGEST_REST_MS), residency);
}

static char **
find_failure(const FaDivideNote *note)
{
	for (int i = 0; failures && i < failures->nrows; i++)
	{
		char	  **v = failures->value[i];

		if (strtoi64(v[0], NULL, 10) == note->fragment &&
			strcmp(v[1], note->merge ? "merge" : "split") == 0)
			return v;
	}
	return NULL;
}

void
fa_divide_rest(FaDivideNote *note, int table_id)
{
	char	  **failure = find_failure(note);
	int			times;
	double		left_ms;
	TimestampTz again;

	if (failure == NULL)
		return;
	times = atoi(failure[2]);
	left_ms = rest_ms(table_id, times) - atof(failure[3]);
	note->reason = psprintf("%s; failed %d %s in a row, lastly: %s", note->reason,
							times, times == 1 ? "time" : "times", failure[4]);
	if (left_ms <= 0)
		return;
	again = GetCurrentTimestamp() + (TimestampTz) (left_ms * 1000);
	note->reason = psprintf("%s; not again before %s", note->reason,
							timestamptz_to_str(again));
	if (note->verdict == NULL)
		note->verdict = "failed before";
}

/* First column of the first row of a statement, run by the coordinator. */
static char *
ask_coordinator(const char *sql)
{
	int			coordinator = fa_node_coordinator();
	FaConn	   *conn;
	char	   *value;

	if (coordinator == fa_node_self())
		return fa_spi_value("%s", sql);
	conn = fa_remote_connect(coordinator, FA_CONNECT_TIMEOUT_MS);
	value = fa_remote_value(conn, TELL_TIMEOUT_MS, "%s", sql);
	fa_remote_close(conn);
	return value;
}

void
fa_divide_tell(int64 fragment, bool merge, const char *error)
{
	(void) ask_coordinator(psprintf("SELECT fragaffinity.note_division(" INT64_FORMAT
									", '%s', %s)", fragment,
									merge ? "merge" : "split",
									error ? quote_literal_cstr(error) : "NULL"));
}

bool
fa_divide_may_begin(int64 fragment, bool merge)
{
	char	   *rests = ask_coordinator(psprintf("SELECT fragaffinity.division_rests("
												 INT64_FORMAT ", '%s')", fragment,
												 merge ? "merge" : "split"));

	return rests && rests[0] == 'f';
}

/* division_rests(fragment, kind): on the coordinator */
Datum
fa_sql_division_rests(PG_FUNCTION_ARGS)
{
	FaDivideNote note = {.fragment = PG_GETARG_INT64(0)};
	char	   *table;

	note.merge = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), "merge") == 0;
	note.reason = "";
	table = fa_spi_value("SELECT table_id FROM fragaffinity.fragment"
						 " WHERE fragment = " INT64_FORMAT, note.fragment);
	if (table == NULL)
		PG_RETURN_BOOL(false);
	fa_divide_read_failures();
	fa_divide_rest(&note, atoi(table));
	PG_RETURN_BOOL(note.verdict != NULL);
}
