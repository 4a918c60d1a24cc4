/*
 * refuse.c
 *	  What a distributed table cannot keep, said before anything changes.
 *
 * Most checks are a row of a table: a query that yields what stands in the
 * way, and the error that names it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "catalog/dependents.h"
#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/node.h"

typedef struct Refusal
{
	const char *query;			/* over r: the relations of the tree */
	int			sqlstate;
	const char *message;		/* %s: first column of the first row */
	const char *hint;
	bool		back;			/* also stands in the way of undistribute_table */
	bool		there;			/* only then, and only on other nodes */
} Refusal;

#define CLASS(name) "'pg_catalog." name "'::pg_catalog.regclass"

/* Whatever depends by row d of pg_depend; of the rule that a view is, the view. */
#define DEPENDENT \
	"coalesce((SELECT pg_catalog.pg_describe_object(" CLASS("pg_class") \
	", w.ev_class, 0) FROM pg_catalog.pg_rewrite w" \
	" WHERE w.oid = d.objid AND d.classid = " CLASS("pg_rewrite") \
	"   AND w.rulename = '_RETURN')," \
	" pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))"

/* d, of what is not the table's own */
#define DEPENDS_ON_TABLE \
	" FROM r JOIN pg_catalog.pg_depend d" \
	" ON d.deptype = 'n'" \
	" AND (d.refclassid = " CLASS("pg_class") " AND d.refobjid = r.oid" \
	"   OR d.refclassid = " CLASS("pg_type") \
	"   AND d.refobjid IN (r.reltype, (SELECT typarray" \
	"     FROM pg_catalog.pg_type WHERE oid = r.reltype)))" \
	" WHERE NOT (d.classid = " CLASS("pg_attrdef") " AND EXISTS" \
	"   (SELECT FROM pg_catalog.pg_attrdef a" \
	"     WHERE a.oid = d.objid AND a.adrelid IN (SELECT oid FROM r)))" \
	" AND NOT (d.classid = " CLASS("pg_constraint") " AND EXISTS" \
	"   (SELECT FROM pg_catalog.pg_constraint c" \
	"     WHERE c.oid = d.objid AND c.conrelid IN (SELECT oid FROM r)))" \
	" AND NOT (d.classid = " CLASS("pg_policy") " AND EXISTS" \
	"   (SELECT FROM pg_catalog.pg_policy p" \
	"     WHERE p.oid = d.objid AND p.polrelid IN (SELECT oid FROM r)))" \
	" AND NOT (d.classid = " CLASS("pg_class") \
	"   AND d.objid IN (SELECT oid FROM r))"

static const Refusal refusals[] = {
	{"SELECT relname FROM r WHERE relpersistence <> 'p'",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"table \"%s\" is temporary or unlogged",
	"Make it permanent with ALTER TABLE ... SET LOGGED."},
	{"SELECT relname FROM r WHERE relkind NOT IN ('r', 'p')",
		ERRCODE_WRONG_OBJECT_TYPE,
		"partition \"%s\" is not an ordinary table",
	"Detach it first."},
	{"SELECT r.relname FROM r JOIN pg_catalog.pg_am a ON a.oid = r.relam"
		" WHERE r.relkind = 'r' AND a.amname <> 'heap'",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"table \"%s\" does not use access method \"heap\"", NULL},
	{"SELECT relname FROM r WHERE reloftype <> 0",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"table \"%s\" is a typed table",
	"Use ALTER TABLE ... NOT OF first."},
	{"SELECT r.relname FROM r JOIN pg_catalog.pg_inherits i"
		" ON r.oid IN (i.inhrelid, i.inhparent)"
		" WHERE r.relkind = 'r' AND NOT r.relispartition",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"table \"%s\" takes part in inheritance",
	"Use ALTER TABLE ... NO INHERIT first, or partitioning instead."},
	{"SELECT c.conname FROM r JOIN pg_catalog.pg_constraint c"
		" ON c.conrelid = r.oid WHERE c.contype = 'f'",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"foreign key \"%s\" cannot be kept",
	"Drop the constraint first: the rows it refers to may be on another node."},
	{"SELECT c.conname FROM r JOIN pg_catalog.pg_constraint c"
		" ON c.confrelid = r.oid WHERE c.contype = 'f'",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"foreign key \"%s\" refers to the table and cannot be kept",
	"Drop the constraint first: a distributed table has no unique index to refer to."},
	{"SELECT t.tgname FROM r JOIN pg_catalog.pg_trigger t"
		" ON t.tgrelid = r.oid WHERE NOT t.tgisinternal",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"trigger \"%s\" cannot be kept",
	"Drop it first: triggers do not run on foreign leaves."},
	{"SELECT w.rulename FROM r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid",
		ERRCODE_FEATURE_NOT_SUPPORTED,
	"rule \"%s\" cannot be kept", "Drop it first."},
	{"SELECT r.relname FROM r WHERE r.relispartition AND (r.relrowsecurity OR EXISTS"
		" (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = r.oid))",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"partition \"%s\" has row security of its own",
	"Drop its policies and use ALTER TABLE ... DISABLE ROW LEVEL SECURITY on it first."},
	{"SELECT p.pubname FROM r"
		" JOIN pg_catalog.pg_publication_rel x ON x.prrelid = r.oid"
		" JOIN pg_catalog.pg_publication p ON p.oid = x.prpubid"
		/* a move's own goes by itself */
		" AND p.pubname !~ '^fragaffinity_[0-9]+$'",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"the table is part of publication \"%s\"",
		"Drop the table from the publication first.",
	true},
	{"SELECT r.relname FROM r JOIN pg_catalog.pg_subscription_rel s"
		" ON s.srrelid = r.oid",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"table \"%s\" is fed by a subscription",
	"Drop the table from the subscription first."},
	{"SELECT " DEPENDENT DEPENDS_ON_TABLE " AND NOT (" FA_DEPENDENT_FOLLOWS ")",
		ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
		"%s depends on the table",
		"Drop it, and create it again afterwards.",
	true},
	{"SELECT " DEPENDENT DEPENDS_ON_TABLE " AND " FA_DEPENDENT_FOLLOWS,
		ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
		"%s depends on the table",
		"Drop it there, as the table goes from that node.",
	true, true},
	{"SELECT " DEPENDENT
		" FROM r JOIN pg_catalog.pg_depend s ON s.refobjid = r.oid"
		"   AND s.refclassid = " CLASS("pg_class") " AND s.deptype IN ('a', 'i')"
		"   AND s.classid = " CLASS("pg_class")
		" JOIN pg_catalog.pg_class q ON q.oid = s.objid AND q.relkind = 'S'"
		" JOIN pg_catalog.pg_depend d ON d.refobjid = q.oid AND d.deptype = 'n'"
		"   AND d.refclassid = " CLASS("pg_class")
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef a"
		"   WHERE a.oid = d.objid AND a.adrelid IN (SELECT oid FROM r))",
		ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
		"%s depends on a sequence of the table",
		"Give it a sequence of its own.",
	true},
	{"SELECT c.relname FROM r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid"
		" JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
		" WHERE NOT i.indisvalid",
		ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
	"index \"%s\" is invalid", "REINDEX or drop it first."},
	{"SELECT c.conname FROM r JOIN pg_catalog.pg_constraint c"
		" ON c.conrelid = r.oid WHERE NOT c.convalidated",
		ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"constraint \"%s\" is not validated",
	"Use ALTER TABLE ... VALIDATE CONSTRAINT first."},
	{"SELECT c.relname FROM r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid"
		" JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
		" WHERE r.relispartition AND NOT c.relispartition",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"index \"%s\" exists on one partition only",
	"Drop it, or create it on the partitioned table."},
	{"SELECT c.conname FROM r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid"
		" WHERE r.relispartition AND c.contype = 'c' AND c.coninhcount = 0",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"constraint \"%s\" exists on one partition only",
	"Drop it, or create it on the partitioned table."},
	{"SELECT a.attname FROM r"
		" JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0"
		" JOIN pg_catalog.pg_attribute p ON p.attname = a.attname"
		"   AND p.attrelid = pg_catalog.pg_partition_root(r.oid)"
		" LEFT JOIN pg_catalog.pg_attrdef da"
		"   ON da.adrelid = a.attrelid AND da.adnum = a.attnum"
		" LEFT JOIN pg_catalog.pg_attrdef dp"
		"   ON dp.adrelid = p.attrelid AND dp.adnum = p.attnum"
		" WHERE r.relispartition AND (a.attnotnull <> p.attnotnull"
		/* from 17 on it is their table's */
		"   OR a.attidentity <> '' AND pg_catalog.current_setting('server_version_num')::int < 170000"
		"   OR da.adbin IS NOT NULL AND pg_catalog.pg_get_expr(da.adbin, da.adrelid)"
		"     IS DISTINCT FROM pg_catalog.pg_get_expr(dp.adbin, dp.adrelid))",
		ERRCODE_FEATURE_NOT_SUPPORTED,
		"column \"%s\" of a partition has a default or NOT NULL of its own",
	"Make the partition like the partitioned table."},
	{"SELECT pg_catalog.pg_describe_object(l.classoid, l.objoid, l.objsubid)"
		" FROM r JOIN pg_catalog.pg_seclabel l"
		" ON l.objoid = r.oid AND l.classoid = " CLASS("pg_class"),
		ERRCODE_FEATURE_NOT_SUPPORTED,
	"the security label of %s cannot be kept", "Remove it first."},
	{NULL}
};

/*
 * Whoever opens a partitioned table computes what in its key holds no column, or none
 * any more once a function of SQL is inlined.  We do so as a superuser, on every node:
 * so that must be none of a user's code.  The server's own is not in pg_depend.
 */
static const Refusal refusal_key = {
	"SELECT p.proname FROM r JOIN pg_catalog.pg_depend d"
		" ON d.classid = " CLASS("pg_class") " AND d.objid = r.oid"
		" LEFT JOIN pg_catalog.pg_operator o"
		" ON d.refclassid = " CLASS("pg_operator") " AND o.oid = d.refobjid"
		" JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode"
		" OR d.refclassid = " CLASS("pg_proc") " AND p.oid = d.refobjid"
		" JOIN pg_catalog.pg_authid a ON a.oid = p.proowner"
		" WHERE r.relkind = 'p' AND NOT a.rolsuper",
	ERRCODE_FEATURE_NOT_SUPPORTED,
	"a partition key calls function \"%s\", which no superuser owns",
	"Use PostgreSQL's own functions or a column, or have a superuser own the function on all nodes."
};

/* %s: the root, as something that is cast to regclass */
#define TREE_CTE \
	"WITH r AS (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid IN (" \
	"SELECT relid FROM pg_catalog.pg_partition_tree(%s::pg_catalog.regclass) " \
	"UNION SELECT %s::pg_catalog.regclass)) "

static void
refuse_listed(const Refusal *refusal, const char *root, FaConn *conn)
{
	char	   *sql = psprintf(TREE_CTE "%s LIMIT 1", root, root,
							   refusal->query);
	char	   *found = conn ? fa_remote_value(conn, 0, "%s", sql) :
		fa_spi_value("%s", sql);

	if (found)
		ereport(ERROR,
				(errcode(refusal->sqlstate),
				 errmsg_internal(refusal->message, found),
				 conn ? errdetail("This is so on node \"%s\".", conn->name) : 0,
				 refusal->hint ? errhint("%s", refusal->hint) : 0));
}

void
fa_refuse_back(const char *root, FaConn *conn)
{
	for (const Refusal *r = refusals; r->query; r++)
		if (r->back && (conn || !r->there))
			refuse_listed(r, quote_literal_cstr(root), conn);
}

/* The relation itself: is it a table that a user may hand over? */
static void
refuse_relation(Oid rel)
{
	char	   *name = get_rel_name(rel);
	char		kind = get_rel_relkind(rel);
	char	   *extension;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 errhint("Only ordinary and partitioned tables can be distributed.")));
	if (rel < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a system catalog", name)));
	if (fa_table_is_managed(rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 fa_map_table(rel) ?
				 errmsg("table \"%s\" is already distributed", name) :
				 errmsg("\"%s\" is part of a distributed table", name)));
	if (get_rel_relispartition(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partition", name),
				 errhint("Distribute the partitioned table that it belongs to.")));
	extension = fa_spi_value("SELECT e.extname FROM pg_catalog.pg_depend d "
							 "JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid "
							 "WHERE d.classid = " CLASS("pg_class") " AND d.objid = %u"
							 "  AND d.refclassid = " CLASS("pg_extension")
							 "  AND d.deptype IN ('e', 'x')", rel);
	if (extension)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" belongs to extension \"%s\"", name,
						extension)));
}

void
fa_refuse_table(Oid rel)
{
	refuse_relation(rel);
	fa_refuse_partition(rel);
}

void
fa_refuse_partition_key(Oid rel)
{
	refuse_listed(&refusal_key, psprintf("%u", rel), NULL);
}

void
fa_refuse_partition(Oid rel)
{
	ListCell   *lc;

	fa_refuse_partition_key(rel);
	foreach(lc, fa_tree_read(rel))
		fa_refuse_constants(((FaTreeRel *) lfirst(lc))->rel);
	for (const Refusal *r = refusals; r->query; r++)
		if (!r->there)
			refuse_listed(r, psprintf("%u", rel), NULL);
}

/* First type within a type whose values differ from node to node, or NULL. */
static char *
unstable_type(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			inner;

	switch (base)
	{
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGROLEOID:
		case REGTYPEOID:
			return format_type_be(base);
		default:
			break;
	}
	if (type_is_enum(base))
		return format_type_be(base);
	inner = get_element_type(base);
	if (!OidIsValid(inner))
		inner = get_range_subtype(base);
	if (!OidIsValid(inner))
		inner = get_multirange_range(base);
	if (OidIsValid(inner))
		return unstable_type(inner);
	if (type_is_rowtype(base))
		return format_type_be(base);
	return NULL;
}

static void
refuse_key_type(const char *key, Oid type, Oid collation)
{
	char	   *unstable = unstable_type(type);
	TypeCacheEntry *entry;

	if (unstable)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" cannot be the key: type %s hashes differently on every node",
						key, unstable),
				 errhint("Choose a column of another type, such as its text.")));
	entry = lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC |
							  TYPECACHE_CMP_PROC);
	if (!OidIsValid(GetDefaultOpClass(type, HASH_AM_OID)) ||
		!OidIsValid(GetDefaultOpClass(type, BTREE_AM_OID)) ||
		!OidIsValid(entry->hash_extended_proc) ||
		!OidIsValid(entry->cmp_proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("column \"%s\" cannot be the key: type %s has no default hash and btree operator class",
						key, format_type_be(type))));
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" cannot be the key: its collation is not deterministic",
						key),
				 errhint("What is equal under such a collation depends on each node's libraries.")));
}

void
fa_refuse_key(Oid rel, const char *key)
{
	HeapTuple	tuple = SearchSysCacheAttName(rel, key);
	FormData_pg_attribute att;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", key,
						get_rel_name(rel)),
				 errhint("The columns are: %s.",
						 fa_spi_value("SELECT pg_catalog.string_agg("
									  "  pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) "
									  "FROM pg_catalog.pg_attribute WHERE attrelid = %u"
									  "  AND attnum > 0 AND NOT attisdropped", rel))));
	att = *(Form_pg_attribute) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (att.attnum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("system column \"%s\" cannot be the key", key)));
	if (att.attgenerated)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("generated column \"%s\" cannot be the key", key)));
	if (!att.attnotnull)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" cannot be the key: it may be null", key),
				 errhint("Use ALTER TABLE %s ALTER COLUMN %s SET NOT NULL.",
						 fa_table_qualified_name(rel), quote_identifier(key))));
	refuse_key_type(key, att.atttypid, att.attcollation);
}

/*
 * Unique indexes live on the leaves: rows that they compare must be in one
 * leaf, so they must compare the key, for equality.
 */
void
fa_refuse_keyless(Oid rel, const char *key)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT c.relname, i.indisprimary, i.indisexclusion "
					   "FROM pg_catalog.pg_index i "
					   "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
					   "LEFT JOIN pg_catalog.pg_constraint k"
					   "  ON k.conindid = c.oid AND k.contype = 'x' "
					   "WHERE i.indrelid = %u AND (i.indisunique OR i.indisexclusion)"
					   "  AND NOT EXISTS (SELECT"
					   "    FROM pg_catalog.generate_series(1, i.indnkeyatts) n"
					   "    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid"
					   "      AND a.attnum = i.indkey[n - 1] AND a.attname = %s"
					   "    LEFT JOIN pg_catalog.pg_operator o ON o.oid = k.conexclop[n]"
					   "    LEFT JOIN pg_catalog.pg_collation l ON l.oid = i.indcollation[n - 1]"
					   "   WHERE (i.indisunique OR o.oprname = '=')"
					   "     AND l.collisdeterministic IS DISTINCT FROM false)"
					   "LIMIT 1", rel, quote_literal_cstr(key));
	if (rows->nrows == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s \"%s\" does not contain the key \"%s\"",
					rows->value[0][1][0] == 't' ? "primary key" :
					rows->value[0][2][0] == 't' ? "exclusion constraint" :
					"unique index", rows->value[0][0], key),
			 errdetail("Rows with other keys are on other nodes, where it could not be enforced."),
			 errhint("Add the key column to it, under a deterministic collation, drop it, or choose another key.")));
}
