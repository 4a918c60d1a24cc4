/*
 * dependents.c
 *	  Views, rules and functions of a table whose place another one takes.
 *
 * A definition is written before the old relations lose their names, and read when the
 * new ones have them.  It replaces what is in pg_rewrite or pg_proc, so that its object
 * is the same one as before; none is dropped.  DROP TABLE of the old relations, without
 * CASCADE, is what finds out if one was forgotten.
 *
 * Definitions are read as their owner, as when he made them: a type's input function may
 * run what a user has written.
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
#include "catalog/table_text.h"
#include "core/spi.h"

typedef struct Dependent
{
	Oid			view;			/* whose query it is; or InvalidOid */
	Oid			owner;
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

/* Of a view. */
static Query *
read_query(const Dependent *dependent)
{
	List	   *parsed = raw_parser(dependent->text, RAW_PARSE_DEFAULT);
	FaDdlState	state;
	Query	   *query;

	fa_ddl_become(dependent->owner, &state);
	PushActiveSnapshot(GetTransactionSnapshot());
	query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed),
									  dependent->text, NULL, 0, NULL);
	PopActiveSnapshot();
	fa_ddl_become_ourselves(&state);
	return query;
}

/* Raises what it would later, but before anything has changed. */
static void
refuse_unreadable(const Dependent *dependent, const char *closed)
{
	if (closed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s cannot be kept: its owner may not create in schema \"%s\"",
						dependent->name, closed),
				 errhint("Use GRANT CREATE ON SCHEMA, or drop it, and create it again afterwards.")));
	if (OidIsValid(dependent->view))
		(void) read_query(dependent);
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
					   "SELECT c.oid, c.relowner,"
					   "  pg_catalog.pg_describe_object(" CLASS("pg_class") ", c.oid, 0),"
					   "  pg_catalog.pg_get_viewdef(c.oid), NULL, w.ev_action, w.ev_qual "
					   "FROM o JOIN pg_catalog.pg_rewrite w"
					   "  ON w.oid = o.objid AND w.rulename = '_RETURN'"
					   "  AND o.classid = " CLASS("pg_rewrite") " "
					   "JOIN pg_catalog.pg_class c ON c.oid = w.ev_class "
					   "UNION ALL "
					   "SELECT 0, c.relowner,"
					   "  pg_catalog.pg_describe_object(o.classid, o.objid, 0),"
					   "  pg_catalog.regexp_replace(pg_catalog.pg_get_ruledef(w.oid),"
					   "    '^CREATE RULE', 'CREATE OR REPLACE RULE'), NULL, w.ev_action, w.ev_qual "
					   "FROM o JOIN pg_catalog.pg_rewrite w"
					   "  ON w.oid = o.objid AND w.rulename <> '_RETURN'"
					   "  AND o.classid = " CLASS("pg_rewrite") " "
					   "JOIN pg_catalog.pg_class c ON c.oid = w.ev_class "
					   "UNION ALL "
					   "SELECT 0, p.proowner,"
					   "  pg_catalog.pg_describe_object(o.classid, o.objid, 0),"
					   "  pg_catalog.pg_get_functiondef(p.oid),"
					   "  CASE WHEN NOT pg_catalog.has_schema_privilege(p.proowner, n.oid, 'CREATE')"
					   "    THEN n.nspname END, p.prosqlbody, NULL "
					   "FROM o JOIN pg_catalog.pg_proc p ON p.oid = o.objid"
					   "  AND o.classid = " CLASS("pg_proc") " "
					   "JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace",
					   which.data);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		Dependent  *dependent = palloc(sizeof(Dependent));

		dependent->view = atooid(row[0]);
		dependent->owner = atooid(row[1]);
		dependent->name = row[2];
		dependent->text = row[3];
		refuse_unreadable(dependent, row[4]);
		refuse_only(dependent, row[5], leaves);
		refuse_only(dependent, row[6], leaves);
		dependents = lappend(dependents, dependent);
	}
	return dependents;
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
		{
			/* as CREATE OR REPLACE does; there is none of a materialized view */
			StoreViewQuery(dependent->view, read_query(dependent), true);
			CommandCounterIncrement();
		}
		else
			(void) fa_spi_exec_as(dependent->owner, dependent->text);
	}
	error_context_stack = context.previous;
}
