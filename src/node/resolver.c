/*
 * resolver.c
 *	  Finishes remote parts of cluster transactions whose backend died.
 *
 * Only the origin of a transaction knows its decision, so each node resolves
 * what it began:
 *
 *	1. ask a peer for prepared parts that carry our name
 *	2. skip those whose local transaction still runs
 *	3. with a snapshot taken after 2: decision row there, COMMIT PREPARED;
 *	   not there, ROLLBACK PREPARED
 *	4. a decision that was there before 1, and whose nodes have all answered,
 *	   is deleted
 *
 * The order of 1, 2 and 3 matters: a part seen in 1 whose transaction is
 * over in 2 has its final decision in 3.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define RESOLVE_TIMEOUT_MS 2000
#define RESOLVE_ALL_MS 10000

/* Splits prefix<xid>:<node>; false when the name is not of that form. */
static bool
resolver_parse_gid(const char *gid, size_t prefix_len, uint64 *xid_p)
{
	char	   *end;

	*xid_p = strtou64(gid + prefix_len, &end, 10);
	return end != gid + prefix_len && *end == ':';
}

static bool
resolver_in_progress(uint64 fxid)
{
	FullTransactionId full = FullTransactionIdFromU64(fxid);

	/* xids of another epoch are long over */
	if (EpochFromFullTransactionId(full) !=
		EpochFromFullTransactionId(ReadNextFullTransactionId()) &&
		EpochFromFullTransactionId(full) + 1 !=
		EpochFromFullTransactionId(ReadNextFullTransactionId()))
		return false;
	return TransactionIdIsInProgress(XidFromFullTransactionId(full));
}

static int
resolver_finish_node(FaNode *node, const char *prefix)
{
	FaConn	   *conn = fa_remote_connect(node->id, RESOLVE_TIMEOUT_MS);
	size_t		prefix_len = strlen(prefix);
	FaRows	   *rows;
	int			done = 0;

	rows = fa_remote_rows(conn, RESOLVE_TIMEOUT_MS,
						  "SELECT gid FROM pg_catalog.pg_prepared_xacts "
						  "WHERE starts_with(gid, %s) "
						  "AND database = current_database()",
						  quote_literal_cstr(prefix));
	for (int i = 0; i < rows->nrows; i++)
	{
		char	   *gid = rows->value[i][0];
		uint64		xid;
		char	   *age;
		bool		commit;

		if (!resolver_parse_gid(gid, prefix_len, &xid) ||
			resolver_in_progress(xid))
			continue;
		PushActiveSnapshot(GetLatestSnapshot());
		age = fa_spi_value("SELECT extract(epoch FROM clock_timestamp() - decided) "
						   "FROM fragaffinity.decision WHERE gid = %s",
						   quote_literal_cstr(psprintf("%s" UINT64_FORMAT,
													   prefix, xid)));
		PopActiveSnapshot();
		commit = age != NULL;
		if (commit && atof(age) < 2)
			continue;			/* its backend is about to */
		ereport(LOG,
				(errmsg("%s prepared transaction \"%s\" on node \"%s\"",
						commit ? "committing" : "rolling back", gid,
						node->name)));
		fa_remote_exec(conn, RESOLVE_TIMEOUT_MS, "%s PREPARED %s",
					   commit ? "COMMIT" : "ROLLBACK", quote_literal_cstr(gid));
		done++;
	}
	fa_remote_close(conn);
	return done;
}

/*
 * Forgets decisions of gids, which were there before the peers were asked:
 * their parts are finished on every node that answered.  A node that has left
 * the cluster is not waited for.
 */
static void
resolver_forget_decisions(FaRows *gids, const char *asked)
{
	for (int i = 0; i < gids->nrows; i++)
		(void) fa_spi_exec("DELETE FROM fragaffinity.decision WHERE gid = %s "
						   "AND NOT EXISTS (SELECT FROM fragaffinity.node n "
						   "WHERE n.node = ANY (nodes) "
						   "AND n.node <> ALL ('{%s}'::integer[]))",
						   quote_literal_cstr(gids->value[i][0]), asked);
}

/* An unreachable peer is left for later: false, and the error is logged. */
static bool
resolver_try_node(FaNode *node, const char *prefix, int *done_p)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		*done_p += resolver_finish_node(node, prefix);
		ReleaseCurrentSubTransaction();
		ok = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		ereport(LOG,
				(errmsg("could not resolve transactions on node \"%s\": %s",
						node->name, error->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return ok;
}

/*
 * Without decisions to look after, peers are asked at the start and now and
 * then: only a crash before the decision leaves parts that nothing here
 * knows of.
 */
static bool
resolver_due(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (last != 0 && now < TimestampTzPlusMilliseconds(last, RESOLVE_ALL_MS) &&
		now >= last)
		return false;
	last = now;
	return true;
}

int
fa_xact_resolve(void)
{
	StringInfoData asked;
	FaRows	   *decided;
	ListCell   *lc;
	int			done = 0;
	int			self;
	char	   *prefix;
	MemoryContext context = CurrentMemoryContext;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	self = fa_node_self();
	if (self == 0)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		return 0;
	}
	initStringInfo(&asked);

	/* whoever decided a moment ago is finishing its parts itself */
	decided = fa_spi_rows("SELECT gid FROM fragaffinity.decision WHERE decided < "
						  "pg_catalog.clock_timestamp() - interval '2 s'");
	if (decided->nrows == 0 && !resolver_due())
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		return 0;
	}
	prefix = fa_xact_gid_prefix();
	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);
		FaNodeHealth health;

		if (node->id == self ||
			(fa_node_health(node->id, &health) && health.known &&
			 !health.alive))
			continue;
		if (resolver_try_node(node, prefix, &done))
			appendStringInfo(&asked, "%s%d", asked.len ? "," : "", node->id);
	}
	resolver_forget_decisions(decided, asked.data);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return done;
}
