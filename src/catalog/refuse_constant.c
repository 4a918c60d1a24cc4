/*
 * refuse_constant.c
 *	  Constants that are not read as a superuser.
 *
 * What a table's owner has written (defaults, checks, indexes, policies) goes on with new
 * relations, here and on other nodes, as text that we read as a superuser.  That runs
 * nothing of theirs, but for constants: the input function of their type is called, and
 * in a composite type, or an array or range of domains, that runs the domains' checks.
 * Which domains those are can change at any time, so such constants are refused by their
 * type alone.  ROW() and ARRAY[] are not read so, and are computed by whoever uses them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"

/* Can reading a value of the type run what a user has written? */
static bool
type_runs_code(Oid type)
{
	Oid			element;

	switch (get_typtype(type))
	{
		case TYPTYPE_DOMAIN:
		case TYPTYPE_COMPOSITE:
			return true;
		case TYPTYPE_RANGE:
			return type_runs_code(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return type_runs_code(get_multirange_range(type));
		default:
			element = get_element_type(type);
			return OidIsValid(element) && type_runs_code(element);
	}
}

static bool
find_constant(Node *node, void *type_p)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
	{
		Const	   *constant = (Const *) node;

		if (constant->constisnull || !type_runs_code(constant->consttype))
			return false;
		*(Oid *) type_p = constant->consttype;
		return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_constant, type_p, 0);
	return expression_tree_walker(node, find_constant, type_p);
}

static void
refuse_type(const char *name, const char *what, Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s has a %s of type %s", name, what, format_type_be(type)),
			 errdetail("To read such a value could run what a user has written as a superuser."),
			 errhint("Write it as ROW(...) or ARRAY[...], without a text that is to be converted, or use another type.")));
}

/* Bounds are constants of the partition key's types. */
static void
refuse_bounds(Oid rel)
{
	FaRows	   *rows = fa_spi_rows("SELECT a.atttypid, pg_catalog.pg_describe_object("
								   "  'pg_catalog.pg_class'::pg_catalog.regclass, p.partrelid, 0) "
								   "FROM pg_catalog.pg_partitioned_table p "
								   "JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid"
								   "  AND a.attnum = ANY (p.partattrs) "
								   "WHERE p.partrelid = %u AND p.partstrat <> 'h'", rel);

	for (int i = 0; i < rows->nrows; i++)
		if (type_runs_code(atooid(rows->value[i][0])))
			refuse_type(rows->value[i][1], "partition key",
						atooid(rows->value[i][0]));
}

void
fa_refuse_constants(Oid rel)
{
	FaRows	   *rows = fa_spi_rows("SELECT pg_catalog.pg_describe_object(x.class, x.oid, 0), x.tree FROM ("
								   "  SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid, adrelid, adbin"
								   "    FROM pg_catalog.pg_attrdef"
								   "  UNION ALL"
								   "  SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, conrelid, conbin"
								   "    FROM pg_catalog.pg_constraint"
								   "  UNION ALL"
								   "  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid, indrelid, e"
								   "    FROM pg_catalog.pg_index, LATERAL (VALUES (indexprs), (indpred)) v(e)"
								   "  UNION ALL"
								   "  SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, polrelid, e"
								   "    FROM pg_catalog.pg_policy, LATERAL (VALUES (polqual), (polwithcheck)) v(e)"
								   "  UNION ALL"
								   "  SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid, stxrelid, stxexprs"
								   "    FROM pg_catalog.pg_statistic_ext"
								   "  UNION ALL"
								   "  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, partrelid, partrelid, partexprs"
								   "    FROM pg_catalog.pg_partitioned_table"
								   ") x(class, oid, rel, tree) WHERE x.rel = %u AND x.tree IS NOT NULL",
								   rel);

	for (int i = 0; i < rows->nrows; i++)
	{
		Oid			type;

		if (find_constant(stringToNode(rows->value[i][1]), &type))
			refuse_type(rows->value[i][0], "constant", type);
	}
	refuse_bounds(rel);
}
