/*
 * fdw_copy.h
 *	  COPY FROM into a table whose partitions are on several nodes.
 */
#ifndef FA_NODE_FDW_COPY_H
#define FA_NODE_FDW_COPY_H

#include "commands/copy.h"
#include "nodes/execnodes.h"

/*
 * Around the COPY of a table: rows for peers are collected from now on.  alone:
 * it is all that its transaction does, so they may go in sessions of their
 * own.  The second call sends what is left, and raises what peers raise; after
 * an error, the third one instead.
 */
extern void fa_fdw_copy_begin(Oid table, bool alone);
extern void fa_fdw_copy_end(void);
extern void fa_fdw_copy_forget(void);

/*
 * From the routines of the wrapper; true when they have nothing more to do.
 * base: postgres_fdw's routines.
 */
extern bool fa_fdw_copy_begin_insert(ModifyTableState *mtstate,
									 ResultRelInfo *rri,
									 const struct FdwRoutine *base);
extern bool fa_fdw_copy_insert(EState *estate, ResultRelInfo *rri,
							   TupleTableSlot *slot);
extern bool fa_fdw_copy_end_insert(EState *estate, ResultRelInfo *rri);

/*
 * Rows as text, in COPY's text format, with these columns (a list of names): for
 * who reads the input himself.  Only where the first one says so; the rows go by
 * their leaf, which has begun, and are of this line of the input.
 */
extern bool fa_fdw_copy_takes_text(void);
extern void fa_fdw_copy_begin_text(List *columns);
extern void fa_fdw_copy_text(ResultRelInfo *rri, const char *text, int len,
							 int64 line);

/* Is the leaf one of this COPY? */
extern bool fa_fdw_copy_has(ResultRelInfo *rri);

/* in copy_statement.c: what rows of a COPY go to a peer by */

/*
 * Names of a leaf's columns that are written: those that the COPY names (NULL:
 * all), and others whose default there would be another value.
 */
extern List *fa_copy_columns(Oid table, Relation leaf, CopyFromState state);

/* The COPY of the table itself: its owner finds the leaves. */
extern char *fa_copy_sql(Oid table, List *columns);

#endif							/* FA_NODE_FDW_COPY_H */
