/*
 * column_rights.c
 *	  A right to insert into some columns, or to delete, where a peer asks for it.
 *
 * PostgreSQL asks for the right on the columns that an INSERT names, not on those that
 * get their defaults.  What is sent to a peer names these, too, where the value is not
 * a constant: identity columns and now() are evaluated where the client is.  There
 * the right has been asked for, so a session that a peer vouches for is not asked
 * again, but for a right on any column.
 *
 * Row by row, MERGE locks a row before it deletes it.  PostgreSQL asks for the right to
 * update for that; in a bucket the right to delete will do, which locks rows as well.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/vouch.h"
#include "route/hooks.h"
#include "route/row_security.h"

/* Columns that the user has the right to insert into. */
static Bitmapset *
rights_granted(Oid relid, Bitmapset *columns)
{
	Bitmapset  *granted = NULL;
	int			i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
	{
		if (pg_attribute_aclcheck(relid, i + FirstLowInvalidHeapAttributeNumber,
								  GetUserId(), ACL_INSERT) == ACLCHECK_OK)
			granted = bms_add_member(granted, i);
	}
	return granted;
}

/* Of a query that locks rows. */
static void
rights_to_lock(PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, FA_PLAN_RIGHTS(plan))
	{
		FaPlanRights *rights = lfirst(lc);
		Oid			relid = rights->relid;

		if (!(rights->requiredPerms & ACL_UPDATE) || OidIsValid(rights->checkAsUser) ||
			!fa_map_is_managed(relid) || fa_map_table(relid) != NULL ||
			pg_class_aclcheck(relid, GetUserId(), ACL_DELETE) != ACLCHECK_OK ||
			pg_attribute_aclcheck_all(relid, GetUserId(), ACL_UPDATE,
									  ACLMASK_ANY) == ACLCHECK_OK)
			continue;
		rights->requiredPerms &= ~ACL_UPDATE;
		rights->requiredPerms |= ACL_DELETE;
	}
}

void
fa_column_rights_start(PlannedStmt *plan)
{
	ListCell   *lc;

	if (fa_origin == 0)
		return;
	if (plan->commandType == CMD_SELECT && plan->rowMarks != NIL)
		rights_to_lock(plan);
	if (plan->commandType != CMD_INSERT)
		return;
	foreach(lc, FA_PLAN_RIGHTS(plan))
	{
		FaPlanRights *rights = lfirst(lc);
		Bitmapset  *granted;

		if (!(rights->requiredPerms & ACL_INSERT) ||
			OidIsValid(rights->checkAsUser) || !fa_map_is_managed(rights->relid) ||
			pg_class_aclcheck(rights->relid, GetUserId(), ACL_INSERT) == ACLCHECK_OK ||
			!fa_vouch_is_given() || fa_row_security_is_in_function())
			continue;
		/* the plan may be kept: its set stays where it is */
		granted = rights_granted(rights->relid, rights->insertedCols);
		rights->insertedCols = bms_int_members(rights->insertedCols, granted);
	}
}
