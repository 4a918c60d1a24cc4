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
 *	   answered, and have finished what was asked of them
 *
 * The order of 1, 2 and 3 matters: a part seen in 1 whose transaction is
 * over in 2 has its final decision in 3.
 *
 * All peers are asked at once, over the worker's connections, so that none of
 * them keeps the worker from its other work.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/background.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"
#include "node/peer.h"
#include "node/peer_pool.h"
#include "node/xact_stats.h"

#define RESOLVE_ALL_MS 10000
#define ROUND_MS 60000			/* then another one begins, whatever is out */
#define FORGET_AT_ONCE 10000

/* A round: steps 1 to 4. */
static MemoryContext round_context = NULL;
static int	round_number = 0;	/* answers to earlier ones are late */
static int	round_open = 0;		/* questions that are out */
static int64 round_deadline;	/* by fa_pool_clock_ms() */
static char *round_prefix;		/* of our names */
static FaRows *round_decided;	/* gids that were there before */
static Bitmapset *round_heard;	/* nodes on which nothing is left */

typedef struct Question
{
	int			round;
	bool		commit;
	char		gid[FLEXIBLE_ARRAY_MEMBER]; /* empty: which parts are there? */
} Question;

static void resolver_answer(int node, PGresult *res, void *arg);

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

static void
resolver_ask(int node, const char *sql, const char *gid, bool commit)
{
	Question   *q = MemoryContextAlloc(TopMemoryContext,
									   offsetof(Question, gid) + strlen(gid) + 1);

	q->round = round_number;
	q->commit = commit;
	strcpy(q->gid, gid);
	fa_pool_submit(node, sql, resolver_answer, q);
	round_open++;
}

/* Steps 2 and 3 for the parts on one node.  In a transaction. */
static void
resolver_decide(int node, PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++)
	{
		char	   *gid = PQgetvalue(res, i, 0);
		FaDecision	decision = fa_xact_decision(gid);
		bool		commit = decision == FA_DECISION_COMMIT;

		/* a backend that has just decided is about to finish it itself */
		if (!commit && decision != FA_DECISION_ROLLBACK)
			continue;
		ereport(LOG,
				(errmsg("%s prepared transaction \"%s\" on node %d",
						commit ? "committing" : "rolling back", gid, node)));
		resolver_ask(node, psprintf("%s PREPARED %s",
									commit ? "COMMIT" : "ROLLBACK",
									quote_literal_cstr(gid)), gid, commit);
	}
}

/*
 * Step 4.  All nodes must have been heard, as a part may have been handed on to
 * a node that the decision does not name.  A node that has left the cluster is
 * not waited for.
 */
static void
resolver_forget_decisions(void)
{
	StringInfoData gids;
	StringInfoData heard;

	if (round_decided->nrows == 0)
		return;
	initStringInfo(&gids);
	for (int i = 0; i < round_decided->nrows; i++)
		appendStringInfo(&gids, "%s%s", i > 0 ? "," : "",
						 quote_literal_cstr(round_decided->value[i][0]));
	initStringInfo(&heard);
	for (int node = -1; (node = bms_next_member(round_heard, node)) >= 0;)
		appendStringInfo(&heard, "%s%d", heard.len ? "," : "", node);
	(void) fa_spi_exec("DELETE FROM fragaffinity.decision WHERE gid IN (%s) "
					   "AND NOT EXISTS (SELECT FROM fragaffinity.node n "
					   "WHERE n.node <> %d "
					   "AND n.node <> ALL ('{%s}'::integer[]))",
					   gids.data, fa_node_self(), heard.data);
}

static void
resolver_end_round(void)
{
	round_number++;
	round_open = 0;
	round_heard = NULL;
	if (round_context)
		MemoryContextReset(round_context);
}

static bool
resolver_succeeded(Question *q, int node, PGresult *res)
{
	const char *state;

	if (res == NULL)
		return false;
	if (PQresultStatus(res) == PGRES_COMMAND_OK ||
		PQresultStatus(res) == PGRES_TUPLES_OK)
	{
		if (q->gid[0])
			fa_xact_count(q->commit ? FA_XACT_RESOLVED_COMMITS :
						  FA_XACT_RESOLVED_ABORTS);
		return true;
	}
	/* the backend that is about to finish it has done so */
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (q->gid[0] && state && strcmp(state, "42704") == 0)
		return true;
	ereport(LOG,
			(errmsg("could not resolve transactions on node %d: %s", node,
					pchomp(PQresultErrorMessage(res)))));
	return false;
}

/* From the worker's pool; outside a transaction. */
static void
resolver_answer(int node, PGresult *res, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	Question   *q = arg;
	bool		late = q->round != round_number;
	bool		which = q->gid[0] == '\0';
	bool		good = resolver_succeeded(q, node, res);
	MemoryContext old;

	pfree(q);
	if (late)
		return;
	round_open--;
	old = MemoryContextSwitchTo(round_context);
	if (!good)
		round_heard = bms_del_member(round_heard, node);
	else if (which)
		round_heard = bms_add_member(round_heard, node);
	MemoryContextSwitchTo(old);
	if (good && which && PQntuples(res) > 0)
	{
		fa_background_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		resolver_decide(node, res);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	if (round_open > 0)
		return;
	if (round_decided->nrows > 0)
	{
		fa_background_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		resolver_forget_decisions();
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	resolver_end_round();
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

/* The gids decided so long ago that who decided is not finishing them. */
static FaRows *
resolver_decided(void)
{
	MemoryContext old = MemoryContextSwitchTo(round_context);
	FaRows	   *decided = fa_spi_rows("SELECT gid FROM fragaffinity.decision WHERE decided < "
									  "pg_catalog.clock_timestamp() - interval '2 s' "
									  "LIMIT " CppAsString2(FORGET_AT_ONCE));

	MemoryContextSwitchTo(old);
	return decided;
}

static void
resolver_ask_all(void)
{
	int			nodes[FA_MAX_NODES];
	int			n = fa_pool_peers(nodes, lengthof(nodes));
	char	   *sql = psprintf("SELECT gid FROM pg_catalog.pg_prepared_xacts "
							   "WHERE starts_with(gid, %s) "
							   "AND database = current_database()",
							   quote_literal_cstr(round_prefix));

	for (int i = 0; i < n; i++)
	{
		FaNodeHealth health;

		if (!fa_node_health(nodes[i], &health) || !health.known ||
			health.alive)
			resolver_ask(nodes[i], sql, "", false);
	}
	round_deadline = fa_pool_clock_ms() + ROUND_MS;
}

void
fa_xact_resolve(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (round_open > 0 && fa_pool_clock_ms() < round_deadline)
		return;
	if (round_context == NULL)
		round_context = AllocSetContextCreate(TopMemoryContext,
											  "fragaffinity resolver",
											  ALLOCSET_DEFAULT_SIZES);
	resolver_end_round();
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (fa_node_self() != 0)
	{
		round_decided = resolver_decided();
		if (round_decided->nrows > 0 || resolver_due())
		{
			round_prefix = MemoryContextStrdup(round_context,
											   fa_xact_gid_prefix());
			resolver_ask_all();
		}
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}
