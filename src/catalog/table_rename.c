/*
 * table_rename.c
 *	  What is kept of a distributed table by name, when that changes.
 *
 * Nearly everything is kept by OIDs and numbers.  In the table's definition are
 * options of heaps, by the name of the partition that they are below, and statements
 * that undistribute_table gives replica identities back by.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/table_ddl.h"
#include "catalog/table_move.h"

void
fa_table_renamed(Oid root, const char *was)
{
	char	   *name = fa_table_qualified_name(root);

	fa_table_run_everywhere(psprintf("UPDATE fragaffinity.distributed_table"
									 " SET definition = definition || pg_catalog.jsonb_build_object("
									 "  'options', (SELECT coalesce(pg_catalog.jsonb_object_agg("
									 "      CASE o.key WHEN was THEN name ELSE o.key END, o.value), '{}')"
									 "    FROM pg_catalog.jsonb_each(definition->'options') o),"
									 "  'identities', (SELECT coalesce(pg_catalog.jsonb_agg("
									 "      CASE WHEN pg_catalog.starts_with(i, alter || was || ' ')"
									 "        THEN alter || name || pg_catalog.substr(i, pg_catalog.length(alter || was) + 1)"
									 "        ELSE i END), '[]')"
									 "    FROM pg_catalog.jsonb_array_elements_text(definition->'identities') i)) "
									 "FROM (SELECT %s::text, %s::text, 'ALTER TABLE '::text) n(was, name, alter) "
									 "WHERE rel = %s::pg_catalog.regclass",
									 quote_literal_cstr(was), quote_literal_cstr(name),
									 quote_literal_cstr(name)));
}

void
fa_table_index_renamed(Oid root, const char *was, const char *name)
{
	fa_table_run_everywhere(psprintf("UPDATE fragaffinity.distributed_table"
									 " SET definition = pg_catalog.jsonb_set(definition, '{identities}',"
									 "  (SELECT pg_catalog.jsonb_agg("
									 "      CASE WHEN pg_catalog.right(i, pg_catalog.length(was)) = was"
									 "        THEN pg_catalog.left(i, - pg_catalog.length(was)) || name"
									 "        ELSE i END)"
									 "    FROM pg_catalog.jsonb_array_elements_text(definition->'identities') i)) "
									 "FROM (SELECT %s::text, %s::text) n(was, name) "
									 "WHERE rel = %s::pg_catalog.regclass"
									 " AND definition->'identities' <> '[]'",
									 quote_literal_cstr(psprintf(" USING INDEX %s", quote_identifier(was))),
									 quote_literal_cstr(psprintf(" USING INDEX %s", quote_identifier(name))),
									 quote_literal_cstr(fa_table_qualified_name(root))));
}
