/*
 * act_as.c
 *	  A peer's session that acts as one role after another; see act_as.h.
 *
 * Only a command at top level can say so: it comes from the origin, while the code
 * of roles runs in functions.  PostgreSQL keeps the user of the moment for each
 * transaction and savepoint, and goes back to it when that is undone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/act_as.h"
#include "node/remote.h"
#include "node/vouch.h"

static bool acted = false;		/* in this transaction */

static void
act_as_set(const char *name, const char *value, GucAction action)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, action, true, 0,
							 false);
}

/*
 * What one role's code has set must not decide what the statements of the next one
 * mean: neither by search_path, nor by names in the temporary schema.
 */
static void
act_as_settings(GucAction action)
{
	for (const FaSetting *s = fa_remote_settings; s->name; s++)
		act_as_set(s->name, s->value, action);
	act_as_set("search_path", "pg_catalog, pg_temp", action);
	act_as_set("timezone", "GMT", action);
}

/* At top level nothing else changes the user but for a while. */
void
fa_act_as_end(void)
{
	Oid			user;
	int			sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	if (sec_context & SECURITY_LOCAL_USERID_CHANGE)
		SetUserIdAndSecContext(GetOuterUserId(), 0);
}

/* Before the end of a transaction in which the session has acted as others. */
static void
act_as_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			/* of one that ends without a command, by the end of the statement */
			fa_act_as_end();
			/* others may have set it for the session */
			if (acted)
				act_as_settings(GUC_ACTION_SET);
			acted = false;
			break;
		case XACT_EVENT_ABORT:
			acted = false;
			break;
		default:
			break;
	}
}

/* What connections of our own begin with, and what it must not keep of a role's. */
static void
act_as_node(void)
{
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, SECURITY_LOCAL_USERID_CHANGE);
	act_as_set("fragaffinity.maintenance", "on", GUC_ACTION_LOCAL);
	act_as_set("fragaffinity.as_of", "0", GUC_ACTION_LOCAL);
	act_as_set("row_security", "on", GUC_ACTION_LOCAL);
	act_as_set("lock_timeout", "0", GUC_ACTION_LOCAL);
	act_as_set("timezone", GetConfigOptionResetString("timezone"), GUC_ACTION_LOCAL);
}

/* NULL: as itself. */
static const char *
act_as_role(VariableSetStmt *stmt)
{
	Node	   *arg;

	if (stmt->kind == VAR_SET_DEFAULT || stmt->kind == VAR_RESET)
		return NULL;
	arg = list_length(stmt->args) == 1 ? linitial(stmt->args) : NULL;
	if (stmt->kind != VAR_SET_VALUE || arg == NULL || !IsA(arg, A_Const) ||
		!IsA(&((A_Const *) arg)->val, String))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s takes the name of a role", FA_ACT_AS)));
	return strVal(&((A_Const *) arg)->val);
}

bool
fa_act_as_used(void)
{
	return acted;
}

bool
fa_act_as(Node *statement, ProcessUtilityContext context)
{
	static bool registered = false;
	VariableSetStmt *stmt = (VariableSetStmt *) statement;
	const char *role;

	if (context != PROCESS_UTILITY_TOPLEVEL || !IsA(stmt, VariableSetStmt) ||
		stmt->name == NULL || strcmp(stmt->name, FA_ACT_AS) != 0)
		return false;
	if (fa_origin == 0 || !fa_vouch_is_given())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set %s", FA_ACT_AS),
				 errdetail("It is said by other nodes, in sessions that they vouch for.")));
	role = act_as_role(stmt);
	if (!registered)
		RegisterXactCallback(act_as_xact, NULL);
	registered = true;
	fa_act_as_end();
	act_as_settings(GUC_ACTION_LOCAL);
	acted = true;
	act_as_set("fragaffinity.maintenance", "off", GUC_ACTION_LOCAL);
	if (role && role[0] == '\0')
		act_as_node();
	else if (role)
		SetUserIdAndSecContext(get_role_oid(role, false),
							   SECURITY_LOCAL_USERID_CHANGE);
	return true;
}
