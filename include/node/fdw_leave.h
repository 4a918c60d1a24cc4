/*
 * fdw_leave.h
 *	  Rows that an UPDATE of the key takes to another node.
 */
#ifndef FA_NODE_FDW_LEAVE_H
#define FA_NODE_FDW_LEAVE_H

#include "executor/execdesc.h"
#include "nodes/execnodes.h"

/* in fdw_leave.c */

/* May rows of this UPDATE leave their partitions?  Then it cannot be direct. */
extern bool fa_fdw_rows_may_leave(ModifyTable *plan);

/*
 * From the routines of the wrapper.  Rows of this UPDATE that belong to a
 * foreign leaf are collected from now on, and inserted when it has read all.
 */
extern void fa_fdw_leave_begin(ModifyTableState *mtstate);

/* Is the leaf one of such an UPDATE? */
extern bool fa_fdw_leave_has(ResultRelInfo *rri);

/*
 * A changed row of a foreign leaf: false when it belongs there still.  Else it
 * is taken away from there; *taken_p: it was there to be taken.
 */
extern bool fa_fdw_leave_update(EState *estate, ResultRelInfo *rri,
								TupleTableSlot *slot,
								TupleTableSlot *plan_slot, bool *taken_p);

/* A row that PostgreSQL has taken from a local leaf, for a foreign one. */
extern void fa_fdw_leave_insert(ResultRelInfo *rri, TupleTableSlot *slot);

/* When an UPDATE has read all: inserts its rows that have left. */
extern void fa_fdw_leave_finish(QueryDesc *desc);

/* in take_row.c */

/* The statement that takes a row, for the owner of this foreign table. */
extern char *fa_take_row_sql(Oid foreign_table, ItemPointer ctid);

/* After ExecutorStart: is it that statement?  Then it takes. */
extern void fa_take_row_started(QueryDesc *desc);

#endif							/* FA_NODE_FDW_LEAVE_H */
