/*
 * gate.h
 *	  Statements and cut-overs.
 */
#ifndef FA_ROUTE_GATE_H
#define FA_ROUTE_GATE_H

/* in gate.c: planner hook; from _PG_init */
extern void fa_gate_init(void);

/* in snapshot_guard.c: executor hook; from _PG_init */
extern void fa_snapshot_guard_init(void);

/* in isolation.c: executor and utility hooks; from _PG_init */
extern void fa_isolation_init(void);

#endif							/* FA_ROUTE_GATE_H */
