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
 *	4. a decision that was there before 1 is deleted when all nodes have
 *	   answered
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

#include "core/background.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"
#include "node/xact_stats.h"

#define RESOLVE_TIMEOUT_MS 2000
#define RESOLVE_ALL_MS 10000
#define FORGET_AT_ONCE 10000

/*
 * Splits FA_GID_PREFIX<cluster>:<origin>:<xid>:...; *len_p is the length of
 * what the decision row carries.  False when the name is not of that form.
 */
static bool
gid_parse(const char *gid, int *origin_p, uint64 *xid_p, int *len_p)
{
	const char *rest;
	char	   *end;
	long		origin;

	if (strncmp(gid, FA_GID_PREFIX, strlen(FA_GID_PREFIX)) != 0 ||
		(rest = strchr(gid + strlen(FA_GID_PREFIX), ':')) == NULL)
		return false;
	origin = strtol(++rest, &end, 10);
	if (end == rest || *end != ':' || origin < 1 || origin > 1023)
		return false;
	rest = end + 1;
	*xid_p = strtou64(rest, &end, 10);
	if (end == rest || *end != ':')
		return false;
	*origin_p = (int) origin;
	*len_p = (int) (end - gid);
	return true;
}

int
fa_gid_origin(const char *gid)
{
	int			origin,
				len;
	uint64		xid;

	return gid_parse(gid, &origin, &xid, &len) ? origin : 0;
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

FaDecision
fa_xact_decision(const char *gid)
{
	int			origin,
				len;
	uint64		xid;
	char	   *age;

	if (!gid_parse(gid, &origin, &xid, &len) ||
		strncmp(gid, fa_xact_gid_prefix(), strlen(fa_xact_gid_prefix())) != 0)
		return FA_DECISION_UNKNOWN;
	if (resolver_in_progress(xid))
		return FA_DECISION_OPEN;
	/* only now: what was in progress a moment ago has left its row or not */
	PushActiveSnapshot(GetLatestSnapshot());
	age = fa_spi_value("SELECT extract(epoch FROM clock_timestamp() - decided) "
					   "FROM fragaffinity.decision WHERE gid = %s",
					   quote_literal_cstr(pnstrdup(gid, len)));
	PopActiveSnapshot();
	if (age == NULL)
		return FA_DECISION_ROLLBACK;
	return atof(age) < 2 ? FA_DECISION_COMMITTING : FA_DECISION_COMMIT;
}

static int
resolver_finish_node(FaNode *node, const char *prefix)
{
	FaConn	   *conn = fa_remote_connect(node->id, RESOLVE_TIMEOUT_MS);
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
		FaDecision	decision = fa_xact_decision(gid);
		bool		commit = decision == FA_DECISION_COMMIT;

		/* a backend that has just decided is about to finish it itself */
		if (!commit && decision != FA_DECISION_ROLLBACK)
			continue;
		ereport(LOG,
				(errmsg("%s prepared transaction \"%s\" on node \"%s\"",
						commit ? "committing" : "rolling back", gid,
						node->name)));
		fa_remote_exec(conn, RESOLVE_TIMEOUT_MS, "%s PREPARED %s",
					   commit ? "COMMIT" : "ROLLBACK", quote_literal_cstr(gid));
		fa_xact_count(commit ? FA_XACT_RESOLVED_COMMITS :
					  FA_XACT_RESOLVED_ABORTS);
		done++;
	}
	fa_remote_close(conn);
	return done;
}

/*
 * Forgets decisions of gids, which were there before the peers were asked:
 * their parts are finished on every node that answered.  All must have, as a
 * part may have been handed on to a node that the decision does not name.  A
 * node that has left the cluster is not waited for.
 */
static void
resolver_forget_decisions(FaRows *gids, const char *asked)
{
	StringInfoData list;

	if (gids->nrows == 0)
		return;
	initStringInfo(&list);
	for (int i = 0; i < gids->nrows; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? "," : "",
						 quote_literal_cstr(gids->value[i][0]));
	(void) fa_spi_exec("DELETE FROM fragaffinity.decision WHERE gid IN (%s) "
					   "AND NOT EXISTS (SELECT FROM fragaffinity.node n "
					   "WHERE n.node <> %d "
					   "AND n.node <> ALL ('{%s}'::integer[]))",
					   list.data, fa_node_self(), asked);
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

	fa_background_begin();
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
						  "pg_catalog.clock_timestamp() - interval '2 s' "
						  "LIMIT " CppAsString2(FORGET_AT_ONCE));
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
