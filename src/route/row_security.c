/*
 * row_security.c
 *	  Row security of distributed tables; see row_security.h.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
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

/* Does the UPDATE leave all columns of an expression as they are? */
static bool
security_columns_stay(Query *query, Oid relid, Node *expr)
{
	ListCell   *lc;

	foreach(lc, pull_var_clause(expr, PVC_RECURSE_PLACEHOLDERS))
	{
		AttrNumber	attno = ((Var *) lfirst(lc))->varattno;
		ListCell   *target;

		if (attno <= 0 || get_attgenerated(relid, attno) != '\0')
			return false;
		foreach(target, query->targetList)
		{
			TargetEntry *entry = lfirst(target);

			if (!entry->resjunk && entry->resno == attno)
				return false;
		}
	}
	return true;
}

/*
 * Are the checks of new rows met by all rows that the UPDATE finds?  They are
 * the same conditions, unless policies have WITH CHECK.
 */
static bool
security_checks_hold(Query *query, RangeTblEntry *rte)
{
	ListCell   *lc;

	foreach(lc, query->withCheckOptions)
	{
		WithCheckOption *check = lfirst(lc);

		if (check->kind != WCO_RLS_UPDATE_CHECK ||
			!list_member(rte->securityQuals, check->qual) ||
			contain_volatile_functions(check->qual) ||
			!security_columns_stay(query, rte->relid, check->qual))
			return false;
	}
	return true;
}

bool
fa_row_security_take(Query *query, List **quals_p)
{
	FromExpr   *from = query->jointree;
	RangeTblEntry *rte;

	*quals_p = NIL;
	if (!query->hasRowSecurity)
		return query->withCheckOptions == NIL;
	if (query->hasSubLinks || query->cteList != NIL ||
		list_length(query->rtable) != 1 || list_length(from->fromlist) != 1 ||
		!IsA(linitial(from->fromlist), RangeTblRef) ||
		contain_leaked_vars(from->quals) ||
		!security_checks_hold(query, rt_fetch(1, query->rtable)))
		return false;
	rte = palloc(sizeof(RangeTblEntry));
	*rte = *rt_fetch(1, query->rtable);
	*quals_p = rte->securityQuals;
	rte->securityQuals = NIL;
	query->rtable = list_make1(rte);
	query->withCheckOptions = NIL;
	query->hasRowSecurity = false;
	return true;
}

void
fa_row_security_init(void)
{
	prev_permissive = row_security_policy_hook_permissive;
	row_security_policy_hook_permissive = row_security_permissive;
}
