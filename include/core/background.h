/*
 * background.h
 *	  Starting our background workers.
 */
#ifndef FA_CORE_BACKGROUND_H
#define FA_CORE_BACKGROUND_H

#include "postmaster/bgworker.h"

/* A worker of this library that is not started again; type also names it. */
extern void fa_background_describe(BackgroundWorker *worker,
								   const char *function, const char *type,
								   Datum arg);

/*
 * Starts it and waits until it runs (or has ended already); false when
 * max_worker_processes are in use.  *handle_p is palloc'd.
 */
extern bool fa_background_start(BackgroundWorker *worker,
								BackgroundWorkerHandle **handle_p);

/*
 * Settings of a worker's session that must not follow the server's defaults:
 * above all READ COMMITTED, as decisions are read after what they decide on.
 */
extern void fa_background_session(void);

/*
 * StartTransactionCommand() for a worker of a database with the extension.
 * Takes the lock that DROP EXTENSION takes first (get_object_address()), so
 * that neither waits for the other with half of its own locks held.  Fails
 * with ERRCODE_UNDEFINED_OBJECT where the extension is gone.
 */
extern void fa_background_begin(void);

#endif							/* FA_CORE_BACKGROUND_H */
