/*
 * row_security.c
 *	  Row security of distributed tables; see row_security.h.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "parser/parsetree.h"
#include "rewrite/rowsecurity.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/settings.h"
#include "node/vouch.h"
#include "route/row_security.h"

static row_security_policy_hook_type prev_permissive = NULL;

static RowSecurityPolicy *
policy_of_all_rows(void)
{
	RowSecurityPolicy *policy = palloc0(sizeof(RowSecurityPolicy));
	Datum		everybody = ObjectIdGetDatum(ACL_ID_PUBLIC);

	policy->policy_name = "fragaffinity";
	policy->polcmd = '*';
	policy->permissive = true;
	policy->roles = construct_array(&everybody, 1, OIDOID, sizeof(Oid), true,
									TYPALIGN_INT);
	policy->qual = (Expr *) makeBoolConst(true, false);
	policy->with_check_qual = (Expr *) makeBoolConst(true, false);
	return policy;
}

/* Of a bucket that is named by itself, by a role that row security holds for. */
static List *
row_security_permissive(CmdType command, Relation rel)
{
	List	   *policies = prev_permissive ? prev_permissive(command, rel) : NIL;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE ||
		!fa_map_is_bucket(RelationGetRelid(rel)))
		return policies;
	if (fa_origin == 0 || !fa_vouch_is_given())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s",
						RelationGetRelationName(rel)),
				 errdetail("It is part of a table with row security."),
				 errhint("Use the table itself.")));
	return lappend(policies, policy_of_all_rows());
}

bool
fa_row_security_take(Query *query, List **quals_p)
{
	FromExpr   *from = query->jointree;
	RangeTblEntry *rte;

	*quals_p = NIL;
	if (!query->hasRowSecurity)
		return true;
	if (query->withCheckOptions != NIL || query->hasSubLinks ||
		query->cteList != NIL || list_length(query->rtable) != 1 ||
		list_length(from->fromlist) != 1 ||
		!IsA(linitial(from->fromlist), RangeTblRef) ||
		contain_leaked_vars(from->quals))
		return false;
	rte = palloc(sizeof(RangeTblEntry));
	*rte = *rt_fetch(1, query->rtable);
	*quals_p = rte->securityQuals;
	rte->securityQuals = NIL;
	query->rtable = list_make1(rte);
	query->hasRowSecurity = false;
	return true;
}

void
fa_row_security_init(void)
{
	prev_permissive = row_security_policy_hook_permissive;
	row_security_policy_hook_permissive = row_security_permissive;
}
