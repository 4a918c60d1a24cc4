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

#endif							/* FA_CORE_BACKGROUND_H */
