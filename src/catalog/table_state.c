/*
 * table_state.c
 *	  Settings and user that our own DDL runs with.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "catalog/table_text.h"
#include "core/spi.h"

void
fa_ddl_set(const char *name, const char *value)
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
	fa_ddl_set("search_path", "pg_catalog, pg_temp");
	fa_ddl_set("fragaffinity.maintenance", "on");
	fa_ddl_set("fragaffinity.capture", "off");
	fa_ddl_set("fragaffinity.routing", "off");
	fa_ddl_set("check_function_bodies", "off");
	fa_ddl_set("quote_all_identifiers", "off");
	fa_ddl_set("array_nulls", "on");
	fa_ddl_set("transform_null_equals", "off");
	fa_ddl_set("default_tablespace", "");
	fa_ddl_set("default_table_access_method", "heap");
	/* Rows travel as text, as in postgres_fdw. */
	fa_ddl_set("datestyle", "ISO");
	fa_ddl_set("intervalstyle", "postgres");
	fa_ddl_set("extra_float_digits", "3");
	fa_ddl_set("bytea_output", "hex");
	fa_ddl_set("xmlbinary", "base64");
	fa_ddl_set("xmloption", "content");
	fa_ddl_set("client_min_messages", "warning");
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

Oid
fa_ddl_owner(Oid rel)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(rel));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", rel);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
fa_ddl_become(Oid owner, FaDdlState *state)
{
	GetUserIdAndSecContext(&state->user, &state->sec_context);
	SetUserIdAndSecContext(owner, state->sec_context |
						   SECURITY_RESTRICTED_OPERATION);
	state->guc_level = NewGUCNestLevel();
}

void
fa_ddl_become_ourselves(const FaDdlState *state)
{
	/* whatever was set meanwhile, search_path above all, would be ours */
	AtEOXact_GUC(false, state->guc_level);
	SetUserIdAndSecContext(state->user, state->sec_context);
}

void
fa_ddl_write(Oid rel, const char *sql)
{
	(void) fa_spi_exec_as(fa_ddl_owner(rel), sql);
}

PG_FUNCTION_INFO_V1(fa_sql_run_as);

/*
 * run_as(role, statement): DDL that may run what the role has written, and must not
 * let it become somebody else, as SET ROLE in a superuser's session would.
 */
Datum
fa_sql_run_as(PG_FUNCTION_ARGS)
{
	FaDdlState	state;
	FaDdlState	ourselves;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to run a statement as another role")));
	fa_ddl_begin(&state);
	/* of a DEFAULT partition's foreign leaves, which are checked elsewhere */
	fa_ddl_set("client_min_messages", "error");
	fa_ddl_become(get_role_oid(NameStr(*PG_GETARG_NAME(0)), false), &ourselves);
	fa_spi_exec("%s", text_to_cstring(PG_GETARG_TEXT_PP(1)));
	fa_ddl_become_ourselves(&ourselves);
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}
