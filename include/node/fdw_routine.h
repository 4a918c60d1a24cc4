/*
 * fdw_routine.h
 *	  What the wrapper's routines for scans and for changes have in common.
 */
#ifndef FA_NODE_FDW_ROUTINE_H
#define FA_NODE_FDW_ROUTINE_H

#include "foreign/fdwapi.h"
#include "nodes/execnodes.h"

#include "node/cluster_xact.h"

/*
 * Calls a routine of postgres_fdw that opens the session of *place, or of the current
 * user, as if that was the role's.
 */
#define FA_FDW_AS(place, role, call) \
	do { \
		Oid		   *fa_place = (place); \
		Oid			fa_was = *fa_place; \
		\
		*fa_place = (role); \
		PG_TRY(); \
		{ \
			call; \
		} \
		PG_FINALLY(); \
		{ \
			*fa_place = fa_was; \
		} \
		PG_END_TRY(); \
	} while (0)

/* Who a command is for. */
extern Oid	fa_fdw_user(Oid check_as);

/*
 * What a statement does, by its text: postgres_fdw writes it, and so does
 * whoever makes a plan by hand (who may run a SELECT as a direct modification).
 * A literal that looks like a locking clause only makes the commit longer.
 */
extern FaUse fa_fdw_sql_use(ForeignScan *scan);

/* The session of this role is open, and about to be used for the user. */
extern void fa_fdw_prepare_session(Oid foreign_table, Oid session, Oid user);

/* Rows are about to be changed; after the session was opened. */
extern void fa_fdw_before_change(ResultRelInfo *rri, EState *estate);
extern void fa_fdw_changed(ResultRelInfo *rri, EState *estate);	/* they have been */
/* BeginForeignInsert of postgres_fdw's, of rows that are not an UPDATE's. */
extern void fa_fdw_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rri);

/* in fdw_scan.c: replaces what scans */
extern void fa_fdw_scan_routines(FdwRoutine *routine, const FdwRoutine *postgres_fdw);
/* in fdw_analyze.c: replaces what samples */
extern void fa_fdw_analyze_routines(FdwRoutine *routine, const FdwRoutine *postgres_fdw);
/* A scan fetches as many rows at a time, or more. */
extern int	fa_fdw_fetch_size(ForeignScanState *node);

#endif							/* FA_NODE_FDW_ROUTINE_H */
