/*
 * cluster_xact.c
 *	  One transaction over several nodes; the steps are in cluster_xact.h.
 *
 * The decision row is written by the local transaction itself, so the local
 * commit record is the decision.  A remote part is named
 * fragaffinity:<cluster>:<origin>:<xid>:<node>, by which the resolver finds its
 * decision row, whose gid is the name without the last field.
 *
 * When the server dies between PREPARE and the local commit, the remote part
 * keeps its locks until the server is back and the resolver has rolled it
 * back: nobody else can know the decision.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/format.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define FINISH_TIMEOUT_MS 5000

typedef struct RemotePart
{
	FaConn	   *conn;
	bool		enlisted;		/* the caller's connection */
	bool		prepared;
} RemotePart;

static List *parts = NIL;		/* of RemotePart, in cluster_context */
static MemoryContext cluster_context = NULL;
static char *cluster_gid = NULL;

char *
fa_xact_gid_prefix(void)
{
	return psprintf("fragaffinity:%s:%d:",
					fa_spi_value("SELECT left(cluster::text, 8) "
								 "FROM fragaffinity.local_node"),
					fa_node_self());
}

static MemoryContext
cluster_memory(void)
{
	if (cluster_context == NULL)
		cluster_context = AllocSetContextCreate(TopMemoryContext,
												"fragaffinity cluster transaction",
												ALLOCSET_SMALL_SIZES);
	return cluster_context;
}

static void
cluster_add_part(FaConn *conn, bool enlisted)
{
	MemoryContext old = MemoryContextSwitchTo(cluster_memory());
	RemotePart *part = palloc0(sizeof(RemotePart));

	part->conn = conn;
	part->enlisted = enlisted;
	parts = lappend(parts, part);
	MemoryContextSwitchTo(old);
}

static void
cluster_check_allowed(void)
{
	if (IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("changes to several nodes cannot run in a subtransaction"),
				 errhint("Do not call the function inside a savepoint or an exception block.")));
}

void
fa_xact_enlist(FaConn *conn)
{
	cluster_check_allowed();
	cluster_add_part(conn, true);
}

FaConn *
fa_xact_conn(int node)
{
	ListCell   *lc;
	MemoryContext old;
	FaConn	   *conn;

	foreach(lc, parts)
	{
		RemotePart *part = lfirst(lc);

		if (part->conn->node == node)
			return part->conn;
	}
	cluster_check_allowed();
	old = MemoryContextSwitchTo(cluster_memory());
	conn = fa_remote_connect(node, FA_CONNECT_TIMEOUT_MS);
	MemoryContextSwitchTo(old);
	fa_remote_exec(conn, 0, "BEGIN ISOLATION LEVEL READ COMMITTED");
	cluster_add_part(conn, false);
	return conn;
}

void
fa_xact_exec_all(const char *fmt,...)
{
	char	   *sql;
	int			self = fa_node_require_cluster();
	ListCell   *lc;

	FA_FORMAT(sql, fmt);
	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (node->id != self)
			fa_remote_exec(fa_xact_conn(node->id), 0, "%s", sql);
	}
}

void
fa_xact_lock_cluster(void)
{
	static const char lock[] =
	"SELECT pg_advisory_xact_lock('fragaffinity.node'::regclass::oid::int, 1)";
	int			self = fa_node_require_cluster();
	int			coordinator = fa_node_coordinator();

	if (coordinator == self)
		(void) fa_spi_rows("%s", lock);
	else
		fa_remote_exec(fa_xact_conn(coordinator), 0, "%s", lock);
}

/* Nodes enlisted, as an SQL array's text. */
static char *
cluster_nodes_array(void)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, parts)
	{
		RemotePart *part = lfirst(lc);

		appendStringInfo(&buf, "%s%d", buf.len ? "," : "", part->conn->node);
	}
	return buf.data;
}

static void
cluster_prepare(void)
{
	ListCell   *lc;
	char	   *gid;
	Oid			user;
	int			sec_context;

	/* Whoever commits: he need not have rights on our catalog. */
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	PushActiveSnapshot(GetTransactionSnapshot());
	gid = psprintf("%s" UINT64_FORMAT, fa_xact_gid_prefix(),
				   U64FromFullTransactionId(GetTopFullTransactionId()));
	cluster_gid = MemoryContextStrdup(cluster_memory(), gid);
	(void) fa_spi_exec("INSERT INTO fragaffinity.decision (gid, nodes) "
					   "VALUES (%s, '{%s}')",
					   quote_literal_cstr(gid), cluster_nodes_array());
	PopActiveSnapshot();
	SetUserIdAndSecContext(user, sec_context);
	foreach(lc, parts)
	{
		RemotePart *part = lfirst(lc);

		fa_remote_exec(part->conn, 0, "PREPARE TRANSACTION '%s:%d'",
					   cluster_gid, part->conn->node);
		part->prepared = true;
		fa_stop_point("cluster_prepared");
	}
	fa_stop_point("cluster_before_decision");
}

/* After the local end.  Must not raise: the resolver does the rest. */
static void
cluster_finish(bool commit)
{
	ListCell   *lc;

	foreach(lc, parts)
	{
		RemotePart *part = lfirst(lc);
		char	   *error = NULL;
		bool		ok;

		if (part->prepared)
			ok = fa_remote_try(part->conn, FINISH_TIMEOUT_MS, &error,
							   "%s PREPARED '%s:%d'",
							   commit ? "COMMIT" : "ROLLBACK",
							   cluster_gid, part->conn->node);
		else if (part->enlisted)
			ok = fa_remote_try(part->conn, FINISH_TIMEOUT_MS, &error,
							   "ROLLBACK");
		else
			ok = true;			/* closing the connection rolls back */
		if (!ok)
			ereport(WARNING,
					(errmsg("could not finish transaction \"%s\" on node \"%s\"",
							cluster_gid, part->conn->name),
					 errdetail_internal("%s", error ? error : "no answer"),
					 errhint("The resolver will finish it.")));
	}
}

static void
cluster_forget(void)
{
	MemoryContext context = cluster_context;

	parts = NIL;
	cluster_gid = NULL;
	cluster_context = NULL;
	if (context)
		MemoryContextDelete(context);	/* closes our connections */
}

static void
cluster_xact_callback(XactEvent event, void *arg)
{
	if (parts == NIL)
	{
		if (cluster_context && (event == XACT_EVENT_COMMIT ||
								event == XACT_EVENT_ABORT))
			cluster_forget();
		return;
	}
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			cluster_prepare();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed other nodes")));
			break;
		case XACT_EVENT_COMMIT:
			cluster_finish(true);
			cluster_forget();
			break;
		case XACT_EVENT_ABORT:
			cluster_finish(false);
			cluster_forget();
			break;
		default:
			break;
	}
}

void
fa_xact_init(void)
{
	RegisterXactCallback(cluster_xact_callback, NULL);
}
