/*
 * drain.c
 *	  Empties a node.
 *
 * drain_node() is a function, and a function is one transaction; nothing it
 * does is seen before it ends.  So it does none of the work: it has the node
 * marked by a peer, in a transaction that commits at once, and then only
 * watches while the coordinator's worker plans the moves like any others.
 * Whoever waits may leave (cancel, disconnect, crash) and the drain goes on;
 * resume_node() ends it.  A procedure that commits between moves would stop
 * with its client, and could not be called in a SELECT.
 *
 * The watcher takes no transaction id and a new snapshot for each look, so it
 * does not hold up the moves that it waits for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/args.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define LOOK_MS 500
#define NOTICE_MS 10000
#define MARK_TIMEOUT_MS 30000

static void
require_superuser(void)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to drain nodes")));
}

/* In our transaction, with all others: all nodes know, or none. */
static void
set_state(FaNode *node, const char *state)
{
	fa_xact_lock_cluster();
	(void) fa_spi_exec("UPDATE fragaffinity.node SET state = '%s'"
					   " WHERE node = %d", state, node->id);
	fa_xact_exec_all("UPDATE fragaffinity.node SET state = '%s'"
					 " WHERE node OPERATOR(pg_catalog.=) %d", state, node->id);
}

static void
check_can_drain(FaNode *node)
{
	char	   *others = fa_spi_value("SELECT count(*) FROM fragaffinity.node"
									  " WHERE node <> %d AND state <> 'draining'",
									  node->id);

	if (atoi(others) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\" is the last one that can hold fragments",
						node->name),
				 errhint("Add a node with fragaffinity.add_node, or take one back into use with fragaffinity.resume_node.")));
}

PG_FUNCTION_INFO_V1(fa_sql_mark_node);

/* mark_node(name, state): what drain_node asks a peer to do. */
Datum
fa_sql_mark_node(PG_FUNCTION_ARGS)
{
	char	   *state;
	FaNode	   *node;

	require_superuser();
	fa_require_argument(fcinfo, 0, "name");
	fa_require_argument(fcinfo, 1, "state");
	state = text_to_cstring(PG_GETARG_TEXT_PP(1));
	(void) fa_node_require_cluster();
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(0)));
	if (strcmp(state, "draining") == 0)
		check_can_drain(node);
	else if (strcmp(state, "active") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid state of a node: \"%s\"", state),
				 errhint("Available values: active, draining.")));
	set_state(node, state);
	PG_RETURN_VOID();
}

/* Has a peer mark the node and commit. */
static void
mark_through_peer(FaNode *node)
{
	int			self = fa_node_self();
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *peer = lfirst(lc);
		FaNodeHealth health;
		FaConn	   *conn;

		if (peer->id == self || (fa_node_health(peer->id, &health) &&
								 health.known && !health.alive))
			continue;
		conn = fa_remote_connect(peer->id, FA_CONNECT_TIMEOUT_MS);
		fa_remote_exec(conn, MARK_TIMEOUT_MS,
					   "SELECT fragaffinity.mark_node(%s, 'draining')",
					   quote_literal_cstr(node->name));
		fa_remote_close(conn);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("no other node answers")));
}

typedef struct Look
{
	int			left;			/* fragments */
	bool		draining;		/* still marked */
} Look;

/* The catalog as it is now. */
static Look
look_at(const FaNode *node)
{
	FaRows	   *rows;
	Look		look;

	PushActiveSnapshot(GetLatestSnapshot());
	rows = fa_spi_rows("SELECT (SELECT count(*) FROM fragaffinity.fragment"
					   "  WHERE owner = %d),"
					   " EXISTS (SELECT FROM fragaffinity.node"
					   "  WHERE node = %d AND state = 'draining')",
					   node->id, node->id);
	PopActiveSnapshot();
	look.left = atoi(rows->value[0][0]);
	look.draining = rows->value[0][1][0] == 't';
	return look;
}

static void
wait_until_empty(FaNode *node, int first)
{
	TimestampTz told = GetCurrentTimestamp();

	for (;;)
	{
		Look		look = look_at(node);

		if (look.left == 0)
			return;
		if (!look.draining)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("drain of node \"%s\" was ended with %d fragments left",
							node->name, look.left)));
		if (TimestampDifferenceExceeds(told, GetCurrentTimestamp(), NOTICE_MS))
		{
			told = GetCurrentTimestamp();
			ereport(NOTICE,
					(errmsg("%d of %d fragments have left node \"%s\"",
							first - look.left, first, node->name)));
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

PG_FUNCTION_INFO_V1(fa_sql_drain_node);

/* drain_node(name, wait) returns the number of fragments that left. */
Datum
fa_sql_drain_node(PG_FUNCTION_ARGS)
{
	FaNode	   *node;
	bool		wait;
	Look		look;

	require_superuser();
	fa_require_argument(fcinfo, 0, "name");
	PreventCommandIfReadOnly("fragaffinity.drain_node()");
	wait = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	(void) fa_node_require_cluster();
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(0)));
	check_can_drain(node);
	if (wait && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a drain in a transaction with one snapshot"),
				 errhint("Use isolation level READ COMMITTED, or wait => false.")));
	look = look_at(node);
	if (!wait)
		set_state(node, "draining");
	else
	{
		mark_through_peer(node);
		wait_until_empty(node, look.left);
	}
	PG_RETURN_INT64(look.left);
}
