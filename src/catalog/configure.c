/*
 * configure.c
 *	  fragaffinity.configure(): a setting for the cluster or one table.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "core/args.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_configure);
PG_FUNCTION_INFO_V1(fa_sql_setting_definitions);
PG_FUNCTION_INFO_V1(fa_sql_is_preloaded);

/* Table whose setting it is; 0 for the cluster. */
static int
configure_table(const FaSettingDef *def, Oid relid)
{
	const FaTable *table;

	if (!OidIsValid(relid))
		return 0;
	if (!def->per_table)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"%s\" cannot differ between tables",
						def->name)));
	table = fa_map_table(relid);
	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation \"%s\" is not a distributed table",
						get_rel_name(relid) ? get_rel_name(relid) : "?")));
	return table->table_id;
}

/*
 * configure(setting, value, rel): null resets to what holds without it
 */
Datum
fa_sql_configure(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *value = NULL;
	const FaSettingDef *def;
	int			table_id;
	char	   *sql;

	fa_shmem_require();
	fa_require_argument(fcinfo, 0, "setting");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	def = fa_setting_find(name);
	if (def == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("unrecognized setting \"%s\"", name),
				 errhint("The view fragaffinity.settings lists all settings.")));
	if (!PG_ARGISNULL(1))
	{
		value = text_to_cstring(PG_GETARG_TEXT_PP(1));
		fa_setting_check(def, value);
	}
	table_id = configure_table(def, PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2));
	if (value)
		sql = psprintf("INSERT INTO fragaffinity.setting (name, table_id, value) "
					   "VALUES (%s, %d, %s) ON CONFLICT (name, table_id) "
					   "DO UPDATE SET value = excluded.value",
					   quote_literal_cstr(name), table_id,
					   quote_literal_cstr(value));
	else
		sql = psprintf("DELETE FROM fragaffinity.setting "
					   "WHERE name = %s AND table_id = %d",
					   quote_literal_cstr(name), table_id);
	if (fa_node_self() != 0)
		fa_xact_exec_all("%s", sql);
	(void) fa_spi_exec("%s", sql);
	PG_RETURN_VOID();
}

/* setting_definitions(): name, default, whether per table, description */
Datum
fa_sql_setting_definitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (const FaSettingDef *def = fa_setting_defs; def->name; def++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(def->name);
		values[1] = CStringGetTextDatum(def->default_value);
		values[2] = BoolGetDatum(def->per_table);
		values[3] = CStringGetTextDatum(def->description);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
fa_sql_is_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(fa_shmem_available());
}
