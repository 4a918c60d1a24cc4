/*
 * hooks.h
 *	  What happens around the execution of statements.
 *
 * The hooks of the executor and of utility commands are in hooks.c, one of each
 * for the whole extension; what they do is in the files named here and in
 * capture and node.
 */
#ifndef FA_ROUTE_HOOKS_H
#define FA_ROUTE_HOOKS_H

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"

#include "route/scan_keys.h"

/* in hooks.c */
extern void fa_hooks_init(void);

/* Statements of any kind that this transaction has begun, nested ones too. */
extern int	fa_hooks_begun(void);

/*
 * Commands around the statement that runs.  DO and CALL may begin transactions,
 * whose first statement is not the client's.
 */
extern int	fa_hooks_in_commands(void);

/*
 * After a statement of ours has been planned, and has its locks: a command whose
 * query it is runs it on a snapshot that sees the moves it has waited for.
 */
extern void fa_hooks_renew_snapshot(void);
/* Is a query about to be executed whose command may still replace its snapshot? */
extern bool fa_hooks_may_renew(void);

/* in deferred.c */

/* Stands the plan for one that is made when parameters are known? */
extern bool fa_deferred_is(PlannedStmt *plan);
/*
 * Before ExecutorStart: puts that one in its place.  What its index scans are to
 * be started with, or NULL.  *context_p: is to go with the execution; NULL: it goes
 * with desc.
 */
extern FaScanKeys *fa_deferred_start(QueryDesc *desc, MemoryContext *context_p);
/* Before ExecutorRun; true: a snapshot is to be popped after it. */
extern bool fa_deferred_push_snapshot(QueryDesc *desc);

/* in column_rights.c: before ExecutorStart */
extern void fa_column_rights_start(PlannedStmt *plan);

/* in leaf.c: after ExecutorStart */
extern void fa_leaf_started(QueryDesc *desc);

/* in own_changes.c: after ExecutorStart of a plan with foreign tables */
extern void fa_own_changes_started(QueryDesc *desc);
/* Has the plan users' functions, which may read what it changes? */
extern bool fa_own_changes_may_be_read(PlannedStmt *plan);

/*
 * in snapshot_guard.c, before ExecutorStart: raises when the snapshot is older
 * than a fragment; first: the transaction has executed nothing before.
 */
extern void fa_snapshot_guard_check(QueryDesc *desc, bool first);

/* in isolation.c */

/* Around what opens peers' transactions, restored also after an error. */
extern bool fa_isolation_raise(void);
extern void fa_isolation_restore(bool raised);
/* Is it postgres_fdw's START TRANSACTION ISOLATION LEVEL REPEATABLE READ? */
extern bool fa_isolation_is_peers_begin(TransactionStmt *statement);
/* After it: the transaction becomes one in READ COMMITTED. */
extern void fa_isolation_lower(void);

/*
 * in copy.c, before a command: true when it is a COPY that must be ended by
 * fa_fdw_copy_end(), or after an error fa_fdw_copy_forget().
 */
extern bool fa_copy_begin(Node *statement);

#endif							/* FA_ROUTE_HOOKS_H */
