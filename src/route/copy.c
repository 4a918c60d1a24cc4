/*
 * copy.c
 *	  COPY into a table whose fragments are on several nodes.
 *
 * The work is in node/fdw_copy.c.  What is known here is which COPY it is for,
 * and whether that is alone in its transaction.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "node/fdw_copy.h"
#include "route/hooks.h"
#include "route/route.h"

/* COPY FROM into a distributed table, or a part of one above its leaves? */
static Oid
copy_table(Node *statement)
{
	CopyStmt   *copy = (CopyStmt *) statement;
	Oid			relid;
	List	   *ancestors;

	if (!IsA(copy, CopyStmt) || !copy->is_from || copy->relation == NULL ||
		fa_maintenance || !fa_routing || !fa_shmem_available())
		return InvalidOid;
	/* the statement itself locks it, after the same look-up */
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relid) ||
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return InvalidOid;
	ancestors = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;
	return fa_map_table(ancestors ? llast_oid(ancestors) : relid) ?
		relid : InvalidOid;
}

bool
fa_copy_begin(Node *statement)
{
	Oid			table = copy_table(statement);

	if (!OidIsValid(table))
		return false;
	fa_fdw_copy_begin(table, fa_command_is_alone());
	return true;
}
