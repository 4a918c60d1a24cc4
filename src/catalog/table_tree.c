/*
 * table_tree.c
 *	  The user's own partitioning of a table, from the root to the relations
 *	  that hold its rows or are divided into buckets.
 *
 * distribute_table and undistribute_table both write the text of the tree,
 * move the old tree out of the way, and make the new one from the text.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "catalog/table_ddl.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/spi.h"

/*
 * A distributed table's tree ends above its buckets: with the relations that
 * are partitioned and whose children are buckets.
 */
List *
fa_tree_read(Oid root)
{
	List	   *tree = NIL;
	FaRows	   *rows;

	rows = fa_spi_rows("WITH RECURSIVE tree AS ("
					   "  SELECT c.oid, 0::oid AS parent, 0 AS depth"
					   "    FROM pg_catalog.pg_class c WHERE c.oid = %u"
					   "  UNION ALL"
					   "  SELECT i.inhrelid, i.inhparent, t.depth + 1"
					   "    FROM pg_catalog.pg_inherits i"
					   "    JOIN tree t ON i.inhparent = t.oid"
					   "   WHERE NOT EXISTS (SELECT FROM fragaffinity.fragment f"
					   "                      WHERE f.home = i.inhrelid)) "
					   "SELECT t.oid, t.parent, n.nspname, c.relname,"
					   "  pg_catalog.pg_get_expr(c.relpartbound, c.oid),"
					   "  pg_catalog.pg_get_partkeydef(c.oid),"
					   "  NOT EXISTS (SELECT FROM tree s WHERE s.parent = t.oid)"
					   "    AND (c.relkind = 'r' OR EXISTS"
					   "      (SELECT FROM pg_catalog.pg_inherits i"
					   "         JOIN fragaffinity.fragment f ON f.home = i.inhrelid"
					   "        WHERE i.inhparent = t.oid)) "
					   "FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid "
					   "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
					   "ORDER BY t.depth, n.nspname, c.relname",
					   root);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		FaTreeRel  *r = palloc0(sizeof(FaTreeRel));

		r->rel = atooid(row[0]);
		r->parent = atooid(row[1]);
		r->schema = row[2];
		r->name = row[3];
		r->qualified = quote_qualified_identifier(r->schema, r->name);
		r->bound = row[4];
		r->leaf = row[6][0] == 't';
		/* A distributed partition's key is ours, not the user's. */
		r->partition_key = r->leaf ? NULL : row[5];
		tree = lappend(tree, r);
	}
	return tree;
}

static FaTreeRel *
tree_find(List *tree, Oid rel)
{
	ListCell   *lc;

	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		if (r->rel == rel)
			return r;
	}
	elog(ERROR, "relation %u has no parent in its tree", rel);
}

char *
fa_tree_create_rel(List *tree, FaTreeRel *r, const char *key,
				   const char *options)
{
	StringInfoData buf;
	char	   *own;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE TABLE %s ", r->qualified);
	if (OidIsValid(r->parent))
		appendStringInfo(&buf, "PARTITION OF %s %s",
						 tree_find(tree, r->parent)->qualified, r->bound);
	else
		appendStringInfo(&buf, "(%s%s)", fa_text_columns(r->rel, true),
						 fa_text_checks(r->rel));
	if (!r->leaf)
		appendStringInfo(&buf, " PARTITION BY %s", r->partition_key);
	else if (key)
		appendStringInfo(&buf, " PARTITION BY HASH (%s)", quote_identifier(key));
	else
	{
		own = fa_spi_value("SELECT ' WITH (' || (%s::pg_catalog.jsonb->>%s) || ')'",
						   quote_literal_cstr(options),
						   quote_literal_cstr(r->qualified));
		if (own)
			appendStringInfoString(&buf, own);
	}
	return buf.data;
}

List *
fa_tree_belongings(FaTreeRel *r)
{
	List	   *list = fa_text_owner(r->rel, r->qualified);

	list = list_concat(list, fa_text_grants(r->rel, r->qualified));
	return list_concat(list, fa_text_comments(r->rel, r->qualified));
}

List *
fa_tree_create(List *tree, List *sequences, int node, const char *key,
			   const char *options)
{
	List	   *list = fa_sequence_before(sequences, node);
	ListCell   *lc;

	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		list = lappend(list, fa_tree_create_rel(tree, r, key, options));
		if (!OidIsValid(r->parent))
		{
			list = list_concat(list, fa_sequence_after(sequences, r->qualified,
													   node));
			list = list_concat(list, fa_text_column_options(r->rel, r->qualified,
															true));
		}
		list = list_concat(list, fa_tree_belongings(r));
	}
	return list;
}

/*
 * What is made once the rows are in: on a distributed table the secondary
 * indexes reach every heap leaf, statistics targets every leaf.  Row security,
 * too: rows come in as the owner's, for whom it may hold.
 */
List *
fa_tree_finish(List *tree, bool distributed)
{
	FaTreeRel  *root = linitial(tree);
	List	   *list = fa_text_indexes(root->rel, root->qualified);

	list = list_concat(list, fa_text_statistics(root->rel, root->qualified));
	list = list_concat(list, fa_text_policies(root->rel, root->qualified));
	if (distributed)
		list = lappend(list, psprintf("SELECT fragaffinity.secure_buckets(%s::pg_catalog.regclass)",
									  quote_literal_cstr(root->qualified)));
	return list_concat(list, fa_text_column_options(root->rel, root->qualified,
													false));
}

/* Storage options of the relations that hold rows, by name, as jsonb. */
char *
fa_tree_options(Oid root)
{
	return fa_spi_value("WITH o AS ("
						"  SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name,"
						"    pg_catalog.array_to_string(c.reloptions || ARRAY("
						"      SELECT 'toast.' || x FROM pg_catalog.unnest(t.reloptions) x), ', ') AS options"
						"    FROM (SELECT relid FROM pg_catalog.pg_partition_tree(%u)"
						"          UNION SELECT %u) p"
						"    JOIN pg_catalog.pg_class c ON c.oid = p.relid AND c.relkind = 'r'"
						"    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						"    LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid) "
						"SELECT coalesce(pg_catalog.jsonb_object_agg(name, options), '{}') "
						"FROM o WHERE options <> ''", root, root);
}

/* Replica identities that are not the default, as statements, as jsonb. */
char *
fa_tree_identities(Oid root)
{
	return fa_spi_value("SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.format("
						"    'ALTER TABLE %%I.%%I REPLICA IDENTITY %%s', n.nspname, c.relname,"
						"    CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'"
						"      ELSE 'USING INDEX ' || (SELECT pg_catalog.quote_ident(x.relname)"
						"        FROM pg_catalog.pg_index i"
						"        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
						"       WHERE i.indrelid = c.oid AND i.indisreplident) END)), '[]') "
						"FROM (SELECT relid FROM pg_catalog.pg_partition_tree(%u)"
						"      UNION SELECT %u) p "
						"JOIN pg_catalog.pg_class c ON c.oid = p.relid AND c.relkind = 'r'"
						"  AND c.relreplident IN ('f', 'n', 'i') "
						"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
						root, root);
}

/*
 * Frees the names: tables, their indexes, constraints and sequences go to a
 * schema made for that, whose name is returned.
 */
char *
fa_tree_move_away(List *tree)
{
	FaTreeRel  *root = linitial(tree);
	char	   *schema = psprintf("fragaffinity_old_%u", root->rel);
	ListCell   *lc;

	fa_spi_exec("CREATE SCHEMA %s", schema);
	/* its rows are read as the owner's, for whom it may hold */
	fa_spi_exec("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", root->qualified);
	fa_table_secure_buckets(root->rel);
	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		fa_spi_exec("ALTER TABLE %s SET SCHEMA %s", r->qualified, schema);
		/* Two partitions may share a name in different schemas. */
		fa_spi_exec("ALTER TABLE %s.%s RENAME TO old_%u", schema,
					quote_identifier(r->name), r->rel);
	}
	return schema;
}
