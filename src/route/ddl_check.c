/*
 * ddl_check.c
 *	  Which statements may touch a distributed table, and how.
 *
 *	runs everywhere		on the root: CREATE INDEX, DROP INDEX, CREATE and DROP
 *						STATISTICS, COMMENT, policies, RENAME, SET SCHEMA (ddl_rename.c),
 *						what ddl_alter.c and ddl_unique.c allow of ALTER TABLE
 *	runs here, and is	CREATE TABLE PARTITION OF, ATTACH, DETACH PARTITION, DROP
 *	told to the others	TABLE of a partition: ddl_partition.c
 *	copied afterwards	GRANT, REVOKE, what DROP OWNED revokes
 *	passes				DML, COPY, TRUNCATE, ANALYZE, VACUUM, LOCK, REINDEX,
 *						CLUSTER, and all that is not a distributed table's
 *	refused				the rest
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_statistic_ext.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/spi.h"
#include "route/ddl_guard.h"

#define HINT_UNDISTRIBUTE \
	"Use fragaffinity.undistribute_table first, and distribute the table again afterwards."

/* First column; read with our rights, whoever asks. */
List *
fa_ddl_catalog_values(const char *sql)
{
	List	   *list = NIL;
	FaDdlState	state;
	FaRows	   *rows;

	fa_ddl_begin(&state);
	rows = fa_spi_rows("%s", sql);
	fa_ddl_end(&state);
	for (int i = 0; i < rows->nrows; i++)
		list = lappend(list, rows->value[i][0]);
	return list;
}

/* The table that an index or an owned sequence belongs to, or the table. */
static Oid
table_of(Oid rel)
{
	Oid			table;
	int32		column;

	switch (get_rel_relkind(rel))
	{
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			table = IndexGetRelation(rel, true);
			return OidIsValid(table) ? table : rel;
		case RELKIND_SEQUENCE:
			if (sequenceIsOwned(rel, DEPENDENCY_AUTO, &table, &column) ||
				sequenceIsOwned(rel, DEPENDENCY_INTERNAL, &table, &column))
				return table;
			return rel;
		default:
			return rel;
	}
}

Oid
fa_ddl_root(Oid rel)
{
	ListCell   *lc;
	Oid			table;

	if (!OidIsValid(rel) || rel < FirstNormalObjectId)
		return InvalidOid;
	table = table_of(rel);
	if (fa_map_table(table))
		return table;
	if (!fa_table_is_managed(table))
		return InvalidOid;
	foreach(lc, get_partition_ancestors(table))
		if (fa_map_table(lfirst_oid(lc)))
			return lfirst_oid(lc);
	return table;
}

static Oid
managed_root_named(const RangeVar *name)
{
	if (name == NULL)
		return InvalidOid;
	return fa_ddl_root(RangeVarGetRelid(name, NoLock, true));
}

void
fa_ddl_refuse(const char *what, Oid root, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported on distributed table \"%s\"", what,
					get_rel_name(root)),
			 errhint("%s", hint ? hint : HINT_UNDISTRIBUTE)));
}

/* Raises if the name is a distributed table's. */
static void
refuse_named(const char *what, const RangeVar *name)
{
	Oid			root = managed_root_named(name);

	if (OidIsValid(root))
		fa_ddl_refuse(what, root, NULL);
}

bool
fa_ddl_catalog_exists(void)
{
	static const char *const needed[] = {
		"distributed_table", "distributed_table_rel_key", "fragment",
		"fragment_leaf_key", "fragment_bucket_idx", "local_node"
	};
	Oid			schema = get_namespace_oid("fragaffinity", true);

	if (creating_extension || !OidIsValid(schema) || !fa_extension_exists())
		return false;
	for (int i = 0; i < lengthof(needed); i++)
		if (!OidIsValid(get_relname_relid(needed[i], schema)))
			return false;
	return true;
}

void
fa_ddl_check_drop(Oid rel)
{
	Oid			root;

	if (!fa_ddl_catalog_exists())
		return;
	root = fa_ddl_root(rel);
	if (!OidIsValid(root) || fa_ddl_is_dropped(root))
		return;
	fa_ddl_check_waited_drop(root);
	if (rel == root)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop distributed table \"%s\" by this statement",
						get_rel_name(rel)),
				 errhint("Use DROP TABLE, which drops it on all nodes.")));
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop \"%s\": it belongs to distributed table \"%s\"",
					get_rel_name(rel), get_rel_name(root)),
			 errhint(HINT_UNDISTRIBUTE)));
}

/* Without us tables stay as they are, if the user insists; but not without
 * postgres_fdw. */
static void
check_drop_extension(DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		char	   *name = strVal(lfirst(lc));
		bool		ours = strcmp(name, "fragaffinity") == 0;

		if ((ours ? stmt->behavior != DROP_CASCADE :
			 strcmp(name, "postgres_fdw") == 0) &&
			fa_ddl_catalog_values("SELECT '' FROM fragaffinity.distributed_table LIMIT 1"))
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop extension \"%s\" while tables are distributed",
							name),
					 errhint("Use fragaffinity.undistribute_table on each table first.")));
	}
}

/* The relation whose trigger, constraint or policy a list of names ends with. */
static RangeVar *
relation_of_names(List *names)
{
	names = list_truncate(list_copy(names), list_length(names) - 1);
	return names == NIL ? NULL : makeRangeVarFromNameList(names);
}

/* The relation that an extended statistics object is about, or InvalidOid. */
static Oid
statistics_relation(List *name)
{
	Oid			oid = get_statistics_object_oid(name, true);
	HeapTuple	tuple = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(oid));
	Oid			rel;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	rel = ((Form_pg_statistic_ext) GETSTRUCT(tuple))->stxrelid;
	ReleaseSysCache(tuple);
	return rel;
}

static bool
index_is_unique(Oid rel)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(rel));
	bool		unique;

	if (!HeapTupleIsValid(tuple))
		return false;
	unique = ((Form_pg_index) GETSTRUCT(tuple))->indisunique;
	ReleaseSysCache(tuple);
	return unique;
}

static FaDdlAction
check_drop(DropStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;
	Oid			ours = InvalidOid;

	plan->drops = true;
	if (stmt->removeType == OBJECT_EXTENSION)
	{
		check_drop_extension(stmt);
		return FA_DDL_PASS;
	}
	if (stmt->removeType == OBJECT_STATISTIC_EXT)
	{
		foreach(lc, stmt->objects)
		{
			if (OidIsValid(fa_ddl_root(statistics_relation(lfirst(lc)))))
				plan->owned_statistics = lappend_oid(plan->owned_statistics,
													 get_statistics_object_oid(lfirst(lc), true));
		}
		return plan->owned_statistics ? FA_DDL_EVERYWHERE : FA_DDL_PASS;
	}
	if (stmt->removeType == OBJECT_SCHEMA)
	{
		fa_ddl_check_drop_schema(stmt, plan);
		return FA_DDL_PASS;
	}
	if (stmt->removeType == OBJECT_POLICY)
	{
		plan->drops = false;	/* its table is what counts */
		return fa_ddl_check_policy(relation_of_names(castNode(List, linitial(stmt->objects))),
								   plan);
	}
	if (stmt->removeType != OBJECT_TABLE && stmt->removeType != OBJECT_INDEX &&
		stmt->removeType != OBJECT_FOREIGN_TABLE &&
		stmt->removeType != OBJECT_SEQUENCE)
		return FA_DDL_PASS;
	foreach(lc, stmt->objects)
	{
		Oid			rel = RangeVarGetRelid(makeRangeVarFromNameList(lfirst(lc)),
										   NoLock, true);
		Oid			root = fa_ddl_root(rel);

		if (!OidIsValid(root))
			continue;
		if (stmt->removeType == OBJECT_TABLE && rel == root)
		{
			fa_ddl_check_drop_table(root, stmt, plan);
			continue;
		}
		if (stmt->removeType == OBJECT_TABLE &&
			fa_ddl_check_drop_partition(rel, root, plan))
			continue;
		ours = root;
		plan->owned = lappend_oid(plan->owned, rel);
		if (stmt->removeType != OBJECT_INDEX || table_of(rel) != root)
			fa_ddl_check_drop(rel);
		if (stmt->concurrent || list_length(stmt->objects) > 1)
			fa_ddl_refuse(stmt->concurrent ? "DROP INDEX CONCURRENTLY" : "DROP INDEX of several", root,
						  "Drop each index by a statement of its own, without CONCURRENTLY.");
		if (index_is_unique(rel))
		{
			plan->reshaped = root;
			plan->unique = true;
		}
	}
	if (plan->parted && plan->dropped)
		fa_ddl_refuse("DROP TABLE of a table and a partition", linitial_oid(plan->dropped),
					  "Drop them by statements of their own.");
	if (plan->parted)
		return FA_DDL_PARTITION;
	if (plan->unique)
		return FA_DDL_RESHAPE;
	return OidIsValid(ours) ? FA_DDL_EVERYWHERE : FA_DDL_PASS;
}

static FaDdlAction
check_alter_table(AlterTableStmt *stmt, FaDdlPlan *plan)
{
	Oid			rel = RangeVarGetRelid(stmt->relation, NoLock, true);
	Oid			root = fa_ddl_root(rel);
	FaDdlAction action = FA_DDL_EVERYWHERE;
	ListCell   *lc;

	if (OidIsValid(root) && fa_ddl_is_partition_command(stmt, rel))
		return fa_ddl_check_partition_command(linitial(stmt->cmds), rel, root,
											  plan);
	if (!OidIsValid(root))
	{
		foreach(lc, stmt->cmds)
		{
			AlterTableCmd *cmd = lfirst(lc);

			if (cmd->subtype == AT_AddInherit)
				refuse_named("inheritance", castNode(RangeVar, cmd->def));
			else if (fa_ddl_is_partition_command(stmt, rel))
				refuse_named("ATTACH PARTITION",
							 castNode(PartitionCmd, cmd->def)->name);
		}
		return FA_DDL_PASS;
	}
	plan->owned = list_make1_oid(root);
	if (rel != root)
		fa_ddl_refuse("ALTER of a part or index", root, NULL);
	if (!stmt->relation->inh)
		fa_ddl_refuse("ALTER TABLE ONLY", root, "Leave out ONLY.");
	if (fa_ddl_check_unique(stmt, root, plan))
		return FA_DDL_RESHAPE;
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);

		action = Max(action, fa_ddl_check_alter(cmd, root));
		if (cmd->subtype == AT_AlterColumnType &&
			fa_ddl_in_unique(cmd->name, root, true))
			plan->retyped = true;
		if (cmd->subtype == AT_AlterColumnType &&
			castNode(ColumnDef, cmd->def)->raw_default != NULL)
			plan->converted = true;
		if (cmd->subtype == AT_ChangeOwner ||
			cmd->subtype == AT_EnableRowSecurity ||
			cmd->subtype == AT_DisableRowSecurity)
			plan->rights = list_make1_oid(root);
	}
	plan->reshaped = root;
	return action;
}

static FaDdlAction
check_index(IndexStmt *stmt, FaDdlPlan *plan)
{
	Oid			rel = RangeVarGetRelid(stmt->relation, NoLock, true);
	Oid			root = fa_ddl_root(rel);

	if (!OidIsValid(root))
		return FA_DDL_PASS;
	plan->owned = list_make1_oid(root);
	if (rel != root)
		fa_ddl_refuse("an index on a part", root,
			   "Create it on the table itself: a part loses it when it moves.");
	if (stmt->concurrent)
		fa_ddl_refuse("CREATE INDEX CONCURRENTLY", root,
			   "Create the index without CONCURRENTLY.");
	if (!stmt->unique)
		return FA_DDL_EVERYWHERE;
	fa_ddl_check_unique_index(stmt, root, plan);
	return FA_DDL_RESHAPE;
}

static FaDdlAction
check_statistics(CreateStatsStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		Oid			rel;
		Oid			root;

		if (!IsA(lfirst(lc), RangeVar))
			continue;
		rel = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);
		root = fa_ddl_root(rel);
		if (!OidIsValid(root))
			continue;
		if (rel != root)
			fa_ddl_refuse("CREATE STATISTICS on a part", root, NULL);
		if (stmt->defnames == NIL)
			fa_ddl_refuse("a statistics object without a name", root,
				   "Name it, so that it is the same on every node.");
		plan->owned = list_make1_oid(root);
		return FA_DDL_EVERYWHERE;
	}
	return FA_DDL_PASS;
}

static FaDdlAction
check_comment(CommentStmt *stmt, FaDdlPlan *plan)
{
	RangeVar   *name;
	Oid			rel;

	switch (stmt->objtype)
	{
		case OBJECT_TABLE:
		case OBJECT_INDEX:
		case OBJECT_SEQUENCE:
			name = makeRangeVarFromNameList(castNode(List, stmt->object));
			break;
		case OBJECT_COLUMN:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_POLICY:
			name = relation_of_names(castNode(List, stmt->object));
			break;
		default:
			return FA_DDL_PASS;
	}
	if (name == NULL)
		return FA_DDL_PASS;
	rel = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(fa_ddl_root(rel)))
		return FA_DDL_PASS;
	/* Of parts, each node has its own. */
	if (table_of(rel) != fa_ddl_root(rel))
		return FA_DDL_PASS;
	if (stmt->objtype == OBJECT_INDEX || stmt->objtype == OBJECT_TABCONSTRAINT)
		plan->reshaped = table_of(rel);
	plan->owned = list_make1_oid(rel);
	return FA_DDL_EVERYWHERE;
}

/* May the user grant anything of the table? */
static bool
may_grant(Oid rel)
{
	return pg_class_aclcheck(rel, GetUserId(),
							 ACL_GRANT_OPTION_FOR(ACL_ALL_RIGHTS_RELATION)) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(rel, GetUserId(),
								  ACL_GRANT_OPTION_FOR(ACL_ALL_RIGHTS_COLUMN),
								  ACLMASK_ANY) == ACLCHECK_OK;
}

static FaDdlAction
check_grant(GrantStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;

	if (stmt->objtype != OBJECT_TABLE)
		return FA_DDL_PASS;
	if (stmt->targtype == ACL_TARGET_OBJECT)
	{
		foreach(lc, stmt->objects)
		{
			Oid			rel = RangeVarGetRelid(lfirst_node(RangeVar, lc),
											   NoLock, true);
			Oid			root = fa_ddl_root(rel);

			if (!OidIsValid(root) || get_rel_relkind(rel) == RELKIND_SEQUENCE)
				continue;
			if (rel != root)
				fa_ddl_refuse("GRANT or REVOKE on a part", root,
					   "Name the table itself: its parts follow.");
			if (may_grant(root))
				plan->rights = list_append_unique_oid(plan->rights, root);
		}
	}
	else if (stmt->targtype == ACL_TARGET_ALL_IN_SCHEMA)
	{
		foreach(lc, stmt->objects)
		{
			Oid			schema = get_namespace_oid(strVal(lfirst(lc)), true);
			ListCell   *rc;

			/* also of those that are elsewhere than their buckets */
			foreach(rc, fa_ddl_catalog_values(psprintf("SELECT DISTINCT t.rel::pg_catalog.oid "
												"FROM fragaffinity.distributed_table t "
												"JOIN fragaffinity.fragment f USING (table_id) "
												"JOIN pg_catalog.pg_class c ON c.oid IN (t.rel, f.bucket) "
												"WHERE c.relnamespace = %u", schema)))
			{
				Oid			root = atooid(lfirst(rc));

				if (may_grant(root))
					plan->rights = list_append_unique_oid(plan->rights, root);
			}
		}
	}
	return FA_DDL_PASS;
}

/* CREATE TABLE under a distributed one. */
static FaDdlAction
check_create(CreateStmt *stmt, FaDdlPlan *plan)
{
	ListCell   *lc;

	if (stmt->partbound && IsA(stmt, CreateStmt))
		return fa_ddl_check_new_partition(stmt, plan);
	foreach(lc, stmt->inhRelations)
		refuse_named("a child or foreign partition", lfirst_node(RangeVar, lc));
	return FA_DDL_PASS;
}

static FaDdlAction
check_statement(Node *statement, FaDdlPlan *plan)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			return check_alter_table((AlterTableStmt *) statement, plan);
		case T_RenameStmt:
			return fa_ddl_check_rename((RenameStmt *) statement, plan);
		case T_AlterObjectSchemaStmt:
			return fa_ddl_check_set_schema((AlterObjectSchemaStmt *) statement, plan);
		case T_IndexStmt:
			return check_index((IndexStmt *) statement, plan);
		case T_CreateTrigStmt:
			refuse_named("CREATE TRIGGER", ((CreateTrigStmt *) statement)->relation);
			break;
		case T_RuleStmt:
			refuse_named("CREATE RULE", ((RuleStmt *) statement)->relation);
			break;
		case T_CreatePolicyStmt:
			return fa_ddl_check_policy(((CreatePolicyStmt *) statement)->table,
									   plan);
		case T_AlterPolicyStmt:
			return fa_ddl_check_policy(((AlterPolicyStmt *) statement)->table,
									   plan);
		case T_CreateStatsStmt:
			return check_statistics((CreateStatsStmt *) statement, plan);
		case T_CreateStmt:
			return check_create((CreateStmt *) statement, plan);
		case T_CreateForeignTableStmt:
			return check_create(&((CreateForeignTableStmt *) statement)->base,
								plan);
		case T_DropStmt:
			return check_drop((DropStmt *) statement, plan);
		case T_GrantStmt:
			return check_grant((GrantStmt *) statement, plan);
		case T_CommentStmt:
			return check_comment((CommentStmt *) statement, plan);
		case T_AlterSeqStmt:
			refuse_named("ALTER SEQUENCE",
						 ((AlterSeqStmt *) statement)->sequence);
			break;
		case T_CreatePublicationStmt:
		case T_AlterPublicationStmt:
			fa_ddl_check_publication(statement);
			break;
		case T_DropOwnedStmt:
		case T_ReassignOwnedStmt:
			fa_ddl_check_owned(statement, plan);
			break;
		default:
			break;
	}
	return FA_DDL_PASS;
}

void
fa_ddl_check(Node *statement, FaDdlPlan *plan)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
		case T_IndexStmt:
		case T_CreateTrigStmt:
		case T_RuleStmt:
		case T_CreatePolicyStmt:
		case T_AlterPolicyStmt:
		case T_CreateStatsStmt:
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
		case T_DropStmt:
		case T_GrantStmt:
		case T_CommentStmt:
		case T_AlterSeqStmt:
		case T_CreatePublicationStmt:
		case T_AlterPublicationStmt:
		case T_DropOwnedStmt:
		case T_ReassignOwnedStmt:
			break;
		default:
			return;
	}
	/* A script of some extension may be our own, half run. */
	if (creating_extension || !fa_extension_exists())
		return;
	plan->action = check_statement(statement, plan);
	if (plan->action == FA_DDL_PASS)
		plan->named = fa_ddl_named(statement);
}
