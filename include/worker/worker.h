/*
 * worker.h
 *	  Background processes: one launcher a server, one worker a database.
 */
#ifndef FA_WORKER_WORKER_H
#define FA_WORKER_WORKER_H

#include "core/shmem.h"

extern const FaShmemPart fa_worker_part;

/* in launcher.c */
extern void fa_worker_register_launcher(void);	/* from _PG_init */

/*
 * Ends the worker of a database and keeps it from coming back for a while,
 * so that the database can be dropped or copied.  Waits until it is gone.
 */
extern void fa_worker_stop_database(Oid dbid);

/* The database's worker looks for work now. */
extern void fa_worker_wake(Oid dbid);

/* in database.c: the calling worker's entry; false when one runs already. */
extern bool fa_worker_attach(Oid dbid);

/* Before it leaves because the extension is gone: do not start it again. */
extern void fa_worker_forget(Oid dbid);

extern PGDLLEXPORT void fa_launcher_main(Datum arg);
extern PGDLLEXPORT void fa_database_main(Datum arg);

#endif							/* FA_WORKER_WORKER_H */
