/*
 * table_wait.c
 *	  Changes of a table's definition, and moves of its fragments.
 *
 *	1. the change is announced on all nodes: no more moves of the table begin until
 *	   the transaction has ended (migrate/give_way.c)
 *	2. those under way that nobody asked for by hand, and that have only copied so
 *	   far, end; the others are waited for
 *	3. then the table is locked
 *
 * A cut-over needs locks of buckets, so nobody may hold one while he waits for it.  And
 * as nobody would find that deadlock, the wait is never longer than one for a lock.
 * Moves need nothing of the lock of the cluster's metadata.  But whoever has it keeps
 * others from changing other tables; so one waits before it, and once more with it, for
 * what began in between on a node that has come, or of a table that has got the name.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "catalog/map.h"
#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

/* Of the sessions that this transaction has at a node: SQL on a row "l" of pg_locks. */
static char *
own_sessions(bool this_one)
{
	return psprintf("(l.pid IN (SELECT o.pid FROM fragaffinity.open_transactions() o"
					"  WHERE o.origin_node = %d AND o.origin_pid = %d"
					"    AND o.pid <> pg_catalog.pg_backend_pid())%s)",
					fa_node_self(), MyProcPid,
					this_one ? " OR l.pid = pg_catalog.pg_backend_pid()" : "");
}

bool
fa_table_is_used(Oid root, FaConn *conn, bool this_session)
{
	char	   *sql = psprintf(FA_WITH_TREE "SELECT '' FROM pg_catalog.pg_locks l "
							   "WHERE l.locktype = 'relation' AND l.granted AND %s"
							   "  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d"
							   "    WHERE d.datname = pg_catalog.current_database())"
							   "  AND l.relation IN (SELECT t.rel FROM tree t) LIMIT 1",
							   quote_literal_cstr(fa_table_qualified_name(root)),
							   own_sessions(this_session));

	return (conn ? fa_remote_value(conn, 0, "%s", sql) : fa_spi_value("%s", sql)) != NULL;
}

/* Fragments below a partition, as SQL. */
static char *
wait_fragments(Oid rel)
{
	char	   *array;

	array = fa_spi_value(FA_WITH_TREE "SELECT pg_catalog.array_agg(f.fragment) "
						 "FROM fragaffinity.fragment f JOIN tree t ON t.rel = f.home",
						 quote_literal_cstr(fa_table_qualified_name(rel)));
	return quote_literal_cstr(array ? array : "{}");
}

/* A fragment that some node says is moving, or NULL. */
static char *
wait_ask(const char *sql)
{
	ListCell   *lc;

	foreach(lc, lappend(fa_remote_value_many(fa_xact_conn_all(), 0, "%s", sql),
						fa_spi_value("%s", sql)))
		if (lfirst(lc))
			return lfirst(lc);
	return NULL;
}

static void
wait_refuse(const char *moving, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("fragment %s of the table is moving", moving),
			 errdetail("%s", detail),
			 errhint("Wait for the move, or end it with fragaffinity.cancel_move.")));
}

/* For whom a wait would be a deadlock, or of no use. */
static void
wait_check(Oid root, const char *moving)
{
	bool		used;
	ListCell   *lc;

	if (IsolationUsesXactSnapshot())
		wait_refuse(moving, "This transaction's snapshot would be older than what the move brings.");
	used = fa_table_is_used(root, NULL, true);
	foreach(lc, fa_xact_conn_all())
		used = used || fa_table_is_used(root, lfirst(lc), true);
	if (used)
		wait_refuse(moving, "The move waits for the locks that this transaction holds on the table.");
}

/* As log_lock_waits has it for locks; once. */
static void
wait_log(const char *moving, TimestampTz begun, bool *logged)
{
	if (*logged || !log_lock_waits ||
		!TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), DeadlockTimeout))
		return;
	*logged = true;
	ereport(LOG,
			(errmsg("process %d still waiting for the move of fragment %s after %d ms",
					MyProcPid, moving, DeadlockTimeout)));
}

void
fa_table_wait_for_moves(Oid root, Oid rel, bool cluster_locked)
{
	int			timeout_ms = LockTimeout > 0 ? LockTimeout : FA_TABLE_LOCK_TIMEOUT_MS;
	TimestampTz begun = GetCurrentTimestamp();
	bool		logged = false;
	const FaTable *table;
	char	   *sql;
	char	   *moving;

	AcceptInvalidationMessages();
	table = fa_map_table(root);
	if (table == NULL)
		return;
	sql = psprintf("SELECT fragaffinity.give_way(%d, %s, %s)", table->table_id,
				   rel == root ? "NULL" : wait_fragments(rel),
				   cluster_locked ? "true" : "false");
	for (int i = 1; (moving = wait_ask(sql)) != NULL; i++)
	{
		if (i == 1)
			wait_check(root, moving);
		wait_log(moving, begun, &logged);
		if (TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), timeout_ms))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("fragment %s of the table was still moving after %d ms",
							moving, timeout_ms),
					 errhint("Wait for the move, end it with fragaffinity.cancel_move, or set lock_timeout to more.")));
		fa_lock_back_off(i);
	}
}
