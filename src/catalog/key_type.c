/*
 * key_type.c
 *	  The type of a table's key, as fragments are divided by it.
 *
 * Keys are compared and written as bounds by ourselves.  Reading one as the key's
 * type checks it, where a domain is a part of that; and the check may be a
 * function of somebody who is not to have our rights.
 */
#include "postgres.h"

#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "catalog/reshape.h"
#include "core/spi.h"

char *
fa_key_cast(int table_id)
{
	FaTable    *table = fa_map_table_by_id(table_id);

	return fa_spi_value("SELECT '::' || pg_catalog.format_type(a.atttypid, a.atttypmod) ||"
						"  CASE WHEN c.oid IS NULL THEN '' ELSE"
						"    pg_catalog.format(' COLLATE %%I.%%I', n.nspname, c.collname) END "
						"FROM pg_catalog.pg_attribute a "
						"LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation "
						"LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace "
						"WHERE a.attrelid = %u AND a.attnum = %d",
						table->rel, table->key);
}

void
fa_key_check_type(int table_id)
{
	FaTable    *table = fa_map_table_by_id(table_id);
	char	   *checked = fa_spi_value("WITH RECURSIVE part(type) AS ("
									   "  SELECT atttypid FROM pg_catalog.pg_attribute"
									   "   WHERE attrelid = %u AND attnum = %d "
									   "  UNION SELECT x.type FROM part"
									   "    JOIN pg_catalog.pg_type t ON t.oid = part.type,"
									   "    LATERAL (SELECT typbasetype UNION ALL SELECT typelem"
									   "      UNION ALL SELECT rngsubtype FROM pg_catalog.pg_range"
									   "        WHERE rngtypid = t.oid"
									   "      UNION ALL SELECT rngtypid FROM pg_catalog.pg_range"
									   "        WHERE rngmultitypid = t.oid"
									   "      UNION ALL SELECT atttypid FROM pg_catalog.pg_attribute"
									   "        WHERE attrelid = t.typrelid AND attnum > 0) x(type)"
									   "   WHERE x.type <> 0) "
									   "SELECT pg_catalog.min(pg_catalog.format_type(part.type, NULL))"
									   "  FROM part JOIN pg_catalog.pg_constraint c"
									   "    ON c.contypid = part.type AND c.contype = 'c'",
									   table->rel, table->key);

	if (checked)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("fragments of table \"%s\" cannot be divided by key",
						get_rel_name(table->rel)),
				 errdetail("Its key has values of domain %s, which has a CHECK constraint.",
						   checked),
				 errhint("Make the constraint one of the table.")));
}
