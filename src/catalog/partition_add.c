/*
 * partition_add.c
 *	  A new partition of a distributed table, empty or with rows.
 *
 * On this node PostgreSQL has made or attached it.  From there the text goes to
 * the other nodes, and it is divided into buckets as the others are:
 *
 *	created		it is PARTITION BY HASH of the key already, without a partition
 *	attached	a heap, checked by PostgreSQL: it makes room for such a partition,
 *				and its rows are dealt out
 *
 * The rows of a DEFAULT partition that belong to the new one are found by
 * PostgreSQL: on each node, in the heaps that are there, when it is made there.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/dependents.h"
#include "catalog/map.h"
#include "catalog/partitions.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

typedef struct Addition
{
	Oid			root;
	int			table_id;
	char	   *key;
	char	   *placement;
	int			count;			/* of its fragments; 0: it is not divided */
	List	   *tree;
	FaTreeRel  *rel;			/* of the tree: the partition */
	char	   *user;			/* who adds it */
	int		   *owners;
} Addition;

static FaTreeRel *
find_in_tree(List *tree, Oid rel)
{
	ListCell   *lc;

	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		if (r->rel == rel)
			return r;
	}
	elog(ERROR, "partition %u is not of its tree", rel);
	return NULL;
}

/* The node that a table was put on may have gone since, or be about to go. */
static const char *
placement_of_today(const char *placement)
{
	if (strcmp(placement, "local") == 0 ||
		fa_spi_value("SELECT '' FROM fragaffinity.node "
					 "WHERE name = %s AND state = 'active'",
					 quote_literal_cstr(placement)))
		return placement;
	return "balanced";
}

/* user: who ran the statement. */
static Addition *
addition_read(Oid root, Oid partition, bool divided, Oid user)
{
	Addition   *a = palloc0(sizeof(Addition));
	FaRows	   *rows;
	Oid			like;

	rows = fa_spi_rows("SELECT table_id, key, placement, definition->>'fragments' "
					   "FROM fragaffinity.distributed_table WHERE rel = %u", root);
	a->root = root;
	a->table_id = atoi(rows->value[0][0]);
	a->key = rows->value[0][1];
	a->placement = rows->value[0][2];
	a->tree = fa_tree_read(root);
	a->rel = find_in_tree(a->tree, partition);
	a->user = GetUserNameFromId(user, false);
	if (!divided)
		return a;
	a->rel->leaf = true;
	a->rel->partition_key = NULL;
	a->count = atoi(rows->value[0][3]);
	like = fa_partition_like(root, partition);
	if (OidIsValid(like))
		a->owners = fa_place_owners_like(like, a->count);
	if (a->owners == NULL)
		a->owners = fa_place_owners(placement_of_today(a->placement), 1, a->count, 0);
	return a;
}

/*
 * CREATE TABLE with the user's own rights: it computes the bound's columns of the
 * rows of a DEFAULT partition.
 */
static char *
create_statement(Addition *a)
{
	ListCell   *lc;

	foreach(lc, fa_xact_conn_all())
		fa_refuse_peer(lfirst(lc), a->rel->rel, list_make1(a->rel), NIL);
	return psprintf("SELECT fragaffinity.run_as(%s, %s)",
					quote_literal_cstr(a->user),
					quote_literal_cstr(fa_tree_create_rel(a->tree, a->rel, a->key,
														  "{}")));
}

static void
unlink_everywhere(Addition *a)
{
	fa_table_run_everywhere(psprintf("SELECT fragaffinity.unlink_unique(%s::pg_catalog.regclass)",
									 quote_literal_cstr(a->rel->qualified)));
}

/* Of the partition's heaps: jsonb, by the partition's name. */
static void
keep_options(Addition *a, const char *options)
{
	fa_table_run_everywhere(psprintf("UPDATE fragaffinity.distributed_table "
									 "SET definition = pg_catalog.jsonb_set(definition, '{options}',"
									 "  definition->'options' || %s::pg_catalog.jsonb) "
									 "WHERE table_id = %d",
									 quote_literal_cstr(options), a->table_id));
}

/* Buckets and leaves of the partition, which all nodes have by now. */
static void
divide_everywhere(Addition *a)
{
	ListCell   *lc;

	fa_table_make_fragments(a->table_id, a->rel->qualified, a->key,
							fa_place_number(a->count), a->owners, a->count);
	/* partitions do not inherit these */
	foreach(lc, fa_text_column_options(a->root, a->rel->qualified, false))
		fa_table_run_everywhere(lfirst(lc));
}

static void
finish_everywhere(Addition *a)
{
	if (a->count > 0)
		fa_table_run_everywhere(psprintf("SELECT fragaffinity.create_leaf_indexes(%d, %s::pg_catalog.regclass)",
										 a->table_id,
										 quote_literal_cstr(a->rel->qualified)));
	fa_partition_renew_hints(a->table_id);
}

void
fa_partition_renew_hints(int table_id)
{
	(void) fa_xact_ask_coordinator(psprintf("SELECT fragaffinity.renew_hints(%d)",
											table_id));
}

void
fa_partition_created(Oid root, Oid partition, bool divided, const char *options)
{
	Oid			user = GetUserId();
	FaDdlState	state;
	Addition   *a;
	ListCell   *lc;

	fa_ddl_begin(&state);
	fa_refuse_partition_key(partition);
	a = addition_read(root, partition, divided, user);
	fa_xact_exec_all("%s", create_statement(a));
	foreach(lc, fa_tree_belongings(a->rel))
		fa_xact_exec_all("%s", (char *) lfirst(lc));
	unlink_everywhere(a);
	if (divided)
	{
		if (options)
			keep_options(a, fa_spi_value("SELECT pg_catalog.jsonb_build_object(%s, %s)",
										 quote_literal_cstr(a->rel->qualified),
										 quote_literal_cstr(options)));
		divide_everywhere(a);
	}
	finish_everywhere(a);
	fa_ddl_end(&state);
}

/*
 * Unique indexes and keys that every heap of the distributed table gets, but when
 * it becomes a partition of the root those that that shows.  What else there is of
 * them is found by fa_refuse_partition().
 */
static void
drop_unique(Oid root, Oid rel, bool but_shown)
{
	char	   *qualified = fa_table_qualified_name(rel);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT u.name, u.\"constraint\" "
					   "FROM pg_catalog.jsonb_to_recordset(%s)"
					   "  AS u(name name, \"constraint\" boolean, \"primary\" boolean, definition text) "
					   "WHERE NOT (%s AND u.definition NOT LIKE 'EXCLUDE%%') AND EXISTS (SELECT FROM fragaffinity.distributed_table t,"
					   "  pg_catalog.jsonb_to_recordset(t.definition->'unique')"
					   "    AS d(\"constraint\" boolean, definition text)"
					   "  WHERE t.rel = %u AND d.\"constraint\" = u.\"constraint\""
					   "    AND d.definition = u.definition)",
					   quote_literal_cstr(fa_text_unique(rel)),
					   but_shown ? "true" : "false", root);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	   *name = rows->value[i][0];

		if (rows->value[i][1][0] == 't')
			fa_spi_exec("ALTER TABLE %s DROP CONSTRAINT %s", qualified,
						quote_identifier(name));
		else
			fa_spi_exec("DROP INDEX %s", fa_table_sibling_name(rel, name));
	}
}

/* Values come from the table's own sequence; before 17 a partition could have one. */
static void
drop_identity(Oid rel)
{
	FaRows	   *rows = fa_spi_rows("SELECT pg_catalog.quote_ident(attname) "
								   "FROM pg_catalog.pg_attribute "
								   "WHERE attrelid = %u AND attnum > 0"
								   "  AND NOT attisdropped AND attidentity <> ''", rel);

	for (int i = 0; i < rows->nrows; i++)
		fa_spi_exec("ALTER TABLE %s ALTER COLUMN %s DROP IDENTITY",
					fa_table_qualified_name(rel), rows->value[i][0]);
}

void
fa_partition_attach(Oid root, Oid parent, Oid rel)
{
	FaDdlState	state;

	if (!fa_owns_relation(rel, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(rel)),
					   get_rel_name(rel));
	fa_ddl_begin(&state);
	LockRelationOid(rel, AccessExclusiveLock);
	if (get_rel_relkind(rel) != RELKIND_RELATION && !fa_table_is_managed(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" cannot be attached to distributed table \"%s\": it is not an ordinary table",
						get_rel_name(rel), get_rel_name(root)),
				 errhint("Create the partition with CREATE TABLE ... PARTITION OF, and use INSERT ... SELECT.")));
	fa_refuse_table(rel);
	drop_unique(root, rel, parent == root);
	drop_identity(rel);
	fa_ddl_end(&state);
}

void
fa_partition_attached(Oid root, Oid rel)
{
	Oid			user = GetUserId();
	FaDdlState	state;
	Addition   *a;
	List	   *belongings;
	List	   *dependents;
	char	   *options;
	char	   *create;
	char	   *schema;
	Oid			partition;
	ListCell   *lc;

	fa_ddl_begin(&state);
	fa_refuse_partition(rel);
	a = addition_read(root, rel, true, user);
	belongings = fa_tree_belongings(a->rel);
	dependents = fa_dependents_read(list_make1(a->rel));
	options = fa_tree_options(rel);
	create = create_statement(a);
	fa_spi_exec("ALTER TABLE %s DETACH PARTITION %s",
				fa_table_qualified_name(a->rel->parent), a->rel->qualified);
	schema = fa_tree_move_away(list_make1(a->rel));
	fa_table_run_everywhere(create);
	partition = fa_table_oid(a->rel->qualified);
	unlink_everywhere(a);
	/* rows go as the table's owner, whose code its constraints are */
	foreach(lc, fa_text_owner(root, a->rel->qualified))
		fa_table_run_everywhere(lfirst(lc));
	fa_ddl_run(fa_text_owner(root, fa_table_qualified_name(rel)));
	keep_options(a, options);
	divide_everywhere(a);
	fa_rows_spread(rel, partition, a->key, a->owners, a->count);
	fa_dependents_renew(dependents);
	fa_spi_exec("DROP TABLE %s.old_%u", schema, rel);
	fa_spi_exec("DROP SCHEMA %s", schema);
	finish_everywhere(a);
	foreach(lc, belongings)
		fa_table_run_everywhere(lfirst(lc));
	fa_table_run_everywhere(psprintf("SELECT fragaffinity.analyze_leaves(%d, %s::pg_catalog.regclass)",
									 a->table_id,
									 quote_literal_cstr(a->rel->qualified)));
	fa_ddl_end(&state);
}
