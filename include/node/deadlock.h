/*
 * deadlock.h
 *	  Deadlocks over several nodes.
 *
 * Every node looks by itself, in its database worker, when a session of its
 * own has waited for a lock longer than deadlock_wait:
 *
 *	1. it asks all nodes for their open transactions and waits
 *	2. a circle among the clients behind them (wait_graph.c) is remembered
 *	3. asked once more: the same waits, each begun at the same time, in the same
 *	   transactions, are all true between the two answers: a deadlock
 *	4. the transaction that began last is the victim; all nodes that look choose
 *	   the same.  The node where it waits is asked to end that wait, with 40P01.
 */
#ifndef FA_NODE_DEADLOCK_H
#define FA_NODE_DEADLOCK_H

#include "datatype/timestamp.h"

#include "core/shmem.h"

/* in deadlock.c: a step of the worker, outside a transaction; never waits */
extern void fa_deadlock_step(void);
/* When it wants the next one. */
extern int	fa_deadlock_tick_ms(void);

/* in deadlock_cancel.c */
extern const FaShmemPart fa_deadlock_part;
extern void fa_deadlock_init(void); /* hook; from _PG_init */
/* Context of what may wait for locks: completes the error of a victim. */
extern void fa_deadlock_error_context(void *arg);

/*
 * Start of the latest wait for a lock in this database that has lasted for at
 * least age_ms; 0: none.  Reads shared memory without a lock.
 */
extern TimestampTz fa_deadlock_newest_wait(int64 age_ms);

/*
 * Ends the wait of a local session with 40P01, if it still is the wait that
 * began at wait_start (microseconds, as pg_locks.waitstart since 1970).
 */
extern bool fa_deadlock_end_wait(int pid, int64 wait_start, const char *detail);

#endif							/* FA_NODE_DEADLOCK_H */
