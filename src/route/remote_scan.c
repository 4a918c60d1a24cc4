/*
 * remote_scan.c
 *	  Runs a statement on the node that owns its fragments, and returns what
 *	  it returns.
 *
 * Alone in its transaction, it goes over this backend's own session there, in
 * one round trip; else over postgres_fdw's, as part of the transaction.  There,
 * a part of a statement may be sent before its result is wanted, so that several
 * nodes work at the same time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/explain.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "core/fa_compat.h"
#include "core/plain_input.h"
#include "core/plain_output.h"
#include "node/fdw.h"
#include "node/fdw_late.h"
#include "node/node.h"
#include "node/row_stream.h"
#include "node/session.h"
#include "node/vouch.h"
#include "route/hooks.h"
#include "route/route.h"
#include "route/row_query.h"

typedef struct RemoteScanState
{
	CustomScanState css;
	CmdType		operation;
	bool		returns;		/* rows come back */
	List	   *params;			/* of ExprState; then those of the checks */
	List	   *checks;			/* what is raised when they fail */
	FmgrInfo   *output;			/* their types' output functions */
	int			nparams;
	char	  **values;			/* of them, if evaluated before, as a part */
	int			nqueries;		/* that were run for them */
	char	   *refused;		/* by a check, then: raised when it is run */
	AttInMetadata *input;		/* of the result's columns */
	MemoryContext row_context;
	bool		started;
	bool		done;

	FaPeerScan *peer;			/* over postgres_fdw, or ... */
	TupleTableSlot *first;		/* its first row, if that was asked for before it
								 * is wanted; else NULL */
	FaConn	   *sent;			/* ... without waiting there, or ... */
	FaSession  *session;		/* ... over our own session */
	PGresult   *result;			/* rows that it sent last */
	int			next_row;
	MemoryContextCallback forget_result;
} RemoteScanState;

static Node *remote_create_state(CustomScan *scan);

const CustomScanMethods fa_remote_scan_methods = {
	"Fragment", remote_create_state
};

static void *
remote_private(RemoteScanState *state, FaRemotePrivate which)
{
	return list_nth(castNode(CustomScan, state->css.ss.ps.plan)->custom_private,
					which);
}

static void
remote_forget_result(void *arg)
{
	RemoteScanState *state = arg;

	PQclear(state->result);
	state->result = NULL;
}

static void remote_begin_early(void *arg);

static void
remote_begin(CustomScanState *node, EState *estate, int eflags)
{
	RemoteScanState *state = (RemoteScanState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	ListCell   *lc;
	int			i = 0;

	state->operation = estate->es_plannedstmt->commandType;
	state->returns = state->operation == CMD_SELECT ||
		estate->es_plannedstmt->hasReturning;
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	state->checks = remote_private(state, FA_REMOTE_CHECKS);
	state->nparams = list_length(scan->custom_exprs) - list_length(state->checks);
	state->params = ExecInitExprList(scan->custom_exprs, &node->ss.ps);
	state->output = palloc(sizeof(FmgrInfo) * Max(state->nparams, 1));
	foreach(lc, scan->custom_exprs)
	{
		Oid			function;
		bool		varlena;

		if (i >= state->nparams)
			break;
		getTypeOutputInfo(exprType(lfirst(lc)), &function, &varlena);
		fmgr_info(function, &state->output[i++]);
	}
	state->row_context = AllocSetContextCreate(estate->es_query_cxt,
											   "fragaffinity remote row",
											   ALLOCSET_SMALL_SIZES);
	state->forget_result.func = remote_forget_result;
	state->forget_result.arg = state;
	MemoryContextRegisterResetCallback(estate->es_query_cxt,
									   &state->forget_result);
	if (state->operation == CMD_SELECT && fa_statement_may_be_interrupted())
		fa_late_add(estate, state, FA_LATE_STATEMENT, remote_begin_early);
}

/* Evaluates a parameter. */
static void
remote_evaluate(RemoteScanState *state, int i, Datum *value_p, bool *isnull_p)
{
	List	   *queries = remote_private(state, FA_REMOTE_QUERIES);
	EState	   *estate = state->css.ss.ps.state;
	TupleTableSlot *row;

	if (queries == NIL || list_nth(queries, i) == NULL)
	{
		*value_p = ExecEvalExprSwitchContext(list_nth(state->params, i),
											 state->css.ss.ps.ps_ExprContext,
											 isnull_p);
		return;
	}
	state->nqueries++;
	row = fa_row_query_run(list_nth(queries, i), estate,
						   estate->es_param_list_info);
	*value_p = slot_getattr(row, 1, isnull_p);
}

/*
 * Evaluates a parameter that may not be asked for: NULL, or the text of the error
 * in which it ends (peer_error.h), and then it is null.
 */
static char *
remote_try(RemoteScanState *state, int i, Datum *value_p, bool *isnull_p)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext caller = CurrentMemoryContext;
	char	   *volatile text = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		remote_evaluate(state, i, value_p, isnull_p);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		text = psprintf("%s%s", unpack_sql_state(edata->sqlerrcode),
						edata->message);
		*value_p = (Datum) 0;
		*isnull_p = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return text;
}

/* Values as text that means the same in any session. */
static char **
remote_parameters(RemoteScanState *state)
{
	List	   *fallible = remote_private(state, FA_REMOTE_FALLIBLE);
	char	  **values = palloc0(sizeof(char *) * Max(state->nparams, 1));
	int			n = list_length(state->params);
	Datum	   *value = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(n, 1));
	FaPlainOutput own;
	int			i;

	/* with the session's own settings; only the output is without them */
	for (i = 0; i < n; i++)
	{
		if (list_member_int(fallible, i))
		{
			char	   *error = remote_try(state, i, &value[i], &isnull[i]);

			/* the next one is for it */
			i++;
			isnull[i] = error == NULL;
			value[i] = error ? CStringGetTextDatum(error) : (Datum) 0;
			continue;
		}
		remote_evaluate(state, i, &value[i], &isnull[i]);
		if (i >= state->nparams && state->refused == NULL &&
			(isnull[i] || !DatumGetBool(value[i])))
			state->refused = strVal(list_nth(state->checks, i - state->nparams));
	}
	fa_plain_output_begin(&own);
	PG_TRY();
	{
		for (i = 0; i < state->nparams; i++)
		{
			if (!isnull[i])
				values[i] = OutputFunctionCall(&state->output[i], value[i]);
		}
	}
	PG_FINALLY();
	{
		fa_plain_output_end(&own);
	}
	PG_END_TRY();
	return values;
}

/* Changes when the types of the result's columns do, as after ALTER TABLE. */
static uint64
remote_shape(RemoteScanState *state)
{
	TupleDesc	desc = state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	uint64		shape = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		shape = hash_combine64(shape, ((uint64) att->atttypid << 32) |
							   (uint32) att->atttypmod);
		shape = hash_combine64(shape, att->attcollation);
	}
	return shape;
}

static void
remote_expect_rows(RemoteScanState *state)
{
	if (state->returns && state->input == NULL)
		state->input = TupleDescGetAttInMetadata(state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor);
}

static Oid
remote_leaf(RemoteScanState *state)
{
	return DatumGetObjectId(((Const *) remote_private(state, FA_REMOTE_LEAF))->constvalue);
}

bool
fa_remote_scan_is(PlannedStmt *plan)
{
	return IsA(plan->planTree, CustomScan) &&
		((CustomScan *) plan->planTree)->methods == &fa_remote_scan_methods;
}

void
fa_remote_scan_evaluate(PlanState *node)
{
	RemoteScanState *state = (RemoteScanState *) node;
	MemoryContext caller = MemoryContextSwitchTo(node->state->es_query_cxt);

	state->values = remote_parameters(state);
	MemoryContextSwitchTo(caller);
}

void
fa_remote_scan_send(PlanState *node)
{
	RemoteScanState *state = (RemoteScanState *) node;
	MemoryContext caller;

	if (state->refused)
		return;
	caller = MemoryContextSwitchTo(node->state->es_query_cxt);
	state->sent = fa_fdw_send(remote_leaf(state),
							  strVal(remote_private(state, FA_REMOTE_SQL)),
							  state->nparams,
							  (const char *const *) state->values);
	MemoryContextSwitchTo(caller);
}

void
fa_remote_scan_receive(PlanState *node)
{
	RemoteScanState *state = (RemoteScanState *) node;
	MemoryContext caller = MemoryContextSwitchTo(node->state->es_query_cxt);

	if (state->sent)
	{
		state->result = fa_remote_last_result(state->sent, 0);
		remote_expect_rows(state);
		state->started = true;
	}
	MemoryContextSwitchTo(caller);
}

static void
remote_start(RemoteScanState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	char	   *sql = strVal(remote_private(state, FA_REMOTE_SQL));
	int			node = intVal(remote_private(state, FA_REMOTE_NODE));
	bool		few = boolVal(remote_private(state, FA_REMOTE_FEW_ROWS));
	bool		writes = state->operation != CMD_SELECT;
	char	  **values;

	(void) fa_late_begun(state);
	values = state->values ? state->values : remote_parameters(state);
	state->started = true;
	if (state->refused)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg_internal("%s", state->refused)));
	if (fa_statement_is_alone(state->nqueries))
		state->session = fa_session_get(node);
	if (state->session)
	{
		if (fa_vouch_is_needed(remote_leaf(state), GetUserId()))
			fa_session_vouch(state->session);
		fa_session_send(state->session, sql, remote_shape(state),
						state->nparams,
						(const char *const *) values, writes,
						!writes && !few);
		remote_expect_rows(state);
	}
	else
	{
		CustomScan *scan = (CustomScan *) state->css.ss.ps.plan;

		state->peer = fa_peer_scan_begin(remote_leaf(state), sql, state->nparams, values,
										 scan->custom_scan_tlist,
										 few || writes, state->returns,
										 state->css.ss.ps.state);
	}
	MemoryContextSwitchTo(caller);
}

/* Before its first row is wanted, so that it does not see what comes then. */
static void
remote_begin_early(void *arg)
{
	RemoteScanState *state = arg;
	bool		raised = fa_isolation_raise();

	PushActiveSnapshot(state->css.ss.ps.state->es_snapshot);
	PG_TRY();
	{
		remote_start(state);
		if (state->peer)
			state->first = fa_peer_scan_next(state->peer);
	}
	PG_FINALLY();
	{
		fa_isolation_restore(raised);
	}
	PG_END_TRY();
	PopActiveSnapshot();
}

/* The next row of a result that comes here; false at the end. */
static bool
remote_next_result(RemoteScanState *state)
{
	if (state->sent && !fa_remote_succeeded(state->result))
	{
		PGresult   *failed = state->result;

		state->result = NULL;
		fa_remote_raise(state->sent, failed,
						strVal(remote_private(state, FA_REMOTE_SQL)));
	}
	while (state->result == NULL ||
		   state->next_row >= PQntuples(state->result))
	{
		if (state->result &&
			PQresultStatus(state->result) != PGRES_SINGLE_TUPLE)
			return false;
		remote_forget_result(state);
		state->result = fa_session_result(state->session);
		state->next_row = 0;
		if (PQresultStatus(state->result) == PGRES_COMMAND_OK)
			return false;
		if (PQnfields(state->result) != state->input->tupdesc->natts &&
			state->input->tupdesc->natts > 0)
			elog(ERROR, "the statement's columns are others on the peer");
	}
	return true;
}

static void
remote_read_row(RemoteScanState *state, int row)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	AttInMetadata *input = state->input;

	for (int i = 0; i < input->tupdesc->natts; i++)
	{
		char	   *value = PQgetisnull(state->result, row, i) ? NULL :
			PQgetvalue(state->result, row, i);

		slot->tts_isnull[i] = value == NULL;
		slot->tts_values[i] = InputFunctionCall(&input->attinfuncs[i], value,
												input->attioparams[i],
												input->atttypmods[i]);
	}
}

static TupleTableSlot *
remote_store_row(RemoteScanState *state)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	int			row = state->next_row++;
	MemoryContext caller;
	FaPlainInput own;

	ExecClearTuple(slot);
	MemoryContextReset(state->row_context);
	caller = MemoryContextSwitchTo(state->row_context);
	if (!fa_plain_input_differs())
		remote_read_row(state, row);
	else
	{
		fa_plain_input_begin(&own);
		PG_TRY();
		{
			remote_read_row(state, row);
		}
		PG_FINALLY();
		{
			fa_plain_input_end(&own);
		}
		PG_END_TRY();
	}
	MemoryContextSwitchTo(caller);
	return ExecStoreVirtualTuple(slot);
}

/* Rows that the statement changed, when none of them comes back. */
static uint64
remote_count(RemoteScanState *state)
{
	if (state->peer)
	{
		(void) fa_peer_scan_next(state->peer);
		return fa_peer_scan_processed(state->peer);
	}
	(void) remote_next_result(state);
	return strtou64(PQcmdTuples(state->result), NULL, 10);
}

static TupleTableSlot *
remote_next(ScanState *node)
{
	RemoteScanState *state = (RemoteScanState *) node;
	EState	   *estate = node->ps.state;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (state->done)
		return ExecClearTuple(slot);
	if (!state->started)
		remote_start(state);
	if (!state->returns)
	{
		state->done = true;
		estate->es_processed += remote_count(state);
		return ExecClearTuple(slot);
	}
	if (state->peer)
	{
		TupleTableSlot *row = state->first ? state->first :
			fa_peer_scan_next(state->peer);

		state->first = NULL;
		if (!TupIsNull(row))
			slot = ExecCopySlot(slot, row);
		else
			state->done = true;
	}
	else if (remote_next_result(state))
		slot = remote_store_row(state);
	else
		state->done = true;
	if (state->done)
		return ExecClearTuple(slot);
	if (state->operation != CMD_SELECT)
		estate->es_processed++;
	return slot;
}

static bool
remote_recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
remote_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, remote_next, remote_recheck);
}

static void
remote_stop(RemoteScanState *state)
{
	if (state->peer)
		fa_peer_scan_end(state->peer);
	if (state->session)
		fa_session_finish(state->session);
	remote_forget_result(state);
	state->peer = NULL;
	state->first = NULL;
	state->sent = NULL;
	state->values = NULL;
	state->refused = NULL;
	state->session = NULL;
	state->started = false;
	state->done = false;
}

static void
remote_end(CustomScanState *node)
{
	remote_stop((RemoteScanState *) node);
}

static void
remote_rescan(CustomScanState *node)
{
	remote_stop((RemoteScanState *) node);
	ExecScanReScan(&node->ss);
}

static void
remote_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	RemoteScanState *state = (RemoteScanState *) node;

	char	   *owner = fa_node_name(intVal(remote_private(state, FA_REMOTE_NODE)));

	ExplainPropertyText("Fragment",
						psprintf("%s on %s, version %s; routed whole",
								 strVal(remote_private(state, FA_REMOTE_LABEL)),
								 owner ? owner : "?",
								 strVal(remote_private(state, FA_REMOTE_VERSION))), es);
	if (state->started)
		ExplainPropertyText("Connection", state->session ? "own" :
							"transaction's", es);
	if (es->verbose)
		ExplainPropertyText("Remote SQL",
							strVal(remote_private(state, FA_REMOTE_SQL)), es);
}

static const CustomExecMethods remote_exec_methods = {
	.CustomName = "Fragment",
	.BeginCustomScan = remote_begin,
	.ExecCustomScan = remote_exec,
	.EndCustomScan = remote_end,
	.ReScanCustomScan = remote_rescan,
	.ExplainCustomScan = remote_explain
};

static Node *
remote_create_state(CustomScan *scan)
{
	RemoteScanState *state = (RemoteScanState *) newNode(sizeof(RemoteScanState),
														 T_CustomScanState);

	state->css.methods = &remote_exec_methods;
	return (Node *) state;
}

void
fa_remote_scan_init(void)
{
	RegisterCustomScanMethods(&fa_remote_scan_methods);
}
