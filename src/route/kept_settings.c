/*
 * kept_settings.c
 *	  Settings under which a kept plan is what the planner would make.
 *
 * PostgreSQL tells nobody that a setting has changed: functions, the ends of
 * transactions and reloads change them, too.  So those that can lead from a look-up
 * in a unique index to another plan are compared whenever one is used.
 */
#include "postgres.h"

#include "jit/jit.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"

#include "core/fa_compat.h"
#include "route/kept.h"

typedef struct Settings
{
	bool		seqscan;
	bool		indexscan;
	bool		indexonlyscan;
	bool		bitmapscan;
	bool		tidscan;
	bool		jit;
	int			debug_parallel;
	int			exclusion;
	int			cache_size;
	double		cost[8];
} Settings;

/* Statements under other settings, in a row, after which plans are kept for them. */
#define MAX_OTHERS 256

static void
settings_read(Settings *now)
{
	memset(now, 0, sizeof(*now));
	now->seqscan = enable_seqscan;
	now->indexscan = enable_indexscan;
	now->indexonlyscan = enable_indexonlyscan;
	now->bitmapscan = enable_bitmapscan;
	now->tidscan = enable_tidscan;
	now->jit = jit_enabled;
	now->debug_parallel = fa_debug_parallel_query;
	now->exclusion = constraint_exclusion;
	now->cache_size = effective_cache_size;
	now->cost[0] = seq_page_cost;
	now->cost[1] = random_page_cost;
	now->cost[2] = cpu_tuple_cost;
	now->cost[3] = cpu_index_tuple_cost;
	now->cost[4] = cpu_operator_cost;
	now->cost[5] = jit_above_cost;
	now->cost[6] = jit_inline_above_cost;
	now->cost[7] = jit_optimize_above_cost;
}

FaKeptSettings
fa_kept_settings(void)
{
	static Settings known;
	static int	others = MAX_OTHERS;
	Settings	now;

	settings_read(&now);
	if (memcmp(&now, &known, sizeof(now)) == 0)
	{
		others = 0;
		return FA_SETTINGS_SAME;
	}
	if (++others < MAX_OTHERS)
		return FA_SETTINGS_OTHER;
	known = now;
	others = 0;
	return FA_SETTINGS_NEW;
}
