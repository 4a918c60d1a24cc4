/*
 * table_text.c
 *	  DDL text from the catalogs.
 *
 * The same text runs on every node, so all of it is written under an empty
 * search_path: every name that is not of pg_catalog comes out qualified.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/table_text.h"
#include "core/spi.h"

/* NOT NULL has a name from 18 on. */
char *
fa_text_columns(Oid rel, bool with_defaults)
{
	return fa_spi_value("SELECT pg_catalog.string_agg(pg_catalog.concat("
						"  pg_catalog.quote_ident(a.attname), ' ',"
						"  pg_catalog.format_type(a.atttypid, a.atttypmod),"
						"  CASE WHEN a.attcollation <> t.typcollation THEN"
						"    (SELECT pg_catalog.format(' COLLATE %%I.%%I', n.nspname, c.collname)"
						"       FROM pg_catalog.pg_collation c"
						"       JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace"
						"      WHERE c.oid = a.attcollation) END,"
						"  CASE WHEN d.adbin IS NULL THEN NULL"
						"    WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS AS ('"
						"      || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || ') '"
						"      || CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END"
						"    WHEN %s THEN ' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)"
						"    END,"
						"  (SELECT ' CONSTRAINT ' || pg_catalog.quote_ident(k.conname)"
						"     FROM pg_catalog.pg_constraint k"
						"    WHERE k.conrelid = a.attrelid AND k.contype = 'n'"
						"      AND k.conkey[1] = a.attnum),"
						"  CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', '"
						"  ORDER BY a.attnum) "
						"FROM pg_catalog.pg_attribute a "
						"JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
						"LEFT JOIN pg_catalog.pg_attrdef d"
						"  ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
						"WHERE a.attrelid = %u AND a.attnum > 0 AND NOT a.attisdropped",
						with_defaults ? "true" : "false", rel);
}

char *
fa_text_column_names(Oid rel)
{
	char	   *names;

	names = fa_spi_value("SELECT pg_catalog.string_agg("
						 "  pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) "
						 "FROM pg_catalog.pg_attribute "
						 "WHERE attrelid = %u AND attnum > 0 AND NOT attisdropped"
						 "  AND attgenerated = ''", rel);
	return names ? names : pstrdup("");
}

/* NO INHERIT means nothing to a table without children: it is dropped. */
char *
fa_text_checks(Oid rel)
{
	char	   *checks;

	checks = fa_spi_value("SELECT pg_catalog.string_agg(pg_catalog.format("
						  "  ', CONSTRAINT %%I %%s', conname, pg_catalog.regexp_replace("
						  "    pg_catalog.pg_get_constraintdef(oid), ' NO INHERIT$', '')),"
						  "  '' ORDER BY conname) "
						  "FROM pg_catalog.pg_constraint "
						  "WHERE conrelid = %u AND contype = 'c'", rel);
	return checks ? checks : pstrdup("");
}

/* First column of every row. */
static List *
statements(FaRows *rows)
{
	List	   *list = NIL;

	for (int i = 0; i < rows->nrows; i++)
		if (rows->value[i][0])
			list = lappend(list, rows->value[i][0]);
	return list;
}

List *
fa_text_owner(Oid from, const char *to)
{
	return statements(fa_spi_rows("SELECT pg_catalog.format("
								  "'ALTER TABLE %%s OWNER TO %%I', %s,"
								  "  pg_catalog.pg_get_userbyid(relowner)) "
								  "FROM pg_catalog.pg_class WHERE oid = %u",
								  quote_literal_cstr(to), from));
}

/*
 * Grants of the table and of its columns.  The grantor becomes the owner, as
 * after pg_dump without the chain.
 */
List *
fa_text_grants(Oid from, const char *to)
{
	const char *q = quote_literal_cstr(to);

	return statements(fa_spi_rows("WITH g AS ("
								  "  SELECT x.*, NULL::name AS col, c.relowner"
								  "    FROM pg_catalog.pg_class c,"
								  "      pg_catalog.aclexplode(c.relacl) x WHERE c.oid = %u"
								  "  UNION ALL"
								  "  SELECT x.*, a.attname, c.relowner"
								  "    FROM pg_catalog.pg_class c"
								  "    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid,"
								  "      pg_catalog.aclexplode(a.attacl) x WHERE c.oid = %u)"
								  "SELECT pg_catalog.format('REVOKE ALL ON %%s FROM %%I', %s,"
								  "    pg_catalog.pg_get_userbyid(c.relowner)) "
								  "  FROM pg_catalog.pg_class c WHERE c.oid = %u"
								  "   AND c.relacl IS NOT NULL "
								  "UNION ALL "
								  "SELECT pg_catalog.format('GRANT %%s%%s ON %%s TO %%s%%s',"
								  "    privilege_type,"
								  "    '(' || pg_catalog.quote_ident(col) || ')', %s,"
								  "    CASE grantee WHEN 0 THEN 'PUBLIC'"
								  "      ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END,"
								  "    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)"
								  "  FROM g",
								  from, from, q, from, q));
}

List *
fa_text_sequence_grants(Oid sequence, const char *to)
{
	return statements(fa_spi_rows("SELECT pg_catalog.format('GRANT %%s ON SEQUENCE %%s TO %%s%%s',"
								  "  privilege_type, %s,"
								  "  CASE grantee WHEN 0 THEN 'PUBLIC'"
								  "    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END,"
								  "  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END) "
								  "FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) "
								  "WHERE c.oid = %u AND grantee <> c.relowner",
								  quote_literal_cstr(to), sequence));
}

List *
fa_text_comments(Oid from, const char *to)
{
	const char *q = quote_literal_cstr(to);

	return statements(fa_spi_rows("SELECT CASE WHEN d.objsubid = 0"
								  "  THEN pg_catalog.format('COMMENT ON TABLE %%s IS %%L', %s, d.description)"
								  "  ELSE pg_catalog.format('COMMENT ON COLUMN %%s.%%I IS %%L', %s,"
								  "    (SELECT attname FROM pg_catalog.pg_attribute"
								  "      WHERE attrelid = d.objoid AND attnum = d.objsubid),"
								  "    d.description) END "
								  "FROM pg_catalog.pg_description d "
								  "WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass"
								  "  AND d.objoid = %u "
								  "UNION ALL "
								  "SELECT pg_catalog.format('COMMENT ON CONSTRAINT %%I ON %%s IS %%L',"
								  "  c.conname, %s, d.description) "
								  "FROM pg_catalog.pg_constraint c "
								  "JOIN pg_catalog.pg_description d ON d.objoid = c.oid"
								  "  AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass "
								  "WHERE c.conrelid = %u AND (c.contype = 'c'"
								  "  OR c.contype = 'n' AND c.coninhcount = 0)",
								  q, q, from, q, from));
}

/*
 * What CREATE TABLE cannot say of columns.  Storage and compression pass on
 * to partitions made later, the rest has to be said of each leaf.  Newer
 * servers keep something of their own in attoptions (pg_attver), which is not
 * ours to copy.
 */
List *
fa_text_column_options(Oid from, const char *to, bool storage)
{
	return statements(fa_spi_rows("SELECT pg_catalog.format('ALTER TABLE %%s ALTER COLUMN %%I %%s',"
								  "  %s, a.attname, o.what) "
								  "FROM pg_catalog.pg_attribute a "
								  "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid,"
								  "  LATERAL (VALUES"
								  "    (CASE WHEN %s AND a.attstorage <> t.typstorage THEN"
								  "       'SET STORAGE ' || CASE a.attstorage WHEN 'p' THEN 'PLAIN'"
								  "         WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'"
								  "         ELSE 'EXTENDED' END END),"
								  "    (CASE WHEN %s THEN CASE a.attcompression WHEN 'p' THEN"
								  "       'SET COMPRESSION pglz' WHEN 'l' THEN 'SET COMPRESSION lz4' END END),"
								  "    (CASE WHEN a.attstattarget >= 0 THEN"
								  "       'SET STATISTICS ' || a.attstattarget END),"
								  "    ('SET (' || (SELECT pg_catalog.string_agg(x, ', ')"
								  "       FROM pg_catalog.unnest(a.attoptions) x"
								  "      WHERE x NOT LIKE 'pg\\_%%') || ')')"
								  "  ) o(what) "
								  "WHERE a.attrelid = %u AND a.attnum > 0"
								  "  AND NOT a.attisdropped AND o.what IS NOT NULL "
								  "ORDER BY a.attnum",
								  quote_literal_cstr(to), storage ? "true" : "false",
								  storage ? "true" : "false", from));
}

/*
 * SQL expression: what follows USING in the definition of index i.indexrelid,
 * whose name is c.relname.  pg_get_indexdef() qualifies the table's name, and
 * so does regclass under our search_path.
 */
#define INDEX_TAIL \
	"pg_catalog.substr(pg_catalog.pg_get_indexdef(i.indexrelid)," \
	"  1 + pg_catalog.length(pg_catalog.format('CREATE %%s ON %%s%%s USING '," \
	"    CASE WHEN i.indisunique THEN 'UNIQUE INDEX ' ELSE 'INDEX ' END" \
	"      || pg_catalog.quote_ident(c.relname)," \
	"    CASE c.relkind WHEN 'I' THEN 'ONLY ' END," \
	"    i.indrelid::pg_catalog.regclass)))"

/*
 * Secondary indexes with their comments; partitions of a parent's index are
 * left out.  Unique ones are templates, see table_unique.c.
 */
List *
fa_text_indexes(Oid from, const char *to)
{
	return statements(fa_spi_rows("WITH i AS ("
								  "  SELECT c.oid, c.relname, n.nspname, " INDEX_TAIL " AS tail"
								  "    FROM pg_catalog.pg_index i"
								  "    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
								  "    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
								  "   WHERE i.indrelid = %u AND NOT i.indisunique"
								  "     AND NOT i.indisexclusion AND NOT c.relispartition)"
								  "SELECT s FROM ("
								  "  SELECT oid, 1, pg_catalog.format("
								  "      'CREATE INDEX %%I ON %%s USING %%s', relname, %s, tail) FROM i"
								  "  UNION ALL"
								  "  SELECT i.oid, 2, pg_catalog.format('COMMENT ON INDEX %%I.%%I IS %%L',"
								  "      nspname, relname, d.description)"
								  "    FROM i JOIN pg_catalog.pg_description d ON d.objoid = i.oid"
								  "     AND d.objsubid = 0"
								  "     AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass"
								  "  ) x(oid, step, s) ORDER BY oid, step",
								  from, quote_literal_cstr(to)));
}

/*
 * Secondary indexes that a table must still get to have all of its parent's:
 * what follows USING, once for each.
 */
List *
fa_text_missing_indexes(Oid parent, Oid heap)
{
	return statements(fa_spi_rows("WITH t AS ("
								  "  SELECT i.indrelid, " INDEX_TAIL " AS tail"
								  "    FROM pg_catalog.pg_index i"
								  "    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
								  "   WHERE i.indrelid IN (%u, %u) AND NOT i.indisunique"
								  "     AND NOT i.indisexclusion)"
								  "SELECT tail FROM t "
								  "WHERE indrelid = %u GROUP BY tail "
								  "HAVING pg_catalog.count(*) > (SELECT pg_catalog.count(*)"
								  "  FROM t h WHERE h.indrelid = %u AND h.tail = t.tail)",
								  parent, heap, parent, heap));
}

/*
 * Unique indexes and constraints as jsonb: name, whether a constraint and
 * the primary key, its definition, comment, and the columns that it names
 * anywhere.
 */
char *
fa_text_unique(Oid rel)
{
	return fa_spi_value("SELECT coalesce(pg_catalog.jsonb_agg("
						"  pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
						"    'name', c.relname, 'constraint', k.oid IS NOT NULL,"
						"    'primary', i.indisprimary,"
						"    'columns', (SELECT pg_catalog.jsonb_agg(DISTINCT a.attname)"
						"       FROM pg_catalog.pg_attribute a"
						"      WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey)"
						"         OR EXISTS (SELECT FROM pg_catalog.pg_depend d"
						"           WHERE d.objid IN (c.oid, k.oid) AND d.refobjid = a.attrelid"
						"             AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
						"             AND d.refobjsubid = a.attnum))),"
						"    'definition', CASE WHEN k.oid IS NULL THEN " INDEX_TAIL
						"      ELSE pg_catalog.pg_get_constraintdef(k.oid) END,"
						"    'comment', pg_catalog.obj_description(coalesce(k.oid, c.oid),"
						"      CASE WHEN k.oid IS NULL THEN 'pg_class' ELSE 'pg_constraint' END)))"
						"  ORDER BY NOT i.indisprimary, c.relname), '[]') "
						"FROM pg_catalog.pg_index i "
						"JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
						"LEFT JOIN pg_catalog.pg_constraint k"
						"  ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')"
						"  AND k.conrelid = i.indrelid "
						"WHERE i.indrelid = %u AND (i.indisunique OR i.indisexclusion)", rel);
}

List *
fa_text_statistics(Oid from, const char *to)
{
	return statements(fa_spi_rows("SELECT pg_catalog.regexp_replace("
								  "  pg_catalog.pg_get_statisticsobjdef(s.oid), ' FROM .*?$', '')"
								  "  || ' FROM ' || %s "
								  "FROM pg_catalog.pg_statistic_ext s "
								  "WHERE s.stxrelid = %u ORDER BY s.oid",
								  quote_literal_cstr(to), from));
}

/* Row security: that there is, that it holds for the owner, too, and policies. */
List *
fa_text_policies(Oid from, const char *to)
{
	const char *q = quote_literal_cstr(to);

	return statements(fa_spi_rows("SELECT pg_catalog.format("
								  "  'CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s%%s%%s',"
								  "    polname, %s,"
								  "    CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,"
								  "    CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'"
								  "      WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,"
								  "    (SELECT pg_catalog.string_agg(CASE x WHEN 0 THEN 'PUBLIC'"
								  "       ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x)) END, ', ')"
								  "       FROM pg_catalog.unnest(polroles) x),"
								  "    ' USING (' || pg_catalog.pg_get_expr(polqual, polrelid) || ')',"
								  "    ' WITH CHECK (' || pg_catalog.pg_get_expr(polwithcheck, polrelid) || ')') "
								  "FROM pg_catalog.pg_policy WHERE polrelid = %u "
								  "UNION ALL "
								  "SELECT pg_catalog.format('COMMENT ON POLICY %%I ON %%s IS %%L', p.polname,"
								  "    %s, d.description) "
								  "FROM pg_catalog.pg_policy p "
								  "JOIN pg_catalog.pg_description d ON d.objoid = p.oid"
								  "  AND d.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass "
								  "WHERE p.polrelid = %u "
								  "UNION ALL "
								  "SELECT pg_catalog.format('ALTER TABLE %%s %%s ROW LEVEL SECURITY', %s, what) "
								  "FROM pg_catalog.pg_class, LATERAL (VALUES"
								  "  (CASE WHEN relrowsecurity THEN 'ENABLE' END),"
								  "  (CASE WHEN relforcerowsecurity THEN 'FORCE' END)) x(what) "
								  "WHERE oid = %u AND what IS NOT NULL",
								  q, from, q, from, q, from));
}
