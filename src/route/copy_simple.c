/*
 * copy_simple.c
 *	  May the lines of a COPY be parsed by other processes than the client's?
 *
 * What they run must be parallel safe, and all that is looked at of a line
 * before must be its key.  Rights are checked here for the usual case; where
 * they are not so simple, or missing, PostgreSQL is to say so.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/copy_writers.h"

static bool
function_is_unsafe(Oid function, void *context)
{
	return func_parallel(function) != PROPARALLEL_SAFE;
}

static bool
expression_is_unsafe(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, function_is_unsafe, NULL) ||
		IsA(node, NextValueExpr) || IsA(node, CoerceToDomain))
		return true;
	return expression_tree_walker(node, expression_is_unsafe, context);
}

/* Options that mean the same for one line as for all. */
static bool
options_are_simple(const CopyStmt *stmt)
{
	static const char *const simple[] = {"format", "delimiter", "null", "header",
	"quote", "escape", "encoding"};
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		bool		known = false;

		for (int i = 0; i < lengthof(simple); i++)
			known = known || strcmp(def->defname, simple[i]) == 0;
		if (!known)
			return false;
		if (strcmp(def->defname, "format") == 0 &&
			strcmp(defGetString(def), "csv") != 0 &&
			strcmp(defGetString(def), "text") != 0)
			return false;
	}
	return true;
}

static bool
user_may(Relation rel, const CopyStmt *stmt)
{
	if (stmt->filename &&
		!has_privs_of_role(GetUserId(), stmt->is_program ?
						   ROLE_PG_EXECUTE_SERVER_PROGRAM :
						   ROLE_PG_READ_SERVER_FILES))
		return false;
	return pg_class_aclcheck(RelationGetRelid(rel), GetUserId(),
							 ACL_INSERT) == ACLCHECK_OK &&
		check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_NONE;
}

/* Can a value of the type be read anywhere? */
static bool
type_is_simple(Oid type)
{
	Oid			element = get_base_element_type(type);
	Oid			input;
	Oid			ioparam;
	char		kind;

	if (OidIsValid(element) && element != type && !type_is_simple(element))
		return false;
	kind = get_typtype(type);
	if (kind == TYPTYPE_DOMAIN || kind == TYPTYPE_COMPOSITE ||
		(kind != TYPTYPE_BASE && kind != TYPTYPE_ENUM &&
		 type >= FirstNormalObjectId))
		return false;
	getTypeInputInfo(type, &input, &ioparam);
	return func_parallel(input) == PROPARALLEL_SAFE;
}

/* Columns, what is computed for them, and checks. */
static bool
columns_are_simple(Relation rel, List *attnums)
{
	TupleDesc	desc = RelationGetDescr(rel);
	TupleConstr *constr = desc->constr;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (!type_is_simple(att->atttypid) ||
			(att->attidentity != '\0' && !list_member_int(attnums, att->attnum)))
			return false;
	}
	for (int i = 0; constr && i < constr->num_defval; i++)
	{
		AttrNumber	attno = constr->defval[i].adnum;
		Node	   *expr = stringToNode(constr->defval[i].adbin);

		if (TupleDescAttr(desc, attno - 1)->attgenerated == '\0' &&
			(list_member_int(attnums, attno) ||
			 !contain_mutable_functions(expr)))
			continue;
		/* what is computed once may be so here; what is not, asks the table */
		if (expression_is_unsafe(expr, NULL) || contain_volatile_functions(expr))
			return false;
	}
	for (int i = 0; constr && i < constr->num_check; i++)
	{
		if (expression_is_unsafe(stringToNode(constr->check[i].ccbin), NULL))
			return false;
	}
	return true;
}

bool
fa_copy_is_simple(Relation rel, const CopyStmt *stmt, FaHashStep *step_p)
{
	const FaTable *table = fa_map_table(RelationGetRelid(rel));
	AttrNumber	key = table ? table->key : InvalidAttrNumber;
	FaHashStep *step = fa_hash_step(RelationGetRelid(rel));
	List	   *attnums;

	if (step == NULL || step->attno != key || stmt->whereClause || rel->trigdesc || IsInParallelMode() ||
		GetCurrentTransactionNestLevel() > 1 || XactReadOnly ||
		IsolationIsSerializable() || !options_are_simple(stmt) ||
		!user_may(rel, stmt))
		return false;
	/* it lives until somebody asks for another */
	*step_p = *step;
	step_p->child = NULL;
	fmgr_info_copy(&step_p->function, &step->function, CurrentMemoryContext);
	attnums = CopyGetAttnums(RelationGetDescr(rel), rel, stmt->attlist);
	return list_member_int(attnums, key) && columns_are_simple(rel, attnums);
}

bool
fa_copy_leaf_is_simple(Relation leaf)
{
	List	   *indexes = RelationGetIndexList(leaf);
	bool		simple = leaf->trigdesc == NULL;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		simple = simple &&
			!expression_is_unsafe((Node *) RelationGetIndexExpressions(index), NULL) &&
			!expression_is_unsafe((Node *) RelationGetIndexPredicate(index), NULL);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return simple;
}

ParseState *
fa_copy_parse_state(Relation rel, const CopyStmt *stmt,
					const char *query_string)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	Bitmapset **columns;
	ListCell   *lc;

	pstate->p_sourcetext = query_string;
	item = addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL,
										 false, false);
	columns = fa_item_require_insert(item);
	foreach(lc, CopyGetAttnums(RelationGetDescr(rel), rel, stmt->attlist))
		*columns = bms_add_member(*columns, lfirst_int(lc) -
								  FirstLowInvalidHeapAttributeNumber);
	return pstate;
}

List *
fa_copy_line_options(const CopyStmt *stmt)
{
	List	   *options = NIL;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "header") != 0 &&
			strcmp(def->defname, "encoding") != 0)
			options = lappend(options, def);
	}
	return lappend(options,
				   makeDefElem("encoding",
							   (Node *) makeString(pstrdup(GetDatabaseEncodingName())),
							   -1));
}
