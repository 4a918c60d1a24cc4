/*
 * tables.h
 *	  How the worker's parts of capture write to the catalog.
 */
#ifndef FA_CAPTURE_TABLES_H
#define FA_CAPTURE_TABLES_H

#include "lib/stringinfo.h"

#include "capture/counters.h"

/* in tables.c */

/*
 * Begins a transaction for statistics: its loss in a crash costs a second of
 * counts, so its commit does not wait for the disk.
 */
extern void fa_stats_begin(void);
extern void fa_stats_commit(void);

/* Runs a statement whose nparams parameters are text (NULL: null). */
extern uint64 fa_stats_exec(const char *sql, int nparams, char **params);

/* Builds the text form of an array; start with an empty buffer. */
extern void fa_array_add_int(StringInfo buf, int64 value);
extern void fa_array_add_float(StringInfo buf, double value);
extern void fa_array_add_text(StringInfo buf, const char *value);
extern char *fa_array_finish(StringInfo buf);

/* in transitions.c: both in the worker, outside a transaction */

/* Takes new events in; cheap, to be called often. */
extern void fa_transitions_read(FaCaptureDatabase *db);
/* Writes what was taken in, if anything.  In a transaction. */
extern void fa_transitions_write(int self);
/* After the commit of that transaction. */
extern void fa_transitions_written(void);

/* in rollup.c: outside a transaction; does nothing most of the time. */
extern void fa_history_maintain(void);

#endif							/* FA_CAPTURE_TABLES_H */
