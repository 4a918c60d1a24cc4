/*
 * table_state.c
 *	  Settings and user that our own DDL runs with.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "catalog/table_text.h"
#include "core/spi.h"

static void
set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
fa_ddl_begin(FaDdlState *state)
{
	GetUserIdAndSecContext(&state->user, &state->sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   state->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	state->guc_level = NewGUCNestLevel();
	set_for_now("search_path", "pg_catalog, pg_temp");
	set_for_now("fragaffinity.maintenance", "on");
	set_for_now("fragaffinity.capture", "off");
	set_for_now("fragaffinity.routing", "off");
	set_for_now("check_function_bodies", "off");
	set_for_now("default_tablespace", "");
	set_for_now("default_table_access_method", "heap");
	/* Rows travel as text, as in postgres_fdw. */
	set_for_now("datestyle", "ISO");
	set_for_now("intervalstyle", "postgres");
	set_for_now("extra_float_digits", "3");
	set_for_now("bytea_output", "hex");
	set_for_now("xmlbinary", "base64");
	set_for_now("xmloption", "content");
	set_for_now("client_min_messages", "warning");
}

void
fa_ddl_end(FaDdlState *state)
{
	AtEOXact_GUC(true, state->guc_level);
	SetUserIdAndSecContext(state->user, state->sec_context);
}

void
fa_ddl_run(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
		fa_spi_exec("%s", (char *) lfirst(lc));
}
