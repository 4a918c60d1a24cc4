/*
 * ddl_partition.c
 *	  Statements that give a distributed table a partition, or take one away.
 *
 *	CREATE TABLE ... PARTITION OF	with PARTITION BY HASH (key) added to it
 *	ATTACH, DETACH PARTITION, DROP TABLE	as they are
 *
 * The statement runs here, as the user; what comes before and after it, and what
 * the other nodes do, is in catalog/partitions.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/dependents.h"
#include "catalog/map.h"
#include "catalog/partitions.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "node/node.h"
#include "route/ddl_guard.h"

#define HINT_LIKE_TABLE "Say it of the distributed table: all its partitions are alike."

/* Our own catalog is read with our rights, whoever asks. */
static bool
is_divided(Oid rel)
{
	FaDdlState	state;
	bool		divided;

	fa_ddl_begin(&state);
	divided = fa_partition_is_divided(rel);
	fa_ddl_end(&state);
	return divided;
}

static bool
is_users(Oid rel)
{
	FaDdlState	state;
	bool		users;

	fa_ddl_begin(&state);
	users = fa_partition_is_users(rel);
	fa_ddl_end(&state);
	return users;
}

/* May the relation, of a distributed table, have partitions of the user's? */
static void
check_parent(Oid parent, Oid root)
{
	if (parent != root && !is_users(parent))
		fa_ddl_refuse("a partition or child of a part", root,
					  "Only the table and its own partitions can have partitions.");
	if (is_divided(parent))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" cannot have more partitions: it is divided by its key",
						get_rel_name(parent)),
				 errhint("Distribute a table that is partitioned, and it can have more of its own partitions.")));
}

/* PARTITION BY HASH (column): its form in the parse tree differs by version. */
static PartitionSpec *
hash_by(const char *column)
{
	List	   *parsed = raw_parser(psprintf("CREATE TABLE t () PARTITION BY HASH (%s)",
											 quote_identifier(column)),
									RAW_PARSE_DEFAULT);
	RawStmt    *raw = linitial_node(RawStmt, parsed);

	return castNode(CreateStmt, raw->stmt)->partspec;
}

/* As they are written inside WITH (), or NULL. */
static char *
options_text(List *options)
{
	StringInfoData buf;
	ListCell   *lc;

	if (options == NIL)
		return NULL;
	initStringInfo(&buf);
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (buf.len > 0)
			appendStringInfoString(&buf, ", ");
		if (option->defnamespace)
			appendStringInfo(&buf, "%s.", quote_identifier(option->defnamespace));
		appendStringInfo(&buf, "%s=%s", quote_identifier(option->defname),
						 option->arg ? quote_literal_cstr(defGetString(option)) :
						 "true");
	}
	return buf.data;
}

static void
refuse_own_things(const CreateStmt *stmt, Oid root)
{
	if (stmt->tableElts != NIL || stmt->constraints != NIL)
		fa_ddl_refuse("a column's definition or constraint of one partition", root,
					  HINT_LIKE_TABLE);
	if (stmt->tablespacename)
		fa_ddl_refuse("a tablespace of one partition", root,
					  "Leave out TABLESPACE.");
	if (stmt->accessMethod)
		fa_ddl_refuse("an access method of one partition", root,
					  "Leave out USING.");
	if (stmt->relation->relpersistence != RELPERSISTENCE_PERMANENT)
		fa_ddl_refuse("a temporary or unlogged partition", root,
					  "Leave out TEMPORARY or UNLOGGED.");
}

FaDdlAction
fa_ddl_check_new_partition(CreateStmt *stmt, FaDdlPlan *plan)
{
	Oid			parent = RangeVarGetRelid(linitial_node(RangeVar, stmt->inhRelations),
										  NoLock, true);
	Oid			root = fa_ddl_root(parent);
	CreateStmt *changed;

	if (!OidIsValid(root))
		return FA_DDL_PASS;
	check_parent(parent, root);
	refuse_own_things(stmt, root);
	changed = copyObject(stmt);
	plan->schema = RangeVarGetCreationNamespace(changed->relation);
	plan->name = changed->relation->relname;
	/* it is there, and PostgreSQL says so */
	if (OidIsValid(get_relname_relid(plan->name, plan->schema)))
		return FA_DDL_PASS;
	plan->change = FA_PARTITION_CREATE;
	plan->owned = list_make1_oid(parent);
	plan->reshaped = root;
	plan->parent = parent;
	if (changed->partspec == NULL)
	{
		plan->divided = true;
		plan->options = options_text(changed->options);
		changed->options = NIL;
		changed->partspec = hash_by(get_attname(root, fa_map_table(root)->key,
												false));
		plan->instead = (Node *) changed;
	}
	return FA_DDL_PARTITION;
}

bool
fa_ddl_is_partition_command(const AlterTableStmt *stmt, Oid rel)
{
	AlterTableCmd *cmd = linitial(stmt->cmds);

	/* nothing can be written beside it, and an index can have it, too */
	return (cmd->subtype == AT_AttachPartition ||
			cmd->subtype == AT_DetachPartition) &&
		OidIsValid(rel) && get_rel_relkind(rel) == RELKIND_PARTITIONED_TABLE;
}

FaDdlAction
fa_ddl_check_partition_command(AlterTableCmd *cmd, Oid parent, Oid root,
							   FaDdlPlan *plan)
{
	PartitionCmd *partition = castNode(PartitionCmd, cmd->def);

	check_parent(parent, root);
	plan->reshaped = root;
	plan->parent = parent;
	plan->partition = RangeVarGetRelid(partition->name, NoLock, true);
	/* PostgreSQL says what is wrong with it */
	if (!OidIsValid(plan->partition) ||
		(cmd->subtype == AT_DetachPartition &&
		 (!get_rel_relispartition(plan->partition) ||
		  get_partition_parent(plan->partition, true) != parent)))
		return FA_DDL_PASS;
	if (partition->concurrent)
		fa_ddl_refuse("DETACH PARTITION ... CONCURRENTLY", root,
					  "Leave out CONCURRENTLY.");
	plan->change = cmd->subtype == AT_AttachPartition ?
		FA_PARTITION_ATTACH : FA_PARTITION_DETACH;
	plan->owned = list_make1_oid(parent);
	if (plan->change == FA_PARTITION_ATTACH)
		plan->owned = lappend_oid(plan->owned, plan->partition);
	return FA_DDL_PARTITION;
}

bool
fa_ddl_check_drop_partition(Oid rel, Oid root, FaDdlPlan *plan)
{
	if (rel == root || !is_users(rel))
		return false;
	plan->change = FA_PARTITION_DROP;
	plan->owned = lappend_oid(plan->owned, rel);
	plan->parted = list_append_unique_oid(plan->parted, rel);
	return true;
}

/*
 * What the user may not drop, PostgreSQL tells him.
 */
static void
drop_before(Oid rel)
{
	Oid			root = fa_ddl_root(rel);
	Oid			parent;

	if (!fa_owns_relation(rel, GetUserId()) &&
		!fa_owns_schema(get_rel_namespace(rel), GetUserId()))
		return;
	fa_table_check_isolation();
	parent = get_partition_parent(rel, false);
	fa_partition_lock(parent, rel, fa_map_table(root)->table_id);
	if (!get_rel_relispartition(rel) || get_partition_parent(rel, true) != parent)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("partition was dropped or detached meanwhile")));
	fa_partition_drop(root, rel);
}

static void
lock_dependents(Oid rel)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_dependents_lock(rel);
	fa_ddl_end(&state);
}

void
fa_ddl_partition_before(FaDdlPlan *plan)
{
	List	   *dropped = NIL;
	ListCell   *lc;

	if (plan->change == FA_PARTITION_DROP)
	{
		/* a partition of one that goes, goes with it */
		foreach(lc, plan->parted)
		{
			ListCell   *ac;
			bool		with = false;

			foreach(ac, get_partition_ancestors(lfirst_oid(lc)))
				if (list_member_oid(plan->parted, lfirst_oid(ac)))
					with = true;
			if (!with)
				dropped = lappend_oid(dropped, lfirst_oid(lc));
		}
		foreach(lc, dropped)
		{
			plan->roots = list_append_unique_oid(plan->roots,
												 fa_ddl_root(lfirst_oid(lc)));
			drop_before(lfirst_oid(lc));
		}
		return;
	}
	fa_table_check_owner(plan->parent);
	if (plan->change != FA_PARTITION_CREATE)
		lock_dependents(plan->partition);
	/* one that is added concerns the default partition */
	fa_partition_lock(plan->parent, plan->change == FA_PARTITION_DETACH ?
					  plan->partition : get_default_partition_oid(plan->parent),
					  fa_map_table(plan->reshaped)->table_id);
	if (plan->change == FA_PARTITION_ATTACH)
		fa_partition_attach(plan->reshaped, plan->parent, plan->partition);
}

void
fa_ddl_partition_after(FaDdlPlan *plan)
{
	Oid			root = plan->reshaped;
	ListCell   *lc;

	switch (plan->change)
	{
		case FA_PARTITION_CREATE:
			fa_partition_created(root, get_relname_relid(plan->name, plan->schema),
								 plan->divided, plan->options);
			break;
		case FA_PARTITION_ATTACH:
			fa_partition_attached(root, plan->partition);
			break;
		case FA_PARTITION_DETACH:
			fa_partition_detached(root, plan->partition);
			break;
		case FA_PARTITION_DROP:
			foreach(lc, plan->roots)
				fa_partition_dropped(lfirst_oid(lc));
			break;
	}
}
