/*
 * capture.h
 *	  Who touches which fragment: counting, history, collection.
 *
 *	hook.c, utility.c   statements of this server's clients are noticed ...
 *	counters.c          ... counted in shared memory, by time step, ...
 *	events.c            ... and put in sequence, by session;
 *	drain.c, rollup.c   the worker moves both into tables,
 *	metrics.c           samples the server's load,
 *	collect.c           and on the coordinator fetches the other nodes' tables
 */
#ifndef FA_CAPTURE_CAPTURE_H
#define FA_CAPTURE_CAPTURE_H

/* A step is complete so long after its end, when all its counts are in. */
#define FA_STEP_GRACE_MS 50

/* So long after its end it is looked for on all nodes. */
#define FA_STEP_SOON_MS 1000

/* From _PG_init: shared memory and hooks. */
extern void fa_capture_init(void);

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
