/*
 * gate.h
 *	  Statements and cut-overs.
 */
#ifndef FA_ROUTE_GATE_H
#define FA_ROUTE_GATE_H

#include "nodes/params.h"
#include "nodes/parsenodes.h"

/* in gate.c */

/*
 * Waits while a fragment that the statement may touch is cut over, at most
 * cutover_wait.  Before the statement has locked anything but what analysis
 * locks.
 */
extern void fa_gate_wait_statement(Query *parse, ParamListInfo params);

/* Likewise for a statement that is about this bucket. */
extern void fa_gate_wait_bucket(Oid bucket);

#endif							/* FA_ROUTE_GATE_H */
