/*
 * leave.c
 *	  What a node forgets that has left its cluster.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/remote.h"

PG_FUNCTION_INFO_V1(fa_sql_leave_cluster);

/* The tables are elsewhere; what is here of them leads there. */
static void
leave_drop_tables(void)
{
	FaRows	   *tables;

	tables = fa_spi_rows("SELECT rel::pg_catalog.oid FROM fragaffinity.distributed_table");
	for (int i = 0; i < tables->nrows; i++)
		(void) fa_spi_exec("DROP TABLE IF EXISTS %s CASCADE",
						   fa_table_qualified_name(atooid(tables->value[i][0])));
}

/*
 * All tables are the cluster's, but the list of heaps that are still to be
 * dropped here.  Those that others refer to come last.
 */
static void
leave_forget(void)
{
	FaRows	   *tables;

	(void) fa_spi_exec("SELECT fragaffinity.unlink_node(node) "
					   "FROM fragaffinity.node");
	tables = fa_spi_rows("SELECT c.relname FROM pg_catalog.pg_class c "
						 "WHERE c.relnamespace = 'fragaffinity'::pg_catalog.regnamespace"
						 "  AND c.relkind = 'r' AND c.relname <> 'cleanup' "
						 "ORDER BY (SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint k"
						 "           WHERE k.confrelid = c.oid), c.relname");
	for (int i = 0; i < tables->nrows; i++)
		(void) fa_spi_exec("DELETE FROM fragaffinity.%s",
						   quote_identifier(tables->value[i][0]));
}

/* Raises unless the coordinator says that we are not one of its nodes. */
static void
leave_ask_coordinator(int self)
{
	FaNode	   *coordinator = fa_node_find(fa_node_coordinator());
	FaConn	   *conn;
	char	   *there;

	if (coordinator == NULL || coordinator->id == self)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the coordinator cannot leave its cluster")));
	conn = fa_remote_connect(coordinator->id, FA_CONNECT_TIMEOUT_MS);
	there = fa_remote_value(conn, FA_CONNECT_TIMEOUT_MS,
							"SELECT name FROM fragaffinity.node WHERE node = %d",
							self);
	fa_remote_close(conn);
	if (there)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("this database is node \"%s\" of its cluster still",
						there),
				 errhint("Call fragaffinity.remove_node() on node \"%s\".",
						 coordinator->name)));
}

/*
 * leave_cluster(force): on a node that was removed while it was down.  With
 * force the coordinator is not asked, which may be gone for good, and what the
 * node owns is dropped.
 */
Datum
fa_sql_leave_cluster(PG_FUNCTION_ARGS)
{
	bool		force = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	int			self;
	char	   *owned;
	FaDdlState	state;

	fa_shmem_require();
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to leave a cluster")));
	self = fa_node_require_cluster();
	owned = fa_spi_value("SELECT pg_catalog.count(*) FROM fragaffinity.fragment "
						 "WHERE owner = %d", self);
	if (!force && strcmp(owned, "0") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("this node owns %s fragments, as far as it knows", owned),
				 errhint("Save what they hold; with force => true they are dropped.")));
	if (!force)
		leave_ask_coordinator(self);
	fa_ddl_begin(&state);
	leave_drop_tables();
	leave_forget();
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}
