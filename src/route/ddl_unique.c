/*
 * ddl_unique.c
 *	  Unique indexes and primary keys, unique and exclusion constraints that come
 *	  to a distributed table, or go.
 *
 * The statement runs here on the table ONLY, with the user's own rights: so
 * PostgreSQL chooses or finds the name and makes the index that the table shows.
 * What it shows then is what all nodes make of their heaps; see table_unique.c.
 * Exclusion constraints cannot be shown.  A statement on them runs on an empty
 * table that has those of the distributed one, and is dropped afterwards.
 *
 * The table is locked on all nodes meanwhile: a move that begins waits, and makes
 * its heap by what is kept then.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/spi.h"
#include "route/ddl_guard.h"

#define HINT_ALONE "Use a statement of its own for it."

/* What a command of ALTER TABLE is here. */
typedef enum UniqueCommand
{
	UNIQUE_OTHER,
	UNIQUE_ADD,
	UNIQUE_DROP,
	UNIQUE_ADD_EXCLUSION,
	UNIQUE_DROP_EXCLUSION
} UniqueCommand;

#define KEPT_UNIQUE \
	"fragaffinity.distributed_table t," \
	"  pg_catalog.jsonb_array_elements(t.definition->'unique') u " \
	"WHERE t.rel = %u "

bool
fa_ddl_in_unique(const char *column, Oid root, bool shown)
{
	return fa_ddl_catalog_values(psprintf("SELECT '' FROM " KEPT_UNIQUE
										  "AND u->'columns' ? %s"
										  "  AND (%s OR u->>'definition' LIKE 'EXCLUDE%%')",
										  root, quote_literal_cstr(column),
										  shown ? "true" : "false")) != NIL;
}

static UniqueCommand
unique_dropped(const char *name, Oid root)
{
	List	   *kept = fa_ddl_catalog_values(psprintf("SELECT u->>'definition' LIKE 'EXCLUDE%%' FROM "
													  KEPT_UNIQUE "AND u->>'name' = %s"
													  "  AND (u->>'constraint')::boolean",
													  root, quote_literal_cstr(name)));

	if (kept == NIL)
		return UNIQUE_OTHER;
	return ((char *) linitial(kept))[0] == 't' ? UNIQUE_DROP_EXCLUSION : UNIQUE_DROP;
}

bool
fa_ddl_is_exclusion(const char *name, Oid root)
{
	return unique_dropped(name, root) == UNIQUE_DROP_EXCLUSION;
}

static UniqueCommand
unique_command(AlterTableCmd *cmd, Oid root)
{
	Constraint *constraint;

	if (cmd->subtype == AT_DropConstraint)
		return unique_dropped(cmd->name, root);
	if (cmd->subtype != AT_AddConstraint)
		return UNIQUE_OTHER;
	constraint = castNode(Constraint, cmd->def);
	if (constraint->contype == CONSTR_EXCLUSION)
		return UNIQUE_ADD_EXCLUSION;
	return constraint->contype == CONSTR_PRIMARY ||
		constraint->contype == CONSTR_UNIQUE ? UNIQUE_ADD : UNIQUE_OTHER;
}

static bool
names_contain(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

/*
 * Rows that are compared must be in one leaf: so the columns that say in which
 * one they are must be among those compared.
 */
static void
unique_check_columns(const char *what, List *names, Oid root)
{
	List	   *needed;
	ListCell   *lc;

	needed = fa_ddl_catalog_values(psprintf(FA_WITH_TREE
											"SELECT DISTINCT coalesce(a.attname, '') FROM tree p "
											"JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = p.rel "
											"CROSS JOIN pg_catalog.unnest(t.partattrs::int2[]) n "
											"LEFT JOIN pg_catalog.pg_attribute a"
											"  ON a.attrelid = t.partrelid AND a.attnum = n AND n <> 0",
											psprintf("%u", root)));
	foreach(lc, needed)
	{
		const char *name = lfirst(lc);

		if (name[0] == '\0')
			fa_ddl_refuse(what, root,
						  "It cannot be compared with a partition key that is an expression.");
		if (!names_contain(names, name))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s of distributed table \"%s\" must contain column \"%s\"",
							what, get_rel_name(root), name),
					 errdetail("Rows with other values are in other fragments or partitions, where it could not be enforced."),
					 errhint("Add the column to it, without COLLATE.")));
	}
}

/* May values that are not equal in the column's collation be equal here? */
static bool
unique_is_loose(const IndexElem *element, Oid root)
{
	AttrNumber	attno = get_attnum(root, element->name);
	Oid			collation;
	Oid			own;
	Oid			type;
	int32		typmod;

	if (element->collation == NIL || attno == InvalidAttrNumber)
		return false;
	collation = get_collation_oid(element->collation, true);
	get_atttypetypmodcoll(root, attno, &type, &typmod, &own);
	return OidIsValid(collation) && collation != own &&
		!get_collation_isdeterministic(collation);
}

/*
 * Columns among elements of an index, such that equal keys of the index have equal
 * values in them; so expressions are left out.
 */
static List *
unique_element_names(List *elements, Oid root)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, elements)
	{
		IndexElem  *element = lfirst_node(IndexElem, lc);

		if (element->name && !unique_is_loose(element, root))
			names = lappend(names, element->name);
	}
	return names;
}

static void
unique_check_constraint(Constraint *constraint, Oid root)
{
	List	   *names = NIL;
	ListCell   *lc;

	if (constraint->indexname)
		fa_ddl_refuse("ADD CONSTRAINT USING INDEX", root,
					  "Add the constraint by its columns, and drop the index.");
	if (constraint->contype == CONSTR_EXCLUSION)
	{
		/* pairs of an element and an operator */
		foreach(lc, constraint->exclusions)
			names = list_concat(names,
								unique_element_names(list_make1(linitial(lfirst_node(List, lc))),
													 root));
		unique_check_columns("an exclusion constraint", names, root);
		return;
	}
	foreach(lc, constraint->keys)
		names = lappend(names, strVal(lfirst(lc)));
	unique_check_columns(constraint->contype == CONSTR_PRIMARY ?
						 "a primary key" : "a unique constraint", names, root);
}

void
fa_ddl_check_unique_index(IndexStmt *stmt, Oid root, FaDdlPlan *plan)
{
	if (!stmt->relation->inh)
		fa_ddl_refuse("CREATE UNIQUE INDEX ON ONLY", root, "Leave out ONLY.");
	unique_check_columns("a unique index",
						 unique_element_names(stmt->indexParams, root), root);
	plan->reshaped = root;
	plan->unique = plan->only = true;
}

bool
fa_ddl_check_unique(AlterTableStmt *stmt, Oid root, FaDdlPlan *plan)
{
	int			n[UNIQUE_DROP_EXCLUSION + 1] = {0};
	int			shown;
	int			exclusions;
	ListCell   *lc;

	foreach(lc, stmt->cmds)
		n[unique_command(lfirst_node(AlterTableCmd, lc), root)]++;
	shown = n[UNIQUE_ADD] + n[UNIQUE_DROP];
	exclusions = n[UNIQUE_ADD_EXCLUSION] + n[UNIQUE_DROP_EXCLUSION];
	plan->unique = shown + exclusions > 0;
	/* what the table shows goes as anything else does */
	if (n[UNIQUE_ADD] + exclusions == 0)
		return false;
	if (n[UNIQUE_OTHER] > 0 || (shown > 0 && exclusions > 0))
		fa_ddl_refuse(exclusions > 0 ?
					  "a change of an exclusion constraint together with others" :
					  "a new unique constraint together with other changes",
					  root, HINT_ALONE);
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);

		if (cmd->subtype == AT_AddConstraint)
			unique_check_constraint(castNode(Constraint, cmd->def), root);
	}
	plan->reshaped = root;
	plan->only = shown > 0;
	plan->elsewhere = exclusions > 0;
	return true;
}

/* ADD PRIMARY KEY of a table ONLY does not make the columns of others NOT NULL. */
static void
unique_set_not_null(AlterTableStmt *stmt, Oid root)
{
	ListCell   *lc;
	ListCell   *kc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);
		Constraint *constraint;

		if (cmd->subtype != AT_AddConstraint)
			continue;
		constraint = castNode(Constraint, cmd->def);
		if (constraint->contype != CONSTR_PRIMARY)
			continue;
		foreach(kc, constraint->keys)
		{
			const char *name = strVal(lfirst(kc));
			HeapTuple	tuple = SearchSysCacheAttName(root, name);
			bool		nullable;

			if (!HeapTupleIsValid(tuple))
				continue;		/* PostgreSQL will say so */
			nullable = !((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
			ReleaseSysCache(tuple);
			if (nullable)
				fa_table_run_everywhere(psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL",
												 fa_table_qualified_name(root),
												 quote_identifier(name)));
		}
	}
}

/* An empty table that has the exclusion constraints. */
static void
unique_make_elsewhere(Oid root, FaDdlPlan *plan)
{
	char	   *qualified = fa_table_sibling_name(root, psprintf("fragaffinity_%u", root));

	fa_spi_exec("CREATE TABLE %s (LIKE %s)", qualified, fa_table_qualified_name(root));
	fa_ddl_run(fa_text_owner(root, qualified));
	plan->other = fa_table_oid(qualified);
	fa_unique_create(plan->other, fa_unique_exclusions(root), NULL);
}

void
fa_ddl_unique_begin(Node *statement, FaDdlPlan *plan)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	if (plan->only && IsA(statement, AlterTableStmt))
		unique_set_not_null(castNode(AlterTableStmt, statement), plan->reshaped);
	if (plan->elsewhere)
		unique_make_elsewhere(plan->reshaped, plan);
	fa_ddl_end(&state);
}

/* As PostgreSQL names one that has no name, but for the table. */
static void
unique_name_exclusions(AlterTableStmt *stmt, Oid root)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);
		Constraint *constraint;
		IndexElem  *first;

		if (cmd->subtype != AT_AddConstraint)
			continue;
		constraint = castNode(Constraint, cmd->def);
		first = linitial(linitial_node(List, constraint->exclusions));
		if (constraint->conname == NULL)
			constraint->conname = ChooseRelationName(get_rel_name(root),
													 first->name ? first->name : "expr",
													 "excl", get_rel_namespace(root),
													 true);
	}
}

/* Where it has the exclusion constraints. */
static RangeVar *
unique_other(const FaDdlPlan *plan)
{
	return makeRangeVar(get_namespace_name(get_rel_namespace(plan->other)),
						get_rel_name(plan->other), -1);
}

PlannedStmt *
fa_ddl_unique_statement(PlannedStmt *pstmt, const FaDdlPlan *plan)
{
	AlterTableStmt *alter;

	pstmt = copyObject(pstmt);
	if (IsA(pstmt->utilityStmt, IndexStmt))
	{
		castNode(IndexStmt, pstmt->utilityStmt)->relation->inh = false;
		return pstmt;
	}
	if (IsA(pstmt->utilityStmt, RenameStmt))
	{
		if (OidIsValid(plan->other))
			castNode(RenameStmt, pstmt->utilityStmt)->relation = unique_other(plan);
		return pstmt;
	}
	alter = castNode(AlterTableStmt, pstmt->utilityStmt);
	if (plan->only)
		alter->relation->inh = false;
	else if (OidIsValid(plan->other))
	{
		unique_name_exclusions(alter, plan->reshaped);
		alter->relation = unique_other(plan);
	}
	return pstmt;
}

void
fa_ddl_unique_end(FaDdlPlan *plan)
{
	Oid			root = plan->reshaped;
	FaDdlState	state;
	char	   *exclusions;
	char	   *unique;

	fa_ddl_begin(&state);
	if (OidIsValid(plan->other))
	{
		/* the columns are there, but not necessarily compared by = */
		fa_refuse_keyless(plan->other, get_attname(root, fa_map_table(root)->key, false));
		exclusions = fa_text_unique(plan->other);
		fa_spi_exec("DROP TABLE %s", fa_table_qualified_name(plan->other));
	}
	else
		exclusions = fa_unique_exclusions(root);
	unique = fa_unique_changed(root, exclusions);
	/* heaps that are newer than a snapshot would not get them */
	if (unique)
	{
		fa_table_check_isolation();
		fa_table_run_everywhere(psprintf("SELECT fragaffinity.set_unique(%s::pg_catalog.regclass, %s)",
										 quote_literal_cstr(fa_table_qualified_name(root)),
										 quote_literal_cstr(unique)));
	}
	fa_ddl_end(&state);
}
