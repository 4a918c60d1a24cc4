/*
 * cost.h
 *	  Measured costs that decisions rest on.  All in a transaction, in the
 *	  coordinator's worker.
 */
#ifndef FA_PLACEMENT_COST_H
#define FA_PLACEMENT_COST_H

#include "datatype/timestamp.h"

/* Asks every node how far its peers are when it is time. */
extern void fa_cost_refresh(void);
/* Of this node's own round trips only: may be called outside the worker. */
extern void fa_cost_refresh_own(void);

/*
 * ms that an access of node i's clients costs more when node j owns, [i *
 * nnodes + j]; palloc'd.
 */
extern double *fa_cost_extra_ms(const int *nodes, int nnodes);
/* The same by what was measured in that time, not in the last hour. */
extern double *fa_cost_extra_between(const int *nodes, int nnodes,
									 TimestampTz from, TimestampTz to);

/* Speed of the last moves, looked up; and how long one will take by that. */
extern double fa_cost_bytes_per_ms(void);
extern double fa_cost_move_ms(double bytes, double bytes_per_ms);

#endif							/* FA_PLACEMENT_COST_H */
