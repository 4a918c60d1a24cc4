/*
 * simulate.h
 *	  Recorded history, replayed under several policies at once.
 */
#ifndef FA_PLACEMENT_SIMULATE_H
#define FA_PLACEMENT_SIMULATE_H

#include "placement/controller.h"
#include "placement/hindsight.h"

/* What a policy gave, of one table. */
typedef struct FaSimTally
{
	double		accesses;
	double		remote;
	double		waiting_ms;		/* of remote accesses, beyond local ones */
	double		moving_ms;		/* what the moves cost clients */
	double		bytes;			/* moved */
	int64		moves;
} FaSimTally;

typedef enum FaSimKind
{
	FA_SIM_NEVER,				/* owners stay */
	FA_SIM_DECIDE,				/* the controller's decisions */
	FA_SIM_OPTIMUM				/* the best in hindsight, without limits */
} FaSimKind;

/* A simulated move, for the hour's budget. */
typedef struct FaSimMoved
{
	TimestampTz at;
	double		bytes;
} FaSimMoved;

typedef struct FaSimVariant
{
	const char *name;
	FaSimKind	kind;
	FaPlaceInput *input;		/* its owners and policies; recent is shared */
	double	   *since_ms;		/* since the row's last move, by row */
	char	  **window;			/* move_window, by policy */
	FaSimMoved *moved;			/* within the last hour, oldest first */
	int			nmoved;
	int			moved_allocated;
	FaWay	  **way;			/* OPTIMUM: by row, NULL: never used */
	FaSimTally *tally;			/* by table */
} FaSimVariant;

typedef struct FaSimulation
{
	MemoryContext context;		/* of all below */
	FaForecaster *f;
	FaPlaceInput *base;			/* at the start */
	int			ntables;
	int		   *table_id;
	int		   *table;			/* by row, index */
	int			nvariants;
	FaSimVariant *variant;
	TimestampTz now;			/* end of the step taken last */
	bool	   *touched;		/* by row, in that step */
	int		   *touched_row;
	int			ntouched;
} FaSimulation;

/* in simulate_replay.c; in a transaction */

/*
 * The cluster and the owners at from, a forecaster by the settings in force,
 * what accesses cost until to.  No variants yet.
 */
extern void fa_simulate_begin(FaSimulation *sim, TimestampTz from,
							  TimestampTz to);

/* A variant that has the settings in force.  Returns it. */
extern FaSimVariant *fa_simulate_add(FaSimulation *sim, const char *name,
									 FaSimKind kind);

/* Replays all history until to; from from on, it counts. */
extern void fa_simulate_replay(FaSimulation *sim, TimestampTz from,
							   TimestampTz to);

#endif							/* FA_PLACEMENT_SIMULATE_H */
