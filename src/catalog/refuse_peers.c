/*
 * refuse_peers.c
 *	  What stands in the way on other nodes, and in sequences that all nodes
 *	  have to share.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

void
fa_refuse_sequences(Oid rel, List *sequences)
{
	char	   *foreign;
	ListCell   *lc;

	/* A default that draws from a sequence that is not the column's own. */
	foreign = fa_spi_value("SELECT c.relname FROM pg_catalog.pg_attrdef a "
						   "JOIN pg_catalog.pg_depend d ON d.objid = a.oid"
						   "  AND d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
						   "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
						   "JOIN pg_catalog.pg_class c ON c.oid = d.refobjid AND c.relkind = 'S' "
						   "WHERE a.adrelid = %u AND NOT EXISTS"
						   "  (SELECT FROM pg_catalog.pg_depend o WHERE o.objid = c.oid"
						   "    AND o.refobjid = a.adrelid AND o.deptype IN ('a', 'i')"
						   "    AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)",
						   rel);
	if (foreign)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a default uses sequence \"%s\", which is not the column's own",
						foreign),
				 errhint("Use ALTER SEQUENCE ... OWNED BY the column, or an identity column.")));
	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);
		int			stride = fa_sequence_stride(s);
		ListCell   *nc;

		if (stride == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("sequence \"%s\" of type %s is too small to be shared by nodes",
							s->name, s->type),
					 errhint("Make the column and its sequence bigint.")));
		if (s->increment <= 0 || s->cycle)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("sequence \"%s\" descends or cycles", s->name),
					 errdetail("Such a sequence cannot give unique values on several nodes.")));
		foreach(nc, fa_node_list())
		{
			FaNode	   *node = lfirst(nc);

			if (node->id >= stride)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("sequence \"%s\" of type %s cannot be shared with node \"%s\", number %d",
								s->name, s->type, node->name, node->id),
						 errhint("Make the column and its sequence bigint.")));
		}
	}
}

static void
append_literal(StringInfo buf, const char *name)
{
	appendStringInfo(buf, "%s%s", buf->len ? ", " : "",
					 quote_literal_cstr(name));
}

/* First of some names for which a condition on x holds on a peer, or NULL. */
static char *
peer_finds(FaConn *conn, const char *names, const char *condition)
{
	return fa_remote_value(conn, 0, "SELECT x FROM pg_catalog.unnest("
						   "ARRAY[%s]::pg_catalog.text[]) x WHERE %s LIMIT 1",
						   names, condition);
}

static void
refuse_schemas(FaConn *conn, const char *schemas)
{
	char	   *found = peer_finds(conn, schemas,
								   "pg_catalog.to_regnamespace(x) IS NULL");

	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("node \"%s\" has no schema %s", conn->name, found),
				 errhint("Create the schema there.")));
}

void
fa_refuse_peers_schema(const char *schema)
{
	ListCell   *lc;

	foreach(lc, fa_xact_conn_all())
		refuse_schemas(lfirst(lc), quote_literal_cstr(quote_identifier(schema)));
}

static void
refuse_names(FaConn *conn, const char *relations, const char *schemas,
			 const char *types)
{
	char	   *found;

	refuse_schemas(conn, schemas);
	found = peer_finds(conn, relations, "pg_catalog.to_regclass(x) IS NOT NULL");
	if (found == NULL)
		found = peer_finds(conn, relations, "pg_catalog.to_regtype(x) IS NOT NULL");
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("node \"%s\" already has a relation or type %s",
						conn->name, found),
				 errhint("Rename or drop it there.")));
	found = peer_finds(conn, types, "pg_catalog.to_regtype(x) IS NULL");
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node \"%s\" has no type %s", conn->name, found),
				 errhint("Create the type or its extension there.")));
}

/* Names in the first column, as literals. */
static char *
literals(FaRows *rows)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < rows->nrows; i++)
		append_literal(&buf, rows->value[i][0]);
	return buf.data;
}

void
fa_refuse_peer_roles(FaConn *conn, Oid rel)
{
	FaRows	   *roles;
	char	   *found;

	roles = fa_spi_rows("WITH r AS (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid IN"
						"  (SELECT relid FROM pg_catalog.pg_partition_tree(%u) UNION SELECT %u)) "
						"SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x)) FROM ("
						"  SELECT relowner FROM r UNION"
						"  SELECT a.grantee FROM r, pg_catalog.aclexplode(r.relacl) a UNION"
						"  SELECT a.grantee FROM r JOIN pg_catalog.pg_attribute t"
						"    ON t.attrelid = r.oid, pg_catalog.aclexplode(t.attacl) a) u(x) "
						"WHERE x <> 0", rel, rel);
	found = peer_finds(conn, literals(roles), "pg_catalog.to_regrole(x) IS NULL");
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node \"%s\" has no role %s", conn->name, found),
				 errhint("Create the role there: the table or a grant names it.")));
}

/* As fa_refuse_partition_key(): of the same name, it may be somebody else's there. */
static void
refuse_key_functions(FaConn *conn, Oid rel)
{
	FaRows	   *functions;
	char	   *found;

	functions = fa_spi_rows("SELECT DISTINCT p.oid::pg_catalog.regprocedure FROM"
							"  (SELECT relid FROM pg_catalog.pg_partition_tree(%u) UNION SELECT %u) r "
							"JOIN pg_catalog.pg_class c ON c.oid = r.relid AND c.relkind = 'p' "
							"JOIN pg_catalog.pg_depend d ON d.objid = c.oid"
							"  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
							"LEFT JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid"
							"  AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass "
							"JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode OR p.oid = d.refobjid"
							"  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass "
							"WHERE p.oid >= 16384", rel, rel);
	found = peer_finds(conn, literals(functions),
					   "NOT EXISTS (SELECT FROM pg_catalog.pg_proc p"
					   "  JOIN pg_catalog.pg_authid a ON a.oid = p.proowner"
					   "  WHERE p.oid = pg_catalog.to_regprocedure(x) AND a.rolsuper)");
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a partition key calls function %s, which no superuser owns on node \"%s\"",
						found, conn->name),
				 errhint("Use PostgreSQL's own functions or a column, or have a superuser own the function on all nodes.")));
}

/*
 * Collations of the columns, but for the database's, which add_node() compares:
 * bounds and sorted results have to mean the same at all nodes.
 */
static void
refuse_collations(FaConn *conn, Oid rel)
{
	static const char facts[] =
	"coalesce((SELECT pg_catalog.concat_ws(' ', collprovider, collcollate,"
	"   collctype, collisdeterministic,"
	"   pg_catalog.pg_collation_actual_version(oid))"
	" FROM pg_catalog.pg_collation WHERE oid = pg_catalog.to_regcollation(x)), 'missing')";
	FaRows	   *used;

	used = fa_spi_rows("SELECT x, %s FROM (SELECT DISTINCT"
					   "  pg_catalog.format('%%I.%%I', n.nspname, c.collname) "
					   "FROM pg_catalog.pg_attribute a "
					   "JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation "
					   "JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace "
					   "WHERE a.attrelid = %u AND a.attnum > 0"
					   "  AND NOT a.attisdropped"
					   "  AND c.collname NOT IN ('default', 'C', 'POSIX')) u(x)",
					   facts, rel);
	for (int i = 0; i < used->nrows; i++)
	{
		char	   *name = used->value[i][0];
		char	   *there = fa_remote_value(conn, 0,
											"SELECT %s FROM (VALUES (%s)) u(x)",
											facts, quote_literal_cstr(name));

		if (strcmp(there, used->value[i][1]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("collation %s is not the same on node \"%s\"", name,
							conn->name),
					 errdetail("There: %s; here: %s.", there,
							   used->value[i][1]),
					 errhint("Create it there with the same version of its library, or use another collation.")));
	}
}

void
fa_refuse_peer(FaConn *conn, Oid rel, List *tree, List *sequences)
{
	StringInfoData relations;
	StringInfoData schemas;
	FaRows	   *types;
	ListCell   *lc;

	initStringInfo(&relations);
	initStringInfo(&schemas);
	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		append_literal(&relations, r->qualified);
		append_literal(&schemas, quote_identifier(r->schema));
		/* of a table that a node gets when it joins */
		if (r->leaf && fa_map_modulus(r->rel) > 0)
			append_literal(&schemas,
						   quote_identifier(get_namespace_name(fa_map_bucket_schema(r->rel))));
	}
	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);

		append_literal(&relations, quote_qualified_identifier(s->schema, s->name));
	}
	types = fa_spi_rows("SELECT DISTINCT pg_catalog.format_type(atttypid, NULL) "
						"FROM pg_catalog.pg_attribute WHERE attrelid = %u"
						"  AND attnum > 0 AND NOT attisdropped AND atttypid >= 16384",
						rel);
	refuse_names(conn, relations.data, schemas.data, literals(types));
	fa_refuse_peer_roles(conn, rel);
	refuse_key_functions(conn, rel);
	refuse_collations(conn, rel);
}

void
fa_refuse_peers(Oid rel, List *tree, List *sequences)
{
	ListCell   *lc;

	foreach(lc, fa_xact_conn_all())
		fa_refuse_peer(lfirst(lc), rel, tree, sequences);
}
