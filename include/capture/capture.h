/*
 * capture.h
 *	  Who touches which fragment: counting, history, collection.
 *
 *	execution.c, utility.c  statements of this server's clients are noticed ...
 *	counters.c          ... counted in shared memory, by time step, ...
 *	events.c            ... and put in sequence, by session;
 *	drain.c, rollup.c   the worker moves both into tables,
 *	metrics.c           samples the server's load,
 *	collect.c           and on the coordinator fetches the other nodes' tables
 */
#ifndef FA_CAPTURE_CAPTURE_H
#define FA_CAPTURE_CAPTURE_H

#include "executor/execdesc.h"
#include "nodes/nodes.h"

#include "capture/touch.h"

/* A step is complete so long after its end, when all its counts are in. */
#define FA_STEP_GRACE_MS 50

/* So long after its end it is looked for on all nodes. */
#define FA_STEP_SOON_MS 1000

/* From _PG_init: shared memory. */
extern void fa_capture_init(void);

/*
 * From the hooks (route/hooks.c), for statements on distributed tables.
 */

/* in execution.c: a running statement that may touch fragments */
typedef struct FaExecution
{
	FaTouchList touches;
	bool		ran;
	uint64		processed;		/* rows, over all runs (a cursor has several) */
	int64		elapsed_ns;
	int64		nested_ns;		/* of that, in statements counted by themselves */
	int64		last_ns;		/* when it ran last */
} FaExecution;

/* Around a part of an execution; begun and ended by the following. */
typedef struct FaCaptureSpan
{
	FaExecution *outer;			/* the execution around this one */
	int64		started_ns;
} FaCaptureSpan;

/*
 * Before ExecutorStart: is the statement counted?  foreign: its plan has foreign
 * tables.  Keep *started_ns_p.
 */
extern bool fa_capture_wants(QueryDesc *query, int eflags, bool foreign,
							 int64 *started_ns_p);
/* After it; fills *ex, in the query's memory.  False: it touches no fragment. */
extern bool fa_capture_begin(FaExecution *ex, QueryDesc *query,
							 int64 started_ns);
/* Around ExecutorRun and ExecutorFinish; ex: NULL for what is not counted. */
extern void fa_capture_enter(FaExecution *ex, FaCaptureSpan *span);
extern void fa_capture_leave(FaExecution *ex, FaCaptureSpan *span);
extern void fa_capture_fail(FaCaptureSpan *span);	/* left by an error */
/* After ExecutorRun. */
extern void fa_capture_ran(FaExecution *ex, QueryDesc *query);
/* At ExecutorEnd, before the plan's state goes: counts. */
extern void fa_capture_end(FaExecution *ex, QueryDesc *query);

/* in utility.c: NULL for what is not counted */
extern void *fa_capture_command_begin(Node *statement);
extern void fa_capture_command_end(Node *statement, void *begun,
								   int64 processed);

/*
 * The following are called by the database's worker, outside a transaction.
 * None of them waits for another node.
 */

/*
 * Moves what was counted into the tables, when it is time.  To be called at
 * least once a second, and each fa_capture_tick_ms().  When the worker exits
 * it is done without being called.
 */
extern void fa_capture_drain(void);

/* Somebody waits for a drain: the worker should call it at once. */
extern bool fa_capture_flush_wanted(void);

/*
 * Longest pause between two calls of fa_capture_drain() and of what waits for
 * the step that it completes, in ms.
 */
extern int	fa_capture_tick_ms(void);

/* A row of fragaffinity.metric; at most one a second. */
extern void fa_capture_sample(void);

/*
 * On the coordinator (elsewhere it returns at once): asks peers for what is
 * new.  Answers are stored while fa_pool_run() runs.
 */
extern void fa_capture_collect(void);

#endif							/* FA_CAPTURE_CAPTURE_H */
