/*
 * co_access.c
 *	  Has pairs of fragments found that sessions use together.
 *
 * The transitions of all nodes say which fragment sessions touch after which;
 * a statement about several touches one after the other.  A function in SQL
 * finds the pairs in them, whose memory is work_mem's; their number is that
 * of the fragments at most, as only one fragment can be what mostly comes
 * before another, or after it.  It is done every LOOK_STEPS steps, and rests
 * REST times as long as it took.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "placement/group.h"

#define LOOK_STEPS 5
#define REST 100

/* As an array's text: the tables that are looked at. */
static char *
co_access_tables(void)
{
	FaRows	   *rows = fa_spi_rows("SELECT table_id FROM fragaffinity.distributed_table");
	char	   *list = "";

	for (int i = 0; i < rows->nrows; i++)
	{
		if (strcmp(fa_setting_text("co_access", atoi(rows->value[i][0])), "off") != 0)
			list = psprintf("%s%s%s", list, list[0] ? "," : "", rows->value[i][0]);
	}
	return list;
}

void
fa_co_access_look(const FaForecaster *f)
{
	static TimestampTz ended = 0;
	static TimestampTz next = 0;
	TimestampTz began = GetCurrentTimestamp();

	/* the clock may have been set back */
	if (began < next && began >= ended)
		return;
	(void) fa_spi_rows("SELECT fragaffinity.find_co_access(%.6g, %.6g, %.6g, '{%s}')",
					   fa_setting_float("co_access_share", 0),
					   fa_setting_float("co_access_weight", 0),
					   fa_setting_float("transition_half_life", 0),
					   co_access_tables());
	ended = GetCurrentTimestamp();
	next = ended + Max(LOOK_STEPS * f->width_us, REST * (ended - began));
}
