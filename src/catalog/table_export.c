/*
 * table_export.c
 *	  Distributed tables on a node that joins or leaves.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

/* Buckets and leaves of one partition, by remainder as they were made. */
static void
export_fragments(FaConn *conn, int table_id, const char *key, FaTreeRel *r)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT pg_catalog.array_agg(f.fragment ORDER BY f.fragment),"
					   "  pg_catalog.array_agg(f.owner ORDER BY f.fragment),"
					   "  pg_catalog.string_agg(pg_catalog.format("
					   "    'UPDATE fragaffinity.fragment SET version = %%s WHERE fragment = %%s',"
					   "    f.version, f.fragment), '; ') "
					   "FROM fragaffinity.fragment f "
					   "JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home "
					   "WHERE i.inhparent = %u"
					   "  AND f.key_from IS NULL AND f.key_to IS NULL", r->rel);
	fa_remote_exec(conn, 0, "SELECT fragaffinity.create_fragments(%d, %s::pg_catalog.regclass, %s, '%s', '%s', %s, %s)",
				   table_id, quote_literal_cstr(r->qualified),
				   quote_literal_cstr(key), rows->value[0][0],
				   rows->value[0][1],
				   quote_literal_cstr(get_namespace_name(fa_map_bucket_schema(r->rel))),
				   quote_literal_cstr(fa_map_stem(r->rel)));
	fa_remote_exec(conn, 0, "%s", rows->value[0][2]);
	rows = fa_spi_rows("SELECT DISTINCT f.home::pg_catalog.oid "
					   "FROM fragaffinity.fragment f "
					   "JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home "
					   "WHERE i.inhparent = %u AND f.home <> f.bucket", r->rel);
	for (int i = 0; i < rows->nrows; i++)
	{
		Oid			home = atooid(rows->value[i][0]);

		fa_remote_exec(conn, 0, "%s",
					   fa_reshape_statement(home, fa_pieces_read(home)));
	}
}

static void
export_table(FaConn *conn, char **row)
{
	int			table_id = atoi(row[0]);
	Oid			rel = atooid(row[1]);
	List	   *tree = fa_tree_read(rel);
	List	   *sequences = fa_sequence_current(rel, row[6]);
	ListCell   *lc;

	fa_refuse_sequences(rel, sequences);
	foreach(lc, fa_tree_create(tree, sequences, conn->node, row[2], NULL))
		fa_remote_exec(conn, 0, "%s", (char *) lfirst(lc));
	fa_remote_exec(conn, 0, "INSERT INTO fragaffinity.distributed_table"
				   "  (table_id, rel, key, colocation, placement, definition) "
				   "VALUES (%d, %s::pg_catalog.regclass, %s, %s, %s, %s)",
				   table_id,
				   quote_literal_cstr(((FaTreeRel *) linitial(tree))->qualified),
				   quote_literal_cstr(row[2]), row[3],
				   quote_literal_cstr(row[4]), quote_literal_cstr(row[5]));
	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		if (r->leaf)
			export_fragments(conn, table_id, row[2], r);
	}
	fa_remote_exec(conn, 0, "SELECT fragaffinity.create_leaf_indexes(%d, 0)", table_id);
	foreach(lc, fa_tree_finish(tree, true))
		fa_remote_exec(conn, 0, "%s", (char *) lfirst(lc));
}

void
fa_table_export(int node)
{
	FaConn	   *conn = fa_xact_conn(node);
	FaDdlState	state;
	FaRows	   *rows;

	fa_ddl_begin(&state);
	rows = fa_spi_rows("SELECT table_id, rel::pg_catalog.oid, key, colocation,"
					   "  placement, definition, definition->>'sequences' "
					   "FROM fragaffinity.distributed_table ORDER BY table_id");
	for (int i = 0; i < rows->nrows; i++)
	{
		Oid			rel = atooid(rows->value[i][1]);

		fa_refuse_peer(conn, rel, fa_tree_read(rel), fa_sequence_list(rel));
		export_table(conn, rows->value[i]);
	}
	fa_ddl_end(&state);
}

void
fa_table_check_forget_node(int node)
{
	char	   *count;

	count = fa_spi_value("SELECT pg_catalog.count(*) FROM fragaffinity.fragment "
						 "WHERE owner = %d", node);
	if (strcmp(count, "0") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("node \"%s\" still owns %s fragments",
						fa_node_find(node)->name, count),
				 errhint("Move them off with fragaffinity.drain_node first.")));
}
