/*
 * dependents.c
 *	  Views, rules and functions of a table whose place another one takes.
 *
 * A definition is written before the old relations lose their names, and read when the
 * new ones have them.  It replaces what is in pg_rewrite or pg_proc, so that its object
 * is the same one as before; none is dropped.  DROP TABLE of the old relations, without
 * CASCADE, is what finds out if one was forgotten.
 *
 * We read definitions as a superuser.  That looks names up, and runs nothing of a
 * user's (see refuse_constant.c); what a view may read is settled when it is used, by its
 * owner.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/view.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "catalog/dependents.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"

typedef struct Dependent
{
	Oid			view;			/* whose query it is; or InvalidOid */
	char	   *name;			/* "view v" */
	char	   *text;			/* the query, or a statement */
} Dependent;

#define CLASS(name) "'pg_catalog." name "'::pg_catalog.regclass"

/* r and d, for relations that a condition is about */
#define DEPENDENTS \
	"pg_catalog.pg_class r JOIN pg_catalog.pg_depend d ON d.deptype = 'n'" \
	"  AND (d.refclassid = " CLASS("pg_class") " AND d.refobjid = r.oid" \
	"    OR d.refclassid = " CLASS("pg_type") " AND d.refobjid IN" \
	"      (r.reltype, (SELECT typarray FROM pg_catalog.pg_type WHERE oid = r.reltype))) "

/* Those that use others of them first, as a statement locks them. */
static void
lock_relations(const char *which)
{
	FaRows	   *rows = fa_spi_rows("WITH RECURSIVE s AS ("
								   "  SELECT DISTINCT w.ev_class AS oid FROM " DEPENDENTS
								   "    JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid"
								   "      AND d.classid = " CLASS("pg_rewrite")
								   "   WHERE r.oid IN (%s) AND " FA_DEPENDENT_FOLLOWS "),"
								   "u(top, oid) AS ("
								   "  SELECT oid, oid FROM s"
								   "  UNION"
								   "  SELECT u.top, d.refobjid FROM u"
								   "    JOIN pg_catalog.pg_rewrite w ON w.ev_class = u.oid"
								   "    JOIN pg_catalog.pg_depend d ON d.objid = w.oid"
								   "      AND d.classid = " CLASS("pg_rewrite")
								   "      AND d.refclassid = " CLASS("pg_class") ") "
								   "SELECT u.top FROM u JOIN s USING (oid) "
								   "GROUP BY u.top ORDER BY pg_catalog.count(*) DESC, u.top",
								   which);

	for (int i = 0; i < rows->nrows; i++)
		LockRelationOid(atooid(rows->value[i][0]), AccessExclusiveLock);
}

void
fa_dependents_lock(Oid rel)
{
	lock_relations(psprintf("SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(%u)"
							" UNION SELECT %u", rel, rel));
}

/*
 * ONLY of a table with rows of its own means all of them, and of one that is
 * partitioned none.  INSERT is always about one relation alone.
 */
static bool
says_only(Node *node, void *leaves)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		int			index = 0;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			index++;
			if (rte->rtekind == RTE_RELATION && !rte->inh &&
				!(query->commandType == CMD_INSERT &&
				  index == query->resultRelation) &&
				list_member_oid(leaves, rte->relid))
				return true;
		}
		return query_tree_walker(query, says_only, leaves, 0);
	}
	return expression_tree_walker(node, says_only, leaves);
}

static void
refuse_only(const Dependent *dependent, const char *tree, List *leaves)
{
	if (tree && says_only(stringToNode(tree), leaves))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s uses the table with ONLY", dependent->name),
				 errhint("Drop it, and create it again afterwards, without ONLY.")));
}

List *
fa_dependents_read(List *tree)
{
	List	   *dependents = NIL;
	List	   *leaves = NIL;
	StringInfoData which;
	FaRows	   *rows;
	ListCell   *lc;

	initStringInfo(&which);
	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		appendStringInfo(&which, "%s%u", which.len ? ", " : "", r->rel);
		if (r->leaf)
			leaves = lappend_oid(leaves, r->rel);
	}
	/* of a view that was made since */
	lock_relations(which.data);
	rows = fa_spi_rows("WITH o AS (SELECT DISTINCT d.classid, d.objid FROM " DEPENDENTS
					   "  WHERE r.oid IN (%s) AND " FA_DEPENDENT_FOLLOWS ") "
					   "SELECT w.ev_class,"
					   "  pg_catalog.pg_describe_object(" CLASS("pg_class") ","
					   "    w.ev_class, 0),"
					   "  pg_catalog.pg_get_viewdef(w.ev_class), w.ev_action, w.ev_qual "
					   "FROM o JOIN pg_catalog.pg_rewrite w"
					   "  ON w.oid = o.objid AND w.rulename = '_RETURN'"
					   "  AND o.classid = " CLASS("pg_rewrite") " "
					   "UNION ALL "
					   "SELECT 0, pg_catalog.pg_describe_object(o.classid, o.objid, 0),"
					   "  pg_catalog.regexp_replace(pg_catalog.pg_get_ruledef(w.oid),"
					   "    '^CREATE RULE', 'CREATE OR REPLACE RULE'), w.ev_action, w.ev_qual "
					   "FROM o JOIN pg_catalog.pg_rewrite w"
					   "  ON w.oid = o.objid AND w.rulename <> '_RETURN'"
					   "  AND o.classid = " CLASS("pg_rewrite") " "
					   "UNION ALL "
					   "SELECT 0, pg_catalog.pg_describe_object(o.classid, o.objid, 0),"
					   "  pg_catalog.pg_get_functiondef(p.oid), p.prosqlbody, p.proargdefaults "
					   "FROM o JOIN pg_catalog.pg_proc p ON p.oid = o.objid"
					   "  AND o.classid = " CLASS("pg_proc"),
					   which.data);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		Dependent  *dependent = palloc(sizeof(Dependent));

		dependent->view = atooid(row[0]);
		dependent->name = row[1];
		dependent->text = row[2];
		for (int j = 3; j < rows->ncols; j++)
		{
			refuse_only(dependent, row[j], leaves);
			fa_refuse_constant(dependent->name, row[j]);
		}
		dependents = lappend(dependents, dependent);
	}
	return dependents;
}

/* As CREATE OR REPLACE VIEW does, also of a materialized view, which has none. */
static void
renew_view(const Dependent *dependent)
{
	List	   *parsed = raw_parser(dependent->text, RAW_PARSE_DEFAULT);
	Query	   *query;

	PushActiveSnapshot(GetTransactionSnapshot());
	query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed),
									  dependent->text, NULL, 0, NULL);
	StoreViewQuery(dependent->view, query, true);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

static void
say_which(void *arg)
{
	errcontext("new definition of %s", ((Dependent *) arg)->name);
}

void
fa_dependents_renew(List *dependents)
{
	ErrorContextCallback context = {.previous = error_context_stack,.callback = say_which};
	ListCell   *lc;

	error_context_stack = &context;
	foreach(lc, dependents)
	{
		Dependent  *dependent = lfirst(lc);

		context.arg = dependent;
		if (OidIsValid(dependent->view))
			renew_view(dependent);
		else
			fa_spi_exec("%s", dependent->text);
	}
	error_context_stack = context.previous;
}
