/*
 * table_lock.c
 *	  A table locked against everyone, here or on all nodes.
 *
 * Clients hold the root's lock on their own node while they wait for what they
 * have asked of buckets elsewhere; and there it needs the root's lock, too, to
 * look at its partition bounds, but ACCESS SHARE only.  So on all nodes
 *
 *	1. the root alone is locked in EXCLUSIVE mode.  That waits for those who
 *	   write, and keeps nobody waiting whom they wait for
 *	2. all is locked against those who read, too.  Where that is not to be had at
 *	   once, it is all let go, and asked for again
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_inherits.h"
#include "commands/tablecmds.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/cluster_xact.h"

void
fa_table_lock_timeout(void)
{
	if (LockTimeout == 0)
		fa_ddl_set("lock_timeout", CppAsString2(FA_TABLE_LOCK_TIMEOUT_MS));
}

/* Locks what is below, too, and raises when this session uses any of it. */
static void
lock_below(Oid rel, LOCKMODE mode, const char *action)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(rel, mode, NULL))
	{
		Relation	r = relation_open(lfirst_oid(lc), NoLock);

		CheckTableNotInUse(r, action);
		relation_close(r, NoLock);
	}
}

void
fa_table_lock(Oid rel, const char *action)
{
	fa_table_lock_timeout();
	LockRelationOid(rel, AccessExclusiveLock);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u was dropped meanwhile", rel)));
	lock_below(rel, AccessExclusiveLock, action);
}

static void
lock_for_writers(Oid root)
{
	char	   *lock = psprintf("LOCK TABLE ONLY %s IN EXCLUSIVE MODE",
								fa_table_qualified_name(root));
	ListCell   *lc;

	fa_spi_exec("%s", lock);
	foreach(lc, fa_xact_conn_all())
	{
		FaConn	   *conn = lfirst(lc);

		fa_remote_exec(conn, 0, "SET LOCAL lock_timeout = %d", LockTimeout);
		fa_remote_exec(conn, 0, "%s", lock);
		fa_remote_exec(conn, 0, "SET LOCAL lock_timeout = 0");
	}
}

/* Whoever held the cluster's metadata before may have changed that. */
static int
lock_table_id(Oid root)
{
	const FaTable *table;

	AcceptInvalidationMessages();
	table = fa_map_table(root);
	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table is no longer distributed"),
				 errhint("It was dropped or gathered meanwhile; look at it, and try again.")));
	return table->table_id;
}

/* What postgres_fdw's sessions hold for this transaction, it cannot wait for. */
static void
refuse_own_use(Oid root, const char *action)
{
	ListCell   *lc;

	foreach(lc, fa_xact_conn_all())
	{
		if (!fa_table_is_used(root, lfirst(lc), false))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot %s \"%s\" because this transaction has used it on other nodes",
						action, get_rel_name(root)),
				 errhint("Change a table's definition in a transaction of its own, "
						 "apart from statements on its rows.")));
	}
}

/* Locks all of it against everyone, within lock_timeout. */
static void
lock_for_all(Oid root, int table_id, const char *action)
{
	char	   *qualified = fa_table_qualified_name(root);
	int			timeout_ms = LockTimeout;
	char	   *timeout = psprintf("%d", timeout_ms);
	int64		try_ms = fa_setting_int("cutover_lock_timeout", table_id);
	TimestampTz begun = GetCurrentTimestamp();
	List	   *locks;

	locks = list_make2(psprintf("LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE", qualified),
					   psprintf("LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", qualified));
	for (int i = 1; !fa_lock_try(locks, try_ms); i++)
	{
		if (i == 1)
			refuse_own_use(root, action);
		fa_lock_back_off(i);
		if (TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), timeout_ms))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("could not lock \"%s\" on all nodes within %d ms",
							get_rel_name(root), timeout_ms),
					 errhint("Long transactions on the table hold its locks; see pg_stat_activity on all nodes.")));
	}
	fa_lock_keep();
	fa_ddl_set("lock_timeout", timeout);
}

void
fa_table_lock_everywhere(Oid root, const char *action)
{
	int			table_id;

	fa_table_lock_timeout();
	/* else this session's own work on other nodes would be waited for */
	LockRelationOid(root, AccessShareLock);
	table_id = lock_table_id(root);
	lock_below(root, AccessShareLock, action);
	lock_for_writers(root);
	lock_for_all(root, table_id, action);
	fa_table_lock(root, action);
}
