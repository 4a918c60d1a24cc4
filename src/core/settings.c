/*
 * settings.c
 *	  The cluster's settings: their definitions, checks and values.
 *
 * Values are rows of fragaffinity.setting and equal on every node.  A
 * backend keeps no cache: settings are read by workers and functions, not by
 * statements.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "core/settings.h"

#define MS_PER_DAY (86400.0 * 1000)

/* Sorted by name. */
const FaSettingDef fa_setting_defs[] = {
	{"auto_split", FA_SETTING_BOOL, "on", 0, 0, NULL, true,
	"In mode auto, also divides fragments of which one node wants a part, and unites them again."},
	{"benefit_learning", FA_SETTING_BOOL, "on", 0, 0, NULL, true,
	"Expects less of a table's moves when earlier ones did not bring what was expected."},
	{"co_access", FA_SETTING_ENUM, "observe", 0, 0, "off|observe|auto", true,
	"What follows from fragments of two tables being used together: nothing is looked for, they are shown, or decided about together."},
	{"co_access_share", FA_SETTING_FLOAT, "0.7", 0.5, 1, NULL, false,
	"Least share of the accesses to each of two fragments that must come beside those to the other."},
	{"co_access_weight", FA_SETTING_FLOAT, "30", 1, 1e9, NULL, false,
	"Least number of times, of late, that sessions must have used two fragments one after the other."},
	{"cutover_attempts", FA_SETTING_INT, "100", 1, 100000, NULL, true,
	"Tries to take the locks of a cut-over before a move is given up."},
	{"cutover_lock_timeout", FA_SETTING_MS, "50ms", 1, 900, NULL, true,
	"Longest wait for a lock in one try of a cut-over."},
	{"cutover_pause", FA_SETTING_MS, "10ms", 1, 10000, NULL, true,
	"Time for which writers may wait while the last pages of a move are copied; more are copied before."},
	{"cutover_wait", FA_SETTING_MS, "2s", 0, 60000, NULL, false,
	"Longest time that a statement waits for a cut-over before it queues on the lock."},
	{"deadlock_wait", FA_SETTING_MS, "1s", 10, 3600000, NULL, false,
	"Wait for a lock after which a deadlock over several nodes is looked for."},
	{"divide_above", FA_SETTING_FLOAT, "0", 0, 1e6, NULL, true,
	"With auto_split, fragments of more than so many times fragment_size are divided; 0: never for their size."},
	{"doubt", FA_SETTING_FLOAT, "5", 0, 1e9, NULL, true,
	"Accesses of evidence at which a forecast's benefit counts half."},
	{"fragment_size", FA_SETTING_BYTES, "256MB", 8192, 1e15, NULL, true,
	"Size that distribute_table aims at for a fragment."},
	{"heat_window", FA_SETTING_MS, "1h", 1000, 30 * MS_PER_DAY, NULL, false,
	"How long samples of the keys within fragments are kept."},
	{"history_days_retention", FA_SETTING_MS, "730d", MS_PER_DAY, 36500 * MS_PER_DAY, NULL, false,
	"How long history is kept at all, in days in the end."},
	{"history_hours_retention", FA_SETTING_MS, "60d", MS_PER_DAY, 36500 * MS_PER_DAY, NULL, false,
	"How long history is kept in hours, before it is rolled up into days."},
	{"history_interval", FA_SETTING_MS, "1min", 50, MS_PER_DAY, NULL, false,
	"Length of one step of history and of forecasts."},
	{"history_retention", FA_SETTING_MS, "14d", 60000, 36500 * MS_PER_DAY, NULL, false,
	"How long history is kept in steps of history_interval, before it is rolled up into hours."},
	{"hysteresis", FA_SETTING_FLOAT, "0.05", 0, 1, NULL, true,
	"Share of accesses by which a destination must exceed the owner; twice that to move back."},
	{"latency_guard", FA_SETTING_FLOAT, "100", 0, 1e6, NULL, true,
	"Percent that clients' statements may take longer than usual while a fragment is copied, at either node; 0: any."},
	{"max_concurrent_moves", FA_SETTING_INT, "4", 0, 1000, NULL, false,
	"Moves that the controller lets run at the same time in the cluster."},
	{"max_move_bytes_per_hour", FA_SETTING_BYTES, "0", 0, 1e18, NULL, false,
	"Size of the fragments that the controller moves within an hour, in the cluster; 0 is no limit."},
	{"max_moves_per_hour", FA_SETTING_INT, "0", 0, 1e6, NULL, false,
	"Moves that the controller begins within an hour, in the cluster; 0 is no limit."},
	{"max_moves_per_node", FA_SETTING_INT, "2", 1, 64, NULL, false,
	"Moves that the controller lets run at the same time into or out of one node."},
	{"merge_after", FA_SETTING_MS, "1d", 1000, 3650 * MS_PER_DAY, NULL, true,
	"Time for which nobody but its owner used a part of a fragment, before it is united with the rest."},
	{"metric_retention", FA_SETTING_MS, "1d", 1000, 36500 * MS_PER_DAY, NULL, false,
	"How long node_metrics are kept."},
	{"migration_threshold", FA_SETTING_FLOAT, "0.3", 0, 1, NULL, true,
	"Least share of a fragment's expected accesses that a node must have to get it."},
	{"min_residency", FA_SETTING_MS, "5min", 0, 30 * MS_PER_DAY, NULL, true,
	"Least time between two moves of a fragment."},
	{"mode", FA_SETTING_ENUM, "advise", 0, 0, "observe|advise|auto", true,
	"What the controller does: predict only, recommend moves, or make them."},
	{"move_cost", FA_SETTING_MS, "250ms", 0, MS_PER_DAY, NULL, true,
	"Waiting of clients that a move costs whatever its size, in the controller's sums."},
	{"move_cost_factor", FA_SETTING_FLOAT, "0.05", 0, 100, NULL, true,
	"Part of a move's duration that is added to its cost."},
	{"move_path", FA_SETTING_ENUM, "auto", 0, 0, "auto|page|logical", true,
	"How a fragment is copied: as pages where they fit, as pages or not at all, or row by row."},
	{"move_rate_limit", FA_SETTING_BYTES, "0", 0, 1e15, NULL, true,
	"Bytes a second that a move copies at most; 0: as fast as it goes."},
	{"move_timeout", FA_SETTING_MS, "1d", 1000, 30 * MS_PER_DAY, NULL, true,
	"Longest duration of a move; then it fails and the fragment stays."},
	{"move_window", FA_SETTING_HOURS, "always", 0, 0, NULL, true,
	"Times of day at which the controller begins moves, by the coordinator's time zone."},
	{"prediction_budget", FA_SETTING_FLOAT, "0.1", 0, 1, NULL, false,
	"Part of one processor that learning may take on each node; above it less is learned from. 0: no sessions are followed and the network rests."},
	{"prediction_horizons", FA_SETTING_INT_LIST, "1,5,15,60", 1, 10080, NULL, false,
	"Steps ahead at which forecasts are published and scored; plans reach to the last."},
	{"predictive", FA_SETTING_BOOL, "on", 0, 0, NULL, true,
	"Moves by forecasts; off, with reactive on, only by what has been seen."},
	{"reactive", FA_SETTING_BOOL, "on", 0, 0, NULL, true,
	"Also moves what the forecast did not see, after sustained remote access."},
	{"reactive_steps", FA_SETTING_INT, "3", 1, 12, NULL, true,
	"Steps that remote access must have lasted before a reactive move."},
	{"reactive_threshold", FA_SETTING_FLOAT, "0.7", 0, 1, NULL, true,
	"Share of a fragment's recent accesses that a node must have for a reactive move."},
	{"split_share", FA_SETTING_FLOAT, "0.5", 0, 1, NULL, true,
	"Least share of a node's accesses to a fragment that must fall in the part that is split off for it."},
	{"split_size", FA_SETTING_BYTES, "16MB", 0, 1e15, NULL, true,
	"Size below which the controller does not split a fragment."},
	{"split_timeout", FA_SETTING_MS, "5s", 10, 3600000, NULL, true,
	"Longest time for which clients of a bucket may wait while it is split or merged; nothing is changed then."},
	{"transition_half_life", FA_SETTING_MS, "1d", 1000, 3650 * MS_PER_DAY, NULL, false,
	"Time after which an observed transition between fragments weighs half."},
	{"transition_limit", FA_SETTING_INT, "100000", 100, 1e9, NULL, false,
	"Number of transitions kept for each node; the lightest go."},
	{"transports", FA_SETTING_NAME_LIST, "shm,rdma,stream", 0, 0, "shm|rdma|stream", true,
	"How pages get from node to node: the first of these that works between them."},
	{NULL}
};

const FaSettingDef *
fa_setting_find(const char *name)
{
	for (const FaSettingDef *def = fa_setting_defs; def->name; def++)
	{
		if (strcmp(def->name, name) == 0)
			return def;
	}
	return NULL;
}

static bool
setting_parse_number(const FaSettingDef *def, const char *value,
					 double *number_p)
{
	const char *hint;
	double		number;
	int			flags = 0;

	if (def->type == FA_SETTING_MS)
		flags = GUC_UNIT_MS;
	else if (def->type == FA_SETTING_BYTES)
		flags = GUC_UNIT_BYTE;
	if (!parse_real(value, &number, flags, &hint))
		return false;
	if (isnan(number) || number < def->min || number > def->max)
		return false;
	if (def->type == FA_SETTING_INT && number != rint(number))
		return false;
	*number_p = number;
	return true;
}

static bool
setting_fits_enum(const FaSettingDef *def, const char *value)
{
	size_t		len = strlen(value);
	const char *p = def->values;

	while (len > 0 && p)
	{
		if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0'))
			return true;
		p = strchr(p, '|');
		if (p)
			p++;
	}
	return false;
}

static bool
setting_fits_list(const FaSettingDef *def, const char *value)
{
	char	   *copy = pstrdup(value);
	List	   *items;
	ListCell   *lc;
	double		last = def->min - 1;

	if (!SplitIdentifierString(copy, ',', &items) || items == NIL)
		return false;
	foreach(lc, items)
	{
		char	   *end;
		long		n = strtol((char *) lfirst(lc), &end, 10);

		if (*end != '\0' || n <= last || n < def->min || n > def->max)
			return false;
		last = n;
	}
	return true;
}

static bool
setting_fits_names(const FaSettingDef *def, const char *value)
{
	List	   *items;
	ListCell   *lc;
	ListCell   *other;

	if (!SplitIdentifierString(pstrdup(value), ',', &items) || items == NIL)
		return false;
	foreach(lc, items)
	{
		if (!setting_fits_enum(def, lfirst(lc)))
			return false;
		foreach(other, items)
		{
			if (other != lc && strcmp(lfirst(lc), lfirst(other)) == 0)
				return false;
		}
	}
	return true;
}

/*
 * Parses "HH:MM-HH:MM, ...": false when it is no such list.  *within_p: is the
 * minute in one of the ranges, which include their start and may go over
 * midnight?
 */
static bool
setting_parse_hours(const char *value, int minute, bool *within_p)
{
	*within_p = false;
	for (;;)
	{
		unsigned	h1,
					m1,
					h2,
					m2;
		int			used = 0;
		int			from;
		int			to;

		if (sscanf(value, " %2u:%2u - %2u:%2u %n", &h1, &m1, &h2, &m2, &used) != 4 ||
			used == 0 || m1 > 59 || m2 > 59)
			return false;
		from = h1 * 60 + m1;
		to = h2 * 60 + m2;
		if (from >= 24 * 60 || to > 24 * 60 || from == to)
			return false;
		if (from < to ? minute >= from && minute < to :
			minute >= from || minute < to)
			*within_p = true;
		value += used;
		if (*value == '\0')
			return true;
		if (*value++ != ',')
			return false;
	}
}

bool
fa_setting_hours(const char *value, int minute)
{
	bool		within;

	return !setting_parse_hours(value, minute, &within) || within;
}

void
fa_setting_check(const FaSettingDef *def, const char *value)
{
	double		number;
	bool		flag;

	switch (def->type)
	{
		case FA_SETTING_BOOL:
			if (parse_bool(value, &flag))
				return;
			break;
		case FA_SETTING_ENUM:
			if (setting_fits_enum(def, value))
				return;
			break;
		case FA_SETTING_HOURS:
			if (strcmp(value, "always") == 0 ||
				setting_parse_hours(value, 0, &flag))
				return;
			break;
		case FA_SETTING_INT_LIST:
			if (setting_fits_list(def, value))
				return;
			break;
		case FA_SETTING_NAME_LIST:
			if (setting_fits_names(def, value))
				return;
			break;
		default:
			if (setting_parse_number(def, value, &number))
				return;
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for setting \"%s\": \"%s\"",
					def->name, value),
			 def->values ?
			 errhint("Available values: %s.", def->values) :
			 def->type == FA_SETTING_BOOL ?
			 errhint("Use on or off.") :
			 def->type == FA_SETTING_HOURS ?
			 errhint("Use always, or ranges of hours such as 22:00-06:00, 12:30-13:30.") :
			 errhint("The default is %s; the valid range is %g to %g%s.",
					 def->default_value, def->min, def->max,
					 def->type == FA_SETTING_MS ? " ms" :
					 def->type == FA_SETTING_BYTES ? " bytes" : "")));
}

Oid
fa_catalog_relid(const char *relname)
{
	Oid			nsp = get_namespace_oid("fragaffinity", false);
	Oid			relid = get_relname_relid(relname, nsp);

	if (!OidIsValid(relid))
		elog(ERROR, "relation \"fragaffinity.%s\" does not exist", relname);
	return relid;
}

bool
fa_extension_exists(void)
{
	return OidIsValid(get_extension_oid("fragaffinity", true));
}

/* The stored value for exactly this table, or NULL. */
static char *
setting_lookup(const char *name, int table_id)
{
	Relation	rel = table_open(fa_catalog_relid("setting"), AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *value = NULL;

	ScanKeyInit(&key[0], 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(name));
	ScanKeyInit(&key[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(table_id));
	scan = systable_beginscan(rel, fa_catalog_relid("setting_pkey"), true,
							  NULL, 2, key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, 3, RelationGetDescr(rel),
										 &isnull);

		if (!isnull)
			value = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return value;
}

char *
fa_setting_text(const char *name, int table_id)
{
	const FaSettingDef *def = fa_setting_find(name);
	char	   *value = NULL;

	if (def == NULL)
		elog(ERROR, "unknown setting \"%s\"", name);
	if (table_id != 0 && def->per_table)
		value = setting_lookup(name, table_id);
	if (value == NULL)
		value = setting_lookup(name, 0);
	return value ? value : pstrdup(def->default_value);
}

double
fa_setting_float(const char *name, int table_id)
{
	const FaSettingDef *def = fa_setting_find(name);
	double		number;

	if (def == NULL ||
		!setting_parse_number(def, fa_setting_text(name, table_id), &number))
		elog(ERROR, "setting \"%s\" has no valid number", name);
	return number;
}

int64
fa_setting_int(const char *name, int table_id)
{
	return (int64) fa_setting_float(name, table_id);
}

bool
fa_setting_bool(const char *name, int table_id)
{
	bool		flag;

	if (!parse_bool(fa_setting_text(name, table_id), &flag))
		elog(ERROR, "setting \"%s\" has no valid value", name);
	return flag;
}
