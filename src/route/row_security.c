/*
 * row_security.c
 *	  Row security of distributed tables; see row_security.h.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/params.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "rewrite/rowsecurity.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/deadlock.h"
#include "node/vouch.h"
#include "route/peer_error.h"
#include "route/pin_level.h"
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

/*
 * Every language tells errors of where they are.  What a peer sends is in none; a
 * function that it makes run is a table's owner's, as of a check of new rows, and must
 * not do what is the peer's to do.
 */
bool
fa_row_security_is_in_function(void)
{
	for (ErrorContextCallback *around = error_context_stack; around;
		 around = around->previous)
	{
		if (around->callback != fa_deadlock_error_context &&
			around->callback != ParamsErrorCallback)
			return true;
	}
	return false;
}

/* Of a bucket that is named by itself, by a role that row security holds for. */
static List *
row_security_permissive(CmdType command, Relation rel)
{
	List	   *policies = prev_permissive ? prev_permissive(command, rel) : NIL;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE ||
		!fa_map_is_bucket(RelationGetRelid(rel)))
		return policies;
	if (fa_origin == 0 || !fa_vouch_is_given() || fa_row_security_is_in_function())
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

	foreach(lc, pull_vars_of_level(expr, 0))
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

typedef struct NewRowContext
{
	Query	   *query;			/* INSERT */
	List	   *row;			/* of its VALUES; NIL: its target list is the row */
	Index		depth;			/* of subqueries */
	bool		failed;
} NewRowContext;

/* The row's expressions in the place of columns. */
static Node *
security_row_mutator(Node *node, void *context)
{
	NewRowContext *cx = context;
	Var		   *var = (Var *) node;
	RangeTblEntry *rte;
	TargetEntry *entry;
	NewRowContext value = {0};

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
	{
		cx->depth++;
		node = (Node *) query_tree_mutator((Query *) node, security_row_mutator,
										   cx, 0);
		cx->depth--;
		return node;
	}
	if (!IsA(node, Var))
		return expression_tree_mutator(node, security_row_mutator, cx);
	if (var->varlevelsup != cx->depth)
		return node;
	rte = rt_fetch(var->varno, cx->query->rtable);
	if (rte->rtekind == RTE_VALUES && var->varattno > 0 && cx->row != NIL)
		return copyObject(list_nth(cx->row, var->varattno - 1));
	if (var->varno != cx->query->resultRelation || var->varattno <= 0 ||
		get_attgenerated(rte->relid, var->varattno) != '\0')
	{
		cx->failed = true;
		return node;
	}
	entry = get_tle_by_resno(cx->query->targetList, var->varattno);
	if (entry == NULL)
		return (Node *) makeNullConst(var->vartype, var->vartypmod, var->varcollid);
	value.query = cx->query;
	value.row = cx->row;
	node = security_row_mutator((Node *) entry->expr, &value);
	cx->failed = cx->failed || value.failed;
	return node;
}

/* Has the expression a value here, before any row is looked at? */
static bool
security_has_value(Node *expr)
{
	return fa_pin_has_value(expr) ||
		(checkExprHasSubLink(expr) && !contain_volatile_functions(expr) &&
		 !contain_vars_of_level(expr, 0));
}

/* Adds the check of one row, as an expression that needs no row. */
static bool
security_add_check(Query *query, WithCheckOption *check, List *row, List **checks_p)
{
	NewRowContext cx = {query, row};
	WithCheckOption *copy = makeNode(WithCheckOption);

	*copy = *check;
	copy->qual = security_row_mutator(check->qual, &cx);
	*checks_p = lappend(*checks_p, copy);
	return !cx.failed && security_has_value(copy->qual);
}

/* Are values of the column that are equal the same in every respect? */
static bool
security_equal_is_same(Var *var)
{
	TypeCacheEntry *type = lookup_type_cache(getBaseType(var->vartype),
											 TYPECACHE_BTREE_OPFAMILY);
	Oid			function = OidIsValid(type->btree_opf) ?
		get_opfamily_proc(type->btree_opf, type->btree_opintype,
						  type->btree_opintype, BTEQUALIMAGE_PROC) : InvalidOid;

	return OidIsValid(function) &&
		DatumGetBool(OidFunctionCall1Coll(function, var->varcollid,
										  ObjectIdGetDatum(type->btree_opintype)));
}

/* Columns in which a row in conflict is the same as the one that is inserted. */
static Bitmapset *
security_arbiter_columns(Query *query)
{
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	foreach(lc, query->onConflict->arbiterElems)
	{
		InferenceElem *elem = lfirst(lc);
		Var		   *var = (Var *) elem->expr;

		if (IsA(var, Var) && security_equal_is_same(var) &&
			!OidIsValid(elem->infercollid) && !OidIsValid(elem->inferopclass))
			columns = bms_add_member(columns, var->varattno);
	}
	return columns;
}

/*
 * Is a check of the row in conflict, or of what becomes of it, the same as one of
 * the inserted row?
 */
static bool
security_check_is_made(Query *query, WithCheckOption *check)
{
	Bitmapset  *columns = security_arbiter_columns(query);
	bool		made = false;
	ListCell   *lc;

	foreach(lc, query->withCheckOptions)
	{
		WithCheckOption *other = lfirst(lc);

		made = made || (other->kind == WCO_RLS_INSERT_CHECK &&
						equal(other->qual, check->qual));
	}
	foreach(lc, pull_vars_of_level(check->qual, 0))
	{
		AttrNumber	attno = ((Var *) lfirst(lc))->varattno;

		made = made && bms_is_member(attno, columns) &&
			get_tle_by_resno(query->onConflict->onConflictSet, attno) == NULL;
	}
	return made;
}

/* What is raised when a check is not met, in the server's words. */
static char *
security_message(WithCheckOption *check)
{
	if (check->kind == WCO_RLS_MERGE_UPDATE_CHECK ||
		check->kind == WCO_RLS_MERGE_DELETE_CHECK)
		return check->polname ?
			psprintf(_("target row violates row-level security policy \"%s\" (USING expression) for table \"%s\""),
					 check->polname, check->relname) :
			psprintf(_("target row violates row-level security policy (USING expression) for table \"%s\""),
					 check->relname);
	if (check->kind == WCO_RLS_CONFLICT_CHECK)
		return check->polname ?
			psprintf(_("new row violates row-level security policy \"%s\" (USING expression) for table \"%s\""),
					 check->polname, check->relname) :
			psprintf(_("new row violates row-level security policy (USING expression) for table \"%s\""),
					 check->relname);
	return check->polname ?
		psprintf(_("new row violates row-level security policy \"%s\" for table \"%s\""),
				 check->polname, check->relname) :
		psprintf(_("new row violates row-level security policy for table \"%s\""),
				 check->relname);
}

CaseWhen *
fa_row_security_unless(Node *condition, Node *result)
{
	CaseWhen   *when = makeNode(CaseWhen);
	BooleanTest *test = makeNode(BooleanTest);

	test->arg = (Expr *) condition;
	test->booltesttype = IS_NOT_TRUE;
	test->location = -1;
	when->expr = (Expr *) test;
	when->result = (Expr *) result;
	when->location = -1;
	return when;
}

/* The row as DO UPDATE makes it in the place of columns. */
static Node *
security_updated_mutator(Node *node, void *context)
{
	NewRowContext *cx = context;
	Var		   *var = (Var *) node;
	TargetEntry *entry;

	if (node == NULL)
		return NULL;
	/* a subquery would see the row as it was */
	if (IsA(node, SubLink) && contain_vars_of_level(((SubLink *) node)->subselect, 1))
		cx->failed = true;
	if (!IsA(node, Var))
		return expression_tree_mutator(node, security_updated_mutator, cx);
	if (var->varattno <= 0 ||
		get_attgenerated(rt_fetch(var->varno, cx->query->rtable)->relid,
						 var->varattno) != '\0')
		cx->failed = true;
	entry = get_tle_by_resno(cx->query->onConflict->onConflictSet, var->varattno);
	return entry ? copyObject((Node *) entry->expr) : node;
}

/* Adds cases by which checks of rows that are elsewhere raise errors there. */
static List *
security_raise_there(List *cases, List *checks, NewRowContext *updated)
{
	ListCell   *lc;

	foreach(lc, checks)
	{
		WithCheckOption *check = lfirst(lc);
		Node	   *qual = updated ?
			security_updated_mutator(check->qual, updated) : check->qual;
		char	   *text = psprintf("%s%s", unpack_sql_state(ERRCODE_INSUFFICIENT_PRIVILEGE),
									security_message(check));
		Const	   *error = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
									  CStringGetTextDatum(text), false, false);

		cases = lappend(cases, fa_row_security_unless(qual, fa_peer_error((Node *) error)));
	}
	return cases;
}

/*
 * Has a row in conflict, and what becomes of it, checked where it is: the one
 * before the WHERE of DO UPDATE or after it, as this server does, the other
 * after both.
 */
static bool
security_check_conflict(Query *query, List *conflicting, List *updated)
{
	OnConflictExpr *conflict = copyObject(query->onConflict);
	NewRowContext cx = {query};
	CaseExpr   *cases = makeNode(CaseExpr);

	cases->casetype = BOOLOID;
	cases->location = -1;
	cases->defresult = (Expr *) makeBoolConst(true, false);
	if (!FA_CONFLICT_WHERE_FIRST)
		cases->args = security_raise_there(NIL, conflicting, NULL);
	if (conflict->onConflictWhere)
		cases->args = lappend(cases->args,
							  fa_row_security_unless(conflict->onConflictWhere,
											  makeBoolConst(false, false)));
	if (FA_CONFLICT_WHERE_FIRST)
		cases->args = security_raise_there(cases->args, conflicting, NULL);
	cases->args = security_raise_there(cases->args, updated, &cx);
	conflict->onConflictWhere = (Node *) cases;
	query->onConflict = conflict;
	return !cx.failed;
}

/* Adds the check of the rows that an INSERT gives. */
static bool
security_check_rows(Query *query, WithCheckOption *check, RangeTblEntry *values,
					List **checks_p)
{
	ListCell   *row;

	if (values == NULL)
		return security_add_check(query, check, NIL, checks_p);
	foreach(row, values->values_lists)
	{
		if (!security_add_check(query, check, lfirst(row), checks_p))
			return false;
	}
	return true;
}

/* As of the policy of a bucket, at a node that passes a statement on. */
static bool
security_is_true(Node *qual)
{
	Const	   *value = (Const *) qual;

	return IsA(value, Const) && !value->constisnull &&
		DatumGetBool(value->constvalue);
}

static bool
security_take_insert(Query *query, List **checks_p)
{
	RangeTblEntry *values = NULL;
	List	   *conflict = NIL;
	List	   *updated = NIL;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_VALUES)
			values = rte;
		else if (rte->rtekind != RTE_RELATION)
			return false;
	}
	foreach(lc, query->withCheckOptions)
	{
		WithCheckOption *check = lfirst(lc);

		if (check->kind == WCO_RLS_INSERT_CHECK)
		{
			if (!security_check_rows(query, check, values, checks_p))
				return false;
		}
		else if (check->kind != WCO_RLS_CONFLICT_CHECK &&
				 check->kind != WCO_RLS_UPDATE_CHECK)
			return false;
		else if (security_is_true(check->qual) ||
				 security_check_is_made(query, check))
			continue;
		else if (check->kind == WCO_RLS_CONFLICT_CHECK)
			conflict = lappend(conflict, check);
		else
			updated = lappend(updated, check);
	}
	return (conflict == NIL && updated == NIL) ||
		security_check_conflict(query, conflict, updated);
}

bool
fa_row_security_take(Query *query, List **quals_p, List **checks_p)
{
	FromExpr   *from = query->jointree;
	RangeTblEntry *rte;

	*quals_p = *checks_p = NIL;
	if (!query->hasRowSecurity)
		return query->withCheckOptions == NIL;
	if (query->cteList != NIL)
		return false;
	if (query->commandType == CMD_INSERT)
	{
		if (!security_take_insert(query, checks_p))
			return false;
	}
	else
	{
		if (list_length(query->rtable) != 1 || list_length(from->fromlist) != 1 ||
			!IsA(linitial(from->fromlist), RangeTblRef) ||
			contain_leaked_vars(from->quals) ||
			!security_checks_hold(query, rt_fetch(1, query->rtable)))
			return false;
		rte = palloc(sizeof(RangeTblEntry));
		*rte = *rt_fetch(1, query->rtable);
		*quals_p = rte->securityQuals;
		rte->securityQuals = NIL;
		query->rtable = list_make1(rte);
	}
	query->withCheckOptions = NIL;
	query->hasRowSecurity = false;
	return true;
}

List *
fa_row_security_messages(List *checks)
{
	List	   *messages = NIL;
	ListCell   *lc;

	foreach(lc, checks)
		messages = lappend(messages, makeString(security_message(lfirst(lc))));
	return messages;
}

void
fa_row_security_init(void)
{
	prev_permissive = row_security_policy_hook_permissive;
	row_security_policy_hook_permissive = row_security_permissive;
}
