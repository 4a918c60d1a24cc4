/*
 * placement.h
 *	  Forecasts and decisions in the coordinator's worker.
 */
#ifndef FA_PLACEMENT_PLACEMENT_H
#define FA_PLACEMENT_PLACEMENT_H

/*
 * About each second, from the database's worker, outside a transaction.
 * Does nothing unless this node is the coordinator.  Never waits for a peer;
 * an error is logged and the work is tried again later.
 */
extern void fa_placement_step(void);

/* Longest pause until its next call, in ms. */
extern int	fa_placement_tick_ms(void);

#endif							/* FA_PLACEMENT_PLACEMENT_H */
