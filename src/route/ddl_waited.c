/*
 * ddl_waited.c
 *	  Statements on a table that others have distributed meanwhile.
 *
 * A statement on a plain table is none of ours.  But it may wait for
 * distribute_table, which puts another table in the place of that one; then
 * PostgreSQL looks the name up again, and would change the distributed table on
 * this node alone.  So the name is looked up before it and after it.  What drops it
 * would have to drop parts, which the hook for those keeps.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "core/fa_compat.h"
#include "route/ddl_guard.h"

/* Names in the DROP that runs, in that transaction's memory. */
static List *drop_names = NIL;
static LocalTransactionId drop_names_in = InvalidLocalTransactionId;

/* The relation that a statement is about, under its name before or after it. */
static RangeVar *
waited_name(Node *statement, bool after)
{
	RenameStmt *rename;
	AlterObjectSchemaStmt *move;
	RangeVar   *name;

	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			return castNode(AlterTableStmt, statement)->relation;
		case T_IndexStmt:
			return castNode(IndexStmt, statement)->relation;
		case T_CreateTrigStmt:
			return castNode(CreateTrigStmt, statement)->relation;
		case T_RuleStmt:
			return castNode(RuleStmt, statement)->relation;
		case T_CreatePolicyStmt:
			return castNode(CreatePolicyStmt, statement)->table;
		case T_AlterPolicyStmt:
			return castNode(AlterPolicyStmt, statement)->table;
		case T_RenameStmt:
			rename = castNode(RenameStmt, statement);
			if (!after || rename->relation == NULL ||
				(rename->renameType != OBJECT_TABLE && rename->renameType != OBJECT_INDEX))
				return rename->relation;
			name = copyObject(rename->relation);
			name->relname = rename->newname;
			return name;
		case T_AlterObjectSchemaStmt:
			move = castNode(AlterObjectSchemaStmt, statement);
			if (!after || move->relation == NULL)
				return move->relation;
			return makeRangeVar(move->newschema, move->relation->relname, -1);
		case T_CommentStmt:
			if (castNode(CommentStmt, statement)->objtype != OBJECT_TABLE &&
				castNode(CommentStmt, statement)->objtype != OBJECT_INDEX)
				return NULL;
			return makeRangeVarFromNameList(castNode(List, castNode(CommentStmt, statement)->object));
		default:
			return NULL;
	}
}

Oid
fa_ddl_named(Node *statement)
{
	RangeVar   *name = waited_name(statement, false);

	return name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
}

static void
waited_raise(Oid root)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("table \"%s\" was distributed while this statement waited for it",
					get_rel_name(root)),
			 errhint("Run the statement again.")));
}

void
fa_ddl_check_waited(Node *statement, Oid named)
{
	Oid			rel;
	Oid			root;

	rel = RangeVarGetRelid(waited_name(statement, true), NoLock, true);
	if (rel == named)
		return;
	root = fa_ddl_root(rel);
	if (!OidIsValid(root))
		return;
	waited_raise(root);
}

void
fa_ddl_note_drop(DropStmt *stmt)
{
	MemoryContext old;

	drop_names = NIL;
	if (stmt == NULL ||
		(stmt->removeType != OBJECT_TABLE && stmt->removeType != OBJECT_INDEX))
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	drop_names = copyObject(stmt->objects);
	drop_names_in = fa_my_lxid();
	MemoryContextSwitchTo(old);
}

void
fa_ddl_check_waited_drop(Oid root)
{
	ListCell   *lc;

	if (drop_names_in != fa_my_lxid())
		return;
	foreach(lc, drop_names)
	{
		Oid			rel = RangeVarGetRelid(makeRangeVarFromNameList(lfirst(lc)),
										   NoLock, true);

		if (OidIsValid(rel) && fa_ddl_root(rel) == root)
			waited_raise(root);
	}
}
