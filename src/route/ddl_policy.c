/*
 * ddl_policy.c
 *	  Policies of distributed tables: the same on all nodes.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_policy.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "route/ddl_guard.h"

FaDdlAction
fa_ddl_check_policy(const RangeVar *name, FaDdlPlan *plan)
{
	Oid			rel = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
	Oid			root = fa_ddl_root(rel);

	if (!OidIsValid(root))
		return FA_DDL_PASS;
	if (rel != root)
		fa_ddl_refuse("a policy on a part", root,
					  "Create it on the table itself: its parts follow.");
	plan->owned = list_make1_oid(root);
	return FA_DDL_EVERYWHERE;
}

void
fa_ddl_check_drop_policy(Oid policy)
{
	Relation	catalog;
	Oid			root = InvalidOid;
	NameData	name;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!fa_ddl_catalog_exists())
		return;
	catalog = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_policy_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(policy));
	scan = systable_beginscan(catalog, PolicyOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		root = ((Form_pg_policy) GETSTRUCT(tuple))->polrelid;
		name = ((Form_pg_policy) GETSTRUCT(tuple))->polname;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (OidIsValid(root) && OidIsValid(fa_ddl_root(root)) &&
		!fa_ddl_is_dropped(root))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop policy \"%s\" of distributed table \"%s\" by CASCADE",
						NameStr(name), get_rel_name(root)),
				 errhint("Drop the policy itself first: that is done on all nodes.")));
}

void
fa_ddl_check_policy_role(Oid root, Oid role)
{
	if (fa_ddl_catalog_values(psprintf("SELECT '' FROM pg_catalog.pg_policy "
									   "WHERE polrelid = %u AND %u = ANY (polroles)",
									   root, role)) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("a policy of distributed table \"%s\" names role \"%s\"",
						get_rel_name(root), GetUserNameFromId(role, false)),
				 errhint("Use ALTER POLICY or DROP POLICY first.")));
}
