/*
 * in_doubt.c
 *	  Prepared parts, as people see them and may have to finish them by hand.
 *
 * A part waits for the node where its transaction began.  What that node has
 * decided is asked of it; while it is down nobody knows, and nothing here
 * guesses.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/args.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"
#include "node/xact_stats.h"

#define ASK_TIMEOUT_MS 2000

PG_FUNCTION_INFO_V1(fa_sql_local_decision);
PG_FUNCTION_INFO_V1(fa_sql_decision);
PG_FUNCTION_INFO_V1(fa_sql_resolve_in_doubt);

static const char *
decision_text(FaDecision decision)
{
	switch (decision)
	{
		case FA_DECISION_OPEN:
			return "undecided";
		case FA_DECISION_COMMITTING:
		case FA_DECISION_COMMIT:
			return "commit";
		case FA_DECISION_ROLLBACK:
			return "rollback";
		default:
			return "unknown";
	}
}

/* local_decision(gid): what this node, as the origin, has decided */
Datum
fa_sql_local_decision(PG_FUNCTION_ARGS)
{
	char	   *gid = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_TEXT_P(cstring_to_text(decision_text(fa_xact_decision(gid))));
}

/* "commit", "rollback", "undecided", or "unknown" when it cannot be asked. */
static const char *
decision_ask(const char *gid)
{
	int			origin = fa_gid_origin(gid);
	FaNodeHealth health;
	FaConn	   *conn;
	char	   *answer;

	if (origin == 0 || origin == fa_node_self())
		return decision_text(fa_xact_decision(gid));
	if (fa_node_find(origin) == NULL ||
		(fa_node_health(origin, &health) && health.known && !health.alive))
		return "unknown";
	conn = fa_remote_connect(origin, ASK_TIMEOUT_MS);
	answer = fa_remote_value(conn, ASK_TIMEOUT_MS,
							 "SELECT fragaffinity.local_decision(%s)",
							 quote_literal_cstr(gid));
	fa_remote_close(conn);
	return answer ? answer : "unknown";
}

/* decision(gid): asks the node where the transaction began */
Datum
fa_sql_decision(PG_FUNCTION_ARGS)
{
	char	   *gid = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_TEXT_P(cstring_to_text(decision_ask(gid)));
}

/* One side will have it, the other not: only on the administrator's word. */
static void
resolve_check(const char *gid, const char *action, bool force)
{
	const char *decided;

	if (force)
		return;
	decided = decision_ask(gid);
	if (strcmp(decided, action) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 strcmp(decided, "unknown") == 0 ?
			 errmsg("nobody knows what was decided on transaction \"%s\"", gid) :
			 errmsg("the decision on transaction \"%s\" is: %s", gid, decided),
			 errdetail("To %s it here may leave the nodes with different parts of the transaction.",
					   action),
			 strcmp(decided, "undecided") == 0 ?
			 errhint("Its transaction still runs on the node where it began; end it there.") :
			 errhint("Bring back node %d, which will finish it, or repeat with force => true.",
					 fa_gid_origin(gid))));
}

/*
 * resolve_in_doubt(gid, action, force): COMMIT or ROLLBACK PREPARED of a part
 * that is on this node.  Not undone by a ROLLBACK, hence not in a block.
 */
Datum
fa_sql_resolve_in_doubt(PG_FUNCTION_ARGS)
{
	char	   *gid;
	char	   *action;
	bool		commit;
	bool		force = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);

	fa_require_argument(fcinfo, 0, "gid");
	fa_require_argument(fcinfo, 1, "action");
	gid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	action = text_to_cstring(PG_GETARG_TEXT_PP(1));
	commit = strcmp(action, "commit") == 0;
	if (!commit && strcmp(action, "rollback") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("action \"%s\" is unknown", action),
				 errhint("Use \"commit\" or \"rollback\".")));
	if (fa_gid_origin(gid) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a part of a transaction over several nodes",
						gid),
				 errhint("See the view fragaffinity.in_doubt.")));
	PreventInTransactionBlock(true, "resolve_in_doubt()");
	/* finishing the other transaction would disturb our own predicate locks */
	if (IsolationIsSerializable())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("resolve_in_doubt() cannot run in a SERIALIZABLE transaction")));
	resolve_check(gid, action, force);
	FinishPreparedTransaction(gid, commit);
	fa_xact_count(FA_XACT_BY_HAND);
	ereport(WARNING,
			(errmsg("transaction \"%s\" was finished by hand: %s", gid, action),
			 errhint("Check that its other parts end in the same way.")));
	PG_RETURN_VOID();
}
