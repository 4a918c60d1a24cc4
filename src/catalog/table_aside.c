/*
 * table_aside.c
 *	  Foreign leaves out of the way of DDL that PostgreSQL refuses them.
 *
 * ALTER COLUMN TYPE ... USING is an error as soon as it reaches a foreign table,
 * although there is nothing to convert in one.  So foreign leaves are detached
 * before it, and made anew, like their buckets are then, after it; all in the
 * transaction, and under the lock, of the one who changes the table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/spi.h"

/* Those of the root that lead to other nodes. */
static List *
remote_fragments(Oid root)
{
	const FaTable *table = fa_map_table(root);
	List	   *remote = NIL;
	ListCell   *lc;

	if (table == NULL)
		return NIL;
	foreach(lc, fa_map_fragments(table->table_id))
	{
		FaFragment *f = lfirst(lc);

		if (!f->local)
			remote = lappend(remote, f);
	}
	return remote;
}

void
fa_table_leaves_aside(Oid root)
{
	ListCell   *lc;

	foreach(lc, remote_fragments(root))
	{
		FaFragment *f = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		fa_spi_exec("ALTER TABLE %s DETACH PARTITION %s",
					fa_table_qualified_name(f->bucket),
					fa_table_qualified_name(f->leaf));
	}
	CommandCounterIncrement();
}

void
fa_table_leaves_back(Oid root)
{
	ListCell   *lc;

	foreach(lc, remote_fragments(root))
	{
		FaFragment *f = lfirst(lc);
		char	   *name = get_rel_name(f->leaf);
		Oid			leaf;

		CHECK_FOR_INTERRUPTS();
		fa_spi_exec("DROP FOREIGN TABLE %s", fa_table_qualified_name(f->leaf));
		leaf = fa_table_create_remote(f, name, f->owner);
		fa_table_attach(f->bucket, leaf, FA_TABLE_WHOLE_RANGE);
		/* the same owner and version: no snapshot is too old for it */
		fa_spi_exec("UPDATE fragaffinity.fragment SET leaf = %u "
					"WHERE fragment = " INT64_FORMAT, leaf, f->fragment);
		fa_map_invalidate(f->bucket);
		fa_map_invalidate(leaf);
	}
	CommandCounterIncrement();
}

PG_FUNCTION_INFO_V1(fa_sql_put_leaves);

/* put_leaves(root, back): what peers ask of each other */
Datum
fa_sql_put_leaves(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to detach parts of a distributed table")));
	fa_ddl_begin(&state);
	if (PG_GETARG_BOOL(1))
		fa_table_leaves_back(PG_GETARG_OID(0));
	else
		fa_table_leaves_aside(PG_GETARG_OID(0));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}
