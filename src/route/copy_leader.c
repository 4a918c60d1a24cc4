/*
 * copy_leader.c
 *	  The client's backend in a COPY FROM by several processes.
 *
 * It begins as any COPY, and holds the first lines: only when there are more
 * than a few, workers are worth their start.  When none are to be had, or a
 * fragment's heap has what they cannot do, PostgreSQL copies these lines and the
 * rest.
 *
 * The leader keeps the locks of all that is written until the transaction ends,
 * as workers' locks end with them.  An error of a worker ends the transaction,
 * and says what the worker's COPY would have said.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/copyfrom_internal.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "storage/shm_mq.h"
#include "utils/backend_progress.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/fdw_copy.h"
#include "route/copy_writers.h"

#define HELD_BYTES (64 * 1024)	/* of lines, before workers are started */
#define MESSAGE_SIZE (32 * 1024)
#define QUEUE_SIZE (512 * 1024)

typedef struct LeaderWriter
{
	shm_mq_handle *queue;
	StringInfoData message;		/* not sent yet */
	uint32		nleaves;
} LeaderWriter;

typedef struct Leader
{
	CopyFromState state;
	const CopyStmt *stmt;
	const char *query_string;
	PlannedStmt *pstmt;
	char	   *sql;			/* the statement alone, for workers */
	FaHashStep	step;
	FaCopyRoute route;
	FaCopyText	text;			/* begun when it is needed */
	StringInfoData held;		/* FaHeldLine and text, one after the other */
	int			released;		/* bytes of them that have gone their way */
	bool		many;			/* no more lines are held */
	ErrorContextCallback *around;	/* of the COPY */
	ParallelContext *parallel;	/* NULL: not started */
	LeaderWriter *writers;
	int			next;			/* that gets a leaf */
	uint64		processed;
} Leader;

/* Can a worker read from the statement's own text what it is? */
static bool
leader_has_sql(Leader *leader)
{
	const char *sql = leader->query_string + Max(leader->pstmt->stmt_location, 0);
	int			len = leader->pstmt->stmt_len > 0 ? leader->pstmt->stmt_len : strlen(sql);
	List	   *parsed;

	leader->sql = pnstrdup(sql, len);
	parsed = raw_parser(leader->sql, RAW_PARSE_DEFAULT);
	return list_length(parsed) == 1 &&
		equal(linitial_node(RawStmt, parsed)->stmt, leader->stmt);
}

/* Has a heap of the table's fragments here nothing that workers cannot do? */
static bool
leader_leaves_are_simple(Leader *leader)
{
	const FaTable *table = fa_map_table(RelationGetRelid(leader->state->rel));
	HASH_SEQ_STATUS status;
	FaCopyTarget *target;
	ListCell   *lc;

	/* all have the same indexes, so one says enough */
	hash_seq_init(&status, leader->route.targets);
	while ((target = hash_seq_search(&status)) != NULL)
	{
		if (target->foreign)
			continue;
		hash_seq_term(&status);
		return fa_copy_leaf_is_simple(target->rri->ri_RelationDesc);
	}
	foreach(lc, fa_map_fragments(table->table_id))
	{
		FaFragment *fragment = lfirst(lc);
		Relation	leaf;
		bool		simple;

		if (!fragment->local)
			continue;
		leaf = try_table_open(fragment->leaf, AccessShareLock);
		if (leaf == NULL)
			continue;
		simple = fa_copy_leaf_is_simple(leaf);
		table_close(leaf, AccessShareLock);
		return simple;
	}
	return true;
}

/*
 * Lines for peers need a stream.  Where there cannot be one, the COPY is for us
 * only when there are no peers, or when a peer sends it: what it sends belongs
 * here, but for a fragment that has moved just now.
 */
static bool
leader_may_send(Relation rel)
{
	ListCell   *lc;

	if (fa_fdw_copy_takes_text() || fa_origin != 0)
		return true;
	foreach(lc, fa_map_fragments(fa_map_table(RelationGetRelid(rel))->table_id))
	{
		if (!((FaFragment *) lfirst(lc))->local)
			return false;
	}
	return true;
}

static void
leader_share(Leader *leader)
{
	ParallelContext *parallel = leader->parallel;
	FaCopyShared *shared = shm_toc_allocate(parallel->toc, sizeof(FaCopyShared));
	char	   *sql = shm_toc_allocate(parallel->toc, strlen(leader->sql) + 1);

	shared->table = RelationGetRelid(leader->state->rel);
	SpinLockInit(&shared->mutex);
	shared->writing = 0;
	shared->toasting = false;
	ConditionVariableInit(&shared->written);
	shm_toc_insert(parallel->toc, FA_COPY_KEY_SHARED, shared);
	strcpy(sql, leader->sql);
	shm_toc_insert(parallel->toc, FA_COPY_KEY_SQL, sql);
	leader->writers = palloc0(sizeof(LeaderWriter) * parallel->nworkers);
	for (int i = 0; i < parallel->nworkers; i++)
	{
		shm_mq	   *mq = shm_mq_create(shm_toc_allocate(parallel->toc, QUEUE_SIZE),
									   QUEUE_SIZE);

		shm_toc_insert(parallel->toc, FA_COPY_KEY_QUEUE + i, mq);
		shm_mq_set_sender(mq, MyProc);
		leader->writers[i].queue = shm_mq_attach(mq, parallel->seg, NULL);
		initStringInfo(&leader->writers[i].message);
	}
}

static void
leader_stop(Leader *leader)
{
	DestroyParallelContext(leader->parallel);
	leader->parallel = NULL;
	ExitParallelMode();
}

/* Starts workers; false when there are none. */
static bool
leader_start(Leader *leader)
{
	ParallelContext *parallel;

	/* workers have both, and could get none */
	(void) GetCurrentTransactionId();
	(void) GetCurrentCommandId(true);
	EnterParallelMode();
	parallel = CreateParallelContext("fragaffinity", "fa_copy_writer_main",
									 fa_copy_writers);
	leader->parallel = parallel;
	/* workers say themselves in which line they are */
	parallel->error_context_stack = leader->around;
	shm_toc_estimate_chunk(&parallel->estimator, sizeof(FaCopyShared));
	shm_toc_estimate_chunk(&parallel->estimator, strlen(leader->sql) + 1);
	for (int i = 0; i < parallel->nworkers; i++)
		shm_toc_estimate_chunk(&parallel->estimator, QUEUE_SIZE);
	shm_toc_estimate_keys(&parallel->estimator, 2 + parallel->nworkers);
	InitializeParallelDSM(parallel);
	if (parallel->nworkers > 0 && parallel->seg != NULL)
	{
		leader_share(leader);
		LaunchParallelWorkers(parallel);
	}
	if (parallel->nworkers_launched == 0)
	{
		leader_stop(leader);
		return false;
	}
	for (int i = 0; i < parallel->nworkers_launched; i++)
		shm_mq_set_handle(leader->writers[i].queue,
						  parallel->worker[i].bgwhandle);
	return true;
}

/* A worker has gone: raises what it has raised. */
static void
leader_lost_writer(Leader *leader)
{
	for (int i = 0; i < leader->parallel->nworkers_launched; i++)
		shm_mq_detach(leader->writers[i].queue);
	WaitForParallelWorkersToFinish(leader->parallel);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lost connection to parallel worker")));
}

static void
writer_send(Leader *leader, LeaderWriter *writer)
{
	if (shm_mq_send(writer->queue, writer->message.len, writer->message.data,
					false, true) != SHM_MQ_SUCCESS)
		leader_lost_writer(leader);
	resetStringInfo(&writer->message);
}

static void
leader_write_local(Leader *leader, FaCopyTarget *target, const char *text, int len,
				   uint64 line)
{
	LeaderWriter *writer;
	FaCopyLine	head;

	if (target->writer < 0)
	{
		target->writer = leader->next++ % leader->parallel->nworkers_launched;
		writer = &leader->writers[target->writer];
		target->number = writer->nleaves++;
		head.leaf = target->number;
		head.len = FA_COPY_NEW_LEAF;
		head.line = target->leaf;
		appendBinaryStringInfo(&writer->message, (char *) &head, sizeof(head));
	}
	writer = &leader->writers[target->writer];
	head.leaf = target->number;
	head.len = len;
	head.line = line;
	appendBinaryStringInfo(&writer->message, (char *) &head, sizeof(head));
	appendBinaryStringInfo(&writer->message, text, len);
	target->rows++;
	if (writer->message.len >= MESSAGE_SIZE)
		writer_send(leader, writer);
}

/* The client pauses: workers need not wait for the lines that are here. */
static void
leader_pause(void *arg)
{
	Leader	   *leader = arg;

	for (int i = 0; leader->parallel && i < leader->parallel->nworkers_launched; i++)
	{
		if (leader->writers[i].message.len > 0)
			writer_send(leader, &leader->writers[i]);
	}
}

static FaCopyText *
leader_text(Leader *leader)
{
	if (leader->text.state == NULL)
		fa_copy_text_begin(&leader->text, leader->state);
	return &leader->text;
}

/*
 * Sends a line to where it belongs; false when that is here, without workers, or,
 * since its fragment has moved just now, a peer for whom there is no stream.
 */
static bool
leader_send(Leader *leader, FaCopyTarget *target, const char *line, int len,
			const char *text, int text_len, uint64 number)
{
	if (target->foreign && !fa_fdw_copy_takes_text())
		return false;
	if (target->foreign)
		fa_fdw_copy_text(target->rri, text, text_len, number);
	else if (leader->parallel == NULL &&
			 (!leader_has_sql(leader) || !leader_leaves_are_simple(leader) ||
			  !leader_start(leader)))
		return false;
	else
		leader_write_local(leader, target, line, len, number);
	pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED,
								 ++leader->processed);
	return true;
}

static void
leader_hold(Leader *leader, FaCopyTarget *target, const char *line, int len,
			const char *text, int text_len, uint64 number)
{
	FaHeldLine	head;

	memset(&head, 0, sizeof(head));
	head.target = target;
	head.line = number;
	head.len = len;
	head.text_len = text_len;
	appendBinaryStringInfo(&leader->held, (char *) &head, sizeof(head));
	appendBinaryStringInfo(&leader->held, line, len);
	appendBinaryStringInfo(&leader->held, text, text_len);
}

/* Sends what is held to where it belongs, as far as that can be. */
static bool
leader_release(Leader *leader)
{
	leader->many = true;
	if (fa_fdw_copy_takes_text())
		fa_fdw_copy_begin_text(leader_text(leader)->columns);
	while (leader->released < leader->held.len)
	{
		const char *line = leader->held.data + leader->released + sizeof(FaHeldLine);
		FaHeldLine	head;

		memcpy(&head, line - sizeof(head), sizeof(head));
		if (!leader_send(leader, head.target, line, head.len, line + head.len,
						 head.text_len, head.line))
			return false;
		leader->released += sizeof(head) + head.len + head.text_len;
	}
	return true;
}

/* Takes the line that has been read; false: PostgreSQL is to take over. */
static bool
leader_take_line(Leader *leader, char **fields, int nfields)
{
	CopyFromState state = leader->state;
	FaCopyTarget *target = fa_copy_route_line(&leader->route, fields, nfields);
	const char *line = state->line_buf.data;
	int			len = fa_copy_line_length(state);
	StringInfo	text = target->foreign ?
		fa_copy_text_line(leader_text(leader), fields, len) : NULL;

	if (leader->many &&
		leader_send(leader, target, line, len, text ? text->data : NULL,
					text ? text->len : 0, state->cur_lineno))
		return true;
	leader_hold(leader, target, line, len, text ? text->data : "",
				text ? text->len : 0, state->cur_lineno);
	return !leader->many &&
		(leader->held.len < HELD_BYTES || leader_release(leader));
}

/* Reads lines; true when the input has ended. */
static bool
leader_read(Leader *leader)
{
	char	  **fields;
	int			nfields;

	while (NextCopyFromRawFields(leader->state, &fields, &nfields))
	{
		CHECK_FOR_INTERRUPTS();
		if (!leader_take_line(leader, fields, nfields))
			return false;
	}
	return true;
}

/* Tells the workers that this was all, and waits for them. */
static void
leader_finish(Leader *leader)
{
	HASH_SEQ_STATUS status;
	FaCopyTarget *target;

	for (int i = 0; i < leader->parallel->nworkers_launched; i++)
	{
		LeaderWriter *writer = &leader->writers[i];

		if (writer->message.len > 0)
			writer_send(leader, writer);
		writer_send(leader, writer);
	}
	WaitForParallelWorkersToFinish(leader->parallel);
	leader_stop(leader);
	hash_seq_init(&status, leader->route.targets);
	while ((target = hash_seq_search(&status)) != NULL)
	{
		if (target->rows > 0)
			pgstat_count_heap_insert(target->rri->ri_RelationDesc, target->rows);
	}
}

/* A worker's error says so in its context, which is no news to the client. */
static void
leader_raise(MemoryContext caller)
{
	ErrorData  *edata;
	const char *tail;
	int			len;

	MemoryContextSwitchTo(caller);
	tail = psprintf("\n%s", _("parallel worker"));
	edata = CopyErrorData();
	FlushErrorState();
	len = edata->context ? strlen(edata->context) - strlen(tail) : 0;
	if (len > 0 && strcmp(edata->context + len, tail) == 0)
		edata->context[len] = '\0';
	ReThrowError(edata);
}

static void
leader_run(Leader *leader)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback context;
	volatile bool ended = false;

	leader->around = error_context_stack;
	fa_copy_route_begin(&leader->route, leader->state, &leader->step);
	initStringInfo(&leader->held);
	PG_TRY();
	{
		context.callback = CopyFromErrorCallback;
		context.arg = leader->state;
		context.previous = error_context_stack;
		error_context_stack = &context;
		ended = leader_read(leader);
		error_context_stack = context.previous;
		if (leader->parallel)
			leader_finish(leader);
	}
	PG_CATCH();
	{
		leader_raise(caller);
	}
	PG_END_TRY();
	fa_copy_route_end(&leader->route);
	if (!ended || !leader->many)
		leader->processed += fa_copy_replay(leader->state, leader->stmt,
											leader->query_string, &leader->held,
											leader->released, ended);
}

bool
fa_copy_run(PlannedStmt *pstmt, const char *query_string, QueryCompletion *qc)
{
	CopyStmt   *stmt = (CopyStmt *) pstmt->utilityStmt;
	Leader		leader = {0};
	ParseState *pstate;
	Relation	rel;

	if (fa_copy_writers == 0)
		return false;
	rel = table_openrv(stmt->relation, RowExclusiveLock);
	if (!fa_copy_is_simple(rel, stmt, &leader.step) || !leader_may_send(rel))
	{
		table_close(rel, NoLock);
		return false;
	}
	leader.stmt = stmt;
	leader.pstmt = pstmt;
	leader.query_string = query_string;
	pstate = fa_copy_parse_state(rel, stmt, query_string);
	fa_check_permissions(pstate);
	leader.state = BeginCopyFrom(pstate, rel, NULL, stmt->filename,
								 stmt->is_program, NULL, stmt->attlist,
								 stmt->options);
	fa_copy_input_begin(leader.state, leader_pause, &leader);
	leader_run(&leader);
	fa_copy_input_end(leader.state);
	EndCopyFrom(leader.state);
	free_parsestate(pstate);
	table_close(rel, NoLock);
	if (qc)
		SetQueryCompletion(qc, CMDTAG_COPY, leader.processed);
	return true;
}
