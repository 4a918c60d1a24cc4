/*
 * copy_statement.c
 *	  The COPY FROM STDIN by which rows of a COPY go to a peer.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "node/fdw_copy.h"

List *
fa_copy_columns(Oid table, Relation leaf, CopyFromState state)
{
	TupleDesc	desc = RelationGetDescr(leaf);
	List	   *columns = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->attgenerated != '\0')
			continue;
		if (state &&
			!list_member_int(state->attnumlist,
							 get_attnum(table, NameStr(att->attname))) &&
			(!att->atthasdef || !contain_mutable_functions(build_column_default(leaf, i + 1))))
			continue;
		columns = lappend(columns, pstrdup(NameStr(att->attname)));
	}
	return columns;
}

char *
fa_copy_sql(Oid table, List *columns)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "COPY %s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
												get_rel_name(table)));
	foreach(lc, columns)
		appendStringInfo(&sql, "%s%s", foreach_current_index(lc) ? ", " : " (",
						 quote_identifier(lfirst(lc)));
	appendStringInfoString(&sql, ") FROM STDIN");
	return sql.data;
}
