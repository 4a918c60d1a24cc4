/*
 * undistribute.c
 *	  undistribute_table: all rows back into a table of this node, which
 *	  keeps its name, its own partitioning, keys, sequences and grants.
 *
 * One cluster transaction:
 *
 *	1. wait for moves of its fragments; lock the table on all nodes
 *	2. write the text of the plain table, move the distributed one away, make
 *	   the plain one
 *	3. rows of this node by INSERT ... SELECT, of others by COPY
 *	4. unique indexes; views and the like of this node to the plain table; rows of
 *	   the catalog away; the distributed table dropped everywhere; secondary indexes
 *	   and statistics
 *
 * A partition that has been detached here goes the same way, from step 1 for the
 * other nodes on.  One that is dropped only leaves the catalog and the others.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/dependents.h"
#include "catalog/partitions.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_undistribute_table);

/* Who owns what, in a form to be compared between nodes. */
#define OWNERS_DIGEST \
	"SELECT pg_catalog.md5(COALESCE(pg_catalog.string_agg(pg_catalog.concat_ws(':'," \
	"  fragment, owner, version), ',' ORDER BY fragment), '')) " \
	"FROM fragaffinity.fragment WHERE fragment = ANY ('%s')"

typedef struct Gathering
{
	Oid			root;			/* the distributed table */
	Oid			rel;			/* the same, or a partition */
	int			table_id;
	char	   *numbers;		/* of the fragments, as an array */
	char	   *qualified;
	char	   *key;
	List	   *tree;
	List	   *fragments;		/* of FaFragment */
	List	   *bucket_names;	/* of char *, quoted, as peers have them */
	char	   *unique;
	char	   *options;
	List	   *identities;		/* of char *, statements */
	List	   *sequences;
} Gathering;

/*
 * Heaps that moves have retired and that wait to be dropped: their defaults
 * still use the table's sequences.  Of this node, or of the connection's.
 */
static void
drop_retired(const char *numbers, FaConn *conn)
{
	char	   *sql = psprintf("DELETE FROM fragaffinity.cleanup WHERE kind = 'table' "
							   "AND fragment = ANY ('%s') RETURNING relation",
							   numbers);
	FaRows	   *rows = conn ? fa_remote_rows(conn, 0, "%s", sql) :
		fa_spi_rows("%s", sql);

	for (int i = 0; i < rows->nrows; i++)
	{
		sql = psprintf("DROP TABLE IF EXISTS %s", rows->value[i][0]);
		if (conn)
			fa_remote_exec(conn, 0, "%s", sql);
		else
			(void) fa_spi_exec("%s", sql);
	}
}

static char *
numbers_of(int table_id)
{
	return fa_spi_value("SELECT coalesce(pg_catalog.array_agg(fragment), '{}') "
						"FROM fragaffinity.fragment WHERE table_id = %d", table_id);
}

void
fa_table_drop_retired(int table_id, FaConn *conn)
{
	drop_retired(numbers_of(table_id), conn);
}

/* What stands in the way on the other nodes, and their sequences' positions. */
static void
check_peers(Gathering *g)
{
	char	   *digest = fa_spi_value(OWNERS_DIGEST, g->numbers);
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);
		FaConn	   *conn;
		ListCell   *sc;

		if (node->id == fa_node_self())
			continue;
		conn = fa_xact_conn(node->id);
		drop_retired(g->numbers, conn);
		fa_refuse_back(g->qualified, conn);
		/* A row read through a node that is behind would wait for ourselves. */
		if (strcmp(fa_remote_value(conn, 0, OWNERS_DIGEST, g->numbers), digest) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" has not heard of the latest moves of the table yet",
							node->name),
					 errhint("Try again in a moment.")));
		foreach(sc, g->sequences)
		{
			FaSequence *s = lfirst(sc);
			char	   *last;

			last = fa_remote_value(conn, 0, "SELECT pg_catalog.pg_sequence_last_value(%s)",
								   quote_literal_cstr(quote_qualified_identifier(s->schema, s->name)));
			if (last)
				s->last = Max(s->last, strtoi64(last, NULL, 10));
		}
	}
}

static bool
in_tree(Gathering *g, Oid home)
{
	Oid			parent = fa_table_parent(home);
	ListCell   *lc;

	foreach(lc, g->tree)
		if (((FaTreeRel *) lfirst(lc))->rel == parent)
			return true;
	return false;
}

static void
read_table(Gathering *g)
{
	FaRows	   *rows;
	ListCell   *lc;
	StringInfoData numbers;

	rows = fa_spi_rows("SELECT table_id, key, definition->>'unique',"
					   "  definition->>'options', definition->>'sequences' "
					   "FROM fragaffinity.distributed_table WHERE rel = %u",
					   g->root);
	g->table_id = atoi(rows->value[0][0]);
	g->key = rows->value[0][1];
	g->unique = rows->value[0][2];
	g->options = rows->value[0][3];
	g->qualified = fa_table_qualified_name(g->rel);
	if (g->rel == g->root)
		g->sequences = fa_sequence_current(g->rel, rows->value[0][4]);
	rows = fa_spi_rows("SELECT x FROM fragaffinity.distributed_table,"
					   "  pg_catalog.jsonb_array_elements_text(definition->'identities') x "
					   "WHERE rel = %u AND rel = %u", g->root, g->rel);
	for (int i = 0; i < rows->nrows; i++)
		g->identities = lappend(g->identities, rows->value[i][0]);
	g->tree = fa_tree_read(g->rel);
	initStringInfo(&numbers);
	foreach(lc, fa_map_fragments(g->table_id))
	{
		FaFragment *f = lfirst(lc);

		if (!in_tree(g, f->home))
			continue;
		g->fragments = lappend(g->fragments, f);
		g->bucket_names = lappend(g->bucket_names,
								  fa_table_qualified_name(f->bucket));
		appendStringInfo(&numbers, "%s" INT64_FORMAT, numbers.len ? "," : "",
						 f->fragment);
	}
	g->numbers = psprintf("{%s}", numbers.data);
}

/* Step 3.  The new relations have the names that the old ones had. */
static void
gather_rows(Gathering *g)
{
	ListCell   *lc;
	ListCell   *nc;

	forboth(lc, g->fragments, nc, g->bucket_names)
	{
		FaFragment *f = lfirst(lc);
		Oid			parent;
		ListCell   *tc;

		parent = fa_table_parent(f->home);
		foreach(tc, g->tree)
		{
			FaTreeRel  *r = lfirst(tc);

			if (r->rel != parent)
				continue;
			/* rows are read and written as the partition's owner */
			if (f->local)
				fa_ddl_run(fa_text_owner(r->rel,
										 fa_table_qualified_name(f->bucket)));
			fa_rows_gather(fa_table_oid(r->qualified), f->bucket, f->owner,
						   lfirst(nc));
		}
	}
}

/*
 * What is known of the fragments, and if it is all that the table has, of the
 * table.
 */
static void
forget_append(StringInfo sql, int table_id, const char *numbers, bool whole)
{
	appendStringInfo(sql, "DELETE FROM fragaffinity.pin WHERE fragment = ANY ('%s'); "
					 "DELETE FROM fragaffinity.fragment WHERE fragment = ANY ('%s'); ",
					 numbers, numbers);
	if (whole)
		appendStringInfo(sql, "DELETE FROM fragaffinity.setting WHERE table_id = %d; "
						 "DELETE FROM fragaffinity.distributed_table WHERE table_id = %d; ",
						 table_id, table_id);
	appendStringInfo(sql, "INSERT INTO fragaffinity.dropped_fragment (fragment) "
					 "SELECT pg_catalog.unnest('%s'::bigint[]) ON CONFLICT DO NOTHING",
					 numbers);
}

char *
fa_table_forget(int table_id)
{
	StringInfoData sql;

	initStringInfo(&sql);
	forget_append(&sql, table_id, numbers_of(table_id), true);
	return sql.data;
}

/* Of a partition, its relations' options and replica identities are kept by name. */
static void
forget_everywhere(Gathering *g)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	forget_append(&sql, g->table_id, g->numbers, g->rel == g->root);
	foreach(lc, g->rel == g->root ? NIL : g->tree)
	{
		char	   *name = ((FaTreeRel *) lfirst(lc))->qualified;

		appendStringInfo(&sql, "; UPDATE fragaffinity.distributed_table "
						 "SET definition = pg_catalog.jsonb_set(definition #- ARRAY['options', %s],"
						 "  '{identities}', (SELECT coalesce(pg_catalog.jsonb_agg(x), '[]')"
						 "    FROM pg_catalog.jsonb_array_elements_text(definition->'identities') x"
						 "   WHERE NOT pg_catalog.starts_with(x, %s))) "
						 "WHERE table_id = %d",
						 quote_literal_cstr(name),
						 quote_literal_cstr(psprintf("ALTER TABLE %s REPLICA", name)),
						 g->table_id);
	}
	fa_table_run_everywhere(sql.data);
}

static void
gather(Gathering *g)
{
	List	   *finish = fa_tree_finish(g->tree, false);
	List	   *create = fa_tree_create(g->tree, g->sequences, 0, NULL, g->options);
	List	   *dependents = fa_dependents_read(g->tree);
	char	   *schema = fa_tree_move_away(g->tree);
	Oid			plain;

	fa_ddl_run(create);
	gather_rows(g);
	plain = fa_table_oid(g->qualified);
	/* the table has its own names for them still */
	fa_unique_create(plain, g->unique, g->rel == g->root ? NULL :
					 get_rel_name(plain));
	fa_ddl_run(g->identities);
	fa_dependents_renew(dependents);
	forget_everywhere(g);
	fa_spi_exec("DROP TABLE %s.old_%u", schema, g->rel);
	fa_spi_exec("DROP SCHEMA %s", schema);
	fa_xact_exec_all("DROP TABLE %s", g->qualified);
	fa_ddl_run(finish);
	fa_spi_exec("ANALYZE %s", g->qualified);
}

/* undistribute_table(rel) */
Datum
fa_sql_undistribute_table(PG_FUNCTION_ARGS)
{
	Gathering	g = {0};
	FaDdlState	state;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("rel must not be null")));
	g.root = g.rel = PG_GETARG_OID(0);
	fa_shmem_require();
	(void) fa_node_require_cluster();
	if (get_rel_name(g.rel) == NULL || fa_map_table(g.rel) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 get_rel_name(g.rel) ?
				 errmsg("\"%s\" is not a distributed table", get_rel_name(g.rel)) :
				 errmsg("relation with OID %u does not exist", g.rel),
				 errhint("fragaffinity.tables lists them.")));

	fa_table_check_owner(g.rel);

	fa_ddl_begin(&state);
	fa_table_wait_for_moves(g.rel, g.rel, false);
	fa_xact_lock_cluster();
	fa_table_wait_for_moves(g.rel, g.rel, true);
	fa_table_lock_timeout();
	fa_dependents_lock(g.rel);
	fa_table_lock_everywhere(g.rel, "gather");
	read_table(&g);
	drop_retired(g.numbers, NULL);
	fa_refuse_back(g.qualified, NULL);
	check_peers(&g);
	gather(&g);
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}

/* Step 1 for a partition, which is locked. */
static void
read_partition(Gathering *g, Oid root, Oid partition)
{
	g->root = root;
	g->rel = partition;
	read_table(g);
	drop_retired(g->numbers, NULL);
	fa_refuse_back(g->qualified, NULL);
	check_peers(g);
}

void
fa_partition_drop(Oid root, Oid partition)
{
	Gathering	g = {0};
	FaDdlState	state;

	fa_ddl_begin(&state);
	read_partition(&g, root, partition);
	forget_everywhere(&g);
	fa_xact_exec_all("DROP TABLE %s", g.qualified);
	fa_ddl_end(&state);
}

void
fa_partition_dropped(Oid root)
{
	FaDdlState	state;

	fa_ddl_begin(&state);
	fa_partition_renew_hints(fa_map_table(root)->table_id);
	fa_ddl_end(&state);
}

void
fa_partition_detached(Oid root, Oid partition)
{
	Gathering	g = {0};
	FaDdlState	state;

	fa_ddl_begin(&state);
	read_partition(&g, root, partition);
	gather(&g);
	fa_partition_renew_hints(g.table_id);
	fa_ddl_end(&state);
}
