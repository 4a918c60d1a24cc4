/*
 * layout.c
 *	  What the bytes of a table's pages depend on.
 *
 * Values that hold OIDs of one server's catalog would mean something else on
 * another, or nothing: so every type must be built in (those have the same
 * OIDs wherever the catalog version is the same) and must not itself be a
 * reference into the catalog.  A dropped column or a value that rows lack
 * (ALTER TABLE ... ADD COLUMN ... DEFAULT) is known to one catalog only.  The
 * order of an index depends on the versions of its collations.  An index that is
 * not valid, for good or while another is built in its place, does not count.
 */
#include "postgres.h"

#include "catalog/catversion.h"
#include "catalog/pg_control.h"
#include "access/heaptoast.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "page/layout.h"

#ifdef WORDS_BIGENDIAN
#define BYTE_ORDER_NAME "big-endian"
#else
#define BYTE_ORDER_NAME "little-endian"
#endif

/* Access methods whose pages page/image.h knows. */
#define PROVEN_METHODS	"'btree', 'hash', 'gin', 'gist', 'spgist', 'brin'"

/* Built-in types that point into the catalog, and those of the catalog alone. */
#define TYPES_OF_ONE_SERVER \
	"'oid', 'oidvector', 'aclitem', 'pg_node_tree', 'pg_ndistinct', " \
	"'pg_dependencies', 'pg_mcv_list'"

/* Columns of the table and its indexes whose values belong to one server. */
#define BAD_COLUMNS \
	"WITH RECURSIVE rels AS (" \
	" SELECT %u::pg_catalog.oid AS rel UNION ALL " \
	" SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = %u" \
	"), types AS (" \
	" SELECT a.attrelid, a.attnum, a.attname, a.atttypid AS top, a.atttypid AS type " \
	" FROM pg_catalog.pg_attribute a JOIN rels ON rel = a.attrelid " \
	" WHERE a.attnum > 0 AND NOT a.attisdropped " \
	" UNION " \
	" SELECT x.attrelid, x.attnum, x.attname, x.top, " \
	"  CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END " \
	" FROM types x JOIN pg_catalog.pg_type t ON t.oid = x.type " \
	" WHERE t.typtype = 'd' OR (t.typelem <> 0 AND t.typlen = -1)" \
	"), bad AS (" \
	" SELECT x.attrelid, pg_catalog.min(pg_catalog.format(" \
	"  'column %%I is of type %%s, whose values belong to one server', " \
	"  x.attname, pg_catalog.format_type(x.top, NULL))) AS problem " \
	" FROM types x JOIN pg_catalog.pg_type t ON t.oid = x.type " \
	" WHERE t.typtype <> 'd' AND (t.typtype <> 'p' OR x.attrelid = %u) " \
	" AND (t.oid >= 12000 OR t.typtype IN ('c', 'e', 'p') " \
	"  OR t.typname ~ '^reg' OR t.typname IN (" TYPES_OF_ONE_SERVER "))" \
	" GROUP BY x.attrelid) "

#define HEAP_ROW \
	"SELECT 1 AS ordinal, 'heap' AS kind, c.oid AS relation, " \
	" (SELECT pg_catalog.string_agg(pg_catalog.format('%%s %%I %%s', a.attnum, " \
	"   a.attname, CASE WHEN a.atttypid <> 0 " \
	"   THEN pg_catalog.format_type(a.atttypid, a.atttypmod) END), ', ' " \
	"   ORDER BY a.attnum) " \
	"  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) " \
	" AS description, " \
	" CASE WHEN m.amname <> 'heap' THEN 'its access method is ' || m.amname " \
	"  WHEN c.relpersistence <> 'p' THEN 'it is not logged' " \
	"  ELSE COALESCE(" \
	"   (SELECT pg_catalog.min(CASE WHEN a.attisdropped THEN 'a column was dropped' " \
	"    ELSE pg_catalog.format('rows lack the default of column %%I', a.attname) END) " \
	"    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid " \
	"    AND a.attnum > 0 AND (a.attisdropped OR a.atthasmissing)), " \
	"   (SELECT b.problem FROM bad b WHERE b.attrelid = c.oid)) END AS problem " \
	"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am m ON m.oid = c.relam " \
	"WHERE c.oid = %u "

#define TOAST_ROWS \
	"UNION ALL SELECT 2, 'toast', c.reltoastrelid, 'toast', NULL " \
	"FROM pg_catalog.pg_class c WHERE c.oid = %u AND c.reltoastrelid <> 0 " \
	"UNION ALL SELECT 3, 'toast index', i.indexrelid, 'toast index', NULL " \
	"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i " \
	" ON i.indrelid = c.reltoastrelid AND i.indisvalid WHERE c.oid = %u "

/* Names and versions of what orders an index; names of operator classes. */
#define INDEX_ORDER \
	" (SELECT pg_catalog.string_agg(pg_catalog.format('%%I.%%I', n.nspname, p.opcname), ' ' " \
	"   ORDER BY u.ordinality) " \
	"  FROM ROWS FROM (pg_catalog.unnest(i.indclass::pg_catalog.oid[])) WITH ORDINALITY AS u(opclass) " \
	"  JOIN pg_catalog.pg_opclass p ON p.oid = u.opclass " \
	"  JOIN pg_catalog.pg_namespace n ON n.oid = p.opcnamespace), " \
	" (SELECT pg_catalog.string_agg(CASE WHEN l.oid IS NULL THEN '-' " \
	"   WHEN l.collname IN ('C', 'POSIX') THEN 'C' " \
	"   WHEN l.oid = 100 THEN pg_catalog.concat_ws('/', d.datlocprovider, d.datcollate, " \
	"    d.datctype, pg_catalog.pg_database_collation_actual_version(d.oid)) " \
	"   ELSE pg_catalog.concat_ws('/', l.collprovider, l.collisdeterministic, l.collname, " \
	"    l.collcollate, l.collctype, pg_catalog.pg_collation_actual_version(l.oid)) END, ' ' " \
	"   ORDER BY u.ordinality) " \
	"  FROM ROWS FROM (pg_catalog.unnest(i.indcollation::pg_catalog.oid[])) WITH ORDINALITY AS u(coll) " \
	"  LEFT JOIN pg_catalog.pg_collation l ON l.oid = u.coll " \
	"  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database())"

#define INDEX_ROWS \
	"UNION ALL SELECT 4, 'index', i.indexrelid, " \
	" pg_catalog.concat_ws(' | ', m.amname, i.indisunique, i.indisprimary, i.indisexclusion, " \
	"  i.indnullsnotdistinct, i.indnkeyatts, i.indkey, i.indoption, " INDEX_ORDER ", " \
	"  (SELECT pg_catalog.string_agg(pg_catalog.format_type(a.atttypid, a.atttypmod), ' ' " \
	"    ORDER BY a.attnum) FROM pg_catalog.pg_attribute a " \
	"   WHERE a.attrelid = i.indexrelid AND a.attnum > 0), " \
	"  COALESCE(pg_catalog.pg_get_expr(i.indexprs, i.indrelid), '-'), " \
	"  COALESCE(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '-')), " \
	" CASE WHEN m.amname NOT IN (" PROVEN_METHODS ") " \
	"   THEN pg_catalog.format('index %%I uses access method %%I', c.relname, m.amname) " \
	"  WHEN EXISTS (SELECT FROM pg_catalog.unnest(i.indclass::pg_catalog.oid[]) AS u(opclass) " \
	"    WHERE u.opclass >= 12000) " \
	"   THEN pg_catalog.format('index %%I has an operator class that is not built in', c.relname) " \
	"  ELSE (SELECT b.problem FROM bad b WHERE b.attrelid = c.oid) END " \
	"FROM pg_catalog.pg_index i " \
	"JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid " \
	"JOIN pg_catalog.pg_am m ON m.oid = c.relam " \
	"WHERE i.indrelid = %u AND i.indisvalid "

/* The server itself. */
#define SERVER_ROW \
	"UNION ALL SELECT 0, 'server', 0::pg_catalog.oid, pg_catalog.concat_ws(' ', " \
	" %d, %d, %d, %d, %d, '" BYTE_ORDER_NAME "', pg_catalog.getdatabaseencoding(), " \
	" (SELECT pg_catalog.array_to_string(enumvals, ',') FROM pg_catalog.pg_settings " \
	"  WHERE name = 'default_toast_compression')), NULL "

PG_FUNCTION_INFO_V1(fa_sql_page_layout);

FaRows *
fa_layout_read(Oid heap)
{
	return fa_spi_rows("SELECT " FA_LAYOUT_COLUMNS " FROM ("
					   BAD_COLUMNS HEAP_ROW TOAST_ROWS INDEX_ROWS SERVER_ROW
					   ") rows ORDER BY ordinal, description COLLATE \"C\", relation",
					   heap, heap, heap, heap, heap, heap, heap,
					   PG_CONTROL_VERSION, CATALOG_VERSION_NO, BLCKSZ,
					   MAXIMUM_ALIGNOF, (int) TOAST_MAX_CHUNK_SIZE);
}

/* page_layout(rel): rows as fa_layout_read() has them */
Datum
fa_sql_page_layout(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FaRows	   *rows;

	InitMaterializedSRF(fcinfo, 0);
	rows = fa_layout_read(PG_GETARG_OID(0));
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **row = rows->value[i];
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(row[FA_LAYOUT_KIND]);
		values[1] = ObjectIdGetDatum(atooid(row[FA_LAYOUT_RELATION]));
		values[2] = CStringGetTextDatum(row[FA_LAYOUT_DESCRIPTION]);
		nulls[3] = row[FA_LAYOUT_PROBLEM] == NULL;
		values[3] = nulls[3] ? (Datum) 0 :
			CStringGetTextDatum(row[FA_LAYOUT_PROBLEM]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
