/*
 * ddl_publish.c
 *	  Distributed tables do not go into publications.
 *
 * PostgreSQL publishes what is written on the node: not the rows of fragments
 * that are foreign there, and not those which a move brings as pages.  Who names
 * a distributed table is refused; who names all tables, or a schema, is warned.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "route/ddl_guard.h"

#define HINT_EACH_NODE \
	"Copy such a table with queries, or publish what is not distributed."

static void
publish_warn(const char *publication, const char *condition)
{
	List	   *tables = fa_ddl_catalog_values(psprintf("SELECT t.rel FROM fragaffinity.distributed_table t "
														"JOIN fragaffinity.fragment f USING (table_id) "
														"JOIN pg_catalog.pg_class c ON c.oid IN (t.rel, f.bucket) "
														"WHERE %s ORDER BY 1 LIMIT 1", condition));

	if (tables)
		ereport(WARNING,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("publication \"%s\" is not complete for distributed table \"%s\"",
						publication, (char *) linitial(tables)),
				 errdetail("Rows that are on other nodes, or that a move brings, are not published."),
				 errhint(HINT_EACH_NODE)));
}

static void
publish_warn_schema(const char *publication, Oid schema)
{
	publish_warn(publication, psprintf("c.relnamespace = %u", schema));
}

static void
publish_check(const char *publication, List *objects, bool all)
{
	ListCell   *lc;

	if (all)
		publish_warn(publication, "true");
	foreach(lc, objects)
	{
		PublicationObjSpec *object = lfirst(lc);

		if (object->pubobjtype == PUBLICATIONOBJ_TABLE)
		{
			Oid			root = fa_ddl_root(RangeVarGetRelid(object->pubtable->relation,
															NoLock, true));

			if (OidIsValid(root))
				fa_ddl_refuse("publishing", root, HINT_EACH_NODE);
		}
		else if (object->pubobjtype == PUBLICATIONOBJ_TABLES_IN_SCHEMA)
			publish_warn_schema(publication, get_namespace_oid(object->name, true));
		else if (object->pubobjtype == PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA &&
				 fetch_search_path(false) != NIL)
			publish_warn_schema(publication,
								linitial_oid(fetch_search_path(false)));
	}
}

void
fa_ddl_check_publication(Node *statement)
{
	if (IsA(statement, CreatePublicationStmt))
	{
		CreatePublicationStmt *create = (CreatePublicationStmt *) statement;

		publish_check(create->pubname, create->pubobjects, create->for_all_tables);
	}
	else
	{
		AlterPublicationStmt *alter = castNode(AlterPublicationStmt, statement);

		if (alter->action != AP_DropObjects)
			publish_check(alter->pubname, alter->pubobjects, alter->for_all_tables);
	}
}
