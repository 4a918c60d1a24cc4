/*
 * move.c
 *	  Asking for a move, waiting for it, cancelling it.
 *
 * A request goes to the destination.  It starts a mover at once, not at
 * commit: a move is work of its own, in transactions of its own, and the
 * caller may want to wait for it.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/args.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/node.h"

#define POLL_MS 10
#define MOVE_ID_NODES 1024		/* a move's number modulo this: its destination */

static int64
request_next_id(int self)
{
	int64		n = strtoll(fa_spi_value("SELECT pg_catalog.nextval('fragaffinity.move_id_seq')"),
							NULL, 10);

	return n * MOVE_ID_NODES + self;
}

/* Starts the mover of a claimed slot. */
static void
request_start_mover(int index, FaMoverSlot *wanted)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	fa_background_describe(&worker, "fa_mover_main", "fragaffinity mover",
						   Int32GetDatum(index));
	snprintf(worker.bgw_name, BGW_MAXLEN, "fragaffinity mover " INT64_FORMAT,
			 wanted->move);
	if (!fa_background_start(&worker, &handle))
	{
		fa_mover_release(index);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no worker process left for a move"),
				 errhint("Increase max_worker_processes.")));
	}
}

/* The checks that need the source: raises when it could not be claimed. */
static void
request_check_source(const FaFragment *f)
{
	FaConn	   *conn = fa_remote_connect(f->owner, FA_CONNECT_TIMEOUT_MS);

	fa_remote_exec(conn, FA_CONNECT_TIMEOUT_MS,
				   "SELECT fragaffinity.check_fragment(" INT64_FORMAT ", "
				   INT64_FORMAT ")", f->fragment, f->version);
	fa_remote_close(conn);
}

/* Runs on the destination. */
static int64
request_here(FaFragment *f, int self, const char *trigger, const char *reason,
			 double expected_benefit)
{
	FaMoverSlot wanted = {0};
	int			index;

	request_check_source(f);
	wanted.dbid = MyDatabaseId;
	wanted.move = request_next_id(self);
	wanted.fragment = f->fragment;
	wanted.expected_benefit = expected_benefit;
	strlcpy(wanted.trigger, trigger, sizeof(wanted.trigger));
	strlcpy(wanted.reason, reason, sizeof(wanted.reason));
	index = fa_mover_claim(&wanted);
	if (index == FA_MOVER_BUSY)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("fragment " INT64_FORMAT " is already moving",
						f->fragment)));
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("all movers of this node are busy"),
				 errhint("Wait for a move to end, or increase \"fragaffinity.max_movers\".")));
	request_start_mover(index, &wanted);
	return wanted.move;
}

static int64
request_move(int64 fragment, const char *destination, const char *trigger,
			 const char *reason, double expected_benefit, FaNode **node_p)
{
	int			self = fa_node_require_cluster();
	FaNode	   *node = fa_node_by_name(destination);
	FaFragment *f = fa_map_fragment(fragment);
	FaConn	   *conn;
	char	   *id;

	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", fragment),
				 errhint("The view fragaffinity.fragments lists all fragments.")));
	if (f->owner == node->id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " is on node \"%s\" already",
						fragment, node->name)));
	*node_p = node;
	if (node->id == self)
		return request_here(f, self, trigger, reason, expected_benefit);
	conn = fa_remote_connect(node->id, FA_CONNECT_TIMEOUT_MS);
	id = fa_remote_value(conn, 2 * FA_CONNECT_TIMEOUT_MS,
						 "SELECT fragaffinity.request_move(" INT64_FORMAT ", %s, %s, %s, %s)",
						 fragment, quote_literal_cstr(destination),
						 quote_literal_cstr(trigger), quote_literal_cstr(reason),
						 isnan(expected_benefit) ? "'NaN'" :
						 psprintf("%g", expected_benefit));
	fa_remote_close(conn);
	return strtoll(id, NULL, 10);
}

/* How a move stands: state, error; NULL while there is no row. */
static char **
wait_look(FaConn *conn, int64 move)
{
	FaRows	   *rows;
	char	   *sql = psprintf("SELECT state, error, announced "
							   "FROM fragaffinity.move WHERE move = " INT64_FORMAT,
							   move);

	if (conn)
		rows = fa_remote_rows(conn, FA_CONNECT_TIMEOUT_MS, "%s", sql);
	else
		rows = fa_spi_rows_latest("%s", sql);
	return rows->nrows ? rows->value[0] : NULL;
}

/*
 * Waits until the move has ended and the other nodes have been told; raises
 * what ended it otherwise.
 */
static void
wait_for_move(int64 move, FaNode *node)
{
	bool		here = node->id == fa_node_self();
	FaConn	   *conn = here ? NULL : fa_remote_connect(node->id, FA_CONNECT_TIMEOUT_MS);
	int			missing = 0;

	for (;;)
	{
		char	  **look = wait_look(conn, move);
		const char *state = look ? look[0] : "";

		if (strcmp(state, "done") == 0 && look[2][0] == 't')
			break;
		if (strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0)
			ereport(ERROR,
					(errcode(strcmp(state, "failed") == 0 ?
							 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE :
							 ERRCODE_QUERY_CANCELED),
					 errmsg("move " INT64_FORMAT " has %s", move,
							strcmp(state, "failed") == 0 ? "failed" : "been cancelled"),
					 look[1] ? errdetail_internal("%s", look[1]) : 0));
		if (look == NULL && ++missing > 30000 / POLL_MS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("move " INT64_FORMAT " did not start", move),
					 errhint("See the log of node \"%s\".", node->name)));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (conn)
		fa_remote_close(conn);
}

PG_FUNCTION_INFO_V1(fa_sql_move_fragment);
PG_FUNCTION_INFO_V1(fa_sql_request_move);
PG_FUNCTION_INFO_V1(fa_sql_cancel_move);

/* move_fragment(fragment, destination, wait) returns the move's number */
Datum
fa_sql_move_fragment(PG_FUNCTION_ARGS)
{
	FaNode	   *node;
	int64		move;

	fa_shmem_require();
	fa_require_argument(fcinfo, 0, "fragment");
	fa_require_argument(fcinfo, 1, "destination");
	fa_require_argument(fcinfo, 2, "wait");
	PreventCommandIfReadOnly("fragaffinity.move_fragment()");
	move = request_move(PG_GETARG_INT64(0), NameStr(*PG_GETARG_NAME(1)),
						FA_TRIGGER_BY_HAND, "asked for by hand", NAN, &node);
	if (PG_GETARG_BOOL(2))
		wait_for_move(move, node);
	PG_RETURN_INT64(move);
}

/*
 * request_move(fragment, destination, trigger, reason, expected_benefit):
 * the controller's way; does not wait
 */
Datum
fa_sql_request_move(PG_FUNCTION_ARGS)
{
	FaNode	   *node;

	fa_shmem_require();
	PG_RETURN_INT64(request_move(PG_GETARG_INT64(0), NameStr(*PG_GETARG_NAME(1)),
								 text_to_cstring(PG_GETARG_TEXT_PP(2)),
								 text_to_cstring(PG_GETARG_TEXT_PP(3)),
								 PG_GETARG_FLOAT8(4), &node));
}

static void
cancel_remote(int64 move, int node)
{
	FaConn	   *conn = fa_remote_connect(node, FA_CONNECT_TIMEOUT_MS);

	fa_remote_exec(conn, FA_CONNECT_TIMEOUT_MS,
				   "SELECT fragaffinity.cancel_move(" INT64_FORMAT ")", move);
	fa_remote_close(conn);
}

/*
 * cancel_move(move): up to the decision the fragment stays where it was.
 * Returns at once; the move's state tells what came of it.
 */
Datum
fa_sql_cancel_move(PG_FUNCTION_ARGS)
{
	int64		move;
	int			destination;

	fa_shmem_require();
	fa_require_argument(fcinfo, 0, "move");
	PreventCommandIfReadOnly("fragaffinity.cancel_move()");
	move = PG_GETARG_INT64(0);
	destination = (int) (move % MOVE_ID_NODES);
	if (destination != fa_node_require_cluster() && fa_node_find(destination))
	{
		cancel_remote(move, destination);
		PG_RETURN_VOID();
	}
	if (!fa_mover_cancel(move))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("move " INT64_FORMAT " is not under way", move),
				 errhint("The view fragaffinity.moves lists all moves.")));
	PG_RETURN_VOID();
}
