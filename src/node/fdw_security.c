/*
 * fdw_security.c
 *	  Conditions that a peer must not be asked, as they could see hidden rows.
 *
 * A condition of the user's that may tell what it has seen, as by an error, must be
 * asked after those of row security.  postgres_fdw sends all that a peer can do, and
 * the peer, for which all of them are the user's, asks in the order of their costs.
 * So it is not told of such conditions: they are asked of the rows that come here.
 * To postgres_fdw they look as if they called a function that the peer does not have.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "nodes/makefuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"

#include "node/fdw_security.h"

/* A condition that looks like another one meanwhile. */
typedef struct Kept
{
	RestrictInfo *rinfo;
	Expr	   *clause;
} Kept;

static Node *
kept_disguise(RelOptInfo *rel, Expr *clause)
{
	ForeignDataWrapper *wrapper =
		GetForeignDataWrapper(GetForeignServer(rel->serverid)->fdwid);

	return (Node *) makeFuncExpr(wrapper->fdwhandler, BOOLOID, list_make1(clause),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

List *
fa_fdw_keep_conditions(PlannerInfo *root, RelOptInfo *rel, List *rinfos)
{
	List	   *kept = NIL;
	ListCell   *lc;

	if (root->qual_security_level == 0)
		return NIL;
	foreach(lc, rinfos)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		QualCost	cost;
		Kept	   *k;

		if (restriction_is_securely_promotable(rinfo, rel))
			continue;
		/* what is known of it is remembered there */
		(void) clause_selectivity(root, (Node *) rinfo, 0, JOIN_INNER, NULL);
		cost_qual_eval_node(&cost, (Node *) rinfo, root);
		k = palloc(sizeof(Kept));
		k->rinfo = rinfo;
		k->clause = rinfo->clause;
		rinfo->clause = (Expr *) kept_disguise(rel, rinfo->clause);
		kept = lappend(kept, k);
	}
	return kept;
}

void
fa_fdw_conditions_kept(List *kept, List *quals)
{
	ListCell   *lc;
	ListCell   *qual;

	foreach(lc, kept)
	{
		Kept	   *k = lfirst(lc);

		foreach(qual, quals)
		{
			if (lfirst(qual) == k->rinfo->clause)
				lfirst(qual) = k->clause;
		}
		k->rinfo->clause = k->clause;
	}
}

bool
fa_fdw_may_join(PlannerInfo *root, List *rinfos)
{
	ListCell   *lc;

	foreach(lc, root->qual_security_level == 0 ? NIL : rinfos)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (rinfo->security_level > 0 && !rinfo->leakproof)
			return false;
	}
	return true;
}
