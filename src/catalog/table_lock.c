/*
 * table_lock.c
 *	  A table locked against everyone, here or on all nodes.
 *
 * Clients come in by the root, and hold its lock on their own node while what
 * they ask of other nodes goes to buckets there.  So the root alone is locked
 * first, on every node: that waits for those clients, and keeps nobody waiting
 * whom they wait for.  Then what is below is free, or soon is.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_inherits.h"
#include "commands/tablecmds.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"

static void
lock_root(Oid rel)
{
	if (LockTimeout == 0)
		fa_ddl_set("lock_timeout", FA_TABLE_LOCK_TIMEOUT);
	LockRelationOid(rel, AccessExclusiveLock);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u was dropped meanwhile", rel)));
}

void
fa_table_lock(Oid rel, const char *action)
{
	ListCell   *lc;

	lock_root(rel);
	foreach(lc, find_all_inheritors(rel, AccessExclusiveLock, NULL))
	{
		Relation	r = relation_open(lfirst_oid(lc), NoLock);

		CheckTableNotInUse(r, action);
		relation_close(r, NoLock);
	}
}

static void
lock_on_peers(Oid root, const char *only)
{
	ListCell   *lc;

	foreach(lc, fa_xact_conn_all())
	{
		FaConn	   *conn = lfirst(lc);

		fa_remote_exec(conn, 0, "SET LOCAL lock_timeout = %d", LockTimeout);
		fa_remote_exec(conn, 0, "LOCK TABLE %s%s IN ACCESS EXCLUSIVE MODE", only,
					   fa_table_qualified_name(root));
		fa_remote_exec(conn, 0, "SET LOCAL lock_timeout = 0");
	}
}

void
fa_table_lock_everywhere(Oid root, const char *action)
{
	int			table_id = fa_map_table(root)->table_id;
	ListCell   *lc;

	lock_root(root);
	lock_on_peers(root, "ONLY ");
	fa_table_lock(root, action);
	lock_on_peers(root, "");
	fa_refuse_moving(table_id, NULL);
	foreach(lc, fa_xact_conn_all())
		fa_refuse_moving(table_id, lfirst(lc));
}

void
fa_refuse_moving(int table_id, FaConn *conn)
{
	static const char query[] =
	"SELECT fragment FROM fragaffinity.fragments "
	"WHERE table_id = %d AND state = 'moving' LIMIT 1";
	char	   *sql = psprintf(query, table_id);
	char	   *moving = conn ? fa_remote_value(conn, 0, "%s", sql) :
		fa_spi_value("%s", sql);

	if (moving)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("fragment %s of the table is moving", moving),
				 errhint("Wait for the move, or end it with fragaffinity.cancel_move.")));
}
